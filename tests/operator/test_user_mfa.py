"""The second factor in the operator's commands: reset, show, unlock, export and import."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.authentication import second_factor
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.second_factor import SECOND_FACTOR_FIELDS
from infra.operator.doctor.sign_ins import requirements
from infra.operator.doctor.stage import Inside
from tests.support.account import is_signed_in, sign_in_to_account
from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.second_factor import REFEDS, add_second_factor, enter_password, is_code_page, sign_in_with_code
from tests.support.site import Site

pytestmark = pytest.mark.usefixtures("with_keys", "import_with_keys")


@pytest.fixture
def import_with_keys(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the import use the store of the site, which has the key of its key ring."""
    monkeypatch.setattr("infra.operator.transfer.open_store", lambda _stage: nullcontext(site.server.store))


def test_reset_removes_the_second_factor_and_ends_all_sessions(
    site: Site, browser: Browser, run_command: RunCommand
) -> None:
    user = site.user("alice")
    client = site.client(trusted=True)
    sign_in_to_account(browser)
    assert is_signed_in(browser)
    add_second_factor(site)
    reset = run_command("user", "mfa", "reset", "alice", "--yes")
    assert reset.code == 0, reset.err
    assert "Removed the second factor of alice" in reset.out
    assert not is_signed_in(browser)
    current = site.read_user()
    assert not current.has_second_factor
    assert (current.totp_secret, current.recovery_codes) == (None, frozenset())
    assert current.sessions_generation == user.sessions_generation + 1
    assert "code" in enter_password(browser, client).answer
    events = [event for event in site.server.store.events.scan() if event.name == "second_factor_removed"]
    assert [event.detail for event in events] == ["by the operator"]
    again = run_command("user", "mfa", "reset", "alice", "--yes")
    assert again.code == 0
    assert "alice has no second factor" in again.out
    assert site.read_user() == current, "and the sessions go on"
    assert run_command("user", "mfa", "reset", "unknown", "--yes").code == 2


def test_reset_asks_before_it_changes_anything(site: Site, run_command: RunCommand) -> None:
    site.user("alice")
    add_second_factor(site)
    assert run_command("user", "mfa", "reset", "alice").code != 0
    assert site.read_user().has_second_factor


def test_user_show_says_which_factors_there_are_and_no_secret(site: Site, run_command: RunCommand) -> None:
    site.user("alice")
    assert "second_factors" not in output_json(run_command("user", "show", "alice", "--json"))
    add_second_factor(site)
    shown = output_json(run_command("user", "show", "alice", "--json"))
    assert shown["second_factors"] == ["totp"]
    assert shown["recovery_codes_left"] == 10
    assert not set(SECOND_FACTOR_FIELDS) - {"totp_confirmed_at"} & set(shown)


def test_unlock_forgets_wrong_codes(site: Site, browser: Browser, run_command: RunCommand) -> None:
    site.user("alice")
    phone, client = add_second_factor(site), site.client(trusted=True)
    page = enter_password(browser, client)
    for _ in range(second_factor.ATTEMPTS):
        page = browser.submit(page, one_time_code="000000")
    assert browser.submit(page, one_time_code=phone.code()).status == 429
    assert run_command("user", "unlock", "alice").code == 0
    assert "code" in browser.submit(page, one_time_code=phone.code()).answer


def export(run_command: RunCommand, path: Path, *options: str) -> dict[str, Any]:
    """Export to a file; return the line of the only user."""
    assert run_command("export", "--out", str(path), *options).code == 0
    (line,) = [line for line in map(json.loads, path.read_text().splitlines()) if line["kind"] == "user"]
    return dict(line)


def test_import_into_the_same_stage_keeps_the_second_factor(
    site: Site, browser: Browser, run_command: RunCommand, tmp_path: Path
) -> None:
    site.user("alice")
    phone, client = add_second_factor(site), site.client(trusted=True)
    before, path = site.read_user(), tmp_path / "export.jsonl"
    export(run_command, path, "--with-password-hashes")
    site.server.store.users.delete(before.sub)
    site.server.store.identifiers.delete("username:alice")
    imported = run_command("import", str(path))
    assert imported.code == 0, imported.err
    assert all(getattr(site.read_user(), name) == getattr(before, name) for name in SECOND_FACTOR_FIELDS[:-1])
    assert "code" in sign_in_with_code(browser, client, phone).answer


