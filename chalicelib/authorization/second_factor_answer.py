"""The step in which a user proves the second factor, or sets one up: from the form that was sent, to what follows."""

from dataclasses import replace

from chalicelib.authentication.passkey_sign_in import FIELD
from chalicelib.authorization.authentication_policy import (
    may_decline_enrolment,
    may_decline_preference,
    prefers_passkey,
)
from chalicelib.authorization.flow import proceed, remaining_step
from chalicelib.authorization.forms import query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.offer_answer import decline, keep_declined
from chalicelib.authorization.problems import SIGNED_OUT, TOO_LATE, Problem, redirect_with_problem
from chalicelib.authorization.screens import redirect_to_request
from chalicelib.authorization.second_factor import lookups_of_waiting, stop_waiting, waiting_user
from chalicelib.authorization.second_factor_proof import FAILURES, SPENT, problem_of, proof_text, prove
from chalicelib.authorization.second_factor_session import raise_session, restore, start
from chalicelib.authorization.sign_in import continue_as
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.authentication_context import DECLINED_ENROLMENT, DECLINED_PREFERENCE
from chalicelib.protocol.next_step import Step
from chalicelib.protocol.records import User
from chalicelib.sessions.repeated_form import digest_form, find_repeated
from chalicelib.users import second_factor_setup
from chalicelib.users.second_factor_setup import NotSetUp


def answer_code(interaction: Interaction, form: Params) -> Response:
    """Sign in the user who has proved the password for this request, or raise the session of the signed-in user.

    By a code, or by a passkey. The digest of the form has it too: so the same form, sent twice, is answered twice, and
    no other one is. A user who has deleted the account is offered to restore it, and nothing else.
    """
    server, http, request = interaction.server, interaction.http, interaction.request
    digest = digest_form(server, f"{form.get('tag')} {proof_text(form)}")
    waiting, signed_in = _waiting(interaction), interaction.signed_in
    if waiting and "again" in form:
        return redirect_to_request(replace(interaction, request=stop_waiting(server, request)))
    is_step_up = waiting is None and signed_in is not None and remaining_step(interaction) is Step.SECOND_FACTOR
    user = waiting or (signed_in.user if signed_in and is_step_up else None)
    if user is None:
        return _repeated(interaction, digest) or redirect_with_problem(
            server, http, query_of(interaction), TOO_LATE if request.waiting else SIGNED_OUT
        )
    if is_step_up and "without" in form and may_decline_preference(interaction):
        return decline(interaction, DECLINED_PREFERENCE)
    amr = tuple(request.waiting["amr"]) if waiting or signed_in is None else signed_in.session.amr
    try:
        proved = prove(interaction, user, amr, form, is_step_up=is_step_up)
        if waiting and waiting.deleted_at is not None:
            return restore(interaction, waiting, proved)
        if FIELD not in form and prefers_passkey(interaction):  # the user has chosen the code
            interaction = keep_declined(interaction, DECLINED_PREFERENCE)
        signed_in_now = (
            raise_session(interaction, proved, digest) if is_step_up else start(interaction, user, proved, digest)
        )
    except FAILURES as error:
        problem = problem_of(server, error, form)
        if problem is None:
            raise
        if problem.code in SPENT and (repeated := _repeated(interaction, digest)):
            return repeated
        return redirect_with_problem(server, http, query_of(interaction), problem)
    consent = server.store.consents.get(signed_in_now.user.sub, interaction.client.client_id)
    request = replace(interaction.request, waiting={})
    return proceed(replace(interaction, request=request, signed_in=signed_in_now, consent=consent, waiting=None))


def answer_setup(interaction: Interaction, form: Params) -> Response:
    """Take the first code of a new second factor, or turn it on once the recovery codes are saved; then continue."""
    server, http, signed_in = interaction.server, interaction.http, interaction.signed_in
    if signed_in is None:
        return redirect_with_problem(server, http, query_of(interaction), SIGNED_OUT)
    if remaining_step(interaction) is not Step.ENROL_SECOND_FACTOR:  # in another tab, or the user must sign in again
        return redirect_with_problem(server, http, query_of(interaction))
    if "later" in form and may_decline_enrolment(interaction):
        return decline(interaction, DECLINED_ENROLMENT)
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


def _repeated(interaction: Interaction, digest: str) -> Response | None:
    """Return the answer to a form that has just been answered, by its digest; None for any other form."""
    sub = interaction.request.waiting.get("sub")
    signed_in = find_repeated(interaction.server, interaction.http, sub, digest, None)
    return continue_as(replace(interaction, waiting=None), signed_in) if signed_in else None
