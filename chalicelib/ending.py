"""How sessions and grants end, whoever ends them.

A session ends in one transaction with its grants and with the outbox, which says who has to hear of it. What is found
by an index is ended in PASSES passes, because an index lags behind its table.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chalicelib.dynamodb import attr
from chalicelib.errors import TemporarilyUnavailable
from chalicelib.handles import new_id
from chalicelib.models import Delivery, Grant, Session
from chalicelib.store import Store
from chalicelib.table import Refused, Step

MOST_STEPS = 100  # that DynamoDB takes in one transaction
DELIVERY_LIFETIME = 24 * 60 * 60
PASSES = 2
_TRIES = 50  # more than the most grants of a session take


def end_session(store: Store, session: Session, *also: Step[Any], offline_access: bool = False) -> bool:
    """End a session and the grants born in it, in one transaction with the steps `also`: whether it was this that did.

    Grants with `offline_access` go on, unless that is said. Those that are too many for one transaction follow in
    others; if that is cut off, or has been, the same again does the rest. Raises TemporarilyUnavailable.
    """
    settled: set[str] = set()  # grants that have ended, or go on
    ended_here = False
    for _ in range(_TRIES):
        if session.ended_at is not None and session.grants <= settled:
            return ended_here
        ending: list[Step[Any]] = []
        if session.ended_at is None:
            ending = [_ending(store, session), *_outbox(store, session), *also]
        some = sorted(session.grants - settled)[: MOST_STEPS - len(ending)]
        theirs = [revoking(store, grant_id, offline_access=offline_access) for grant_id in some]
        refused = store.transact(*ending, *theirs)
        if refused is None:
            settled.update(some)
            ended_here |= bool(ending)
            session = replace(session, ended_at=session.ended_at or store.now())
        elif ending and refused[0]:  # it has ended, or a grant was born in it, in this moment
            session = refused[0].record or replace(session, ended_at=store.now())
        else:
            settled.update(grant_id for grant_id, no in zip(some, refused[len(ending) :], strict=True) if no)
    raise TemporarilyUnavailable(detail="a session is changed by others each time")


def end_all(store: Store, sub: str, keep: str | None = None, *, offline_access: bool = False) -> None:
    """End every session of a person that the index knows, but for the one whose id is `keep`, and every grant; those
    with `offline_access` too if that is said. One pass. Raises TemporarilyUnavailable.
    """
    for session in store.sessions.find("sub", sub, index="sub"):
        if session.ended_at is None and session.session_id != keep:
            end_session(store, session, offline_access=offline_access)
    grants = store.grants.find("sub", sub, index="sub")
    end_grants(store, (grant for grant in grants if offline_access or "offline_access" not in grant.scope))


def revoking(store: Store, grant_id: str, *, offline_access: bool = True) -> Step[Grant]:
    """The step that ends a grant which has not ended; without `offline_access`, none that has that scope."""
    living = attr("revoked_at").not_exists()
    bound = living if offline_access else living & ~attr("scope").contains("offline_access")
    return store.grants.changing((grant_id,), bound, {"revoked_at": store.now()})


def end_grants(store: Store, grants: Iterable[Grant]) -> list[Grant]:
    """End grants, one conditional write each; those that had not ended before, as they are now."""
    living = attr("revoked_at").not_exists()
    found = (
        store.grants.transition((grant.grant_id,), living, {"revoked_at": store.now()})
        for grant in grants
        if grant.revoked_at is None
    )
    return [ended for ended in found if not isinstance(ended, Refused)]


def _ending(store: Store, session: Session) -> Step[Session]:
    """The step that ends a session as it was read: with these grants, for they only become more."""
    same = attr("grants").size().eq(len(session.grants)) if session.grants else attr("grants").not_exists()
    key = (session.session_id,)
    return store.sessions.changing(key, attr("ended_at").not_exists() & same, {"ended_at": store.now()})


def _outbox(store: Store, session: Session) -> list[Step[Delivery]]:
    """What writes down that clients have to hear of it (OpenID Connect Back-Channel Logout 1.0 section 2.3)."""
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