def test_import_without_the_key_leaves_the_second_factor_out_and_says_so(
    site: Site, browser: Browser, run_command: RunCommand, tmp_path: Path
) -> None:
    site.user("alice")
    add_second_factor(site)
    before, path = site.read_user(), tmp_path / "export.jsonl"
    assert before.totp_secret
    damaged = replace(before, totp_secret=bytes([1]) + bytes(40))  # as sealed in another stage
    site.server.store.users.put(damaged)
    export(run_command, path, "--with-password-hashes")
    site.server.store.users.delete(before.sub)
    site.server.store.identifiers.delete("username:alice")
    imported = run_command("import", str(path))
    assert imported.code == 0, imported.err
    assert "Without the second factor, 1" in imported.out + imported.err
    assert "alice" in imported.out + imported.err
    user = site.read_user()
    assert (user.totp_secret, user.totp_confirmed_at, user.recovery_codes) == (None, None, frozenset())
    assert not is_code_page(enter_password(browser, site.client(trusted=True)))


def test_export_without_password_hashes_has_no_second_factor(
    site: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    site.user("alice")
    add_second_factor(site)
    assert not set(export(run_command, tmp_path / "export.jsonl")) & set(SECOND_FACTOR_FIELDS)


@pytest.mark.parametrize("value", ["not base64!", 5, ["a"]])
def test_malformed_secret_in_an_export_is_rejected_with_its_line(
    site: Site, run_command: RunCommand, tmp_path: Path, value: Any
) -> None:
    site.user("alice")
    path = tmp_path / "export.jsonl"
    export(run_command, path, "--with-password-hashes")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [line | ({"totp_secret": value} if line["kind"] == "user" else {}) for line in lines]
    path.write_text("\n".join(map(json.dumps, changed)))
    site.server.store.users.delete(site.read_user().sub)
    site.server.store.identifiers.delete("username:alice")
    imported = run_command("import", str(path))
    assert imported.code == 1
    assert "line" in imported.out + imported.err
    assert not list(site.server.store.users.scan())


def test_scope_can_require_an_acr(site: Site, run_command: RunCommand) -> None:
    assert run_command("scope", "set", "payments", "Pay", "--acr", REFEDS).code == 0
    scope = site.server.store.scopes.get("payments")
    assert scope is not None
    assert scope.acr == REFEDS
    assert output_json(run_command("scope", "list", "--json")) == [
        {"scope": "payments", "description": "Pay", "acr": REFEDS}
    ]
    assert run_command("scope", "set", "payments", "Pay more").code == 0
    kept = site.server.store.scopes.get("payments")
    assert kept is not None
    assert kept.acr == REFEDS
    assert run_command("scope", "set", "payments", "Pay", "--acr", "").code == 0
    again = site.server.store.scopes.get("payments")
    assert again is not None
    assert again.acr is None
    assert run_command("scope", "set", "payments", "Pay", "--acr", "a b").code == 2


def test_deletion_takes_the_second_factor_along(site: Site, run_command: RunCommand) -> None:
    site.user("alice")
    add_second_factor(site)
    assert run_command("user", "delete", "alice", "--yes").code == 0
    assert not list(site.server.store.users.scan())


def test_doctor_names_what_no_sign_in_reaches(site: Site) -> None:
    client = site.client(require_acr="urn:misspelled")
    site.client(require_acr=REFEDS)
    site.server.store.scopes.put(Scope("payments", "Pay", acr="urn:other"))
    verdict = requirements(Inside(site.server.store))
    assert verdict.ok is False
    assert f"The client {client.id} requires urn:misspelled" in verdict.detail
    assert "The scope payments requires urn:other" in verdict.detail
    assert REFEDS in verdict.fix
    site.server.store.scopes.delete("payments")
    site.server.store.clients.delete(client.id)
    assert requirements(Inside(site.server.store)).ok is True


def test_doctor_reads_the_setting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.client(require_acr=REFEDS)
    monkeypatch.setenv("SIGNET_MFA", "off")
    assert requirements(Inside(site.server.store)).ok is False
