"""Password changes, and what happens concurrently to the account, its grants and its sign-ins."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from passlib.hash import argon2

from chalicelib.authentication import passwords
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.records import User
from chalicelib.users.password_change import change_password
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.grants import insert_grant
from tests.support.site import PASSWORD, Site
from tests.support.threads import TIMEOUT, run_concurrently

NEW_PASSWORD = "another pass phrase"
# concurrent change of the user record, and the value of disabled_at before it
CHANGES: dict[str, tuple[dict[str, Any], int | None]] = {
    "the password is rehashed": ({"password_hash": "other"}, None),
    "all sessions are ended": ({"sessions_generation": 1}, None),
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


def test_grant_revoked_concurrently_keeps_its_revocation_time(site: Site, user: User, wire: Wire) -> None:
    grants, earlier = site.server.store.grants, site.clock.time - 5
    grant = insert_grant(site, site.client(), user)
    with wire.before("UpdateItem", lambda: grants.transition((grant.grant_id,), None, {"revoked_at": earlier})):
        change_password(site.server.store, user, NEW_PASSWORD)
    (grant,) = grants.scan()
    assert grant.revoked_at == earlier


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


def test_two_concurrent_password_changes_change_it_once(
    site: Site, browser: Browser, browsers: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, user = site.client(), site.user("root")
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(client), "root")
    assert "new_password" in page.form.fields
    new_passwords = ["new password number 0", "new password number 1"]
    site.secrets.update(new_passwords)
    tabs = [browsers(), browsers()]
    for tab in tabs:
        tab.cookies.update(browser.cookies)
    # Both requests are authorized before one of them writes; the other is signed out by then.
    both, hash_password = threading.Barrier(2, timeout=TIMEOUT), passwords.hash_password

    def hash_together(password: str) -> str:
        both.wait()
        return hash_password(password)

    monkeypatch.setattr(passwords, "hash_password", hash_together)
    answers = run_concurrently(
        partial(tab.submit, page, new_password=new, new_password_again=new)
        for tab, new in zip(tabs, new_passwords, strict=True)
    )
    (winner,) = (answer for answer in answers if answer.status == 200)
    (rejected,) = (answer for answer in answers if answer.status == 303)
    assert "decision" in winner.body
    assert rejected.answer["error"] == "access_denied"
    another = browsers()
    page = another.authorize(client)
    assert "decision" in another.sign_in(page, "root", new_passwords[answers.index(winner)]).body
