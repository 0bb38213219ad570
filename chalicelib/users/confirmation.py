"""The proof that it is the user who acts, and not another person at a browser that was left open: password or passkey.

The one place where an account page asks for it.
"""

from collections.abc import Mapping
from typing import Any

from chalicelib import builtin_clients, events
from chalicelib.authentication.passkey_options import for_confirmation, sign_in_options
from chalicelib.authentication.passkey_sign_in import FIELD, usable_passkeys, verify_passkey_of
from chalicelib.authentication.passkeys import TEXTS, PasskeyError
from chalicelib.authentication.password import NotSignedIn, SignInAttempt
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.errors import NotFound
from chalicelib.protocol.next_step import RECENT_ELSEWHERE, SignedInUser
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import browser_id_of, require_active_user
from chalicelib.storage.table import Write

_WRONG_PASSWORD = Text("This is not your password.")


class NotConfirmed(Exception):
    """The password or the passkey was not accepted. `text` says why."""

    def __init__(
        self, text: str, status: int = 400, headers: Mapping[str, str] | None = None, *, by_passkey: bool = False
    ):
        super().__init__(text)
        self.text = text
        self.status = status
        self.headers = headers or {}
        self.by_passkey = by_passkey


@dataclass(frozen=True)
class Confirmed:
    """Who has confirmed an action, and the writes for its transaction, with the event.

    `of_user`: the check for a transaction that does not check the user itself. `if_repeated`: the writes when another
    copy of the form was successful.
    """

    user: User
    writes: tuple[Write[Any], ...]
    of_user: Write[User]
    if_repeated: tuple[Write[Any], ...] = ()
    by_passkey: bool = False


def is_recent(server: AuthorizationServer, signed_in: SignedInUser) -> bool:
    """Return whether the user has signed in so recently that no proof need be asked for."""
    return server.now() - signed_in.session.auth_time < RECENT_ELSEWHERE


def passkey_options(server: AuthorizationServer, signed_in: SignedInUser, purpose: str) -> str:
    """Return the options for a page that asks for a passkey, "" if the user has none. One call."""
    session, listed = signed_in.session, usable_passkeys(server, signed_in.user.sub)
    shown = for_confirmation(session.session_id, session.sub, purpose)
    return sign_in_options(server, shown, listed, user_verification=True) if listed else ""


def confirm(
    server: AuthorizationServer, http: Request, signed_in: SignedInUser, form: Params, purpose: str
) -> Confirmed:
    """Return the proof in a form: the answer of a passkey, or the password, which is limited like a sign-in.

    `purpose`: the event that the history gets for it, once the caller has made the writes. Raises NotConfirmed.
    """
    if answer := form.raw(FIELD):
        return _by_passkey(server, http, signed_in, answer, purpose)
    client = server.client(builtin_clients.ACCOUNT)
    if client is None:
        raise NotFound("There is nothing at this address.")
    password = form.raw("password") or ""
    attempt = SignInAttempt(server, http, signed_in.user.username, password, browser_id_of(server, http))
    try:
        verified = attempt.verify(server.store.read_all(attempt.lookups), client, purpose=purpose)
    except NotSignedIn as failure:
        text = failure.text if failure.retry_after else _WRONG_PASSWORD
        raise NotConfirmed(text, failure.status(400), failure.headers) from failure
    of_user, *writes = verified.checked_writes(server.store)
    return Confirmed(verified.user, tuple(writes), of_user, verified.attempt.writes_if_repeated(verified.user))


def commit(server: AuthorizationServer, confirmed: Confirmed) -> None:
    """Make the writes of a proof alone.

    Raises NotConfirmed when the passkey was used, or the password was changed, in between.
    """
    refused = server.store.transact(confirmed.of_user, *confirmed.writes)
    if refused and confirmed.by_passkey:
        raise NotConfirmed(TEXTS["passkey_expired"], by_passkey=True)
    if refused and refused.of(confirmed.of_user):
        raise NotConfirmed(_WRONG_PASSWORD)


def _by_passkey(
    server: AuthorizationServer, http: Request, signed_in: SignedInUser, answer: str, purpose: str
) -> Confirmed:
    user = signed_in.user
    shown = for_confirmation(signed_in.session.session_id, user.sub, purpose)
    try:
        verified = verify_passkey_of(server, http, user, answer, shown, user_verification=True)
    except PasskeyError as failure:
        events.note(http, events.SIGN_IN_FAILED, sub=user.sub, detail=f"{failure.code}: {failure.detail}")
        raise NotConfirmed(failure.text, by_passkey=True) from failure
    event = events.record(server.store, http, purpose, user.sub, detail=events.BY_PASSKEY)
    return Confirmed(user, (*verified.writes, event), require_active_user(server, user), by_passkey=True)
