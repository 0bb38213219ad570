"""`signet client …`: registered clients. JSON has the member names of RFC 7591."""

from dataclasses import asdict, replace
from typing import Any

import click

from chalicelib import events
from chalicelib.clients.certificates import certificates_of
from chalicelib.clients.client_lifetime import last_use
from chalicelib.clients.metadata import warnings
from chalicelib.clients.registration import (
    drop_old_secrets,
    register_client,
    rotate_secret,
    set_client_disabled,
    update_client,
)
from chalicelib.protocol.client import Client
from chalicelib.protocol.mutual_tls import SELF_SIGNED
from chalicelib.protocol.records import Consent
from chalicelib.sessions.connected_applications import forget_consent
from chalicelib.storage.store import Store
from infra.operator.client_block import paste_block
from infra.operator.client_changes import with_default_scope, with_key_method, with_profile, with_response_types
from infra.operator.client_options import given_changes, given_members, options
from infra.operator.client_profile import missing_for_profile, profile_option
from infra.operator.commands import (
    confirm,
    example,
    json_option,
    not_found,
    open_store,
    present_members,
    record_event,
    yes_option,
)
from infra.operator.doctor.inside import public_url
from infra.operator.option_names import naming_options
from infra.operator.terminal import print_json, print_list, print_record, time_text, visible, visible_lines


@click.group()
def client() -> None:
    """Register, change and remove clients; rotate their secrets."""


@client.command(
    "create",
    epilog=example(
        'client create --name "Photo Print" --redirect-uri https://print.example.com/callback',
        'client create --name "Night job" --grant-type client_credentials --scope photos.read',
        "client create --name Bank --profile fapi2 --jwks-uri https://a.example/jwks --redirect-uri https://a.example/",
    ),
)
@options(updating=False)
@click.option("--id", "client_id", help="The client_id; random by default.")
@json_option
@click.pass_obj
def create_client(stage: str, /, as_json: bool, **values: Any) -> None:
    """Register a client. If it has a secret, it is shown only once."""
    given = given_members(values)
    members = with_profile(with_key_method(with_default_scope(with_response_types(given))), given)
    if not members.get("redirect_uris") and "authorization_code" in members.get("grant_types", ("authorization_code",)):
        raise click.UsageError("Missing option '--redirect-uri'.")
    with open_store(stage) as store, naming_options(updating=False):
        created, secret = register_client(store, **{"redirect_uris": (), **members})
        record_event(store, events.CLIENT_CHANGED, client=created, detail="created")
        issuer = None if as_json else public_url(store)
    _print_warnings(created)
    _print_with_secret(created, secret, as_json)
    if as_json:
        return
    _ask_for_certificate(created, stage)
    click.echo(f"\nTo paste into the application:\n\n{visible_lines(paste_block(created, secret, issuer))}")
    if secret:
        click.echo("\nThe secret is shown only once.")


@client.command("list", epilog=example("client list"))
@json_option
@click.pass_obj
def list_clients(stage: str, /, as_json: bool) -> None:
    """List the clients."""
    with open_store(stage) as store:
        clients = sorted(store.clients.scan(), key=lambda client: (client.client_name.casefold(), client.client_id))
    head = ("CLIENT_ID", "NAME", "KIND", "SCOPE", "REDIRECT_URIS")
    print_list(clients, as_json, client_document, head, _row, "No client is registered.")


def _row(client: Client) -> tuple[str, ...]:
    return client.client_id, client.client_name, _kind(client), client.scope, " ".join(client.redirect_uris)


@client.command("show", epilog=example("client show demo", "client show demo --profile fapi2"))
@click.argument("client_id")
@profile_option
@json_option
@click.pass_obj
def show_client(stage: str, /, client_id: str, profile: str | None, as_json: bool) -> None:
    """Show one client, also one that names itself by the URL of a document."""
    with open_store(stage) as store:
        records = store.read_all(store.lookups_of_client(client_id))
        client = store.client_in(records, client_id) or find_client(store, client_id)
    missing = missing_for_profile(client, profile)
    print_record(client_document(client) | ({"missing_for_profile": missing} if missing else {}), as_json)
    if profile and not missing and not as_json:
        click.echo(f"\nIts registration meets {profile}.")


