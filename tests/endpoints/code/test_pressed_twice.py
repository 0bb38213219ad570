"""A user who presses a button twice, because the answer takes its time: the answer to the first press, and no other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.protocol.grant import Grant
from tests.endpoints.code.conftest import CREDENTIALS, NEW_PASSWORD, count_grants, count_sessions_and_grants
from tests.support.account import account_form, open_sign_in, sign_in_to_account, submit_form
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.grants import update_client
from tests.support.site import PASSWORD, Registered, Site, dump_tables

ALLOW: dict[str, Any] = {"decision": "allow_once"}


def press_twice(browser: Browser, page: Answer, *, cookies: str = "new", **values: Any) -> tuple[Answer, Answer]:
    """Send the form of a page twice; return the two answers, not followed.

    `cookies`: those of the second press. "old" ones are from before the first answer has arrived.
    """
    before = dict(browser.cookies)
    first = browser.send(page, **values)
    if cookies == "old":
        browser.cookies = before
    return first, browser.send(page, **values)


def stored_grants(site: Site) -> list[Grant]:
    return sorted(site.server.store.grants.scan(), key=lambda grant: grant.code_expires_at)


def count_events(site: Site, name: str) -> int:
    return sum(event.name == name for event in site.server.store.events.scan())


# ---- the decision


@pytest.mark.parametrize("decision", ["allow_once", "allow_always"])
@pytest.mark.parametrize("stored", [True, False])
def test_second_press_of_allow_gets_the_answer_with_a_new_code_for_the_same_access(
    site: Site, browser: Browser, client: Registered, stored: bool, decision: str
) -> None:
    page = browser.sign_in(browser.authorize(client, nonce="n"))
    page = page if stored else browser.authorize(client, nonce="n")
    first = browser.submit(page, decision=decision)
    site.clock.advance(1)
    second = browser.submit(page, decision=decision)
    assert second.answer | {"code": ""} == first.answer | {"code": ""}
    assert first.code != second.code
    earlier, later = stored_grants(site)
    moved = {"grant_id": "", "created_at": 0, "code_expires_at": 0, "expires_at": 0}
    assert vars(earlier) | moved == vars(later) | moved
    assert later.code_expires_at == earlier.code_expires_at + 1
    assert count_events(site, "consent_given") == 1
    for code in (first.code, second.code):
        assert browser.redeem(client, code).status == 200


def test_codes_of_two_presses_are_redeemed_independently_in_any_order(
    site: Site, browser: Browser, client: Registered
) -> None:
    first, second = press_twice(browser, browser.sign_in(browser.authorize(client)), **ALLOW)
    assert browser.redeem(client, second.code).status == 200
    assert browser.redeem(client, first.code).status == 200
    assert browser.redeem(client, first.code).json["error"] == "invalid_grant"


def test_code_of_a_second_press_is_new_although_the_first_was_redeemed_and_refreshed(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = browser.sign_in(browser.authorize(client, scope="openid offline_access"))
    tokens = browser.redeem(client, browser.submit(page, **ALLOW).code).json
    assert browser.refresh(client, tokens["refresh_token"]).status == 200
    assert browser.redeem(client, browser.submit(page, **ALLOW).code).status == 200


def test_answer_is_repeated_three_times_and_for_a_minute(site: Site, browser: Browser, client: Registered) -> None:
    page = browser.sign_in(browser.authorize(client))
    codes = {browser.submit(page, **ALLOW).code for _ in range(4)}
    assert len(codes) == 4
    before = dump_tables()
    fifth = browser.submit(page, **ALLOW)
    assert (fifth.status, fifth.header("location")) == (400, None)
    assert "already answered" in fifth.body
    assert dump_tables() == before

    page = browser.authorize(client)
    browser.submit(page, **ALLOW)
    site.clock.advance(59)
    assert browser.submit(page, **ALLOW).code
    site.clock.advance(1)
    assert browser.submit(page, **ALLOW).status == 400


@pytest.mark.parametrize("first", ["allow_once", "allow_always", "deny"])
@pytest.mark.parametrize("second", ["allow_once", "allow_always", "deny"])
def test_denial_is_final_and_grants_nothing_whichever_press_it_was(
    site: Site, browser: Browser, client: Registered, first: str, second: str
) -> None:
    page = browser.sign_in(browser.authorize(client))
    answer = browser.submit(page, decision=first)
    again = browser.submit(page, decision=second)
    if "deny" in (first, second):
        assert again.answer["error"] == "access_denied"
        assert count_events(site, "consent_denied") == 1
        if first != "deny":
            assert browser.redeem(client, answer.code).json["error"] == "invalid_grant"
        before = dump_tables()
        for third in ("allow_once", "deny"):
            assert browser.submit(page, decision=third).answer["error"] == "access_denied"
        assert dump_tables() == before, "nothing is written"
    else:
        assert again.code
        assert len([*site.server.store.consents.scan()]) == (first == "allow_always"), "the first press decides"


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_denial_does_not_end_the_access_that_the_application_already_uses(
    browser: Browser, client: Registered, mode: str
) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode=mode))
    tokens = browser.redeem(client, browser.submit(page, **ALLOW).code).json
    for decision in ("deny", "allow_once", "deny"):
        assert browser.submit(page, decision=decision).answer["error"] == "access_denied"
    assert browser.userinfo(tokens["access_token"]).status == 200


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_use_another_account_after_an_answer_is_a_new_request(browser: Browser, client: Registered, mode: str) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode=mode))
    first = browser.submit(page, **ALLOW).code
    for _ in range(3):
        again = browser.submit(page, decision="switch")
        assert "password" in again.form.fields
        assert "code" not in again.form.fields
    assert browser.submit(browser.sign_in(again), **ALLOW).code != first
    assert count_grants() == 2


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_answer_that_an_earlier_version_has_given_is_not_repeated_and_is_no_denial(
    site: Site, browser: Browser, client: Registered, mode: str
) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode=mode))
    browser.submit(page, **ALLOW)
    store = site.server.store.requests
    store.transition((page.form.fields["request_id"],), None, {}, remove=("grant_id", "sent"))
    for again in (browser.submit(page, **ALLOW), browser.get(page.url)):
        assert again.status == 400
        assert "already answered" in again.body


@pytest.mark.parametrize("press", ["allow", "sign in"])
def test_second_press_of_a_form_that_expires_in_between_gets_the_answer(
    site: Site, browser: Browser, press: str
) -> None:
    site.user()
    page = browser.authorize(site.client(trusted=press == "sign in"))
    page = page if press == "sign in" else browser.sign_in(page)
    site.clock.advance(site.settings.request_lifetime - 1)
    values = CREDENTIALS if press == "sign in" else ALLOW
    assert browser.submit(page, **values).code
    site.clock.advance(2)
    assert browser.submit(page, **values).code


@pytest.mark.parametrize("ending", ["sign out", "revoke the first grant", "disable the client", "remove access"])
def test_answer_is_not_repeated_once_something_has_ended(
    site: Site, browser: Browser, client: Registered, ending: str
) -> None:
    page = browser.sign_in(browser.authorize(client, scope="openid offline_access"))
    tokens = browser.redeem(client, browser.submit(page, **ALLOW).code).json
    if ending == "sign out":
        browser.get("/oauth2/logout", id_token_hint=tokens["id_token"])
    elif ending == "revoke the first grant":
        browser.post(
            "/oauth2/revoke", {"token": tokens["refresh_token"], "client_id": client.id, "client_secret": client.secret}
        )
    elif ending == "remove access":
        submit_form(browser, account_form(browser, "revoke", client_id=client.id))
    else:
        update_client(site, client, disabled_at=site.clock.time)
    before = count_grants()
    again = browser.submit(page, **ALLOW)
    if ending == "remove access":  # the code is of what the user had allowed before
        assert browser.redeem(client, again.code).json["error"] == "invalid_grant"
    else:
        assert "code=" not in (again.header("location") or "")
        assert count_grants() == before


def test_answer_is_not_repeated_for_the_user_who_signs_in_next(
    site: Site, browser: Browser, browsers: Callable[..., Browser], client: Registered
) -> None:
    site.user("bob")
    page = browser.sign_in(browser.authorize(client))
    address = page.url
    page_of_alice = browser.get(address)
    page_of_bob = browser.sign_in(browser.authorize(client, prompt="login"), "bob")
    same_request_for_bob = browser.get(address)
    assert "bob" in same_request_for_bob.body
    browser.sign_in(browser.authorize(client, prompt="login"))
    answered = browser.submit(browser.get(address), **ALLOW)
    assert answered.code
    browser.sign_in(browser.authorize(client, prompt="login"), "bob")
    before = count_grants()
    for page in (page_of_alice, same_request_for_bob):
        again = browser.submit(page, **ALLOW)
        assert "code=" not in (again.header("location") or "")
    assert count_grants() == before
    assert page_of_bob.form.action


# ---- signing in


@pytest.mark.parametrize("cookies", ["old", "new"])
@pytest.mark.parametrize("trusted", [True, False])
def test_second_press_of_sign_in_is_recognised_before_anything_is_counted(
    site: Site, browser: Browser, trusted: bool, cookies: str
) -> None:
    user, client = site.user(), site.client(trusted=trusted)
    first, second = press_twice(browser, browser.authorize(client), cookies=cookies, **CREDENTIALS)
    if trusted:
        assert first.code != second.code
        assert browser.redeem(client, second.code).status == 200
    else:
        assert second.location == first.location
        assert browser.submit(browser.follow(second), **ALLOW).code
    (session,) = site.server.store.sessions.scan()
    assert (session.sub, session.generation) == (user.sub, 1)
    assert count_events(site, "sign_in") == 1
    assert count_events(site, "sign_in_failed") == 0
    assert browser.get("/account").status == 200, "the browser has the cookie of this session"


@pytest.mark.parametrize("cookies", ["old", "new"])
@pytest.mark.parametrize("trusted", [True, False])
def test_second_press_of_sign_in_continues_a_session_once(
    site: Site, browser: Browser, trusted: bool, cookies: str
) -> None:
    site.user()
    sign_in_to_account(browser)
    client = site.client(trusted=trusted)
    page = browser.authorize(client, prompt="login")
    before = count_events(site, "sign_in")
    first, second = press_twice(browser, page, cookies=cookies, **CREDENTIALS)
    assert (first.code != second.code) if trusted else (first.location == second.location)
    (session,) = site.server.store.sessions.scan()
    assert session.generation == 2
    assert count_events(site, "sign_in") == before + 1
    assert browser.get("/account").status == 200


@pytest.mark.parametrize("cookies", ["old", "new"])
def test_second_press_with_another_password_or_user_is_a_sign_in_of_its_own(
    site: Site, browser: Browser, cookies: str
) -> None:
    for name in ("alice", "bob"):  # as in records of version 1, whose generations are equal
        site.server.store.users.put(replace(site.user(name), sessions_generation=0))
    page = browser.authorize(site.client(trusted=True))
    before = dict(browser.cookies)
    assert browser.sign_in(page).code
    signed_in = dict(browser.cookies)
    browser.cookies = dict(before) if cookies == "old" else dict(signed_in)
    assert browser.send(page, username="alice", password="wrong").status == 400
    assert count_events(site, "sign_in_failed") == 1
    assert ("signet-session" in browser.cookies) == (cookies == "new")
    browser.cookies = dict(before) if cookies == "old" else dict(signed_in)
    answer = browser.send(page, username="bob", password=PASSWORD)
    assert "code=" not in (answer.header("location") or ""), "the request was answered for alice"
    assert browser.get("/account").status == 200
    assert "bob" in browser.get("/account").body


@pytest.mark.parametrize("cookies", ["old", "new"])
def test_second_press_of_sign_in_to_the_account_page_is_one_sign_in(site: Site, browser: Browser, cookies: str) -> None:
    site.user()
    first, second = press_twice(browser, open_sign_in(browser), cookies=cookies, **CREDENTIALS)
    assert first.location == second.location == f"{site.settings.issuer}/account"
    assert count_events(site, "sign_in") == 1
    assert len([*site.server.store.sessions.scan()]) == 1


@pytest.mark.parametrize("username", ["bob", ""])
def test_failed_sign_in_on_the_page_of_an_answered_request_gets_no_answer_of_the_user_before(
    site: Site, browser: Browser, client: Registered, username: str
) -> None:
    site.user("bob")
    page = browser.authorize(client, response_mode="form_post")
    browser.submit(browser.sign_in(page), **ALLOW)
    again = browser.submit(page, username=username, password="wrong")
    assert again.status == 400
    assert "code" not in again.form.fields


def test_attempt_costs_as_many_calls_for_a_username_that_does_not_exist(
    site: Site, browser: Browser, wire: Wire
) -> None:
    site.user()
    page = browser.follow(browser.authorize(site.client(), state="x" * 4050))
    calls = []
    for username in ("alice", "nobody"):
        before = len(wire.calls)
        browser.send(page, username=username, password="wrong")
        calls.append(wire.calls[before:])
    assert calls[0] == calls[1]


def test_second_press_compares_no_more_than_three_passwords_without_counting(site: Site, browser: Browser) -> None:
    site.user()
    page, before = browser.authorize(site.client(trusted=True)), dict(browser.cookies)
    assert browser.sign_in(page).code
    for count in range(5):
        browser.cookies = dict(before)
        browser.send(page, username="alice", password=f"guess {count}")
    assert count_events(site, "sign_in_failed") == 5, "each wrong password is counted"
    browser.cookies = dict(before)
    browser.send(page, **CREDENTIALS)
    (session,) = site.server.store.sessions.scan()
    assert session.repeats == 3


def test_form_that_has_signed_in_signs_in_anew_after_a_minute_or_the_sign_out(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    page, before = browser.authorize(client), dict(browser.cookies)
    browser.send(page, **CREDENTIALS)
    browser.cookies = dict(before)
    site.clock.advance(60)
    assert browser.submit(browser.submit(page, **CREDENTIALS), **ALLOW).code
    assert count_events(site, "sign_in") == 2
    sessions = {session.session_id for session in site.server.store.sessions.scan()}
    assert len(sessions) == 2, "each is a session of its own"

    page = browser.authorize(client, prompt="login")
    browser.submit(browser.get("/oauth2/logout"), decision="sign_out")
    assert "signet-session" not in browser.cookies
    browser.send(page, **CREDENTIALS)
    browser.submit(browser.get("/oauth2/logout"), decision="sign_out")
    answer = browser.submit(page, **CREDENTIALS)
    assert browser.submit(answer, **ALLOW).code


def test_page_left_open_by_another_person_does_not_sign_them_in(
    site: Site, browser: Browser, browsers: Callable[..., Browser]
) -> None:
    """Who knows the form and the browser's cookie from before still needs the password."""
    site.user()
    page = browser.authorize(site.client(trusted=True))
    attacker = browsers()
    attacker.cookies = dict(browser.cookies)
    browser.sign_in(page)
    for password in ("", "guess"):
        assert attacker.send(page, username="alice", password=password).status == 400
        assert "signet-session" not in attacker.cookies


