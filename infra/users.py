"""`python -m infra user …`: people. JSON has the names of OpenID Connect's claims."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import click

from chalicelib import audit, passwords, sessions, users
from chalicelib.models import User
from chalicelib.registration import check_password, register_user, username_identifier
from chalicelib.store import Store
from infra.commands import Refusal, as_json, confirm, example, noted, storage, unknown, without, yes
from infra.terminal import print_json, print_table, show, visible
from infra.user_options import claim_option, password_from_stdin, password_stdin_option


@click.group()
def user() -> None:
    """Register, change, sign out and remove users; set passwords."""


@user.command("create", epilog=example("user create --username bob --email bob@example.com --name 'Bob Cook'"))
@click.option("--username", required=True, help="What they sign in with.")
@click.option("--email", help="Their e-mail address.")
@click.option("--name", help="Their full name.")
@claim_option
@click.option("--admin", is_flag=True, help="An administrator.")
@password_stdin_option
@as_json
@click.pass_obj
def create_user(
    stage: str,
    /,
    username: str,
    email: str | None,
    name: str | None,
    claims: dict[str, Any],
    admin: bool,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Register a user. A random password is shown this once, and has to be replaced at the first sign-in."""
    given = {"name": name, "email": email, **claims}
    kept = {claim: value for claim, value in given.items() if value not in (None, "")}
    password = password_from_stdin() if password_stdin else None
    try:
        users.check_claims(kept)
        with storage(stage) as store:
            kept = {"updated_at": store.now(), **kept} if kept else {}
            made, random = register_user(store, username=username, password=password, claims=kept, admin=admin)
            noted(store, audit.USER_CHANGED, sub=made.sub, detail="created")
    except ValueError as error:
        raise Refusal(str(error)) from error
    _show_with_password(made, random, as_json)


@user.command("list", epilog=example("user list"))
@as_json
@click.pass_obj
def list_users(stage: str, /, as_json: bool) -> None:
    """List the users."""
    with storage(stage) as store:
        found = sorted(store.users.scan(), key=lambda user: user.username.casefold())
    if as_json:
        print_json([user_document(user) for user in found])
        return
    rows = [
        (user.username, *(str(user.claims.get(claim, "")) for claim in ("name", "email")), _role(user), user.sub)
        for user in found
    ]
    print_table(("USERNAME", "NAME", "EMAIL", "ROLE", "SUB"), rows, "No user is registered.")


@user.command("show", epilog=example("user show alice"))
@click.argument("username")
@as_json
@click.pass_obj
def show_user(stage: str, /, username: str, as_json: bool) -> None:
    """Show one user, named by username or `sub`."""
    with storage(stage) as store:
        show(user_document(find_user(store, username)), as_json)


@user.command(
    "update", epilog=example("user update alice --email alice@example.org --claim locale=de", "user update bob --admin")
)
@click.argument("username")
@click.option("--username", "new_username", metavar="NEW", help="What they sign in with from now on.")
@click.option("--email", help='Their e-mail address; "" takes it away. Another one is not a verified one.')
@click.option("--name", help='Their full name; "" takes it away.')
@claim_option
@click.option("--admin/--no-admin", default=None, help="Whether they are an administrator.")
@as_json
@click.pass_obj
def update_user(
    stage: str,
    /,
    username: str,
    new_username: str | None,
    email: str | None,
    name: str | None,
    claims: dict[str, Any],
    admin: bool | None,
    as_json: bool,
) -> None:
    """Change what is named, and nothing else. USERNAME may be a `sub`."""
    given = {claim: value or None for claim, value in (("name", name), ("email", email)) if value is not None} | claims
    if new_username is None and admin is None and not given:
        raise click.UsageError("Say what to change; --help lists what there is.")

    def change(known: User) -> User:
        wanted = users.with_claims(known, given, now)
        return replace(
            wanted,
            username=known.username if new_username is None else new_username,
            admin=known.admin if admin is None else admin,
        )

    with storage(stage) as store:
        found, now = find_user(store, username), store.now()
        try:
            changed = users.update(store, found, change)
        except ValueError as error:
            raise Refusal(str(error)) from error
        if changed != found:
            names = [*given, *(["username"] if new_username else []), *(["admin"] if admin is not None else [])]
            noted(store, audit.USER_CHANGED, sub=found.sub, detail="updated: " + ", ".join(sorted(names)))
    show(user_document(changed), as_json)


