"""Records of version 1 still work, and every ending ends them.

version_1.json has what the code of version 1 (commit 5383a57) stored when `World` was created with it, the ids and
generations in the codes, refresh tokens and cookies, the claims of the access tokens, and the file that its `signet
export` wrote. The file has no keys: codes, tokens and cookies are created again here.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest

from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import Session
from chalicelib.sessions.revocation import without_sessions
from chalicelib.tokens.issue import ACCESS_TOKEN_TYPE, id_token
from chalicelib.tokens.subjects import subject
from chalicelib.users import accounts
from infra.local.faults import IndexLag
from tests.guarantees.test_endings import ENDINGS, SESSION
from tests.support.account import listed_clients, shows_account_of, sign_in_to_account
from tests.support.browser import Browser
from tests.support.endings import (
    CLIENT_IDS,
    PAUSE,
    Grants,
    World,
    ended,
    own_world,
    put_items,
)
from tests.support.operator import RunCommand, output_json
from tests.support.receivers import Receiver
from tests.support.site import Registered, Site

FILE = Path(__file__).with_name("version_1.json")
IDLE = 12 * HOUR  # of a session
# Grants of HTTP Basic have no copy of the user's generation, and no stored session.
NOT_COMPARED = {"sign out all other browsers": {"basic"}, "user sign-out": {"basic"}, "user mfa reset": {"basic"}}
# Those after which codes and refresh tokens are redeemed too, which takes as long as everything else.
CONSUMING = {"sign out", "own password", "remove each application", "client delete, registered again"}


@cache
def version_1() -> dict[str, Any]:
    """Return the content of the file."""
    content: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return content


def shifted(value: Any, seconds: int) -> Any:
    """Return a DynamoDB value in which all times are later."""
    match value:
        case {"N": str(number)} if abs(int(number) - version_1()["time"]) < 400 * DAY:
            return {"N": str(int(number) + seconds)}
        case dict():
            return {name: shifted(member, seconds) for name, member in value.items()}
    return value


class Version1World(World):
    """The same world, stored by version 1."""

    def _create(self) -> None:
        stored, shift = version_1(), self.site.clock() - version_1()["time"]
        names = {table.name.rpartition("-")[2]: table.name for table in self.store.tables}
        put_items(self.store, [(names[kind], shifted(item, shift)) for kind, item in stored["items"]])
        for client_id in CLIENT_IDS:
            record = self.store.clients.get(client_id)
            assert record
            self.registered[client_id] = Registered(record, f"the secret of {client_id}")
        self.site.clock.advance(-PAUSE)
        self._cache_clients()
        self.site.clock.advance(PAUSE)
        self.subs |= stored["subs"]
        self.browser, self.second_browser, self.bobs_browser, _ = (
            self._browser(*session) for session in stored["sessions"].values()
        )
        self.grants |= {
            column: self._stored_grants(**members, shift=shift) for column, members in stored["grants"].items()
        }
        self.fourth_grants = self.grants.pop("fourth browser's chat")
        self.consent_page = self.browser.authorize(self.registered["asking"])

    def _browser(self, session_id: str, generation: int) -> Browser:
        browser = self.open_browser()
        browser.cookies["signet-session"] = self.site.server.keys.make_handle("sid", session_id, generation)
        return browser

    def _stored_grants(
        self,
        client_id: str,
        kind: str,
        tokens: dict[str, Any],
        code: tuple[str, int] | None,
        retried: dict[str, Any] | None,
        redeemed_codes: list[tuple[str, int]],
        shift: int,
    ) -> Grants:
        keys = self.site.server.keys

        def of(tokens: dict[str, Any]) -> dict[str, Any]:
            result = self._tokens(tokens["access_token"], shift)
            if "refresh_token" in tokens:
                result["refresh_token"] = keys.make_handle("rt", *tokens["refresh_token"])
            self.site.secrets.update(result.values())
            return result

        return Grants(
            self,
            client_id,
            kind,
            of(tokens),
            keys.make_handle("code", *code) if code else "",
            of(retried) if retried else {},
            tuple(keys.make_handle("code", *redeemed) for redeemed in redeemed_codes),
        )

    def _tokens(self, claims: dict[str, Any], shift: int) -> dict[str, Any]:
        """Return the access token with these claims, and for OpenID Connect an ID token."""
        server, grant = self.site.server, self.grant(claims["grant_id"])
        client, issuer = self.registered.get(claims["client_id"]), server.issuer
        members = claims | {"iss": issuer, "iat": claims["iat"] + shift, "exp": claims["exp"] + shift}
        members["aud"] = [issuer if audience == "issuer" else audience for audience in claims["aud"]]
        if "auth_time" in claims:
            members["auth_time"] += shift
        if client and client.record.subject_type == "pairwise" and "auth_time" in claims:
            members["sub"] = subject(server, client.record, grant.sub or "")  # depends on the keys
        result = {"access_token": server.keys.sign(members, ACCESS_TOKEN_TYPE, "RS256")}
        if client and "openid" in grant.scope:
            result["id_token"] = id_token(server, client.record, grant, user=None)
        return result

    # ---- records

    def grant(self, grant_id: str) -> Grant:
        """Return a grant."""
        grant = self.store.grants.get(grant_id)
        assert grant
        return grant

    def session(self) -> tuple[Session, dict[str, Any]]:
        """Return the session of alice's browser, and its item."""
        key = version_1()["sessions"]["browser"][0]
        session, table = self.store.sessions.get(key), self.store.sessions
        assert session
        item = self.store.dynamodb.client.call("GetItem", TableName=table.name, Key=table.pack_key((key,)))["Item"]
        return session, item