# ---- changing the password


@pytest.mark.parametrize("cookies", ["old", "new"])
@pytest.mark.parametrize("trusted", [True, False])
def test_second_press_of_a_required_new_password_continues(
    site: Site, browser: Browser, trusted: bool, cookies: str
) -> None:
    user, client = site.user(), site.client(trusted=trusted)
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(client))
    values = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    first, second = press_twice(browser, page, cookies=cookies, **values)
    if trusted:
        assert first.code != second.code
        assert browser.redeem(client, second.code).status == 200
    else:
        assert browser.submit(browser.follow(second), **ALLOW).code
    changed = site.server.store.users.get(user.sub)
    assert changed
    assert changed.password_generation == user.password_generation + 1
    assert count_events(site, "password_changed") == 1
    assert browser.get("/account").status == 200


@pytest.mark.parametrize("cookies", ["old", "new"])
def test_second_press_of_change_password_says_that_it_is_changed(site: Site, browser: Browser, cookies: str) -> None:
    user = site.user()
    sign_in_to_account(browser)
    form = account_form(
        browser, "change_password", password=PASSWORD, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD
    )
    before = dict(browser.cookies)
    first = submit_form(browser, form)
    if cookies == "old":
        browser.cookies = before
    second = submit_form(browser, form)
    assert first.location == second.location == "/account/password?done=password_changed"
    assert "Your password is changed" in browser.follow(second).body
    changed = site.server.store.users.get(user.sub)
    assert changed
    assert changed.password_generation == user.password_generation + 1
    assert count_events(site, "password_changed") == 1
    assert count_events(site, "sign_in_failed") == 0


