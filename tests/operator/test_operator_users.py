"""`signet user …`: users are registered with all claims, changed, signed out, disabled and removed."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.records import Consent, Identifier, Session, User
from chalicelib.sessions.backchannel_logout import SECOND_SEARCH
from chalicelib.storage.store import Store
from chalicelib.users import accounts
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.grants import insert_grant
from tests.support.operator import RunCommand, output_json
from tests.support.site import PASSWORD, STAGE, Registered, Site, dump_tables
from tests.support.threads import run_concurrently


def stored_user(store: Store, sub: str) -> User:
    user = store.users.get(sub)
    assert user
    return user


# ---- create and update

VALUES = {
    "address": {"street_address": "Weg 1\nHinterhaus", "locality": "Bonn"},
    "email": "alice@example.com",
    "email_verified": True,
    "phone_number_verified": False,
    "updated_at": 1,
}


def claim_argument(claim: str) -> str:
    value = VALUES.get(claim, f"my {claim} 爱")
    return f"{claim}={value if isinstance(value, str) else json.dumps(value)}"


@pytest.mark.parametrize("claim", accounts.CLAIMS)
def test_every_standard_claim_can_be_set_and_removed(
    site: Site, run_command: RunCommand, store: Store, claim: str
) -> None:
    created = output_json(
        run_command("user", "create", "--username", "bob", "--claim", claim_argument(claim), "--json")
    )
    site.secrets.add(created["password"])
    assert created[claim] == VALUES.get(claim, f"my {claim} 爱")
    assert "updated_at" in created
    sub = site.user(claims={"zoneinfo": "UTC"}).sub
    run_command("user", "update", "alice", "--claim", claim_argument(claim))
    assert stored_user(store, sub).claims[claim] == created[claim]
    assert set(stored_user(store, sub).claims) >= {"zoneinfo", claim, "updated_at"}
    run_command("user", "update", "alice", "--claim", f"{claim}=")
    assert claim not in stored_user(store, sub).claims


def test_the_value_of_a_text_claim_is_json_only_if_it_starts_with_a_quote(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    sub = site.user().sub
    claims = ("phone_number=12345", "nickname=true", 'name="Al \\"Ice\\" "', "profile=https://a.example/?b=c")
    result = output_json(
        run_command("user", "update", "alice", *(word for claim in claims for word in ("--claim", claim)), "--json")
    )
    expected = {"phone_number": "12345", "nickname": "true", "name": 'Al "Ice" ', "profile": "https://a.example/?b=c"}
    assert {name: result[name] for name in expected} == expected
    assert stored_user(store, sub).claims | expected == stored_user(store, sub).claims


def test_a_changed_email_address_or_phone_number_is_not_verified(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    verified = {"email": "a@example.com", "email_verified": True, "phone_number": "1", "phone_number_verified": True}
    sub = site.user(claims=verified).sub
    run_command("user", "update", "alice", "--email", "a@example.com")
    assert stored_user(store, sub).claims == verified, "the same address is no change"
    run_command("user", "update", "alice", "--email", "b@example.com")
    assert "email_verified" not in stored_user(store, sub).claims
    assert stored_user(store, sub).claims["phone_number_verified"] is True
    run_command("user", "update", "alice", "--claim", "phone_number=")
    assert "phone_number_verified" not in stored_user(store, sub).claims
    run_command("user", "update", "alice", "--email", "c@example.com", "--claim", "email_verified=true")
    assert stored_user(store, sub).claims["email_verified"] is True


def test_userinfo_returns_the_changed_claims(site: Site, run_command: RunCommand, browser: Browser) -> None:
    site.user(claims={"name": "Alice", "email": "a@example.com"})
    token = browser.tokens(site.client(), scope="openid profile email")["access_token"]
    run_command("user", "update", "alice", "--name", "Alice Liddell", "--email", "", "--claim", "locale=de")
    claims = browser.userinfo(token).json
    assert (claims["name"], claims["locale"]) == ("Alice Liddell", "de")
    assert "email" not in claims
    assert abs(claims["updated_at"] - site.clock.time) < 60


def test_a_new_username_is_valid_at_once_and_the_old_one_is_free(
    site: Site, run_command: RunCommand, browser: Browser, store: Store
) -> None:
    user, client = site.user(), site.client(trusted=True)
    renamed = output_json(run_command("user", "update", "ALICE", "--username", "Al", "--json"))
    assert (renamed["sub"], renamed["username"]) == (user.sub, "Al")
    assert browser.sign_in(browser.authorize(client), "alice").status == 400
    assert browser.sign_in(browser.authorize(client), "al").code
    assert [identifier.identifier for identifier in store.identifiers.scan()] == [username_identifier("Al")]
    site.user("alice")
    # A change of case keeps the identifier.
    assert output_json(run_command("user", "update", "al", "--username", "AL", "--json"))["username"] == "AL"
    assert run_command("user", "show", "al").code == 0


def test_a_username_that_is_taken_changes_nothing(site: Site, run_command: RunCommand, store: Store) -> None:
    site.user("bob")
    user = site.user()
    before = dump_tables()
    result = run_command("user", "update", "alice", "--username", "BOB", "--email", "new@example.com")
    assert (result.code, result.err) == (2, "The username is taken.\n")
    assert dump_tables() == before
    assert stored_user(store, user.sub) == user


def test_one_of_several_users_renamed_concurrently_gets_the_username(site: Site, store: Store) -> None:
    users = [site.user(name) for name in ("ann", "ben", "cem", "dot")]

    def rename(user: User) -> Callable[[], str]:
        def attempt() -> str:
            try:
                return accounts.update(store, user, lambda current: replace(current, username="zoe")).sub
            except ValueError:
                return ""

        return attempt

    (winner,) = filter(None, run_concurrently(rename(user) for user in users))
    identifiers = {identifier.identifier: identifier.sub for identifier in store.identifiers.scan()}
    assert identifiers.pop("username:zoe") == winner
    assert identifiers == {f"username:{user.username}": user.sub for user in users if user.sub != winner}
    for user in store.users.scan():
        assert user.username == ("zoe" if user.sub == winner else user.username)


def test_a_user_renamed_concurrently_has_one_identifier(site: Site, store: Store) -> None:
    user = site.user()
    run_concurrently(
        [
            lambda name=name: accounts.update(store, user, lambda current: replace(current, username=name))  # type: ignore[misc]
            for name in ("ann", "ben", "cem")
        ]
    )
    (identifier,) = store.identifiers.scan()
    assert identifier == Identifier(username_identifier(stored_user(store, user.sub).username), user.sub)


def test_a_rename_does_not_remove_the_identifier_of_another_user(site: Site, store: Store) -> None:
    """A record that was written by hand has a username whose identifier belongs to another user."""
    owner = site.user()
    impostor = replace(owner, sub="impostor")
    store.users.put(impostor)
    with pytest.raises(ValueError):
        accounts.update(store, impostor, lambda current: replace(current, username="eve"))
    assert list(store.identifiers.scan()) == [Identifier("username:alice", owner.sub)]


def test_no_change_is_lost_when_many_operators_update_a_user_concurrently(site: Site, store: Store) -> None:
    user, names = (
        site.user(),
        [claim for claim in accounts.CLAIMS if accounts.type_of(claim) is str and claim != "email"],
    )

    def set_claim(claim: str) -> Callable[[], User]:
        return lambda: accounts.update(store, user, lambda current: accounts.with_claims(current, {claim: "x"}, 1))

    run_concurrently(set_claim(claim) for claim in names)
    assert stored_user(store, user.sub).claims == {**dict.fromkeys(names, "x"), "updated_at": 1}


def test_admin_makes_a_user_an_administrator_and_no_admin_revokes_it(site: Site, run_command: RunCommand) -> None:
    site.user()
    assert output_json(run_command("user", "update", "alice", "--admin", "--json"))["admin"] is True
    assert "administrator" in run_command("user", "list").out
    assert output_json(run_command("user", "update", "alice", "--no-admin", "--json"))["admin"] is False


def test_stored_claims_that_are_no_longer_valid_do_not_prevent_an_update(site: Site, run_command: RunCommand) -> None:
    site.user(claims={"shoe_size": "42", "email": "no address"})
    assert output_json(run_command("user", "update", "alice", "--name", "Alice", "--json"))["shoe_size"] == "42"


# ---- sign-out, disable, enable, delete

Granted = Callable[[str], tuple[Browser, Registered, dict[str, str]]]


@pytest.fixture
def granted(site: Site, browsers: Callable[..., Browser]) -> Granted:
    """Return a function that signs a user in, with a grant that ends with the session, and two that do not."""

    def make(username: str) -> tuple[Browser, Registered, dict[str, str]]:
        site.user(username)
        client = site.client(trusted=True, scope="openid offline_access photos.read")
        browser = browsers()
        browser.sign_in(browser.authorize(client), username)
        scopes = {"online": "openid", "offline": "openid offline_access", "plain": "photos.read"}
        tokens = {name: browser.tokens(client, scope=scope)["refresh_token"] for name, scope in scopes.items()}
        return browser, client, tokens | {"code": browser.code(client, scope="openid")}

    return make


def test_sign_out_ends_sessions_and_the_grants_that_depend_on_them(
    site: Site, run_command: RunCommand, granted: Granted
) -> None:
    alice, bob = granted("alice"), granted("bob")
    assert output_json(run_command("user", "sign-out", "alice", "--yes", "--json"))["username"] == "alice"
    browser, client, tokens = alice
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert browser.refresh(client, tokens["online"]).json["error"] == "invalid_grant"
    assert browser.redeem(client, tokens["code"]).json["error"] == "invalid_grant"
    assert browser.refresh(client, tokens["offline"]).status == 200
    assert browser.refresh(client, tokens["plain"]).status == 200
    assert browser.sign_in(browser.authorize(client)).code
    browser, client, tokens = bob
    assert browser.authorize(client, prompt="none").code
    assert browser.refresh(client, tokens["online"]).status == 200


def test_sign_out_ends_a_grant_whose_session_is_already_deleted(
    site: Site, run_command: RunCommand, granted: Granted, store: Store
) -> None:
    browser, client, tokens = granted("alice")
    for session in list(store.sessions.scan()):
        store.sessions.delete(session.session_id)
    run_command("user", "sign-out", "alice", "--yes")
    assert browser.refresh(client, tokens["online"]).json["error"] == "invalid_grant"
    assert browser.refresh(client, tokens["offline"]).status == 200


def test_a_disabled_user_cannot_sign_in_until_enabled_again(
    site: Site, run_command: RunCommand, granted: Granted
) -> None:
    browser, client, tokens = granted("alice")
    shown = output_json(run_command("user", "disable", "alice", "--yes", "--json"))
    assert shown["disabled_at"]
    assert "disabled" in run_command("user", "list").out
    assert (
        output_json(run_command("user", "disable", "alice", "--yes", "--json"))["disabled_at"] == shown["disabled_at"]
    )
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert browser.sign_in(browser.authorize(client)).status == 400
    for token in ("online", "offline", "plain"):
        assert browser.refresh(client, tokens[token]).json["error"] == "invalid_grant"
    assert "disabled_at" not in output_json(run_command("user", "enable", "alice", "--json"))
    for token in ("online", "offline", "plain"):
        assert browser.refresh(client, tokens[token]).json["error"] == "invalid_grant"
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert browser.sign_in(browser.authorize(client)).code


def test_everything_has_ended_after_the_first_write_of_disable(
    browsers: Callable[..., Browser], run_command: RunCommand, granted: Granted, store: Store, wire: Wire
) -> None:
    browser, client, tokens = granted("alice")
    other = browsers()
    signed_in = other.sign_in(other.authorize(client, prompt="consent"))
    (user,) = store.users.scan()

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with wire.fault_in("PutItem", interrupt):  # the write after the first
        assert run_command("user", "disable", "alice", "--yes").code == 1
    assert [call for call in wire.calls if "Item" in call and "Get" not in call] == ["TransactWriteItems", "PutItem"]
    assert stored_user(store, user.sub).disabled_at
    assert other.submit(signed_in, decision="allow_once").status == 400
    assert browser.redeem(client, tokens["code"]).json["error"] == "invalid_grant"
    assert {browser.refresh(client, tokens[name]).status for name in ("online", "offline", "plain")} == {400}
    assert run_command("user", "enable", "alice").code == 0
    assert {browser.refresh(client, tokens[name]).status for name in ("online", "offline", "plain")} == {400}
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"


@pytest.mark.parametrize("command", ["sign-out", "disable", "set-password"])
def test_ending_everything_is_one_write_for_a_hundred_sessions_and_grants(
    site: Site, run_command: RunCommand, store: Store, wire: Wire, command: str
) -> None:
    user, client = site.user(), site.client()
    for number in range(100):
        insert_grant(site, client, user)
        store.sessions.put(Session(f"{user.sub}.{number}", user.sub, 1, 2**40, backchannel_clients=frozenset({"c"})))
    with wire.counted() as calls:
        result = run_command("user", command, "alice", "--yes", "--json")
    site.secrets.update(filter(None, [output_json(result).get("password")]))
    assert len(calls) <= 5
    assert [call for call in calls if "Get" not in call] == ["TransactWriteItems", "PutItem"]


def test_delete_removes_all_records_of_a_user_and_no_others(
    site: Site, run_command: RunCommand, store: Store, granted: Granted
) -> None:
    bob, bobs_client, tokens = granted("bob")
    _, client, _ = granted("alice")
    document = json.loads(run_command("user", "show", "alice", "--json").out)
    store.consents.put(Consent(document["sub"], client.id, frozenset({"openid"}), 1))
    run_command("user", "update", "alice", "--name", "Alice")
    removed = output_json(run_command("user", "delete", "alice", "--yes", "--json"))
    assert (removed["sub"], removed["name"]) == (document["sub"], "Alice")
    site.clock.advance(SECOND_SEARCH + MINUTE)  # the outbox searches for sessions until then
    site.run("deliver")
    remaining = [record for table in store.tables for record in table.scan() if document["sub"] in str(record)]
    assert [getattr(record, "detail", record) for record in remaining] == ["deleted"], (
        "only the event of the removal remains"
    )
    assert bob.authorize(bobs_client, prompt="none").code
    assert bob.refresh(bobs_client, tokens["online"]).status == 200
    assert site.user("alice").sub != document["sub"], "the username is free"


def test_control_characters_of_a_username_are_escaped(site: Site, browser: Browser, run_command: RunCommand) -> None:
    user, client = site.user("al\u200fice"), site.client(trusted=True)
    assert browser.sign_in(browser.authorize(client), user.username).code
    result = [
        run_command(*words, user.sub, "--yes").out for words in (("grant", "revoke", "--user"), ("user", "delete"))
    ]
    assert result == ["Revoked 1 grants of al\\u200fice.\n", "Removed al\\u200fice.\n"]


def test_an_interrupted_removal_can_be_repeated(
    site: Site, run_command: RunCommand, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = site.user()
    store.consents.put(Consent(user.sub, "c-1", frozenset({"openid"}), 1))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(store.consents), "delete", interrupt)
        assert run_command("user", "delete", "alice", "--yes").code == 1
    assert stored_user(store, user.sub).disabled_at
    assert run_command("user", "delete", "alice", "--yes").out == "Removed alice.\n"
    assert [*store.users.scan(), *store.identifiers.scan(), *store.consents.scan()] == []


@pytest.mark.parametrize("when", ["before the lookup", "after the lookup"])
def test_a_user_renamed_during_removal_leaves_no_identifier(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    user, get = site.user(), store.identifiers.get
    renamed: list[User] = []

    def rename_first(*key: str) -> Identifier | None:
        answer = get(*key)
        if not renamed:
            renamed.append(user)
            accounts.update(store, stored_user(store, user.sub), lambda current: replace(current, username="zoe"))
        return answer if when == "after the lookup" else get(*key)

    monkeypatch.setattr(store.identifiers, "get", rename_first)
    accounts.delete(store, user)
    assert [*store.users.scan(), *store.identifiers.scan()] == []


def test_delete_keeps_the_identifier_of_another_user(site: Site, store: Store) -> None:
    owner = site.user()
    impostor = replace(owner, sub="impostor")
    store.users.put(impostor)
    accounts.delete(store, impostor)
    assert [user.sub for user in store.users.scan()] == [owner.sub]
    assert [identifier.sub for identifier in store.identifiers.scan()] == [owner.sub]


@pytest.mark.parametrize("change", [accounts.disable, accounts.enable, accounts.sign_out, accounts.delete])
def test_a_removed_user_cannot_be_changed_and_is_not_recreated(site: Site, store: Store, change: Any) -> None:
    user = replace(site.user(), disabled_at=1)
    accounts.delete(store, user)
    with pytest.raises(AccessDenied, match="no longer exists"):
        change(store, user)
    assert list(store.users.scan()) == []


def test_commands_do_not_show_the_generations_of_a_user(run_command: RunCommand, site: Site) -> None:
    site.user()
    for arguments in (
        ["list", "--json"],
        ["show", "alice", "--json"],
        ["show", "alice"],
        ["disable", "alice", "--yes"],
    ):
        assert "generation" not in run_command("user", *arguments).out


# ---- history


def test_changes_of_a_user_are_in_their_history(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = output_json(run_command("user", "create", "--username", "bob", "--json"))
    site.secrets.add(created["password"])
    run_command("user", "update", "bob", "--username", "robert", "--email", "new@example.com", "--admin")
    run_command("user", "update", "robert", "--admin")  # no change
    site.secrets.add(output_json(run_command("user", "set-password", "robert", "--yes", "--json"))["password"])
    run_command("user", "sign-out", "robert", "--yes")
    run_command("user", "disable", "robert", "--yes")
    run_command("user", "enable", "robert")
    result = run_command("history", "--user", "robert", "--json")
    events = output_json(result)
    assert sorted(event["detail"] for event in events) == sorted(
        ["created", "updated: admin, email, username", "new password", "signed out", "disabled", "enabled"]
    )
    assert {(event["name"], event["device"]) for event in events} == {("user_changed", "operator")}
    assert "new@example.com" not in result.out
    run_command("user", "delete", "robert", "--yes")
    (last,) = output_json(run_command("history", "--user", created["sub"], "--json"))
    assert last["detail"] == "deleted"


def test_the_history_includes_the_events_of_the_user(site: Site, run_command: RunCommand, browser: Browser) -> None:
    site.user()
    browser.sign_in(browser.authorize(site.client()))
    assert "sign_in" in run_command("history", "--user", "alice").out


def test_the_tables_contain_no_password(site: Site, run_command: RunCommand) -> None:
    created = output_json(run_command("user", "create", "--username", "bob", "--json"))
    site.secrets.add(created["password"])
    assert created["password"] not in dump_tables()
    assert PASSWORD not in dump_tables()
    assert f"signet-{STAGE}" not in dump_tables()
