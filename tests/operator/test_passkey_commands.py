"""Passkeys for the operator: `user passkey`, export and import, and the doctor's check."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.handles import base64url
from chalicelib.protocol.passkey import Passkey, passkey_id_of, passkey_identifier
from chalicelib.protocol.records import Identifier, User
from chalicelib.storage.store import Store
from chalicelib.users import accounts, passkeys
from infra.operator.doctor import passkeys as doctor
from infra.operator.doctor.stage import Inside
from infra.operator.doctor.visit import Answer
from tests.endpoints.passkeys.conftest import alice, authenticator, browser, local
from tests.support.account import open_sign_in, shows_account_of
from tests.support.authenticator import Authenticator, sign_in_with_passkey
from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site

__all__ = ["alice", "authenticator", "browser", "local"]  # fixtures


def passkey_of(store: Store, user: User) -> Passkey:
    (passkey,) = passkeys.list_passkeys(store, user.sub)
    return passkey


# ---- user passkey


def test_passkeys_of_a_user_are_listed_without_their_keys(store: Store, alice: User, run_command: RunCommand) -> None:
    passkey = passkey_of(store, alice)
    (listed,) = output_json(run_command("user", "passkey", "list", "alice", "--json"))
    assert listed["passkey_id"] == passkey.passkey_id
    assert (listed["rp_id"], listed["backed_up"], listed["name"]) == ("localhost", True, "Passkey")
    assert not {"public_key", "credential_id"} & listed.keys()
    table = run_command("user", "passkey", "list", alice.sub).out
    assert passkey.passkey_id in table
    store.users.put(replace(alice, sub="u-2"))
    assert run_command("user", "passkey", "list", "u-2").out == "This user has no passkey.\n"


def test_a_passkey_is_removed_with_its_identifier_and_an_event(
    store: Store, alice: User, run_command: RunCommand
) -> None:
    passkey = passkey_of(store, alice)
    result = run_command("user", "passkey", "remove", "alice", passkey.passkey_id, "--yes")
    assert (result.code, result.out) == (0, "Removed Passkey of alice.\n")
    assert passkeys.list_passkeys(store, alice.sub) == []
    assert store.identifiers.get(passkey_identifier(passkey.passkey_id)) is None
    history = output_json(run_command("history", "--user", "alice", "--json"))
    assert [event["device"] for event in history if event["name"] == "passkey_removed"] == ["operator"]


def test_all_passkeys_are_removed(store: Store, alice: User, run_command: RunCommand) -> None:
    (removed,) = output_json(run_command("user", "passkey", "remove", "alice", "--all", "--yes", "--json"))
    assert removed["name"] == "Passkey"
    assert passkeys.list_passkeys(store, alice.sub) == []
    again = run_command("user", "passkey", "remove", "alice", "--all")
    assert (again.code, again.out) == (0, "alice has no passkey.\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("alice", "x", "--yes"), "alice has no such passkey."),
        (("nobody", "--all", "--yes"), "There is no user 'nobody'."),
        (("alice",), "Give the ID of a passkey, or --all."),
        (("alice", "x", "--all"), "Give the ID of a passkey, or --all."),
        (("alice", "--all"), "Nothing has been changed."),
    ],
)
def test_removals_that_are_refused(
    store: Store, alice: User, run_command: RunCommand, arguments: tuple[str, ...], text: str
) -> None:
    result = run_command("user", "passkey", "remove", *arguments)
    assert (result.code, text in result.err) == (2, True), result
    assert passkey_of(store, alice)


# ---- export and import


def test_an_imported_passkey_signs_in(
    local: Site,
    store: Store,
    browser: Browser,
    alice: User,
    authenticator: Authenticator,
    run_command: RunCommand,
    tmp_path: Path,
) -> None:
    file = tmp_path / "export.jsonl"
    assert run_command("export", "--with-password-hashes", "--out", file).code == 0
    before = passkey_of(store, alice)
    accounts.delete(store, local.read_user())
    assert run_command("import", file, "--json").code == 0
    assert passkey_of(store, alice) == before
    assert sign_in_with_passkey(browser, open_sign_in(browser), authenticator).status == 303
    assert shows_account_of(browser, "alice")
    again = output_json(run_command("import", file, "--json"))
    assert (again["problems"], again["there"]["passkey"]) == ([], 1), "its counter and last use may differ"


def imported(store: Store, run_command: RunCommand, tmp_path: Path, change: dict[str, Any]) -> Any:
    """Export, change the line of the passkey, delete the passkey, and import; return the result."""
    file = tmp_path / "export.jsonl"
    run_command("export", "--with-password-hashes", "--out", file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [line | change if line["kind"] == "passkey" else line for line in lines]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    for passkey in store.passkeys.scan():
        passkeys.remove(store, passkey)
    return run_command("import", file)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sub": "u-9"}, "its user does not exist"),
        ({"passkey_id": "x"}, "its passkey_id is not that of its credential_id"),
        ({"credential_id": "AA=="}, "its passkey_id is not that of its credential_id"),
        ({"public_key": "AA"}, "its public_key is not one for its alg"),
        ({"public_key": ""}, "its public_key cannot be read"),
        ({"alg": -8}, "its public_key is not one for its alg"),
        ({"name": ""}, "The name must have 1 to 60 printable characters."),
    ],
)
def test_passkeys_that_are_not_valid_are_not_imported(
    store: Store, alice: User, run_command: RunCommand, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    result = imported(store, run_command, tmp_path, change)
    assert (result.code, problem in result.err) == (1, True), result
    assert list(store.passkeys.scan()) == []


def test_a_passkey_of_another_user_is_not_taken(
    store: Store, alice: User, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)
    passkey = passkey_of(store, alice)
    passkeys.remove(store, passkey)
    store.users.put(replace(alice, sub="u-2", username="bob"))
    other = replace(passkey, sub="u-2")
    store.passkeys.put(other)
    key = passkey_identifier(passkey.passkey_id)
    store.identifiers.put(Identifier(key, "u-2"))
    result = run_command("import", file)
    assert "the passkey belongs to another user" in result.err
    assert passkeys.list_passkeys(store, alice.sub) == []


def test_import_warns_of_passkeys_of_another_domain(
    store: Store, alice: User, run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.operator.doctor.inside.public_url", lambda _: "https://login.example.com")
    result = imported(store, run_command, tmp_path, {"rp_id": "old.example.com"})
    text = "1 passkey belongs to old.example.com, not to login.example.com, and cannot be used here"
    assert (result.code, text in result.out) == (0, True), result


# ---- doctor


def add(store: Store, rp_id: str) -> None:
    credential_id = b"id of " + rp_id.encode()
    store.passkeys.put(Passkey("u-1", passkey_id_of(credential_id), base64url(credential_id), "AA", -7, rp_id))


def test_doctor_reports_the_domain_and_how_many_passkeys_belong_to_it(site: Site) -> None:
    add(site.server.store, "login.example.com")
    verdict = doctor.check(Inside(site.server.store), "https://login.example.com")
    assert verdict.ok
    assert verdict.detail == "The domain of the passkeys is login.example.com; 1 are registered."


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8000", "https://[2001:db8::1]", None])
def test_doctor_says_that_there_are_no_passkeys_at_an_address(site: Site, issuer: str | None) -> None:
    verdict = doctor.check(Inside(site.server.store), issuer)
    assert verdict.ok is None
    assert ("Use a domain name." in verdict.detail) is (issuer is not None)


def test_doctor_names_passkeys_of_another_domain(site: Site) -> None:
    add(site.server.store, "old.example.com")
    verdict = doctor.check(Inside(site.server.store), "https://login.example.com")
    assert (verdict.ok, "1 passkeys belong to old.example.com" in verdict.detail) == (False, True)


@pytest.mark.parametrize(
    ("rp_id", "related", "published", "missing"),
    [
        ("example.com", (), None, []),
        ("old.example.org", (), None, ["https://login.example.com"]),
        ("old.example.org", (), ["https://login.example.com"], []),
        (None, ("https://other.example.org",), ["https://login.example.com"], ["https://other.example.org"]),
        (None, ("https://other.example.org",), ["https://other.example.org"], []),
        (None, ("https://other.example.org",), "x", ["https://other.example.org"]),
    ],
)
def test_doctor_reads_which_origins_the_domain_names(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    rp_id: str | None,
    related: tuple[str, ...],
    published: Any,
    missing: list[str],
) -> None:
    requested: list[str] = []

    def ask(_method: str, url: str) -> Answer:
        requested.append(url)
        return Answer(200, {}, json.dumps({"origins": published}).encode())

    monkeypatch.setattr(doctor, "ask", ask)
    store = site.server.store
    monkeypatch.setattr(store, "settings", replace(store.settings, rp_id=rp_id, related_origins=related))
    verdict = doctor.check(Inside(store), "https://login.example.com")
    origins = (*related, "https://login.example.com")
    assert [each for each in origins if f"does not name {each}" in verdict.detail] == missing
    assert bool(verdict.ok) is not bool(missing)
    domain = rp_id or "login.example.com"
    assert requested == ([f"https://{domain}/.well-known/webauthn"] if published is not None or missing else [])
