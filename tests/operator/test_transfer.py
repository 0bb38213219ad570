"""Export and import: a round trip, users of other servers, and no partial records."""

import base64
import hashlib
import json
import unicodedata
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from argon2.low_level import Type, hash_secret_raw

from chalicelib.authentication import passwords
from chalicelib.clients import document_control, registration
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import BLOCKED_HOSTS, NEVER, BlockedHosts, ClientDocument
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.key_set import KeySet, key_set_id
from chalicelib.protocol.records import Consent, Event, Identifier, User
from chalicelib.sessions.connected_applications import forget_consent
from chalicelib.storage.store import Store
from chalicelib.users import accounts
from infra.operator import transfer
from infra.operator.transfer import exporting
from infra.operator.transfer.insertion import insert_record
from infra.operator.transfer.shared_records import Outcome
from tests.support.assertions import key_client, key_pair, signed
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.operator import TERMINAL_CONTROL_CHARACTERS, RunCommand
from tests.support.resource_servers import register_resource
from tests.support.site import PASSWORD, Site

SALT = b"0123456789abcdef"


@pytest.fixture
def filled(site: Site, store: Store) -> Site:
    """Return a site with two users, one of them disabled, a confidential and a public client, and a consent."""
    alice = site.user(claims={"name": "Алиса", "email": "alice@example.com", "address": {"locality": "Zürich"}})
    bob = site.user("bob", password=None, admin=True)
    store.users.put(replace(bob, disabled_at=1))
    client = site.client(client_id="print", access_token_lifetime=300, default_scope="openid").record
    site.client(client_id="app", redirect_uris=["com.example.app:/cb"], public=True)
    scope = frozenset({"openid", "email"})
    store.consents.put(Consent(alice.sub, client.client_id, scope, site.clock(), **copies_of(alice, client)))
    return site


INTERNAL = {
    "client": {"registration_id", "grants_generation"},
    "user": {"sessions_generation", "grants_generation", "consents_generation", "password_generation"},
    "consent": {"generation", "consents_generation", "registration_id", "client_generation"},
}


def all_records(store: Store) -> list[Any]:
    """Return all records without the fields that an import sets to new values."""
    tables: list[Any] = [store.clients, store.users, store.identifiers, store.consents]
    return [
        {
            name: value
            for name, value in vars(record).items()
            if name not in INTERNAL.get(type(record).__name__.lower(), ())
        }
        for table in tables
        for record in sorted(table.scan(), key=lambda record: getattr(record, table.key[0]))
    ]


def copies_of(user: User, client: Client) -> dict[str, Any]:
    """Return the copies in a consent that counts."""
    return {
        "consents_generation": user.consents_generation,
        "registration_id": client.registration_id,
        "client_generation": client.grants_generation,
    }


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


# ---- the export format


