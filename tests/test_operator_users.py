"""People in the operator's hands: registered with all claims, changed, signed out, disabled, removed."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import ending, users
from chalicelib.errors import AccessDenied
from chalicelib.models import Consent, Grant, Identifier, User
from chalicelib.registration import username_identifier
from chalicelib.store import Store
from tests.browser import Browser
from tests.operator import Operate, done
from tests.site import PASSWORD, STAGE, Registered, Site, dump
from tests.threads import at_once


def found(store: Store, sub: str) -> User:
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


def typed(claim: str) -> str:
    value = VALUES.get(claim, f"my {claim} 爱")
    return f"{claim}={value if isinstance(value, str) else json.dumps(value)}"


@pytest.mark.parametrize("claim", users.CLAIMS)
def test_every_standard_claim_can_be_set_and_taken_away(site: Site, operate: Operate, store: Store, claim: str) -> None:
    made = done(operate("user", "create", "--username", "bob", "--claim", typed(claim), "--json"))
    site.secrets.add(made["password"])
    assert made[claim] == VALUES.get(claim, f"my {claim} 爱")
    assert "updated_at" in made
    sub = site.user(claims={"zoneinfo": "UTC"}).sub
    operate("user", "update", "alice", "--claim", typed(claim))
    assert found(store, sub).claims[claim] == made[claim]
    assert set(found(store, sub).claims) >= {"zoneinfo", claim, "updated_at"}
    operate("user", "update", "alice", "--claim", f"{claim}=")
    assert claim not in found(store, sub).claims


def test_a_text_is_a_text_whatever_it_looks_like_and_json_where_it_has_quotes(
    site: Site, operate: Operate, store: Store
) -> None:
    sub = site.user().sub
    claims = ("phone_number=12345", "nickname=true", 'name="Al \\"Ice\\" "', "profile=https://a.example/?b=c")
    printed = done(operate("user", "update", "alice", *(word for one in claims for word in ("--claim", one)), "--json"))
    wanted = {"phone_number": "12345", "nickname": "true", "name": 'Al "Ice" ', "profile": "https://a.example/?b=c"}
    assert {name: printed[name] for name in wanted} == wanted
    assert found(store, sub).claims | wanted == found(store, sub).claims


def test_another_address_is_not_a_verified_one(site: Site, operate: Operate, store: Store) -> None:
    verified = {"email": "a@example.com", "email_verified": True, "phone_number": "1", "phone_number_verified": True}
    sub = site.user(claims=verified).sub
    operate("user", "update", "alice", "--email", "a@example.com")
    assert found(store, sub).claims == verified, "it is the same, and nothing was updated"
    operate("user", "update", "alice", "--email", "b@example.com")
    assert "email_verified" not in found(store, sub).claims
    assert found(store, sub).claims["phone_number_verified"] is True
    operate("user", "update", "alice", "--claim", "phone_number=")
    assert "phone_number_verified" not in found(store, sub).claims
    operate("user", "update", "alice", "--email", "c@example.com", "--claim", "email_verified=true")
    assert found(store, sub).claims["email_verified"] is True


def test_the_userinfo_endpoint_tells_what_was_changed(site: Site, operate: Operate, browser: Browser) -> None:
    site.user(claims={"name": "Alice", "email": "a@example.com"})
    token = browser.tokens(site.client(), scope="openid profile email")["access_token"]
    operate("user", "update", "alice", "--name", "Alice Liddell", "--email", "", "--claim", "locale=de")
    told = browser.userinfo(token).json
    assert (told["name"], told["locale"]) == ("Alice Liddell", "de")
    assert "email" not in told
    assert abs(told["updated_at"] - site.clock.time) < 60


def test_a_new_username_counts_at_once_and_the_old_one_is_free(
    site: Site, operate: Operate, browser: Browser, store: Store
) -> None:
    user, client = site.user(), site.client(trusted=True)
    renamed = done(operate("user", "update", "ALICE", "--username", "Al", "--json"))
    assert (renamed["sub"], renamed["username"]) == (user.sub, "Al")
    assert browser.sign_in(browser.authorize(client), "alice").status == 400
    assert browser.sign_in(browser.authorize(client), "al").code
    assert [one.identifier for one in store.identifiers.scan()] == [username_identifier("Al")]
    site.user("alice")
    # Written otherwise, it is the same name, and needs no other identifier.
    assert done(operate("user", "update", "al", "--username", "AL", "--json"))["username"] == "AL"
    assert operate("user", "show", "al").code == 0


def test_a_name_that_is_taken_changes_nothing(site: Site, operate: Operate, store: Store) -> None:
    site.user("bob")
    user = site.user()
    before = dump()
    printed = operate("user", "update", "alice", "--username", "BOB", "--email", "new@example.com")
    assert (printed.code, printed.err) == (2, "The username is taken.\n")
    assert dump() == before
    assert found(store, user.sub) == user


def test_of_two_who_want_one_name_at_once_one_gets_it(site: Site, store: Store) -> None:
    people = [site.user(name) for name in ("ann", "ben", "cem", "dot")]

    def rename(user: User) -> Callable[[], str]:
        def attempt() -> str:
            try:
                return users.update(store, user, lambda known: replace(known, username="zoe")).sub
            except ValueError:
                return ""

        return attempt

    (winner,) = filter(None, at_once(rename(user) for user in people))
    identifiers = {one.identifier: one.sub for one in store.identifiers.scan()}
    assert identifiers.pop("username:zoe") == winner
    assert identifiers == {f"username:{one.username}": one.sub for one in people if one.sub != winner}
    for user in store.users.scan():
        assert user.username == ("zoe" if user.sub == winner else user.username)


def test_one_who_is_renamed_twice_at_once_has_one_name(site: Site, store: Store) -> None:
    user = site.user()
    at_once(
        [
            lambda name=name: users.update(store, user, lambda known: replace(known, username=name))  # type: ignore[misc]
            for name in ("ann", "ben", "cem")
        ]
    )
    (identifier,) = store.identifiers.scan()
    assert identifier == Identifier(username_identifier(found(store, user.sub).username), user.sub)


def test_a_name_that_belongs_to_another_is_not_taken_from_them(site: Site, store: Store) -> None:
    """A record that was put there by hand says a username whose identifier is another's."""
    owner = site.user()
    impostor = replace(owner, sub="impostor")
    store.users.put(impostor)
    with pytest.raises(ValueError):
        users.update(store, impostor, lambda known: replace(known, username="eve"))
    assert list(store.identifiers.scan()) == [Identifier("username:alice", owner.sub)]


