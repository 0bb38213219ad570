"""/oauth2/authorize with `prompt` and `max_age`: when the user has to sign in or to give consent again."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.endpoints.authorize.conftest import (
    NATIVE_URIS,
    asks_for_consent,
    asks_to_sign_in,
    authorize_stored,
    list_new_scopes,
    read_claims,
    read_grant,
)
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.site import Registered, Site


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 g", "OpenID Connect Core §3.1.2.1 r", "OpenID Connect Core §3.1.2.3 c")
@pytest.mark.spec("OpenID Connect Core §3.1.2.3 d")
@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
@pytest.mark.spec("RFC 9207 §2")
@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("signed out", "login_required"),
        ("the session expired", "login_required"),
        ("the session was ended", "login_required"),
        ("the account was disabled", "login_required"),
        ("the sign-in is too old", "login_required"),
        ("the password must be changed", "interaction_required"),
        ("no consent", "consent_required"),
        ("allowed once", "consent_required"),
        ("allowed another client", "consent_required"),
        ("allowed fewer scopes", "consent_required"),
        ("native, allowed", "consent_required"),
        ("allowed always", "code"),
        ("trusted", "code"),
    ],
)
def test_prompt_none_shows_no_page_and_returns_a_code_or_an_error(
    site: Site, browser: Browser, trusted_client: Registered, state: str, outcome: str
) -> None:
    store = site.server.store
    client = trusted_client if state == "trusted" else site.client(redirect_uris=NATIVE_URIS, public=True)
    client = client if state.startswith(("native", "trusted")) else site.client()
    if state != "signed out":
        browser.code(trusted_client)
    session = next(store.sessions.scan(), None)
    parameters: dict[str, str] = {"scope": "openid email"}
    if session and state == "the session expired":
        site.clock.advance(site.settings.session_idle_lifetime)
    elif session and state == "the session was ended":
        store.sessions.put(replace(session, ended_at=site.clock.time))
    elif session and state.startswith("the "):
        (user,) = store.users.scan()
        changed = {"disabled_at": 1} if "disabled" in state else {"password_change_required": "password" in state}
        store.users.put(replace(user, **changed))
        site.clock.advance(11)
        parameters["max_age"] = "10" if "old" in state else "100"
    elif "allowed" in state:
        decision = "allow_once" if "once" in state or "native" in state else "allow_always"
        first = site.client() if "another" in state else client
        browser.code(first, decision, scope="openid" if "fewer" in state else "openid email")
    cookies, grants = dict(browser.cookies), len([*store.grants.scan()])

    answer = browser.authorize(client, prompt="none", **parameters)

    assert answer.status == 302
    assert answer.answer["state"] == "af0ifjsldkj"
    assert answer.answer["iss"] == site.settings.issuer
    assert answer.answer.get("error", "code") == outcome
    assert ("code" in answer.answer) == (outcome == "code")
    assert browser.cookies == cookies
    assert len([*store.grants.scan()]) == grants + (outcome == "code")


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 h", "OpenID Connect Core §3.1.2.1 l", "OpenID Connect Core §3.1.2.3 b")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("parameters", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}])
def test_each_request_that_requires_a_new_sign_in_asks_for_it(
    site: Site, browser: Browser, trusted_client: Registered, parameters: dict[str, Any]
) -> None:
    browser.code(trusted_client)
    site.clock.advance(100)
    page = browser.authorize(trusted_client, **parameters)
    assert asks_to_sign_in(page)
    answer = browser.sign_in(page)
    assert read_grant(site, answer.code).auth_time == site.clock.time
    assert asks_to_sign_in(browser.authorize(trusted_client, **parameters)), "for each request"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("parameters", [{"prompt": "login"}, {"max_age": "0"}])
def test_sign_in_in_another_tab_does_not_count_as_the_new_sign_in(
    site: Site, browser: Browser, trusted_client: Registered, parameters: dict[str, Any]
) -> None:
    for send in (browser.authorize, partial(authorize_stored, browser)):
        waiting_page = send(trusted_client, **parameters)
        browser.code(trusted_client, **parameters)  # another tab
        assert asks_to_sign_in(browser.get(waiting_page.url))
        assert browser.sign_in(waiting_page).code


def test_waiting_request_continues_after_a_sign_in_in_another_tab(browser: Browser, trusted_client: Registered) -> None:
    waiting_pages = browser.authorize(trusted_client), authorize_stored(browser, trusted_client)
    browser.code(trusted_client)  # another tab
    for page in waiting_pages:
        assert browser.get(page.url).code


def test_sign_ins_in_two_tabs_at_once_continue_one_session(
    site: Site, browser: Browser, browsers: Callable[..., Browser], trusted_client: Registered, wire: Wire
) -> None:
    """So that signing out ends the grants of both."""
    first = browser.tokens(trusted_client)
    pages = [browser.authorize(trusted_client, prompt="login") for _ in range(2)]
    tab = browsers(tab_of=browser)
    codes: list[str] = []
    # The first transaction counts the attempt, the second one continues the session, which was read before.
    with wire.before("TransactWriteItems", lambda: codes.append(tab.sign_in(pages[0]).code), skip=1):
        codes.append(browser.sign_in(pages[1]).code)
    tokens = [first, *(browser.redeem(trusted_client, code).json for code in codes)]
    (session,) = site.server.store.sessions.scan()
    assert session.generation == 3
    assert {grant.session_id for grant in site.server.store.grants.scan()} == {session.session_id}
    tokens = [browser.refresh(trusted_client, each["refresh_token"]).json for each in tokens]
    assert browser.authorize(trusted_client, prompt="none").code, "the browser has the cookie of the last sign-in"
    assert browser.send(browser.get("/oauth2/logout"), decision="sign_out").status == 200
    answers = [browser.refresh(trusted_client, each["refresh_token"]) for each in tokens]
    assert [answer.json["error"] for answer in answers] == ["invalid_grant"] * 3


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 n", "OpenID Connect Core §15.1 f")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_max_age_is_counted_from_the_sign_in(site: Site, browser: Browser, trusted_client: Registered) -> None:
    browser.code(trusted_client)
    site.clock.advance(60)
    assert browser.authorize(trusted_client, max_age="60").code
    site.clock.advance(1)
    assert browser.authorize(trusted_client, max_age="61").code, "issuing a code does not renew the sign-in"
    page = browser.authorize(trusted_client, max_age="60")
    assert asks_to_sign_in(page)
    site.clock.advance(61)
    answer = browser.sign_in(page)
    assert answer.code
    assert browser.authorize(trusted_client, max_age="1", prompt="none").code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 j")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_prompt_consent_asks_for_consent_that_is_remembered_or_not_needed(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    browser.code(trusted_client)
    client = site.client()
    browser.code(client, "allow_always")
    for registered in (client, trusted_client):
        page = browser.authorize(registered, prompt="consent")
        assert asks_for_consent(page)
        assert not list_new_scopes(page)
        assert browser.submit(page, decision="allow_once").code
    page = browser.authorize(trusted_client, prompt="login consent")
    assert asks_to_sign_in(page)
    assert asks_for_consent(browser.sign_in(page))


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 h", "OpenID Connect Core §3.1.2.1 j", "OpenID Connect Core §3.1.2.1 l")
@pytest.mark.parametrize(
    "prompt", ["login", "select_account", "consent", "login consent", "consent  login", "consent select_account login"]
)
def test_every_value_of_prompt_is_applied(site: Site, browser: Browser, hybrid_client: Registered, prompt: str) -> None:
    browser.answer(hybrid_client)
    site.clock.advance(5)
    answer = browser.authorize(hybrid_client, prompt=prompt)
    if {"login", "select_account"} & {*prompt.split()}:
        assert asks_to_sign_in(answer)
        answer = browser.sign_in(answer)
    if "consent" in prompt:
        assert ("decision", "allow") in answer.form.buttons
        answer = browser.submit(answer, decision="allow_once")
    id_token = browser.redeem(hybrid_client, answer.code).json["id_token"]
    assert read_claims(id_token)["auth_time"] == site.clock() - (5 if prompt == "consent" else 0)


@pytest.mark.spec("OpenID Connect Core §3.1.2.3 c")
@pytest.mark.parametrize(
    "prompt", ["none login", "none consent", "select_account none", "login none consent", "none create"]
)
def test_prompt_none_with_another_value_is_an_invalid_request(
    browser: Browser, hybrid_client: Registered, prompt: str
) -> None:
    for parameters in ({}, {"response_type": "code id_token", "nonce": "n"}):
        assert browser.authorize(hybrid_client, prompt=prompt, **parameters).answer["error"] == "invalid_request"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 n", "OpenID Connect Core §3.1.2.1 o")
@pytest.mark.parametrize(
    ("max_age", "elapsed", "must_sign_in"), [(0, 0, True), (1, 1, False), (1, 2, True), (10000, 9999, False)]
)
def test_sign_in_older_than_max_age_is_repeated(
    site: Site, browser: Browser, hybrid_client: Registered, max_age: int, elapsed: int, must_sign_in: bool
) -> None:
    browser.answer(hybrid_client)
    site.clock.advance(elapsed)
    answer = browser.authorize(hybrid_client, max_age=str(max_age))
    assert asks_to_sign_in(answer) is must_sign_in
    error = browser.authorize(hybrid_client, max_age=str(max_age), prompt="none").answer.get("error")
    assert error == ("login_required" if must_sign_in else None)
    answer = browser.sign_in(answer) if must_sign_in else answer
    id_token = browser.redeem(hybrid_client, answer.code).json["id_token"]
    assert read_claims(id_token)["auth_time"] == site.clock() - (0 if must_sign_in else elapsed)