@user.command("set-password", epilog=example("user set-password bob"))
@click.argument("username")
@password_stdin_option
@as_json
@click.pass_obj
def set_password(stage: str, /, username: str, password_stdin: bool, as_json: bool) -> None:
    """Give a user another password. All their sessions and grants end. USERNAME may be a `sub`.

    A random password is shown this once, and has to be replaced at the first sign-in.
    """
    password = password_from_stdin() if password_stdin else None
    try:
        check_password(password)
    except ValueError as error:
        raise Refusal(str(error)) from error
    random = passwords.new_password() if password is None else None
    with storage(stage) as store:
        found = find_user(store, username)
        changed = sessions.change_password(store, found, random or password or "", must_be_replaced=random is not None)
        noted(store, audit.USER_CHANGED, sub=found.sub, detail="new password")
    _show_with_password(changed, random, as_json)
    if not as_json:
        click.echo(("" if random else "\n") + "All their sessions and grants have ended.")


@user.command("disable", epilog=example("user disable bob --yes"))
@click.argument("username")
@yes
@as_json
@click.pass_obj
def disable_user(stage: str, /, username: str, yes: bool, as_json: bool) -> None:
    """Let a user sign in no more; end their sessions and grants."""
    question = "Disable {}, and end all their sessions and grants?"
    _do(stage, username, as_json, "disabled", users.disable, question, yes)


@user.command("enable", epilog=example("user enable bob"))
@click.argument("username")
@as_json
@click.pass_obj
def enable_user(stage: str, /, username: str, as_json: bool) -> None:
    """Let a disabled user sign in again."""
    _do(stage, username, as_json, "enabled", users.enable)


@user.command("sign-out", epilog=example("user sign-out alice --yes"))
@click.argument("username")
@yes
@as_json
@click.pass_obj
def sign_out_user(stage: str, /, username: str, yes: bool, as_json: bool) -> None:
    """End a user's sessions, and the access that came of them.

    Grants with the scope offline_access live on: `grant revoke --user` ends them.
    """
    question = "End all sessions of {}, and the grants that end with them?"
    _do(stage, username, as_json, "signed out", users.sign_out, question, yes)


@user.command("delete", epilog=example("user delete bob --yes"))
@click.argument("username")
@yes
@as_json
@click.pass_obj
def delete_user(stage: str, /, username: str, yes: bool, as_json: bool) -> None:
    """Remove a user, and all that is theirs. Sessions, grants, consents and history go, and the username is free
    again.
    """
    with storage(stage) as store:
        found = find_user(store, username)
        confirm(f"Remove {found.username}, and all that is theirs? Nobody can bring it back.", yes)
        users.delete(store, found)
        noted(store, audit.USER_CHANGED, sub=found.sub, detail="deleted")
    if as_json:
        print_json(user_document(found))
    else:
        click.echo(f"Removed {visible(found.username)}.")


def _do(
    stage: str,
    username: str,
    as_json: bool,
    done: str,
    act: Callable[[Store, User], User],
    question: str = "",
    yes: bool = True,
) -> None:
    with storage(stage) as store:
        found = find_user(store, username)
        confirm(question.format(found.username), yes)
        changed = act(store, found)
        noted(store, audit.USER_CHANGED, sub=found.sub, detail=done)
    show(user_document(changed), as_json)


def user_document(user: User) -> dict[str, Any]:
    """A user with their claims side by side (OpenID Connect Core section 5.1). Nothing secret."""
    members = without(asdict(user), "password_hash", "sessions_generation")
    claims: dict[str, Any] = members.pop("claims")
    return {**claims, **members}


def find_user(store: Store, username: str) -> User:
    """The user of this username or `sub`. Raises Refusal."""
    identifier = store.identifiers.get(username_identifier(username))
    found = store.users.get(identifier.sub if identifier else username)
    if found is None:
        raise unknown("user", username, (user.username for user in store.users.scan()))
    return found


def _role(user: User) -> str:
    return ", ".join([*(["administrator"] if user.admin else []), *(["disabled"] if user.disabled_at else [])])


def _show_with_password(user: User, random: str | None, as_json: bool) -> None:
    show(user_document(user) | ({"password": random} if random else {}), as_json)
    if random and not as_json:
        click.echo("\nThe password is shown this once; it has to be replaced at the first sign-in.")
