"""Password changes, and what happens concurrently to the account, its grants and its sign-ins."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import pytest
from passlib.hash import argon2

from chalicelib.authentication import passwords
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.records import User
from chalicelib.users.password_change import change_password
from tests.support.account import is_signed_in
from tests.support.browser import Answer, Browser, basic
from tests.support.faults import Wire
from tests.support.site import PASSWORD, Registered, Site
from tests.support.threads import TIMEOUT, run_concurrently

NEW_PASSWORD = "another pass phrase"
# concurrent change of the user record, and the value of disabled_at before it
CHANGES: dict[str, tuple[dict[str, Any], int | None]] = {
    "the password is rehashed": ({"password_hash": "other"}, None),
    "all sessions are ended": ({"sessions_generation": 1}, None),
    "all grants are ended": ({"grants_generation": 1}, None),
    "the account is disabled": ({"disabled_at": 1}, None),
    "the account is enabled and disabled again": ({"disabled_at": 2}, 1),
}


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


@pytest.mark.parametrize("change", CHANGES)
def test_password_is_not_changed_when_concurrently(site: Site, user: User, wire: Wire, change: str) -> None:
    changes, disabled_at = CHANGES[change]
    users = site.server.store.users
    user = replace(user, disabled_at=disabled_at)
    users.put(user)
    with wire.before("TransactWriteItems", lambda: users.put(replace(user, **changes))), pytest.raises(AccessDenied):
        change_password(site.server.store, user, NEW_PASSWORD)
    assert users.get(user.sub) == replace(user, **changes)


def test_password_changed_during_a_sign_in_is_not_overwritten_by_a_rehash(
    site: Site, browser: Browser, user: User, wire: Wire
) -> None:
    """Otherwise the old password would be valid again."""
    users = site.server.store.users
    weak_hash = argon2.using(type="ID", memory_cost=16, time_cost=1, parallelism=1).hash(PASSWORD)
    user = replace(user, password_hash=weak_hash)
    users.put(user)
    page = browser.authorize(site.client(trusted=True))
    with wire.before("UpdateItem", lambda: users.put(replace(user, password_hash="changed"))):
        browser.sign_in(page)
    assert users.get(user.sub) == replace(user, password_hash="changed")


@pytest.mark.parametrize("direct", [False, True])
def test_sign_in_with_the_old_password_yields_no_valid_code_when_it_changes_concurrently(
    site: Site, browser: Browser, user: User, wire: Wire, direct: bool
) -> None:
    client = site.client(trusted=True, direct_sign_in=True)
    page = browser.authorize(client)

    def change() -> None:
        current = site.server.store.users.get(user.sub)
        assert current
        change_password(site.server.store, current, NEW_PASSWORD)

    # The first transaction counts the attempt.
    with wire.before("TransactWriteItems", change, skip=1):
        if direct:
            answer = browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))
            assert "password" in answer.form.fields, "the user must sign in again"
        else:
            assert browser.sign_in(page).answer["error"] == "access_denied"
    assert list(site.server.store.sessions.scan()) == []
    assert list(site.server.store.grants.scan()) == []
    # The attempt stays a failure, and makes nothing known.
    counts = list(site.server.store.attempts.scan())
    assert [count.day_failures for count in counts if count.day_started] == [1, 1]
    assert {count.generation for count in counts} == {None}


def test_sign_in_whose_request_is_answered_in_another_tab_in_between_gets_the_answer_and_the_session(
    site: Site, browser: Browser, browsers: Callable[..., Browser], user: User, wire: Wire
) -> None:
    client = site.client(trusted=True)
    page = browser.authorize(client)
    tab = browsers(tab_of=browser)
    # The transactions count the attempt, store the session, and store the grant.
    with wire.before("TransactWriteItems", partial(tab.sign_in, page), skip=2):
        assert browser.redeem(client, browser.sign_in(page).code).status == 200
    assert is_signed_in(browser)
    assert browser.cookies["signet-session"] == tab.cookies["signet-session"]
    assert len([*site.server.store.grants.scan()]) == 2


# ---- two changes


@contextmanager
def hashing_together() -> Iterator[None]:
    """Have two requests wait for each other before they hash a new password, and so before they write."""
    both, hash_password = threading.Barrier(2, timeout=TIMEOUT), passwords.hash_password

    def wait_and_hash(password: str) -> str:
        both.wait()
        return hash_password(password)

    with mock.patch.object(passwords, "hash_password", wait_and_hash):
        yield


def change_own_password(tab: Browser, new_password: str) -> Callable[[], Answer]:
    """Return the function that changes the password on the account page, which is shown now."""
    tab.site.secrets.add(new_password)
    return partial(
        tab.send,
        tab.get("/account/password"),
        action="change_password",
        password=PASSWORD,
        new_password=new_password,
        new_password_again=new_password,
    )


def can_sign_in(browser: Browser, client: Registered, password: str) -> bool:
    """Return whether the user can sign in with a password, in a browser without a session."""
    return browser.sign_in(browser.authorize(client), password=password).status == 303


def test_two_concurrent_password_changes_change_it_once(
    site: Site, browser: Browser, browsers: Callable[..., Browser]
) -> None:
    client, user = site.client(), site.user("root")
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(client), "root")
    assert "new_password" in page.form.fields
    new_passwords = ["new password number 0", "new password number 1"]
    site.secrets.update(new_passwords)
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    # Both requests are authorized before one of them writes; the other is signed out by then.
    actions = [
        partial(tab.submit, page, new_password=new, new_password_again=new)
        for tab, new in zip(tabs, new_passwords, strict=True)
    ]
    with hashing_together():
        answers = run_concurrently(actions)
    (winner,) = (answer for answer in answers if answer.status == 200)
    (rejected,) = (answer for answer in answers if answer.status == 303)
    assert "decision" in winner.body
    assert rejected.answer["error"] == "access_denied"
    another = browsers()
    page = another.authorize(client)
    assert "decision" in another.sign_in(page, "root", new_passwords[answers.index(winner)]).body


def test_two_new_passwords_at_the_same_time_in_two_tabs_change_it_to_the_acknowledged_one(
    site: Site,
    browser: Browser,
    browsers: Callable[..., Browser],
    user: User,
) -> None:
    client = site.client(trusted=True)
    tokens, second_browser = browser.tokens(client), browsers()
    second_browser.tokens(client)
    new_passwords = ["new password number 0", "new password number 1"]
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    actions = [change_own_password(tab, new) for tab, new in zip(tabs, new_passwords, strict=True)]
    with hashing_together():
        answers = run_concurrently(actions)
    assert sorted(answer.status for answer in answers) == [303, 400]
    winner = [answer.status for answer in answers].index(303)
    assert is_signed_in(tabs[winner])
    assert not is_signed_in(second_browser)
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert [can_sign_in(browsers(), client, new) for new in new_passwords] == [winner == 0, winner == 1]


def test_password_form_that_is_sent_twice_changes_the_password_once(
    site: Site, browser: Browser, browsers: Callable[..., Browser], user: User
) -> None:
    client = site.client(trusted=True)
    browser.tokens(client)
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    actions = [change_own_password(tab, NEW_PASSWORD) for tab in tabs]
    with hashing_together():
        answers = run_concurrently(actions)
    assert [answer.status for answer in answers] == [303, 303]
    assert [is_signed_in(tab) for tab in tabs] == [True, True]
    changed = site.server.store.users.get(user.sub)
    assert changed
    assert changed.grants_generation == user.grants_generation + 1
    assert changed.password_generation == user.password_generation + 1
    # No attempt counts as a failure, and this browser stays known.
    counts = list(site.server.store.attempts.scan())
    assert {(count.failures, count.hour_failures, count.day_failures) for count in counts} == {(0, 0, 0)}
    known_by = [count.generation for count in counts if count.generation is not None]
    assert known_by == [user.password_generation + 1]


def test_passwords_changed_in_two_browsers_at_the_same_time_leave_one_signed_in(
    site: Site, browser: Browser, browsers: Callable[..., Browser], user: User
) -> None:
    client = site.client(trusted=True)
    both = [browser, browsers()]
    for each in both:
        each.tokens(client)
    new_passwords = ["new password number 0", "new password number 1"]
    actions = [change_own_password(each, new) for each, new in zip(both, new_passwords, strict=True)]
    with hashing_together():
        answers = run_concurrently(actions)
    changed = [answer.status == 303 for answer in answers]
    assert sorted(changed) == [False, True]
    assert [is_signed_in(each) for each in both] == changed
    assert [can_sign_in(browsers(), client, new) for new in new_passwords] == changed


@pytest.mark.parametrize("read", ["before the user is read", "after the user is read"])
@pytest.mark.parametrize("change", ["sign out", "sign in again", "sign out all other browsers", "the other browser"])
def test_own_password_is_changed_or_refused_when_the_session_changes_concurrently(
    site: Site, browser: Browser, browsers: Callable[..., Browser], user: User, wire: Wire, change: str, read: str
) -> None:
    client = site.client(trusted=True)
    tokens, second_browser = browser.tokens(client), browsers()
    second_browser.tokens(client)
    tab = browsers(tab_of=browser)

    def sign_out_others(each: Browser) -> Callable[[], Answer]:
        return partial(each.send, each.get("/account/password"), action="sign_out_others")

    changes: dict[str, Callable[[], Answer]] = {
        "sign out": partial(tab.send, tab.get("/oauth2/logout"), decision="sign_out"),
        "sign in again": partial(tab.sign_in, tab.authorize(client, prompt="login")),
        "sign out all other browsers": sign_out_others(tab),
        "the other browser": sign_out_others(second_browser),
    }
    send = change_own_password(browser, NEW_PASSWORD)
    # The first batch reads the session, the second one the user and the counts; a transaction counts the attempt.
    operation, skip = ("BatchGetItem", 1) if read.startswith("before") else ("TransactWriteItems", 0)
    with wire.before(operation, changes[change], skip=skip):
        changed = send().status == 303
    session_stays = change in ("sign in again", "sign out all other browsers")
    assert changed == (change == "sign out all other browsers" and read.startswith("before"))
    assert can_sign_in(browsers(), client, NEW_PASSWORD if changed else PASSWORD)
    assert is_signed_in(browser if changed else tab) == session_stays
    assert (browser.refresh(client, tokens["refresh_token"]).status == 200) == (session_stays and not changed)
    assert is_signed_in(second_browser) == (change != "sign out all other browsers")
