"""The first account, which `deploy` creates in a terminal only, with a random password until it is changed."""

import re
import sys
from dataclasses import replace

import pytest

from chalicelib.authentication import passwords
from chalicelib.users.registration import register_user
from infra.aws.administrator import ADMINISTRATOR, create_administrator
from tests.support.faults import Wire
from tests.support.site import Site

SHOWN = rf"First account: {ADMINISTRATOR}, password (\S+)"
Captured = pytest.CaptureFixture[str]


def in_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the output that pytest captures a terminal."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


def test_password_is_shown_until_the_administrator_has_changed_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    in_terminal(monkeypatch)
    users, shown = site.server.store.users, list[str]()
    for _ in range(2):
        create_administrator(site.server.store, "prod")
        shown += re.findall(SHOWN, capsys.readouterr().out)
        (user,) = users.scan()
        assert (user.username, user.admin, user.password_change_required) == (ADMINISTRATOR, True, True)
        assert passwords.verify(shown[-1], user.password_hash)
    assert len(set(shown)) == 2
    site.secrets.update(shown)
    users.put(replace(user, password_change_required=False))
    create_administrator(site.server.store, "prod")
    assert capsys.readouterr().out == ""


def test_password_that_the_administrator_has_just_changed_is_kept(
    site: Site, wire: Wire, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    in_terminal(monkeypatch)
    users = site.server.store.users
    administrator = register_user(site.server.store, username=ADMINISTRATOR, admin=True)[0]
    changed = replace(administrator, password_hash="changed", password_change_required=False)
    with wire.before("TransactWriteItems", lambda: users.put(changed)):
        create_administrator(site.server.store, "prod")
    assert users.get(administrator.sub) == changed
    assert capsys.readouterr().out == ""


def test_without_a_terminal_no_account_is_created_and_the_command_for_it_is_printed(
    site: Site, capsys: Captured
) -> None:
    create_administrator(site.server.store, "prod")
    assert list(site.server.store.users.scan()) == []
    printed = capsys.readouterr().out
    assert f"\n  signet user create --username {ADMINISTRATOR} --admin --stage prod\n" in printed
    # The account may exist with a password that was never shown.
    user, password = register_user(site.server.store, username=ADMINISTRATOR, admin=True)
    site.secrets.add(password or "")
    create_administrator(site.server.store, "prod")
    assert site.server.store.users.get(user.sub) == user
    printed = capsys.readouterr().out
    assert f"\n  signet user set-password {ADMINISTRATOR} --stage prod\n" in printed
    assert "First account:" not in printed
