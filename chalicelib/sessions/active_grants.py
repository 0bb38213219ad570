"""The active grants of a user, found by the index of the grants, whatever number of ended ones it still shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib import builtin_clients
from chalicelib.protocol.client import Client
from chalicelib.protocol.grant import Grant, GrantEntry
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import Consent, Session, User
from chalicelib.protocol.validity import why_ended, why_entry_ended
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import MAX_BATCH, Store
from chalicelib.storage.table import Lookup

INDEX = "user"
ROUNDS = 3


@dataclass
class UserGrants:
    """What is known about the grants of a user, each by the client_id.

    `consents`: all consents, empty ones too. `clients`: the clients that exist. `active`: grants that were read and are
    active. `unread`: entries of the index that may be active, newest first.
    """

    consents: dict[str, Consent]
    unread: dict[str, list[GrantEntry]]
    clients: dict[str, Client] = field(default_factory=dict)
    active: dict[str, list[Grant]] = field(default_factory=dict)


def find_grants(server: AuthorizationServer, signed_in: SignedInUser) -> UserGrants:
    """Return the grants of a user, read newest first until each client is known to have an active one.

    Few are left unread unless there are more than a batch has room for.
    """
    user = signed_in.user
    consents = {consent.client_id: consent for consent in server.store.consents.find("sub", user.sub)}
    grants = UserGrants(consents, _entries(server, user, consents))
    client_ids = grants.unread.keys() | {client_id for client_id, consent in consents.items() if not consent.empty}
    grants.clients |= {name: client for name in builtin_clients.RESERVED if (client := server.client(name))}
    of_clients = sorted(client_ids)
    for number in range(ROUNDS):
        unresolved = {name: rest for name, rest in grants.unread.items() if rest and name not in grants.active}
        if number == 1 and unresolved:
            _drop_ended_sessions(server.store, signed_in, grants, unresolved)
        if any(unresolved.values()) or of_clients:
            _read(server.store, user, grants, unresolved, of_clients)
        of_clients = []
    return grants


def _entries(server: AuthorizationServer, user: User, consents: Mapping[str, Consent]) -> dict[str, list[GrantEntry]]:
    """Return the entries of the index that can be active, newest first, by their clients."""
    entries: dict[str, list[GrantEntry]] = {}
    read = server.store.grant_entries.find("sub", user.sub, index=INDEX)
    for entry in sorted(read, key=lambda entry: -entry.created_at):
        expired = entry.created_at < entry.ends_at <= server.now()
        if not expired and not why_entry_ended(entry, user, consents.get(entry.client_id)):
            entries.setdefault(entry.client_id, []).append(entry)
    return entries


def _read(
    store: Store,
    user: User,
    grants: UserGrants,
    unresolved: dict[str, list[GrantEntry]],
    of_clients: list[str],
) -> None:
    """Read clients, and the newest entries of the unresolved clients, in one batch if there is room for one of each."""
    lookups: list[Lookup[Any]] = [each for client_id in of_clients for each in store.lookups_of_client(client_id)]
    entries = _take_newest(unresolved, max(MAX_BATCH - len(lookups), 2 * len(unresolved)))
    for entry in entries:
        lookups.append(store.grants.lookup(entry.grant_id))
        if entry.depends_on_session:
            lookups.append(store.sessions.lookup(entry.session_id))
    records = store.read_all(lookups)
    grants.clients |= {name: client for name in of_clients if (client := store.client_in(records, name))}
    for entry in entries:
        client_id, grant = entry.client_id, records.get(store.grants.lookup(entry.grant_id))
        session = records.get(store.sessions.lookup(entry.session_id))
        if grant is None or not is_active(grant, store.now()):
            continue
        if not why_ended(grant, grants.clients.get(client_id), user, session, grants.consents.get(client_id)):
            grants.active.setdefault(client_id, []).append(grant)


def _take_newest(entries: dict[str, list[GrantEntry]], keys: int) -> list[GrantEntry]:
    """Remove and return entries that take at most so many keys to read: the newest of each client, then the next."""
    taken: list[GrantEntry] = []
    while any(entries.values()):
        for of_client in filter(None, entries.values()):
            if 2 * len(taken) + 2 > keys:
                return taken
            taken.append(of_client.pop(0))
    return taken


def _drop_ended_sessions(
    store: Store, signed_in: SignedInUser, grants: UserGrants, entries: dict[str, list[GrantEntry]]
) -> None:
    """Remove the entries that depend on a session that has ended."""
    sessions = {session.session_id for session in valid_sessions(store, signed_in)}
    for client_id, of_client in entries.items():
        client = grants.clients.get(client_id)
        if client and not client.direct_sign_in:  # a session of HTTP Basic is not stored
            of_client[:] = [
                entry for entry in of_client if not entry.depends_on_session or entry.session_id in sessions
            ]


def is_active(grant: Grant, now: int) -> bool:
    """Return whether a grant has tokens, by its own record: it was redeemed, is not revoked and has not expired."""
    return grant.revoked_at is None and grant.redeemed_at is not None and grant.valid_until > now


def valid_sessions(store: Store, signed_in: SignedInUser) -> list[Session]:
    """Return this session and the user's others that have not ended. The index may not show this one as it is."""
    this, user = signed_in.session, signed_in.user
    valid = [session for session in store.sessions.find("sub", user.sub, index="sub") if session.is_valid_for(user)]
    return [this, *(session for session in valid if session.session_id != this.session_id)]