@client.command(
    "update",
    epilog=example(
        "client update demo --add-redirect-uri https://demo.example.com/callback --access-token-lifetime 300",
        "client update demo --unset access-token-lifetime",
    ),
)
@click.argument("client_id")
@options(updating=True)
@json_option
@click.pass_obj
def update_client_(stage: str, /, client_id: str, as_json: bool, **values: Any) -> None:
    """Change the given members and no others. The change takes effect within a minute."""
    changes = given_changes(values)
    with open_store(stage) as store, naming_options(updating=True):
        client = find_client(store, client_id)
        changed = update_client(store, client, changes.apply)
        before, after = asdict(client), asdict(changed)
        names = [name for name in after if after[name] != before[name]]
        if names:
            record_event(store, events.CLIENT_CHANGED, client=changed, detail="updated: " + ", ".join(sorted(names)))
    _print_warnings(changed, before=client)
    print_record(client_document(changed), as_json)
    if not as_json and changed.has_secret_method and not changed.secret_hashes:
        click.echo(f"\nIt has no secret yet. Create one: signet client rotate-secret {client_id} --stage {stage}")
    if not as_json:
        _ask_for_certificate(changed, stage)


@client.command("rotate-secret", epilog=example("client rotate-secret demo", "client rotate-secret demo --finish"))
@click.argument("client_id")
@click.option("--drop-old", is_flag=True, help="Reject the old secrets at once, because they are compromised.")
@click.option("--finish", is_flag=True, help="Create no secret; reject the older one of the two.")
@yes_option
@json_option
@click.pass_obj
def rotate_client_secret(stage: str, /, client_id: str, drop_old: bool, finish: bool, yes: bool, as_json: bool) -> None:
    """Create a second secret, which is shown only once. Both are accepted until --finish removes the older one."""
    if drop_old and finish:
        raise click.UsageError("Use either --drop-old, which creates a secret, or --finish, which does not.")
    with open_store(stage) as store:
        client = find_client(store, client_id)
        if client.secret_hashes and (drop_old or (len(client.secret_hashes) > 1 and finish)):
            which = "all secrets" if drop_old else "the older secret"
            confirm(f"Reject {which} of {client.client_name} ({client_id})? They cannot be restored.", yes)
        if finish:
            changed, secret = drop_old_secrets(store, client), None
        else:
            changed, secret = rotate_secret(store, client, drop_old=drop_old)
        record_event(
            store, events.CLIENT_CHANGED, client=changed, detail="older secret dropped" if finish else "new secret"
        )
    _print_with_secret(changed, secret, as_json)
    if as_json:
        return
    click.echo("\nThe secret is shown only once." if secret else "")
    if len(changed.secret_hashes) > 1:
        click.echo("The previous secret is still accepted. When the application uses the new one, run:")
        click.echo(f"signet client rotate-secret {client_id} --finish --stage {stage}")
    elif client.secret_hashes:
        click.echo("Within a minute, no other secret is accepted.")


@client.command("disable", epilog=example("client disable demo --yes"))
@click.argument("client_id")
@yes_option
@json_option
@click.pass_obj
def disable_client(stage: str, /, client_id: str, yes: bool, as_json: bool) -> None:
    """Reject all requests of a client until it is enabled again; its grants are kept. Takes effect within a minute."""
    _set_disabled(stage, client_id, as_json, disabled=True, yes=yes)


@client.command("enable", epilog=example("client enable demo"))
@click.argument("client_id")
@json_option
@click.pass_obj
def enable_client(stage: str, /, client_id: str, as_json: bool) -> None:
    """Accept the requests of a disabled client again."""
    _set_disabled(stage, client_id, as_json, disabled=False)


def _set_disabled(stage: str, client_id: str, as_json: bool, *, disabled: bool, yes: bool = True) -> None:
    with open_store(stage) as store:
        client = find_client(store, client_id)
        confirm(f"Reject all requests of {client.client_name} ({client_id})?", yes)
        changed = set_client_disabled(store, client, disabled=disabled)
        record_event(store, events.CLIENT_CHANGED, client=changed, detail="disabled" if disabled else "enabled")
    print_record(client_document(changed), as_json)


