"""An attacker who knows only the password of a user with a second factor: every endpoint is tried."""

import base64
import json
import re
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

import app
from chalicelib.authentication import second_factor, totp
from chalicelib.http.messages import Request
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import AccessDenied
from chalicelib.sessions.browser_sessions import SignIn, start_session
from tests.support.account import open_sign_in
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.second_factor import Authenticator, enter_password, is_code_page
from tests.support.site import PASSWORD, Registered, Site, dump_tables
from tests.support.threads import run_concurrently

ORIGIN = "https://login.example.com"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def grants_and_sessions(site: Site) -> int:
    store = site.server.store
    return len(list(store.grants.scan())) + len(list(store.sessions.scan()))


def test_every_address_is_tried_with_the_password_alone(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    page = enter_password(browser, client)
    account = browser.submit(open_sign_in(browser), username="alice", password=PASSWORD)
    assert is_code_page(page)
    assert is_code_page(account)
    guesses: dict[str, str] = {
        **page.form.fields,
        "username": "alice",
        "password": PASSWORD,
        "decision": "allow_once",
        "action": "turn_off",
        "grant_type": "password",
        "client_id": client.id,
        "amr": "mfa",
        "saved": "yes",
        "set_up": "codes",
    }
    for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES):
        headers = {**SAME_ORIGIN, **basic("alice", PASSWORD), "Sec-Fetch-Mode": "navigate"}
        parameters = authorization_parameters(client)
        if route.method == "GET":
            answer = browser.get(route.path, headers=headers, **parameters)
        elif route.method == "POST":
            answer = browser.post(route.path, guesses, headers)
            browser.post(f"{route.path}?{page.form.action.partition('?')[2]}", guesses, headers)  # type: ignore[union-attr]
        else:
            continue
        assert "code=" not in (answer.header("location") or "").partition("?")[2].replace("error_code", ""), route
    assert grants_and_sessions(site) == 0
    user = site.read_user()
    assert user.has_second_factor
    assert user.totp_step == 0
    assert len(user.recovery_codes) == 10


