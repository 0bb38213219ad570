"""Who is signed in: the session of a browser, started by a sign-in, ended by a sign-out or a changed password.

Two cookies: the session's handle, and the browser's, which survives sign-in and binds a stored request to the browser
that it was shown to.
"""

from dataclasses import dataclass, replace
from typing import Any

from chalicelib import events
from chalicelib.events import history
from chalicelib.http.messages import Request, cookie
from chalicelib.protocol.durations import YEAR
from chalicelib.protocol.errors import AccessDenied, RequestEnded
from chalicelib.protocol.handles import Handle, new_id
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import AuthorizationRequest, Consent, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.revocation import end_session
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Records
from chalicelib.storage.table import Lookup, Write

# With more grants than this the user signs in again: the list makes the record slow and expensive.
MAX_GRANTS = 1000


def cookie_name(server: AuthorizationServer, what: str) -> str:
    """Return the name of one of our cookies: with the `__Host-` prefix where the issuer is https."""
    return f"{'__Host-' if server.settings.secure else ''}signet-{what}"


def session_cookie(server: AuthorizationServer, session: Session) -> dict[str, str]:
    """Return the Set-Cookie header for a session; it lasts until the browser closes."""
    handle = server.keys.make_handle("sid", session.session_id, session.generation)
    return cookie(cookie_name(server, "session"), handle, secure=server.settings.secure)


def identify_browser(server: AuthorizationServer, http: Request) -> tuple[str, dict[str, str]]:
    """Return the id of the browser, and the Set-Cookie header that gives it one if it has none yet."""
    browser_id = browser_id_of(server, http)
    if browser_id:
        return browser_id, {}
    created = new_id()
    handle = server.keys.make_handle("br", created)
    return created, cookie(cookie_name(server, "browser"), handle, secure=server.settings.secure, max_age=YEAR)


def browser_id_of(server: AuthorizationServer, http: Request) -> str | None:
    """Return the id of the browser, or None if it has none yet."""
    handle = server.keys.read_handle("br", http.cookie(cookie_name(server, "browser")))
    return handle.id if handle else None


def session_handle(server: AuthorizationServer, http: Request) -> Handle | None:
    """Return the handle of the session cookie, or None if the browser has sent none of this server."""
    return server.keys.read_handle("sid", http.cookie(cookie_name(server, "session")))


@dataclass(frozen=True)
class BrowserState:
    """What one read says about a browser: who is signed in, and the records that were asked for with it.

    `consent` is what the user allowed the client, `request` the stored authorization request; `records` are the others.
    """

    signed_in: SignedInUser | None
    consent: Consent | None
    request: AuthorizationRequest | None
    records: Records


def read_browser(
    server: AuthorizationServer,
    http: Request,
    *lookups: Lookup[Any],
    client_id: str | None = None,
    request_id: str | None = None,
) -> BrowserState:
    """Return who is signed in in this browser, with the records of `lookups`, in one call."""
    store, handle = server.store, session_handle(server, http)
    session_id = handle.id if handle else ""
    sub = session_id.rpartition(".")[0]
    of_session, of_user = store.sessions.lookup(session_id), store.users.lookup(sub)
    of_consent, of_request = store.consents.lookup(sub, client_id or ""), store.requests.lookup(request_id or "")
    records = store.read_all((of_session, of_user, of_consent, of_request, *lookups))
    session, user, request = records.get(of_session), records.get(of_user), records.get(of_request)
    if handle is None or session is None or user is None or not _is_current(session, user, handle.generation):
        return BrowserState(None, None, request, records)
    return BrowserState(SignedInUser(user, session), records.get(of_consent), request, records)


def read_session(server: AuthorizationServer, http: Request) -> tuple[Session | None, User | None]:
    """Return the session of this browser, ended or not, and its user, in one read: for signing out."""
    handle = session_handle(server, http)
    if handle is None:
        return None, None
    sub = handle.id.rpartition(".")[0]
    session, user = server.store.read(server.store.sessions.lookup(handle.id), server.store.users.lookup(sub))
    return (session, user) if session and session.generation == handle.generation else (None, None)


def _is_current(session: Session, user: User, generation: int) -> bool:
    return (
        session.ended_at is None
        and session.generation == generation
        and session.sessions_generation == user.sessions_generation
        and user.disabled_at is None
        and len(session.grants) < MAX_GRANTS
    )


def require_active_user(server: AuthorizationServer, user: User) -> Write[User]:
    """Return the check that refuses a transaction once the user is disabled or their sessions have been ended."""
    condition = attr("disabled_at").not_exists() & attr("sessions_generation").eq(user.sessions_generation)
    return server.store.users.checking((user.sub,), condition)


def start_session(
    server: AuthorizationServer,
    http: Request,
    user: User,
    request_id: str,
    previous: SignedInUser | None = None,
    also: tuple[Write[Any], ...] = (),
) -> SignedInUser:
    """Sign a user in for a request, in one transaction with the writes `also`.

    A session of the same user continues under a new cookie, which makes the old one invalid; a session of another user
    ends. Raises AccessDenied when the user has been disabled, RequestEnded when one of `also` is refused.
    """
    store, now = server.store, server.now()
    active = require_active_user(server, user)
    if previous and previous.user.sub == user.sub:
        session = previous.session
        changes: dict[str, Any] = {
            "auth_time": now,
            "generation": session.generation + 1,
            "request_id": request_id,
            "expires_at": now + server.settings.session_idle_lifetime,
            "sessions_generation": user.sessions_generation,
        }
        condition = attr("ended_at").not_exists() & attr("generation").eq(session.generation)
        continuing = store.sessions.changing((session.session_id,), condition, changes)
        if not store.transact(continuing, active, *also):
            return SignedInUser(user, replace(session, **changes))
    elif previous:
        sign_out(server, http, previous.session)
    session = replace(unstored_session(server, http, user, request_id).session, generation=1)
    refused = store.transact(store.sessions.inserting(session), active, *also)
    if refused and refused.of(active):
        raise AccessDenied("This account cannot sign in now.")
    if refused:
        raise RequestEnded("This sign-in has been used already.", code="request_answered")
    return SignedInUser(user, session)


def unstored_session(server: AuthorizationServer, http: Request, user: User, request_id: str) -> SignedInUser:
    """Return a user in a session that is not stored, for an answer without a cookie."""
    now = server.now()
    session = Session(
        session_id=f"{user.sub}.{new_id()}",
        sub=user.sub,
        auth_time=now,
        created_at=now,
        expires_at=now + server.settings.session_idle_lifetime,
        generation=0,
        request_id=request_id,
        sessions_generation=user.sessions_generation,
        device=history.device(http),
    )
    return SignedInUser(user, session)


def sign_out(server: AuthorizationServer, http: Request, session: Session) -> None:
    """End a session, with the grants created in it that have no `offline_access`.

    Completes an earlier sign-out that was interrupted. Raises TemporarilyUnavailable.
    """
    end_session(server.store, session, events.record(server.store, http, events.SIGNED_OUT, session.sub))