def test_of_many_operators_at_once_none_loses_a_change(site: Site, store: Store) -> None:
    user, names = (
        site.user(),
        [claim for claim in users.CLAIMS if users.type_of(claim) is str and claim != "email"],
    )

    def say(claim: str) -> Callable[[], User]:
        return lambda: users.update(store, user, lambda known: users.with_claims(known, {claim: "x"}, 1))

    at_once(say(claim) for claim in names)
    assert found(store, user.sub).claims == {**dict.fromkeys(names, "x"), "updated_at": 1}


def test_an_administrator_is_made_and_unmade(site: Site, operate: Operate) -> None:
    site.user()
    assert done(operate("user", "update", "alice", "--admin", "--json"))["admin"] is True
    assert "administrator" in operate("user", "list").out
    assert done(operate("user", "update", "alice", "--no-admin", "--json"))["admin"] is False


def test_claims_of_before_that_would_not_do_today_are_no_obstacle(site: Site, operate: Operate) -> None:
    site.user(claims={"shoe_size": "42", "email": "no address"})
    assert done(operate("user", "update", "alice", "--name", "Alice", "--json"))["shoe_size"] == "42"


# ---- sign-out, disable, enable, delete

Granted = Callable[[str], tuple[Browser, Registered, dict[str, str]]]


@pytest.fixture
def granted(site: Site, browsers: Callable[..., Browser]) -> Granted:
    """A person who is signed in, with a grant that ends with the session, and one that does not."""

    def make(username: str) -> tuple[Browser, Registered, dict[str, str]]:
        site.user(username)
        client = site.client(trusted=True)
        browser = browsers()
        browser.sign_in(browser.authorize(client), username)
        found = {
            name: browser.tokens(client, scope=scope)["refresh_token"]
            for name, scope in (("online", "openid"), ("offline", "openid offline_access"))
        }
        return browser, client, found | {"code": browser.code(client, scope="openid")}

    return make


