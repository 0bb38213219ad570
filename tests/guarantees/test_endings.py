"""What each ending ends, and what it leaves: every ending with every kind of grant and every use.

A row of ENDINGS names the columns of `World.outcomes` whose every use is rejected after the ending. All others work.
"""

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import pytest

from chalicelib.mail import proof_codes
from chalicelib.protocol.durations import HOUR
from chalicelib.users import email_address
from infra.local.faults import IndexLag
from tests.support.account import submit_action
from tests.support.browser import Browser
from tests.support.database_faults import KillAfter
from tests.support.endings import (
    BYE,
    CACHED,
    CLIENTS,
    PAUSE,
    SETTINGS,
    Grants,
    World,
    ended,
    own_world,
)
from tests.support.mail_flows import ADDRESS, ask, choose
from tests.support.mailbox import SENDER
from tests.support.operator import RunCommand
from tests.support.resource_servers import API, introspect
from tests.support.second_factor import add_second_factor
from tests.support.site import PASSWORD, Site

NEW_PASSWORD = "quite another password"
SESSION = {"bound", "remembered", "browser"}
SECOND = {"second browser", "second browser's bound"}
GRANTS = {"bound", "remembered", "offline", "plain", "basic", "second browser's bound"}
USER = GRANTS | {"other client's offline", "browser", "second browser"}
BOBS_GRANTS = {"bob's bound", "bob's remembered", "bob's offline", "bob's plain"}
CLIENT = GRANTS | BOBS_GRANTS | {"client_credentials", "consent", "bob's consent"}
USED = {"bound", "remembered", "offline", "plain", "basic"}


@dataclass(frozen=True)
class Ending:
    """An ending: how it is done, and the columns that it ends.

    `spared`: uses that still work, of another grant of the same kind. `settings`: of the server.
    """

    end: Callable[[World, RunCommand], object]
    columns: Iterable[str]
    spared: Iterable[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)


# ---- sessions


def sign_out(world: World, _run: RunCommand) -> None:
    page = world.browser.get("/oauth2/logout")
    assert world.browser.send(page, decision="sign_out").status == 200


def log_out_by_application(world: World, _run: RunCommand) -> None:
    hint, target = world.grants["bound"].tokens["id_token"], BYE
    answer = world.browser.get("/oauth2/logout", id_token_hint=hint, post_logout_redirect_uri=target)
    assert answer.location == target


def sign_out_one_browser(world: World, _run: RunCommand) -> None:
    (session,) = [
        session
        for session in world.store.sessions.scan()
        if session.sub == world.user().sub and session.auth_time == world.site.clock() - PAUSE
    ]
    world.press(world.second_browser, "/account/browsers", action="sign_out", session=session.session_id)


def let_session_lapse(world: World, _run: RunCommand) -> None:
    world.site.clock.advance(60 - PAUSE)


def use_browser_until_the_absolute_end(world: World, _run: RunCommand) -> None:
    world.site.clock.advance(60 - PAUSE - 1)
    assert world.browser.get("/account").status == 200
    world.site.clock.advance(1)


def sign_in_as_another_user(world: World, _run: RunCommand) -> None:
    page = world.browser.authorize(world.registered["trusted"], prompt="login")
    assert world.browser.submit(page, username="bob", password=PASSWORD).code


def sign_out_others(world: World, _run: RunCommand) -> None:
    world.press(world.browser, "/account/browsers", action="sign_out_others")


def sign_out_by_operator(_world: World, run: RunCommand) -> None:
    assert run("user", "sign-out", "alice", "--yes").code == 0


def reset_second_factor(world: World, run: RunCommand) -> None:
    add_second_factor(world.site)
    assert run("user", "mfa", "reset", "alice", "--yes").code == 0


# ---- the account


def change_own_password(world: World, _run: RunCommand) -> None:
    new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    assert submit_action(world.browser, "change_password", password=PASSWORD, **new).status == 303
    world.password = NEW_PASSWORD


