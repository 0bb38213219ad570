"""Setting up the second factor, turning it off, and new recovery codes: by the user who is signed in.

It is set up in two steps, of which the first is the proof that the authenticator application has the secret: its first
code. Then the recovery codes are shown, and the second factor counts only once the user has saved them.
"""

from typing import Any

from chalicelib import events, pages
from chalicelib.authentication import recovery_codes, second_factor, totp
from chalicelib.authentication.second_factor import EnteredCode
from chalicelib.http.messages import Params, Request
from chalicelib.mail.notices import tell
from chalicelib.protocol.authentication_context import authenticated_at
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.next_step import RECENT_ELSEWHERE, SignedInUser
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import CodeSpent
from chalicelib.sessions.step_up import step_up
from chalicelib.storage.table import Write

# The fields of a user that are removed with the second factor.
OF_FACTOR = ("totp_secret", "totp_confirmed_at", "recovery_codes", "recovery_batch")
_STATE = ("disabled_at", "sessions_generation", "totp_generation", "totp_confirmed_at")


class NotSetUp(Exception):
    """The second factor was not set up. `text` says why."""

    def __init__(self, text: str):
        super().__init__(text)
        self.text = text


@dataclass(frozen=True)
class Setup:
    """What the page shows while the second factor is set up: the secret, or then the recovery codes.

    `qr`: the QR code as SVG. `secret`: in groups of four characters. `codes`: empty in the first step.
    """

    qr: str = ""
    secret: str = ""
    codes: tuple[str, ...] = ()


def is_recent(server: AuthorizationServer, signed_in: SignedInUser) -> bool:
    """Return whether the user has authenticated recently enough to change the second factor."""
    return server.now() - authenticated_at(signed_in.session) <= RECENT_ELSEWHERE


def shown_codes(server: AuthorizationServer, signed_in: SignedInUser) -> tuple[str, ...]:
    """Return the recovery codes that the user has not saved yet, for some minutes in the session that created them."""
    user = signed_in.user
    batch = recovery_codes.shown_batch(user, server.now(), signed_in.session.session_id)
    return tuple(recovery_codes.codes_of(server.keys, user.sub, batch)) if batch and user.totp_secret else ()


def setup_of(server: AuthorizationServer, signed_in: SignedInUser) -> Setup:
    """Return what the user needs for the next step of the setup."""
    user = signed_in.user
    if codes := shown_codes(server, signed_in):
        return Setup(codes=codes)
    secret = totp.secret_for_session(server.keys, user, signed_in.session.session_id)
    text = totp.as_text(secret)
    groups = " ".join(text[i : i + 4] for i in range(0, len(text), 4))
    return Setup(pages.qr_code(totp.key_uri(secret, user.username, server.settings.name)), groups)


def take_first_code(server: AuthorizationServer, signed_in: SignedInUser, form: Params) -> None:
    """Store the secret of this session, whose first code the form has, with new recovery codes. One write.

    Raises NotSetUp.
    """
    store, user, now = server.store, signed_in.user, server.now()
    if user.totp_confirmed_at is not None:  # the one that is on can only be turned off, by a code of it
        raise NotSetUp(Text("Your second factor is on. Turn it off before you set up another one."))
    secret = totp.secret_for_session(server.keys, user, signed_in.session.session_id)
    step = totp.matching_step(secret, totp.normalize(form.raw("one_time_code") or ""), now)
    if step is None:
        raise NotSetUp(second_factor.WRONG)
    if step <= user.totp_step:
        raise NotSetUp(Text("This code was used already. Wait for the next one, and enter it."))
    batch = recovery_codes.new_batch(now, signed_in.session.session_id)
    changes = {
        "totp_secret": totp.seal(server.keys, user.sub, secret),
        "totp_step": step,
        "recovery_batch": batch,
        "recovery_codes": recovery_codes.digests(server.keys, user.sub, batch),
    }
    change = store.users.changing((user.sub,), store.users.unchanged(user, *_STATE, "totp_step"), changes)
    if store.transact(change):
        raise NotSetUp(Text("Your account has been changed in between. Start again."))


def turn_on(
    server: AuthorizationServer, http: Request, signed_in: SignedInUser, form: Params, digest: str
) -> SignedInUser:
    """Turn the second factor on, after the recovery codes were saved; the session has two factors from now on.

    `digest`: of the form. Raises NotSetUp.
    """
    store, user = server.store, signed_in.user
    if not shown_codes(server, signed_in) or user.totp_confirmed_at is not None:
        raise NotSetUp(Text("The page was open for too long. Scan the QR code again."))
    if not form.get("saved"):
        raise NotSetUp(Text("Save the recovery codes, and confirm that you have."))
    changes = {"totp_confirmed_at": server.now(), "totp_generation": user.totp_generation + 1}
    unchanged = store.users.unchanged(user, *_STATE, "totp_secret", "recovery_batch")
    confirming = store.users.changing((user.sub,), unchanged, changes, remove=("recovery_batch",))
    added = events.record(store, http, events.SECOND_FACTOR_ADDED, user.sub)
    also = (added, *tell(server, http, user, "second_factor_on"))
    try:
        return step_up(server, http, signed_in, confirming, also, digest)
    except CodeSpent as refused:
        raise NotSetUp(Text("Your account has been changed in between. Start again.")) from refused


def turn_off(server: AuthorizationServer, http: Request, signed_in: SignedInUser, form: Params) -> None:
    """Turn the second factor off, which needs a code of it or a recovery code. Raises NotSignedIn."""
    changes = {"totp_generation": signed_in.user.totp_generation + 1}
    _spend(server, http, signed_in.user, form, events.SECOND_FACTOR_REMOVED, "second_factor_off", changes, OF_FACTOR)


def replace_recovery_codes(server: AuthorizationServer, http: Request, signed_in: SignedInUser, form: Params) -> None:
    """Replace all recovery codes by new ones, which needs a code. Raises NotSignedIn."""
    user, batch = signed_in.user, recovery_codes.new_batch(server.now(), signed_in.session.session_id)
    changes = {"recovery_codes": recovery_codes.digests(server.keys, user.sub, batch), "recovery_batch": batch}
    _spend(server, http, user, form, events.RECOVERY_CODES_CREATED, "recovery_codes_created", changes)


def hide_codes(server: AuthorizationServer, user: User) -> None:
    """Show the recovery codes no longer, because the user has saved them."""
    users = server.store.users
    users.transition((user.sub,), users.unchanged(user, "recovery_batch"), remove=("recovery_batch",))


def _spend(
    server: AuthorizationServer,
    http: Request,
    user: User,
    form: Params,
    event: str,
    notice: str,
    changes: dict[str, Any],
    remove: tuple[str, ...] = (),
) -> None:
    """Change a user's record in the write that spends the code in the form. Raises NotSignedIn.

    `notice`: the mail that tells the user.
    """
    if not user.has_second_factor:
        raise AccessDenied("This account has no second factor.")
    proof = second_factor.verify(server, http, user, EnteredCode.of_form(form), event)
    spending: Write[User] = proof.spending(server.store, changes, remove)
    if server.store.transact(spending, *proof.also, *tell(server, http, user, notice)):
        raise second_factor.spent()
