"""Pushed authorization requests: checked as any other, opened by their client, spent when they are answered."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib.authorization.pushed_request import PREFIX
from chalicelib.authorization.request import PUSHED_LIFETIME
from tests.endpoints.par.conftest import PAR, open_pushed, push, pushed
from tests.support.assertions import key_client, make_assertion, signed, with_assertion
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.faults import Wire
from tests.support.grants import update_client
from tests.support.site import PASSWORD, Registered, Site, dump_tables
from tests.support.threads import run_concurrently

pytestmark = pytest.mark.spec("RFC 9126 §2", "RFC 9126 §4")


@pytest.fixture
def client(site: Site) -> Registered:
    site.user()
    return site.client(trusted=True)


def is_page(answer: Answer, code: str) -> bool:
    """Return whether an error is shown, and nothing is redirected."""
    return (answer.status, answer.header("location"), code in answer.body) == (400, None, True)


# ---- the endpoint


@pytest.mark.spec("RFC 9126 §2 b", "RFC 9126 §2.2 c", "FAPI 2.0 Security Profile §5.3.2.2 l")
@pytest.mark.spec("RFC 9126 §2.2")
def test_response_has_a_reference_and_its_lifetime(site: Site, browser: Browser, client: Registered) -> None:
    answer = push(browser, client)
    assert (answer.status, answer.header("cache-control")) == (201, "no-store")
    members = answer.json
    assert set(members) == {"request_uri", "expires_in"}
    assert re.fullmatch(r"urn:ietf:params:oauth:request_uri:req_[A-Za-z0-9_-]{40,}", members["request_uri"])
    assert members["expires_in"] == PUSHED_LIFETIME < 600
    metadata = browser.get("/.well-known/oauth-authorization-server").json
    assert metadata["pushed_authorization_request_endpoint"] == site.settings.issuer + PAR


def test_pushed_request_is_answered_as_any_other(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client, state="a b+c&d=é", nonce="n-1", scope="openid email")
    answer = browser.sign_in(open_pushed(browser, client, uri))
    assert {**answer.answer, "code": ""} == {"code": "", "state": "a b+c&d=é", "iss": site.settings.issuer}
    tokens = browser.redeem(client, answer.code).json
    assert tokens["scope"] == "email openid"


@pytest.mark.spec("RFC 9126 §2.1 b", "FAPI 2.0 Security Profile §5.3.2.2 d")
@pytest.mark.parametrize("members", [{"public": True}, {}, None], ids=["none", "secret", "private_key_jwt"])
def test_client_authenticates_as_it_is_registered(site: Site, browser: Browser, members: dict[str, Any] | None) -> None:
    client = key_client(site) if members is None else site.client(**members)
    assert push(browser, client).status == 201
    wrong: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"client_secret": "wrong"}, {}),
        ({}, basic(client.id, "wrong")),
        (with_assertion(make_assertion(site, client.id, aud="https://other.example.com")), {}),
        *([] if client.record.public else [({}, {})]),
    ]
    for credentials, headers in wrong:
        answer = browser.post(PAR, authorization_parameters(client) | credentials, headers)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert len(list(site.server.store.requests.scan())) == 1


def test_client_id_is_that_of_the_client_that_authenticates(site: Site, browser: Browser, client: Registered) -> None:
    header = basic(client.id, client.secret or "")
    parameters = authorization_parameters(client)
    without = {name: value for name, value in parameters.items() if name != "client_id"}
    assert browser.post(PAR, without, header).status == 201
    other = site.client()
    answer = browser.post(PAR, parameters | {"client_id": other.id}, header)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    keys = key_client(site)
    answer = browser.post(PAR, parameters | signed(site, keys))
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")


REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    "no response_type": ({"response_type": None}, "invalid_request"),
    "another response_type": ({"response_type": "token"}, "unsupported_response_type"),
    "another redirect_uri": ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
    "no redirect_uri": ({"redirect_uri": None}, "invalid_request"),
    "another scope": ({"scope": "admin"}, "invalid_scope"),
    "no PKCE": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "PKCE with plain": ({"code_challenge_method": "plain"}, "invalid_request"),
    "a repeated parameter": ({"state": ["a", "b"]}, "invalid_request"),
    "an unknown resource": ({"resource": "https://other.example.com"}, "invalid_target"),
    "a request object": ({"request": "e30.e30."}, "invalid_request_object"),
    "a request_uri": ({"request_uri": "https://client.example.com/request.jwt"}, "invalid_request"),
    "its own reference": ({"request_uri": PREFIX + "req_AAAA"}, "invalid_request"),
    "a wrong hint": ({"id_token_hint": "e30.e30.x"}, "invalid_request"),
    "too long": ({"state": "x" * 4097}, "invalid_request"),
}


@pytest.mark.spec("RFC 9126 §2.1 a", "RFC 9126 §2.1 c", "RFC 9126 §2.1 d", "RFC 9126 §2.3 a")
@pytest.mark.spec("RFC 9126 §2.1", "RFC 9126 §2.3")
@pytest.mark.parametrize("case", REJECTED)
def test_bad_request_is_answered_to_the_client_and_stores_nothing(
    site: Site, browser: Browser, client: Registered, case: str
) -> None:
    changes, error = REJECTED[case]
    answer = push(browser, client, **changes)
    assert (answer.status, answer.json["error"]) == (400, error)
    assert (answer.header("location"), answer.header("cache-control")) == (None, "no-store")
    assert not list(site.server.store.requests.scan())


def test_body_must_be_a_form(site: Site, browser: Browser, client: Registered) -> None:
    header = basic(client.id, client.secret or "") | {"Content-Type": "application/json"}
    assert browser.request("POST", PAR, "{}", header).json["error"] == "invalid_request"
    assert browser.get(PAR).status == 405


def test_request_of_16_kilobytes_is_rejected_and_credentials_do_not_count(
    site: Site, browser: Browser, client: Registered
) -> None:
    assert push(browser, client, claims='{"userinfo":{"a":null}}' + " " * 5000, resource=[]).status == 201
    answer = push(browser, client, login_hint="é" * 3000)  # six characters each
    assert (answer.status, "longer than" in answer.json["error_description"]) == (400, True)
    keys = key_client(site)
    long = make_assertion(site, keys.id, filler="x" * 5500)
    parameters = authorization_parameters(keys, claims="{}" + " " * 8000, scope="openid" + " " * 4000)
    assert browser.post(PAR, parameters | with_assertion(long)).status == 201


def test_tables_have_no_credential_of_a_pushed_request(site: Site, browser: Browser) -> None:
    client = key_client(site)
    assertion = make_assertion(site, client.id)
    assert browser.post(PAR, authorization_parameters(client) | with_assertion(assertion)).status == 201
    assert assertion not in dump_tables()


def test_pages_of_the_client_can_push(site: Site, browser: Browser) -> None:
    client = site.client(public=True, redirect_uris=["https://app.example.com/cb"])
    answer = browser.post(PAR, authorization_parameters(client), {"Origin": "https://app.example.com"})
    assert answer.header("access-control-allow-origin") == "https://app.example.com"
    answer = browser.post(PAR, authorization_parameters(client), {"Origin": "https://other.example.com"})
    assert answer.header("access-control-allow-origin") is None


# ---- what it costs


def test_pushed_request_is_one_write(site: Site, browser: Browser, client: Registered, wire: Wire) -> None:
    pushed(browser, client)  # the client is cached
    with wire.counted() as calls:
        pushed(browser, client)
    assert calls == ["PutItem"]
    keys = key_client(site)
    pushed(browser, keys)
    with wire.counted() as calls:
        pushed(browser, keys)
    assert calls == ["PutItem", "PutItem"], "the assertion is spent"


def test_requests_of_public_clients_are_limited_for_each_address(site_with: Callable[..., Site]) -> None:
    site = site_with(stored_requests_per_address=2)
    browser, public, confidential = Browser(site), site.client(public=True), site.client()
    assert [push(browser, public).status for _ in range(4)] == [201, 201, 503, 503]
    assert push(browser, confidential).status == 201, "it has proved who it is"
    browser.close()


# ---- opening it


def test_request_is_opened_again_until_it_is_answered(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client)
    first, again = open_pushed(browser, client, uri), open_pushed(browser, client, uri)
    assert first.status == again.status == 200
    assert first.form.fields["request_id"] == again.form.fields["request_id"]
    assert browser.sign_in(again).code
    assert is_page(open_pushed(browser, client, uri), "request_answered")


def test_two_browsers_cannot_open_one_request(site: Site, browsers: Callable[..., Browser], client: Registered) -> None:
    first, second = browsers(), browsers()
    uri = pushed(first, client)
    assert open_pushed(first, client, uri).status == 200
    assert is_page(open_pushed(second, client, uri), "another browser")
    assert first.sign_in(open_pushed(first, client, uri)).code


def test_request_is_answered_once(site: Site, browsers: Callable[..., Browser], client: Registered) -> None:
    browser = browsers()
    browser.tokens(client)
    uri = pushed(browser, client)
    tabs = [browsers(tab_of=browser) for _ in range(4)]
    answers = run_concurrently([partial(open_pushed, tab, client, uri) for tab in tabs])
    grants = list(site.server.store.grants.scan())
    assert len(grants) == 2, "one of the first request, and one of this"
    assert sorted(answer.status for answer in answers) == [302, 400, 400, 400]


def test_other_parameters_beside_the_reference_are_ignored(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client, scope="openid", state="pushed")
    page = open_pushed(browser, client, uri, scope="openid email", state="x", redirect_uri="https://evil.example/")
    answer = browser.sign_in(page)
    assert answer.answer["state"] == "pushed"
    assert answer.location.startswith(client.record.redirect_uris[0])
    (grant,) = site.server.store.grants.scan()
    assert grant.scope == {"openid"}


@pytest.mark.spec("RFC 9126 §2.2 b")
@pytest.mark.spec("RFC 9126 §2.2")
def test_reference_is_bound_to_its_client(site: Site, browser: Browser, client: Registered) -> None:
    other = site.client()
    uri = pushed(browser, client)
    assert is_page(open_pushed(browser, other, uri), "request_expired")
    assert is_page(browser.get("/oauth2/authorize", request_uri=uri), "client_id")
    handle = uri.removeprefix(PREFIX)
    assert is_page(browser.get("/oauth2/authorize", request_uri=handle), "request_expired")
    assert is_page(browser.get("/oauth2/authorize", client_id=client.id, request_uri=handle), "request_expired")
    assert open_pushed(browser, client, uri).status == 200


@pytest.mark.parametrize("changed", ["", "req_", "req_AAAA", "cut", "unknown", "a stored request"])
def test_unknown_reference_is_rejected(site: Site, browser: Browser, client: Registered, changed: str) -> None:
    uri = pushed(browser, client)
    text = PREFIX + changed
    if changed == "cut":
        text = uri[:-1]
    elif changed == "unknown":
        text = PREFIX + site.server.keys.make_handle("req", "unknown")
    elif changed == "a stored request":
        answer = browser.post("/oauth2/authorize", authorization_parameters(client, login_hint="alice"))
        text = PREFIX + parse_qs(urlsplit(answer.location).query)["request_uri"][0]
    assert is_page(open_pushed(browser, client, text), "request_expired")


@pytest.mark.spec("RFC 9126 §4 b")
def test_reference_that_was_not_opened_expires(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client)
    site.clock.advance(PUSHED_LIFETIME)
    assert is_page(open_pushed(browser, client, uri), "request_expired")


def test_user_has_the_whole_time_after_it_was_opened(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client)
    site.clock.advance(PUSHED_LIFETIME - 1)
    page = open_pushed(browser, client, uri)
    site.clock.advance(site.settings.request_lifetime - 1)
    assert open_pushed(browser, client, uri).status == 200
    assert browser.sign_in(page).code
    uri = pushed(browser, client)
    site.clock.advance(PUSHED_LIFETIME)
    assert is_page(open_pushed(browser, client, uri), "request_expired")


@pytest.mark.spec("RFC 9126 §4 c")
def test_request_whose_client_has_lost_a_scope_is_not_opened(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client, scope="openid email")
    update_client(site, client, scope="openid")
    assert is_page(open_pushed(browser, client, uri), "request_expired")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_is_opened_by_get_and_by_post(site: Site, browser: Browser, client: Registered, method: str) -> None:
    uri = pushed(browser, client)
    if method == "POST":
        parameters = {"client_id": client.id, "request_uri": uri, "client_secret": "sent by mistake"}
        answer = browser.post("/oauth2/authorize", parameters)
        assert "mistake" not in answer.location
        page = browser.follow(answer)
    else:
        page = open_pushed(browser, client, uri)
    assert browser.sign_in(page).code


def test_head_does_not_open_it(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client)
    address = f"/oauth2/authorize?client_id={client.id}&request_uri={uri}"
    assert browser.request("HEAD", address).status == 200
    (request,) = site.server.store.requests.scan()
    assert request.browser_id is None


@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
def test_response_is_sent_by_the_pushed_mode(site: Site, browser: Browser, client: Registered, mode: str) -> None:
    uri = pushed(browser, client, response_mode=mode)
    answer = browser.sign_in(open_pushed(browser, client, uri))
    assert (answer.mode, "code" in answer.answer) == (mode, True)


@pytest.mark.spec("RFC 9126 §4 a", "RFC 9126 §7.3")
def test_wrong_password_and_consent_keep_the_request(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    uri = pushed(browser, client)
    page = browser.sign_in(open_pushed(browser, client, uri), password="wrong password")
    assert "req_" in page.url
    page = browser.sign_in(page)
    assert ("decision", "deny") in page.form.buttons
    assert open_pushed(browser, client, uri).status == 200, "the first address shows the page, too"
    answer = browser.submit(page, decision="deny")
    assert answer.answer["error"] == "access_denied"
    assert is_page(open_pushed(browser, client, uri), "request_answered")


def test_prompt_none_is_answered_at_once(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client, prompt="none")
    assert open_pushed(browser, client, uri).answer["error"] == "login_required"


# ---- required


def rejects_unpushed(browser: Browser, client: Registered) -> bool:
    """Return whether a request that is not pushed is answered with an error, and none is answered with a code."""
    answer = browser.authorize(client)
    if answer.status == 200:
        return False
    assert answer.answer["error"] == "invalid_request"
    assert "must be pushed" in answer.answer["error_description"]
    posted = browser.post("/oauth2/authorize", authorization_parameters(client))
    assert posted.answer["error"] == "invalid_request"
    return True


@pytest.mark.spec("RFC 9126 §6")
def test_client_that_must_push_can_do_nothing_else(site: Site, browser: Browser, client: Registered) -> None:
    strict = site.client(require_pushed_authorization_requests=True, trusted=True)
    assert rejects_unpushed(browser, strict)
    assert not rejects_unpushed(browser, client)
    assert browser.sign_in(open_pushed(browser, strict, pushed(browser, strict))).code
    assert rejects_unpushed(browser, strict), "also once the user is signed in"


def test_page_that_was_shown_before_cannot_be_sent_once_requests_must_be_pushed(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = browser.authorize(client)
    update_client(site, client, require_pushed_authorization_requests=True)
    answer = browser.sign_in(page)
    assert answer.answer["error"] == "invalid_request"


def test_direct_sign_in_takes_no_request_that_must_be_pushed(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(require_pushed_authorization_requests=True, direct_sign_in=True, trusted=True)
    header = basic("alice", PASSWORD) | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = browser.get("/oauth2/code", header, **authorization_parameters(client))
    assert answer.answer["error"] == "invalid_request"


@pytest.mark.spec("RFC 9126 §5")
def test_server_can_require_it_of_all_clients(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], client: Registered
) -> None:
    strict = site_with(require_pushed_authorization_requests=True, playground=True)
    browser = browsers(strict)
    assert rejects_unpushed(browser, client)
    assert browser.sign_in(open_pushed(browser, client, pushed(browser, client))).code
    for own in (browser, browsers(strict)):
        assert own.follow(own.get("/account")).status == 200, "its own pages are not meant"
    for site, required in ((strict, True), (browsers().site, False)):
        metadata = browsers(site).get("/.well-known/openid-configuration").json
        assert metadata["require_pushed_authorization_requests"] is required
