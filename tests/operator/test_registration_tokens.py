"""`signet registration-token …`, and what the operator sees of clients that have registered themselves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.clients.client_lifetime import LIFETIME, UNUSED_LIFETIME
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.handles import secret_hash
from chalicelib.storage.store import Store
from infra.operator.doctor import clients
from tests.endpoints.register.conftest import bearer, manage, record, register, registered
from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site

pytestmark = pytest.mark.usefixtures("with_keys")
CREATE = ("registration-token", "create", "--label", "Partner portal", "--uses", "2", "--days", "30")


@pytest.fixture
def members(site_with: Callable[..., Site], browsers: Callable[..., Browser]) -> dict[str, Any]:
    """The response to an application that has registered itself."""
    return registered(browsers(site_with(client_registration="open")))


def test_token_is_created_used_listed_and_revoked(
    site: Site,
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    run_command: RunCommand,
    store: Store,
) -> None:
    assert run_command("registration-token", "list").out == "There is no registration token.\n"
    created = output_json(run_command(*CREATE, "--json"))
    token = created.pop("initial_access_token")
    site.secrets.add(token)
    assert token.startswith("iat_")
    assert created["expires_at"] - created["created_at"] == 30 * DAY
    assert (created["label"], created["max_uses"], created["uses"]) == ("Partner portal", 2, 0)
    app = browsers(site_with(client_registration="token"))
    assert register(app, bearer(token)).status == 201
    assert output_json(run_command("registration-token", "list", "--json")) == [created | {"uses": 1}]
    assert "Partner portal  1 of 2" in run_command("registration-token", "list").out
    token_id = created["registration_token_id"]
    assert run_command("registration-token", "revoke", token_id, "--yes").out == f"Revoked {token_id}.\n"
    assert register(app, bearer(token)).status == 401
    again = output_json(run_command("registration-token", "revoke", token_id, "--yes", "--json"))
    assert again["revoked_at"] == site.server.store.registration_tokens.get(token_id).revoked_at  # type: ignore[union-attr]
    assert "revoked" in run_command("registration-token", "list").out
    details = [event.detail for event in store.events.scan() if event.name == "client_changed"]
    assert sorted(filter(None, details)) == sorted(
        [f"registration token {token_id} {change}" for change in ("created", "revoked", "revoked")]
    )
    assert not [detail for detail in details if token in (detail or "")]


@pytest.mark.parametrize(
    "arguments",
    [("create", "--days", "91"), ("create", "--days", "0"), ("create", "--uses", "0"), ("create", "--label", "a\x1bb")],
)
def test_bad_options_create_no_token(run_command: RunCommand, store: Store, arguments: tuple[str, ...]) -> None:
    assert run_command("registration-token", *arguments).code == 2
    assert not list(store.registration_tokens.scan())


def test_unknown_token_cannot_be_revoked(run_command: RunCommand, store: Store) -> None:
    result = run_command("registration-token", "revoke", "unknown", "--yes")
    assert (result.code, result.out) == (2, "")
    assert "There is no registration token 'unknown'." in result.err
    assert not list(store.registration_tokens.scan())


def test_list_shows_which_clients_registered_themselves_and_when_they_were_used(
    site: Site, run_command: RunCommand, store: Store, members: dict[str, Any]
) -> None:
    operators = site.client()
    document = output_json(run_command("client", "show", members["client_id"], "--json"))
    assert document["registered_with"] == "open"
    assert document["expires_at"] == document["client_id_issued_at"] + UNUSED_LIFETIME
    assert not [name for name in document if "registration_token" in name or name == "last_used_at"]
    listed = run_command("client", "list").out
    assert "public, registered itself, never used" in listed
    assert "registered itself" not in run_command("client", "show", operators.id).out
    used_at = site.clock() + 3 * DAY
    store.clients.put(replace(record(site, members), expires_at=used_at + LIFETIME))
    assert output_json(run_command("client", "show", members["client_id"], "--json"))["last_used_at"] == used_at
    assert "public, registered itself, last used" in run_command("client", "list").out


def test_operator_deletes_a_client_that_registered_itself(
    site: Site, browser: Browser, run_command: RunCommand, members: dict[str, Any]
) -> None:
    assert run_command("client", "delete", members["client_id"], "--yes").code == 0
    assert not list(site.server.store.clients.scan())
    assert manage(browser, "GET", members).status == 401


def test_doctor_counts_clients_that_registered_themselves_and_judges_only_those_of_the_operator(
    site: Site, store: Store, members: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = replace(record(site, members), redirect_uris=("http://localhost/cb",))
    store.clients.put(client)
    store.clients.put(replace(client, client_id="used", expires_at=site.clock() + LIFETIME))
    site.client()
    findings = list(clients.inspect(store))
    assert [finding.ok for finding in findings] == [True, True]
    assert findings[1].detail == "2 clients have registered themselves; 1 of them have never been used."
    monkeypatch.setattr(clients, "MANY_UNUSED", 0)
    assert [finding.ok for finding in clients.inspect(store)] == [True, False]


@pytest.mark.parametrize("hashes", [True, False], ids=["with hashes", "without"])
def test_export_and_import_keep_a_registration(
    site: Site,
    browser: Browser,
    run_command: RunCommand,
    members: dict[str, Any],
    tmp_path: Path,
    hashes: bool,
) -> None:
    file = tmp_path / "export.jsonl"
    before = record(site, members)
    option = ("--with-password-hashes",) if hashes else ()
    assert run_command("export", *option, "--out", str(file)).code == 0
    token = members["registration_access_token"]
    assert token not in file.read_text()
    assert (secret_hash(token) in file.read_text()) is hashes
    site.server.store.clients.delete(members["client_id"])
    assert run_command("import", str(file)).code == 0
    after = record(site, members)
    kept = before if hashes else replace(before, registration_token_hash=None)
    assert replace(after, registration_id=before.registration_id) == kept
    members["registration_client_uri"] = f"/oauth2/register?client_id={members['client_id']}"
    assert manage(browser, "GET", members).status == (200 if hashes else 401)
    assert run_command("import", str(file)).code == 0, "the same again"
