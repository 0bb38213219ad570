"""How sessions and grants end: each by one write, whatever depends on it.

A grant ends by itself, or because a record that it depends on says so (`protocol.validity`): the session, or a
generation of the user, of the consent or of the client. Nothing is searched for, so nothing can be missed.
"""

from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import OUTBOX, Delivery, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write

DELIVERY_LIFETIME = DAY
_TRIES = 30


# ---- one grant


def revoke_grant(store: Store, grant_id: str, if_: Condition | None = None) -> Write[Grant]:
    """Return the write that revokes a grant. It is refused if the grant has ended, or does not fulfil `if_`."""
    active = attr("revoked_at").not_exists()
    return store.grants.changing((grant_id,), active if if_ is None else active & if_, {"revoked_at": store.now()})


def revoke_reused_grant(server: AuthorizationServer, http: Request, client: Client, grant: Grant) -> None:
    """Revoke a grant whose code or refresh token was used twice (RFC 6749 sections 4.1.2 and 10.4).

    The user's history says so, in the same transaction.
    """
    store = server.store
    store.transact(
        revoke_grant(store, grant.grant_id),
        events.record(store, http, events.REUSE_DETECTED, grant.sub or grant.client_id, client),
    )


# ---- one session


def end_session(store: Store, session: Session, *also: Write[Any]) -> bool:
    """End a session, and so the grants that depend on it, in one transaction with the writes `also`.

    Returns whether this call ended it. The outbox says which clients must be told. Raises TemporarilyUnavailable.
    """
    for _ in range(_TRIES):
        if session.ended_at is not None:
            return False
        # A client that was added in between must be told too.
        unchanged = store.sessions.unchanged(session, "ended_at", "backchannel_clients")
        changes = {"ended_at": store.now()}
        if session.version == 1:
            # Its grants do not say whether the session was stored: the record must outlast them.
            changes["expires_at"] = store.now() + store.settings.refresh_token_absolute_lifetime
        ending = store.sessions.changing((session.session_id,), unchanged, changes)
        outbox = [_outbox(store, session.sub, session_id=session.session_id, clients=session.backchannel_clients)]
        refused = store.transact(ending, *(outbox if session.backchannel_clients else []), *also)
        if refused is None:
            return True
        refusal = refused.of(ending)
        if refusal is None or refusal.record is None:  # it has expired, or one of `also` was refused
            return False
        session = refusal.record
    raise TemporarilyUnavailable(detail="a session: changed by other requests each time")


# ---- all sessions or grants of a user, by a change of the user's record


def without_sessions(user: User) -> User:
    """Return a user whose sessions have ended, with the grants that depend on them."""
    return replace(user, sessions_generation=user.sessions_generation + 1)


def without_grants(user: User) -> User:
    """Return a user whose grants have all ended."""
    return replace(user, grants_generation=user.grants_generation + 1)


def without_consents(user: User) -> User:
    """Return a user whose remembered consents are forgotten."""
    return replace(user, consents_generation=user.consents_generation + 1)


def tell_clients(store: Store, ended: User) -> Write[Delivery]:
    """Return the write that tells clients that the sessions of a user have ended; `ended` is the user's new record.

    Made in one transaction with that record. The sessions are found when the outbox is delivered.
    """
    return _outbox(store, ended.sub, sessions_below=ended.sessions_generation)


def keep_session(store: Store, session: Session, before: User, after: User, **changes: Any) -> Write[Session]:
    """Return the write that keeps one session when the sessions of its user end.

    Made in one transaction with the user's record, from `before` to `after`. It is the only write that changes a
    session's copy of `sessions_generation`, and is refused unless the session was valid. `changes`: of a new sign-in,
    for which there must have been no other.
    """
    valid = replace(session, ended_at=None, sessions_generation=before.sessions_generation)
    names = ("ended_at", "sessions_generation", *(["generation"] if changes else []))
    condition = store.sessions.unchanged(valid, *names)
    changes = {"sessions_generation": after.sessions_generation, **changes}
    return store.sessions.changing((session.session_id,), condition, changes)


def _outbox(store: Store, sub: str, **members: Any) -> Write[Delivery]:
    """Return the write that stores whom to tell (OpenID Connect Back-Channel Logout 1.0 section 2.3)."""
    now = store.now()
    expires_at = now + DELIVERY_LIFETIME
    delivery = Delivery(new_id(), sub, created_at=now, expires_at=expires_at, not_before=now, outbox=OUTBOX, **members)
    return store.deliveries.inserting(delivery)
