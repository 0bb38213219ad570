"""How long a session lasts: until it is not used for a while, and no longer than its absolute lifetime.

A session has two times. `active_until` says how long the browser is signed in; only the browser moves it, so that an
application that refreshes its tokens does not keep an abandoned browser signed in. `expires_at` says how long the
grants of the session are valid, and is moved by refresh tokens too.
"""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.records import Session, User
from chalicelib.server import AuthorizationServer

# For so long, a form that a browser sends again gets the answer again.
REPEATED_FOR = 60


def lifetime_from(server: AuthorizationServer, auth_time: int) -> dict[str, Any]:
    """Return the two times of a session that the browser uses now, whose user signed in at `auth_time`."""
    end = _end(server, auth_time)
    return {"expires_at": end, "active_until": end}


def renewed(server: AuthorizationServer, session: Session, form: str) -> dict[str, Any]:
    """Return the changes of a session that continues under a new cookie. `form`: the digest of its form, "" if none."""
    return {"generation": session.generation + 1, **renewed_now(server, form)}


def renewed_now(server: AuthorizationServer, form: str) -> dict[str, Any]:
    """Return what a session keeps of the form by which it was started or continued now."""
    return {"renewed_at": server.now(), "renewed_by": form, "repeats": 0}


def was_renewed_by(server: AuthorizationServer, session: Session, user: User, form: str) -> bool:
    """Return whether this form has just renewed the session, and it is this user who is signed in there."""
    if not form or session.renewed_by != form or server.now() - session.renewed_at >= REPEATED_FOR:
        return False
    if session.sub != user.sub:
        return False
    return session.signed_in_until > server.now() and session.is_valid_for(user) and user.active


def extend(server: AuthorizationServer, session: Session, *, by_browser: bool) -> Session:
    """Extend a session that is used; return it with its new times.

    One write, made only after a quarter of the time has passed. It is refused when the session has ended or was
    extended in between; then nothing is to be extended. If it cannot be made, the next use makes it.
    """
    now, idle = server.now(), server.settings.session_idle_lifetime
    end = _end(server, session.auth_time)
    names = ("active_until", "expires_at") if by_browser else ("expires_at",)
    until = min(session.signed_in_until, session.expires_at) if by_browser else session.expires_at
    if until >= end or until - now > idle * 3 // 4:
        return session
    changes: dict[str, Any] = dict.fromkeys(names, end)
    if session.active_until is None:  # a record of version 1
        changes = {"active_until": session.signed_in_until} | changes
    sessions = server.store.sessions
    unchanged = sessions.unchanged(session, "ended_at", "auth_time", "active_until", "expires_at")
    with suppress(TemporarilyUnavailable):
        # Version 1 kept a list of the grants in the record.
        sessions.transition((session.session_id,), unchanged, changes, remove=("grants",))
    return replace(session, **changes)


def _end(server: AuthorizationServer, auth_time: int) -> int:
    settings = server.settings
    return min(server.now() + settings.session_idle_lifetime, auth_time + settings.session_absolute_lifetime)