def change_required_password(world: World, _run: RunCommand) -> None:
    """Change a password that must be changed, and use the grant that it was changed for."""
    world.store.users.put(replace(world.user(), password_change_required=True))
    page = world.browser.authorize(world.registered["trusted"])
    answer = world.browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    tokens = world.browser.redeem(world.registered["trusted"], answer.code).json
    assert world.browser.userinfo(tokens["access_token"]).status == 200
    assert world.browser.refresh(world.registered["trusted"], tokens["refresh_token"]).status == 200
    world.password = NEW_PASSWORD


def set_password(world: World, run: RunCommand) -> None:
    world.password = NEW_PASSWORD
    with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(NEW_PASSWORD.encode()))):
        assert run("user", "set-password", "alice", "--password-stdin", "--yes").code == 0


def reset_password(world: World, _run: RunCommand) -> None:
    email_address.mark_verified(world.store, world.user(), ADDRESS)
    browser = Browser(world.site)
    page = ask(browser)
    code = proof_codes.code_of(world.site.server, page.form.fields["proof"], "reset")
    assert "Your password is changed" in choose(browser, browser.submit(page, code=code), NEW_PASSWORD).body
    browser.close()
    world.password = NEW_PASSWORD


def undo_change_of_address(world: World, _run: RunCommand) -> None:
    """Change the address in the browser of the user, and undo it in another one."""
    server = world.site.server
    email_address.mark_verified(world.store, world.user(), ADDRESS)
    page = world.browser.get("/account/email")
    page = world.browser.submit(page, email="new@example.com", action="change_email")
    code = proof_codes.code_of(server, page.form.fields["proof"], "verify")
    assert "is confirmed" in world.browser.submit(page, code=code, action="confirm_email").body
    (proof,) = (proof for proof in world.store.proofs.scan() if proof.purpose == "undo")
    browser = Browser(world.site)
    page = browser.get("/account/link", link=proof_codes.link_handle(server, proof.proof_id))
    page = browser.submit(page, code=proof_codes.code_of(server, proof.proof_id, "undo"))
    assert "is changed back" in browser.submit(page).body
    browser.close()


def disable(_world: World, run: RunCommand) -> None:
    assert run("user", "disable", "alice", "--yes").code == 0


def disable_and_enable(world: World, run: RunCommand) -> None:
    disable(world, run)
    assert run("user", "enable", "alice").code == 0


def delete_own_account(world: World, _run: RunCommand) -> None:
    page = world.browser.submit(world.browser.get("/account/delete"), action="delete", password=PASSWORD)
    assert "Your account is deleted" in page.body


def delete_own_account_and_restore_it(world: World, run: RunCommand) -> None:
    delete_own_account(world, run)
    assert run("user", "restore", "alice").code == 0


def delete(_world: World, run: RunCommand) -> None:
    assert run("user", "delete", "alice", "--yes").code == 0


# ---- applications


def remove_each_application(world: World, _run: RunCommand) -> None:
    for client_id in CLIENTS:
        if client_id != "client_credentials":
            world.press(world.browser, "/account", action="revoke", client_id=client_id)


def remove_each_application_by_operator(_world: World, run: RunCommand) -> None:
    for client_id in CLIENTS:
        assert run("grant", "revoke", "--user", "alice", "--client", client_id, "--yes").code == 0


def remove_all_applications(world: World, _run: RunCommand) -> None:
    world.press(world.browser, "/account", action="revoke_all")


def remove_all_applications_by_operator(_world: World, run: RunCommand) -> None:
    assert run("grant", "revoke", "--user", "alice", "--yes").code == 0


def see_clients(world: World) -> None:
    """Advance the clock until no client is cached as it was."""
    world.site.clock.advance(CACHED - PAUSE)


def delete_clients(world: World, run: RunCommand) -> None:
    for client_id in CLIENTS:
        assert run("client", "delete", client_id, "--yes").code == 0
    see_clients(world)


def register_clients_again(world: World, run: RunCommand) -> None:
    for client_id in CLIENTS:
        assert run("client", "delete", client_id, "--yes").code == 0
        world.register_client(client_id)
    see_clients(world)


def end_grants_of_clients(world: World, run: RunCommand) -> None:
    for client_id in CLIENTS:
        assert run("grant", "revoke", "--client", client_id, "--yes").code == 0
    see_clients(world)