FORMS: dict[str, dict[str, str]] = {
    "decision": {"decision": "allow_once"},
    "set up another": {"set_up": "code", "one_time_code": "000000"},
    "recovery codes saved": {"set_up": "codes", "saved": "yes"},
    "new password": {"new_password": "x" * 20, "new_password_again": "x" * 20},
    "empty": {},
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_with_the_tag_of_the_code_page_are_rejected(
    site: Site, browser: Browser, client: Registered, phone: Authenticator, form: str
) -> None:
    page = enter_password(browser, client)
    page.form.fields.pop("one_time_code")
    page.form.fields.pop("recovery_code")
    page.form.fields.update(FORMS[form])
    answer = browser.send(page)
    assert "code=" not in answer.location
    assert grants_and_sessions(site) == 0


def find_request_uri(browser: Browser, client: Registered) -> str:
    """Return the handle of a new request, with which the browser is sent to the login application."""
    handle = re.search(r"request_uri=([^&]+)", browser.authorize(client).location)
    assert handle
    return handle[1]


def post_from_the_login_application(browser: Browser, request_uri: str, **also: str) -> Answer:
    """Post the password as the login application does; return the page that follows."""
    form = {"request_uri": request_uri, "username": "alice", "password": PASSWORD, **also}
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    return browser.follow(browser.post("/oauth2/code", form, headers))


def test_login_application_cannot_vouch_for_the_second_factor(
    site: Site, site_with: Any, client: Registered, phone: Authenticator
) -> None:
    own = site_with(login_url=f"{ORIGIN}/sign-in", login_origins=(ORIGIN,))
    browser = Browser(own)
    try:
        request_uri = find_request_uri(browser, client)
        page = post_from_the_login_application(browser, request_uri, amr="pwd otp mfa", acr="mfa")
        assert is_code_page(page), page.body
        assert grants_and_sessions(own) == 0
        again = post_from_the_login_application(browser, request_uri, amr="pwd otp mfa", acr="mfa")
        assert is_code_page(again)
        answer = browser.submit(again, one_time_code=phone.code())
        assert browser.redeem(client, answer.code).status == 200
    finally:
        browser.close()


def test_login_application_restores_no_deleted_account_without_the_second_factor(
    site: Site, site_with: Any, client: Registered, phone: Authenticator
) -> None:
    own = site_with(login_url=f"{ORIGIN}/sign-in", login_origins=(ORIGIN,))
    user = own.read_user()
    deleted = replace(user, deleted_at=own.clock(), deletion_due_at=own.clock() + DAY)
    own.server.store.users.put(deleted)
    browser = Browser(own)
    try:
        page = post_from_the_login_application(browser, find_request_uri(browser, client))
        assert is_code_page(page), page.body
        assert "signet-restore" not in browser.cookies
        assert "Your account is deleted" in browser.submit(page, one_time_code=phone.code()).body
        assert grants_and_sessions(own) == 0
    finally:
        browser.close()


def test_login_application_leads_to_the_setup_that_policy_demands(
    site: Site, site_with: Any, client: Registered
) -> None:
    site.user("alice")
    own = site_with(login_url=f"{ORIGIN}/sign-in", login_origins=(ORIGIN,), mfa="required")
    browser = Browser(own)
    try:
        page = post_from_the_login_application(browser, find_request_uri(browser, client))
        assert page.form.fields["set_up"] == "code"
    finally:
        browser.close()


def test_copy_of_the_tables_has_neither_secret_nor_codes(site: Site, phone: Authenticator) -> None:
    tables = dump_tables()
    for secret in (totp.as_text(phone.secret), base64.b64encode(phone.secret).decode(), *phone.recovery_codes):
        assert secret not in tables
        assert secret.replace("-", "") not in tables


def test_start_of_a_session_refuses_a_user_without_the_second_factor(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    """Whatever new way to sign in is added, it cannot forget the second factor."""
    http = Request("POST", "/")
    for amr in (("pwd",), ("otp",)):
        with pytest.raises(AccessDenied):
            start_session(site.server, http, site.read_user(), "request", how=SignIn(amr))
    assert grants_and_sessions(site) == 0
    start_session(site.server, http, site.read_user(), "request", how=SignIn(("pop", "user", "mfa")))
    assert grants_and_sessions(site) == 1


def test_guessing_is_slow(site: Site, browser: Browser, client: Registered, phone: Authenticator) -> None:
    """In a year, an attacker who knows the password has a chance of less than one in 40."""
    window = 2 * totp.WINDOW + 1
    assert 365 * second_factor.ATTEMPTS_PER_DAY * window / 10**totp.DIGITS < 1 / 40


def test_parallel_wrong_codes_get_no_further_than_the_limit(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    many = [browsers() for _ in range(12)]
    pages = [enter_password(browser, client) for browser in many]

    def guess(browser: Browser, page: Answer) -> str:
        return browser.send(page, one_time_code="000000").location

    run_concurrently([partial(guess, browser, page) for browser, page in zip(many, pages, strict=True)])
    events = [event.name for event in site.server.store.events.scan()]
    assert events.count("second_factor_failed") == second_factor.ATTEMPTS


def test_activity_tells_of_a_right_password_without_a_code(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    page = enter_password(browser, client)
    assert {event.name for event in site.server.store.events.scan()} == {"second_factor_asked"}
    browser.submit(page, one_time_code="000000")
    assert "second_factor_failed" in {event.name for event in site.server.store.events.scan()}
    page = enter_password(browser, client)
    browser.submit(page, one_time_code=phone.code())
    body = browser.get("/account/activity").body
    assert "First step of the sign-in done, second factor requested" in body
    assert "Wrong code of the second factor" in body
    assert "Signed in" in body


def test_json_body_is_no_form(site: Site, browser: Browser, client: Registered, phone: Authenticator) -> None:
    page = enter_password(browser, client)
    body = json.dumps({**page.form.fields, "one_time_code": phone.code()})
    headers = {"Content-Type": "application/json", **SAME_ORIGIN}
    browser.request("POST", page.form.action or "", body, headers)
    assert grants_and_sessions(site) == 0
