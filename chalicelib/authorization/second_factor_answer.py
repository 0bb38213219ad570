"""The step in which a user proves the second factor, or sets one up: from the form that was sent, to what follows."""

from dataclasses import replace

from chalicelib import events
from chalicelib.authentication import second_factor
from chalicelib.authentication.password import NotSignedIn, remember_browser, remember_network
from chalicelib.authentication.second_factor import EnteredCode, Proof
from chalicelib.authorization.flow import proceed, remaining_step
from chalicelib.authorization.forms import query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import SIGNED_OUT, TOO_LATE, Problem, redirect_with_problem
from chalicelib.authorization.screens import redirect_to_request
from chalicelib.authorization.second_factor import lookups_of_waiting, stop_waiting, using, waiting_user
from chalicelib.authorization.sign_in import continue_as
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.authentication_context import with_code
from chalicelib.protocol.next_step import SignedInUser, Step
from chalicelib.protocol.records import User
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.browser_sessions import CodeSpent
from chalicelib.sessions.repeated_form import digest_form, find_repeated
from chalicelib.sessions.step_up import step_up
from chalicelib.users import second_factor_setup
from chalicelib.users.second_factor_setup import NotSetUp


def answer_code(interaction: Interaction, form: Params) -> Response:
    """Sign in the user who has proved the password for this request, or raise the session of the signed-in user.

    The digest of the form has the code too: so the same form, sent twice, is answered twice, and no other one is.
    """
    server, request = interaction.server, interaction.request
    entered = EnteredCode.of_form(form)
    digest = digest_form(server, f"{form.get('tag')} {entered.text}")
    waiting, signed_in = _waiting(interaction), interaction.signed_in
    if waiting and "again" in form:
        return redirect_to_request(replace(interaction, request=stop_waiting(server, request)))
    is_step_up = waiting is None and signed_in is not None and remaining_step(interaction) is Step.SECOND_FACTOR
    user = waiting or (signed_in.user if signed_in and is_step_up else None)
    if user is None:
        return _repeated(interaction, digest) or redirect_with_problem(
            server, interaction.http, query_of(interaction), TOO_LATE if request.waiting else SIGNED_OUT
        )
    purpose = events.SECOND_FACTOR_PROVED if is_step_up else events.SIGN_IN
    try:
        proof = second_factor.verify(server, interaction.http, user, entered, purpose, interaction.client)
        if waiting:
            proved = _start_session(interaction, waiting, proof, digest)
        else:
            assert signed_in  # noqa: S101  by the choice of `user`
            proved = step_up(server, interaction.http, signed_in, proof.spending(server.store), proof.also, digest)
    except (NotSignedIn, CodeSpent) as error:
        failure = error if isinstance(error, NotSignedIn) else second_factor.spent()
        if failure.code == "code_used" and (repeated := _repeated(interaction, digest)):
            return repeated
        retry_at = server.now() + failure.retry_after if failure.retry_after else 0
        problem = Problem(failure.text, failure.code, failure.status(400), Step.SECOND_FACTOR.name, retry_at)
        return redirect_with_problem(server, interaction.http, query_of(interaction), problem)
    consent = server.store.consents.get(proved.user.sub, interaction.client.client_id)
    request = replace(request, waiting={})
    return proceed(replace(interaction, request=request, signed_in=proved, consent=consent, waiting=None))


def answer_setup(interaction: Interaction, form: Params) -> Response:
    """Take the first code of a new second factor, or turn it on once the recovery codes are saved; then continue."""
    server, http, signed_in = interaction.server, interaction.http, interaction.signed_in
    if signed_in is None:
        return redirect_with_problem(server, http, query_of(interaction), SIGNED_OUT)
    if remaining_step(interaction) is not Step.ENROL_SECOND_FACTOR:  # in another tab, or the user must sign in again
        return redirect_with_problem(server, http, query_of(interaction))
    try:
        if form.get("set_up") != "codes":
            second_factor_setup.take_first_code(server, signed_in, form)
            return redirect_to_request(interaction)
        digest = digest_form(server, form.get("tag") or "")
        return continue_as(interaction, second_factor_setup.turn_on(server, http, signed_in, form, digest))
    except NotSetUp as failure:
        problem = Problem(failure.text, "not_set_up", 400, Step.ENROL_SECOND_FACTOR.name)
        return redirect_with_problem(server, http, query_of(interaction), problem)


def _waiting(interaction: Interaction) -> User | None:
    """Return the user who is waiting, by one read if the request names one."""
    server, request = interaction.server, interaction.request
    lookups = lookups_of_waiting(server, request)
    return waiting_user(server, request, server.store.read_all(lookups).get(lookups[0])) if lookups else None


def _start_session(interaction: Interaction, user: User, proof: Proof, digest: str) -> SignedInUser:
    server, http, request = interaction.server, interaction.http, interaction.request
    remembering = (*remember_browser(server, http, user, request.browser_id), *remember_network(server, http, user))
    return browser_sessions.start_session(
        server,
        http,
        user,
        request.request_id,
        interaction.signed_in,
        (using(server, request), *proof.also, *remembering),
        digest,
        proof.if_repeated,
        with_code(tuple(request.waiting["amr"])),
        proof.spending(server.store),
    )


def _repeated(interaction: Interaction, digest: str) -> Response | None:
    """Return the answer to a form that has just been answered, by its digest; None for any other form."""
    sub = interaction.request.waiting.get("sub")
    signed_in = find_repeated(interaction.server, interaction.http, sub, digest, None)
    return continue_as(replace(interaction, waiting=None), signed_in) if signed_in else None
