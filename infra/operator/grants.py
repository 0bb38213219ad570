"""`signet grant …`: the grants of users to clients."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from chalicelib import builtin_clients, events
from chalicelib.protocol.records import Client, Grant, User
from chalicelib.sessions import revocation
from chalicelib.storage.store import Store
from chalicelib.storage.table import Lookup, R
from infra.operator.clients import find_client
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
from infra.operator.terminal import print_json, print_table, time_text, visible
from infra.operator.users import find_user

_BATCH_SIZE = 100  # the limit of DynamoDB for one batch

_user = click.option("--user", "username", metavar="USERNAME", help="The grants of this user, by username or `sub`.")
_client = click.option("--client", "client_id", metavar="CLIENT_ID", help="The grants to this client.")


@click.group()
def grant() -> None:
    """List and revoke the grants of users to clients."""


@grant.command("list", epilog=example("grant list --user alice", "grant list --client demo --json"))
@_user
@_client
@click.option("--all", "all_", is_flag=True, help="Include revoked grants, until their expiry.")
@json_option
@click.pass_obj
def list_grants(stage: str, /, username: str | None, client_id: str | None, all_: bool, as_json: bool) -> None:
    """List the active grants, with user, client, scopes, creation, last use and expiry."""
    with open_store(stage) as store:
        user = find_user(store, username) if username else None
        client_id = _require_client_id(store, client_id)
        grants = [grant for grant in _grants(store, user, client_id) if all_ or _is_active(grant, store.now())]
        grants.sort(key=lambda grant: (grant.created_at, grant.grant_id))
        documents = _documents(store, grants)
    if as_json:
        print_json(documents)
        return
    rows = [
        (
            document["grant_id"],
            document.get("username", document["sub"]),
            document.get("client_name", document["client_id"]),
            document["scope"],
            *(time_text(document.get(time)) for time in ("created_at", "last_used_at", "ends_at")),
        )
        for document in documents
    ]
    head = ("GRANT_ID", "USER", "CLIENT", "SCOPES", "SINCE", "LAST USED", "ENDS")
    print_table(head, rows, "No grants match." if username or client_id else "There are no grants.")


@grant.command("revoke", epilog=example("grant revoke --user alice --client demo --yes"))
@click.argument("grant_id", required=False)
@_user
@_client
@yes_option
@json_option
@click.pass_obj
def revoke_grants(
    stage: str, /, grant_id: str | None, username: str | None, client_id: str | None, yes: bool, as_json: bool
) -> None:
    """Revoke one grant with all its tokens, or all grants of a --user, to a --client, or both.

    With --user or --client, remembered consents are deleted too, so that users are asked again.
    """
    if bool(grant_id) == bool(username or client_id):
        raise click.UsageError("Give either a GRANT_ID, or --user, --client or both.")
    with open_store(stage) as store:
        if grant_id:
            description, revoked = _revoke_one(store, grant_id, yes)
        else:
            description, revoked = _revoke_all(store, username, client_id, yes)
        documents = _documents(store, revoked)
    if as_json:
        print_json(documents)
    else:
        click.echo(f"Revoked {visible(description)}." if revoked else "There was nothing to revoke.")


def _revoke_one(store: Store, grant_id: str, yes: bool) -> tuple[str, list[Grant]]:
    grant = store.grants.get(grant_id)
    if grant is None:
        raise not_found("grant", grant_id, (other.grant_id for other in store.grants.scan()))
    confirm(f"Revoke the grant {grant_id} with all its tokens?", yes)
    revoked = revocation.revoke_grants(store, [grant])
    _record_events(store, revoked)
    return f"the grant {grant_id}", revoked


def _revoke_all(store: Store, username: str | None, client_id: str | None, yes: bool) -> tuple[str, list[Grant]]:
    user = find_user(store, username) if username else None
    client_id = _require_client_id(store, client_id)
    of = " ".join([f"of {user.username}" if user else "", f"to {client_id}" if client_id else ""]).strip()
    count = sum(1 for grant in _grants(store, user, client_id) if grant.revoked_at is None)
    confirm(f"Revoke {count} grants {of} and delete the consents?", yes)
    # Consents first, so that no new grant is created without asking; grants repeatedly, because the index lags.
    for consent in store.consents.find("sub", user.sub) if user else store.consents.scan():
        if client_id in (None, consent.client_id):
            store.consents.delete(consent.sub, consent.client_id)
    revoked = [
        grant
        for _ in range(revocation.PASSES)
        for grant in revocation.revoke_grants(store, _grants(store, user, client_id))
    ]
    _record_events(store, revoked)
    return f"{len(revoked)} grants {of}", revoked


def _record_events(store: Store, revoked: list[Grant]) -> None:
    """Record one event for each user and client."""
    for sub, client_id in dict.fromkeys((grant.sub, grant.client_id) for grant in revoked):
        record_event(store, events.ACCESS_REVOKED, sub=sub, client=store.clients.get(client_id))


def _grants(store: Store, user: User | None, client_id: str | None) -> Iterator[Grant]:
    grants = store.grants.find("sub", user.sub, index="sub") if user else store.grants.scan()
    return (grant for grant in grants if client_id in (None, grant.client_id))


def _require_client_id(store: Store, client_id: str | None) -> str | None:
    """Return the id of a registered or built-in client. Raises CommandError when there is no such client."""
    if client_id is None or client_id in builtin_clients.RESERVED:
        return client_id
    return find_client(store, client_id).client_id


def _is_active(grant: Grant, now: int) -> bool:
    return grant.revoked_at is None and grant.valid_until > now


def _documents(store: Store, grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Return grants with the names of users and clients, without secrets."""
    grants = list(grants)
    users = _read(store, (store.users.lookup(grant.sub) for grant in grants))
    clients = _read(store, (store.clients.lookup(grant.client_id) for grant in grants))
    return [_document(grant, users.get(grant.sub), clients.get(grant.client_id), store.now()) for grant in grants]


def _read(store: Store, lookups: Iterable[Lookup[R]]) -> dict[str, R | None]:
    """Return records by their keys; each is read once."""
    unique = iter(dict.fromkeys(lookups))
    records: dict[str, R | None] = {}
    while batch := list(islice(unique, _BATCH_SIZE)):
        records |= {lookup.key[0]: record for lookup, record in zip(batch, store.read(*batch), strict=True)}
    return records


def _document(grant: Grant, user: User | None, client: Client | None, now: int) -> dict[str, Any]:
    # A rotation whose response could not be made is recorded with a later time.
    used = [time for time in (grant.redeemed_at, *grant.rotated_at.values()) if time is not None]
    return present_members(
        {
            "grant_id": grant.grant_id,
            "sub": grant.sub,
            "username": user.username if user else None,
            "client_id": grant.client_id,
            "client_name": client.client_name if client else None,
            "scope": " ".join(sorted(grant.scope)),
            "resource": sorted(grant.resource) or None,
            "redirect_uri": grant.redirect_uri,
            "device": grant.device,
            "created_at": grant.created_at,
            "redeemed_at": grant.redeemed_at,
            "last_used_at": min(now, max(used)) if used else None,
            "ends_at": grant.valid_until,
            "revoked_at": grant.revoked_at,
        }
    )
