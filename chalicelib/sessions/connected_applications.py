"""A user's connected applications and signed-in browsers, and the removal of access."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.protocol import claims
from chalicelib.protocol.records import Client, Consent, Event, Grant, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.revocation import MAX_WRITES, PASSES, revoke_grant
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write


@dataclass(frozen=True)
class ConnectedApplication:
    """What a user has granted to one client, by all its active grants and the remembered consent together.

    `claims` are those requested by name that no scope covers. `redirect_uri` is that of the newest grant, None without
    a grant. `remembered`: the user is not asked for consent again.
    """

    client_id: str
    scope: frozenset[str]
    claims: frozenset[str]
    since: int
    last_used: int
    redirect_uri: str | None
    devices: tuple[str, ...]
    remembered: bool


def connected_applications(store: Store, sub: str) -> list[ConnectedApplication]:
    """Return the applications that have access or may get it without asking, last used first. Two round trips."""
    consents = {consent.client_id: consent for consent in store.consents.find("sub", sub)}
    grants: dict[str, list[Grant]] = {client_id: [] for client_id in consents}
    for grant in store.grants.find("sub", sub, index="sub"):
        if grant.revoked_at is None and grant.redeemed_at is not None and grant.valid_until > store.now():
            grants.setdefault(grant.client_id, []).append(grant)
    applications = [
        _connected_application(client_id, of_client, consents.get(client_id), store.now())
        for client_id, of_client in grants.items()
    ]
    return sorted(applications, key=lambda application: (-application.last_used, application.client_id))


def _connected_application(
    client_id: str, grants: list[Grant], consent: Consent | None, now: int
) -> ConnectedApplication:
    scopes = [grant.scope for grant in grants] + ([consent.scope] if consent else [])
    claim_names = [claims.requested_outside_scope(grant.claims, grant.scope) for grant in grants]
    claim_names += [consent.claims] if consent else []
    starts = [grant.created_at for grant in grants] + ([consent.updated_at] if consent else [])
    return ConnectedApplication(
        client_id=client_id,
        scope=frozenset[str]().union(*scopes),
        claims=frozenset[str]().union(*claim_names),
        since=min(starts),
        last_used=max([_last_used(grant, now) for grant in grants], default=max(starts)),
        redirect_uri=max(grants, key=lambda grant: grant.created_at).redirect_uri if grants else None,
        devices=tuple(sorted({grant.device for grant in grants if grant.device})),
        remembered=consent is not None,
    )


def _last_used(grant: Grant, now: int) -> int:
    # A rotation whose token could not be signed has a time in the future.
    return min(now, max([grant.redeemed_at or grant.created_at, *grant.rotated_at.values()]))


def clients_of(store: Store, applications: Iterable[ConnectedApplication]) -> dict[str, Client]:
    """Return the clients of these applications by their ids, in one round trip. Deleted clients are missing."""
    records = store.read(*(store.clients.lookup(application.client_id) for application in applications))
    return {client.client_id: client for client in records if client}


def signed_in_browsers(store: Store, user: User) -> list[Session]:
    """Return the sessions in which a user is signed in."""
    return [
        session
        for session in store.sessions.find("sub", user.sub, index="sub")
        if session.ended_at is None and session.sessions_generation == user.sessions_generation
    ]


def remove_access(server: AuthorizationServer, http: Request, sub: str, client_id: str | None = None) -> None:
    """Remove the access of one application, or of all.

    Deletes the consent, revokes the grants and records the event in one transaction per application. Two passes,
    because the index lags behind the table.
    """
    store = server.store
    remembered = {consent.client_id for consent in store.consents.find("sub", sub)}
    recorded: set[str] = set()
    for _ in range(PASSES):
        writes: dict[str, list[Write[Any]]] = {each: [store.consents.deleting((sub, each))] for each in remembered}
        for grant in store.grants.find("sub", sub, index="sub"):
            if grant.revoked_at is None:
                writes.setdefault(grant.client_id, []).append(revoke_grant(store, grant.grant_id))
        for each in sorted(writes if client_id is None else writes.keys() & {client_id}):
            event = []
            if each not in recorded:
                event = [events.record(store, http, events.ACCESS_REVOKED, sub, server.client(each), each)]
            if _write_all(store, writes[each], event):
                recorded.add(each)
        remembered = set()


def _write_all(store: Store, writes: list[Write[Any]], event: list[Write[Event]]) -> bool:
    """Make these writes except those that are refused, the first ones with the event. Return whether any was made."""
    any_made = False
    while writes:
        batch, rest = writes[: MAX_WRITES - len(event)], writes[MAX_WRITES - len(event) :]
        refused = store.transact(*event, *batch)
        if refused is None:
            any_made, event, writes = True, [], rest
        else:  # another request was faster
            writes = [write for write in batch if refused.of(write) is None] + rest
    return any_made
