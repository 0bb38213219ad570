"""`signet user …`: users. JSON has the claim names of OpenID Connect."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import click

from chalicelib import events
from chalicelib.authentication import passwords
from chalicelib.mail.notices import tell_later
from chalicelib.protocol.identifiers import sign_in_identifiers
from chalicelib.protocol.records import User
from chalicelib.protocol.second_factor import SECOND_FACTOR_FIELDS
from chalicelib.storage.store import Store
from chalicelib.users import accounts
from chalicelib.users.password_change import change_password
from chalicelib.users.registration import check_password, register_user
from infra.operator.commands import (
    CommandError,
    confirm,
    example,
    json_option,
    not_found,
    open_store,
    present_members,
    record_event,
    yes_option,
)
from infra.operator.terminal import print_json, print_list, print_record, visible
from infra.operator.user_groups import group_change_options, group_option, take_changes, warn_of_unreleased
from infra.operator.user_options import claim_option, password_from_stdin, password_stdin_option


@click.group()
def user() -> None:
    """Register, change, sign out and remove users; set passwords."""


@user.command("create", epilog=example("user create --username bob --email bob@example.com --name 'Bob Cook'"))
@click.option("--username", required=True, help="The name to sign in with.")
@click.option("--email", help="The email address.")
@click.option("--name", help="The full name.")
@claim_option
@group_option("A group of the user; may be repeated.")
@click.option("--admin", is_flag=True, help="Mark the user as an administrator, which has no effect yet.")
@password_stdin_option
@json_option
@click.pass_obj
def create_user(
    stage: str,
    /,
    username: str,
    email: str | None,
    name: str | None,
    claims: dict[str, Any],
    groups: tuple[str, ...],
    admin: bool,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Register a user. A random password is shown only once, and must be replaced at the first sign-in."""
    named = {"name": name, "email": email, **claims}
    given = {claim: value for claim, value in named.items() if value not in (None, "")}
    password = password_from_stdin() if password_stdin else None
    try:
        accounts.check_claims(given)
        with open_store(stage) as store:
            given = {"updated_at": store.now(), **given} if given else {}
            created, random = register_user(
                store, username=username, password=password, claims=given, admin=admin, groups=frozenset(groups)
            )
            record_event(store, events.USER_CHANGED, sub=created.sub, detail="created")
            warn_of_unreleased(store, given)
    except ValueError as error:
        raise CommandError(str(error)) from error
    _print_with_password(created, random, as_json)


@user.command("list", epilog=example("user list", "user list --group engineering"))
@click.option("--group", metavar="GROUP", help="List the users of this group only.")
@json_option
@click.pass_obj
def list_users(stage: str, /, group: str | None, as_json: bool) -> None:
    """List the users."""
    with open_store(stage) as store:
        listed = (user for user in store.users.scan() if group is None or group in user.groups)
        users = sorted(listed, key=lambda user: user.username.casefold())
    head = ("USERNAME", "NAME", "EMAIL", "ROLE", "SUB")
    print_list(users, as_json, user_document, head, _row, "No user is registered.")


def _row(user: User) -> tuple[str, ...]:
    name, email = (str(user.claims.get(claim, "")) for claim in ("name", "email"))
    return user.username, name, email, _role(user), user.sub


@user.command("show", epilog=example("user show alice"))
@click.argument("username")
@json_option
@click.pass_obj
def show_user(stage: str, /, username: str, as_json: bool) -> None:
    """Show one user. USERNAME may be a `sub`."""
    with open_store(stage) as store:
        print_record(user_document(find_user(store, username)), as_json)


@user.command(
    "update", epilog=example("user update alice --email alice@example.org --claim locale=de", "user update bob --admin")
)
@click.argument("username")
@click.option("--username", "new_username", metavar="NEW", help="The new name to sign in with.")
@click.option("--email", help='The email address; "" removes it. A new address is not verified.')
@click.option("--name", help='The full name; "" removes it.')
@claim_option
@group_change_options
@click.option("--admin/--no-admin", default=None, help="Whether the user is marked as an administrator.")
@json_option
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
    **groups: tuple[str, ...],
) -> None:
    """Change the given members and no others. USERNAME may be a `sub`."""
    change_groups = take_changes(groups)
    given = {claim: value or None for claim, value in (("name", name), ("email", email)) if value is not None} | claims
    if new_username is None and admin is None and not given and not change_groups:
        raise click.UsageError("Give at least one option to change; --help lists them.")

    def change(user: User) -> User:
        return replace(
            accounts.with_claims(user, given, now),
            username=user.username if new_username is None else new_username,
            admin=user.admin if admin is None else admin,
            groups=change_groups(user) if change_groups else user.groups,
        )

    with open_store(stage) as store:
        user, now = find_user(store, username), store.now()
        try:
            changed = accounts.update(store, user, change)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if changed != user:
            names = [*given, *(["username"] if new_username else []), *(["admin"] if admin is not None else [])]
            names += ["groups"] if changed.groups != user.groups else []
            record_event(store, events.USER_CHANGED, sub=user.sub, detail="updated: " + ", ".join(sorted(names)))
        warn_of_unreleased(store, (name for name in given if name in changed.claims))
    print_record(user_document(changed), as_json)


