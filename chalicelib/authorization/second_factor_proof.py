"""The proof of a second factor, by a code or a passkey: the writes that use it up, and the problem when it fails."""

from typing import Any

from chalicelib import events
from chalicelib.authentication import second_factor
from chalicelib.authentication.passkey_options import for_second_factor
from chalicelib.authentication.passkey_sign_in import FIELD, verify_passkey_of
from chalicelib.authentication.passkeys import TEXTS, PasskeyError
from chalicelib.authentication.password import NotSignedIn
from chalicelib.authentication.second_factor import EnteredCode
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import Problem
from chalicelib.http.messages import Params
from chalicelib.protocol.authentication_context import with_code, with_passkey
from chalicelib.protocol.errors import AccessDenied, OAuthError, RequestEnded
from chalicelib.protocol.next_step import Step
from chalicelib.protocol.records import User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import CodeSpent, browser_id_of, require_active_user
from chalicelib.storage.table import Write

SPENT = ("code_used", "passkey_expired", "passkey_counter")  # the problems that another copy of a form can cause
# What `problem_of` explains, if it does not end the request.
FAILURES = (NotSignedIn, PasskeyError, CodeSpent, RequestEnded, AccessDenied)


@dataclass(frozen=True)
class Proved:
    """A second factor that a user has proved, and the writes for the next transaction.

    `of_user`: the write or check of the user, which is refused when the user has been changed, or a code was spent.
    `also`: the others; `if_repeated`: those of a form that came twice. `amr`: how the user has signed in now.
    """

    of_user: Write[User]
    also: tuple[Write[Any], ...]
    if_repeated: tuple[Write[Any], ...]
    amr: tuple[str, ...]


def proof_text(form: Params) -> str:
    """Return what a form has as proof: the answer of a passkey, or the code that was entered."""
    return form.raw(FIELD) or EnteredCode.of_form(form).text


def prove(interaction: Interaction, user: User, amr: tuple[str, ...], form: Params, *, is_step_up: bool) -> Proved:
    """Return the proof that a form has. `amr`: the methods of the first factor. Raises NotSignedIn, PasskeyError."""
    server, http, purpose = interaction.server, interaction.http, _purpose(is_step_up=is_step_up)
    if answer := form.raw(FIELD):
        return _prove_by_passkey(interaction, user, amr, answer, purpose)
    proof = second_factor.verify(server, http, user, EnteredCode.of_form(form), purpose, interaction.client)
    return Proved(proof.spending(server.store), proof.also, proof.if_repeated, with_code(amr))


def _prove_by_passkey(interaction: Interaction, user: User, amr: tuple[str, ...], answer: str, purpose: str) -> Proved:
    server, http, client = interaction.server, interaction.http, interaction.client
    shown = for_second_factor(browser_id_of(server, http) or "", interaction.request.request_id, user.sub)
    try:
        verified = verify_passkey_of(server, http, user, answer, shown)
    except PasskeyError as problem:
        detail = f"{problem.code}: {problem.detail}"
        events.note(http, events.SECOND_FACTOR_FAILED, sub=user.sub, detail=detail)
        raise
    event = events.record(server.store, http, purpose, user.sub, client, detail=events.BY_PASSKEY)
    return Proved(require_active_user(server, user), (*verified.writes, event), (), with_passkey(amr))


def problem_of(server: AuthorizationServer, error: Exception, form: Params) -> Problem | None:
    """Return what the page says after one of FAILURES; None if it ends the request.

    After the answer of a passkey, a refused transaction means that it was used already, or that the counter has moved.
    """
    if form.raw(FIELD) and isinstance(error, PasskeyError | CodeSpent | OAuthError):
        code = error.code if isinstance(error, PasskeyError) else "passkey_expired"
        return Problem(TEXTS[code], code, 400, Step.SECOND_FACTOR.name)
    failure = second_factor.spent() if isinstance(error, CodeSpent) else error
    if not isinstance(failure, NotSignedIn):
        return None
    retry_at = server.now() + failure.retry_after if failure.retry_after else 0
    return Problem(failure.text, failure.code, failure.status(400), Step.SECOND_FACTOR.name, retry_at)


def _purpose(*, is_step_up: bool) -> str:
    return events.SECOND_FACTOR_PROVED if is_step_up else events.SIGN_IN
