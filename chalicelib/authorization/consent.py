"""The user's decision whether an application may have access."""

from dataclasses import replace
from typing import NoReturn

from chalicelib import events
from chalicelib.authorization.flow import finish, remaining_step
from chalicelib.authorization.grant import answer_request
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.request import ANSWERED
from chalicelib.authorization.screens import show
from chalicelib.http.messages import Response
from chalicelib.protocol.errors import AccessDenied, RequestEnded
from chalicelib.protocol.next_step import SignedInUser, Step, can_remember_consent

DECISIONS = ("allow_once", "allow_always", "deny")


def check_decision(decision: str | None) -> str:
    """Return the decision. Raises RequestEnded for an unknown one."""
    if decision not in DECISIONS:
        raise RequestEnded("The decision must be allow_once, allow_always or deny.", code="form_not_ours")
    return decision


def decide(interaction: Interaction, signed_in: SignedInUser, decision: str | None) -> Response:
    """Return the answer to the application, or the page for what must be done first.

    Raises AccessDenied when the user denies, RequestEnded for an unknown decision or a second one.
    """
    if decision == "deny":
        _deny(interaction, signed_in)
    if decision == "switch":  # to another account: signing in on the page ends this session
        return show(replace(interaction, signed_in=None, consent=None), Step.SIGN_IN, username="")
    decision = check_decision(decision)
    server, client = interaction.server, interaction.client
    consent = server.store.consents.get(signed_in.user.sub, client.client_id)
    interaction = replace(interaction, signed_in=signed_in, consent=consent)
    step = remaining_step(replace(interaction, consent=None))
    if step not in (Step.CONSENT, None):  # consent is valid only as the last step
        return show(interaction, step)
    remember = decision == "allow_always" and can_remember_consent(interaction.request, client)
    return finish(interaction, signed_in, consent_given=True, remember=remember)


def _deny(interaction: Interaction, signed_in: SignedInUser) -> NoReturn:
    """Answer the request with AccessDenied. Raises RequestEnded when it has been answered already."""
    server, client = interaction.server, interaction.client
    denied = events.record(server.store, interaction.http, events.CONSENT_DENIED, signed_in.user.sub, client)
    if server.store.transact(answer_request(server, interaction.request), denied):
        raise RequestEnded(ANSWERED, code="request_answered")
    raise AccessDenied("The user denied the request.")
