"""The step in which a user signs in, or chooses a new password: from the form that was sent, to what follows."""

from dataclasses import replace

from chalicelib.authentication import password_rules
from chalicelib.authentication.password import MAX_USERNAME, NO_USER, NotSignedIn, SignInAttempt, VerifiedSignIn
from chalicelib.authorization.flow import proceed, remaining_step, stored_if_continued
from chalicelib.authorization.forms import query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import SIGNED_OUT, Problem, redirect_with_problem
from chalicelib.authorization.request import ended
from chalicelib.authorization.restoration import offer_restoration
from chalicelib.authorization.second_factor import ask_for_second_factor
from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol.errors import OAuthError
from chalicelib.protocol.next_step import SignedInUser, Step
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.repeated_form import find_repeated
from chalicelib.storage.store import Records
from chalicelib.users.password_change import change_own_password


def read_attempt(server: AuthorizationServer, http: Request, form: Params, browser_id: str) -> SignInAttempt:
    """Return the attempt to sign in that a form has, from the browser with this id."""
    return SignInAttempt.of_form(server, http, form, browser_id)


def answer_credentials(
    interaction: Interaction, attempt: SignInAttempt, records: Records, form: str, *, may_repeat: bool
) -> Response:
    """Sign in the user whose credentials a form has. `records` were read for the lookups of `attempt`.

    `form`: its digest. `may_repeat`: whether it may be one that was sent before.
    """
    server, http = interaction.server, interaction.http
    if may_repeat:  # also for a username that does not exist: the time must not tell
        sub = attempt.sub(records) or NO_USER
        if signed_in := find_repeated(server, http, sub, form, attempt.password):
            return continue_as(interaction, signed_in)
    try:
        verified = attempt.verify(records, interaction.client, interaction.request)
    except NotSignedIn as failure:
        if interaction.request.answered:  # its address leads to the answer for the user who has signed in
            raise ended(interaction.request) from failure
        keep = bool(interaction.request.keep_signed_in)
        problem = Problem.of_sign_in(server, failure, attempt.username[:MAX_USERNAME], keep=keep)
        return redirect_with_problem(server, http, query_of(interaction), problem)
    return start_session(interaction, verified, form)


def start_session(interaction: Interaction, verified: VerifiedSignIn, form: str = "") -> Response:
    """Sign the user in, in place of `interaction.signed_in`, and continue with the request. `form`: its digest.

    A user with a second factor is asked for it, without a session. One who has deleted the account is offered to
    restore it, and nothing else.
    """
    server, http = interaction.server, interaction.http
    if not verified.complete:
        writes, unknown = verified.checked_writes(server.store), verified.in_unknown_browser
        return ask_for_second_factor(interaction, verified.user, writes, in_unknown_browser=unknown)
    if verified.user.deleted_at is not None:
        verified.commit_without_session(server.store)
        return offer_restoration(interaction, verified.user)
    try:
        request, storing_it = stored_if_continued(interaction, verified.user, verified.consent)
    except OAuthError:
        verified.commit_without_session(server.store)
        raise
    previous, writes = interaction.signed_in, (*verified.writes, *storing_it)
    if_repeated = verified.attempt.writes_if_repeated(verified.user)
    how = browser_sessions.SignIn(form=form, if_repeated=if_repeated, kept=bool(request.keep_signed_in))
    signed_in = browser_sessions.start_session(server, http, verified.user, request.request_id, previous, writes, how)
    return proceed(replace(interaction, request=request, signed_in=signed_in, consent=verified.consent))


def answer_new_password(interaction: Interaction, form: Params, digest: str) -> Response:
    """Change the password of a user who must choose one, and continue with the request. `digest`: of the form."""
    server, http, signed_in = interaction.server, interaction.http, interaction.signed_in
    password, repeated = form.raw("new_password") or "", form.raw("new_password_again") or ""
    changed = signed_in is None or not signed_in.user.password_change_required
    if changed and (signed_in_now := find_repeated(server, http, None, digest, password)):
        return continue_as(interaction, signed_in_now)
    if signed_in is None:
        return redirect_with_problem(server, http, query_of(interaction), SIGNED_OUT)
    if remaining_step(interaction) is not Step.CHANGE_PASSWORD:  # in another tab, or the user must sign in again
        return redirect_with_problem(server, http, query_of(interaction))
    if text := password_rules.find_problem(server.settings, signed_in.user, password, repeated, must_differ=True):
        problem = Problem(text, "new_password", 400, Step.CHANGE_PASSWORD.name)
        return redirect_with_problem(server, http, query_of(interaction), problem)
    return continue_as(interaction, change_own_password(server, http, signed_in, password, digest))


def continue_as(interaction: Interaction, signed_in: SignedInUser) -> Response:
    """Continue with the request in a session that has a new cookie."""
    server = interaction.server
    interaction.http.answer_headers.append(browser_sessions.session_cookie(server, signed_in.session))
    consent = server.store.consents.get(signed_in.user.sub, interaction.client.client_id)
    return proceed(replace(interaction, signed_in=signed_in, consent=consent))
