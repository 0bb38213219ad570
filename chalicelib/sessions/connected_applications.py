"""A user's connected applications, and how the user ends access and other sessions."""

from typing import Any

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.protocol import claims
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.grant import GrantEntry
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import Consent, User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.active_grants import UserGrants, find_grants
from chalicelib.sessions.revocation import (
    keep_session,
    tell_clients,
    without_consents,
    without_grants,
    without_sessions,
)
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused, Write

MAX_DIGITS = 20  # of a generation; DynamoDB stores 38


@dataclass(frozen=True)
class ConnectedApplication:
    """What a user has granted to one client, by all its active grants and the remembered consent together.

    `details`: the authorization details of its grants, in their stored form.
    `claims` are those requested by name that no scope covers. `redirect_uri` is that of the newest grant, None without
    a grant. `ends_with_session`: access ends when the user signs out; `ends_at`: when it ends at the latest, None
    without a grant. `remembered`: the user is not asked for consent again. `generation`: the consent's.
    """

    client: Client
    scope: frozenset[str]
    claims: frozenset[str]
    since: int
    last_used: int
    redirect_uri: str | None
    devices: tuple[str, ...]
    ends_with_session: bool
    ends_at: int | None
    remembered: bool
    generation: int
    details: tuple[str, ...] = ()


def connected_applications(server: AuthorizationServer, signed_in: SignedInUser) -> list[ConnectedApplication]:
    """Return the applications that have access or may get it without asking, last used first.

    One with so many ended grants that none is known to be active is listed too, if one may be. With very many grants,
    `last_used` and `devices` are those of the newest.
    """
    grants = find_grants(server, signed_in)
    applications = [
        _connected_application(server, signed_in.user, client, grants) for client in grants.clients.values()
    ]
    listed = [application for application in applications if application]
    return sorted(listed, key=lambda application: (-application.last_used, application.client.client_id))


def _connected_application(
    server: AuthorizationServer, user: User, client: Client, of_user: UserGrants
) -> ConnectedApplication | None:
    consent = of_user.consents.get(client.client_id) or Consent(user.sub, client.client_id)
    remembered = consent.valid_for(user, client)
    grants = of_user.active.get(client.client_id, [])
    entries: list[GrantEntry] = [*grants, *of_user.unread.get(client.client_id, [])]
    starts = [entry.created_at for entry in entries] + ([] if remembered.empty else [consent.updated_at])
    if not starts:
        return None
    claim_names = [claims.requested_outside_scope(grant.claims, grant.scope) for grant in grants]
    now = server.now()
    return ConnectedApplication(
        client=client,
        scope=remembered.all_scopes.union(*(entry.scope for entry in entries)),
        claims=remembered.claims.union(*claim_names),
        since=min(starts),
        last_used=max([grant.last_used(now) or min(now, grant.created_at) for grant in grants], default=max(starts)),
        redirect_uri=max(grants, key=lambda grant: grant.created_at).redirect_uri if grants else None,
        devices=tuple(sorted({grant.device for grant in grants if grant.device})),
        ends_with_session=all(entry.ends_at_sign_out for entry in entries),
        ends_at=max((entry.last_end for entry in entries), default=None),
        remembered=not remembered.empty,
        generation=consent.generation,
        details=tuple(dict.fromkeys(text for grant in grants for text in grant.authorization_details or ())),
    )


# ---- endings by the user. `seen`: what the page has shown, so that the same form sent twice ends once. They return
# False, and end nothing, when that has changed in between.


def remove_access(
    server: AuthorizationServer, http: Request, sub: str, client_id: str, seen: str | None = None
) -> bool:
    """Remove the access of one application: one write on the consent ends its grants. The history says so."""
    client = server.client(client_id) or server.store.clients.get(client_id)
    if client is None:  # its grants have ended
        return True
    event = events.record(server.store, http, events.ACCESS_REVOKED, sub, client)
    is_number = seen is not None and seen.isascii() and seen.isdigit() and len(seen) <= MAX_DIGITS
    generation = None if seen is None else int(seen) if is_number else -1
    return server.store.transact(forget_consent(server.store, sub, client_id, generation), event) is None


def forget_consent(store: Store, sub: str, client_id: str, generation: int | None = None) -> Write[Consent]:
    """Return the write that empties a consent and ends the grants that hold its generation.

    It is refused if the consent has another generation than the argument.
    """
    expected = Consent(sub, client_id, generation=generation or 0)
    if_ = None if generation is None else store.consents.unchanged(expected, "generation")
    now = {"updated_at": store.now()}
    return store.consents.changing(
        (sub, client_id), if_, now, add={"generation": 1}, remove=("scope", "claims", "resource_scope"), create=True
    )


def remove_all_access(server: AuthorizationServer, http: Request, user: User, seen: str | None = None) -> bool:
    """Remove the access of all applications: one write on the user. The history says so."""
    changed = False

    def change(current: User) -> User:
        nonlocal changed
        changed = seen not in (None, access_seen(current))
        return current if changed else without_consents(without_grants(current))

    def record(_before: User, _after: User) -> list[Write[Any]]:
        return [events.record(server.store, http, events.ACCESS_REVOKED, user.sub, detail="all applications")]

    server.store.amend(server.store.users, user, change, record)
    return not changed


def access_seen(user: User) -> str:
    """Return what a page shows of a user's generations that removing all access changes."""
    return f"{user.grants_generation}.{user.consents_generation}"


def sign_out_others(
    server: AuthorizationServer, http: Request, signed_in: SignedInUser, seen: str | None = None
) -> bool:
    """End all sessions of a user except this one: one write on the user. The history says so.

    Raises AccessDenied when this session was changed in between, so that nothing has ended.
    """
    store, changed = server.store, False

    def change(current: User) -> User:
        nonlocal changed
        changed = seen not in (None, str(current.sessions_generation))
        return current if changed else without_sessions(current)

    def also(before: User, after: User) -> list[Write[Any]]:
        return [
            keep_session(store, signed_in.session, before, after),
            tell_clients(store, after),
            events.record(store, http, events.SIGNED_OUT, after.sub, detail="all other browsers"),
        ]

    if isinstance(store.amend(store.users, signed_in.user, change, also), Refused):
        raise AccessDenied("This session has been changed by another request.")
    return not changed
