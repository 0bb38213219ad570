"""Who is signed in: the session of a browser, started by a sign-in, ended by a sign-out or a changed password.

Two cookies: the session's handle, and the browser's, which survives sign-in and binds a stored request to the browser
that it was shown to.
"""

from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.events import history
from chalicelib.http.addresses import masked
from chalicelib.http.messages import Request, cookie
from chalicelib.protocol.authentication_context import BY_PASSWORD, TWO_FACTORS, level
from chalicelib.protocol.durations import YEAR
from chalicelib.protocol.errors import AccessDenied, RequestEnded
from chalicelib.protocol.handles import Handle, new_id
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import AuthorizationRequest, Consent, Session, User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.lifetime import extend, lifetime_from, renewed, renewed_now, was_renewed_by
from chalicelib.sessions.revocation import end_session
from chalicelib.storage.store import Records
from chalicelib.storage.table import Lookup, Write

_TRIES = 5
_NOT_ACTIVE = "This account cannot sign in now."


class CodeSpent(Exception):
    """The code of a second factor was spent in between, or the user has been changed."""


@dataclass(frozen=True)
class SignIn:
    """How a user has signed in, for a new session. `amr`: the methods (RFC 8176).

    `form`: the digest of the form. `if_repeated`: the writes when another copy of it has just signed in. `spending`:
    the write that spends a code of the second factor, if the user is active. `kept`: as in the session.
    """

    amr: tuple[str, ...] = BY_PASSWORD
    form: str = ""
    if_repeated: tuple[Write[Any], ...] = ()
    spending: Write[User] | None = None
    kept: bool = False


_BY_PASSWORD_ALONE = SignIn()


def cookie_name(server: AuthorizationServer, what: str) -> str:
    """Return the name of one of our cookies."""
    return server.settings.cookie_name(what)


def own_cookie(server: AuthorizationServer, what: str, value: str, max_age: int | None = None) -> dict[str, str]:
    """Return the Set-Cookie header of one of our cookies. `max_age` as in `http.messages.cookie`."""
    return cookie(cookie_name(server, what), value, secure=server.settings.secure, max_age=max_age)


def session_cookie(server: AuthorizationServer, session: Session) -> dict[str, str]:
    """Return the Set-Cookie header for a session; it lasts until the browser closes.

    That of a session that is `kept` lasts until the absolute end of the session.
    """
    handle = server.keys.make_handle("sid", session.session_id, session.generation)
    end = session.auth_time + server.settings.session_absolute_lifetime
    return own_cookie(server, "session", handle, max(1, end - server.now()) if session.kept else None)


def identify_browser(server: AuthorizationServer, http: Request) -> tuple[str, dict[str, str]]:
    """Return the id of the browser, and the Set-Cookie header that gives it one if it has none yet."""
    browser_id = browser_id_of(server, http)
    if browser_id:
        return browser_id, {}
    created = new_id()
    return created, _browser_cookie(server, created)