@pytest.mark.parametrize("new_password", ["", "another pass phrase", PASSWORD])
def test_cookie_from_before_a_changed_password_is_useless_without_the_new_one(
    site: Site, browser: Browser, new_password: str
) -> None:
    site.user()
    sign_in_to_account(browser)
    stolen = dict(browser.cookies)
    form = account_form(
        browser, "change_password", password=PASSWORD, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD
    )
    submit_form(browser, form)
    browser.cookies = stolen
    answer = submit_form(browser, form | {"new_password": new_password, "new_password_again": new_password})
    assert answer.location.startswith("/oauth2/authorize?")
    assert browser.cookies.get("signet-session") == stolen["signet-session"]
    assert browser.follow(answer).status == 200


# ---- form_post


@pytest.mark.parametrize("decision", ["allow_once", "allow_always", "deny"])
@pytest.mark.parametrize("stored", [True, False])
def test_answer_by_form_post_is_reached_by_a_redirect_and_can_be_reloaded_for_a_minute(
    site: Site, browser: Browser, client: Registered, stored: bool, decision: str
) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode="form_post"))
    page = page if stored else browser.authorize(client, response_mode="form_post")
    sent = browser.send(page, decision=decision)
    assert sent.location.startswith("/oauth2/authorize?")
    assert "request_uri=req_" in sent.location
    first = browser.get(sent.location)
    assert first.mode == "form_post"
    assert first.form.action == client.record.redirect_uris[0]
    site.clock.advance(59)
    second = browser.get(sent.location)
    assert second.answer | {"code": ""} == first.answer | {"code": ""}
    if decision == "deny":
        assert first.answer["error"] == "access_denied"
        assert count_grants() == 0
    else:
        assert first.code != second.code
        assert browser.redeem(client, second.code).status == 200
        assert count_grants() == 2, "one for each code"
    site.clock.advance(1)
    ended = browser.get(sent.location)
    assert ended.status == 400
    assert "code" not in ended.form.fields


