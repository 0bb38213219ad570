"""Authorization details in the login application: what it is told, and what happens if it does not show them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib.protocol.authorization_details import to_text
from chalicelib.protocol.authorization_type import type_key
from tests.endpoints.code.conftest import CREDENTIALS, count_grants
from tests.endpoints.code.test_external_login import (
    LOGIN,
    ORIGIN,
    fetch_request,
    post_and_follow,
    post_form,
    read_handle,
)
from tests.support.authorization_details import ALBUM, PAYMENT, as_json, register_asking_client
from tests.support.browser import Answer, Browser
from tests.support.site import Registered, Site

OTHER_PAYMENT = PAYMENT | {"creditorName": "Merchant B"}


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    """A server with a login application."""
    site = site_with(login_url=LOGIN, login_origins=(ORIGIN,))
    site.user("alice")
    return site


@pytest.fixture
def browsers(site: Site, browsers: Callable[..., Browser]) -> Callable[..., Browser]:
    return partial(browsers, site)


@pytest.fixture
def browser(browsers: Callable[..., Browser]) -> Browser:
    return browsers()


@pytest.fixture
def client(site: Site) -> Registered:
    return register_asking_client(site, trusted=False)


def ask(browser: Browser, client: Registered, *details: dict[str, Any]) -> str:
    """Send a request with authorization details, and sign in in the login application; return the handle."""
    answer = browser.authorize(client, scope="openid", authorization_details=as_json(*details))
    handle = read_handle(answer)
    if fetch_request(browser, handle).json["step"] == "sign_in":
        post_and_follow(browser, handle, **CREDENTIALS)
    return handle


def ids_of(browser: Browser, handle: str) -> list[str]:
    """Return the ids of the details that the login application is told."""
    return [detail["id"] for detail in fetch_request(browser, handle).json["authorization_details"]]


def details_of_grants(site: Site) -> list[tuple[str, ...] | None]:
    return [grant.authorization_details for grant in site.server.store.grants.scan()]


def is_our_consent_page(page: Answer) -> bool:
    return page.status == 200 and "decision" in dict(page.form.buttons) and "Make a payment" in page.body


@pytest.mark.spec("RFC 9396 §3.1 b")
def test_login_application_is_told_the_authorization_details(site: Site, browser: Browser, client: Registered) -> None:
    handle = ask(browser, client, PAYMENT, ALBUM)
    members = fetch_request(browser, handle).json
    payment, album = members["authorization_details"]
    assert payment == {
        "id": payment["id"],
        "type": "payment",
        "description": "Make a payment",
        "members": [
            {"label": "Instructed amount", "values": ["amount: 123.50", "currency: EUR"]},
            {"label": "Payee", "values": ["Merchant A"]},
        ],
    }
    assert album["type"] == "album"
    assert len({payment["id"], album["id"]}) == 2
    assert members["decisions"] == ["allow_once", "deny"]


@pytest.mark.parametrize("form", ["separated by spaces", "repeated", "in another order"])
def test_details_that_the_application_has_shown_are_granted(
    site: Site, browser: Browser, client: Registered, form: str
) -> None:
    handle = ask(browser, client, PAYMENT, ALBUM)
    ids = ids_of(browser, handle)
    shown: Any = {"repeated": ids, "in another order": " ".join(reversed(ids))}.get(form, " ".join(ids))
    answer = post_and_follow(browser, handle, decision="allow_always", authorization_details_shown=shown)
    assert answer.code
    assert details_of_grants(site) == [(to_text(PAYMENT), to_text(ALBUM))]
    assert not [*site.server.store.consents.scan()], "they are never remembered"


# What an application sends: by the name of the case, from the ids of the request and those of another one.
UNSEEN: dict[str, Callable[[list[str], list[str]], Any]] = {
    "nothing": lambda _own, _other: None,
    "an empty field": lambda _own, _other: "",
    "one of two": lambda own, _other: own[0],
    "those of another request": lambda _own, other: " ".join(other),
    "one too many": lambda own, other: " ".join([*own, *other]),
    "shortened ids": lambda own, _other: " ".join(each[:-1] for each in own),
    "yes": lambda _own, _other: "on",
}


@pytest.mark.spec("RFC 9396 §3.1 b")
@pytest.mark.parametrize(
    ("case", "decision"),
    [*((case, "allow") for case in UNSEEN), ("nothing", "allow_once"), ("nothing", "allow_always")],
)
def test_application_that_has_not_shown_the_details_cannot_grant_them(
    site: Site, browser: Browser, client: Registered, case: str, decision: str
) -> None:
    """The consent page of this server asks instead; only what the user answers there counts."""
    other = ids_of(browser, ask(browser, client, OTHER_PAYMENT))
    handle = ask(browser, client, PAYMENT, ALBUM)
    shown = UNSEEN[case](ids_of(browser, handle), other)
    page = post_and_follow(browser, handle, decision=decision, authorization_details_shown=shown)
    assert is_our_consent_page(page)
    assert "123.50" in page.body
    assert "Remember my choice" not in page.body
    assert count_grants() == 0
    assert browser.submit(page, decision="allow").code
    assert details_of_grants(site) == [(to_text(PAYMENT), to_text(ALBUM))]


def test_user_denies_on_the_page_of_the_server(browser: Browser, client: Registered) -> None:
    page = post_and_follow(browser, ask(browser, client, PAYMENT), decision="allow")
    assert browser.submit(page, decision="deny").answer["error"] == "access_denied"
    assert count_grants() == 0


def test_denial_needs_no_proof(browser: Browser, client: Registered) -> None:
    answer = post_and_follow(browser, ask(browser, client, PAYMENT), decision="deny")
    assert answer.answer["error"] == "access_denied"


def test_answer_without_proof_has_no_effect_later(site: Site, browser: Browser, client: Registered) -> None:
    """A reload leads to the login application again, whose next answer may have the proof."""
    handle = ask(browser, client, PAYMENT)
    posted = post_form(browser, handle, decision="allow")
    assert is_our_consent_page(browser.follow(posted))
    assert read_handle(browser.follow(posted)) == handle
    assert count_grants() == 0
    shown = " ".join(ids_of(browser, handle))
    assert post_and_follow(browser, handle, decision="allow", authorization_details_shown=shown).code
    assert count_grants() == 1


def test_answer_of_an_earlier_version_has_no_proof(site: Site, browser: Browser, client: Registered) -> None:
    handle = ask(browser, client, PAYMENT)
    shown = " ".join(ids_of(browser, handle))
    posted = post_form(browser, handle, decision="allow", authorization_details_shown=shown)
    (request,) = site.server.store.requests.scan()
    kept = {name: value for name, value in request.answer.items() if name != "details_shown"}
    site.server.store.requests.put(replace(request, answer=kept))
    assert is_our_consent_page(browser.follow(posted))
    assert count_grants() == 0


def test_page_of_the_server_is_for_the_user_who_was_asked(site: Site, browser: Browser, client: Registered) -> None:
    handle = ask(browser, client, PAYMENT)
    posted = post_form(browser, handle, decision="allow")
    del browser.cookies["signet-session"]
    assert read_handle(browser.follow(posted)) == handle
    assert fetch_request(browser, handle).json["step"] == "sign_in"


def test_session_that_is_too_old_for_the_request_signs_in_before_the_page_asks(
    site: Site, browser: Browser, client: Registered
) -> None:
    ask(browser, client, PAYMENT)
    site.clock.advance(100)
    parameters = {"scope": "openid", "authorization_details": as_json(PAYMENT), "max_age": "130"}
    handle = read_handle(browser.authorize(client, **parameters))
    assert fetch_request(browser, handle).json["step"] == "consent"
    site.clock.advance(29)
    posted = post_form(browser, handle, decision="allow")
    site.clock.advance(10)
    assert read_handle(browser.follow(posted)) == handle
    assert fetch_request(browser, handle).json["step"] == "sign_in"
    assert count_grants() == 0


def test_trusted_client_gets_its_details_without_a_question(site: Site, browser: Browser, client: Registered) -> None:
    trusted = site.client(trusted=True, authorization_details_types=("payment",), scope="openid")
    handle = read_handle(browser.authorize(trusted, scope="openid", authorization_details=as_json(PAYMENT)))
    assert post_and_follow(browser, handle, **CREDENTIALS).code
    assert details_of_grants(site) == [(to_text(PAYMENT),)]


def test_request_without_details_needs_no_proof(site: Site, browser: Browser, client: Registered) -> None:
    handle = read_handle(browser.authorize(client, scope="openid"))
    post_and_follow(browser, handle, **CREDENTIALS)
    assert post_and_follow(browser, handle, decision="allow").code
    assert details_of_grants(site) == [None]


def test_question_about_details_of_a_deleted_type_is_refused(site: Site, browser: Browser, client: Registered) -> None:
    handle = ask(browser, client, PAYMENT)
    site.server.store.authorization_types.delete(type_key("payment"))
    site.server.forget_cached_records()
    answer = fetch_request(browser, handle)
    assert (answer.status, answer.json["error"]) == (400, "invalid_authorization_details")
