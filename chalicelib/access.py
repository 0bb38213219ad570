"""What a person has given to whom: the applications that have access, the browsers signed in, and how access ends."""

from collections.abc import Iterable
from dataclasses import dataclass

from chalicelib import accounts, audit, claims, history
from chalicelib.messages import Request
from chalicelib.models import Client, Consent, Grant, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.store import Store


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
    offline: bool


def applications(store: Store, sub: str) -> list[Application]:
    """The applications that have access, or may take it without asking; those used last first. Two round trips."""
    consents = {consent.client_id: consent for consent in store.consents.find("sub", sub)}
    grants: dict[str, list[Grant]] = {client_id: [] for client_id in consents}
    for grant in store.grants.find("sub", sub, index="sub"):
        if grant.revoked_at is None and grant.redeemed_at is not None:
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
        offline=any("offline_access" in grant.scope for grant in grants),
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
    """Take away what one application has, or all of them: the remembered consent first, so that none comes back
    silently, then every grant. Two passes, because the index lags behind the table.
    """
    store = server.store
    ended = set()
    for consent in list(store.consents.find("sub", sub)):
        if client_id in (None, consent.client_id):
            store.consents.delete(sub, consent.client_id)
            ended.add(consent.client_id)
    for _ in range(2):
        found = list(store.grants.find("sub", sub, index="sub"))
        theirs = (grant for grant in found if client_id in (None, grant.client_id))
        ended |= {grant.client_id for grant in accounts.revoke(store, theirs)}
    for each in sorted(ended):
        store.transact(history.recording(store, http, sub, audit.ACCESS_REVOKED, server.client(each)))
        audit.note(http, audit.ACCESS_REVOKED, sub=sub, client_id=each)
