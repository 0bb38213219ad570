"""Groups and custom claims by the operator's commands: `user`, `scope`, `export` and `import`."""

import json
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.records import User
from chalicelib.storage.store import Store
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site, dump_tables


@pytest.fixture
def alice(site: Site) -> User:
    return site.user("alice", groups=frozenset({"engineering", "on-call"}))


def groups_of(site: Site) -> set[str]:
    return set(site.read_user().groups)


# ---- groups


def test_user_is_created_with_groups(run_command: RunCommand, site: Site) -> None:
    created = output_json(
        run_command("user", "create", "--username", "alice", "--group", "b", "--group", "a", "--json")
    )
    site.secrets.add(created["password"])
    assert created["groups"] == ["a", "b"]
    assert groups_of(site) == {"a", "b"}
    assert {"groups", "a", "b"} <= set(run_command("user", "show", "alice").out.split())


CHANGES: list[tuple[tuple[str, ...], set[str]]] = [
    (("--group", "a"), {"a"}),
    (("--group", "a", "--group", "b", "--group", "a"), {"a", "b"}),
    (("--group", ""), set()),
    (("--add-group", "a"), {"engineering", "on-call", "a"}),
    (("--add-group", "on-call"), {"engineering", "on-call"}),
    (("--remove-group", "on-call"), {"engineering"}),
    (("--remove-group", "on-call", "--remove-group", "engineering"), set()),
    (("--add-group", "a", "--remove-group", "on-call"), {"engineering", "a"}),
    (("--name", "Alice"), {"engineering", "on-call"}),
]


@pytest.mark.parametrize(("options", "groups"), CHANGES, ids=[" ".join(options) for options, _ in CHANGES])
def test_groups_are_changed(
    run_command: RunCommand, site: Site, alice: User, options: tuple[str, ...], groups: set[str]
) -> None:
    document = output_json(run_command("user", "update", "alice", *options, "--json"))
    assert document.get("groups", []) == sorted(groups)
    assert groups_of(site) == groups
    details = [event.detail for event in site.server.store.events.scan()]
    if "--name" in options:
        assert details == ["updated: name"]
    else:
        assert details == (["updated: groups"] if groups != {"engineering", "on-call"} else [])


def test_users_of_a_group_are_listed(run_command: RunCommand, site: Site, alice: User) -> None:
    site.user("bob", groups=frozenset({"engineering"}))
    site.user("carol")
    for group, names in (("engineering", ["alice", "bob"]), ("on-call", ["alice"]), ("engineer", [])):
        users = output_json(run_command("user", "list", "--group", group, "--json"))
        assert [user["username"] for user in users] == names
    assert len(output_json(run_command("user", "list", "--json"))) == 3


