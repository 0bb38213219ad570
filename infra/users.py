"""`python -m infra user …`: people. JSON has the names of OpenID Connect's claims."""

import sys
from dataclasses import asdict
from typing import Any

import click

from chalicelib import passwords, sessions
from chalicelib.models import User
from chalicelib.registration import check_password, register_user, username_identifier
from chalicelib.store import Store
from infra.commands import Refusal, as_json, print_json, print_table, show, storage, unknown, without

_password_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input; random by default."
)


@click.group()
def user() -> None:
    """Register and list users, and give them new passwords."""


@user.command("create")
@click.option("--username", required=True, help="What they sign in with.")
@click.option("--email")
@click.option("--name", help="Their full name.")
@click.option("--admin", is_flag=True, help="An administrator.")
@_password_stdin
@as_json
@click.pass_obj
def create_user(
    stage: str, /, username: str, email: str | None, name: str | None, admin: bool, password_stdin: bool, as_json: bool
) -> None:
    """Register a user. A random password is shown this once, and has to be replaced at the first sign-in."""
    given = {"name": name, "email": email}
    claims = {claim: value for claim, value in given.items() if value}
    password = _password_from_stdin() if password_stdin else None
    with storage(stage) as store:
        try:
            made, random = register_user(store, username=username, password=password, claims=claims, admin=admin)
        except ValueError as error:
            raise Refusal(str(error)) from error
    _show_with_password(made, random, as_json)


@user.command("list")
@as_json
@click.pass_obj
def list_users(stage: str, /, as_json: bool) -> None:
    """List the users."""
    with storage(stage) as store:
        users = sorted(store.users.scan(), key=lambda user: user.username.casefold())
    if as_json:
        print_json([user_document(user) for user in users])
        return
    rows = [
        (user.username, *(str(user.claims.get(claim, "")) for claim in ("name", "email")), role, user.sub)
        for user in users
        for role in ["administrator" if user.admin else ""]
    ]
    print_table(("USERNAME", "NAME", "EMAIL", "ROLE", "SUB"), rows)


@user.command("show")
@click.argument("username")
@as_json
@click.pass_obj
def show_user(stage: str, /, username: str, as_json: bool) -> None:
    """Show one user, named by username or `sub`."""
    with storage(stage) as store:
        show(user_document(_user(store, username)), as_json)


@user.command("set-password")
@click.argument("username")
@_password_stdin
@as_json
@click.pass_obj
def set_password(stage: str, /, username: str, password_stdin: bool, as_json: bool) -> None:
    """Give a user, named by username or `sub`, another password, and end all their sessions and grants.

    A random password is shown this once, and has to be replaced at the first sign-in.
    """
    password = _password_from_stdin() if password_stdin else None
    try:
        check_password(password)
    except ValueError as error:
        raise Refusal(str(error)) from error
    random = passwords.new_password() if password is None else None
    with storage(stage) as store:
        found = _user(store, username)
        changed = sessions.change_password(store, found, random or password or "", must_be_replaced=random is not None)
    _show_with_password(changed, random, as_json)
    if not as_json:
        print(("" if random else "\n") + "All their sessions and grants have ended.")


def user_document(user: User) -> dict[str, Any]:
    """A user with their claims side by side (OpenID Connect Core section 5.1). Nothing secret."""
    members = without(asdict(user), "password_hash", "sessions_generation")
    claims: dict[str, Any] = members.pop("claims")
    return {**claims, **members}


def _show_with_password(user: User, random: str | None, as_json: bool) -> None:
    show(user_document(user) | ({"password": random} if random else {}), as_json)
    if random and not as_json:
        print("\nThe password is shown this once; it has to be replaced at the first sign-in.")


def _user(store: Store, username: str) -> User:
    identifier = store.identifiers.get(username_identifier(username))
    found = store.users.get(identifier.sub if identifier else username)
    if found is None:
        raise unknown("user", username, (user.username for user in store.users.scan()))
    return found


def _password_from_stdin() -> str:
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Refusal("The password on standard input is not UTF-8.") from error
    return text.removesuffix("\n").removesuffix("\r")
