"""Export and import: what goes out comes in again, people from elsewhere come in, and nobody half."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from argon2.low_level import Type, hash_secret_raw

from chalicelib import passwords
from chalicelib.errors import TemporarilyUnavailable
from chalicelib.models import Consent, User
from chalicelib.store import Store
from infra import transfer
from infra.transfer.newcomers import Outcome, add
from tests.browser import Browser
from tests.operator import HARM, Operate
from tests.site import PASSWORD, Site

SALT = b"0123456789abcdef"


@pytest.fixture
def filled(site: Site, store: Store) -> Site:
    """Two people, one of them disabled, a confidential and a public client, and a consent."""
    alice = site.user(claims={"name": "Алиса", "email": "alice@example.com", "address": {"locality": "Zürich"}})
    bob = site.user("bob", password=None, admin=True)
    store.users.put(replace(bob, disabled_at=1))
    client = site.client(client_id="print", access_token_lifetime=300, default_scope="openid")
    site.client(client_id="app", redirect_uris=["com.example.app:/cb"], public=True)
    store.consents.put(Consent(alice.sub, client.id, frozenset({"openid", "email"}), site.clock()))
    return site


def everything(store: Store) -> list[Any]:
    tables: list[Any] = [store.clients, store.users, store.identifiers, store.consents]
    return [
        record for table in tables for record in sorted(table.scan(), key=lambda record: getattr(record, table.key[0]))
    ]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


# ---- our own format


def test_what_was_exported_with_its_hashes_is_imported_as_it_was(
    filled: Site, store: Store, operate: Operate, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    before = everything(store)
    assert operate("export", "--with-password-hashes", "--out", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    filled.empty()
    printed = operate("import", file)
    assert (printed.code, printed.err) == (0, "")
    assert printed.out == "Added: 2 clients, 2 users, 1 consent. There already: none.\n"
    assert everything(store) == before
    # Their passwords are what they were.
    client = filled.client(client_id="other")
    assert browser.sign_in(browser.authorize(client)).status == 200
    assert "Photo Print" in browser.authorize(client).body


def test_without_the_option_no_hash_leaves_and_all_who_need_a_credential_are_named(
    filled: Site, store: Store, operate: Operate, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--out", file)
    for user in store.users.scan():
        assert user.password_hash not in file.read_text()
    for client in store.clients.scan():
        assert not any(hashed in file.read_text() for hashed in client.secret_hashes)
    filled.empty()
    printed = operate("import", file)
    assert printed.code == 0
    assert "a new password, 2 in all:" in printed.out
    assert "a new secret, 1 in all:\n  print\n" in printed.out
    # Nobody gets in by the old password, nor by any other.
    refused = browser.sign_in(browser.authorize(filled.client(client_id="other")))
    assert refused.status == 400
    assert all(user.password_change_required for user in store.users.scan())


def test_an_export_is_the_same_on_the_screen_and_in_a_file(filled: Site, operate: Operate, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--out", file)
    assert operate("export").out.splitlines()[1:] == file.read_text().splitlines()[1:]
    first, *records, last = lines(file)
    assert (first["kind"], first["version"], first["stage"], first["hashes"]) == ("signet", 1, "test", False)
    assert [record["kind"] for record in records] == ["client", "client", "user", "user", "consent"]
    assert last == {"kind": "end", "records": 5}


def test_an_import_run_again_skips_what_is_there(filled: Site, store: Store, operate: Operate, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--out", file)
    before = everything(store)
    printed = operate("import", file)
    assert (printed.code, printed.out) == (0, "Added: none. There already: 2 clients, 2 users, 1 consent.\n")
    assert everything(store) == before


def test_an_import_goes_on_where_it_was_interrupted(
    filled: Site, store: Store, operate: Operate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--with-password-hashes", "--out", file)
    before = everything(store)
    filled.empty()

    def interrupted(store: Store, record: Any) -> Outcome:
        if isinstance(record, User):
            raise TemporarilyUnavailable
        return add(store, record)

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "add", interrupted)
        printed = operate("import", file)
    assert printed.code == 2
    assert printed.err.startswith("Stopped at line 4, because DynamoDB does not answer. Run it again")
    assert operate("import", file).out == "Added: 2 users, 1 consent. There already: 2 clients.\n"
    assert everything(store) == before


def test_an_import_that_is_interrupted_by_hand_says_how_to_go_on(
    filled: Site, operate: Operate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--out", file)

    def interrupted(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "add", interrupted)
    printed = operate("import", file)
    assert (printed.code, printed.err) == (2, "Interrupted. Run it again: what is there already is skipped.\n")


def test_an_interrupted_export_leaves_the_file_as_it_was(
    filled: Site, operate: Operate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.jsonl"
    file.write_text("the one before")

    def cut(*_: object) -> str:
        raise TemporarilyUnavailable("DynamoDB does not answer.")

    monkeypatch.setattr(transfer, "line_of", cut)
    assert operate("export", "--out", file).code == 2
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("export.jsonl", "the one before")]


def test_a_file_that_others_have_laid_beside_it_is_not_written_to(
    filled: Site, operate: Operate, tmp_path: Path
) -> None:
    """Nor is that of another export to the same place."""
    file, beside = tmp_path / "export.jsonl", tmp_path / "export.jsonl.part"
    beside.write_text("theirs")
    beside.chmod(0o666)
    assert operate("export", "--with-password-hashes", "--out", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert beside.read_text() == "theirs"


def test_what_is_there_is_never_changed(filled: Site, store: Store, operate: Operate, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--with-password-hashes", "--out", file)
    for user in store.users.scan():
        store.users.put(replace(user, claims={"email": "new@example.com"}))
    for client in store.clients.scan():
        store.clients.put(replace(client, client_name="Another"))
    for consent in store.consents.scan():
        store.consents.put(replace(consent, scope=frozenset({"openid"})))
    before = everything(store)
    printed = operate("import", file)
    assert printed.code == 1
    assert len(printed.err.splitlines()) == 5
    assert "line 2: another client" in printed.err
    assert "is there with other data, and was left" in printed.err
    assert everything(store) == before


def test_a_password_that_was_changed_meanwhile_is_no_conflict(
    filled: Site, store: Store, operate: Operate, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--with-password-hashes", "--out", file)
    for user in store.users.scan():
        store.users.put(replace(user, password_hash=passwords.hash_password("another one"), sessions_generation=3))
    before = everything(store)
    assert operate("import", file).code == 0
    assert everything(store) == before


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else [1]


USER = {"kind": "user", "sub": "u-1", "username": "dora", "claims": {}}
CLIENT = {"kind": "client", "client_id": "c-1", "client_name": "C", "redirect_uris": ["https://c.example/cb"]}
PROBLEMS: list[tuple[str, Any, str]] = [
    ("no JSON", "{", "it is not JSON"),
    ("a list", [], "its kind is None"),
    ("an unknown kind", {"kind": "grant"}, "its kind is 'grant'"),
    ("an unknown member", USER | {"shoe_size": 42}, "shoe_size is no member of a user"),
    ("a member that is missing", {"kind": "user", "sub": "u-1", "claims": {}}, "username is missing"),
    ("a number for a name", USER | {"username": 1}, "username cannot be 1"),
    ("a yes for a number", USER | {"created_at": True}, "created_at cannot be true"),
    ("a fraction", USER | {"claims": {"height": 1.5}}, "1.5 is no whole number"),
    ("no name", USER | {"username": " "}, "The username must have"),
    ("a control character in the name", USER | {"username": "a\nb"}, "The username must have"),
    ("a sub that is no ASCII", USER | {"sub": "ü"}, "its sub is not"),
    ("a sub that is too long", USER | {"sub": "s" * 256}, "its sub is not"),
    ("a hash of no known kind", USER | {"password_hash": "plain"}, "its password_hash is of no known kind"),
    ("a number that is too long", USER | {"claims": {"height": 10**38}}, "has more than 38 digits"),
    ("a time that is too long", USER | {"created_at": -(10**38)}, "has more than 38 digits"),
    ("what is no Unicode", USER | {"claims": {"name": "\ud800"}}, "is no Unicode text"),
    ("claims that are too deep", USER | {"claims": {"a": nested(40)}}, "in more than 16 levels"),
    ("claims that are far too deep", USER | {"claims": {"a": nested(300)}}, "in more than 16 levels"),
    ("claims that are too large", USER | {"claims": {"name": "n" * 200_000}}, "its claims are too large"),
    ("a redirect URI that is not acceptable", CLIENT | {"redirect_uris": ["http://c.example"]}, "must be https"),
    ("no redirect URI", CLIENT | {"redirect_uris": []}, "Register 1 to 20"),
    ("a scope for a list of addresses", CLIENT | {"redirect_uris": "https://c.example/cb"}, "redirect_uris cannot be"),
    ("a consent of nobody", {"kind": "consent", "sub": "u-9", "client_id": "c-1"}, "its person is not there"),
    ("a consent to nothing", {"kind": "consent", "sub": "there", "client_id": "c-9"}, "its client is not there"),
    ("a consent without a person", {"kind": "consent", "sub": "", "client_id": "c-1"}, "not acceptable"),
    ("a name that is taken", USER | {"username": "ALICE"}, "the username ALICE is taken by another person"),
    ("a sub that is taken", USER | {"sub": "there"}, "the sub there belongs to a person of another name"),
]


@pytest.mark.parametrize(("what", "record", "problem"), PROBLEMS, ids=[what for what, _, _ in PROBLEMS])
def test_a_problem_is_told_with_its_line_and_stops_nobody_else(
    site: Site, store: Store, operate: Operate, tmp_path: Path, what: str, record: Any, problem: str
) -> None:
    user = site.user()
    there = replace(user, sub="there")
    store.users.delete(user.sub)
    store.users.put(there)
    store.identifiers.put(replace(next(iter(store.identifiers.scan())), sub="there"))
    before = everything(store)
    file = tmp_path / "file.jsonl"
    text = record if isinstance(record, str) else json.dumps(record)
    rest = [json.dumps({"kind": "signet", "version": 1}), text, json.dumps(CLIENT | {"client_id": "c-2"})]
    file.write_text("\n".join([*rest, json.dumps({"kind": "end", "records": 2})]))
    printed = operate("import", file)
    assert printed.code == 1
    assert printed.err.startswith("line 2: ")
    assert problem in printed.err
    assert len(printed.err.splitlines()) == 1
    assert [client.client_id for client in store.clients.scan()] == ["c-2"]
    store.clients.delete("c-2")
    assert everything(store) == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The end: the last line is missing"),
        ("hello", "does not start with a line of JSON"),
        ('{"kind":"signet","version":2}', "does not say that it is an export of version 1"),
        ('{"kind":"user"}', "does not say that it is an export of version 1"),
        ("\xff", "cannot be imported"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(operate: Operate, tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(text.encode("latin-1"))
    printed = operate("import", file)
    assert printed.code in (1, 2)
    assert problem.lower() in printed.err.lower()
    assert len(printed.err.splitlines()) == 1


def test_half_a_file_is_known_for_one(filled: Site, operate: Operate, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--out", file)
    whole = file.read_text().splitlines()
    file.write_text("\n".join(whole[:3]))
    assert "the export was cut off" in operate("import", file).err
    file.write_text("\n".join([*whole[:3], whole[-1]]))
    assert "it counts 5 records, not 2" in operate("import", file).err


def test_the_answer_can_be_json(filled: Site, operate: Operate, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    operate("export", "--out", file)
    filled.empty()
    told = json.loads(operate("import", file, "--json").out)
    assert told["added"] == {"client": 2, "user": 2, "consent": 1}
    assert (told["problems"], sorted(told["new_passwords"]), told["new_secrets"]) == ([], ["alice", "bob"], ["print"])


def test_what_stands_in_a_file_does_nothing_to_the_terminal(site: Site, operate: Operate, tmp_path: Path) -> None:
    evil, file = "x\x1b[2J\u202e\x9b", tmp_path / "realm.json"
    person = {"id": "k-1", "username": "alice", "attributes": {evil: ["1"]}}
    others = [{"id": f"k-{number}", "username": evil, "email": "a@example.com"} for number in (2, 3)]
    printed = [
        operate("import", "--format", "keycloak", realm(file, person, *others), *json_) for json_ in ([], ["--json"])
    ]
    ours = [{"kind": "signet", "version": 1}, USER | {evil: 1}, USER | {"claims": {evil: evil}}]
    file.write_text("\n".join(map(json.dumps, [*ours, {"kind": "end", "records": 2}])))
    printed += [
        operate("import", file),
        operate("user", "show", "u-1"),
        operate("user", "show", "u-1", "--json"),
        operate("export"),
    ]
    for one in printed:
        assert "x\\u001b[2J\\u202e\\u009b" in one.out + one.err
        assert not HARM.search(one.out + one.err)


def test_hundreds_are_imported_in_step(site: Site, store: Store, operate: Operate, tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    people = [USER | {"sub": f"u-{n}", "username": f"person{n}"} for n in range(150)]
    ends = {"kind": "signet", "version": 1}, {"kind": "end", "records": 150}
    file.write_text("\n".join(json.dumps(line) for line in [ends[0], *people, ends[1]]))
    assert operate("import", file).out.startswith("Added: 150 users.")
    assert len(list(store.users.scan())) == len(list(store.identifiers.scan())) == 150


# ---- Keycloak


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pbkdf2(algorithm: str, rounds: int, password: str = PASSWORD) -> dict[str, Any]:
    """As Keycloak stores it: 64 bytes, whatever the digest; a short password padded with NUL."""
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
    more = {"hashLength": ["32"], "memory": [str(memory)], "type": ["id"], "version": ["1.3"], "parallelism": ["1"]}
    return {
        "type": "password",
        "secretData": json.dumps({"value": b64(value), "salt": b64(SALT)}),
        "credentialData": json.dumps({"hashIterations": 5, "algorithm": "argon2", "additionalParameters": more}),
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


@pytest.mark.usefixtures("dear_passwords")
@pytest.mark.parametrize(
    ("credential", "password"),
    [
        (pbkdf2("pbkdf2-sha512", 210_000), PASSWORD),
        (pbkdf2("pbkdf2-sha256", 27_500), PASSWORD),
        (pbkdf2("pbkdf2", 20_000), PASSWORD),
        (pbkdf2("pbkdf2-sha256", 27_500, "short"), "short"),
        (argon2(), PASSWORD),
        (before_4(), PASSWORD),
    ],
    ids=["pbkdf2-sha512", "pbkdf2-sha256", "pbkdf2", "a short password", "argon2", "before Keycloak 4"],
)
def test_a_password_from_keycloak_is_good_for_the_first_sign_in_which_replaces_its_hash(
    site: Site, store: Store, operate: Operate, browser: Browser, tmp_path: Path, credential: Any, password: str
) -> None:
    site.secrets.add(password if len(password) > 8 else PASSWORD)
    file = realm(tmp_path / "realm.json", {"id": "k-1", "username": "alice", "credentials": [credential]})
    printed = operate("import", "--format", "keycloak", file)
    assert (printed.code, printed.out) == (0, "Added: 1 user. There already: none.\n")
    client = site.client()
    assert browser.sign_in(browser.authorize(client), password="wrong" + password).status == 400
    assert "decision" in browser.sign_in(browser.authorize(client), password=password).body
    user = store.users.get("k-1")
    assert user
    assert user.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.verify(password, user.password_hash)
    assert not passwords.needs_rehash(user.password_hash)
    # Reading the file again after that is no conflict.
    assert operate("import", "--format", "keycloak", file).out == "Added: none. There already: 1 user.\n"


def test_a_person_from_keycloak_keeps_sub_name_and_claims(
    site: Site, store: Store, operate: Operate, tmp_path: Path
) -> None:
    person = {
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
    printed = operate("import", "--format", "keycloak", realm(tmp_path / "realm.json", person, service))
    left = "department (of 1), second factor (of 1), realmRoles (of 1)"
    added = "Added: 1 user. There already: none.\nLeft behind, because there is no place for it here: "
    assert printed.out == f"{added}{left}.\n"
    (user,) = store.users.scan()
    assert (user.sub, user.username, user.created_at) == (person["id"], "Alice", 1_600_000_000)
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


def damaged(part: str, **changes: Any) -> dict[str, Any]:
    credential = pbkdf2("pbkdf2-sha256", 1000)
    return credential | {part: json.dumps(json.loads(credential[part]) | changes)}


@pytest.mark.parametrize(
    "credential",
    [
        damaged("credentialData", algorithm="bcrypt"),
        damaged("credentialData", hashIterations=10**9),
        damaged("credentialData", hashIterations="many"),
        damaged("credentialData", hashIterations=0),
        damaged("secretData", salt="§"),
        damaged("secretData", value="c2hvcnQ="),
        {"type": "password", "secretData": "{", "credentialData": "{}"},
        {"type": "password"},
        argon2(memory=10**7),
    ],
)
def test_a_hash_that_cannot_be_checked_or_would_cost_too_much_means_a_new_password(
    site: Site, store: Store, operate: Operate, tmp_path: Path, credential: Any
) -> None:
    person = {"id": "k-1", "username": "alice", "credentials": [credential]}
    printed = operate("import", "--format", "keycloak", realm(tmp_path / "realm.json", person))
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.endswith("In need of a new password, 1 in all:\n  alice\n")
    (user,) = store.users.scan()
    assert user.password_change_required
    assert not passwords.verify(PASSWORD, user.password_hash)


def test_two_people_with_one_address_or_one_name_do_not_both_come_in(
    site: Site, store: Store, operate: Operate, tmp_path: Path
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
    printed = operate("import", "--format", "keycloak", file)
    assert printed.code == 1
    assert printed.err.splitlines() == [
        "entry 2: the e-mail address of alicia is another person's",
        "entry 3: the username Zoe is taken by another person",
        "entry 4: the e-mail address of zoey is another person's",
        "entry 5: username is missing",
    ]
    assert sorted(user.username for user in store.users.scan()) == ["alice", "zoe"]
    assert len(list(store.identifiers.scan())) == 2


# ---- Cognito

CSV = """\
cognito:username,name,given_name,email,email_verified,phone_number,phone_number_verified,address,updated_at,\
cognito:mfa_enabled,custom:department
bob,"Baker, Bob",Bob,bob@example.com,TRUE,,,"1 Main Street\nSpringfield",1700000000,true,sales
carol,,,carol@example.com,false,+15555550100,true,,,false,
,Nobody,,,,,,,,,
"""


def test_people_come_from_cognitos_csv_and_need_a_new_password(
    site: Site, store: Store, operate: Operate, tmp_path: Path
) -> None:
    file = tmp_path / "users.csv"
    file.write_text(CSV)
    printed = operate("import", "--format", "cognito", file)
    assert printed.code == 1
    assert printed.err == "line 5: cognito:username is missing\n"  # the address took two lines
    assert "second factor (of 1), custom:department (of 1)." in printed.out
    assert printed.out.endswith("In need of a new password, 2 in all:\n  bob\n  carol\n")
    bob, carol = sorted(store.users.scan(), key=lambda user: user.username)
    assert bob.claims == {
        "name": "Baker, Bob",
        "given_name": "Bob",
        "email": "bob@example.com",
        "email_verified": True,
        "address": {"formatted": "1 Main Street\nSpringfield"},
        "updated_at": 1_700_000_000,
    }
    assert carol.claims["phone_number_verified"] is True
    assert carol.claims["email_verified"] is False
    # The file has no sub, and is the same people all the same when it is read again.
    again = operate("import", "--format", "cognito", file)
    assert again.out.startswith("Added: none. There already: 2 users.\n")
    assert "In need of a new password, 2 in all" in again.out


def test_people_come_from_cognitos_list_users(site: Site, store: Store, operate: Operate, tmp_path: Path) -> None:
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
    assert operate("import", "--format", "cognito", file).code == 0
    dave, erin = sorted(store.users.scan(), key=lambda user: user.username)
    # A pool where people sign in with their address: its own names are random, and nobody could know theirs.
    assert (dave.username, dave.sub) == ("dave@example.com", sub)
    assert dave.created_at == 1_704_164_645
    assert (erin.username, erin.sub, erin.disabled_at is None) == ("erin", "e-1", False)


@pytest.mark.parametrize("format_", ["cognito", "keycloak"])
@pytest.mark.parametrize("text", ["", "hello", "{}", "[1]", '{"users": 1}', '{"Users": [{}]}', "a,b\n1,2\n"])
def test_another_file_is_refused_in_one_line(operate: Operate, tmp_path: Path, format_: str, text: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    printed = operate("import", "--format", format_, file)
    assert printed.code in (1, 2)
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err
