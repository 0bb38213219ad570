"""`signet grant …`, `scope …`, `key …` and `history`."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import Consent, Session, User
from chalicelib.storage.cache import LIFETIME
from chalicelib.storage.store import Store
from chalicelib.storage.table import Table
from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.site import Registered, Site


@pytest.fixture
def grants(site: Site, browsers: Callable[..., Browser]) -> Callable[[str, Registered], dict[str, Any]]:
    """Return a function that creates a grant of a user to a client and returns its tokens."""

    def create(username: str, client: Registered) -> dict[str, Any]:
        browser = browsers()
        browser.sign_in(browser.authorize(client, scope="openid email offline_access"), username)
        page = browser.authorize(client, scope="openid email offline_access")
        answer = browser.submit(page, decision="allow_always")
        return browser.redeem(client, answer.code).json

    return create


# ---- list


def test_a_grant_is_listed_with_user_client_scope_and_times(
    site: Site, run_command: RunCommand, browser: Browser, grants: Callable[[str, Registered], dict[str, Any]]
) -> None:
    user, client = site.user(), site.client(client_name="Photo Print")
    site.clock.advance(-2 * DAY)  # the command uses the clock of this machine
    created_at = site.clock.time
    tokens = grants("alice", client)
    site.clock.advance(DAY)
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    (listed,) = output_json(run_command("grant", "list", "--json"))
    assert site.server.store.grants.get(listed.pop("grant_id"))
    assert listed == {
        "sub": user.sub,
        "username": "alice",
        "client_id": client.id,
        "client_name": "Photo Print",
        "scope": "email offline_access openid",
        "redirect_uri": client.record.redirect_uris[0],
        "created_at": created_at,
        "redeemed_at": created_at,
        "last_used_at": created_at + DAY,
        "ends_at": created_at + DAY + site.settings.refresh_token_lifetime,
    }
    text = run_command("grant", "list").out
    for word in ("alice", "Photo Print", "email offline_access openid"):
        assert word in text
    assert not any(token in text for token in (tokens["refresh_token"], refreshed["refresh_token"]))


def insert_user(store: Store, number: int = 1, **members: Any) -> User:
    """Store a user without an identifier, as most tests need none."""
    user = User(f"u-{number}", f"user-{number}", "", {}, **members)
    store.users.put(user)
    return user


@pytest.fixture
def records(site: Site, store: Store) -> Store:
    """The tables, with the user u-1 (user-1) and the client c-1, to which `grant` belongs."""
    insert_user(store)
    store.clients.put(Client("c-1", "Photo Print", ("https://a.example/",)))
    return store


def grant(number: int = 1, **members: Any) -> Grant:
    """Return a valid grant of u-1 to c-1 that needs no session."""
    given: dict[str, Any] = {
        "grant_id": f"g-{number}",
        "client_id": "c-1",
        "sub": "u-1",
        "session_id": "u-1.s",
        "redirect_uri": "https://a.example/",
        "redirect_uri_sent": True,
        "auth_time": 1,
        "created_at": number,
        "code_expires_at": 2**40,
        "expires_at": 2**40,
        "ends_at": 2**40,
        "scope": frozenset({"openid", "offline_access"}),
    }
    return Grant(**(given | members))


def listed_ids(run_command: RunCommand, *arguments: str) -> list[str]:
    return [document["grant_id"] for document in output_json(run_command("grant", "list", *arguments, "--json"))]


@pytest.mark.parametrize(
    ("members", "last_used", "ends"),
    [
        ({}, None, 2**40),
        ({"redeemed_at": 20}, 20, 2**40),
        ({"redeemed_at": 20, "rotated_at": {"1": 30, "2": 40}}, 40, 2**40),
        ({"redeemed_at": 20, "ends_at": 2**39}, 20, 2**39),
        ({"redeemed_at": 20, "expires_at": 2**39}, 20, 2**39),
        # A client without refresh token: the grant is valid as long as its access token.
        ({"redeemed_at": 20, "ends_at": 1, "expires_at": 2**39}, 20, 2**39),
    ],
)
def test_last_use_and_expiry_of_a_grant(
    run_command: RunCommand, records: Store, members: dict[str, Any], last_used: int | None, ends: int
) -> None:
    records.grants.put(grant(**members))
    (listed,) = output_json(run_command("grant", "list", "--json"))
    assert (listed.get("last_used_at"), listed["ends_at"]) == (last_used, ends)


def session(**members: Any) -> Session:
    return replace(Session("u-1.s", "u-1", auth_time=1, expires_at=2**40), **members)


OPENID = frozenset({"openid"})
# The grant, the records that it depends on besides u-1 and c-1, and why it has ended.
STATES: list[tuple[str, Grant, list[User | Client | Consent | Session], str | None]] = [
    ("offline_access", grant(), [], None),
    ("in its session", grant(scope=OPENID), [session()], None),
    ("HTTP Basic", grant(scope=OPENID, session_stored=False, sessions_generation=0), [], None),
    ("without openid", grant(scope=frozenset({"photos.read"})), [], None),
    ("client's own", grant(sub=None, session_id="", scope=frozenset({"photos.read"})), [], None),
    ("client's own of version 1", grant(sub="c-1", session_id="", scope=frozenset({"photos.read"})), [], None),
    ("to a disabled client", grant(), [Client("c-1", "Photo Print", (), disabled_at=1)], None),
    ("to the playground", grant(client_id="playground"), [], None),
    ("same consent", grant(consent_generation=2), [Consent("u-1", "c-1", generation=2)], None),
    ("revoked", grant(revoked_at=5), [], "revoked"),
    ("expired", grant(ends_at=9), [], "expired"),
    ("deleted user", grant(sub="u-2"), [], "the user was deleted or is disabled"),
    (
        "grants of the user",
        grant(),
        [User("u-1", "a", "", {}, grants_generation=1)],
        "all grants of the user were ended",
    ),
    ("removed access", grant(), [Consent("u-1", "c-1", generation=1)], "the access of the client was removed"),
    ("deleted client", grant(client_id="c-2"), [], "the client was deleted or is disabled"),
    ("another client", grant(registration_id="r"), [], "the client was registered again"),
    (
        "grants of the client",
        grant(),
        [Client("c-1", "Photo Print", (), grants_generation=1)],
        "all grants of the client were ended",
    ),
    ("no session", grant(scope=OPENID, session_stored=True), [], "the session has ended"),
    ("ended session", grant(scope=OPENID), [session(ended_at=3)], "the session has ended"),
    ("all sessions", grant(scope=OPENID), [session(sessions_generation=1)], "the session has ended"),
]


@pytest.mark.parametrize(("what", "stored", "also_stored", "ended"), STATES, ids=[what for what, *_ in STATES])
def test_a_grant_that_has_ended_is_listed_with_all_only_and_with_the_reason(
    run_command: RunCommand,
    records: Store,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    stored: Grant,
    also_stored: list[User | Client | Consent | Session],
    ended: str | None,
) -> None:
    monkeypatch.setenv("SIGNET_PLAYGROUND", "off")  # here, but a stage may have it
    tables: dict[type, Any] = {User: records.users, Client: records.clients, Consent: records.consents}
    tables[Session] = records.sessions
    for record in also_stored:
        tables[type(record)].put(record)
    records.grants.put(stored)
    for arguments in [(), *([("--user", "u-1")] if stored.sub == "u-1" else [])]:
        assert listed_ids(run_command, *arguments) == ([] if ended else ["g-1"])
        (document,) = output_json(run_command("grant", "list", *arguments, "--all", "--json"))
        assert (document.get("ended"), document.get("revoked_at")) == (ended, stored.revoked_at)
        head, row = run_command("grant", "list", *arguments, "--all").out.splitlines()
        assert head.endswith("  ENDED")
        assert row.endswith(ended or str(2**40))


def test_a_grant_of_a_client_for_itself_is_listed_without_a_user(run_command: RunCommand, records: Store) -> None:
    records.grants.put(grant(sub=None, session_id="", redirect_uri=""))
    (listed,) = output_json(run_command("grant", "list", "--json"))
    assert not {"sub", "username", "redirect_uri"} & set(listed)
    assert "Photo Print" in run_command("grant", "list").out


def test_grants_are_listed_by_user_by_client_or_by_both(site: Site, run_command: RunCommand, store: Store) -> None:
    users = [site.user(name) for name in ("alice", "bob")]
    clients = [site.client(client_id=name).record for name in ("print", "other")]
    for number, (user, client) in enumerate((user, client) for user in users for client in clients):
        copies = {"user_generation": user.grants_generation, "registration_id": client.registration_id}
        store.grants.put(grant(number, sub=user.sub, client_id=client.client_id, **copies))
    assert listed_ids(run_command) == ["g-0", "g-1", "g-2", "g-3"]
    assert listed_ids(run_command, "--user", "alice") == ["g-0", "g-1"]
    assert listed_ids(run_command, "--user", users[1].sub) == ["g-2", "g-3"]
    assert listed_ids(run_command, "--client", "other") == ["g-1", "g-3"]
    assert listed_ids(run_command, "--user", "bob", "--client", "print") == ["g-2"]
    assert run_command("grant", "list", "--client", "account").out == "No grants match.\n"


@pytest.mark.parametrize("by_user", [False, True], ids=["of 120 users", "of one user"])
def test_two_hundred_grants_are_listed_with_names_in_a_few_round_trips(
    run_command: RunCommand, records: Store, wire: Any, by_user: bool
) -> None:
    users = 1 if by_user else 120
    for number in range(users):
        insert_user(records, number)
    for number in range(200):
        records.grants.put(grant(number, sub=f"u-{number % users}"))
    with wire.counted() as calls:
        listed = output_json(run_command("grant", "list", *(("--user", "u-0") if by_user else ()), "--json"))
    assert [document["username"] for document in listed] == [f"user-{number % users}" for number in range(200)]
    assert len(calls) <= 6


# ---- revoke


def test_revoke_with_a_grant_id_revokes_only_that_grant(
    site: Site, run_command: RunCommand, browser: Browser, grants: Callable[[str, Registered], dict[str, Any]]
) -> None:
    user, client = site.user(), site.client()
    first = grants("alice", client)
    (listed,) = output_json(run_command("grant", "list", "--json"))
    site.server.store.consents.delete(user.sub, client.id)
    second = grants("alice", client)
    (revoked,) = output_json(run_command("grant", "revoke", listed["grant_id"], "--yes", "--json"))
    assert (revoked["grant_id"], revoked["ended"]) == (listed["grant_id"], "revoked")
    assert revoked["revoked_at"]
    assert browser.refresh(client, first["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(first["access_token"]).status == 401
    assert browser.refresh(client, second["refresh_token"]).status == 200
    (consent,) = site.server.store.consents.find("sub", user.sub)
    assert not consent.empty, "the consent is kept when one grant is revoked"
    assert output_json(run_command("grant", "revoke", listed["grant_id"], "--yes", "--json")) == []
    assert run_command("grant", "revoke", listed["grant_id"], "--yes").out == "There was nothing to revoke.\n"
    events = [event.name for event in site.server.store.events.find("sub", user.sub)]
    assert events.count("access_revoked") == 1


@pytest.mark.parametrize(
    ("arguments", "revoked", "ended"),
    [
        (("--user", "alice"), {("alice", "print"), ("alice", "other")}, "all grants of the user were ended"),
        (("--client", "print"), {("alice", "print"), ("bob", "print")}, "all grants of the client were ended"),
        (("--user", "alice", "--client", "print"), {("alice", "print")}, "the access of the client was removed"),
    ],
)
def test_revoke_by_user_by_client_or_by_both_forgets_the_consents_too(
    site: Site,
    run_command: RunCommand,
    browsers: Callable[..., Browser],
    grants: Callable[[str, Registered], dict[str, Any]],
    arguments: tuple[str, ...],
    revoked: set[tuple[str, str]],
    ended: str,
) -> None:
    users = {name: site.user(name).sub for name in ("alice", "bob")}
    clients = {name: site.client(client_id=name) for name in ("print", "other")}
    tokens = {(user, client): grants(user, clients[client]) for user in users for client in clients}
    documents = output_json(run_command("grant", "revoke", *arguments, "--yes", "--json"))
    assert {(document["username"], document["client_id"]) for document in documents} == revoked
    assert {document["ended"] for document in documents} == {ended}
    site.clock.advance(LIFETIME)
    for (user, client), grant_tokens in tokens.items():
        browser = browsers()
        status = browser.refresh(clients[client], grant_tokens["refresh_token"]).status
        assert status == (400 if (user, client) in revoked else 200)
        answered = browser.sign_in(browser.authorize(clients[client], scope="openid email offline_access"), user)
        assert ("Remember my choice" in answered.body) is ((user, client) in revoked), "the user is asked again"
    for user, sub in users.items():
        events = [event for event in site.server.store.events.find("sub", sub) if event.name == "access_revoked"]
        assert sorted((user, event.client_id) for event in events) == sorted(
            pair for pair in revoked if pair[0] == user
        )
    assert run_command("grant", "revoke", *arguments, "--yes").out == "There was nothing to revoke.\n"


@pytest.mark.parametrize(
    "arguments", [("--user", "u-1"), ("--client", "c-1"), ("--user", "u-1", "--client", "c-1")], ids=" ".join
)
def test_revoke_makes_one_write_for_a_hundred_grants_and_one_event(
    run_command: RunCommand, records: Store, wire: Any, arguments: tuple[str, ...]
) -> None:
    for number in range(100):
        records.grants.put(grant(number))
    with wire.counted() as calls:
        assert len(output_json(run_command("grant", "revoke", *arguments, "--yes", "--json"))) == 100
    assert [call for call in calls if "Get" not in call and call not in ("Query", "Scan")] == ["UpdateItem", "PutItem"]
    assert listed_ids(run_command) == []


@pytest.mark.parametrize("arguments", [("--user", "u-1"), ("--user", "u-1", "--client", "c-1")])
def test_revoke_of_a_user_ends_a_grant_that_the_index_does_not_show_yet(
    run_command: RunCommand, records: Store, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    records.grants.put(grant())
    with monkeypatch.context() as lagging:
        lagging.setattr(Table, "find", lambda *_, **__: iter(()))
        assert run_command("grant", "revoke", *arguments, "--yes").out == "There was nothing to revoke.\n"
    assert listed_ids(run_command) == []


def test_revoke_by_client_ends_the_grants_of_the_client_for_itself(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    client = site.client(client_id="night").record
    store.grants.put(grant(client_id="night", sub=None, session_id="", registration_id=client.registration_id))
    (revoked,) = output_json(run_command("grant", "revoke", "--client", "night", "--yes", "--json"))
    assert revoked["ended"] == "all grants of the client were ended"
    (event,) = output_json(run_command("history", "--client", "night", "--json"))
    assert event["name"] == "access_revoked"


def test_revoke_by_a_built_in_client_ends_its_grants_and_forgets_its_consents(
    run_command: RunCommand, records: Store
) -> None:
    insert_user(records, 2)
    records.grants.put(grant(1, client_id="playground"))
    records.grants.put(grant(2))
    records.consents.put(Consent("u-2", "playground", frozenset({"openid"}), 1))
    result = run_command("grant", "revoke", "--client", "playground", "--yes")
    assert result.out == "Revoked 1 grants to playground.\n"
    assert listed_ids(run_command) == ["g-2"]
    assert {consent.sub: (consent.empty, consent.generation) for consent in records.consents.scan()} == {
        "u-1": (True, 1),
        "u-2": (True, 1),
    }
    events = [event.sub for event in records.events.scan() if event.name == "access_revoked"]
    assert sorted(events) == ["u-1", "u-2"]


def test_revoke_of_a_grant_that_has_ended_otherwise_reports_nothing(run_command: RunCommand, records: Store) -> None:
    records.grants.put(grant(user_generation=9))
    assert run_command("grant", "revoke", "g-1", "--yes").out == "There was nothing to revoke.\n"
    assert list(records.events.scan()) == []


def test_revoke_prints_what_was_revoked_and_when_it_takes_effect(run_command: RunCommand, records: Store) -> None:
    for number in range(3):
        records.grants.put(grant(number))
    assert run_command("grant", "revoke", "g-0", "--yes").out == "Revoked the grant g-0.\n"
    result = run_command("grant", "revoke", "--user", "u-1", "--client", "c-1", "--yes")
    assert result.out == "Revoked 2 grants of user-1 to c-1.\n"
    records.grants.put(grant(4, consent_generation=1))
    result = run_command("grant", "revoke", "--client", "c-1", "--yes")
    assert result.out == "Revoked 1 grants to c-1. It takes effect within a minute.\n"


@pytest.mark.parametrize(
    "arguments", [("--user", "u-1"), ("--client", "c-1"), ("--user", "u-1", "--client", "c-1")], ids=" ".join
)
def test_revoke_forgets_a_consent_without_a_grant(
    run_command: RunCommand, records: Store, arguments: tuple[str, ...]
) -> None:
    records.consents.put(Consent("u-1", "c-1", frozenset({"openid"}), 1))
    assert run_command("grant", "revoke", *arguments, "--yes").out.startswith("Revoked 0 grants")
    (user,), (client,), (consent,) = records.users.scan(), records.clients.scan(), records.consents.scan()
    assert consent.valid_for(user, client).empty
    assert [event.name for event in records.events.scan()] == ["access_revoked"]


def test_revoke_records_no_event_for_what_had_ended_before(run_command: RunCommand, records: Store) -> None:
    records.grants.put(grant(1, user_generation=9))
    records.consents.put(Consent("u-1", "c-1", frozenset({"openid"}), 1, consents_generation=9))
    records.consents.put(Consent("u-1", "c-2", frozenset({"openid"}), 1))  # its client was deleted
    assert run_command("grant", "revoke", "--user", "u-1", "--yes").out == "There was nothing to revoke.\n"
    assert list(records.events.scan()) == []


# ---- scopes


def test_the_description_of_a_scope_is_set_changed_and_removed(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    document = output_json(run_command("scope", "set", "photos.read", "See your photos", "--json"))
    assert document == {"scope": "photos.read", "description": "See your photos"}
    run_command("scope", "set", "photos.read", "See all your 写真")
    run_command("scope", "set", "archive", "Read the archive")
    assert [document["scope"] for document in output_json(run_command("scope", "list", "--json"))] == [
        "archive",
        "photos.read",
    ]
    assert run_command("scope", "list").out.splitlines()[2] == "photos.read  See all your 写真"
    removed = output_json(run_command("scope", "delete", "photos.read", "--yes", "--json"))
    assert removed["description"] == "See all your 写真"
    assert run_command("scope", "delete", "archive", "--yes").out == "Removed archive.\n"
    assert run_command("scope", "list").out == "No scope is described.\n"


def test_the_consent_page_shows_the_description_of_a_scope(
    site: Site, run_command: RunCommand, browser: Browser
) -> None:
    site.user()
    run_command("scope", "set", "photos.read", "See all your <b>photos</b>")
    client = site.client(scope="openid photos.read")
    page = browser.sign_in(browser.authorize(client, scope="openid photos.read"))
    assert "See all your &lt;b&gt;photos&lt;/b&gt;" in page.body


def test_described_scopes_are_exported_and_imported(
    site: Site, run_command: RunCommand, store: Store, tmp_path: Any
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("scope", "set", "photos.read", "See your photos")
    run_command("export", "--out", file)
    site.reset()
    assert run_command("import", file).out == "Added: 1 scope. Already existing: none.\n"
    assert run_command("import", file).out == "Added: none. Already existing: 1 scope.\n"
    run_command("scope", "set", "photos.read", "Something else")
    again = run_command("import", file)
    assert (
        again.code,
        again.err.startswith("line 2: the scope photos.read exists with other data and was not changed"),
    ) == (1, True)
    file.write_text(file.read_text().replace("photos.read", "openid"))
    assert "standard scope" in run_command("import", file).err
    assert [scope.description for scope in store.scopes.scan()] == ["Something else"]


# ---- keys


@pytest.mark.usefixtures("with_keys")
def test_changes_of_the_keys_are_printed_and_in_their_history(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = output_json(run_command("key", "list", "--json"))
    created = output_json(run_command("key", "rotate", "--now", "--yes", "--json"))
    assert [key["alg"] for key in created] == [key["alg"] for key in before]
    assert not {key["name"] for key in created} & {key["name"] for key in before}
    assert "hidden" not in json.dumps(created)
    kid = before[0]["name"]
    site.clock.advance(120)
    (removed,) = output_json(run_command("key", "retire", kid, "--yes", "--json"))
    assert removed == {**before[0], "state": "kept", "ends_at": removed["ends_at"]}
    assert output_json(run_command("key", "retire", "--json")) == []
    events = output_json(run_command("history", "--keys", "--json"))
    assert {event["name"]: event["detail"] for event in events} == {
        "keys_rotated": ", ".join(key["name"] for key in created),
        "keys_retired": kid,
    }


# ---- history


def test_the_newest_event_comes_first(site: Site, run_command: RunCommand, store: Store) -> None:
    site.client(client_id="print")
    run_command("client", "disable", "print", "--yes")
    (event,) = store.events.scan()
    store.events.put(replace(event, event_id="1.x", created_at=1, detail="long ago"))
    assert [event["detail"] for event in output_json(run_command("history", "--client", "print", "--json"))] == [
        "disabled",
        "long ago",
    ]


def test_a_user_without_events_has_an_empty_history(site: Site, run_command: RunCommand) -> None:
    site.user()
    assert run_command("history", "--user", "alice").out == "No events in the last 90 days.\n"
