"""Who is signed in: the session of a browser, born by a sign-in, ended by a sign-out or a changed password.

Two cookies: the session's handle, and the browser's, which survives sign-in and binds a waiting request to the
browser it was shown to.
"""

from dataclasses import replace
from typing import Any

from chalicelib import passwords
from chalicelib.dynamodb import attr
from chalicelib.errors import AccessDenied
from chalicelib.handles import new_id
from chalicelib.interaction import Person
from chalicelib.messages import Request, cookie
from chalicelib.models import AuthorizationRequest, Consent, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.store import Store
from chalicelib.table import Refused, Step

# A session is signed in anew before its list of grants makes its record slow and dear.
MOST_GRANTS = 1000
_YEAR = 365 * 24 * 60 * 60


def cookie_name(server: AuthorizationServer, what: str) -> str:
    """The name of our cookie: with the `__Host-` prefix where the issuer is https."""
    return f"{'__Host-' if server.settings.secure else ''}signet-{what}"


def session_cookie(server: AuthorizationServer, session: Session) -> dict[str, str]:
    """The Set-Cookie header for a session; it lasts until the browser closes."""
    handle = server.keys.make_handle("sid", session.session_id, session.generation)
    return cookie(cookie_name(server, "session"), handle, secure=server.settings.secure)


def browser(server: AuthorizationServer, request: Request) -> tuple[str, dict[str, str]]:
    """The id of the browser, and the Set-Cookie header that gives it one if it has none yet."""
    name = cookie_name(server, "browser")
    known = server.keys.read_handle("br", request.cookie(name))
    if known:
        return known.id, {}
    made = new_id()
    handle = server.keys.make_handle("br", made)
    return made, cookie(name, handle, secure=server.settings.secure, max_age=_YEAR)


def current(
    server: AuthorizationServer, request: Request, client_id: str | None = None, request_id: str | None = None
) -> tuple[Person | None, Consent | None, AuthorizationRequest | None]:
    """Who is signed in here, what they have allowed this client for good, and a waiting request, in one read."""
    store = server.store
    handle = server.keys.read_handle("sid", request.cookie(cookie_name(server, "session")))
    session_id = handle.id if handle else ""
    sub = session_id.rpartition(".")[0]
    session, user, consent, pending = store.read(
        (store.sessions, (session_id,)),
        (store.users, (sub,)),
        (store.consents, (sub, client_id or "")),
        (store.requests, (request_id or "",)),
    )
    if handle is None or session is None or user is None or not _counts(session, user, handle.generation):
        return None, None, pending
    return Person(user, session), consent, pending


def _counts(session: Session, user: User, generation: int) -> bool:
    return (
        session.ended_at is None
        and session.generation == generation
        and session.sessions_generation == user.sessions_generation
        and user.disabled_at is None
        and len(session.grants) < MOST_GRANTS
    )


def user_is_welcome(server: AuthorizationServer, user: User) -> Step[User]:
    """The step that lets nothing be born for a person who was disabled, or whose sessions were ended, meanwhile."""
    condition = attr("disabled_at").not_exists() & attr("sessions_generation").eq(user.sessions_generation)
    return server.store.users.checking((user.sub,), condition)


def start(server: AuthorizationServer, user: User, request_id: str, previous: Person | None = None) -> Person:
    """Sign a person in for a request.

    The same person's session is carried on under a new cookie, the old one being worth nothing then; another person's
    session is ended. Raises AccessDenied when the person was disabled meanwhile.
    """
    store, now = server.store, server.now()
    expires_at = now + server.settings.session_idle_lifetime
    if previous and previous.user.sub == user.sub:
        old = previous.session
        changed: dict[str, Any] = {
            "auth_time": now,
            "generation": old.generation + 1,
            "request_id": request_id,
            "expires_at": expires_at,
            "sessions_generation": user.sessions_generation,
        }
        condition = attr("ended_at").not_exists() & attr("generation").eq(old.generation)
        step = store.sessions.changing((old.session_id,), condition, changed)
        if not store.transact(step, user_is_welcome(server, user)):
            return Person(user, replace(old, **changed))
    elif previous:
        end(server, previous.session)
    session = Session(
        session_id=f"{user.sub}.{new_id()}",
        sub=user.sub,
        auth_time=now,
        created_at=now,
        expires_at=expires_at,
        request_id=request_id,
        sessions_generation=user.sessions_generation,
    )
    if store.transact(store.sessions.inserting(session), user_is_welcome(server, user)):
        raise AccessDenied("This account cannot sign in now.")
    return Person(user, session)


def end(server: AuthorizationServer, session: Session) -> None:
    """End a session, and the grants born in it that do not outlive it (those without `offline_access`)."""
    now = server.now()
    ended = server.store.sessions.transition((session.session_id,), attr("ended_at").not_exists(), {"ended_at": now})
    if isinstance(ended, Refused):
        return
    bound = ~attr("scope").contains("offline_access") & attr("revoked_at").not_exists()
    for grant_id in ended.grants:
        server.store.grants.transition((grant_id,), bound, {"revoked_at": now})


def change_password(store: Store, user: User, password: str, *, must_be_replaced: bool = False) -> User:
    """Give a person another password, and end every session and grant of theirs; the record as it is then.

    Raises AccessDenied when the record is not as `user` any more: changed meanwhile, or disabled.
    """
    same = attr("password_hash").eq(user.password_hash) & attr("sessions_generation").eq(user.sessions_generation)
    disabled = attr("disabled_at")
    same &= disabled.not_exists() if user.disabled_at is None else disabled.eq(user.disabled_at)
    new = {
        "password_hash": passwords.hash_password(password),
        "password_change_required": must_be_replaced,
        "sessions_generation": user.sessions_generation + 1,
    }
    # Before the change, which is not made unless the grants can be ended; and after it, when none is born any more.
    _end_grants(store, user.sub)
    changed = store.users.transition((user.sub,), same, new)
    if isinstance(changed, Refused):
        raise AccessDenied("This account has changed meanwhile.")
    _end_grants(store, user.sub)
    return changed


def _end_grants(store: Store, sub: str) -> None:
    """Revoke every grant of a person. Two passes, because the index lags behind the table."""
    for _ in range(2):
        for grant in store.grants.find("sub", sub, index="sub"):
            if grant.revoked_at is None:
                condition = attr("revoked_at").not_exists()
                store.grants.transition((grant.grant_id,), condition, {"revoked_at": store.now()})