@pytest.fixture(scope="module")
def stored_world(_site: Site) -> Iterator[Version1World]:
    """The records of version 1 on a server of their own."""
    with own_world(_site, Version1World, backchannel_networks=("127.0.0.0/8",)) as world:
        yield world


@pytest.fixture
def world(site: Site, stored_world: Version1World) -> Version1World:
    """The records of version 1 as they were at first. `site` has emptied the tables."""
    stored_world.restore()
    return stored_world


def test_file_has_records_without_the_fields_of_version_2() -> None:
    items: dict[str, list[dict[str, Any]]] = {}
    for kind, item in version_1()["items"]:
        items.setdefault(kind, []).append(item)
    assert items.keys() == {
        *("clients", "users", "identifiers", "consents", "grants", "sessions", "scopes", "events", "deliveries"),
    }
    new = {"registration_id", "grants_generation", "consents_generation", "user_generation", "consent_generation"}
    new |= {"client_generation", "session_stored", "active_until", "sessions_below", "password_generation"}
    assert not new & {name for kind in items for item in items[kind] for name in item}
    assert all("sessions_generation" not in item for item in items["grants"])
    assert all("generation" not in item for item in items["consents"])
    assert any(item.get("grants") for item in items["sessions"])


def test_grants_sessions_and_consents_of_version_1_work(world: Version1World) -> None:
    outcomes = world.outcomes()
    assert all(outcomes.values()), outcomes


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if not ending.settings])
def test_an_ending_ends_what_the_table_says_also_of_version_1(
    name: str, world: Version1World, run_command: RunCommand
) -> None:
    ending = ENDINGS[name]
    ending.end(world, run_command)
    outcomes = world.outcomes(consuming=name in CONSUMING)
    columns = frozenset(ending.columns) - NOT_COMPARED.get(name, set())
    assert outcomes == ended(outcomes, columns, spared=ending.spared)


def test_old_openid_grant_has_ended_when_its_session_is_absent(world: Version1World) -> None:
    world.store.sessions.delete(version_1()["sessions"]["browser"][0])
    outcomes = world.outcomes()
    assert not world.registered["bound"].record.direct_sign_in
    assert world.registered["basic"].record.direct_sign_in
    assert outcomes == ended(outcomes, SESSION)


def test_old_openid_grant_ends_when_its_session_lapses(world: Version1World) -> None:
    world.site.clock.advance(IDLE)
    refreshed = {
        kind: world.machine.refresh(grants.client, grants.tokens["refresh_token"]).status == 200
        for kind, grants in world.grants.items()
        if "refresh_token" in grants.tokens
    }
    bound = {"bound", "remembered", "second browser's bound", "bob's bound", "bob's remembered"}
    assert refreshed == {kind: kind not in bound for kind in refreshed}


def test_first_extension_of_an_old_session_removes_the_list_of_grants_and_keeps_active_until(
    world: Version1World,
) -> None:
    before, item = world.session()
    assert before.active_until is None
    assert len(item["grants"]["SS"]) > 10
    world.site.clock.advance(4 * HOUR)
    grants = world.grants["bound"]
    tokens = world.machine.refresh(grants.client, grants.tokens["refresh_token"]).json
    session, item = world.session()
    assert "grants" not in item
    assert session.expires_at == world.site.clock() + IDLE
    assert session.active_until == before.expires_at
    world.site.clock.time = before.expires_at
    assert not shows_account_of(world.browser, "alice")
    assert world.machine.refresh(grants.client, tokens["refresh_token"]).status == 200


