"""What a person has given to whom: the applications that have access, the browsers signed in, and how access ends."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib import audit, claims, history
from chalicelib.ending import MOST_STEPS, PASSES, revoking
from chalicelib.messages import Request
from chalicelib.models import Client, Consent, Event, Grant, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.store import Store
from chalicelib.table import Step


@dataclass(frozen=True)
class Application:
    """What a person has given to one client, by all its living grants and the remembered consent together.

    `claims` are those asked for by name that no scope covers. `redirect_uri` is where its answers went last, None when
    it has no grant now; `remembered`: it need not ask again.
    """

    client_id: str
    scope: frozenset[str]
    claims: frozenset[str]
    since: int
    last_used: int
    redirect_uri: str | None
    devices: tuple[str, ...]
    remembered: bool


def applications(store: Store, sub: str) -> list[Application]:
    """The applications that have access, or may take it without asking; those used last first. Two round trips."""
    consents = {consent.client_id: consent for consent in store.consents.find("sub", sub)}
    grants: dict[str, list[Grant]] = {client_id: [] for client_id in consents}
    for grant in store.grants.find("sub", sub, index="sub"):
        if grant.revoked_at is None and grant.redeemed_at is not None and grant.good_until > store.now():
            grants.setdefault(grant.client_id, []).append(grant)
    found = [_application(client_id, each, consents.get(client_id), store.now()) for client_id, each in grants.items()]
    return sorted(found, key=lambda application: (-application.last_used, application.client_id))


def _application(client_id: str, grants: list[Grant], consent: Consent | None, now: int) -> Application:
    scopes = [grant.scope for grant in grants] + ([consent.scope] if consent else [])
    named = [claims.asked(grant.claims, grant.scope) for grant in grants] + ([consent.claims] if consent else [])
    starts = [grant.created_at for grant in grants] + ([consent.updated_at] if consent else [])
    return Application(
        client_id=client_id,
        scope=frozenset[str]().union(*scopes),
        claims=frozenset[str]().union(*named),
        since=min(starts),
        last_used=max([_last_used(grant, now) for grant in grants], default=max(starts)),
        redirect_uri=max(grants, key=lambda grant: grant.created_at).redirect_uri if grants else None,
        devices=tuple(sorted({grant.device for grant in grants if grant.device})),
        remembered=consent is not None,
    )


def _last_used(grant: Grant, now: int) -> int:
    # A rotation whose answer could not be made is dated later than it was.
    return min(now, max([grant.redeemed_at or grant.created_at, *grant.rotated_at.values()]))


def clients(store: Store, found: Iterable[Application]) -> dict[str, Client]:
    """The records of these applications' clients, in one round trip; a client that was removed is not among them."""
    records = store.read(*((store.clients, (application.client_id,)) for application in found))
    return {client.client_id: client for client in records if client}


def browsers(store: Store, user: User) -> list[Session]:
    """The sessions in which a person is signed in."""
    return [
        session
        for session in store.sessions.find("sub", user.sub, index="sub")
        if session.ended_at is None and session.sessions_generation == user.sessions_generation
    ]


def revoke(server: AuthorizationServer, http: Request, sub: str, client_id: str | None = None) -> None:
    """Take away what one application has, or all of them: of each, the remembered consent with the grants, so that none
    comes back silently, and with the event that tells of it. Two passes, because the index lags behind the table.
    """
    store = server.store
    remembered = {consent.client_id for consent in store.consents.find("sub", sub)}
    noted: set[str] = set()
    for _ in range(PASSES):
        having: dict[str, list[Step[Any]]] = {each: [store.consents.deleting((sub, each))] for each in remembered}
        for grant in store.grants.find("sub", sub, index="sub"):
            if grant.revoked_at is None:
                having.setdefault(grant.client_id, []).append(revoking(store, grant.grant_id))
        for each in sorted(having if client_id is None else having.keys() & {client_id}):
            told = each in noted
            event = [] if told else [history.recording(store, http, sub, audit.ACCESS_REVOKED, server.client(each))]
            if _do(store, having[each], event) and not told:
                audit.note(http, audit.ACCESS_REVOKED, sub=sub, client_id=each)
                noted.add(each)
        remembered = set()


def end_reused(server: AuthorizationServer, http: Request, client: Client, grant: Grant) -> None:
    """End a grant whose code or refresh token two parties have had (RFC 6749 sections 4.1.2 and 10.4), and tell its
    person in the same transaction.
    """
    ended = server.store.grants.changing((grant.grant_id,), None, {"revoked_at": server.now()})
    server.store.transact(ended, history.recording(server.store, http, grant.sub, audit.REUSE_DETECTED, client))
    audit.note(http, audit.REUSE_DETECTED, sub=grant.sub)


def _do(store: Store, steps: list[Step[Any]], event: list[Step[Event]]) -> bool:
    """Make all these steps but those that are refused, the first of them with the event: whether there was any."""
    done = False
    while steps:
        some, rest = steps[: MOST_STEPS - len(event)], steps[MOST_STEPS - len(event) :]
        refused = store.transact(*event, *some)
        if refused is None:
            done, event, steps = True, [], rest
        else:  # somebody else was quicker
            steps = [step for step, no in zip(some, refused[len(event) :], strict=True) if no is None] + rest
    return done
