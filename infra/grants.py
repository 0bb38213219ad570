"""`python -m infra grant …`: what people have granted to clients, and how the operator ends it."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from chalicelib import audit, ending, own_clients
from chalicelib.models import Client, Grant, User
from chalicelib.store import Store
from infra.clients import find_client
from infra.commands import as_json, confirm, example, noted, storage, unknown, without, yes
from infra.terminal import print_json, print_table, time_text, visible
from infra.users import find_user

_AT_ONCE = 100  # what DynamoDB reads in one batch

_user = click.option("--user", "username", metavar="USERNAME", help="Those of this user, named by username or `sub`.")
_client = click.option("--client", "client_id", metavar="CLIENT_ID", help="Those of this client.")


@click.group()
def grant() -> None:
    """List what people have granted to clients, and end it."""


@grant.command("list", epilog=example("grant list --user alice", "grant list --client demo --json"))
@_user
@_client
@click.option("--all", "all_", is_flag=True, help="Those that were ended too, until they would have ended anyway.")
@as_json
@click.pass_obj
def list_grants(stage: str, /, username: str | None, client_id: str | None, all_: bool, as_json: bool) -> None:
    """List the grants that are alive. Who has granted what to whom, since when, last used when, until when."""
    with storage(stage) as store:
        user = find_user(store, username) if username else None
        found = sorted(
            (one for one in _grants(store, user, _known(store, client_id)) if all_ or _lives(one, store.now())),
            key=lambda one: (one.created_at, one.grant_id),
        )
        documents = _documents(store, found)
    if as_json:
        print_json(documents)
        return
    rows = [
        (
            one["grant_id"],
            one.get("username", one["sub"]),
            one.get("client_name", one["client_id"]),
            one["scope"],
            *(time_text(one.get(time)) for time in ("created_at", "last_used_at", "ends_at")),
        )
        for one in documents
    ]
    head = ("GRANT_ID", "USER", "CLIENT", "SCOPES", "SINCE", "LAST USED", "ENDS")
    print_table(head, rows, "There is no such grant." if username or client_id else "There is no grant.")


@grant.command("revoke", epilog=example("grant revoke --user alice --client demo --yes"))
@click.argument("grant_id", required=False)
@_user
@_client
@yes
@as_json
@click.pass_obj
def revoke_grants(
    stage: str, /, grant_id: str | None, username: str | None, client_id: str | None, yes: bool, as_json: bool
) -> None:
    """End one grant with all its tokens, or several grants. Name a GRANT_ID, or a --user, a --client or both.

    With --user or --client the consents that were given for good are forgotten too: people are asked again.
    """
    if bool(grant_id) == bool(username or client_id):
        raise click.UsageError("Name one GRANT_ID, or a --user, a --client or both.")
    with storage(stage) as store:
        if grant_id:
            asked, revoked = _revoke_one(store, grant_id, yes)
        else:
            asked, revoked = _revoke_all(store, username, client_id, yes)
        documents = _documents(store, revoked)
    if as_json:
        print_json(documents)
    else:
        click.echo(f"Ended {visible(asked)}." if revoked else "Nothing was left to end.")


def _revoke_one(store: Store, grant_id: str, yes: bool) -> tuple[str, list[Grant]]:
    found = store.grants.get(grant_id)
    if found is None:
        raise unknown("grant", grant_id, (one.grant_id for one in store.grants.scan()))
    confirm(f"End the grant {grant_id}, with all its tokens?", yes)
    revoked = ending.end_grants(store, [found])
    _note(store, revoked)
    return f"the grant {grant_id}", revoked


def _revoke_all(store: Store, username: str | None, client_id: str | None, yes: bool) -> tuple[str, list[Grant]]:
    user = find_user(store, username) if username else None
    client_id = _known(store, client_id)
    of = " ".join([f"of {user.username}" if user else "", f"to {client_id}" if client_id else ""]).strip()
    alive = sum(1 for one in _grants(store, user, client_id) if one.revoked_at is None)
    confirm(f"End the {alive} grants {of}, and forget the consents?", yes)
    # The consents first, so that nothing comes back silently; the grants twice, because the index lags.
    for consent in store.consents.find("sub", user.sub) if user else store.consents.scan():
        if client_id in (None, consent.client_id):
            store.consents.delete(consent.sub, consent.client_id)
    revoked = [one for _ in range(ending.PASSES) for one in ending.end_grants(store, _grants(store, user, client_id))]
    _note(store, revoked)
    return f"{len(revoked)} grants {of}", revoked


def _note(store: Store, revoked: list[Grant]) -> None:
    """One event for each person and client."""
    for sub, client_id in dict.fromkeys((one.sub, one.client_id) for one in revoked):
        noted(store, audit.ACCESS_REVOKED, sub=sub, client=store.clients.get(client_id))


def _grants(store: Store, user: User | None, client_id: str | None) -> Iterator[Grant]:
    found = store.grants.find("sub", user.sub, index="sub") if user else store.grants.scan()
    return (one for one in found if client_id in (None, one.client_id))


def _known(store: Store, client_id: str | None) -> str | None:
    """The id of a client that there is: a registered one, or one of the server's own. Raises Refusal."""
    if client_id is None or client_id in own_clients.RESERVED:
        return client_id
    return find_client(store, client_id).client_id


def _lives(grant: Grant, now: int) -> bool:
    return grant.revoked_at is None and grant.good_until > now


def _documents(store: Store, grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Grants with the names of who has granted to whom. Nothing secret."""
    found = list(grants)
    users = _read(store, ((store.users, (one.sub,)) for one in found))
    clients = _read(store, ((store.clients, (one.client_id,)) for one in found))
    return [_document(one, users.get((one.sub,)), clients.get((one.client_id,)), store.now()) for one in found]


def _read(store: Store, wanted: Iterable[tuple[Any, tuple[str, ...]]]) -> dict[tuple[str, ...], Any]:
    """Records by their keys, each read once."""
    unique = iter(dict.fromkeys(wanted))
    records: dict[tuple[str, ...], Any] = {}
    while batch := list(islice(unique, _AT_ONCE)):
        records |= {key: record for (_, key), record in zip(batch, store.read(*batch), strict=True)}
    return records


def _document(grant: Grant, user: User | None, client: Client | None, now: int) -> dict[str, Any]:
    # A rotation whose answer could not be made is dated later than it was.
    used = [time for time in (grant.redeemed_at, *grant.rotated_at.values()) if time is not None]
    return without(
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
            "ends_at": grant.good_until,
            "revoked_at": grant.revoked_at,
        }
    )
