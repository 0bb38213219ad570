"""`python -m infra client …`: registered clients. JSON has the member names of RFC 7591."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib.models import Client
from chalicelib.registration import drop_old_secrets, register_client, rotate_secret
from chalicelib.store import Store
from infra.commands import as_json, print_json, print_table, show, storage, unknown, without


@click.group()
def client() -> None:
    """Register, list and remove clients, and replace their secrets."""


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
    _show_with_secret(made, secret, as_json)
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
        print_json([client_document(client) for client in clients])
        return
    rows = [
        (client.client_id, client.client_name, "public" if client.public else "confidential", client.scope, uris)
        for client in clients
        for uris in [" ".join(client.redirect_uris)]
    ]
    print_table(("CLIENT_ID", "NAME", "KIND", "SCOPE", "REDIRECT_URIS"), rows)


@client.command("show")
@click.argument("client_id")
@as_json
@click.pass_obj
def show_client(stage: str, /, client_id: str, as_json: bool) -> None:
    """Show one client."""
    with storage(stage) as store:
        show(client_document(_client(store, client_id)), as_json)


@client.command("rotate-secret")
@click.argument("client_id")
@click.option("--drop-old", is_flag=True, help="Only the new one counts: the others are known to strangers.")
@click.option("--finish", is_flag=True, help="Make none: of the two there are, only the newer one counts from now on.")
@as_json
@click.pass_obj
def rotate_client_secret(stage: str, /, client_id: str, drop_old: bool, finish: bool, as_json: bool) -> None:
    """Give a client a second secret, which is shown this once. Both count until --finish drops the older one."""
    if drop_old and finish:
        raise click.UsageError("--drop-old makes a new secret, and --finish makes none.")
    with storage(stage) as store:
        found = _client(store, client_id)
        if finish:
            changed, secret = drop_old_secrets(store, found), None
        else:
            changed, secret = rotate_secret(store, found, drop_old=drop_old)
    _show_with_secret(changed, secret, as_json)
    if as_json:
        return
    print("\nThe secret is shown this once." if secret else "")
    if len(changed.secret_hashes) > 1:
        print("The one before counts too. When the application uses the new one:")
        print(f"python -m infra --stage {stage} client rotate-secret {client_id} --finish")
    elif found.secret_hashes:
        print("No other secret counts any more, after a minute at most.")


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
    return without(asdict(client), "secret_hashes")


def _show_with_secret(client: Client, secret: str | None, as_json: bool) -> None:
    shown = client_document(client) | ({"client_secret": secret} if secret else {})
    if secret and as_json:
        shown["client_secret_expires_at"] = 0  # RFC 7591 section 3.2.1: 0 is for a secret that does not expire
    show(shown, as_json)


def _client(store: Store, client_id: str) -> Client:
    found = store.clients.get(client_id)
    if found is None:
        raise unknown("client", client_id, (client.client_id for client in store.clients.scan()))
    return found
