"""The user's decision, as the login application posts it: kept by `external_login`, and used in the user's browser."""

from typing import Any

from chalicelib.authorization.consent import check_decision, decide, read_decision
from chalicelib.authorization.external_details import were_shown
from chalicelib.authorization.flow import proceed, remaining_step
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.screens import show
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.next_step import SignedInUser, Step
from chalicelib.protocol.records import AuthorizationRequest


def decision_in(request: AuthorizationRequest, form: Params) -> dict[str, Any]:
    """Return what is kept of a decision: also whether the application has shown the authorization details.

    Raises RequestEnded for an unknown decision.
    """
    return {"decision": check_decision(read_decision(form)), "details_shown": were_shown(request, form)}


def use_decision(interaction: Interaction, signed_in: SignedInUser, answer: dict[str, Any]) -> Response:
    """Return what a decision leads to. Our own page asks for it, if the user has not seen what would be allowed."""
    has_details = bool(interaction.request.authorization_details)
    unseen = has_details and answer["decision"] != "deny" and answer.get("details_shown") is not True
    if not unseen:
        return decide(interaction, signed_in, answer["decision"])
    if remaining_step(interaction) is Step.CONSENT:
        return show(interaction, Step.CONSENT, on_our_page=True)
    return proceed(interaction)
