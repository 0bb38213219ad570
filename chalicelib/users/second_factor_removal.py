"""Turning the second factor off: with a code, or with a passkey, for a user who has lost the phone and the codes.

The device must verify the user, so a passkey proves as much as the password and a code.
"""

from chalicelib import events
from chalicelib.authentication.passkey_sign_in import FIELD
from chalicelib.authentication.passkeys import TEXTS
from chalicelib.http.messages import Params, Request
from chalicelib.mail.notices import tell
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.server import AuthorizationServer
from chalicelib.users import confirmation, second_factor_setup
from chalicelib.users.confirmation import NotConfirmed

_STATE = ("disabled_at", "deleted_at", "sessions_generation", "totp_generation", "totp_confirmed_at")


def passkey_options(server: AuthorizationServer, signed_in: SignedInUser) -> str:
    """Return the options for the page, "" if the user has no passkey, or no second factor. At most one call."""
    if not signed_in.user.has_second_factor:
        return ""
    return confirmation.passkey_options(server, signed_in, events.SECOND_FACTOR_REMOVED)


def turn_off(server: AuthorizationServer, http: Request, signed_in: SignedInUser, form: Params) -> None:
    """Turn the second factor off, which needs a code of it, a recovery code, or a passkey of the user.

    The transaction that uses the passkey is refused when the second factor has been changed in between. Raises
    NotSignedIn, and for a passkey NotConfirmed.
    """
    if not form.raw(FIELD):
        second_factor_setup.turn_off(server, http, signed_in, form)
        return
    user, users = signed_in.user, server.store.users
    confirmed = confirmation.confirm(server, http, signed_in, form, events.SECOND_FACTOR_REMOVED)
    changes = {"totp_generation": user.totp_generation + 1}
    unchanged = users.unchanged(user, *_STATE)
    removing = users.changing((user.sub,), unchanged, changes, remove=second_factor_setup.OF_FACTOR)
    if server.store.transact(removing, *confirmed.writes, *tell(server, http, user, "second_factor_off")):
        raise NotConfirmed(TEXTS["passkey_expired"], by_passkey=True)