UPDATE = ("user", "update", "alice")
CLAIM = (*UPDATE, "--claim")
SCOPE_SET = ("scope", "set", "staff", "See your department")
ERRORS: list[tuple[tuple[str, ...], str]] = [
    ((*UPDATE, "--group", "a,b"), "A group must have 1 to 100 printable characters, no comma"),
    ((*UPDATE, "--add-group", " a"), "no spaces around it"),
    ((*UPDATE, "--add-group", ""), "A group must have 1 to 100"),
    ((*UPDATE, "--add-group", "g" * 101), "A group must have 1 to 100"),
    ((*UPDATE, "--add-group", "a\x1b"), "printable"),
    ((*UPDATE, "--remove-group", "oncall"), "oncall is not a group of alice. Did you mean 'on-call'?"),
    ((*UPDATE, "--group", "a", "--add-group", "b"), "--group sets all groups"),
    ((*UPDATE, *(part for n in range(101) for part in ("--group", f"g{n}"))), "100 groups"),
    (("user", "create", "--username", "bob", "--group", "a,b"), "no comma"),
    ((*CLAIM, "groups=a"), "The claim groups is set with --group."),
    ((*CLAIM, "sub=a"), "has a meaning of its own"),
    ((*CLAIM, "iss=https://evil.example.com"), "has a meaning of its own"),
    ((*CLAIM, "scope=openid"), "has a meaning of its own"),
    ((*CLAIM, "acr=x"), "has a meaning of its own"),
    ((*CLAIM, "client_id=x"), "has a meaning of its own"),
    ((*CLAIM, "__proto__=x"), "has a meaning of its own"),
    ((*CLAIM, "constructor=x"), "has a meaning of its own"),
    ((*CLAIM, "username=x"), "has a meaning of its own"),
    ((*CLAIM, "EMAIL=x"), "has a meaning of its own"),
    ((*CLAIM, "name#de=x"), "cannot be the name of a custom claim"),
    ((*CLAIM, "http://example.com/roles=x"), "cannot be the name of a custom claim"),
    ((*CLAIM, "a b=x"), "cannot be the name of a custom claim"),
    ((*CLAIM, "=x"), "cannot be the name of a custom claim"),
    ((*CLAIM, "department={"), "the value of department is not valid JSON."),
    ((*CLAIM, 'department="x'), "the value of department is not valid JSON."),
    ((*CLAIM, "level=[NaN]"), "the value of level is not valid JSON."),
    ((*CLAIM, "level=1.5"), "can have strings, whole numbers"),
    ((*CLAIM, "level=null"), "the value of level is null. To remove the claim, give no value."),
    ((*CLAIM, "level=1e400"), "can have strings, whole numbers"),
    ((*CLAIM, f"level={2**53}"), "a number beyond"),
    ((*CLAIM, "level=" + "[" * 5 + "]" * 5), "more than 4 levels"),
    ((*CLAIM, "level=" + "[" * 100_000), "the value of level is not valid JSON."),
    ((*CLAIM, 'level={"__proto__": 1}'), "a member whose name is not accepted"),
    ((*CLAIM, r'level="\ud800"'), "printable"),
    ((*CLAIM, "level=" + "x" * 2100), "2048 bytes"),
    ((*SCOPE_SET, "--claim", "sub"), "sub cannot be a claim that a scope releases."),
    ((*SCOPE_SET, "--claim", "iss"), "iss cannot be a claim that a scope releases."),
    ((*SCOPE_SET, "--claim", "a b"), "a b cannot be a claim that a scope releases."),
    ((*SCOPE_SET, "--claim", "a", "--claim", ""), "cannot be a claim"),
    ((*SCOPE_SET, "--claims-in", "refresh_token"), "'refresh_token' is not one of"),
    ((*SCOPE_SET, "--claims-in", "id_token,userinfo"), "is a list. Repeat the option for each value."),
    ((*SCOPE_SET, *(part for n in range(51) for part in ("--claim", f"c{n}"))), "A scope can release 50 claims."),
    (("scope", "set", "groups", "x"), "groups is a standard scope"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), ERRORS, ids=[repr(" ".join(arguments))[:60] for arguments, _ in ERRORS]
)
def test_error_is_one_line_and_changes_nothing(
    run_command: RunCommand, alice: User, arguments: tuple[str, ...], message: str
) -> None:
    before = dump_tables()
    result = run_command(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert dump_tables() == before


def test_custom_claims_of_a_user_are_limited_together(run_command: RunCommand, alice: User) -> None:
    assert run_command(*CLAIM, "a=" + "x" * 1500).code == 0
    assert "2048 bytes" in run_command(*CLAIM, "b=" + "x" * 1500).err
    assert run_command(*CLAIM, "a=", "--claim", "b=" + "x" * 1500).code == 0


# ---- custom claims

VALUES: list[tuple[str, Any]] = [
    ("Sales", "Sales"),
    ("5", 5),
    ('"5"', "5"),
    ("007", "007"),
    ("true", True),
    ("False", "False"),
    ("NaN", "NaN"),
    ('["buyer", 2]', ("buyer", 2)),
    ('{"a": {"b": [false]}}', {"a": {"b": (False,)}}),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_custom_claim_is_json_or_else_a_string(
    run_command: RunCommand, site: Site, alice: User, text: str, value: Any
) -> None:
    run_command("scope", "set", "staff", "x", "--claim", "department")
    document = output_json(run_command(*CLAIM, f"department={text}", "--json"))
    assert site.read_user().claims["department"] == value
    assert document["department"] == json.loads(json.dumps(value))
    assert run_command(*CLAIM, "department=").code == 0
    assert "department" not in site.read_user().claims


def test_claim_with_an_https_uri_and_an_equals_sign_in_its_value(
    run_command: RunCommand, site: Site, alice: User
) -> None:
    assert run_command(*CLAIM, "https://example.com/query=a=b").code == 0
    assert site.read_user().claims["https://example.com/query"] == "a=b"


def test_claim_that_no_scope_releases_is_reported(run_command: RunCommand, site: Site, alice: User) -> None:
    printed = run_command(*CLAIM, "departmnt=Sales", "--claim", "locale=de")
    assert printed.code == 0
    assert printed.err == "No scope releases the claim departmnt yet: `signet scope set` names it.\n"
    run_command("scope", "set", "staff", "x", "--claim", "department")
    assert run_command(*CLAIM, "department=Sales").err == ""
    assert run_command(*CLAIM, "departmnt=").err == "", "it was removed"
    assert run_command(*CLAIM, "nicknam=Al").err.endswith(" names it. Did you mean 'nickname'?\n")
    created = run_command("user", "create", "--username", "bob", "--claim", "levl=5", "--json")
    site.secrets.add(json.loads(created.out)["password"])
    assert "No scope releases the claim levl yet" in created.err


def test_email_address_is_marked_as_verified(run_command: RunCommand, site: Site, alice: User) -> None:
    options = ("--email", "alice@example.com", "--claim", "email_verified=true")
    assert output_json(run_command(*UPDATE, *options, "--json"))["email_verified"] is True
    assert "email_verified" not in output_json(run_command(*UPDATE, "--email", "a@example.com", "--json"))


# ---- scopes


def test_scope_keeps_its_claims_until_they_are_set(run_command: RunCommand, store: Store) -> None:
    options = ("--claim", "level", "--claim", "department", "--claims-in", "id_token")
    document = output_json(run_command(*SCOPE_SET, *options, "--json"))
    stored = {"scope": "staff", "description": "See your department"}
    assert document == stored | {"claims": ["department", "level"], "claims_in": ["id_token"]}
    output_json(run_command("scope", "set", "staff", "See more", "--json"))
    both = frozenset({"department", "level"})
    assert store.scopes.get("staff") == Scope("staff", "See more", both, frozenset({"id_token"}))
    run_command("scope", "set", "staff", "See more", "--claims-in", "default")
    assert store.scopes.get("staff") == Scope("staff", "See more", both)
    assert output_json(run_command("scope", "set", "staff", "See more", "--claim", "", "--json")) == {
        "scope": "staff",
        "description": "See more",
    }
    assert store.scopes.get("staff") == Scope("staff", "See more")


def test_scopes_are_listed_with_their_claims(run_command: RunCommand) -> None:
    run_command(*SCOPE_SET, "--claim", "level", "--claim", "groups", "--claims-in", "access_token")
    run_command("scope", "set", "photos.read", "See your photos")
    assert run_command("scope", "list").out.splitlines() == [
        "SCOPE        DESCRIPTION          CLAIMS        CLAIMS IN",
        "photos.read  See your photos",
        "staff        See your department  groups level  access_token",
    ]


# ---- export and import


def test_groups_claims_and_scopes_are_imported_unchanged(
    run_command: RunCommand, site: Site, store: Store, alice: User, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    run_command(*CLAIM, "https://example.com/roles=" + '[{"a": [1, true]}]', "--claim", "department=Verkauf für Ä")
    run_command(*SCOPE_SET, "--claim", "department", "--claims-in", "id_token", "--claims-in", "userinfo")
    before, scope = site.read_user(), store.scopes.get("staff")
    assert run_command("export", "--with-password-hashes", "--out", file).code == 0
    site.reset()
    assert run_command("import", file).code == 0
    after = site.read_user()
    assert (after.groups, after.claims) == (before.groups, before.claims)
    assert store.scopes.get("staff") == scope
    again = output_json(run_command("import", file, "--json"))
    assert again["problems"] == []
    run_command(*UPDATE, "--group", "other")
    assert "exists with other data" in run_command("import", file).err


def test_export_of_an_earlier_version_is_imported(
    run_command: RunCommand, site: Site, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    lines = [
        {"kind": "signet", "version": 1},
        {"kind": "scope", "scope": "photos.read", "description": "See your photos"},
        {"kind": "user", "sub": "u-1", "username": "alice", "claims": {"name": "Alice"}},
        {"kind": "end", "records": 2},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert run_command("import", file).code == 0
    assert store.scopes.get("photos.read") == Scope("photos.read", "See your photos")
    assert site.read_user().groups == frozenset()


IMPORTED: list[tuple[str, dict[str, Any], str]] = [
    ("user", {"groups": ["a,b"]}, "A group must have"),
    ("user", {"groups": "a"}, "groups cannot be"),
    ("user", {"groups": [1]}, "groups cannot be"),
    ("user", {"groups": [f"g{n}" for n in range(101)]}, "100 groups"),
    ("user", {"claims": {"iss": "https://evil.example.com"}}, "has a meaning of its own"),
    ("user", {"claims": {"__proto__": {"admin": True}}}, "has a meaning of its own"),
    ("user", {"claims": {"groups": ["a"]}}, "is set with --group"),
    ("user", {"claims": {"a": "x" * 2100}}, "2048 bytes"),
    ("user", {"claims": {"a": [[[[["x"]]]]]}}, "more than 4 levels"),
    ("user", {"claims": {"a": "\ud800"}}, "not valid Unicode"),
    ("scope", {"claims": ["sub"]}, "sub cannot be a claim"),
    ("scope", {"claims": "email"}, "claims cannot be"),
    ("scope", {"claims_in": ["elsewhere"]}, "The claims_in must be among"),
]


@pytest.mark.parametrize(("kind", "members", "problem"), IMPORTED)
def test_import_rejects(
    run_command: RunCommand, store: Store, tmp_path: Path, kind: str, members: dict[str, Any], problem: str
) -> None:
    file = tmp_path / "export.jsonl"
    record: dict[str, Any] = {"scope": "staff", "description": "x"}
    if kind == "user":
        record = {"sub": "u-1", "username": "alice", "claims": {}}
    lines = [{"kind": "signet", "version": 1}, {"kind": kind} | record | members, {"kind": "end", "records": 1}]
    file.write_text("\n".join(map(json.dumps, lines)))
    result = run_command("import", file)
    assert result.code == 1
    assert problem in result.err
    assert not [*store.users.scan()]
    assert not [*store.scopes.scan()]
