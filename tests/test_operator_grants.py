"""What people have granted, scopes in words, keys, and the history of it all: by the operator's command."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.models import Consent, Grant
from chalicelib.store import Store
from tests.browser import Browser
from tests.operator import Operate, done
from tests.site import Registered, Site

DAY = 24 * 3600


@pytest.fixture
def grants(site: Site, browsers: Callable[..., Browser]) -> Callable[[str, Registered], dict[str, Any]]:
    """Makes a grant of a person to a client: its tokens."""

    def make(username: str, client: Registered) -> dict[str, Any]:
        browser = browsers()
        browser.sign_in(browser.authorize(client, scope="openid email offline_access"), username)
        page = browser.authorize(client, scope="openid email offline_access")
        answer = browser.submit(page, decision="allow_always")
        return browser.redeem(client, answer.code).json

    return make


# ---- list


def test_a_grant_is_listed_with_who_has_granted_what_to_whom_and_when(
    site: Site, operate: Operate, browser: Browser, grants: Callable[[str, Registered], dict[str, Any]]
) -> None:
    user, client = site.user(), site.client(client_name="Photo Print")
    site.clock.advance(-2 * DAY)  # the command looks at this machine's clock
    born = site.clock.time
    tokens = grants("alice", client)
    site.clock.advance(DAY)
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    (listed,) = done(operate("grant", "list", "--json"))
    assert site.server.store.grants.get(listed.pop("grant_id"))
    assert listed == {
        "sub": user.sub,
        "username": "alice",
        "client_id": client.id,
        "client_name": "Photo Print",
        "scope": "email offline_access openid",
        "redirect_uri": client.record.redirect_uris[0],
        "created_at": born,
        "redeemed_at": born,
        "last_used_at": born + DAY,
        "ends_at": born + DAY + site.settings.refresh_token_lifetime,
    }
    text = operate("grant", "list").out
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
        # A client that gets no refresh token: the grant lives as long as its access token.
        ({"redeemed_at": 20, "ends_at": 1, "expires_at": 2**39}, 20, 2**39),
    ],
)
def test_when_a_grant_was_used_last_and_when_it_ends(
    site: Site, operate: Operate, store: Store, members: dict[str, Any], last_used: int | None, ends: int
) -> None:
    store.grants.put(grant(**members))
    (listed,) = done(operate("grant", "list", "--json"))
    assert (listed.get("last_used_at"), listed["ends_at"]) == (last_used, ends)
    assert "username" not in listed, "they are gone, and so is the client"
    assert "u-1" in operate("grant", "list", "--all").out if ends < 2**35 else True


def test_what_has_ended_is_left_out_unless_all_is_wanted(site: Site, operate: Operate, store: Store) -> None:
    store.grants.put(grant(1, revoked_at=5, ends_at=2**33, expires_at=2**33))
    store.grants.put(grant(2, expires_at=1))
    store.grants.put(grant(3, ends_at=2**33, expires_at=2**33))
    store.grants.put(grant(4, ends_at=site.clock.time, expires_at=2**33))
    assert [one["grant_id"] for one in done(operate("grant", "list", "--json"))] == ["g-3"]
    assert [one["grant_id"] for one in done(operate("grant", "list", "--all", "--json"))] == ["g-1", "g-3", "g-4"]
    assert done(operate("grant", "list", "--all", "--json"))[0]["revoked_at"] == 5


def test_a_list_is_of_one_person_one_client_or_both(site: Site, operate: Operate, store: Store) -> None:
    people = [site.user(name).sub for name in ("alice", "bob")]
    clients = [site.client(client_id=name).id for name in ("print", "other")]
    for number, (sub, client_id) in enumerate((sub, client_id) for sub in people for client_id in clients):
        store.grants.put(grant(number, sub=sub, client_id=client_id))

    def listed(*arguments: str) -> list[str]:
        return [one["grant_id"] for one in done(operate("grant", "list", *arguments, "--json"))]

    assert listed() == ["g-0", "g-1", "g-2", "g-3"]
    assert listed("--user", "alice") == ["g-0", "g-1"]
    assert listed("--user", people[1]) == ["g-2", "g-3"]
    assert listed("--client", "other") == ["g-1", "g-3"]
    assert listed("--user", "bob", "--client", "print") == ["g-2"]
    assert operate("grant", "list", "--client", "account").out == "There is no such grant.\n"


def test_two_hundred_grants_are_told_by_name_in_a_few_round_trips(
    site: Site, operate: Operate, store: Store, wire: Any
) -> None:
    people = [site.user(f"person-{number}").sub for number in range(120)]
    for number in range(200):
        store.grants.put(grant(number, sub=people[number % 120]))
    with wire.counted() as calls:
        listed = done(operate("grant", "list", "--json"))
    assert [one["username"] for one in listed] == [f"person-{number % 120}" for number in range(200)]
    assert len(calls) <= 5


# ---- revoke


def test_one_grant_is_ended_and_no_other(
    site: Site, operate: Operate, browser: Browser, grants: Callable[[str, Registered], dict[str, Any]]
) -> None:
    user, client = site.user(), site.client()
    first = grants("alice", client)
    (listed,) = done(operate("grant", "list", "--json"))
    site.server.store.consents.delete(user.sub, client.id)
    second = grants("alice", client)
    (ended,) = done(operate("grant", "revoke", listed["grant_id"], "--yes", "--json"))
    assert ended["revoked_at"]
    assert browser.refresh(client, first["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(first["access_token"]).status == 401
    assert browser.refresh(client, second["refresh_token"]).status == 200
    assert site.server.store.consents.get(user.sub, client.id), "it is asked for nobody, one grant being ended"
    assert done(operate("grant", "revoke", listed["grant_id"], "--yes", "--json")) == []
    assert operate("grant", "revoke", listed["grant_id"], "--yes").out == "Nothing was left to end.\n"


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (("--user", "alice"), {("alice", "print"), ("alice", "other")}),
        (("--client", "print"), {("alice", "print"), ("bob", "print")}),
        (("--user", "alice", "--client", "print"), {("alice", "print")}),
    ],
)
def test_all_of_a_person_of_a_client_or_of_both_end_with_their_consents(
    site: Site,
    operate: Operate,
    browser: Browser,
    grants: Callable[[str, Registered], dict[str, Any]],
    arguments: tuple[str, ...],
    gone: set[tuple[str, str]],
) -> None:
    people = {name: site.user(name).sub for name in ("alice", "bob")}
    clients = {name: site.client(client_id=name) for name in ("print", "other")}
    tokens = {(who, to): grants(who, clients[to]) for who in people for to in clients}
    ended = done(operate("grant", "revoke", *arguments, "--yes", "--json"))
    assert {(one["username"], one["client_id"]) for one in ended} == gone
    for (who, to), found in tokens.items():
        status = browser.refresh(clients[to], found["refresh_token"]).status
        assert status == (400 if (who, to) in gone else 200)
        assert bool(site.server.store.consents.get(people[who], to)) is ((who, to) not in gone)
    for who, sub in people.items():
        events = [event for event in site.server.store.events.find("sub", sub) if event.name == "access_revoked"]
        assert {(who, event.client_id) for event in events} == {one for one in gone if one[0] == who}
    assert operate("grant", "revoke", *arguments, "--yes").out == "Nothing was left to end.\n"


def test_people_are_told_what_was_ended(site: Site, operate: Operate, store: Store) -> None:
    sub = site.user().sub
    site.client(client_id="print")
    for number in range(3):
        store.grants.put(grant(number, sub=sub, client_id="print", ends_at=2**33, expires_at=2**33))
    assert operate("grant", "revoke", "g-0", "--yes").out == "Ended the grant g-0.\n"
    printed = operate("grant", "revoke", "--user", "alice", "--client", "print", "--yes")
    assert printed.out == "Ended 2 grants of alice to print.\n"


def test_a_consent_without_a_grant_is_forgotten_too(site: Site, operate: Operate, store: Store) -> None:
    sub = site.user().sub
    store.consents.put(Consent(sub, "c-1", frozenset({"openid"}), 1))
    operate("grant", "revoke", "--user", "alice", "--yes")
    assert list(store.consents.scan()) == []


# ---- scopes


def test_a_scope_is_described_described_anew_and_forgotten(site: Site, operate: Operate, store: Store) -> None:
    made = done(operate("scope", "set", "photos.read", "See your photos", "--json"))
    assert made == {"scope": "photos.read", "description": "See your photos"}
    operate("scope", "set", "photos.read", "See all your 写真")
    operate("scope", "set", "archive", "Read the archive")
    assert [one["scope"] for one in done(operate("scope", "list", "--json"))] == ["archive", "photos.read"]
    assert operate("scope", "list").out.splitlines()[2] == "photos.read  See all your 写真"
    gone = done(operate("scope", "delete", "photos.read", "--yes", "--json"))
    assert gone["description"] == "See all your 写真"
    assert operate("scope", "delete", "archive", "--yes").out == "Removed archive.\n"
    assert operate("scope", "list").out == "No scope is described.\n"


def test_the_consent_page_says_what_a_scope_means(site: Site, operate: Operate, browser: Browser) -> None:
    site.user()
    operate("scope", "set", "photos.read", "See all your <b>photos</b>")
    client = site.client(scope="openid photos.read")
    page = browser.sign_in(browser.authorize(client, scope="openid photos.read"))
    assert "See all your &lt;b&gt;photos&lt;/b&gt;" in page.body


def test_scopes_travel_with_export_and_import(site: Site, operate: Operate, store: Store, tmp_path: Any) -> None:
    file = tmp_path / "export.jsonl"
    operate("scope", "set", "photos.read", "See your photos")
    operate("export", "--out", file)
    site.empty()
    assert operate("import", file).out == "Added: 1 scope. There already: none.\n"
    assert operate("import", file).out == "Added: none. There already: 1 scope.\n"
    operate("scope", "set", "photos.read", "Something else")
    again = operate("import", file)
    assert (again.code, again.err.startswith("line 2: the scope photos.read is described in other words")) == (1, True)
    file.write_text(file.read_text().replace("photos.read", "openid"))
    assert "standard scope" in operate("import", file).err
    assert [one.description for one in store.scopes.scan()] == ["Something else"]


# ---- keys


@pytest.fixture
def with_keys(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The key commands work on the site's ring, which the tests' own key seals; it comes back afterwards."""
    site.server.keys.jwks()
    kept = site.server.store.keys.get("main")
    assert kept

    @contextmanager
    def opened(_stage: str) -> Iterator[Store]:
        yield site.server.store

    monkeypatch.setattr("infra.keys.storage", opened)
    yield
    site.server.store.keys.put(kept)
    site.server.keys._known = None


