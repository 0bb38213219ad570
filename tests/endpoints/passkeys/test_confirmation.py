"""Deleting the account, and downloading the data, confirmed by a passkey instead of the password."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.records import User
from tests.support.account import is_signed_in, sign_in_to_account
from tests.support.authenticator import BE, BS, UP, Authenticator, options_of, sign_in_with_passkey
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.site import PASSWORD, Site

PATHS = {"delete": "/account/delete", "download": "/account/data"}


def open_page(local: Site, browser: Browser, action: str) -> Answer:
    """Sign in with the password, and open the page that asks for a proof."""
    sign_in_to_account(browser)
    local.clock.advance(301)
    return browser.get(PATHS[action])


def send(browser: Browser, page: Answer, answer: dict[str, Any], action: str) -> Answer:
    """Send the form as the script of the page does."""
    fields = {"tag": page.form.fields["tag"], "action": action, "passkey": json.dumps(answer)}
    return browser.post(PATHS[action], fields, {"Sec-Fetch-Site": "same-origin"})


def history(local: Site, user: User) -> list[tuple[str, str | None]]:
    return [(event.name, event.detail) for event in local.server.store.events.find("sub", user.sub)]


def test_account_is_deleted_with_a_passkey(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser, "delete")
    options = options_of(page)
    assert options["userVerification"] == "required"
    assert len(options["allowCredentials"]) == 1
    answer = send(browser, page, authenticator.get(options), "delete")
    assert (answer.status, answer.location) == (303, "/account/restore")
    assert local.read_user().deleted_at == local.clock()
    assert (events.ACCOUNT_DELETED, "passkey") in history(local, alice)
    assert not is_signed_in(browser)
    assert "Restore my account" in browser.get("/account/restore").body


def test_data_is_downloaded_with_a_passkey(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser, "download")
    answer = send(browser, page, authenticator.get(options_of(page)), "download")
    assert answer.json["user"]["username"] == "alice"
    assert (events.DATA_DOWNLOADED, "passkey") in history(local, alice)


def test_user_without_a_password_confirms_with_the_passkey_alone(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    local.server.store.users.put(replace(local.read_user(), password_hash=""))
    account = browser.follow(browser.get("/account"))
    sign_in_with_passkey(browser, account, authenticator)
    page = browser.get("/account/delete")
    assert 'type="password"' not in page.body
    assert "you need JavaScript" in page.body
    assert send(browser, page, authenticator.get(options_of(page)), "delete").location == "/account/restore"


def test_user_with_a_password_can_still_enter_it(local: Site, browser: Browser, alice: User) -> None:
    page = open_page(local, browser, "delete")
    assert "you need JavaScript" not in page.body
    assert browser.send(page, action="delete", password=PASSWORD).location == "/account/restore"


def test_password_that_is_changed_in_between_downloads_nothing(
    local: Site, browser: Browser, alice: User, wire: Wire
) -> None:
    page = open_page(local, browser, "download")

    def change() -> None:
        user = local.read_user()
        local.server.store.users.put(replace(user, password_generation=user.password_generation + 1))

    with wire.before("TransactWriteItems", change):
        answer = browser.send(page, action="download", password=PASSWORD)
    assert (answer.status, "This is not your password." in answer.body) == (400, True)
    assert events.DATA_DOWNLOADED not in dict(history(local, alice))


def test_user_without_a_passkey_sees_the_password_alone(local: Site, browser: Browser) -> None:
    local.user("alice")
    assert "data-passkey" not in open_page(local, browser, "delete").body


@pytest.mark.parametrize("action", PATHS)
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("signature", "The passkey could not be verified."),
        ("not verified", "The passkey could not be verified."),
        ("malformed", "The passkey could not be verified."),
        ("late", "This took too long"),
        ("removed", "This passkey does not belong to an account here."),
        ("sign-in", "This took too long"),
        ("other action", "This took too long"),
    ],
)
def test_passkey_that_proves_nothing_changes_nothing(
    local: Site,
    browser: Browser,
    alice: User,
    authenticator: Authenticator,
    action: str,
    change: str,
    problem: str,
) -> None:
    of_sign_in = options_of(browser.follow(browser.get("/account")))
    page = open_page(local, browser, action)
    other = next(path for name, path in PATHS.items() if name != action)
    options = {"sign-in": of_sign_in, "other action": options_of(browser.get(other))}.get(change, options_of(page))
    answer = authenticator.get(options, flags=UP | BE | BS if change == "not verified" else None)
    if change == "signature":
        answer["signature"] = "AAAA"
    if change == "malformed":
        answer = {"id": "x"}
    if change == "removed":
        local.server.store.passkeys.delete(alice.sub, next(iter(local.server.store.passkeys.scan())).passkey_id)
    if change == "late":
        local.clock.advance(301)
    shown = send(browser, page, answer, action)
    assert shown.status == 400
    assert problem in shown.body
    assert "aria-invalid" not in shown.body, "nothing was wrong with the password"
    assert local.read_user().deleted_at is None
    assert {events.ACCOUNT_DELETED, events.DATA_DOWNLOADED}.isdisjoint(dict(history(local, alice)))


def test_passkey_of_another_user_confirms_nothing(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    local.user("bob")
    sign_in_to_account(browser, "bob")
    local.clock.advance(301)
    page = browser.get("/account/delete")
    assert "data-passkey" not in page.body
    of_alice = options_of(browser.get("/oauth2/authorize", client_id="account", response_type="code", prompt="login"))
    assert send(browser, page, authenticator.get(of_alice), "delete").status == 400
    assert local.read_user("bob").deleted_at is None


def test_same_answer_downloads_once(local: Site, browser: Browser, alice: User, authenticator: Authenticator) -> None:
    page = open_page(local, browser, "download")
    answer = authenticator.get(options_of(page))
    assert send(browser, page, answer, "download").json
    again = send(browser, page, answer, "download")
    assert again.status == 400
    assert "the passkey was used already" in again.body


def test_deletion_that_is_sent_twice_deletes_once(
    local: Site, browser: Browser, browsers: Any, alice: User, authenticator: Authenticator
) -> None:
    page = open_page(local, browser, "delete")
    answer, tab = authenticator.get(options_of(page)), browsers(tab_of=browser)
    assert send(browser, page, answer, "delete").location == "/account/restore"
    assert send(tab, page, answer, "delete").location == "/account/restore"
    assert [name for name, _ in history(local, alice)].count(events.ACCOUNT_DELETED) == 1
