"""The proof that it is the user who acts, and not another person at a browser that was left open: the password.

The one place where an account page asks for it. A passkey would be a second proof, with the same result.
"""

from collections.abc import Mapping

from chalicelib import builtin_clients
from chalicelib.authentication.password import NotSignedIn, SignInAttempt, VerifiedSignIn
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.errors import NotFound
from chalicelib.protocol.next_step import RECENT_ELSEWHERE, SignedInUser
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import browser_id_of


class NotConfirmed(Exception):
    """The password was not accepted. `text` says why."""

    def __init__(self, text: str, status: int = 400, headers: Mapping[str, str] | None = None):
        super().__init__(text)
        self.text = text
        self.status = status
        self.headers = headers or {}


def is_recent(server: AuthorizationServer, signed_in: SignedInUser) -> bool:
    """Return whether the user has signed in so recently that no password need be asked for."""
    return server.now() - signed_in.session.auth_time < RECENT_ELSEWHERE


def confirm(
    server: AuthorizationServer, http: Request, signed_in: SignedInUser, form: Params, purpose: str
) -> VerifiedSignIn:
    """Return the attempt with the password in the form, which is limited like a sign-in.

    `purpose`: the event that the history gets for it, once the caller has made the writes of the attempt. Raises
    NotConfirmed.
    """
    client = server.client(builtin_clients.ACCOUNT)
    if client is None:
        raise NotFound("There is nothing at this address.")
    password = form.raw("password") or ""
    attempt = SignInAttempt(server, http, signed_in.user.username, password, browser_id_of(server, http))
    try:
        return attempt.verify(server.store.read_all(attempt.lookups), client, purpose=purpose)
    except NotSignedIn as failure:
        text = failure.text if failure.retry_after else Text("This is not your password.")
        raise NotConfirmed(text, failure.status(400), failure.headers) from failure
