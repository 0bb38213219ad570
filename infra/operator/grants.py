"""`signet grant …`: the grants of users to clients."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import click

from chalicelib import builtin_clients, events
from chalicelib.clients import registration
from chalicelib.protocol.client import Client
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import Consent, Session, User
from chalicelib.protocol.validity import why_ended
from chalicelib.sessions.active_grants import INDEX
from chalicelib.sessions.connected_applications import forget_consent
from chalicelib.sessions.revocation import revoke_grant
from chalicelib.sessions.validity import lookups
from chalicelib.storage.store import MAX_BATCH, Records, Store
from chalicelib.storage.table import Refused
from chalicelib.users import accounts
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

_user = click.option("--user", "username", metavar="USERNAME", help="The grants of this user, by username or `sub`.")
_client = click.option("--client", "client_id", metavar="CLIENT_ID", help="The grants to this client.")


@dataclass(frozen=True)
class _Access:
    """A grant with the records that decide whether it has ended, each None when it is absent.

    A disabled client is present: its grants are kept.
    """

    grant: Grant
    client: Client | None
    user: User | None
    session: Session | None
    consent: Consent | None

    def why_ended(self, now: int) -> str | None:
        """Return why the grant has ended, or None while it is active."""
        if self.grant.revoked_at is not None:
            return "revoked"
        if self.grant.valid_until <= now:
            return "expired"
        return why_ended(self.grant, self.client, self.user, self.session, self.consent)


@click.group()
def grant() -> None:
    """List and revoke the grants of users to clients."""


@grant.command("list", epilog=example("grant list --user alice", "grant list --client demo --json"))
@_user
@_client
@click.option("--all", "all_", is_flag=True, help="Include grants that have ended, and why, until they are deleted.")
@json_option
@click.pass_obj
def list_grants(stage: str, /, username: str | None, client_id: str | None, all_: bool, as_json: bool) -> None:
    """List the active grants, with user, client, scopes, creation, last use and expiry.

    A grant is active until it expires, is revoked, or ends with its session, user, consent or client. A disabled client
    keeps its grants, but cannot use them.
    """
    with open_store(stage) as store:
        user = find_user(store, username) if username else None
        _require_client(store, client_id)
        now = store.now()
        listed = [access for access in _read_grants(store, user, client_id) if all_ or not access.why_ended(now)]
    listed.sort(key=lambda access: (access.grant.created_at, access.grant.grant_id))
    documents = [_document(access, now) for access in listed]
    if as_json:
        print_json(documents)
        return
    rows = [
        (
            document["grant_id"],
            document.get("username") or document.get("sub", ""),
            document.get("client_name", document["client_id"]),
            document["scope"],
            *(time_text(document.get(time)) for time in ("created_at", "last_used_at", "ends_at")),
            *([document.get("ended", "")] if all_ else []),
        )
        for document in documents
    ]
    head = ("GRANT_ID", "USER", "CLIENT", "SCOPES", "SINCE", "LAST USED", "ENDS", *(["ENDED"] if all_ else []))
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

    With --user or --client, remembered consents are forgotten too, so that users are asked again. With --client alone,
    it takes effect within a minute, otherwise at once.
    """
    if bool(grant_id) == bool(username or client_id):
        raise click.UsageError("Give either a GRANT_ID, or --user, --client or both.")
    with open_store(stage) as store:
        if grant_id:
            message, revoked = _revoke_one(store, grant_id, yes)
        else:
            message, revoked = _revoke_all(store, username, client_id, yes)
        documents = [_document(access, store.now()) for access in revoked]
    if as_json:
        print_json(documents)
    else:
        click.echo(visible(message))


def _revoke_one(store: Store, grant_id: str, yes: bool) -> tuple[str, list[_Access]]:
    """Revoke a grant; return what to print, and the grant if it was active."""
    grant = store.grants.get(grant_id)
    if grant is None:
        raise not_found("grant", grant_id, (other.grant_id for other in store.grants.scan()))
    confirm(f"Revoke the grant {grant_id} with all its tokens?", yes)
    (before,) = _with_records(store, [grant])
    revoked = store.grants.write(revoke_grant(store, grant_id))
    if isinstance(revoked, Refused) or before.why_ended(store.now()):
        return "There was nothing to revoke.", []
    _record_events(store, {(grant.sub if grant.has_user else None, grant.client_id)})
    return f"Revoked the grant {grant_id}.", [replace(before, grant=revoked)]