def test_a_sign_out_ends_sessions_and_what_ends_with_them(site: Site, operate: Operate, granted: Granted) -> None:
    alice, bob = granted("alice"), granted("bob")
    assert done(operate("user", "sign-out", "alice", "--yes", "--json"))["username"] == "alice"
    browser, client, tokens = alice
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert browser.refresh(client, tokens["online"]).json["error"] == "invalid_grant"
    assert browser.redeem(client, tokens["code"]).json["error"] == "invalid_grant"
    assert browser.refresh(client, tokens["offline"]).status == 200
    assert browser.sign_in(browser.authorize(client)).code
    browser, client, tokens = bob
    assert browser.authorize(client, prompt="none").code
    assert browser.refresh(client, tokens["online"]).status == 200


def test_a_grant_that_has_outlived_its_session_ends_with_a_sign_out_too(
    site: Site, operate: Operate, granted: Granted, store: Store
) -> None:
    browser, client, tokens = granted("alice")
    for session in list(store.sessions.scan()):
        store.sessions.delete(session.session_id)
    operate("user", "sign-out", "alice", "--yes")
    assert browser.refresh(client, tokens["online"]).json["error"] == "invalid_grant"
    assert browser.refresh(client, tokens["offline"]).status == 200


def test_a_disabled_person_is_out_and_may_come_in_again_when_enabled(
    site: Site, operate: Operate, granted: Granted
) -> None:
    browser, client, tokens = granted("alice")
    shown = done(operate("user", "disable", "alice", "--yes", "--json"))
    assert shown["disabled_at"]
    assert "disabled" in operate("user", "list").out
    assert done(operate("user", "disable", "alice", "--yes", "--json"))["disabled_at"] == shown["disabled_at"]
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert browser.sign_in(browser.authorize(client)).status == 400
    for token in ("online", "offline"):
        assert browser.refresh(client, tokens[token]).json["error"] == "invalid_grant"
    assert "disabled_at" not in done(operate("user", "enable", "alice", "--json"))
    for token in ("online", "offline"):
        assert browser.refresh(client, tokens[token]).json["error"] == "invalid_grant"
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert browser.sign_in(browser.authorize(client)).code