@pytest.mark.usefixtures("with_keys")
def test_what_was_done_to_the_keys_is_told_and_kept(
    site: Site, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = done(operate("key", "list", "--json"))
    made = done(operate("key", "rotate", "--now", "--json"))
    assert [one["alg"] for one in made] == [one["alg"] for one in before]
    assert not {one["name"] for one in made} & {one["name"] for one in before}
    assert "hidden" not in json.dumps(made)
    kid = before[0]["name"]
    (gone,) = done(operate("key", "retire", kid, "--yes", "--json"))
    assert gone == {**before[0], "state": "kept", "ends_at": gone["ends_at"]}
    assert done(operate("key", "retire", "--json")) == []
    events = done(operate("history", "--keys", "--json"))
    assert {event["name"]: event["detail"] for event in events} == {
        "keys_rotated": ", ".join(one["name"] for one in made),
        "keys_retired": kid,
    }


# ---- history


def test_the_newest_comes_first(site: Site, operate: Operate, store: Store) -> None:
    site.client(client_id="print")
    operate("client", "disable", "print")
    (event,) = store.events.scan()
    store.events.put(replace(event, event_id="1.x", created_at=1, detail="long ago"))
    assert [one["detail"] for one in done(operate("history", "--client", "print", "--json"))] == [
        "disabled",
        "long ago",
    ]


def test_what_was_never_touched_has_an_empty_history(site: Site, operate: Operate) -> None:
    site.user()
    assert operate("history", "--user", "alice").out == "Nothing has been done of late.\n"