# ---- one grant: that of the tokens, and that of the refresh token that is retried


def _user_grants(world: World) -> list[Grants]:
    return [grants for grants in world.alices_grants() if grants.redeemed_codes]


def replay_codes(world: World, _run: RunCommand) -> None:
    for grants in _user_grants(world):
        for code in grants.redeemed_codes:
            assert world.machine.redeem(grants.client, code).json["error"] == "invalid_grant"


def reuse_refresh_tokens(world: World, _run: RunCommand) -> None:
    """Use a refresh token after the retry window."""
    for grants in _user_grants(world):
        for tokens in (grants.tokens, grants.retried):
            assert world.machine.refresh(grants.client, tokens["refresh_token"]).status == 200
    world.site.clock.advance(61)
    for grants in _user_grants(world):
        for tokens in (grants.tokens, grants.retried):
            assert world.machine.refresh(grants.client, tokens["refresh_token"]).json["error"] == "invalid_grant"


def revoke_tokens(world: World, _run: RunCommand) -> None:
    for grants in world.alices_grants():
        tokens = [grants.tokens["access_token"], *filter(None, [grants.retried.get("refresh_token")])]
        for token in tokens:
            form = {"token": token, "client_id": grants.client_id, "client_secret": grants.client.secret}
            assert world.machine.post("/oauth2/revoke", form).status == 200


# ---- the table

ENDINGS = {
    "sign out": Ending(sign_out, SESSION),
    "RP-initiated logout": Ending(log_out_by_application, SESSION),
    "sign out of one browser on the account page": Ending(sign_out_one_browser, SESSION),
    "session not used": Ending(let_session_lapse, SESSION, settings={"session_idle_lifetime": 60}),
    "absolute end of the session": Ending(
        use_browser_until_the_absolute_end, SESSION, settings={"session_absolute_lifetime": 60}
    ),
    "another user signs in in this browser": Ending(sign_in_as_another_user, SESSION),
    "sign out all other browsers": Ending(sign_out_others, SECOND | {"basic"}),
    "user sign-out": Ending(sign_out_by_operator, SESSION | SECOND | {"basic"}),
    "user mfa reset": Ending(reset_second_factor, SESSION | SECOND | {"basic"}),
    "own password": Ending(change_own_password, USER - {"browser"}),
    "required password": Ending(change_required_password, USER - {"browser"}),
    "user set-password": Ending(set_password, USER),
    "password reset": Ending(reset_password, USER, settings={"email_from": SENDER}),
    "undone change of the address": Ending(undo_change_of_address, USER, settings={"email_from": SENDER}),
    "user disable": Ending(disable, USER | {"consent"}),
    "user disable, user enable": Ending(disable_and_enable, USER),
    "own account deleted": Ending(delete_own_account, USER | {"consent"}),
    "own account deleted, restored": Ending(delete_own_account_and_restore_it, USER),
    "user delete": Ending(delete, USER | {"consent"}),
    "remove each application": Ending(remove_each_application, GRANTS | {"consent"}),
    "grant revoke --user --client": Ending(remove_each_application_by_operator, GRANTS | {"consent"}),
    "remove all applications": Ending(remove_all_applications, GRANTS | {"other client's offline", "consent"}),
    "grant revoke --user": Ending(remove_all_applications_by_operator, GRANTS | {"other client's offline", "consent"}),
    "client delete": Ending(delete_clients, CLIENT),
    "client delete, registered again": Ending(register_clients_again, CLIENT),
    "grant revoke --client": Ending(end_grants_of_clients, CLIENT),
    "replay of the code": Ending(replay_codes, USED, {"code"}),
    "reuse of a refresh token": Ending(reuse_refresh_tokens, USED, {"code"}),
    "revocation": Ending(revoke_tokens, USED | {"client_credentials"}, {"code"}),
}


@pytest.fixture(scope="module")
def _world(_site: Site) -> Iterator[World]:
    """A world on a server of its own, which is created once."""
    with own_world(_site, World) as world:
        yield world


@pytest.fixture
def world(site: Site, _world: World) -> World:
    """The world as it was at first. `site` has emptied the tables."""
    _world.restore()
    return _world


