"""Turning the second factor off with a passkey: by a user who has lost the phone and the recovery codes."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.records import User
from tests.support.account import open_sign_in
from tests.support.authenticator import BE, BS, UP, Authenticator, options_of, sign_in_with_passkey, user_with_passkey
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.mailbox import Mailbox
from tests.support.second_factor import add_second_factor
from tests.support.site import Site

PATH = "/account/second-factor"
DONE = "/account/second-factor?done=second_factor_off"
LATE = "This took too long, or the passkey was used already."
NOT_VERIFIED = "The passkey could not be verified."


def open_page(local: Site, browser: Browser, authenticator: Authenticator) -> Answer:
    """Turn the second factor of alice on, sign her in with her passkey, and open the page."""
    add_second_factor(local)
    sign_in_with_passkey(browser, open_sign_in(browser), authenticator)
    return browser.get(PATH)


def send(browser: Browser, page: Answer, answer: dict[str, Any]) -> Answer:
    """Send the form as the script of the page does."""
    fields = {"tag": page.form.fields["tag"], "action": "turn_off", "passkey": json.dumps(answer)}
    return browser.post(PATH, fields, {"Sec-Fetch-Site": "same-origin"})


def removals(local: Site, user: User) -> list[str | None]:
    """Return the details of the removals in the history."""
    history = local.server.store.events.find("sub", user.sub)
    return [event.detail for event in history if event.name == events.SECOND_FACTOR_REMOVED]


def test_second_factor_is_turned_off_with_a_passkey(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser, authenticator)
    options = options_of(page)
    assert options["userVerification"] == "required"
    assert send(browser, page, authenticator.get(options)).location == DONE
    user = local.read_user()
    assert not user.has_second_factor
    assert (user.totp_secret, user.recovery_codes, user.totp_generation) == (None, frozenset(), 2)
    assert removals(local, alice) == ["passkey"]


def test_user_is_told_by_mail(
    local: Site, browser: Browser, alice_with_address: User, authenticator: Authenticator, mailbox: Mailbox
) -> None:
    page = open_page(local, browser, authenticator)
    send(browser, page, authenticator.get(options_of(page)))
    assert [mail.subject for mail in mailbox.deliver(local)] == ["Two-step sign-in is off · Signet"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("signature", NOT_VERIFIED),
        ("user not verified", NOT_VERIFIED),
        ("late", LATE),
        ("of the password page", LATE),
        ("removed", "This passkey does not belong to an account here."),
    ],
)
def test_passkey_that_proves_nothing_leaves_the_second_factor_on(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, change: str, problem: str
) -> None:
    page = open_page(local, browser, authenticator)
    options = options_of(browser.get("/account/password") if change == "of the password page" else page)
    if change == "late":  # for the challenge, and not yet for the sign-in
        local.clock.advance(300)
    answer = authenticator.get(options, flags=UP | BE | BS if change == "user not verified" else None)
    if change == "signature":
        answer["signature"] = "AAAA"
    if change == "removed":
        (passkey,) = local.server.store.passkeys.scan()
        local.server.store.passkeys.delete(passkey.sub, passkey.passkey_id)
    shown = send(browser, page, answer)
    assert shown.status == 400
    assert problem in shown.body
    assert "<details open>" in shown.body
    assert "aria-invalid" not in shown.body, "nothing was wrong with a code"
    assert local.read_user().has_second_factor
    assert removals(local, alice) == []


def test_passkey_of_another_user_leaves_the_second_factor_on(
    local: Site, browser: Browser, browsers: Callable[..., Browser], alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser, authenticator)
    local.user("bob")
    bobs, bob = Authenticator(local.settings.issuer), browsers(local)
    user_with_passkey(bob, bobs, "bob")
    assert send(browser, page, bobs.get(options_of(page))).status == 400
    assert local.read_user().has_second_factor


def test_passkey_turns_nothing_off_long_after_the_sign_in(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser, authenticator)
    local.clock.advance(301)
    assert "data-passkey" not in browser.get(PATH).body
    answer = send(browser, page, authenticator.get(options_of(page)))
    assert answer.location.startswith("/oauth2/authorize?")
    assert local.read_user().has_second_factor


def test_answer_that_was_used_does_not_turn_the_next_second_factor_off(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser, authenticator)
    answer = authenticator.get(options_of(page))
    assert send(browser, page, answer).location == DONE
    assert send(browser, page, answer).location == f"{PATH}?done=changed"
    add_second_factor(local)
    replayed = send(browser, page, answer)
    assert replayed.status == 400
    assert LATE in replayed.body
    assert local.read_user().has_second_factor


@pytest.mark.parametrize("change", ["second factor set up again", "passkey removed", "signed out everywhere"])
def test_change_in_between_wins(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, wire: Wire, change: str
) -> None:
    page = open_page(local, browser, authenticator)

    def act() -> None:
        user, store = local.read_user(), local.server.store
        if change == "passkey removed":
            (passkey,) = store.passkeys.scan()
            store.passkeys.delete(passkey.sub, passkey.passkey_id)
        elif change == "signed out everywhere":
            store.users.put(replace(user, sessions_generation=user.sessions_generation + 1))
        else:
            store.users.put(replace(user, totp_generation=user.totp_generation + 1))

    with wire.before("TransactWriteItems", act):
        assert send(browser, page, authenticator.get(options_of(page))).status == 400
    assert local.read_user().has_second_factor
    assert removals(local, alice) == []


def test_user_without_a_passkey_is_asked_for_a_code_alone(local: Site, browser: Browser) -> None:
    local.user("alice")
    phone = add_second_factor(local)
    browser.submit(browser.sign_in(open_sign_in(browser)), one_time_code=phone.code())
    page = browser.get(PATH)
    assert 'value="turn_off"' in page.body
    assert "data-passkey" not in page.body
