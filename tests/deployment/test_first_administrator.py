"""The administrator that `deploy` creates, with a random password until it is changed."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from chalicelib.users.registration import register_user
from infra.aws import deploy
from tests.support.faults import Wire
from tests.support.site import Site


def test_password_that_the_administrator_has_just_changed_is_kept(
    site: Site, wire: Wire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    users = site.server.store.users
    administrator = register_user(site.server.store, username=deploy.ADMINISTRATOR, admin=True)[0]
    changed = replace(administrator, password_hash="changed", password_change_required=False)
    monkeypatch.setattr(deploy, "_server", lambda _: site.server)
    with wire.before("UpdateItem", lambda: users.put(changed)):
        deploy.create_keys_and_administrator(cast(deploy.Deployment, SimpleNamespace()))
    assert users.get(administrator.sub) == changed
