"""`signet grant …`, `scope …`, `key …` and `history`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.protocol.durations import DAY
from chalicelib.protocol.records import Consent, Grant
from chalicelib.storage.store import Store
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


def grant(number: int = 1, **members: Any) -> Grant:
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
        "scope": frozenset({"openid"}),
    }
    return Grant(**(given | members))


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
    site: Site, run_command: RunCommand, store: Store, members: dict[str, Any], last_used: int | None, ends: int
) -> None:
    store.grants.put(grant(**members))
    (listed,) = output_json(run_command("grant", "list", "--json"))
    assert (listed.get("last_used_at"), listed["ends_at"]) == (last_used, ends)
    assert "username" not in listed, "the user and the client do not exist"
    assert "u-1" in run_command("grant", "list", "--all").out if ends < 2**35 else True


def test_inactive_grants_are_listed_with_all_only(site: Site, run_command: RunCommand, store: Store) -> None:
    store.grants.put(grant(1, revoked_at=5, ends_at=2**33, expires_at=2**33))
    store.grants.put(grant(2, expires_at=1))
    store.grants.put(grant(3, ends_at=2**33, expires_at=2**33))
    store.grants.put(grant(4, ends_at=site.clock.time, expires_at=2**33))
    assert [document["grant_id"] for document in output_json(run_command("grant", "list", "--json"))] == ["g-3"]
    assert [document["grant_id"] for document in output_json(run_command("grant", "list", "--all", "--json"))] == [
        "g-1",
        "g-3",
        "g-4",
    ]
    assert output_json(run_command("grant", "list", "--all", "--json"))[0]["revoked_at"] == 5


def test_grants_are_listed_by_user_by_client_or_by_both(site: Site, run_command: RunCommand, store: Store) -> None:
    users = [site.user(name).sub for name in ("alice", "bob")]
    clients = [site.client(client_id=name).id for name in ("print", "other")]
    for number, (sub, client_id) in enumerate((sub, client_id) for sub in users for client_id in clients):
        store.grants.put(grant(number, sub=sub, client_id=client_id))

    def listed(*arguments: str) -> list[str]:
        return [document["grant_id"] for document in output_json(run_command("grant", "list", *arguments, "--json"))]

    assert listed() == ["g-0", "g-1", "g-2", "g-3"]
    assert listed("--user", "alice") == ["g-0", "g-1"]
    assert listed("--user", users[1]) == ["g-2", "g-3"]
    assert listed("--client", "other") == ["g-1", "g-3"]
    assert listed("--user", "bob", "--client", "print") == ["g-2"]
    assert run_command("grant", "list", "--client", "account").out == "No grants match.\n"


def test_two_hundred_grants_are_listed_with_names_in_a_few_round_trips(
    site: Site, run_command: RunCommand, store: Store, wire: Any
) -> None:
    users = [site.user(f"user-{number}").sub for number in range(120)]
    for number in range(200):
        store.grants.put(grant(number, sub=users[number % 120]))
    with wire.counted() as calls:
        listed = output_json(run_command("grant", "list", "--json"))
    assert [document["username"] for document in listed] == [f"user-{number % 120}" for number in range(200)]
    assert len(calls) <= 5


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
    assert revoked["revoked_at"]
    assert browser.refresh(client, first["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(first["access_token"]).status == 401
    assert browser.refresh(client, second["refresh_token"]).status == 200
    assert site.server.store.consents.get(user.sub, client.id), "the consent is kept when one grant is revoked"
    assert output_json(run_command("grant", "revoke", listed["grant_id"], "--yes", "--json")) == []
    assert run_command("grant", "revoke", listed["grant_id"], "--yes").out == "There was nothing to revoke.\n"


@pytest.mark.parametrize(
    ("arguments", "revoked"),
    [
        (("--user", "alice"), {("alice", "print"), ("alice", "other")}),
        (("--client", "print"), {("alice", "print"), ("bob", "print")}),
        (("--user", "alice", "--client", "print"), {("alice", "print")}),
    ],
)
def test_revoke_by_user_by_client_or_by_both_deletes_the_consents_too(
    site: Site,
    run_command: RunCommand,
    browser: Browser,
    grants: Callable[[str, Registered], dict[str, Any]],
    arguments: tuple[str, ...],
    revoked: set[tuple[str, str]],
) -> None:
    users = {name: site.user(name).sub for name in ("alice", "bob")}
    clients = {name: site.client(client_id=name) for name in ("print", "other")}
    tokens = {(user, client): grants(user, clients[client]) for user in users for client in clients}
    documents = output_json(run_command("grant", "revoke", *arguments, "--yes", "--json"))
    assert {(document["username"], document["client_id"]) for document in documents} == revoked
    for (user, client), grant_tokens in tokens.items():
        status = browser.refresh(clients[client], grant_tokens["refresh_token"]).status
        assert status == (400 if (user, client) in revoked else 200)
        assert bool(site.server.store.consents.get(users[user], client)) is ((user, client) not in revoked)
    for user, sub in users.items():
        events = [event for event in site.server.store.events.find("sub", sub) if event.name == "access_revoked"]
        assert {(user, event.client_id) for event in events} == {pair for pair in revoked if pair[0] == user}
    assert run_command("grant", "revoke", *arguments, "--yes").out == "There was nothing to revoke.\n"


def test_revoke_prints_what_was_revoked(site: Site, run_command: RunCommand, store: Store) -> None:
    sub = site.user().sub
    site.client(client_id="print")
    for number in range(3):
        store.grants.put(grant(number, sub=sub, client_id="print", ends_at=2**33, expires_at=2**33))
    assert run_command("grant", "revoke", "g-0", "--yes").out == "Revoked the grant g-0.\n"
    result = run_command("grant", "revoke", "--user", "alice", "--client", "print", "--yes")
    assert result.out == "Revoked 2 grants of alice to print.\n"


def test_revoke_deletes_a_consent_without_a_grant(site: Site, run_command: RunCommand, store: Store) -> None:
    sub = site.user().sub
    store.consents.put(Consent(sub, "c-1", frozenset({"openid"}), 1))
    run_command("grant", "revoke", "--user", "alice", "--yes")
    assert list(store.consents.scan()) == []


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


@pytest.fixture
def with_keys(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the key commands use the key ring of the site, and restore it afterwards."""
    site.server.keys.jwks()
    before = site.server.store.keys.get("main")
    assert before

    @contextmanager
    def opened(_stage: str) -> Iterator[Store]:
        yield site.server.store

    monkeypatch.setattr("infra.operator.keys.open_store", opened)
    yield
    site.server.store.keys.put(before)
    site.server.keys.forget_cached_keys()


@pytest.mark.usefixtures("with_keys")
def test_changes_of_the_keys_are_printed_and_in_their_history(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = output_json(run_command("key", "list", "--json"))
    created = output_json(run_command("key", "rotate", "--now", "--json"))
    assert [key["alg"] for key in created] == [key["alg"] for key in before]
    assert not {key["name"] for key in created} & {key["name"] for key in before}
    assert "hidden" not in json.dumps(created)
    kid = before[0]["name"]
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
    run_command("client", "disable", "print")
    (event,) = store.events.scan()
    store.events.put(replace(event, event_id="1.x", created_at=1, detail="long ago"))
    assert [event["detail"] for event in output_json(run_command("history", "--client", "print", "--json"))] == [
        "disabled",
        "long ago",
    ]


def test_a_user_without_events_has_an_empty_history(site: Site, run_command: RunCommand) -> None:
    site.user()
    assert run_command("history", "--user", "alice").out == "No events in the last 90 days.\n"