def _revoke_all(store: Store, username: str | None, client_id: str | None, yes: bool) -> tuple[str, list[_Access]]:
    """Revoke the grants of a user, to a client, or both; return what to print, and those that were active."""
    user = find_user(store, username) if username else None
    client = _require_client(store, client_id)
    active = [access.grant for access in _read_grants(store, user, client_id) if not access.why_ended(store.now())]
    consents = store.consents.find("sub", user.sub) if user else store.consents.scan()
    remembered = remembered_consents(store, (each for each in consents if client_id in (None, each.client_id)))
    pairs = {(grant.sub if grant.has_user else None, grant.client_id) for grant in active}
    pairs |= {(consent.sub, consent.client_id) for consent in remembered}
    of = " ".join([f"of {user.username}" if user else "", f"to {client_id}" if client_id else ""]).strip()
    confirm(f"Revoke {len(active)} grants {of} and forget the consents?", yes)
    # Also when nothing is listed: the index of a user's grants lags.
    delayed = False
    if user and client_id:
        store.consents.write(forget_consent(store, user.sub, client_id))
    elif user:
        accounts.end_all_grants(store, user)
    elif client_id and client_id in builtin_clients.RESERVED:  # it has no record
        grants = [grant for grant in store.grants.scan() if grant.client_id == client_id]
        for sub in {grant.sub for grant in grants if grant.sub} | {sub for sub, _ in pairs if sub}:
            store.consents.write(forget_consent(store, sub, client_id))
    elif client:
        registration.end_all_grants(store, client)
        delayed = True
    _record_events(store, pairs)
    if not pairs:
        return "There was nothing to revoke.", []
    message = f"Revoked {len(active)} grants {of}." + (" It takes effect within a minute." if delayed else "")
    return message, _with_records(store, active)


def _record_events(store: Store, pairs: set[tuple[str | None, str]]) -> None:
    """Record one event for each user and client. Without a user, a client had a grant of its own."""
    clients = {client_id: _find_client(store, client_id) for client_id in {client_id for _, client_id in pairs}}
    for sub, client_id in sorted(pairs, key=str):
        record_event(store, events.ACCESS_REVOKED, sub=sub, client=clients[client_id])


# ---- the grants and consents, with the records that they depend on


def _read_grants(store: Store, user: User | None, client_id: str | None) -> list[_Access]:
    """Return all stored grants, or those of a user, to a client, or both. The index of a user's grants lags."""
    if user is None:
        grants = [grant for grant in store.grants.scan() if client_id in (None, grant.client_id)]
    else:
        entries = store.grant_entries.find("sub", user.sub, index=INDEX)
        ids = [entry.grant_id for entry in entries if client_id in (None, entry.client_id)]
        grants = [grant for grant in store.read(*map(store.grants.lookup, ids)) if grant]
    return _with_records(store, grants)


def _with_records(store: Store, grants: Iterable[Grant]) -> list[_Access]:
    needed = [(grant, lookups(store, grant)) for grant in grants]
    records = store.read_all(
        lookup for grant, of_grant in needed for lookup in (*store.lookups_of_client(grant.client_id), *of_grant)
    )
    return [
        _Access(
            grant,
            _find_client(store, grant.client_id, records),
            records.get(of_user),
            records.get(of_session),
            records.get(of_consent),
        )
        for grant, (of_user, of_session, of_consent) in needed
    ]


def remembered_consents(store: Store, consents: Iterable[Consent]) -> Iterator[Consent]:
    """Yield the consents that count: nothing is forgotten, and their user and client have not ended them since."""
    stored = (consent for consent in consents if not consent.empty)
    while batch := list(islice(stored, MAX_BATCH // 2)):
        users = {consent: store.users.lookup(consent.sub) for consent in batch}
        clients = [each for consent in batch for each in store.lookups_of_client(consent.client_id)]
        records = store.read_all([*users.values(), *clients])
        for consent, of_user in users.items():
            user, client = records.get(of_user), _find_client(store, consent.client_id, records)
            if user and client and not consent.valid_for(user, client).empty:
                yield consent


def _find_client(store: Store, client_id: str, records: Records | None = None) -> Client | None:
    """Return a client, by these records if they are given. A built-in one has no record, so its grants are valid."""
    if client_id in builtin_clients.RESERVED:  # a stage may have the playground, whatever the settings here
        return builtin_clients.find(client_id, replace(store.settings, playground=True), lambda: "", list)
    return store.client_in(records or store.read_all(store.lookups_of_client(client_id)), client_id)


def _require_client(store: Store, client_id: str | None) -> Client | None:
    """Return the registered or built-in client, None for None. Raises CommandError when there is no such client."""
    if client_id is None or client_id in builtin_clients.RESERVED:
        return _find_client(store, client_id) if client_id else None
    return find_client(store, client_id)


def _document(access: _Access, now: int) -> dict[str, Any]:
    """Return a grant with the names of its user and client, without secrets."""
    grant, user, client = access.grant, access.user, access.client
    return present_members(
        {
            "grant_id": grant.grant_id,
            "sub": grant.sub if grant.has_user else None,
            "username": user.username if user else None,
            "client_id": grant.client_id,
            "client_name": client.client_name if client else None,
            "scope": " ".join(sorted(grant.scope)),
            "resource": sorted(grant.resource) or None,
            "authorization_details": [json.loads(text) for text in grant.authorization_details or ()] or None,
            "redirect_uri": grant.redirect_uri or None,
            "device": grant.device,
            "created_at": grant.created_at,
            "redeemed_at": grant.redeemed_at,
            "last_used_at": grant.last_used(now),
            "ends_at": grant.valid_until,
            "revoked_at": grant.revoked_at,
            "ended": access.why_ended(now),
        }
    )
