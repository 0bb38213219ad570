"""Whether a grant is still valid: reads the records that it depends on."""

from dataclasses import field, replace

from chalicelib.protocol.authorization_details import types_in
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClient, InvalidGrant
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.records import NO_SCOPE, Consent, Session, User
from chalicelib.protocol.validity import NO_CLIENT, why_ended
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.revocation import revoke_grant
from chalicelib.storage.store import Records, Store
from chalicelib.storage.table import Lookup
from chalicelib.tokens import authorization_details
from chalicelib.tokens.authorization_details import Types

_TRIES = 5


@dataclass(frozen=True)
class GrantState:
    """The user and the session of a grant, and why it has `ended`; None when it is valid.

    `scopes`: the operator's own scopes among those of the grant, whose claims are released. `types`: those of its
    authorization details that are registered, by name.
    """

    user: User | None
    session: Session | None
    ended: str | None
    scopes: tuple[Scope, ...] = ()
    types: Types = field(default_factory=dict)


def read_state(server: AuthorizationServer, client: Client, grant: Grant) -> GrantState:
    """Return the state of a grant, by one consistent read; none for a grant without a user.

    A grant is not refused because of a cached client, nor by records that do not belong together. Raises
    TemporarilyUnavailable.
    """
    # The scopes are read in the same call. They decide what is released, not whether the grant has ended.
    cached, of_scopes = server.cached_scopes(grant.scope if grant.has_user else NO_SCOPE)
    cached_types, of_types = authorization_details.cached_types(server, types_in(grant.authorization_details))
    batch = server.store.read_all((*lookups(server.store, grant), *of_scopes, *of_types))
    scopes = tuple((cached | server.cache_scopes(of_scopes, batch)).values())
    types = {**cached_types, **authorization_details.cache_types(server, of_types, batch)}
    records = _records_in(batch, server, grant)
    for _ in range(_TRIES):
        if (state := _state(grant, client, records)).ended is None:
            return replace(state, scopes=scopes, types=types)
        before = records
        records = _read(server, grant) if _may_be_torn(grant, *records) else records
        if records == before:
            break
    return replace(_state(grant, server.read_client(client.client_id), records), scopes=scopes, types=types)


def require_valid(server: AuthorizationServer, client: Client, grant: Grant) -> GrantState:
    """Return the state of a valid grant. One that has ended is revoked.

    Raises InvalidGrant when it has ended, InvalidClient when the client has been disabled in between,
    TemporarilyUnavailable when that cannot be read.
    """
    state = read_state(server, client, grant)
    if state.ended == NO_CLIENT:
        raise InvalidClient("The client is disabled.")
    if state.ended is not None:
        server.store.grants.write(revoke_grant(server.store, grant.grant_id))
        raise InvalidGrant("The code or refresh token is no longer valid: access has ended.", detail=state.ended)
    return state


_Records = tuple[User | None, Session | None, Consent | None]


def lookups(store: Store, grant: Grant) -> tuple[Lookup[User], Lookup[Session], Lookup[Consent]]:
    """Return the records that a grant depends on, with impossible keys for those that it does not depend on."""
    sub = (grant.sub if grant.has_user else None) or ""
    session_id = grant.session_id if grant.depends_on_session else ""
    return store.users.lookup(sub), store.sessions.lookup(session_id), store.consents.lookup(sub, grant.client_id)


def _read(server: AuthorizationServer, grant: Grant) -> _Records:
    return _records_in(server.store.read_all(lookups(server.store, grant)), server, grant)


def _records_in(records: Records, server: AuthorizationServer, grant: Grant) -> _Records:
    of_user, of_session, of_consent = lookups(server.store, grant)
    return records.get(of_user), records.get(of_session), records.get(of_consent)


def _state(grant: Grant, client: Client | None, records: _Records) -> GrantState:
    user, session, consent = records
    return GrantState(user, session, why_ended(grant, client, user, session, consent))


def _may_be_torn(grant: Grant, user: User | None, session: Session | None, consent: Consent | None) -> bool:
    """Return whether records may be from before and after a transaction, because a batch is no snapshot.

    A copy is newer than the number that it was made from, or a session that was kept has another one than its user.
    """
    if user is None:
        return False
    newer = grant.user_generation > user.grants_generation
    newer = newer or grant.consent_generation > (consent.generation if consent else 0)
    return newer or (session is not None and session.sessions_generation != user.sessions_generation)