def test_browser_extends_both_times_of_an_old_session(world: Version1World) -> None:
    world.site.clock.advance(4 * HOUR)
    assert shows_account_of(world.browser, "alice")
    session, item = world.session()
    assert "grants" not in item
    assert session.active_until == session.expires_at == world.site.clock() + IDLE


def test_grant_created_in_an_old_session_is_valid_and_ends_with_it(
    world: Version1World, run_command: RunCommand
) -> None:
    tokens = world.browser.tokens(world.registered["remembered"], prompt="none")
    assert world.machine.userinfo(tokens["access_token"]).status == 200
    ENDINGS["sign out"].end(world, run_command)
    assert world.machine.userinfo(tokens["access_token"]).status == 401


def test_user_who_was_signed_out_everywhere_by_version_1_stays_signed_out(world: Version1World) -> None:
    """Version 1 incremented the number first, and ended the sessions afterwards."""
    world.store.users.put(without_sessions(world.user()))
    outcomes = world.outcomes()
    assert outcomes == ended(outcomes, SESSION | {"second browser", "second browser's bound"})


def test_logout_tokens_for_sessions_of_version_1_are_sent(world: Version1World) -> None:
    receiver = Receiver()
    chat = world.store.clients.get("chat")
    assert chat
    world.store.clients.put(replace(chat, backchannel_logout_uri=receiver.url))
    (waiting,) = world.store.deliveries.scan()
    world.site.run("deliver")  # what version 1 has left in the outbox
    accounts.sign_out(world.store, world.user())
    world.site.run("deliver")
    receiver.close()
    sids = [jwt.decode(token, options={"verify_signature": False})["sid"] for token in receiver.tokens]
    assert waiting.session_id
    assert len(set(sids)) == len(sids) == 2
    fourth = world.fourth_grants
    assert world.machine.userinfo(fourth.tokens["access_token"]).status == 401
    assert (
        world.machine.refresh(Registered(chat, "the secret of chat"), fourth.tokens["refresh_token"]).json["error"]
        == "invalid_grant"
    )


def test_history_of_version_1_is_shown(world: Version1World) -> None:
    page = world.browser.get("/account/activity").body
    assert all(text in page for text in ("Signed in", "Signed out", "Access allowed"))


# ---- export and import


def test_user_deleted_and_imported_with_the_same_sub_revives_no_grant(
    site: Site, stored_world: Version1World, index_lag: IndexLag, run_command: RunCommand, tmp_path: Path
) -> None:
    index_lag.reset(stored_world.site.clock)
    index_lag.seconds = HOUR  # so that the deletion finds neither sessions nor grants
    stored_world.restore(shown=False)
    file = tmp_path / "export.jsonl"
    assert run_command("export", "--with-password-hashes", "--out", file).code == 0
    ENDINGS["user delete"].end(stored_world, run_command)
    assert run_command("import", file).code == 0
    assert len(list(stored_world.store.grants.scan())) > 20
    outcomes = stored_world.outcomes(consuming=False)
    assert outcomes == ended(outcomes, ENDINGS["user disable, user enable"].columns)


def test_records_of_version_1_are_exported(world: Version1World, run_command: RunCommand) -> None:
    lines = [json.loads(line) for line in run_command("export", "--with-password-hashes").out.splitlines()]
    exported = {
        kind: [line for line in lines if line["kind"] == kind] for kind in ("user", "client", "consent", "scope")
    }
    assert {user["username"] for user in exported["user"]} == {"alice", "bob"}
    assert len(exported["client"]) == len(CLIENT_IDS) + 1
    assert {(consent["sub"], consent["client_id"]) for consent in exported["consent"]} == {
        (sub, "remembered") for sub in world.subs.values()
    }
    assert [scope["scope"] for scope in exported["scope"]] == ["print"]


def test_export_of_version_1_is_imported(
    site: Site, browsers: Callable[..., Browser], run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    lines = version_1()["export"]
    assert any("sessions_generation" in line for line in lines)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = output_json(run_command("import", file, "--json"))
    assert imported["problems"] == []
    assert imported["added"] == {"scope": 1, "client": 2, "user": 2, "consent": 2}
    browser = browsers()
    assert sign_in_to_account(browser).status == 200
    assert listed_clients(browser) == {"remembered"}
    record = site.server.store.clients.get("remembered")
    assert record
    client = Registered(record, "the secret of remembered")
    assert browser.tokens(client, prompt="none", scope="openid email")["access_token"]