def test_export_with_hashes_is_imported_unchanged(
    filled: Site, store: Store, run_command: RunCommand, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    before = all_records(store)
    assert run_command("export", "--with-password-hashes", "--out", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    filled.reset()
    printed = run_command("import", file)
    assert (printed.code, printed.err) == (0, "")
    assert printed.out == "Added: 2 clients, 2 users, 1 consent. Already existing: none.\n"
    assert all_records(store) == before
    # The passwords are unchanged.
    client = filled.client(client_id="other")
    assert browser.sign_in(browser.authorize(client)).status == 200
    assert "Photo Print" in browser.authorize(client).body


def test_export_without_hashes_lists_missing_credentials_at_the_import(
    filled: Site, store: Store, run_command: RunCommand, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)
    for user in store.users.scan():
        assert user.password_hash not in file.read_text()
    for client in store.clients.scan():
        assert not any(hashed in file.read_text() for hashed in client.secret_hashes)
    filled.reset()
    printed = run_command("import", file)
    assert printed.code == 0
    assert "Without a password, 2 (" in printed.out
    assert "Without a secret, 1 (`signet client rotate-secret`):\n  print\n" in printed.out
    # The old password is rejected, and no other one is set.
    refused = browser.sign_in(browser.authorize(filled.client(client_id="other")))
    assert refused.status == 400
    assert all(user.password_change_required for user in store.users.scan())


SIGNED: dict[str, Any] = {
    "require_signed_request_object": True,
    "request_object_signing_alg": "ES256",
    "introspection_signed_response_alg": "EdDSA",
}


def test_keys_of_a_client_are_exported_and_imported_without_a_secret(
    site: Site, store: Store, run_command: RunCommand, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    client = key_client(site, client_id="reports", require_pushed_authorization_requests=True, **SIGNED)
    before = all_records(store)
    run_command("export", "--out", file)
    site.reset()
    printed = run_command("import", file)
    assert (printed.code, "Without a secret" in printed.out) == (0, False)
    assert all_records(store) == before
    assert browser.post("/oauth2/revoke", {"token": "x", **signed(site, client)}).status == 200
    assert run_command("import", file).out.startswith("Added: none.")
    private = key_pair("ES256", "another").private_jwk
    file.write_text(
        file.read_text().replace(json.dumps(key_pair().jwk["x"])[1:-1], f'{private["x"]}","d":"{private["d"]}')
    )
    site.reset()
    refused = run_command("import", file)
    assert (refused.code, list(store.clients.scan())) == (1, [])
    assert "private or symmetric" in refused.err


def test_export_writes_the_same_to_standard_output_and_to_a_file(
    filled: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)
    assert run_command("export").out.splitlines()[1:] == file.read_text().splitlines()[1:]
    first, *records, last = lines(file)
    assert (first["kind"], first["version"], first["stage"], first["hashes"]) == ("signet", 1, "test", False)
    assert [record["kind"] for record in records] == ["client", "client", "user", "user", "consent"]
    assert last == {"kind": "end", "records": 5}


def test_second_import_skips_existing_records(
    filled: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)
    before = all_records(store)
    printed = run_command("import", file)
    assert (printed.code, printed.out) == (0, "Added: none. Already existing: 2 clients, 2 users, 1 consent.\n")
    assert all_records(store) == before


def test_interrupted_import_is_completed_by_the_next(
    filled: Site, store: Store, run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--with-password-hashes", "--out", file)
    before = all_records(store)
    filled.reset()

    def interrupted(store: Store, record: Any) -> Outcome:
        if isinstance(record, User):
            raise TemporarilyUnavailable
        return insert_record(store, record)

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "insert_record", interrupted)
        printed = run_command("import", file)
    assert printed.code == 2
    assert printed.err.startswith("Stopped at line 4 because DynamoDB does not respond. Run the import again")
    assert run_command("import", file).out == "Added: 2 users, 1 consent. Already existing: 2 clients.\n"
    assert all_records(store) == before


def test_import_interrupted_by_the_operator_says_how_to_continue(
    filled: Site, run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)

    def interrupted(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "insert_record", interrupted)
    printed = run_command("import", file)
    assert (printed.code, printed.err) == (2, "Interrupted. Run the import again: existing records are skipped.\n")


def test_interrupted_export_does_not_change_the_file(
    filled: Site, run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.jsonl"
    file.write_text("previous export")

    def fail(*_: object) -> str:
        raise TemporarilyUnavailable("DynamoDB does not answer.")

    monkeypatch.setattr(exporting, "record_line", fail)
    assert run_command("export", "--out", file).code == 2
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("export.jsonl", "previous export")]


def test_export_does_not_write_to_an_existing_temporary_file(
    filled: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    """The file may belong to another user, or to another export to the same target."""
    file, beside = tmp_path / "export.jsonl", tmp_path / "export.jsonl.part"
    beside.write_text("another user's")
    beside.chmod(0o666)
    assert run_command("export", "--with-password-hashes", "--out", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert beside.read_text() == "another user's"


def test_import_never_changes_existing_records(
    filled: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--with-password-hashes", "--out", file)
    for user in store.users.scan():
        store.users.put(replace(user, claims={"email": "new@example.com"}))
    for client in store.clients.scan():
        store.clients.put(replace(client, client_name="Another"))
    for consent in store.consents.scan():
        store.consents.put(replace(consent, scope=frozenset({"openid"})))
    before = all_records(store)
    printed = run_command("import", file)
    assert printed.code == 1
    assert len(printed.err.splitlines()) == 5
    assert "line 2: a different client" in printed.err
    assert "exists with other data and was not changed" in printed.err
    assert all_records(store) == before


def test_password_changed_since_the_export_is_no_conflict(
    filled: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--with-password-hashes", "--out", file)
    for user in store.users.scan():
        store.users.put(replace(user, password_hash=passwords.hash_password("another one"), sessions_generation=3))
    before = all_records(store)
    assert run_command("import", file).code == 0
    assert all_records(store) == before


# ---- what has ended


def whole_user(store: Store, username: str) -> User:
    return next(user for user in store.users.scan() if user.username == username)


def test_export_leaves_out_what_says_which_grants_are_valid(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path
) -> None:
    for kind, names in INTERNAL.items():
        table: Any = getattr(store, f"{kind}s")
        assert names <= {field.name for field in fields(next(iter(table.scan())))}
    run_command("export", "--out", tmp_path / "export.jsonl")
    for line in lines(tmp_path / "export.jsonl"):
        assert not [name for name in line if "generation" in name or name == "registration_id"]


@pytest.mark.parametrize(
    "what",
    ["removed", "all of the user", "all of the client", "client registered again", "client deleted", "playground"],
)
def test_consent_that_no_longer_counts_is_not_exported(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path, what: str
) -> None:
    (consent,), client, alice = store.consents.scan(), store.clients.get("print"), whole_user(store, "alice")
    assert client
    match what:
        case "removed":
            store.consents.write(forget_consent(store, alice.sub, "print"))
        case "all of the user":
            accounts.end_all_grants(store, alice)
        case "all of the client":
            registration.end_all_grants(store, client)
        case "client registered again":
            store.clients.put(replace(client, registration_id="another"))
        case "client deleted":
            store.clients.delete("print")
        case "playground":
            store.consents.delete(alice.sub, "print")
            store.consents.put(replace(consent, client_id="playground", registration_id=None))
    run_command("export", "--out", tmp_path / "export.jsonl")
    assert "consent" not in [line["kind"] for line in lines(tmp_path / "export.jsonl")]


def test_many_consents_are_exported_in_batches(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path, wire: Wire
) -> None:
    (consent,) = store.consents.scan()
    alice, client = whole_user(store, "alice"), store.clients.get("print")
    assert client
    for number in range(150):
        sub = f"u-{number:03}"
        store.users.put(replace(alice, sub=sub))
        store.consents.put(replace(consent, sub=sub, generation=number % 2))
    with wire.counted() as calls:
        run_command("export", "--out", tmp_path / "export.jsonl")
    exported = [line["sub"] for line in lines(tmp_path / "export.jsonl") if line["kind"] == "consent"]
    assert sorted(exported) == sorted([alice.sub, *(f"u-{number:03}" for number in range(150))])
    assert calls.count("BatchGetItem") == 4


def test_imported_client_has_a_new_registration_id(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path
) -> None:
    """Grants to the client that was deleted stay ended."""
    before = store.clients.get("print")
    run_command("export", "--out", tmp_path / "export.jsonl")
    run_command("client", "delete", "print", "--yes")
    run_command("import", tmp_path / "export.jsonl")
    after = store.clients.get("print")
    assert before
    assert after
    assert after.registration_id not in (None, before.registration_id)


def test_imported_user_has_new_generations_and_nothing_of_a_deleted_one(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path
) -> None:
    alice = whole_user(store, "alice")
    run_command("export", "--out", tmp_path / "export.jsonl")
    store.users.delete(alice.sub)
    store.identifiers.delete(username_identifier("alice"))
    store.consents.put(Consent(alice.sub, "app", generation=3))
    store.events.put(Event(alice.sub, "1.x", "sign_in", 1, 2**40))
    assert run_command("import", tmp_path / "export.jsonl").out.startswith("Added: 1 user, 1 consent.")
    imported = whole_user(store, "alice")
    assert imported.sub == alice.sub
    for name in INTERNAL["user"]:
        assert getattr(imported, name) not in (0, getattr(alice, name))
    assert list(store.events.scan()) == []
    client = store.clients.get("print")
    assert client
    (consent,) = store.consents.scan()
    assert (consent.client_id, consent.generation) == ("print", 0)
    assert consent == consent.valid_for(imported, client), "it is remembered"


def test_import_keeps_the_history_and_the_consents_of_an_existing_user(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path
) -> None:
    alice = whole_user(store, "alice")
    run_command("export", "--out", tmp_path / "export.jsonl")
    store.consents.put(Consent(alice.sub, "app", generation=3))
    store.events.put(Event(alice.sub, "1.x", "sign_in", 1, 2**40))
    before = [*store.consents.scan(), *store.events.scan(), *store.users.scan()]
    assert run_command("import", tmp_path / "export.jsonl").code == 0
    assert [*store.consents.scan(), *store.events.scan(), *store.users.scan()] == before


def test_import_whose_username_is_taken_deletes_nothing_of_an_existing_user(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path
) -> None:
    run_command("export", "--out", tmp_path / "export.jsonl")
    bob = whole_user(store, "bob")
    store.events.put(Event(bob.sub, "1.x", "sign_in", 1, 2**40))
    store.identifiers.put(Identifier(username_identifier("bob"), "another"))
    assert "the username bob belongs to another user" in run_command("import", tmp_path / "export.jsonl").err
    assert whole_user(store, "bob") == bob
    assert [event.sub for event in store.events.scan()] == [bob.sub]


@pytest.mark.parametrize("what", ["user", "client"])
def test_consent_is_not_imported_when_all_grants_are_ended_at_the_same_time(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path, wire: Wire, what: str
) -> None:
    run_command("export", "--out", tmp_path / "export.jsonl")
    alice, client = whole_user(store, "alice"), store.clients.get("print")
    assert client
    store.consents.delete(alice.sub, "print")

    def end_all_grants() -> object:
        return accounts.end_all_grants(store, alice) if what == "user" else registration.end_all_grants(store, client)

    # The transactions before are those of the two users.
    with wire.before("TransactWriteItems", end_all_grants, skip=2):
        result = run_command("import", tmp_path / "export.jsonl")
    assert "was not added, because its user or client was changed at the same time" in result.err
    assert list(store.consents.scan()) == []
    assert run_command("import", tmp_path / "export.jsonl").out.startswith("Added: 1 consent.")


@pytest.mark.parametrize(
    "arguments", [("--user", "alice"), ("--client", "print"), ("--user", "alice", "--client", "print")]
)
def test_import_does_not_add_a_consent_again_that_was_removed_since_the_export(
    filled: Site, run_command: RunCommand, store: Store, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run_command("export", "--out", tmp_path / "export.jsonl")
    run_command("grant", "revoke", *arguments, "--yes")
    before = list(store.consents.scan())
    result = run_command("import", tmp_path / "export.jsonl")
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert result.err.endswith("to print was removed since, and was not added again\n")
    assert list(store.consents.scan()) == before


def test_import_ignores_the_generations_in_a_file(run_command: RunCommand, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    records = [USER | {"sessions_generation": 7, "password_generation": 7}, CLIENT | {"registration_id": "r"}]
    consent = {"kind": "consent", "sub": "u-1", "client_id": "c-1", "scope": ["openid"], "generation": 5}
    ends = {"kind": "signet", "version": 1}, {"kind": "end", "records": 3}
    file.write_text("\n".join(json.dumps(line) for line in [ends[0], *records, consent, ends[1]]))
    assert run_command("import", file).out.startswith("Added: 1 user, 1 client, 1 consent.")
    (user,), (client,), (stored,) = store.users.scan(), store.clients.scan(), store.consents.scan()
    assert 7 not in (user.sessions_generation, user.password_generation)
    assert client.registration_id != "r"
    assert (stored.generation, stored.valid_for(user, client)) == (0, stored)
    assert run_command("import", file).out.startswith("Added: none. Already existing: 1 user, 1 client, 1 consent.")


def test_user_of_another_server_has_random_generations(run_command: RunCommand, store: Store, tmp_path: Path) -> None:
    run_command("import", "--format", "keycloak", realm(tmp_path / "realm.json", {"id": "k-1", "username": "alice"}))
    (user,) = store.users.scan()
    assert 0 not in (user.sessions_generation, user.grants_generation, user.consents_generation)
    assert user.password_generation != 0


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else [1]


USER = {"kind": "user", "sub": "u-1", "username": "dora", "claims": {}}
CLIENT = {"kind": "client", "client_id": "c-1", "client_name": "C", "redirect_uris": ["https://c.example/cb"]}
PROBLEMS: list[tuple[str, Any, str]] = [
    ("no JSON", "{", "it is not JSON"),
    ("a list", [], "its kind is None"),
    ("an unknown kind", {"kind": "grant"}, "its kind is 'grant'"),
    ("an unknown member", USER | {"shoe_size": 42}, "shoe_size is not a member of a user"),
    ("a member that is missing", {"kind": "user", "sub": "u-1", "claims": {}}, "username is missing"),
    ("a number for a name", USER | {"username": 1}, "username cannot be 1"),
    ("a boolean for a number", USER | {"created_at": True}, "created_at cannot be true"),
    ("a fraction", USER | {"claims": {"height": 1.5}}, "1.5 is not an integer"),
    ("no name", USER | {"username": " "}, "The username must have"),
    ("a control character in the name", USER | {"username": "a\nb"}, "The username must have"),
    ("a sub beyond ASCII", USER | {"sub": "ü"}, "its sub is not"),
    ("a sub that is too long", USER | {"sub": "s" * 256}, "its sub is not"),
    (
        "a sub that is a client_id of the playground",
        USER | {"sub": "playground"},
        "its sub is the client_id of a client",
    ),
    (
        "a sub that is a client_id of the account page",
        USER | {"sub": "account"},
        "its sub is the client_id of a client",
    ),
    ("an unknown hash", USER | {"password_hash": "plain"}, "its password_hash has an unknown format"),
    ("a number that is too long", USER | {"claims": {"height": 10**38}}, "a number of more than 38 digits"),
    ("a time that is too long", USER | {"created_at": -(10**38)}, "a number of more than 38 digits"),
    ("invalid Unicode", USER | {"claims": {"name": "\ud800"}}, "text that is not valid Unicode"),
    ("claims that are too deep", USER | {"claims": {"a": nested(40)}}, "in more than 16 levels"),
    ("claims that are far too deep", USER | {"claims": {"a": nested(300)}}, "in more than 16 levels"),
    ("claims that are too large", USER | {"claims": {"name": "n" * 200_000}}, "its claims are too large"),
    ("a redirect URI that is not acceptable", CLIENT | {"redirect_uris": ["http://c.example"]}, "must be https"),
    ("no redirect URI", CLIENT | {"redirect_uris": []}, "Register 1 to 20"),
    ("a text for a list of addresses", CLIENT | {"redirect_uris": "https://c.example/cb"}, "redirect_uris cannot be"),
    ("a consent of an unknown user", {"kind": "consent", "sub": "u-9", "client_id": "c-1"}, "its user does not exist"),
    (
        "a consent for an unknown client",
        {"kind": "consent", "sub": "there", "client_id": "c-9"},
        "client does not exist",
    ),
    ("a consent without a user", {"kind": "consent", "sub": "", "client_id": "c-1"}, "client_id is invalid"),
    ("a name that is taken", USER | {"username": "ALICE"}, "the username ALICE belongs to another user"),
    ("a sub that is taken", USER | {"sub": "there"}, "the sub there belongs to a user with another username"),
]


@pytest.mark.parametrize(("what", "record", "problem"), PROBLEMS, ids=[what for what, _, _ in PROBLEMS])
def test_problem_is_reported_with_its_line_and_other_records_are_imported(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path, what: str, record: Any, problem: str
) -> None:
    user = site.user()
    there = replace(user, sub="there")
    store.users.delete(user.sub)
    store.users.put(there)
    store.identifiers.put(replace(next(iter(store.identifiers.scan())), sub="there"))
    before = all_records(store)
    file = tmp_path / "file.jsonl"
    text = record if isinstance(record, str) else json.dumps(record)
    rest = [json.dumps({"kind": "signet", "version": 1}), text, json.dumps(CLIENT | {"client_id": "c-2"})]
    file.write_text("\n".join([*rest, json.dumps({"kind": "end", "records": 2})]))
    printed = run_command("import", file)
    assert printed.code == 1
    assert printed.err.startswith("line 2: ")
    assert problem in printed.err
    assert len(printed.err.splitlines()) == 1
    assert [client.client_id for client in store.clients.scan()] == ["c-2"]
    store.clients.delete("c-2")
    assert all_records(store) == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The end: the last line is missing"),
        ("hello", "its first line is not JSON"),
        ('{"kind":"signet","version":2}', "is not the header of an export of version 1"),
        ('{"kind":"user"}', "is not the header of an export of version 1"),
        ("\xff", "cannot be imported"),
    ],
)
def test_file_in_another_format_is_rejected(run_command: RunCommand, tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(text.encode("latin-1"))
    printed = run_command("import", file)
    assert printed.code in (1, 2)
    assert problem.lower() in printed.err.lower()
    assert len(printed.err.splitlines()) == 1


def test_incomplete_file_is_recognized(filled: Site, run_command: RunCommand, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)
    whole = file.read_text().splitlines()
    file.write_text("\n".join(whole[:3]))
    assert "the export is incomplete" in run_command("import", file).err
    file.write_text("\n".join([*whole[:3], whole[-1]]))
    assert "it names 5 records, but there are 2" in run_command("import", file).err


def test_import_prints_json(filled: Site, run_command: RunCommand, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)
    filled.reset()
    document = json.loads(run_command("import", file, "--json").out)
    assert document["added"] == {"client": 2, "user": 2, "consent": 1}
    assert (document["problems"], sorted(document["new_passwords"]), document["new_secrets"]) == (
        [],
        ["alice", "bob"],
        ["print"],
    )


def test_hash_of_an_export_that_is_too_expensive_requires_a_new_password(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    """Otherwise each sign-in attempt of anyone would cost this much."""
    rest = "c2FsdHNhbHQ$" + "A" * 43
    hashes = {
        "memory": f"$argon2id$v=19$m=65537,t=1,p=1${rest}",
        "passes": f"$argon2id$v=19$m=8,t=11,p=1${rest}",
        "lanes": f"$argon2id$v=19$m=65536,t=1,p=17${rest}",
        "rounds": f"$pbkdf2-sha256$1000001${rest}",
        "just-right": f"$argon2id$v=19$m=65536,t=10,p=16${rest}",
    }
    users = [USER | {"sub": name, "username": name, "password_hash": text} for name, text in hashes.items()]
    file = tmp_path / "file.jsonl"
    ends = {"kind": "signet", "version": 1}, {"kind": "end", "records": len(users)}
    file.write_text("\n".join(json.dumps(line) for line in [ends[0], *users, ends[1]]))
    printed = run_command("import", file, "--json")
    assert printed.code == 0
    assert json.loads(printed.out)["new_passwords"] == ["memory", "passes", "lanes", "rounds"]
    for user in store.users.scan():
        expected = hashes["just-right"] if user.username == "just-right" else ""
        assert (user.password_hash, user.password_change_required) == (expected, not expected)
    again = json.loads(run_command("import", file, "--json").out)
    assert (again["problems"], again["there"]) == ([], {"user": 5})


def test_control_characters_in_a_file_are_escaped_in_the_output(
    site: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    evil, file = "x\x1b[2J\u202e\x9b", tmp_path / "realm.json"
    user = {"id": "k-1", "username": "alice", "attributes": {evil: ["1"]}}
    duplicates = [{"id": f"k-{number}", "username": evil, "email": "a@example.com"} for number in (2, 3)]
    printed = [
        run_command("import", "--format", "keycloak", realm(file, user, *duplicates), *json_)
        for json_ in ([], ["--json"])
    ]
    export = [{"kind": "signet", "version": 1}, USER | {evil: 1}, USER | {"claims": {"name": evil}}]
    export.append(USER | {"sub": "u-2", "username": "bob", "claims": {evil: 1}})
    file.write_text("\n".join(map(json.dumps, [*export, {"kind": "end", "records": 3}])))
    printed += [
        run_command("import", file),
        run_command("user", "show", "u-1"),
        run_command("user", "show", "u-1", "--json"),
        run_command("export"),
    ]
    for output in printed:
        assert "x\\u001b[2J\\u202e\\u009b" in output.out + output.err
        assert not TERMINAL_CONTROL_CHARACTERS.search(output.out + output.err)


def test_many_users_are_imported_in_batches(site: Site, store: Store, run_command: RunCommand, tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    users = [USER | {"sub": f"u-{n}", "username": f"user{n}"} for n in range(150)]
    ends = {"kind": "signet", "version": 1}, {"kind": "end", "records": 150}
    file.write_text("\n".join(json.dumps(line) for line in [ends[0], *users, ends[1]]))
    assert run_command("import", file).out.startswith("Added: 150 users.")
    assert len(list(store.users.scan())) == len(list(store.identifiers.scan())) == 150


# ---- Keycloak


DECOMPOSED = unicodedata.normalize("NFD", "Hôtel-Zürich-2026")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pbkdf2(algorithm: str, rounds: int, password: str = PASSWORD) -> dict[str, Any]:
    """Return a credential as Keycloak stores it: 64 bytes for any digest, with short passwords padded with NUL."""
    digest = {"pbkdf2": "sha1", "pbkdf2-sha256": "sha256", "pbkdf2-sha512": "sha512"}[algorithm]
    padded = password.encode() + b"\0" * max(0, 14 - len(password))
    value = hashlib.pbkdf2_hmac(digest, padded, SALT, rounds, 64)
    return {
        "type": "password",
        "secretData": json.dumps({"value": b64(value), "salt": b64(SALT), "additionalParameters": {}}),
        "credentialData": json.dumps({"hashIterations": rounds, "algorithm": algorithm, "additionalParameters": {}}),
    }


def argon2(password: str = PASSWORD, memory: int = 7168) -> dict[str, Any]:
    value = hash_secret_raw(password.encode(), SALT, 5, min(memory, 7168), 1, 32, Type.ID)
    parameters = {
        "hashLength": ["32"],
        "memory": [str(memory)],
        "type": ["id"],
        "version": ["1.3"],
        "parallelism": ["1"],
    }
    return {
        "type": "password",
        "secretData": json.dumps({"value": b64(value), "salt": b64(SALT)}),
        "credentialData": json.dumps({"hashIterations": 5, "algorithm": "argon2", "additionalParameters": parameters}),
    }


def before_4(password: str = PASSWORD) -> dict[str, Any]:
    value = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, 27500, 64)
    return {
        "type": "password",
        "hashedSaltedValue": b64(value),
        "salt": b64(SALT),
        "hashIterations": 27500,
        "algorithm": "pbkdf2-sha256",
    }


def realm(file: Path, *users: dict[str, Any]) -> Path:
    file.write_text(json.dumps({"realm": "shop", "enabled": True, "users": users}))
    return file


@pytest.mark.usefixtures("full_cost_passwords")
@pytest.mark.parametrize(
    ("credential", "password"),
    [
        (partial(pbkdf2, "pbkdf2-sha512", 210_000), PASSWORD),
        (partial(pbkdf2, "pbkdf2-sha256", 27_500), PASSWORD),
        (partial(pbkdf2, "pbkdf2", 20_000), PASSWORD),
        (partial(pbkdf2, "pbkdf2-sha256", 27_500, "short"), "short"),
        (argon2, PASSWORD),
        (before_4, PASSWORD),
        (partial(pbkdf2, "pbkdf2-sha512", 210_000, DECOMPOSED), unicodedata.normalize("NFC", DECOMPOSED)),
        (partial(argon2, DECOMPOSED), DECOMPOSED),
    ],
    ids=[
        *("pbkdf2-sha512", "pbkdf2-sha256", "pbkdf2", "a short password", "argon2", "before Keycloak 4"),
        *("decomposed, typed composed", "decomposed"),
    ],
)
def test_keycloak_password_works_and_its_hash_is_replaced_at_the_first_sign_in(
    site: Site,
    store: Store,
    run_command: RunCommand,
    browser: Browser,
    tmp_path: Path,
    credential: Callable[[], Any],
    password: str,
) -> None:
    site.secrets.add(password if len(password) > 8 else PASSWORD)
    file = realm(tmp_path / "realm.json", {"id": "k-1", "username": "alice", "credentials": [credential()]})
    printed = run_command("import", "--format", "keycloak", file)
    assert (printed.code, printed.out) == (0, "Added: 1 user. Already existing: none.\n")
    client = site.client()
    assert browser.sign_in(browser.authorize(client), password="wrong" + password).status == 400
    assert "decision" in browser.sign_in(browser.authorize(client), password=password).body
    user = store.users.get("k-1")
    assert user
    assert user.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.verify(password, user.password_hash)
    assert not passwords.needs_rehash(user.password_hash)
    # A second import after that is no conflict.
    assert run_command("import", "--format", "keycloak", file).out == "Added: none. Already existing: 1 user.\n"


def test_keycloak_user_keeps_sub_username_and_claims(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    entry = {
        "id": "7f0c1b8e-4a53-4bb3-9a0e-0d6f2b3e9f10",
        "createdTimestamp": 1_600_000_000_123,
        "username": "Alice",
        "enabled": False,
        "emailVerified": True,
        "firstName": "Alice",
        "lastName": "Liddell",
        "email": "alice@example.com",
        "attributes": {
            "locale": ["de"],
            "phoneNumber": ["+41 44 000 00 00"],
            "phoneNumberVerified": ["true"],
            "street": ["Rabbit Hole 1"],
            "department": ["tea"],
        },
        "credentials": [pbkdf2("pbkdf2-sha256", 1000), {"type": "otp", "secretData": "{}"}],
        "requiredActions": ["UPDATE_PASSWORD"],
        "realmRoles": ["admin"],
    }
    service = {"id": "s", "username": "service-account-x", "serviceAccountClientId": "x"}
    printed = run_command("import", "--format", "keycloak", realm(tmp_path / "realm.json", entry, service))
    unsupported = "department (1), second factor (1), realmRoles (1)"
    added = "Added: 1 user. Already existing: none.\n"
    assert printed.out == f"{added}Not imported, because Signet does not support it: {unsupported}.\n"
    (user,) = store.users.scan()
    assert (user.sub, user.username, user.created_at) == (entry["id"], "Alice", 1_600_000_000)
    assert (user.disabled_at is None, user.admin, user.password_change_required) == (False, False, True)
    assert user.claims == {
        "name": "Alice Liddell",
        "given_name": "Alice",
        "family_name": "Liddell",
        "email": "alice@example.com",
        "email_verified": True,
        "locale": "de",
        "phone_number": "+41 44 000 00 00",
        "phone_number_verified": True,
        "address": {"street_address": "Rabbit Hole 1"},
    }


def test_keycloak_groups_are_kept_by_their_path(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    groups = ["/admins", "/europe/sales", "/asia/sales"]
    entry = {"id": "k-1", "username": "alice", "groups": groups, "realmRoles": ["r"]}
    file = realm(tmp_path / "realm.json", entry, {"id": "k-2", "username": "bob", "groups": []})
    printed = run_command("import", "--format", "keycloak", file)
    assert "Not imported, because Signet does not support it: realmRoles (1)." in printed.out
    alice, bob = store.users.get("k-1"), store.users.get("k-2")
    assert alice
    assert alice.groups == {"admins", "europe/sales", "asia/sales"}
    assert bob
    assert bob.groups == frozenset()
    assert "Already existing: 2 users." in run_command("import", "--format", "keycloak", file).out


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        (["/a,b"], "A group must have 1 to 100 printable characters, no comma and no spaces around it"),
        (["/"], "A group must have 1 to 100 printable characters, no comma and no spaces around it"),
        (["a"], "it cannot be read ('a' is not the path of a group)"),
        ([7], "it cannot be read (7 is not the path of a group)"),
        ([f"/{number}" for number in range(101)], "A user can have 100 groups, of 4096 bytes as JSON in all, so that "),
    ],
    ids=["a comma", "no name", "no path", "a number", "too many"],
)
def test_keycloak_user_with_a_group_that_is_not_allowed_is_reported_and_not_imported(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path, groups: list[Any], problem: str
) -> None:
    entry = {"id": "k-1", "username": "alice", "groups": groups}
    printed = run_command("import", "--format", "keycloak", realm(tmp_path / "realm.json", entry))
    assert (printed.code, printed.err[:11]) == (1, "entry 1: " + problem[:2]), printed.err
    assert problem in printed.err
    assert list(store.users.scan()) == []


def test_further_values_of_a_keycloak_attribute_are_reported(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    attributes = {
        "phoneNumber": ["+15550100", "+15550101", "+15550102"],
        "street": ["A", "B"],
        "locale": [],
        "x": [1, 2],
    }
    entry = {"id": "k-1", "username": "alice", "attributes": attributes}
    printed = run_command("import", "--format", "keycloak", realm(tmp_path / "realm.json", entry))
    unsupported = "further values of phoneNumber (2), further values of street (1), x (1)"
    assert printed.out.splitlines()[1] == f"Not imported, because Signet does not support it: {unsupported}."
    (user,) = store.users.scan()
    assert user.claims == {"phone_number": "+15550100", "address": {"street_address": "A"}}


def test_keycloak_claims_are_checked_as_on_the_command_line(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    entries: list[dict[str, Any]] = [
        {"id": "k-1", "username": "alice", "attributes": {"nickname": ["a\u202eb"]}},
        {"id": "k-2", "username": "bob", "email": "bob at example.com"},
        {"id": "k-3", "username": "carol", "attributes": {"locale": [7]}},
    ]
    printed = run_command("import", "--format", "keycloak", realm(tmp_path / "realm.json", *entries))
    assert printed.code == 1
    assert printed.err.splitlines() == [
        "entry 1: The claim nickname must have 1 to 2000 printable characters",
        "entry 2: The email address must be like alice@example.com",
        "entry 3: The claim locale must be a string",
    ]
    assert list(store.users.scan()) == []


def damaged(part: str, **changes: Any) -> dict[str, Any]:
    credential = pbkdf2("pbkdf2-sha256", 1000)
    return credential | {part: json.dumps(json.loads(credential[part]) | changes)}


@pytest.mark.parametrize(
    "credential",
    [
        damaged("credentialData", algorithm="bcrypt"),
        damaged("credentialData", hashIterations=10**9),
        damaged("credentialData", hashIterations=1_000_001),
        damaged("credentialData", hashIterations="many"),
        damaged("credentialData", hashIterations=0),
        damaged("secretData", salt="§"),
        damaged("secretData", value="c2hvcnQ="),
        {"type": "password", "secretData": "{", "credentialData": "{}"},
        {"type": "password"},
        argon2(memory=10**7),
        argon2(memory=64 * 1024 + 1),
    ],
)
def test_unsupported_or_expensive_hash_requires_a_new_password(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path, credential: Any
) -> None:
    entry = {"id": "k-1", "username": "alice", "credentials": [credential]}
    printed = run_command("import", "--format", "keycloak", realm(tmp_path / "realm.json", entry))
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.endswith("Without a password, 1 (`signet user set-password`):\n  alice\n")
    (user,) = store.users.scan()
    assert user.password_change_required
    assert not passwords.verify(PASSWORD, user.password_hash)


def test_second_user_with_the_same_email_or_username_is_not_imported(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    site.user("zoe", claims={"email": "zoe@example.com"})
    file = realm(
        tmp_path / "realm.json",
        {"id": "1", "username": "alice", "email": "alice@example.com"},
        {"id": "2", "username": "alicia", "email": "Alice@Example.com"},
        {"id": "3", "username": "Zoe", "email": "other@example.com"},
        {"id": "4", "username": "zoey", "email": "ZOE@example.com"},
        {"id": "5"},
    )
    printed = run_command("import", "--format", "keycloak", file)
    assert printed.code == 1
    assert printed.err.splitlines() == [
        "entry 2: the email of alicia belongs to another user",
        "entry 3: the username Zoe belongs to another user",
        "entry 4: the email of zoey belongs to another user",
        "entry 5: username is missing",
    ]
    assert sorted(user.username for user in store.users.scan()) == ["alice", "zoe"]
    assert len(list(store.identifiers.scan())) == 2


# ---- Cognito

CSV = r"""
cognito:username,name,given_name,email,email_verified,phone_number,phone_number_verified,birthdate,address,updated_at,\
cognito:mfa_enabled,custom:department
bob,Baker\, Bob,Bob "B" , bob@example.com,TRUE,,,02/01/1985,"1 Main Street"\, Springfield,1700000000,true,sales
carol,,,carol@example.com,false,+15555550100,true,1960-12-24,,,false,
,Nobody,,,,,,,,,,
dora,Cook, Dora,Dora,dora@example.com,true,,,,,,,
erin,,,erin at example.com,true,,,,,,,
fay,,,fay@example.com,true,,,13/45/1985,,,,
""".replace("\\\n", "").lstrip()


@pytest.mark.parametrize(("line_end", "mark"), [("\n", ""), ("\r\n", "\ufeff")])
def test_users_of_cognitos_csv_need_a_new_password(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path, line_end: str, mark: str
) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes((mark + CSV.replace("\n", line_end)).encode())
    printed = run_command("import", "--format", "cognito", file)
    assert printed.code == 1
    assert printed.err.splitlines() == [
        "line 4: cognito:username is missing",
        "line 5: it cannot be read (it has 1 more fields than the header; a comma in a value is written as \\,)",
        "line 6: The email address must be like alice@example.com",
        "line 7: it cannot be read (time data '13/45/1985' does not match format '%m/%d/%Y')",
    ]
    assert "second factor (1), custom:department (1)." in printed.out
    assert printed.out.endswith("Without a password, 2 (`signet user set-password`):\n  bob\n  carol\n")
    bob, carol = sorted(store.users.scan(), key=lambda user: user.username)
    assert bob.claims == {
        "name": "Baker, Bob",
        "given_name": 'Bob "B"',
        "email": "bob@example.com",
        "email_verified": True,
        "birthdate": "1985-02-01",
        "address": {"formatted": '"1 Main Street", Springfield'},
        "updated_at": 1_700_000_000,
    }
    assert carol.claims == {
        "email": "carol@example.com",
        "email_verified": False,
        "phone_number": "+15555550100",
        "phone_number_verified": True,
        "birthdate": "1960-12-24",
    }
    # The file has no sub, but a second import recognizes the same users.
    again = run_command("import", "--format", "cognito", file)
    assert again.out.startswith("Added: none. Already existing: 2 users.\n")
    assert "Without a password, 2 (`signet user set-password`)" in again.out


def test_users_of_cognitos_list_users_are_imported(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    sub = "5d1a3c1e-0000-4000-8000-000000000001"
    listed = {
        "Users": [
            {
                "Username": sub,
                "Attributes": [
                    {"Name": "sub", "Value": sub},
                    {"Name": "email", "Value": "dave@example.com"},
                    {"Name": "email_verified", "Value": "true"},
                    {"Name": "identities", "Value": "[]"},
                ],
                "UserCreateDate": "2024-01-02T03:04:05.678000+00:00",
                "Enabled": True,
                "UserStatus": "CONFIRMED",
            },
            {
                "Username": "erin",
                "Attributes": [{"Name": "sub", "Value": "e-1"}],
                "Enabled": False,
            },
        ]
    }
    file = tmp_path / "users.json"
    file.write_text(json.dumps(listed))
    assert run_command("import", "--format", "cognito", file).code == 0
    dave, erin = sorted(store.users.scan(), key=lambda user: user.username)
    # In a pool whose users sign in with their email, usernames are random and unknown to the users.
    assert (dave.username, dave.sub) == ("dave@example.com", sub)
    assert dave.created_at == 1_704_164_645
    assert (erin.username, erin.sub, erin.disabled_at is None) == ("erin", "e-1", False)


def listed(username: str, sub: str, status: str = "CONFIRMED", **attributes: str) -> dict[str, Any]:
    """Return a user as `list-users` prints it."""
    pairs = [{"Name": name, "Value": value} for name, value in {"sub": sub, **attributes}.items()]
    return {"Username": username, "Attributes": pairs, "UserStatus": status, "Enabled": True}


def test_cognito_users_with_a_random_username_sign_in_by_email_else_by_phone_number(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "users.json"
    users = [
        listed("s-1", "s-1", email="dave@example.com", phone_number="+15550100", preferred_username="dave"),
        listed("s-2", "s-2", phone_number="+15550101", email="", updated_at="", name=" "),
        listed("s-3", "s-3"),
        listed("gina", "s-4", email="gina@example.com", updated_at="1700000000.5"),
    ]
    file.write_text(json.dumps({"Users": users}))
    printed = run_command("import", "--format", "cognito", file)
    assert printed.code == 0, printed.err
    assert "does not support it: preferred_username (1)." in printed.out
    imported = {user.sub: user for user in store.users.scan()}
    assert {sub: user.username for sub, user in imported.items()} == {
        "s-1": "dave@example.com",
        "s-2": "+15550101",
        "s-3": "s-3",
        "s-4": "gina",
    }
    assert imported["s-2"].claims == {"phone_number": "+15550101"}
    assert imported["s-4"].claims == {"email": "gina@example.com", "updated_at": 1_700_000_000}


@pytest.mark.parametrize("native_first", [True, False])
def test_federated_user_of_cognito_never_takes_the_name_or_email_of_a_native_one(
    site: Site, store: Store, run_command: RunCommand, tmp_path: Path, native_first: bool
) -> None:
    file = tmp_path / "users.json"
    native = [
        listed("n-1", "n-1", email="dave@example.com"),
        listed("Google_17", "n-2", email="erin@example.com"),
        listed("corp_fay", "n-3", email="fay@example.com"),
    ]
    federated = [
        listed("google_42", "f-1", "EXTERNAL_PROVIDER", email="Dave@Example.com", identities="[]"),
        listed("GOOGLE_17", "f-2", "EXTERNAL_PROVIDER", email="other@example.com"),
        listed("corp_1", "f-3", "EXTERNAL_PROVIDER", email="fay@example.com"),
        listed("Facebook_9", "f-4", "", email="gina@example.com"),
    ]
    users = [*native, *federated] if native_first else [*federated, *native]
    file.write_text(json.dumps({"Users": users}))
    printed = run_command("import", "--format", "cognito", file)
    assert printed.code == 1
    assert {line.partition(": ")[2] for line in printed.err.splitlines()} == {
        "the email of google_42 belongs to another user",
        "the username GOOGLE_17 belongs to another user",
        "the email of corp_1 belongs to another user",
    }
    assert {user.sub for user in store.users.scan()} == {"n-1", "n-2", "n-3", "f-4"}


@pytest.mark.parametrize("format_", ["cognito", "keycloak"])
@pytest.mark.parametrize("text", ["", "hello", "{}", "[1]", '{"users": 1}', '{"Users": [{}]}', "a,b\n1,2\n"])
def test_foreign_file_in_another_format_is_rejected_in_one_line(
    run_command: RunCommand, tmp_path: Path, format_: str, text: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    printed = run_command("import", "--format", format_, file)
    assert printed.code in (1, 2)
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err


def test_documents_are_exported_and_imported_with_pins_and_blocks(
    site: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    documents, file = site.server.store.documents, tmp_path / "backup.jsonl"
    pinned = ClientDocument(
        *("https://app.example.com/client", NEVER, "Notes", ("https://app.example.com/cb",)),
        digest="d",
        refreshing_until=5,
        pinned_at=site.clock(),
    )
    blocked = ClientDocument("https://evil.example/client", NEVER, blocked_at=site.clock())
    for record in (pinned, blocked):
        documents.put(record)
    hosts = BlockedHosts(BLOCKED_HOSTS, frozenset({"evil.example", "worse.example"}))
    site.server.store.blocked_hosts.put(hosts)
    site.server.store.key_sets.put(KeySet(key_set_id("https://app.example.com/jwks"), NEVER, {"keys": ()}, 0, 0))
    consent = Consent(site.user("alice").sub, pinned.document_id, scope=frozenset({"openid"}), document_digest="d")
    site.server.store.consents.put(replace(consent, consents_generation=site.read_user().consents_generation))
    assert run_command("export", "--out", file).code == 0
    site.reset()
    site.clock.advance(1)
    assert run_command("import", file).code == 0
    records = {record.document_id: record for record in document_control.read_documents(site.server.store)}
    assert records == {record.document_id: replace(record, refreshing_until=0) for record in (pinned, blocked)}
    assert site.server.store.blocked_hosts.get(BLOCKED_HOSTS) == hosts
    (imported,) = site.server.store.consents.scan()
    assert imported.document_digest == "d"
    assert "Added: none" in run_command("import", file).out


def test_imported_block_is_added_to_those_that_exist(site: Site, run_command: RunCommand, tmp_path: Path) -> None:
    store, file = site.server.store, tmp_path / "backup.jsonl"
    document_control.block(store, "a.example")
    run_command("export", "--out", file)
    document_control.unblock(store, "a.example")
    document_control.block(store, "b.example")
    assert "Added: 1 blocked_hosts" in run_command("import", file).out
    assert document_control.read_blocked_hosts(store) == {"a.example", "b.example"}


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"kind": "document", "document_id": "keys https://app.example.com/jwks"}, "cannot be the URL of a document"),
        ({"kind": "document", "document_id": "https://api.example.com/photos"}, "is the URI of a resource"),
        ({"kind": "blocked_hosts", "document_id": "x", "hosts": ["a.example"]}, "document_id"),
        ({"kind": "blocked_hosts", "document_id": "blocked hosts", "hosts": ["a.example:1"]}, "host without a port"),
    ],
)
def test_record_that_is_no_document_or_block_is_not_imported(
    site: Site, run_command: RunCommand, tmp_path: Path, members: dict[str, Any], problem: str
) -> None:
    register_resource(site, "https://api.example.com/photos")
    file = tmp_path / "backup.jsonl"
    document = {"expires_at": NEVER, "redirect_uris": ["https://app.example.com/cb"], "client_name": "Notes"}
    lines = [
        {"kind": "signet", "version": 1, "stage": "test", "exported_at": 0, "hashes": False},
        members | (document if members["kind"] == "document" else {}),
        {"kind": "end", "records": 1},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run_command("import", file)
    assert (result.code, problem in result.err) == (1, True), result.err
    assert not list(site.server.store.documents.scan())


def test_imported_resource_ends_the_document_at_its_uri(site: Site, run_command: RunCommand, tmp_path: Path) -> None:
    uri, file = "https://api.example.com/photos", tmp_path / "backup.jsonl"
    register_resource(site, uri)
    run_command("export", "--out", file)
    site.reset()
    site.server.store.documents.put(ClientDocument(uri, NEVER, "Notes", ("https://app.example.com/cb",)))
    assert run_command("import", file).code == 0
    assert site.server.store.documents.get(uri) is None


def test_document_that_would_not_be_accepted_is_not_imported(
    site: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "backup.jsonl"
    site.server.store.documents.put(
        ClientDocument("https://app.example.com/client", NEVER, "Notes", ("javascript:/alert(1)",))
    )
    run_command("export", "--out", file)
    site.reset()
    result = run_command("import", file)
    assert (result.code, "cannot be used" in result.err) == (1, True)
    assert not list(site.server.store.documents.scan())