@pytest.fixture
def lagging_world(site: Site, _world: World, index_lag: IndexLag) -> Callable[[int], World]:
    """A function that returns the same world, of which the indexes show nothing for so many seconds."""

    def restore(seconds: int) -> World:
        index_lag.reset(_world.site.clock)
        index_lag.seconds = seconds
        _world.restore(shown=False)
        user = _world.user()
        assert not list(_world.store.grant_entries.find("sub", user.sub, index="user"))
        assert not list(_world.store.sessions.find("sub", user.sub, index="sub"))
        return _world

    return restore


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if not ending.settings])
def test_an_ending_ends_what_the_table_says_and_nothing_else(name: str, world: World, run_command: RunCommand) -> None:
    ending = ENDINGS[name]
    ending.end(world, run_command)
    outcomes = world.outcomes()
    assert outcomes == ended(outcomes, ending.columns, spared=ending.spared)


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if ending.settings])
def test_an_ending_with_settings_ends_what_the_table_says_and_nothing_else(
    name: str, site_with: Callable[..., Site], run_command: RunCommand
) -> None:
    ending = ENDINGS[name]
    world = World(site_with(**SETTINGS, **ending.settings))
    ending.end(world, run_command)
    outcomes = world.outcomes()
    world.close()
    assert outcomes == ended(outcomes, ending.columns)


def test_without_an_ending_every_use_works(world: World) -> None:
    outcomes = world.outcomes()
    assert all(outcomes.values())
    assert len(outcomes) > 60


# ---- what was ended stays so


def remove_application(world: World, _run: RunCommand) -> None:
    world.press(world.browser, "/account", action="revoke", client_id="remembered")


def remove_application_by_operator(_world: World, run: RunCommand) -> None:
    assert run("grant", "revoke", "--user", "alice", "--client", "remembered", "--yes").code == 0


def end_grants_of_client(world: World, run: RunCommand) -> None:
    assert run("grant", "revoke", "--client", "remembered", "--yes").code == 0
    world.site.clock.advance(CACHED)


def register_client_again(world: World, run: RunCommand) -> None:
    assert run("client", "delete", "remembered", "--yes").code == 0
    world.register_client("remembered")
    world.site.clock.advance(CACHED)


REPEATED = {
    "remove the application": Ending(remove_application, {"remembered"}),
    "grant revoke --user --client": Ending(remove_application_by_operator, {"remembered"}),
    "grant revoke --user": Ending(
        remove_all_applications_by_operator, set(ENDINGS["grant revoke --user"].columns) - {"consent"}
    ),
    "grant revoke --client": Ending(end_grants_of_client, {"remembered", "bob's remembered", "bob's consent"}),
    "client delete, registered again": Ending(
        register_client_again, {"remembered", "bob's remembered", "bob's consent"}
    ),
}


@pytest.mark.parametrize("name", REPEATED)
def test_access_that_was_ended_and_given_again_revives_no_grant(
    name: str, world: World, run_command: RunCommand
) -> None:
    ending = REPEATED[name]
    parameters = {"decision": "allow_always", "scope": "openid email"}
    for _ in range(2):
        ending.end(world, run_command)
        tokens = world.browser.tokens(world.registered["remembered"], **parameters)
        assert world.machine.userinfo(tokens["access_token"]).status == 200
    ending.end(world, run_command)
    assert world.machine.userinfo(tokens["access_token"]).status == 401
    assert world.browser.code(world.registered["remembered"], **parameters)
    outcomes = world.outcomes(consuming=False)
    assert outcomes == ended(outcomes, ending.columns)


def test_session_ends_an_access_token_with_a_part_of_the_scope_of_its_grant(
    world: World, run_command: RunCommand
) -> None:
    tokens = {
        kind: world.machine.refresh(grants.client, refresh_token, scope=scope, resource=API).json["access_token"]
        for kind, scope in (("bound", "email"), ("offline", "openid"))
        for grants in [world.grants[kind]]
        for refresh_token in [grants.tokens["refresh_token"]]
    }

    def active() -> dict[str, bool]:
        api = world.registered[API]
        return {kind: introspect(world.machine, api, token).json["active"] for kind, token in tokens.items()}

    assert active() == {"bound": True, "offline": True}
    sign_out(world, run_command)
    assert active() == {"bound": False, "offline": True}