def _browser_cookie(server: AuthorizationServer, browser_id: str) -> dict[str, str]:
    handle = server.keys.make_handle("br", browser_id)
    return own_cookie(server, "browser", handle, YEAR)


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

    `session` is that of the cookie, also of one from before the last sign-in. `consent` is what the user allowed the
    client, `request` the stored authorization request; `records` are the others.
    """

    session: Session | None
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
    """Return who is signed in in this browser, with the records of `lookups`, in one call.

    A session that is used is extended, by a second call from time to time.
    """
    store, handle = server.store, session_handle(server, http)
    session_id = handle.id if handle else ""
    sub = session_id.rpartition(".")[0]
    of_session, of_user = store.sessions.lookup(session_id), store.users.lookup(sub)
    of_consent, of_request = store.consents.lookup(sub, client_id or ""), store.requests.lookup(request_id or "")
    records = store.read_all((of_session, of_user, of_consent, of_request, *lookups))
    session, user, request = records.get(of_session), records.get(of_user), records.get(of_request)
    if session and user and session.sessions_generation != user.sessions_generation:
        # A batch is no snapshot: a transaction that kept this session may have been made in between.
        session, user = store.read(of_session, of_user)
    if not handle or not session or not user or not _is_valid(session, user) or session.generation != handle.generation:
        return BrowserState(session, None, None, request, records)
    if session.signed_in_until <= server.now():
        return BrowserState(session, None, None, request, records)
    signed_in = SignedInUser(user, extend(server, session, by_browser=True))
    return BrowserState(signed_in.session, signed_in, records.get(of_consent), request, records)


def read_session(server: AuthorizationServer, http: Request) -> tuple[Session | None, User | None]:
    """Return the session of this browser, ended or not, and its user, in one read: for signing out."""
    handle = session_handle(server, http)
    if handle is None:
        return None, None
    session, user = _read_session(server, handle)
    return (session, user) if session and session.generation == handle.generation else (None, None)


def _read_session(server: AuthorizationServer, handle: Handle) -> tuple[Session | None, User | None]:
    sub = handle.id.rpartition(".")[0]
    return server.store.read(server.store.sessions.lookup(handle.id), server.store.users.lookup(sub))


def _lapsed_session(server: AuthorizationServer, http: Request, form: str) -> SignedInUser | None:
    """Return the session of this browser and its user, who need no longer be signed in, while its grants are valid.

    It may be one that this form, sent twice at once, has just renewed.
    """
    handle = session_handle(server, http)
    if handle is None:
        return None
    session, user = _read_session(server, handle)
    if not session or not user or not _is_valid(session, user):
        return None
    current = session.generation == handle.generation or was_renewed_by(server, session, user, form)
    return SignedInUser(user, session) if current else None


def _is_valid(session: Session, user: User) -> bool:
    return session.is_valid_for(user) and user.active


def require_active_user(server: AuthorizationServer, user: User) -> Write[User]:
    """Return the check that refuses a transaction once the user is disabled or deleted, or all sessions have ended."""
    users = server.store.users
    return users.checking((user.sub,), users.unchanged(user, "disabled_at", "deleted_at", "sessions_generation"))


def start_session(
    server: AuthorizationServer,
    http: Request,
    user: User,
    request_id: str,
    previous: SignedInUser | None = None,
    also: tuple[Write[Any], ...] = (),
    how: SignIn = _BY_PASSWORD_ALONE,
) -> SignedInUser:
    """Sign a user in for a request, in one transaction with the writes `also`.

    A session of the same user continues under a new cookie, which makes the old one invalid; a session of another user
    ends. Without `previous`, that is the session of this browser which has lapsed, if there is one. The same form, sent
    twice at once, starts or continues one session. Raises AccessDenied when the user has been disabled or deleted, or
    must still prove a second factor, CodeSpent when the proof is refused, RequestEnded when one of `also` is refused.

    The response to this request gets the cookies, also if it is an error.
    """
    if server.settings.authentication_policy.asks_for_code(user) and level(how.amr) < TWO_FACTORS:
        raise AccessDenied("This account has a second factor, which must be proved too.")
    if not user.active:
        raise AccessDenied(_NOT_ACTIVE)
    previous = previous or _lapsed_session(server, http, how.form)
    signed_in = _start(server, http, user, request_id, previous, also, how)
    http.answer_headers.append(session_cookie(server, signed_in.session))
    if browser_id := browser_id_of(server, http):  # kept for another year
        http.answer_headers.append(_browser_cookie(server, browser_id))
    return signed_in


def _start(
    server: AuthorizationServer,
    http: Request,
    user: User,
    request_id: str,
    previous: SignedInUser | None,
    also: tuple[Write[Any], ...],
    how: SignIn,
) -> SignedInUser:
    store, form = server.store, how.form
    active = require_active_user(server, user)
    of_user, mfa_time = how.spending or active, server.now() if level(how.amr) >= TWO_FACTORS else 0
    methods: dict[str, Any] = {"amr": how.amr, "mfa_time": mfa_time, "kept": how.kept}
    if previous and previous.user.sub != user.sub:
        sign_out(server, http, previous.session)
        previous = None
    session = previous.session if previous else None
    for _ in range(_TRIES):
        # The copy of the user's generation stays as it is, so it must be current.
        if session is None or not session.is_valid_for(user):
            break
        if was_renewed_by(server, session, user, form):
            store.transact(active, *how.if_repeated)  # if it is refused, the attempt stays counted
            return SignedInUser(user, session)
        changes = signed_in_again(server, session, request_id, form) | methods
        condition = store.sessions.unchanged(session, "ended_at", "generation", "sessions_generation")
        continuing = store.sessions.changing((session.session_id,), condition, changes)
        refused = store.transact(continuing, of_user, *also)
        if refused is None:
            return SignedInUser(user, replace(session, **changes))
        refusal = refused.of(continuing)  # another tab has signed in
        session = refusal.record if refusal else None
    started = replace(unstored_session(server, http, user, request_id).session, generation=1)
    started = replace(started, **renewed_now(server, form), **methods)
    if form:
        started = replace(started, session_id=session_id_of_form(user.sub, form))
    inserting = store.sessions.inserting(started)
    refused = store.transact(inserting, of_user, *also)
    if refused and refused.of(active):
        raise AccessDenied(_NOT_ACTIVE)
    refusal = refused.of(inserting) if refused else None
    if refusal and form:
        if refusal.record and was_renewed_by(server, refusal.record, user, form):
            store.transact(active, *how.if_repeated)
            return SignedInUser(user, refusal.record)
        # the form of a session that has ended
        return _start(server, http, user, request_id, None, also, replace(how, form="", if_repeated=()))
    if how.spending and refused and refused.of(how.spending):
        raise CodeSpent
    if refused:
        raise RequestEnded("This sign-in has been used already.", code="request_answered")
    return SignedInUser(user, started)


def session_id_of_form(sub: str, form: str) -> str:
    """Return the id of the session that a form starts: so the same form, sent twice at once, starts one."""
    return f"{sub}.{form}"


def signed_in_again(server: AuthorizationServer, session: Session, request_id: str, form: str) -> dict[str, Any]:
    """Return the changes of a session in which its user has signed in again, for a request: with a new cookie."""
    now = server.now()
    changes = {"auth_time": now, "request_id": request_id, **renewed(server, session, form)}
    return changes | lifetime_from(server, now)


def unstored_session(server: AuthorizationServer, http: Request, user: User, request_id: str) -> SignedInUser:
    """Return a user in a session that is not stored, for an answer without a cookie."""
    now = server.now()
    session = Session(
        session_id=f"{user.sub}.{new_id()}",
        sub=user.sub,
        auth_time=now,
        created_at=now,
        version=2,
        **lifetime_from(server, now),
        generation=0,
        request_id=request_id,
        sessions_generation=user.sessions_generation,
        device=history.device(http),
        network=masked(http.source_ip),
    )
    return SignedInUser(user, session)


def sign_out(server: AuthorizationServer, http: Request, session: Session) -> None:
    """End a session, with the grants that depend on it. Raises TemporarilyUnavailable."""
    end_session(server.store, session, events.record(server.store, http, events.SIGNED_OUT, session.sub))