@client.command("delete", epilog=example("client delete demo --yes"))
@click.argument("client_id")
@yes_option
@json_option
@click.pass_obj
def delete_client(stage: str, /, client_id: str, yes: bool, as_json: bool) -> None:
    """Remove a client, and forget the consents for it. Its grants end within a minute.

    They stay ended when a client with the same id is registered later.
    """
    with open_store(stage) as store:
        client = find_client(store, client_id)
        confirm(f"Remove {client.client_name} ({client_id}) with all its grants and consents?", yes)
        # Disabled first, which ends everything; the record last, so that an interrupted removal can be repeated.
        set_client_disabled(store, client, disabled=True)
        delete_consents(store, client_id)
        store.clients.delete(client_id)
        record_event(store, events.CLIENT_CHANGED, client=client, detail="deleted")
    if as_json:
        print_json(client_document(client))
    else:
        click.echo(f"Removed {client_id}.")


def delete_consents(store: Store, client_id: str) -> None:
    """Delete the consents for a client. One from which access was removed is only emptied.

    Without its generation, the grants that ended with that access would be valid again, as long as a running function
    has the client in its cache.
    """
    for consent in store.consents.scan():
        if consent.client_id == client_id and not _delete_unless_removed(store, consent) and not consent.empty:
            store.consents.write(forget_consent(store, consent.sub, client_id))


def _delete_unless_removed(store: Store, consent: Consent) -> bool:
    """Delete a consent if access has never been removed from it; return whether it is deleted."""
    never_removed = store.consents.unchanged(replace(consent, generation=0), "generation")
    return store.transact(store.consents.deleting((consent.sub, consent.client_id), never_removed)) is None


def client_document(client: Client) -> dict[str, Any]:
    """Return a client with the member names of RFC 7591 section 3.2.1 and Signet's own members, without secrets."""
    members = asdict(client) | {"token_endpoint_auth_methods": client.auth_methods, "last_used_at": last_use(client)}
    if client.tls_client_certificates:
        members["tls_client_certificates"] = [each.thumbprint for each in certificates_of(client)]
    return present_members(members, *_HIDDEN)


_HIDDEN = (
    *("secret_hashes", "registration_id", "grants_generation", "document"),
    *("registration_token_hash", "previous_registration_token_hash", "registration_token_replaced_at"),
)


def find_client(store: Store, client_id: str) -> Client:
    """Return the client with this id. Raises CommandError."""
    client = store.clients.get(client_id)
    if client is None:
        raise not_found("client", client_id, (other.client_id for other in store.clients.scan()))
    return client


def _kind(client: Client) -> str:
    kind = "public" if client.public else "confidential"
    if client.registered_with is not None:
        used_at = last_use(client)
        kind += ", registered itself, " + (f"last used {time_text(used_at)}" if used_at else "never used")
    return f"{kind}, disabled" if client.disabled_at is not None else kind


def _print_warnings(client: Client, before: Client | None = None) -> None:
    """Print what the operator should know about a client, without what was so before."""
    for warning in warnings(client):
        if before is None or warning not in warnings(before):
            click.echo(visible(f"Warning: {warning}"), err=True)


def _ask_for_certificate(client: Client, stage: str) -> None:
    """Tell the operator what a client lacks that authenticates by its own certificates."""
    if SELF_SIGNED in client.auth_methods and not client.tls_client_certificates:
        command = f"signet client add-certificate {client.client_id} FILE --stage {stage}"
        click.echo(f"\nIt has no certificate yet. Add one: {command}")


def _print_with_secret(client: Client, secret: str | None, as_json: bool) -> None:
    document = client_document(client) | ({"client_secret": secret} if secret else {})
    if secret and as_json:
        document["client_secret_expires_at"] = 0  # RFC 7591 section 3.2.1: 0 means that it does not expire
    print_record(document, as_json)
