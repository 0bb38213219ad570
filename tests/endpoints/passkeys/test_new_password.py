"""Changing the password with a passkey in place of the current one, and setting the first one with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.records import User
from tests.support.account import is_signed_in, sign_in_to_account
from tests.support.authenticator import (
    BE,
    BS,
    UP,
    Authenticator,
    options_of,
    sign_in_with_passkey,
    user_with_passkey,
)
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.links import next_steps
from tests.support.mail_flows import NEW_PASSWORD, VERIFIED, signs_in
from tests.support.mailbox import SENDER, Mailbox
from tests.support.site import PASSWORD, Registered, Site
from tests.support.user_changes import disable

PATH = "/account/password"
DONE = "/account/password?done=password_changed"
LATE = "This took too long, or the passkey was used already."
NOT_VERIFIED = "The passkey could not be verified."
Browsers = Callable[..., Browser]


@pytest.fixture(autouse=True)
def _secret(local: Site) -> None:
    local.secrets.add(NEW_PASSWORD)


def open_page(local: Site, browser: Browser) -> Answer:
    """Sign in with the password, and open the page some time later."""
    sign_in_to_account(browser)
    local.clock.advance(301)
    return browser.get(PATH)


def send(browser: Browser, page: Answer, answer: dict[str, Any], **changes: str) -> Answer:
    """Send the form as the script of the page does."""
    fields = page.form.fields | {"password": "", "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    sent = fields | {"passkey": json.dumps(answer)} | changes
    return browser.post("/account", sent, {"Sec-Fetch-Site": "same-origin"})


def remove_password(local: Site) -> None:
    local.server.store.users.put(replace(local.read_user(), password_hash=""))


def sign_in_without_password(local: Site, browser: Browser, authenticator: Authenticator) -> Answer:
    """Let alice have no password, sign her in with her passkey, and open the page."""
    remove_password(local)
    sign_in_with_passkey(browser, browser.follow(browser.get("/account")), authenticator)
    return browser.get(PATH)


def changes(local: Site, user: User) -> list[str | None]:
    """Return the details of the changes of the password in the history."""
    history = local.server.store.events.find("sub", user.sub)
    return [event.detail for event in history if event.name == events.PASSWORD_CHANGED]


def assert_unchanged(local: Site, user: User) -> None:
    current = local.server.store.users.get(user.sub)
    assert current
    assert (current.password_hash, current.password_generation) == (user.password_hash, user.password_generation)
    assert changes(local, user) == []


def test_password_is_changed_with_a_passkey(
    local: Site,
    browser: Browser,
    browsers: Browsers,
    client: Registered,
    alice: User,
    authenticator: Authenticator,
) -> None:
    other = browsers(local)
    tokens = other.tokens(client, scope="openid offline_access")
    page = open_page(local, browser)
    options = options_of(page)
    assert options["userVerification"] == "required"
    assert len(options["allowCredentials"]) == 1
    answer = send(browser, page, authenticator.get(options))
    assert (answer.status, answer.location) == (303, DONE)
    assert is_signed_in(browser)
    assert not is_signed_in(other)
    assert other.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert changes(local, alice) == ["passkey"]
    assert signs_in(browsers(local), client, "alice", NEW_PASSWORD)
    assert not signs_in(browsers(local), client, "alice", PASSWORD)


def test_session_of_the_change_gets_a_new_cookie_and_counts_as_no_new_sign_in(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser)
    before = dict(browser.cookies)
    send(browser, page, authenticator.get(options_of(page)))
    (session,) = (session for session in local.server.store.sessions.scan() if session.generation == 2)
    assert (session.auth_time, session.amr) == (local.clock() - 301, ("pwd",))
    browser.cookies = before
    assert not is_signed_in(browser)


def test_user_without_a_password_sets_one_with_the_passkey(
    local: Site,
    browser: Browser,
    browsers: Browsers,
    client: Registered,
    alice: User,
    authenticator: Authenticator,
) -> None:
    page = sign_in_without_password(local, browser, authenticator)
    assert "You have no password yet." in page.body
    assert 'id="password"' not in page.body
    assert "you need JavaScript" in page.body
    assert send(browser, page, authenticator.get(options_of(page))).location == DONE
    assert signs_in(browsers(local), client, "alice", NEW_PASSWORD)
    assert 'id="password"' in browser.get(PATH).body


def test_user_without_a_password_sets_none_without_the_passkey(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = sign_in_without_password(local, browser, authenticator)
    user = local.read_user()
    for password in ("", PASSWORD, NEW_PASSWORD):
        fields = page.form.fields | {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
        answer = browser.post("/account", fields | {"password": password}, {"Sec-Fetch-Site": "same-origin"})
        assert answer.status == 400
    assert_unchanged(local, user)


def test_current_password_changes_it_without_javascript(local: Site, browser: Browser, alice: User) -> None:
    page = open_page(local, browser)
    assert "you need JavaScript" not in page.body
    answer = browser.send(page, password=PASSWORD, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert answer.location == DONE
    assert changes(local, alice) == [None]


def test_user_without_a_passkey_is_asked_for_the_password_alone(local: Site, browser: Browser) -> None:
    local.user("alice")
    assert "data-passkey" not in open_page(local, browser).body


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("signature", NOT_VERIFIED),
        ("user not verified", NOT_VERIFIED),
        ("user not present", NOT_VERIFIED),
        ("origin", NOT_VERIFIED),
        ("malformed", NOT_VERIFIED),
        ("late", LATE),
        ("of the sign-in", LATE),
        ("of the deletion", LATE),
        ("removed", "This passkey does not belong to an account here."),
        ("unknown", "This passkey does not belong to an account here."),
    ],
)
def test_passkey_that_proves_nothing_changes_nothing(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, change: str, problem: str
) -> None:
    of_sign_in = options_of(browser.follow(browser.get("/account")))
    page = open_page(local, browser)
    elsewhere = {"of the sign-in": of_sign_in, "of the deletion": options_of(browser.get("/account/delete"))}
    options = elsewhere.get(change, options_of(page))
    flags = {"user not verified": UP | BE | BS, "user not present": BE | BS}.get(change)
    members: dict[str, Any] = {"origin": "https://example.com"} if change == "origin" else {}
    answer = authenticator.get(options, flags=flags, **members)
    if change == "signature":
        answer["signature"] = "AAAA"
    if change == "malformed":
        answer = {"id": "x"}
    if change == "late":
        local.clock.advance(301)
    if change == "unknown":
        answer["id"] = "AAAA"
    if change == "removed":
        (passkey,) = local.server.store.passkeys.scan()
        local.server.store.passkeys.delete(passkey.sub, passkey.passkey_id)
    user = local.read_user()
    shown = send(browser, page, answer)
    assert shown.status == 400
    assert problem in shown.body
    assert "aria-invalid" not in shown.body, "nothing was wrong with the passwords"
    assert NEW_PASSWORD not in shown.body
    assert_unchanged(local, user)


@pytest.mark.parametrize("challenge", ["of the own page", "of the page of the owner"])
def test_passkey_of_another_user_changes_nothing(
    local: Site, browser: Browser, browsers: Browsers, alice: User, authenticator: Authenticator, challenge: str
) -> None:
    of_alice, bobs = browsers(local), Authenticator(local.settings.issuer)
    local.user("bob")
    user_with_passkey(browser, bobs, "bob")
    sign_in_to_account(browser, "bob")
    sign_in_to_account(of_alice)
    page, user = browser.get(PATH), local.read_user("bob")
    options = options_of(page if challenge == "of the own page" else of_alice.get(PATH))
    assert send(browser, page, authenticator.get(options)).status == 400
    assert_unchanged(local, user)
    assert_unchanged(local, local.read_user("alice"))
    assert send(browser, page, bobs.get(options_of(page))).location == DONE


def test_page_of_another_session_of_the_user_does_not_ask_for_this_one(
    local: Site, browser: Browser, browsers: Browsers, alice: User, authenticator: Authenticator
) -> None:
    other, page = browsers(local), open_page(local, browser)
    sign_in_to_account(other)
    answer = authenticator.get(options_of(other.get(PATH)))
    assert LATE in send(browser, page, answer).body
    assert_unchanged(local, local.read_user())


@pytest.mark.parametrize(
    ("new", "again", "text"),
    [
        ("short", "short", "Use at least 12 characters."),
        (NEW_PASSWORD, NEW_PASSWORD + "x", "The two entries differ."),
        ("", "", "Use at least 12 characters."),
    ],
)
def test_password_that_breaks_the_rules_is_rejected_and_the_passkey_stays_unused(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, new: str, again: str, text: str
) -> None:
    page, user = open_page(local, browser), local.read_user()
    answer = authenticator.get(options_of(page))
    rejected = send(browser, page, answer, new_password=new, new_password_again=again)
    assert rejected.status == 400
    assert text in rejected.body
    assert_unchanged(local, user)
    assert send(browser, page, answer).location == DONE


@pytest.mark.parametrize("counts", [True, False], ids=["with a counter", "without a counter"])
@pytest.mark.parametrize("cookies", ["old", "new"])
def test_form_that_is_sent_twice_changes_the_password_once(
    local: Site,
    browser: Browser,
    alice: User,
    authenticator: Authenticator,
    cookies: str,
    counts: bool,
) -> None:
    authenticator.credentials[-1].counts = counts
    page = open_page(local, browser)
    before, answer = dict(browser.cookies), authenticator.get(options_of(page))
    assert send(browser, page, answer).location == DONE
    if cookies == "old":
        browser.cookies = before
    assert send(browser, page, answer).location == DONE
    assert is_signed_in(browser)
    assert changes(local, alice) == ["passkey"]
    assert events.PASSKEY_COUNTER not in {event.name for event in local.server.store.events.scan()}


def test_form_that_is_sent_twice_at_once_changes_the_password_once(
    local: Site, browser: Browser, browsers: Browsers, alice: User, authenticator: Authenticator, wire: Wire
) -> None:
    page = open_page(local, browser)
    answer, tab = authenticator.get(options_of(page)), browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: send(tab, page, answer)):
        assert send(browser, page, answer).location == DONE
    assert changes(local, alice) == ["passkey"]


def test_answer_that_was_used_changes_the_password_no_second_time(
    local: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser)
    answer = authenticator.get(options_of(page))
    assert send(browser, page, answer).location == DONE
    another = "a thief's own words here"
    replayed = send(browser, page, answer, new_password=another, new_password_again=another)
    assert replayed.status == 400
    assert LATE in replayed.body
    assert not signs_in(browsers(local), client, "alice", another)
    assert signs_in(browsers(local), client, "alice", NEW_PASSWORD)
    assert changes(local, alice) == ["passkey"]


@pytest.mark.parametrize("change", ["disabled", "passkey removed", "signed out everywhere"])
def test_change_in_between_wins(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, wire: Wire, change: str
) -> None:
    page = open_page(local, browser)
    answer = authenticator.get(options_of(page))

    def act() -> None:
        user, store = local.read_user(), local.server.store
        if change == "disabled":
            disable(local, user)
        elif change == "passkey removed":
            (passkey,) = store.passkeys.scan()
            store.passkeys.delete(passkey.sub, passkey.passkey_id)
        else:
            store.users.put(replace(user, sessions_generation=user.sessions_generation + 1))

    with wire.before("TransactWriteItems", act):
        assert send(browser, page, answer).status == 400
    assert local.read_user().password_hash == alice.password_hash
    assert changes(local, alice) == []


def test_change_is_told_by_mail(
    mailbox: Mailbox, local: Site, browser: Browser, alice_with_address: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser)
    assert send(browser, page, authenticator.get(options_of(page))).location == DONE
    assert [mail.subject for mail in mailbox.deliver(local)] == ["Your password was changed · Signet"]


# ---- what a user does who has neither


@pytest.mark.parametrize(
    ("settings", "claims", "step"),
    [
        ({"email_from": SENDER}, VERIFIED, {"Choose a password by email": "/account/recover"}),
        ({"support_url": "https://help.example.com/"}, {}, {"Ask support for a password": "https://help.example.com/"}),
        ({}, VERIFIED, {}),
    ],
    ids=["email", "support", "neither"],
)
def test_page_says_how_a_user_without_a_password_and_a_passkey_gets_one(
    local: Site,
    browser: Browser,
    settings: dict[str, Any],
    claims: dict[str, Any],
    step: dict[str, str],
) -> None:
    object.__setattr__(local.server, "settings", replace(local.server.settings, **settings))
    local.user("alice", claims=claims)
    sign_in_to_account(browser)
    remove_password(local)
    page = browser.get(PATH)
    assert "You have no password yet." in page.body
    assert 'type="password"' not in page.body
    assert step.items() <= next_steps(page).items()
    assert ("ask the people who run this server for a password" in page.body) == (not step)


@pytest.mark.parametrize("path", ["/account/delete", "/account/data"])
def test_page_that_asks_for_a_proof_leads_a_user_who_has_none_to_a_password(
    local: Site, browser: Browser, path: str
) -> None:
    local.user("alice")
    sign_in_to_account(browser)
    remove_password(local)
    local.clock.advance(301)
    page = browser.get(path)
    assert 'type="password"' not in page.body
    assert next_steps(page)["Choose a password"] == PATH


def test_user_who_forgot_the_password_finds_the_way_to_a_new_one(local: Site, browser: Browser, sender: None) -> None:
    local.user("alice", claims=VERIFIED)
    sign_in_to_account(browser)
    assert next_steps(browser.get(PATH))["Forgot your password?"] == "/account/recover"


def test_user_with_a_passkey_alone_can_use_all_account_pages(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, sender: None
) -> None:
    """Those that ask for a recent sign-in, and those that ask for a proof."""
    sign_in_without_password(local, browser, authenticator)
    assert 'name="email"' in browser.get("/account/email").body
    assert "data-new-passkey" in browser.get("/account/passkeys").body
    assert 'name="one_time_code"' in browser.get("/account/second-factor", set_up="yes").body
    for path in ("/account/delete", PATH):
        assert options_of(browser.get(path))["allowCredentials"]
    local.clock.advance(301)
    assert options_of(browser.get("/account/data"))["allowCredentials"]
