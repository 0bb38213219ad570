"""The sign-in step answered by the code or the link of an email, in the browser that asked for it.

The email is one factor: a second one is asked for as after a password.
"""

from dataclasses import replace

from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import WrongCode
from chalicelib.authorization.email_sign_in_page import show_problem
from chalicelib.authorization.flow import proceed
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.request import ended
from chalicelib.authorization.restoration import offer_restoration
from chalicelib.authorization.second_factor import ask_for_second_factor
from chalicelib.authorization.sign_in import continue_as
from chalicelib.http.messages import Response
from chalicelib.protocol.errors import LoginRequired, RequestEnded
from chalicelib.protocol.next_step import WRONG_USER, is_intended_user
from chalicelib.protocol.proof import SIGN_IN, Proof
from chalicelib.protocol.texts import Text
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.repeated_form import find_repeated
from chalicelib.tokens.subjects import subject
from chalicelib.users import email_code
from chalicelib.users.email_code import VerifiedEmail

ENDED = Text("The code has expired, was used, or was replaced by that of a newer email. Ask for a new one.")
TOO_MANY = Text("There were too many wrong codes. Ask for a new email, or use your password.")


def use(interaction: Interaction, proof: Proof | None, digest: str, code: str | None) -> Response:
    """Sign in the user of an email whose code is right. `code`: None for its link. `digest`: of the form.

    The digest depends on the code, so the same form, sent twice, signs in once, and no other one does.
    """
    server, http, request = interaction.server, interaction.http, interaction.request
    browser_id = browser_sessions.browser_id_of(server, http) or ""
    if proof is None or proof.purpose != SIGN_IN or proof.browser_id != browser_id:
        return show_problem(interaction, ENDED, "email_code_ended")
    if proof.spent_at is not None:
        return _repeated(interaction, proof, digest)
    if request.answered:
        raise ended(request)
    try:
        if code is not None:
            proofs.check_code(server, http, proof, code)
        verified = email_code.verify(server, http, proof, browser_id, interaction.client)
    except WrongCode as wrong:
        return show_problem(interaction, str(wrong), "wrong_email_code")
    except RequestEnded as error:
        return _repeated(interaction, proof, digest, TOO_MANY if error.description == proofs.TOO_MANY else ENDED)
    if not is_intended_user(request, subject(server, interaction.client, verified.user.sub)):
        raise LoginRequired(WRONG_USER)
    try:
        return _sign_in(interaction, verified, browser_id, digest)
    except (browser_sessions.CodeSpent, RequestEnded):
        return _repeated(interaction, proof, digest)


def _sign_in(interaction: Interaction, verified: VerifiedEmail, browser_id: str, digest: str) -> Response:
    """Start a session and continue; or ask for the second factor, or offer to restore a deleted account.

    Raises CodeSpent or RequestEnded when the email was used, or the user was changed, in between.
    """
    server, http, request, client = interaction.server, interaction.http, interaction.request, interaction.client
    user, store = verified.user, server.store
    if server.settings.authentication_policy.asks_for_code(user):
        writes, unknown = email_code.waiting(server, http, verified, client), verified.in_unknown_browser
        return ask_for_second_factor(interaction, user, writes, amr=email_code.AMR, in_unknown_browser=unknown)
    if user.deleted_at is not None:
        if store.transact(verified.unchanged, verified.spending):
            raise browser_sessions.CodeSpent
        return offer_restoration(interaction, user)
    also = email_code.signing_in(server, http, verified, browser_id, client)
    how = browser_sessions.SignIn(email_code.AMR, digest, (), verified.unchanged, bool(request.keep_signed_in))
    signed_in = browser_sessions.start_session(server, http, user, request.request_id, interaction.signed_in, also, how)
    return proceed(replace(interaction, signed_in=signed_in, consent=verified.consent))


def _repeated(interaction: Interaction, proof: Proof, digest: str, text: str = ENDED) -> Response:
    """Return the answer to a form that has just signed in; for any other one the page that says what was wrong.

    Once the second factor is asked for, that page is the one that follows.
    """
    signed_in = find_repeated(interaction.server, interaction.http, proof.sub or proofs.NO_USER, digest, None)
    return continue_as(interaction, signed_in) if signed_in else show_problem(interaction, text, "email_code_ended")