@pytest.mark.parametrize("press", ["allow", "sign in"])
def test_second_press_of_a_request_by_form_post_leads_to_the_same_address(
    site: Site, browser: Browser, press: str
) -> None:
    site.user()
    client = site.client(trusted=press == "sign in")
    page = browser.authorize(client, response_mode="form_post")
    page = page if press == "sign in" else browser.sign_in(page)
    first, second = press_twice(browser, page, cookies="old", **(CREDENTIALS if press == "sign in" else ALLOW))
    assert first.location == second.location
    codes = {browser.get(second.location).code for _ in range(4)}
    assert len(codes) == 4
    assert all(browser.redeem(client, code).status == 200 for code in codes)
    assert browser.get(second.location).status == 400


@pytest.mark.parametrize("other", ["another browser", "signed out", "another user"])
def test_answer_by_form_post_is_given_to_its_browser_and_session_only(
    site: Site, browser: Browser, browsers: Callable[..., Browser], client: Registered, other: str
) -> None:
    site.user("bob")
    page = browser.sign_in(browser.authorize(client, response_mode="form_post"))
    sent = browser.send(page, **ALLOW)
    who = browser
    if other == "another browser":
        who = browsers()
        who.authorize(client)
        who.cookies["signet-session"] = browser.cookies["signet-session"]
    elif other == "signed out":
        del browser.cookies["signet-session"]
    else:
        browser.sign_in(browser.authorize(client, prompt="login"), "bob")
    before = dump_tables()
    answer = who.get(sent.location)
    assert answer.status in (200, 400)
    assert "code" not in answer.form.fields
    assert dump_tables() == before


def test_code_by_form_post_is_new_when_the_page_is_opened_late(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(authorization_code_lifetime=30)
    sent = browser.send(browser.sign_in(browser.authorize(client, response_mode="form_post")), **ALLOW)
    site.clock.advance(45)
    assert browser.redeem(client, browser.get(sent.location).code).status == 200


# ---- signing out


def test_second_press_of_sign_out_leads_to_the_same_place(site: Site, browser: Browser) -> None:
    site.user()
    target = "https://client.example.com/bye"
    client = site.client(post_logout_redirect_uris=(target,))
    browser.code(client)
    page = browser.get("/oauth2/logout", client_id=client.id, post_logout_redirect_uri=target, state="s")
    for cookies in ("old", "new"):
        first, second = press_twice(browser, page, cookies=cookies, decision="sign_out")
        assert first.location == second.location == f"{target}?state=s"
    assert count_events(site, "signed_out") == 1
    assert count_sessions_and_grants()[0] == 1
