"""How sessions and grants end.

A session ends in one transaction with its grants and with the outbox that says which clients must be told. What is
found by an index is ended in PASSES passes, because an index lags behind its table.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Client, Delivery, Grant, Session
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused, Write

MAX_WRITES = 100  # in one transaction of DynamoDB
DELIVERY_LIFETIME = DAY
PASSES = 2
_TRIES = 50  # more than the most grants of a session need


def revoke_grant(store: Store, grant_id: str, if_: Condition = None) -> Write[Grant]:
    """Return the write that revokes a grant. It is refused if the grant has ended, or does not fulfil `if_`."""
    active = attr("revoked_at").not_exists()
    return store.grants.changing((grant_id,), active if if_ is None else active & if_, {"revoked_at": store.now()})


def revoke_grants(store: Store, grants: Iterable[Grant]) -> list[Grant]:
    """Revoke grants, one conditional write each; return those that this call has ended, as they are now."""
    outcomes = [store.grants.write(revoke_grant(store, grant.grant_id)) for grant in grants if grant.revoked_at is None]
    return [revoked for revoked in outcomes if not isinstance(revoked, Refused)]


def revoke_reused_grant(server: AuthorizationServer, http: Request, client: Client, grant: Grant) -> None:
    """Revoke a grant whose code or refresh token was used twice (RFC 6749 sections 4.1.2 and 10.4).

    The user's history says so, in the same transaction.
    """
    store = server.store
    store.transact(
        revoke_grant(store, grant.grant_id), events.record(store, http, events.REUSE_DETECTED, grant.sub, client)
    )


def end_session(store: Store, session: Session, *also: Write[Any], offline_access: bool = False) -> bool:
    """End a session with the grants created in it, in one transaction with the writes `also`.

    Returns whether this call ended it. Grants with `offline_access` go on, unless the argument says otherwise. Grants
    that do not fit into one transaction follow in others; after an interruption, another call does the rest. Raises
    TemporarilyUnavailable.
    """
    settled: set[str] = set()  # grants that have ended, or that go on
    ended_here = False
    for _ in range(_TRIES):
        if session.ended_at is not None and session.grants <= settled:
            return ended_here
        ending: list[Write[Any]] = []
        if session.ended_at is None:
            ending = [_end(store, session), *_outbox(store, session), *also]
        batch = sorted(session.grants - settled)[: MAX_WRITES - len(ending)]
        revocations = {grant_id: _revoke_with_session(store, grant_id, offline_access) for grant_id in batch}
        refused = store.transact(*ending, *revocations.values())
        if refused is None:
            settled.update(batch)
            ended_here |= bool(ending)
            session = replace(session, ended_at=session.ended_at or store.now())
        elif ending and (changed := refused.of(ending[0])):  # it ended, or a grant was created in it, in this moment
            session = changed.record or replace(session, ended_at=store.now())
        else:
            settled.update(grant_id for grant_id, write in revocations.items() if refused.of(write))
    raise TemporarilyUnavailable(detail="a session: changed by other requests each time")


def end_all(store: Store, sub: str, keep: str | None = None, *, offline_access: bool = False) -> None:
    """End the sessions of a user that the index shows, except the one whose id is `keep`, and revoke their grants.

    Grants with `offline_access` are revoked only if the argument is true. One pass. Raises TemporarilyUnavailable.
    """
    for session in store.sessions.find("sub", sub, index="sub"):
        if session.ended_at is None and session.session_id != keep:
            end_session(store, session, offline_access=offline_access)
    grants = store.grants.find("sub", sub, index="sub")
    revoke_grants(store, (grant for grant in grants if offline_access or "offline_access" not in grant.scope))


def _revoke_with_session(store: Store, grant_id: str, offline_access: bool) -> Write[Grant]:
    """Return the write that revokes a grant when its session ends."""
    return revoke_grant(store, grant_id, None if offline_access else ~attr("scope").contains("offline_access"))


def _end(store: Store, session: Session) -> Write[Session]:
    """Return the write that ends a session as it was read, with these grants: grants are only ever added to it."""
    same = attr("grants").size().eq(len(session.grants)) if session.grants else attr("grants").not_exists()
    key = (session.session_id,)
    return store.sessions.changing(key, attr("ended_at").not_exists() & same, {"ended_at": store.now()})


def _outbox(store: Store, session: Session) -> list[Write[Delivery]]:
    """Return the write that stores which clients must be told (OpenID Connect Back-Channel Logout 1.0 section 2.3)."""
    if not session.backchannel_clients:
        return []
    now = store.now()
    delivery = Delivery(
        delivery_id=new_id(),
        sub=session.sub,
        session_id=session.session_id,
        clients=session.backchannel_clients,
        created_at=now,
        expires_at=now + DELIVERY_LIFETIME,
        not_before=now,
    )
    return [store.deliveries.inserting(delivery)]
