"""The commands about clients and users. JSON has the member names of RFC 7591 and of OpenID Connect's claims."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import click

from chalicelib.models import Client, User
from chalicelib.registration import register_client, register_user, username_identifier
from chalicelib.settings import Settings
from chalicelib.store import Store
from infra import embedded

as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


class Refusal(click.ClickException):
    """What the operator asked for cannot be done; the text says why."""

    exit_code = 2


@contextmanager
def storage(stage: str) -> Iterator[Store]:
    """The data of a stage: this checkout's embedded database for `local`, AWS for any other.

    Raises StateError, SettingsError.
    """
    settings = Settings.from_environ({**os.environ, "SIGNET_STAGE": stage})
    if stage == embedded.STAGE and settings.embedded:
        with embedded.opened(settings) as opened:
            yield Store(opened)
    else:
        yield Store(replace(settings, embedded=False))


# ---- clients


@click.group()
def client() -> None:
    """Register, list and remove clients."""


@client.command("create")
@click.option("--name", required=True, help="What people read when they are asked for consent.")
@click.option("--redirect-uri", "redirect_uris", multiple=True, required=True, help="May be given several times.")
@click.option("--scope", default="openid", show_default=True, help="All it may ask for, separated by spaces.")
@click.option("--default-scope", help="What a request without scope means.")
@click.option("--default-redirect-uri", help="Where answers go when a request names none of several.")
@click.option("--public", is_flag=True, help="It can keep no secret: an application on a device or in a page.")
@click.option("--trusted", is_flag=True, help="The operator's own: nobody is asked for consent.")
@click.option("--direct-sign-in", is_flag=True, help="May use HTTP Basic at /oauth2/code.")
@click.option("--no-pkce", is_flag=True, help="Need not use PKCE; confidential clients only.")
@click.option("--id", "client_id", help="Its client_id; random by default.")
@as_json
@click.pass_obj
def create_client(stage: str, /, name: str, as_json: bool, no_pkce: bool, **members: Any) -> None:
    """Register a client. Its secret is shown this once."""
    with storage(stage) as store:
        made, secret = register_client(store, client_name=name, require_pkce=not no_pkce, **members)
    shown = client_document(made) | ({"client_secret": secret} if secret else {})
    if secret and as_json:
        shown["client_secret_expires_at"] = 0  # RFC 7591 section 3.2.1: 0 is for a secret that does not expire
    _show(shown, as_json)
    if secret and not as_json:
        print("\nThe secret is shown this once.")


@client.command("list")
@as_json
@click.pass_obj
def list_clients(stage: str, /, as_json: bool) -> None:
    """List the clients."""
    with storage(stage) as store:
        clients = sorted(store.clients.scan(), key=lambda client: (client.client_name.casefold(), client.client_id))
    if as_json:
        _print_json([client_document(client) for client in clients])
        return
    rows = [
        (client.client_id, client.client_name, "public" if client.public else "confidential", client.scope, uris)
        for client in clients
        for uris in [" ".join(client.redirect_uris)]
    ]
    _print_table(("CLIENT_ID", "NAME", "KIND", "SCOPE", "REDIRECT_URIS"), rows)


@client.command("show")
@click.argument("client_id")
@as_json
@click.pass_obj
def show_client(stage: str, /, client_id: str, as_json: bool) -> None:
    """Show one client."""
    with storage(stage) as store:
        _show(client_document(_client(store, client_id)), as_json)


@client.command("delete")
@click.argument("client_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_client(stage: str, /, client_id: str, yes: bool) -> None:
    """Remove a client: from then on nobody can sign in to it, nor can it use its tokens here."""
    with storage(stage) as store:
        found = _client(store, client_id)
        if not yes:
            click.confirm(f"Remove {found.client_name} ({client_id})?", abort=True, err=True)
        store.clients.delete(client_id)
    print(f"Removed {client_id}.")


def client_document(client: Client) -> dict[str, Any]:
    """A client's registration as RFC 7591 section 3.2.1 names it, and our own members. Nothing secret."""
    return _without(asdict(client), "secret_hashes")


def _client(store: Store, client_id: str) -> Client:
    found = store.clients.get(client_id)
    if found is None:
        raise _unknown("client", client_id, (client.client_id for client in store.clients.scan()))
    return found


# ---- users


@click.group()
def user() -> None:
    """Register and list users."""


@user.command("create")
@click.option("--username", required=True, help="What they sign in with.")
@click.option("--email")
@click.option("--name", help="Their full name.")
@click.option("--admin", is_flag=True, help="An administrator.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input; random by default.")
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
    _show(user_document(made) | ({"password": random} if random else {}), as_json)
    if random and not as_json:
        print("\nThe password is shown this once; it has to be replaced at the first sign-in.")


@user.command("list")
@as_json
@click.pass_obj
def list_users(stage: str, /, as_json: bool) -> None:
    """List the users."""
    with storage(stage) as store:
        users = sorted(store.users.scan(), key=lambda user: user.username.casefold())
    if as_json:
        _print_json([user_document(user) for user in users])
        return
    rows = [
        (user.username, *(str(user.claims.get(claim, "")) for claim in ("name", "email")), role, user.sub)
        for user in users
        for role in ["administrator" if user.admin else ""]
    ]
    _print_table(("USERNAME", "NAME", "EMAIL", "ROLE", "SUB"), rows)


@user.command("show")
@click.argument("username")
@as_json
@click.pass_obj
def show_user(stage: str, /, username: str, as_json: bool) -> None:
    """Show one user, named by username or `sub`."""
    with storage(stage) as store:
        identifier = store.identifiers.get(username_identifier(username))
        found = store.users.get(identifier.sub if identifier else username)
        if found is None:
            raise _unknown("user", username, (user.username for user in store.users.scan()))
        _show(user_document(found), as_json)


def user_document(user: User) -> dict[str, Any]:
    """A user with their claims side by side (OpenID Connect Core section 5.1). Nothing secret."""
    members = _without(asdict(user), "password_hash", "sessions_generation")
    claims: dict[str, Any] = members.pop("claims")
    return {**claims, **members}


# ---- underneath


def _password_from_stdin() -> str:
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Refusal("The password on standard input is not UTF-8.") from error
    return text.removesuffix("\n").removesuffix("\r")


def _without(members: dict[str, Any], *hidden: str) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None and name not in hidden}


def _unknown(kind: str, name: str, known: Iterable[str]) -> Refusal:
    near = get_close_matches(name, known, n=1)
    return Refusal(f"There is no {kind} {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))


def _show(members: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(members)
        return
    width = max(map(len, members))
    for name, value in members.items():
        print(f"{name:{width}}  {_text(name, value)}")


def _text(name: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_at"):
            return datetime.fromtimestamp(value, UTC).isoformat(" ")
        case tuple() | frozenset():
            return " ".join(sorted(value) if isinstance(value, frozenset) else value)
    return str(value)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
