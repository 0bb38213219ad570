"""Authorization details in the playground: a request with an example, and pages that show what was granted."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from chalicelib.protocol.authorization_details import check_array, check_members, from_text
from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from chalicelib.protocol.example_details import example_of
from tests.endpoints.playground.test_playground import (
    SAME_SITE,
    callback_page,
    current_step,
    members,
    messages,
    primary_buttons,
    tokens_of,
)
from tests.support.authorization_details import ALBUMS, PAYMENT, PAYMENTS, as_json, register_type, register_types
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.resource_servers import register_resource
from tests.support.site import Site

API_STEPS = ["Authorize", "Code", "Tokens", "Introspect", "Refresh", "Replay", "Revoke"]


@pytest.fixture
def site(playground_site: Site) -> Site:
    return playground_site


@pytest.fixture
def visitor(site: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(site)


def register_payment(site: Site, **changes: Any) -> None:
    """Register a type of one resource that is open to every application."""
    register_resource(site, PAYMENTS, "payments.read")
    given = {"uri": PAYMENTS, "required": frozenset({"instructedAmount"}), "self_registered": True, **changes}
    register_type(site, "payment", "Make a payment", "instructedAmount", "creditorName=Payee", "locations", **given)


def field(page: Answer) -> str | None:
    """Return the content of the field for authorization details, None without one."""
    content = re.search(r"<textarea[^>]*>(.*?)</textarea>", page.body, re.DOTALL)
    return unescape(content[1]) if content else None


def ask(visitor: Browser, text: str) -> Answer:
    """Send the form with authorization details; return the next page."""
    page = visitor.get("/playground")
    fields = page.form.fields | {"authorization_details": text}
    return visitor.get(urlsplit(page.form.action or "").path, None, **fields)


def tokens_page(visitor: Browser, text: str) -> Answer:
    """Ask for authorization details, allow them, and redeem the code."""
    consent = visitor.sign_in(visitor.follow(ask(visitor, text)))
    assert "Make a payment" in consent.body
    callback = visitor.get(visitor.submit(consent, decision="allow").location)
    return visitor.send(callback, step="token")


def steps_of(page: Answer) -> list[str]:
    (steps,) = re.findall(r'<ol class="steps">(.*?)</ol>', page.body, re.DOTALL)
    return re.findall(r"<li[^>]*>([^<]+)</li>", steps)


def buttons_of(page: Answer) -> list[str]:
    return [value for _, value in page.form.buttons]


def test_field_has_an_example_that_the_server_accepts(site: Site, visitor: Browser) -> None:
    register_payment(site)
    page = visitor.get("/playground")
    text = field(page)
    assert json.loads(text or "") == [
        {"type": "payment", "instructedAmount": "example", "creditorName": "example", "locations": [PAYMENTS]}
    ]
    assert "Make a payment" in page.body
    consent = visitor.sign_in(ask(visitor, text or ""))
    assert (consent.status, "Payee" in consent.body) == (200, True)
    assert "decision" in dict(consent.form.buttons)


def test_details_are_granted_and_shown_with_the_token_and_introspection(site: Site, visitor: Browser) -> None:
    register_payment(site)
    page = tokens_page(visitor, as_json(PAYMENT))
    tokens = tokens_of(page, site)
    assert members(messages(page)[1])["authorization_details"] == [PAYMENT]
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert (claims["authorization_details"], claims["aud"]) == ([PAYMENT], PAYMENTS)
    assert "What is allowed" in page.body
    for value in ("Make a payment", "123.50", "Payee", "Merchant A"):
        assert value in page.body.partition("What is allowed")[2].partition("Inside the access token")[0]
    assert steps_of(page) == API_STEPS
    assert buttons_of(page) == ["introspect", "refresh", "replay", "revoke"]
    assert primary_buttons(page) == ["Ask what the token allows"]
    assert len(page.body.encode()) <= 30_000

    page = visitor.send(page, step="introspect")
    assert (current_step(page), steps_of(page)) == (["Introspect"], API_STEPS)
    assert primary_buttons(page) == ["Refresh"]
    request, response = messages(page)
    assert request.startswith("POST /oauth2/introspect HTTP/1.1")
    assert members(response)["active"] is True
    assert members(response)["authorization_details"] == [PAYMENT]
    assert "Merchant A" in page.body.partition("What is allowed")[2]

    page = visitor.send(page, step="refresh")
    tokens_of(page, site)
    assert members(messages(page)[1])["authorization_details"] == [PAYMENT]
    assert "Merchant A" in page.body.partition("What is allowed")[2]


def test_longest_details_make_a_token_that_every_step_accepts(site: Site, visitor: Browser) -> None:
    register_payment(site)
    longest = PAYMENT | {"creditorName": "x" * 8050}
    page = tokens_page(visitor, as_json(longest))
    for step in ("introspect", "refresh", "revoke"):
        assert len(tokens_of(page, site)["access_token"]) > 10_000
        page = visitor.send(page, step=step)
        assert messages(page)[1].startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize("step", ["replay", "revoke"])
def test_end_of_the_grant_is_shown_by_introspection(site: Site, visitor: Browser, step: str) -> None:
    register_payment(site)
    page = tokens_page(visitor, as_json(PAYMENT))
    tokens_of(page, site)
    page = visitor.send(page, step=step)
    request, inactive = messages(page)[2:4]
    assert request.startswith("POST /oauth2/introspect HTTP/1.1")
    assert members(inactive) == {"active": False}
    assert "What is allowed" not in page.body


def test_token_with_details_of_every_api_is_used_at_userinfo(site: Site, visitor: Browser) -> None:
    """Details without a resource are in every access token, also in one for this server."""
    register_type(site, "payment", "Make a payment", "actions", self_registered=True)
    text = field(visitor.get("/playground")) or ""
    assert json.loads(text) == [{"type": "payment", "actions": ["read"]}]
    page = tokens_page(visitor, text)
    tokens_of(page, site)
    assert members(messages(page)[1])["authorization_details"] == json.loads(text)
    assert "What is allowed" in page.body
    assert "userinfo" in buttons_of(page)
    page = visitor.send(page, step="userinfo")
    assert members(messages(page)[1])["email"] == "alice@example.com"


def test_flow_without_the_field_asks_for_no_details(site: Site, visitor: Browser) -> None:
    register_payment(site)
    page = visitor.get("/playground")
    first = page.body.partition("Or ask for a single permission")[0]
    assert 'name="authorization_details"' not in first
    tokens = visitor.send(callback_page(visitor), step="token")
    tokens_of(tokens, site)
    assert "authorization_details" not in members(messages(tokens)[1])
    assert "What is allowed" not in tokens.body


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "are not JSON"),
        (as_json(PAYMENT | {"planet": "Mars"}), "has no member planet"),
        (as_json({"type": "payment"}), "requires the member instructedAmount"),
        (as_json({"type": "album"}), "not registered for the type album"),
    ],
)
def test_refused_details_are_explained_at_the_callback(site: Site, visitor: Browser, text: str, problem: str) -> None:
    register_payment(site)
    page = visitor.follow(ask(visitor, text))
    if urlsplit(page.url).path != "/playground/callback":
        page = visitor.get(page.location)
    assert "invalid_authorization_details" in page.body
    assert problem in unescape(page.body)
    assert "Start again" in page.body


# ---- which types


def test_page_has_no_field_without_a_type_that_applications_may_ask_for(site: Site, visitor: Browser) -> None:
    assert field(visitor.get("/playground")) is None
    register_payment(site, self_registered=False)
    page = visitor.get("/playground")
    assert (field(page), "authorization_details" in page.body) == (None, False)
    answer = ask(visitor, as_json(PAYMENT)).answer
    assert (answer["error"], "code" in answer) == ("invalid_authorization_details", False)


def test_server_of_a_checkout_lets_the_playground_ask_for_every_type(
    site: Site,
) -> None:
    register_types(site)
    assert site.server.playground_types() == ["anywhere"]
    server = replace(site.server, settings=replace(site.server.settings, stage="local"))
    server.forget_cached_records()
    assert server.playground_types() == ["album", "anywhere", "payment"]


def test_type_that_is_closed_later_is_refused_within_a_minute(site: Site, visitor: Browser) -> None:
    register_payment(site)
    page = tokens_page(visitor, as_json(PAYMENT))
    tokens_of(page, site)
    type_ = site.server.store.authorization_types.get(type_key("payment"))
    assert type_
    site.server.store.authorization_types.put(
        AuthorizationType(type_.resource_id, "payment", type_.text, PAYMENTS, type_.members, type_.required)
    )
    site.clock.advance(60)
    refreshed = visitor.send(page, step="refresh")
    tokens_of(refreshed, site)
    assert "authorization_details" not in members(messages(refreshed)[1])
    assert field(visitor.get("/playground")) is None


def test_types_are_read_once_in_a_minute(site: Site, visitor: Browser, wire: Wire) -> None:
    register_payment(site)
    visitor.get("/playground")
    with wire.counted() as calls:
        visitor.get("/playground")
    assert list(calls) == []
    site.clock.advance(60)
    with wire.counted() as calls:
        visitor.get("/playground")
    assert list(calls).count("Scan") == 1


def test_other_clients_read_no_types_for_the_playground(site: Site, wire: Wire) -> None:
    client = site.client()
    site.server.client(client.id)
    with wire.counted() as calls:
        site.server.client(client.id)
        site.server.client("account")
    assert list(calls) == []


# ---- the example

EXAMPLES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "no member": ({}, "", {}),
    "its resource": ({"members": ("locations",), "uri": PAYMENTS}, ALBUMS, {"locations": [PAYMENTS]}),
    "no location": ({"members": ("locations", "a")}, ALBUMS, {"a": "example"}),
    "a required location": (
        {"members": ("locations",), "required": frozenset({"locations"})},
        ALBUMS,
        {"locations": [ALBUMS]},
    ),
    "members of RFC 9396": (
        {"members": ("actions", "datatypes=Data", "privileges", "identifier")},
        "",
        {"actions": ["read"], "datatypes": ["photos"], "privileges": ["user"], "identifier": "example"},
    ),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_example_has_every_member_in_its_form(case: str) -> None:
    fields, resource, expected = EXAMPLES[case]
    type_ = AuthorizationType(type_key("t"), "t", "Text", **fields)
    example = example_of(type_, resource)
    assert example == {"type": "t", **expected}
    (text,) = check_array([example])
    check_members(type_, text)
    assert from_text(text) == example


def test_example_names_a_registered_resource_if_it_must_name_one(site: Site, visitor: Browser) -> None:
    register_resource(site, ALBUMS)
    register_type(site, "album", "Use an album", "locations", required=frozenset({"locations"}), self_registered=True)
    assert json.loads(field(visitor.get("/playground")) or "") == [{"type": "album", "locations": [ALBUMS]}]


def test_texts_of_types_are_escaped(site: Site, visitor: Browser) -> None:
    register_type(site, "</textarea><script>", "<b>Pay</b>", "<i>", self_registered=True)
    page = visitor.get("/playground")
    assert json.loads(field(page) or "") == [{"type": "</textarea><script>", "<i>": "example"}]
    assert "<b>Pay" not in page.body
    assert "<script>" not in page.body


def test_forged_access_token_is_no_reason_for_an_error(visitor: Browser) -> None:
    state = visitor.get("/playground").form.fields["state"]
    for token in ("x", "a.b.c", "a.e30.c", "a.W10.c", "a.bnVsbA.c", "a.eyJhdWQiOjF9.c"):
        form = {"state": state, "code": "code_x", "access_token": token, "step": "introspect"}
        page = visitor.post("/playground", form, SAME_SITE)
        assert page.status == 200
        assert members(messages(page)[1]) == {"active": False}
