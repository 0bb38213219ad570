"""Who is signed in: the session of a browser, born by a sign-in, ended by a sign-out or a changed password.

Two cookies: the session's handle, and the browser's, which survives sign-in and binds a waiting request to the
browser it was shown to.
"""

from dataclasses import replace
from typing import Any

from chalicelib import audit, history, passwords
from chalicelib.dynamodb import attr
from chalicelib.ending import end_all, end_session
from chalicelib.errors import AccessDenied, RequestEnded
from chalicelib.handles import Handle, new_id
from chalicelib.interaction import Person
from chalicelib.messages import Request, cookie
from chalicelib.models import AuthorizationRequest, Consent, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.store import Store
from chalicelib.table import Step, Table

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
    known = known_browser(server, request)
    if known:
        return known, {}
    made = new_id()
    handle = server.keys.make_handle("br", made)
    return made, cookie(name, handle, secure=server.settings.secure, max_age=_YEAR)


def known_browser(server: AuthorizationServer, request: Request) -> str | None:
    """The id of the browser, None if it has none yet."""
    known = server.keys.read_handle("br", request.cookie(cookie_name(server, "browser")))
    return known.id if known else None


def cookie_of(server: AuthorizationServer, request: Request) -> Handle | None:
    """The handle of a session that the browser has sent, None if it has sent none of ours."""
    return server.keys.read_handle("sid", request.cookie(cookie_name(server, "session")))


def current(
    server: AuthorizationServer, request: Request, client_id: str | None = None, request_id: str | None = None
) -> tuple[Person | None, Consent | None, AuthorizationRequest | None]:
    """Who is signed in here, what they have allowed this client for good, and a waiting request, in one read."""
    return current_and(server, request, (), client_id, request_id)[:3]


def current_and(
    server: AuthorizationServer,
    request: Request,
    wanted: tuple[tuple[Table[Any], tuple[str, ...]], ...],
    client_id: str | None = None,
    request_id: str | None = None,
) -> tuple[Person | None, Consent | None, AuthorizationRequest | None, tuple[Any, ...]]:
    """The same, and further records that are `wanted`, in the same one read."""
    store = server.store
    handle = cookie_of(server, request)
    session_id = handle.id if handle else ""
    sub = session_id.rpartition(".")[0]
    session, user, consent, pending, *found = store.read(
        (store.sessions, (session_id,)),
        (store.users, (sub,)),
        (store.consents, (sub, client_id or "")),
        (store.requests, (request_id or "",)),
        *wanted,
    )
    if handle is None or session is None or user is None or not _counts(session, user, handle.generation):
        return None, None, pending, tuple(found)
    return Person(user, session), consent, pending, tuple(found)


def of_browser(server: AuthorizationServer, request: Request) -> tuple[Session | None, User | None]:
    """The session of this browser, ended or not, and its person, in one read: for signing out."""
    handle = cookie_of(server, request)
    if handle is None:
        return None, None
    store, sub = server.store, handle.id.rpartition(".")[0]
    session, user = store.read((store.sessions, (handle.id,)), (store.users, (sub,)))
    return (session, user) if session and session.generation == handle.generation else (None, None)


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


def start(
    server: AuthorizationServer,
    http: Request,
    user: User,
    request_id: str,
    previous: Person | None = None,
    also: tuple[Step[Any], ...] = (),
) -> Person:
    """Sign a person in for a request, in one transaction with the steps `also`.

    The same person's session is carried on under a new cookie, the old one being worth nothing then; another person's
    session is ended. Raises AccessDenied when the person was disabled meanwhile, RequestEnded when a step is refused.
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
        if not store.transact(step, user_is_welcome(server, user), *also):
            return Person(user, replace(old, **changed))
    elif previous:
        end(server, http, previous.session)
    session = replace(for_one_answer(server, http, user, request_id).session, generation=1)
    refused = store.transact(store.sessions.inserting(session), user_is_welcome(server, user), *also)
    if refused and refused[1]:
        raise AccessDenied("This account cannot sign in now.")
    if refused:
        raise RequestEnded("This sign-in has been used already.", code="request_answered")
    return Person(user, session)


def for_one_answer(server: AuthorizationServer, http: Request, user: User, request_id: str) -> Person:
    """A person who has signed in, in a session that is not stored: for an answer that no cookie goes with."""
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
    return Person(user, session)


def end(server: AuthorizationServer, http: Request, session: Session) -> None:
    """End a session, and the grants born in it that do not outlive it (those without `offline_access`).

    What a sign-out before this one has left undone is done now: it may have been cut off. Raises
    TemporarilyUnavailable.
    """
    event = history.recording(server.store, http, session.sub, audit.SIGNED_OUT)
    if end_session(server.store, session, event):
        audit.note(http, audit.SIGNED_OUT, sub=session.sub)


def change_password(
    store: Store, user: User, password: str, *also: Step[Any], must_be_replaced: bool = False, keep: str | None = None
) -> User:
    """Give a person another password, and end every session and grant of theirs; the record as it is then.

    The password is changed in one transaction with the steps `also`. The session whose id is `keep` loses its grants,
    and may be carried on by signing in. Raises AccessDenied when the record is not as `user` any more: changed
    meanwhile, or disabled.
    """
    same = attr("password_hash").eq(user.password_hash) & attr("sessions_generation").eq(user.sessions_generation)
    disabled = attr("disabled_at")
    same &= disabled.not_exists() if user.disabled_at is None else disabled.eq(user.disabled_at)
    new: dict[str, Any] = {
        "password_hash": passwords.hash_password(password),
        "password_change_required": must_be_replaced,
        "sessions_generation": user.sessions_generation + 1,
    }
    # Before the change, which is not made unless all can be ended, and their applications told; and after it, when none
    # is born any more. These are the PASSES of an index.
    end_all(store, user.sub, keep, offline_access=True)
    if store.transact(store.users.changing((user.sub,), same, new), *also):
        raise AccessDenied("This account has changed meanwhile.")
    end_all(store, user.sub, keep, offline_access=True)
    return replace(user, **new)


def change_own_password(
    server: AuthorizationServer,
    http: Request,
    person: Person,
    password: str,
    request_id: str,
    noting: tuple[Step[Any], ...] = (),
) -> Person:
    """The same by the person who is signed in here: this session goes on, under a new cookie. `noting`: the steps that
    tell them of it later, if there are some. Raises AccessDenied.
    """
    steps = noting or (history.recording(server.store, http, person.user.sub, audit.PASSWORD_CHANGED),)
    changed = change_password(server.store, person.user, password, *steps, keep=person.session.session_id)
    audit.note(http, audit.PASSWORD_CHANGED, sub=changed.sub)
    return start(server, http, changed, request_id, replace(person, user=changed))