def test_disabling_is_one_write_after_which_nothing_is_born(
    site: Site, browser: Browser, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off right after the first write, the person is out all the same."""
    user, client = site.user(), site.client()
    consent = browser.sign_in(browser.authorize(client))

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("chalicelib.users.end_all", cut)
        assert operate("user", "disable", "alice", "--yes").code == 1
    after = found(site.server.store, user.sub)
    assert (after.disabled_at is not None, after.sessions_generation) == (True, user.sessions_generation + 1)
    assert browser.submit(consent, decision="allow_once").status == 400
    assert list(site.server.store.grants.scan()) == []


def test_nothing_is_left_of_who_is_removed(site: Site, operate: Operate, store: Store, granted: Granted) -> None:
    others, his, tokens = granted("bob")
    _, client, _ = granted("alice")
    person = json.loads(operate("user", "show", "alice", "--json").out)
    store.consents.put(Consent(person["sub"], client.id, frozenset({"openid"}), 1))
    operate("user", "update", "alice", "--name", "Alice")
    gone = done(operate("user", "delete", "alice", "--yes", "--json"))
    assert (gone["sub"], gone["name"]) == (person["sub"], "Alice")
    left = [record for table in store.tables for record in table.scan() if person["sub"] in str(record)]
    assert [getattr(record, "detail", record) for record in left] == ["deleted"], (
        "that it was done is all that is known"
    )
    assert others.authorize(his, prompt="none").code
    assert others.refresh(his, tokens["online"]).status == 200
    assert site.user("alice").sub != person["sub"], "the name is free"


def test_what_is_said_of_somebody_does_nothing_to_the_terminal(site: Site, browser: Browser, operate: Operate) -> None:
    user, client = site.user("al\u200fice"), site.client(trusted=True)
    assert browser.sign_in(browser.authorize(client), user.username).code
    printed = [operate(*words, user.sub, "--yes").out for words in (("grant", "revoke", "--user"), ("user", "delete"))]
    assert printed == ["Ended 1 grants of al\\u200fice.\n", "Removed al\\u200fice.\n"]


def test_a_removal_that_was_cut_off_is_done_again(
    site: Site, operate: Operate, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = site.user()
    store.consents.put(Consent(user.sub, "c-1", frozenset({"openid"}), 1))

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(store.consents), "delete", cut)
        assert operate("user", "delete", "alice", "--yes").code == 1
    assert found(store, user.sub).disabled_at
    assert operate("user", "delete", "alice", "--yes").out == "Removed alice.\n"
    assert [*store.users.scan(), *store.identifiers.scan(), *store.consents.scan()] == []


@pytest.mark.parametrize("when", ["before the name is looked up", "after it"])
def test_who_is_renamed_while_removed_leaves_no_name_behind(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    user, get = site.user(), store.identifiers.get
    renamed: list[User] = []

    def rename_meanwhile(*key: str) -> Identifier | None:
        answer = get(*key)
        if not renamed:
            renamed.append(user)
            users.update(store, found(store, user.sub), lambda known: replace(known, username="zoe"))
        return answer if when == "after it" else get(*key)

    monkeypatch.setattr(store.identifiers, "get", rename_meanwhile)
    users.delete(store, user)
    assert [*store.users.scan(), *store.identifiers.scan()] == []


def test_whoever_has_a_name_that_is_another_persons_goes_without_it(site: Site, store: Store) -> None:
    owner = site.user()
    impostor = replace(owner, sub="impostor")
    store.users.put(impostor)
    users.delete(store, impostor)
    assert [user.sub for user in store.users.scan()] == [owner.sub]
    assert [one.sub for one in store.identifiers.scan()] == [owner.sub]


@pytest.mark.parametrize("act", [users.disable, users.enable, users.sign_out, users.delete])
def test_who_is_gone_cannot_be_changed_and_does_not_come_back(site: Site, store: Store, act: Any) -> None:
    user = replace(site.user(), disabled_at=1)
    users.delete(store, user)
    with pytest.raises(AccessDenied, match="not there any more"):
        act(store, user)
    assert list(store.users.scan()) == []


def test_a_grant_that_ended_meanwhile_is_not_ended_again(site: Site, store: Store) -> None:
    grant = Grant("g-1", "c-1", "u-1", "u-1.s", "https://a.example/", True, 1, 1, 2**40, 2**40, 2**40)
    store.grants.put(replace(grant, revoked_at=1))
    assert ending.end_grants(store, [grant]) == []
    ended = store.grants.get("g-1")
    assert ended
    assert ended.revoked_at == 1


# ---- what is kept of it


def test_what_was_done_to_a_person_is_in_their_history(
    site: Site, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = done(operate("user", "create", "--username", "bob", "--json"))
    site.secrets.add(made["password"])
    operate("user", "update", "bob", "--username", "robert", "--email", "new@example.com", "--admin")
    operate("user", "update", "robert", "--admin")  # which changes nothing
    site.secrets.add(done(operate("user", "set-password", "robert", "--json"))["password"])
    operate("user", "sign-out", "robert", "--yes")
    operate("user", "disable", "robert", "--yes")
    operate("user", "enable", "robert")
    printed = operate("history", "--user", "robert", "--json")
    events = done(printed)
    assert sorted(event["detail"] for event in events) == sorted(
        ["created", "updated: admin, email, username", "new password", "signed out", "disabled", "enabled"]
    )
    assert {(event["name"], event["device"]) for event in events} == {("user_changed", "operator")}
    assert "new@example.com" not in printed.out
    operate("user", "delete", "robert", "--yes")
    (last,) = done(operate("history", "--user", made["sub"], "--json"))
    assert last["detail"] == "deleted"


def test_the_history_has_what_the_person_did_too(site: Site, operate: Operate, browser: Browser) -> None:
    site.user()
    browser.sign_in(browser.authorize(site.client()))
    assert "sign_in" in operate("history", "--user", "alice").out


def test_nothing_secret_is_in_what_the_tables_keep_of_it(site: Site, operate: Operate) -> None:
    made = done(operate("user", "create", "--username", "bob", "--json"))
    site.secrets.add(made["password"])
    assert made["password"] not in dump()
    assert PASSWORD not in dump()
    assert f"signet-{STAGE}" not in dump()
