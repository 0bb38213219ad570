"""`python -m infra client …`: registered clients. JSON has the member names of RFC 7591."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib import audit, ending
from chalicelib.models import Client
from chalicelib.registration import drop_old_secrets, register_client, rotate_secret, set_client_disabled, update_client
from chalicelib.store import Store
from infra.client_options import fitting, given, options, wishes
from infra.commands import as_json, confirm, example, noted, storage, unknown, without, yes
from infra.terminal import print_json, print_table, show


@click.group()
def client() -> None:
    """Register, change and remove clients; replace their secrets."""


@client.command(
    "create",
    epilog=example(
        'client create --name "Photo Print" --redirect-uri https://print.example.com/callback',
        'client create --name "Night job" --grant-type client_credentials --scope photos.read',
    ),
)
@options(updating=False)
@click.option("--id", "client_id", help="Its client_id; random by default.")
@as_json
@click.pass_obj
def create_client(stage: str, /, as_json: bool, **values: Any) -> None:
    """Register a client. Its secret is shown this once."""
    members = fitting(given(values))
    if not members.get("redirect_uris") and "authorization_code" in members.get("grant_types", ("authorization_code",)):
        raise click.UsageError("Missing option '--redirect-uri'.")
    with storage(stage) as store:
        made, secret = register_client(store, **{"redirect_uris": (), **members})
        noted(store, audit.CLIENT_CHANGED, client=made, detail="created")
    _show_with_secret(made, secret, as_json)
    if secret and not as_json:
        click.echo("\nThe secret is shown this once.")


@client.command("list", epilog=example("client list"))
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
        (client.client_id, client.client_name, _kind(client), client.scope, " ".join(client.redirect_uris))
        for client in clients
    ]
    print_table(("CLIENT_ID", "NAME", "KIND", "SCOPE", "REDIRECT_URIS"), rows, "No client is registered.")


@client.command("show", epilog=example("client show demo"))
@click.argument("client_id")
@as_json
@click.pass_obj
def show_client(stage: str, /, client_id: str, as_json: bool) -> None:
    """Show one client."""
    with storage(stage) as store:
        show(client_document(find_client(store, client_id)), as_json)


@client.command(
    "update",
    epilog=example(
        "client update demo --add-redirect-uri https://demo.example.com/callback --access-token-lifetime 300",
        "client update demo --unset access-token-lifetime",
    ),
)
@click.argument("client_id")
@options(updating=True)
@as_json
@click.pass_obj
def update_client_(stage: str, /, client_id: str, as_json: bool, **values: Any) -> None:
    """Change what is named, and nothing else. Functions at work take up to a minute to notice."""
    wanted = wishes(values)
    with storage(stage) as store:
        found = find_client(store, client_id)
        changed = update_client(store, found, wanted.of)
        before, after = asdict(found), asdict(changed)
        names = [name for name in after if after[name] != before[name]]
        if names:
            noted(store, audit.CLIENT_CHANGED, client=changed, detail="updated: " + ", ".join(sorted(names)))
    show(client_document(changed), as_json)
    if not as_json and not changed.public and not changed.secret_hashes:
        click.echo(f"\nIt has no secret yet: python -m infra --stage {stage} client rotate-secret {client_id}")


@client.command("rotate-secret", epilog=example("client rotate-secret demo", "client rotate-secret demo --finish"))
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
        found = find_client(store, client_id)
        if finish:
            changed, secret = drop_old_secrets(store, found), None
        else:
            changed, secret = rotate_secret(store, found, drop_old=drop_old)
        noted(store, audit.CLIENT_CHANGED, client=changed, detail="older secret dropped" if finish else "new secret")
    _show_with_secret(changed, secret, as_json)
    if as_json:
        return
    click.echo("\nThe secret is shown this once." if secret else "")
    if len(changed.secret_hashes) > 1:
        click.echo("The one before counts too. When the application uses the new one:")
        click.echo(f"python -m infra --stage {stage} client rotate-secret {client_id} --finish")
    elif found.secret_hashes:
        click.echo("No other secret counts any more, after a minute at most.")


@client.command("disable", epilog=example("client disable demo"))
@click.argument("client_id")
@as_json
@click.pass_obj
def disable_client(stage: str, /, client_id: str, as_json: bool) -> None:
    """Let a client do nothing until it is enabled again. Its grants go on then. Noticed within a minute."""
    _set_disabled(stage, client_id, as_json, disabled=True)


@client.command("enable", epilog=example("client enable demo"))
@click.argument("client_id")
@as_json
@click.pass_obj
def enable_client(stage: str, /, client_id: str, as_json: bool) -> None:
    """Let a disabled client work again."""
    _set_disabled(stage, client_id, as_json, disabled=False)


def _set_disabled(stage: str, client_id: str, as_json: bool, *, disabled: bool) -> None:
    with storage(stage) as store:
        changed = set_client_disabled(store, find_client(store, client_id), disabled=disabled)
        noted(store, audit.CLIENT_CHANGED, client=changed, detail="disabled" if disabled else "enabled")
    show(client_document(changed), as_json)


@client.command("delete", epilog=example("client delete demo --yes"))
@click.argument("client_id")
@yes
@as_json
@click.pass_obj
def delete_client(stage: str, /, client_id: str, yes: bool, as_json: bool) -> None:
    """Remove a client, its grants and the consents to it."""
    with storage(stage) as store:
        found = find_client(store, client_id)
        confirm(f"Remove {found.client_name} ({client_id}), and all its grants and consents?", yes)
        # First the way in, last the record: one that was cut off can be done again.
        set_client_disabled(store, found, disabled=True)
        end_access(store, client_id)
        store.clients.delete(client_id)
        noted(store, audit.CLIENT_CHANGED, client=found, detail="deleted")
    if as_json:
        print_json(client_document(found))
    else:
        click.echo(f"Removed {client_id}.")


def end_access(store: Store, client_id: str) -> int:
    """End all grants of a client, and forget all consents to it; how many grants had not ended before."""
    ended = ending.end_grants(store, (one for one in store.grants.scan() if one.client_id == client_id))
    for consent in store.consents.scan():
        if consent.client_id == client_id:
            store.consents.delete(consent.sub, client_id)
    return len(ended)


def client_document(client: Client) -> dict[str, Any]:
    """A client's registration as RFC 7591 section 3.2.1 names it, and our own members. Nothing secret."""
    return without(asdict(client), "secret_hashes")


def find_client(store: Store, client_id: str) -> Client:
    """The client of this id. Raises Refusal."""
    found = store.clients.get(client_id)
    if found is None:
        raise unknown("client", client_id, (client.client_id for client in store.clients.scan()))
    return found


def _kind(client: Client) -> str:
    kind = "public" if client.public else "confidential"
    return f"{kind}, disabled" if client.disabled_at is not None else kind


def _show_with_secret(client: Client, secret: str | None, as_json: bool) -> None:
    shown = client_document(client) | ({"client_secret": secret} if secret else {})
    if secret and as_json:
        shown["client_secret_expires_at"] = 0  # RFC 7591 section 3.2.1: 0 is for a secret that does not expire
    show(shown, as_json)
