"""What a user answers to an offer: a passkey is added, or something is declined, and the request continues."""

from dataclasses import replace
from typing import Any

from chalicelib.authentication.passkey_sign_in import FIELD
from chalicelib.authentication.passkeys import PasskeyError
from chalicelib.authorization.flow import remaining_step
from chalicelib.authorization.forms import query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import SIGNED_OUT, Problem, redirect_with_problem
from chalicelib.authorization.screens import redirect_to_request
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.next_step import Step
from chalicelib.protocol.passkey import MAX_ANSWER
from chalicelib.users import passkeys


def answer_offer(interaction: Interaction, form: Params) -> Response:
    """Add the passkey that the browser has created, or none, and continue with the request."""
    server, http, signed_in = interaction.server, interaction.http, interaction.signed_in
    if signed_in is None:
        return redirect_with_problem(server, http, query_of(interaction), SIGNED_OUT)
    if remaining_step(interaction) is not Step.OFFER_PASSKEY:  # in another tab, or by the same form
        return redirect_with_problem(server, http, query_of(interaction))
    if answer := form.get(FIELD, at_most=MAX_ANSWER):
        try:
            passkeys.add(server, http, signed_in, answer, "")
        except (PasskeyError, ValueError) as error:
            text = error.text if isinstance(error, PasskeyError) else str(error)
            problem = Problem(text, getattr(error, "code", "not_added"), 400, Step.OFFER_PASSKEY.name)
            return redirect_with_problem(server, http, query_of(interaction), problem)
    return redirect_to_request(_changed(interaction, {"offer_passkey": False}))


def decline(interaction: Interaction, what: str) -> Response:
    """Continue without something for this request: one of `authentication_context.DECLINED_…`."""
    return redirect_to_request(keep_declined(interaction, what))


def keep_declined(interaction: Interaction, what: str) -> Interaction:
    """Return the interaction without something; a stored request keeps it."""
    return _changed(interaction, {"declined": interaction.request.declined | {what}})


def _changed(interaction: Interaction, changes: dict[str, Any]) -> Interaction:
    """Return the interaction with these changes of its request; a stored request keeps them."""
    request = interaction.request
    if request.stored:
        interaction.server.store.requests.transition((request.request_id,), None, changes)
    return replace(interaction, request=replace(request, **changes))