# ---- with an index that lags

INDEXED = [
    *("sign out", "sign out of one browser on the account page", "sign out all other browsers", "user sign-out"),
    *("own password", "user set-password", "user disable", "user delete"),
    *("remove each application", "grant revoke --user --client", "remove all applications", "grant revoke --user"),
    *("grant revoke --client", "client delete, registered again"),
]


@pytest.mark.parametrize("name", INDEXED)
def test_an_ending_ends_what_no_index_shows(
    name: str, lagging_world: Callable[[int], World], run_command: RunCommand
) -> None:
    world, ending = lagging_world(HOUR), ENDINGS[name]
    ending.end(world, run_command)
    outcomes = world.outcomes(consuming=False)
    assert outcomes == ended(outcomes, ending.columns)


@pytest.mark.parametrize(
    "name",
    ["sign out", "sign out all other browsers", "own password", "remove each application", "remove all applications"],
)
def test_what_ended_before_an_index_showed_it_is_not_listed_later(
    name: str, lagging_world: Callable[[int], World], run_command: RunCommand
) -> None:
    world, ending = lagging_world(1), ENDINGS[name]
    ending.end(world, run_command)
    world.site.clock.advance(2)
    world.shown = True
    outcomes = world.outcomes(consuming=False)
    assert outcomes == ended(outcomes, ending.columns)


# ---- killed after a write


def delete_client(_world: World, run: RunCommand) -> None:
    assert run("client", "delete", "remembered", "--yes").code == 0


ONE_CLIENT = {"remembered", "bob's remembered", "consent", "bob's consent"}
# A client that is only disabled yet is still listed.
DELETE_CLIENT = Ending(delete_client, ONE_CLIENT, {"listed"})
KILLED = {
    "user sign-out": (ENDINGS["user sign-out"], 1),
    "user set-password": (ENDINGS["user set-password"], 1),
    "user disable": (ENDINGS["user disable"], 1),
    "user delete": (ENDINGS["user delete"], 1),
    "user delete, two writes": (ENDINGS["user delete"], 2),
    "user delete, ten writes": (ENDINGS["user delete"], 10),
    "grant revoke --user --client": (Ending(remove_application_by_operator, {"remembered", "consent"}), 1),
    "grant revoke --user": (ENDINGS["grant revoke --user"], 1),
    "grant revoke --client": (Ending(end_grants_of_client, ONE_CLIENT), 1),
    "client delete": (DELETE_CLIENT, 1),
    "client delete, two writes": (DELETE_CLIENT, 2),
}


@pytest.mark.parametrize("name", KILLED)
def test_a_command_that_is_killed_after_its_first_write_has_ended_everything(
    name: str, world: World, run_command: RunCommand, kill_after: KillAfter
) -> None:
    ending, writes = KILLED[name]
    with kill_after(writes) as kill:
        ending.end(world, run_command)
    assert kill.happened
    see_clients(world)
    outcomes = world.outcomes(consuming=False)
    assert outcomes == ended(outcomes, ending.columns, spared=ending.spared)


@pytest.mark.parametrize(
    ("name", "writes", "columns"),
    [
        ("sign out", 1, SESSION),
        ("sign out all other browsers", 1, ENDINGS["sign out all other browsers"].columns),
        ("remove all applications", 1, ENDINGS["remove all applications"].columns),
        ("own password", 1, set()),  # the attempt was counted
        ("own password", 2, USER),  # the new cookie was lost
    ],
)
def test_an_ending_by_the_user_is_one_write(
    name: str, writes: int, columns: set[str], world: World, run_command: RunCommand, kill_after: KillAfter
) -> None:
    world.browser.close()  # a connection that is already open would not end with the database
    with kill_after(writes) as kill, suppress(ConnectionError):
        ENDINGS[name].end(world, run_command)
    assert kill.happened
    world.password = NEW_PASSWORD if writes == 2 else PASSWORD
    outcomes = world.outcomes(consuming=False)
    assert outcomes == ended(outcomes, columns)