@user.command("set-password", epilog=example("user set-password bob"))
@click.argument("username")
@password_stdin_option
@yes_option
@json_option
@click.pass_obj
def set_password(stage: str, /, username: str, password_stdin: bool, yes: bool, as_json: bool) -> None:
    """Set a user's password, and end all their sessions and grants at once. USERNAME may be a `sub`.

    Grants with offline_access end too. A random password is shown only once, and must be replaced at the first sign-in.
    """
    with open_store(stage) as store:
        user = find_user(store, username)
        confirm(f"Set a new password for {user.username}, and end all their sessions and grants?", yes)
        password = password_from_stdin() if password_stdin else None
        random = passwords.generate_password() if password is None else None
        try:
            if password is not None:
                check_password(store.settings, user, password)
        except ValueError as error:
            raise CommandError(str(error)) from error
        telling = tell_later(store, user, "password_changed")
        changed = change_password(store, user, random or password or "", *telling, must_be_replaced=random is not None)
        record_event(store, events.USER_CHANGED, sub=user.sub, detail="new password")
    _print_with_password(changed, random, as_json)
    if not as_json:
        click.echo(("" if random else "\n") + "All sessions and grants of the user have ended.")


@user.command("disable", epilog=example("user disable bob --yes"))
@click.argument("username")
@yes_option
@json_option
@click.pass_obj
def disable_user(stage: str, /, username: str, yes: bool, as_json: bool) -> None:
    """Prevent a user from signing in, and end all their sessions and grants at once, those with offline_access too.

    They stay ended when the user is enabled again.
    """
    question = "Disable {} and end all their sessions and grants?"
    _change(stage, username, as_json, "disabled", accounts.disable, question, yes)


@user.command("enable", epilog=example("user enable bob"))
@click.argument("username")
@json_option
@click.pass_obj
def enable_user(stage: str, /, username: str, as_json: bool) -> None:
    """Let a disabled user sign in again. Sessions and grants that ended stay ended."""
    _change(stage, username, as_json, "enabled", accounts.enable)


@user.command("sign-out", epilog=example("user sign-out alice --yes"))
@click.argument("username")
@yes_option
@json_option
@click.pass_obj
def sign_out_user(stage: str, /, username: str, yes: bool, as_json: bool) -> None:
    """End all sessions of a user at once, with the grants that depend on them: with openid, without offline_access.

    Grants with offline_access, and those without openid, are kept; `grant revoke --user` revokes them too.
    """
    question = "End all sessions of {} and the grants that depend on them?"
    _change(stage, username, as_json, "signed out", accounts.sign_out, question, yes)


@user.command("delete", epilog=example("user delete bob --yes"))
@click.argument("username")
@yes_option
@json_option
@click.pass_obj
def delete_user(stage: str, /, username: str, yes: bool, as_json: bool) -> None:
    """Remove a user with all sessions, grants, consents and history, which end at once.

    The username can then be used again. Sessions are kept until they expire if applications are told that they ended.
    """
    with open_store(stage) as store:
        user = find_user(store, username)
        confirm(f"Remove {user.username} with all sessions, grants, consents and history? This cannot be undone.", yes)
        accounts.delete(store, user)
        record_event(store, events.USER_CHANGED, sub=user.sub, detail="deleted")
    if as_json:
        print_json(user_document(user))
    else:
        click.echo(f"Removed {visible(user.username)}.")


def _change(
    stage: str,
    username: str,
    as_json: bool,
    detail: str,
    change: Callable[[Store, User], User],
    question: str = "",
    yes: bool = True,
) -> None:
    with open_store(stage) as store:
        user = find_user(store, username)
        confirm(question.format(user.username), yes)
        changed = change(store, user)
        record_event(store, events.USER_CHANGED, sub=user.sub, detail=detail)
    print_record(user_document(changed), as_json)


def user_document(user: User) -> dict[str, Any]:
    """Return a user with the claims as members (OpenID Connect Core section 5.1), without secrets."""
    generations = ("password_generation", "sessions_generation", "grants_generation", "consents_generation")
    counters = ("email_changes", "email_void_from", "email_void_until")
    hidden = ("password_hash", "groups", *generations, *SECOND_FACTOR_FIELDS, *counters)
    members = present_members(asdict(user), *hidden)
    if user.has_second_factor:
        left = len(user.recovery_codes)
        members |= {
            "second_factors": ["totp"],
            "totp_confirmed_at": user.totp_confirmed_at,
            "recovery_codes_left": left,
        }
    claims: dict[str, Any] = members.pop("claims")
    return {**claims, **members, **({"groups": sorted(user.groups)} if user.groups else {})}


def find_user(store: Store, username: str) -> User:
    """Return the user with this username, verified email address or `sub`. Raises CommandError."""
    keys = sign_in_identifiers(username)
    identifier = next(filter(None, store.read(*map(store.identifiers.lookup, keys))), None)
    user = store.users.get(identifier.sub if identifier else username)
    if user is None:
        raise not_found("user", username, (other.username for other in store.users.scan()))
    return user


def _role(user: User) -> str:
    states = {"administrator": user.admin, "disabled": user.disabled_at, "deleted by the user": user.deleted_at}
    return ", ".join(name for name, applies in states.items() if applies)


def _print_with_password(user: User, random: str | None, as_json: bool) -> None:
    print_record(user_document(user) | ({"password": random} if random else {}), as_json)
    if random and not as_json:
        click.echo("\nThe password is shown only once, and must be replaced at the first sign-in.")
