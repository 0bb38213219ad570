"""A form that is sent twice, because the user pressed its button twice: it signs in, or changes the password, once.

When the second copy comes, the browser may have the cookie from before the first one, or the one that the first one has
set. It is recognised for a minute, by the digest of the form that the session keeps. It is not enough to know the form:
the password must be the user's, because a page can have been left open by another person.
"""

from chalicelib.authentication import passwords
from chalicelib.http.messages import Request
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import session_handle, session_id_of_form
from chalicelib.sessions.lifetime import was_renewed_by
from chalicelib.storage.dynamodb import attr

MAX_REPEATS = 3  # so many passwords are compared without being counted


def digest_form(server: AuthorizationServer, tag: str) -> str:
    """Return what a session keeps of the form with this tag."""
    return server.keys.digest("form", tag)


def find_repeated(
    server: AuthorizationServer, http: Request, sub: str | None, form: str, password: str | None
) -> SignedInUser | None:
    """Return the user whom the same form has just signed in, or whose password it has just changed to `password`.

    `password`: None for a form whose digest depends on the code that was entered, so that the digest proves it.
    `sub`: of the username in the form; None for the user of the cookie. `form`: its digest. One read; a write if the
    form is a repeated one. The caller sets the cookie of the session again.
    """
    store, handle = server.store, session_handle(server, http)
    of_cookie = handle.id if handle else ""
    sub = sub or of_cookie.rpartition(".")[0]
    of_user = store.users.lookup(sub)
    of_sessions = [store.sessions.lookup(session_id) for session_id in {of_cookie, session_id_of_form(sub, form)}]
    records = store.read_all((of_user, *of_sessions))
    user, sessions = records.get(of_user), [records.get(of_session) for of_session in of_sessions]
    for session in sessions:
        if user and session and was_renewed_by(server, session, user, form):
            return _repeat(server, user, session, password)
    return None


def _repeat(server: AuthorizationServer, user: User, session: Session, password: str | None) -> SignedInUser | None:
    sessions = server.store.sessions
    same = sessions.unchanged(session, "generation", "renewed_by", "ended_at") & ~attr("repeats").gte(MAX_REPEATS)
    if server.store.transact(sessions.changing((session.session_id,), same, add={"repeats": 1})):
        return None
    if password is None:
        return SignedInUser(user, session)
    return SignedInUser(user, session) if passwords.matches(password, user.password_hash) else None
