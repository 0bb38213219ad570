"""The form on the account page by which users change their password, with the current one or a passkey.

Its fields: `password` (the current one) or `passkey` (the answer of the browser), `new_password`, `new_password_again`,
and the `tag`, which the caller checks. A user who has no password sets one with a passkey.
"""

from collections.abc import Mapping
from dataclasses import replace

from chalicelib import events, pages
from chalicelib.authentication import password_rules
from chalicelib.authentication.passkey_sign_in import FIELD
from chalicelib.authentication.passkeys import TEXTS
from chalicelib.authentication.password import NotSignedIn, SignInAttempt
from chalicelib.http.messages import Params, Request
from chalicelib.mail.notices import verified_address
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import Session
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import browser_id_of
from chalicelib.sessions.repeated_form import digest_form, find_repeated
from chalicelib.users import confirmation
from chalicelib.users.password_change import change_own_password


class NotChanged(Exception):
    """The password was not changed. `text` says why, and `field` names the field with the problem, or the passkey."""

    def __init__(self, text: str, field: str, status: int = 400, headers: Mapping[str, str] | None = None):
        super().__init__(text)
        self.text = text
        self.field = field
        self.status = status
        self.headers = headers or {}


def ways_to_confirm(server: AuthorizationServer, signed_in: SignedInUser) -> dict[str, str]:
    """Return what the page offers besides the current password, "" for what is not possible.

    `passkey`: the options of the user's passkeys. `recover`: where to ask for an email.
    """
    by_email = server.settings.can_send_mail and verified_address(signed_in.user) is not None
    return {
        "passkey": confirmation.passkey_options(server, signed_in, events.PASSWORD_CHANGED),
        "recover": f"{pages.base(server.settings)}/account/recover" if by_email else "",
    }


def change(
    server: AuthorizationServer, http: Request, client: Client, signed_in: SignedInUser, form: Params
) -> SignedInUser:
    """Change the user's password; return the user in the session, which continues under a new cookie.

    `client`: that of the account page. Raises NotChanged.
    """
    user, new = signed_in.user, form.raw("new_password") or ""
    problem = password_rules.find_problem(server.settings, user, new, form.raw("new_password_again") or "")
    if problem:
        raise NotChanged(problem, "new_password")
    if form.raw(FIELD):
        return _change_by_passkey(server, http, signed_in, form)
    attempt = SignInAttempt(server, http, user.username, form.raw("password") or "", browser_id_of(server, http))
    try:
        records = server.store.read_all(attempt.lookups)
        verified = attempt.verify(records, client, purpose=events.PASSWORD_CHANGED)
    except NotSignedIn as failure:
        current = server.store.sessions.get(signed_in.session.session_id)
        if current and (changed := find_changed(server, http, current, form)):  # in between, by the same form
            if failure.attempt:
                server.store.transact(*failure.attempt.writes_if_repeated(changed.user))
            return changed
        text = failure.text if failure.retry_after else "This is not your current password."
        raise NotChanged(text, "password", failure.status(400), failure.headers) from failure
    rehashed = replace(signed_in, user=verified.user)
    return change_own_password(server, http, rehashed, new, _digest(server, form), verified)


def _change_by_passkey(
    server: AuthorizationServer, http: Request, signed_in: SignedInUser, form: Params
) -> SignedInUser:
    """Change the password with a passkey in place of the current one. The session stays as old as it is.

    Its sign-in was not by this passkey, so it counts as no new one. Raises NotChanged.
    """
    if changed := find_changed(server, http, signed_in.session, form):  # before the counter of the passkey is compared
        return changed
    new, digest = form.raw("new_password") or "", _digest(server, form)
    try:
        confirmed = confirmation.confirm(server, http, signed_in, form, events.PASSWORD_CHANGED)
        return change_own_password(server, http, signed_in, new, digest, by_passkey=confirmed.writes)
    except confirmation.NotConfirmed as failure:
        raise NotChanged(failure.text, FIELD, failure.status, failure.headers) from failure
    except AccessDenied as refused:
        raise NotChanged(TEXTS["passkey_expired"], FIELD) from refused


def find_changed(server: AuthorizationServer, http: Request, session: Session, form: Params) -> SignedInUser | None:
    """Return the user whose password this form, sent twice, has just changed in this session; None if it has not."""
    digest = _digest(server, form)
    if session.renewed_by != digest:
        return None
    return find_repeated(server, http, session.sub, digest, form.raw("new_password") or "")


def _digest(server: AuthorizationServer, form: Params) -> str:
    return digest_form(server, form.get("tag") or "")
