"""A second factor that a user proves while signed in: the session continues under a new cookie, at a higher level."""

from dataclasses import replace
from typing import Any

from chalicelib.http.messages import Request
from chalicelib.protocol.authentication_context import with_code
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import CodeSpent, session_cookie
from chalicelib.sessions.lifetime import renewed
from chalicelib.storage.table import Write


def step_up(
    server: AuthorizationServer,
    http: Request,
    signed_in: SignedInUser,
    of_user: Write[User],
    also: tuple[Write[Any], ...],
    form: str,
    amr: tuple[str, ...] | None = None,
) -> SignedInUser:
    """Raise a session to two factors, in one transaction with the write on its user, and set the new cookie.

    `of_user`: the write that spends a code or confirms the second factor. `form`: the digest of the form. `amr`:
    how the user has signed in now, by default also with a code. Raises CodeSpent when `of_user` is refused, and
    AccessDenied when the session has been changed in between, or one of `also` is refused.
    """
    store, session = server.store, signed_in.session
    changes: dict[str, Any] = {"amr": amr or with_code(session.amr), "mfa_time": server.now()}
    changes |= renewed(server, session, form)
    unchanged = store.sessions.unchanged(session, "ended_at", "generation", "sessions_generation")
    continuing = store.sessions.changing((session.session_id,), unchanged, changes)
    refused = store.transact(continuing, of_user, *also)
    if refused and refused.of(of_user):
        raise CodeSpent
    if refused:
        raise AccessDenied("This session has been changed by another request. Go back, and try again.")
    raised = replace(session, **changes)
    http.answer_headers.append(session_cookie(server, raised))
    return replace(signed_in, session=raised)
