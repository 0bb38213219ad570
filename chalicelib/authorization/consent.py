"""The user's decision whether an application may have access."""

from dataclasses import replace

from chalicelib import events
from chalicelib.authorization.flow import finish, remaining_step
from chalicelib.authorization.forms import query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import redirect_with_problem
from chalicelib.authorization.repeated_answer import redirect_to_answer
from chalicelib.authorization.screens import redirect_to_request
from chalicelib.authorization.stored_request import answering, waits_for_get
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.errors import AccessDenied, RequestEnded
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.next_step import SignedInUser, Step, can_remember_consent
from chalicelib.protocol.records import NO_SCOPE
from chalicelib.sessions.revocation import revoke_grant
from chalicelib.storage.dynamodb import attr

DECISIONS = ("allow_once", "allow_always", "deny")


def read_decision(form: Params) -> str | None:
    """Return the decision in a form. `allow` becomes `allow_always` with `remember=on`, else `allow_once`."""
    decision, remember = form.get("decision"), form.get("remember")
    if decision == "allow":
        return "allow_always" if remember == "on" else "allow_once"
    return decision


def check_decision(decision: str | None) -> str:
    """Return the decision. Raises RequestEnded for an unknown one."""
    if decision not in DECISIONS:
        raise RequestEnded("The decision must be allow or deny.", code="form_not_ours")
    return decision


def decide(interaction: Interaction, signed_in: SignedInUser, decision: str | None) -> Response:
    """Return the answer to the application, or the page for what must be done first.

    Raises AccessDenied when the user denies, RequestEnded for an unknown decision or a second one.
    """
    if decision == "deny":
        return _deny(interaction, signed_in)
    if decision == "switch":
        return _switch_account(interaction)
    decision = check_decision(decision)
    server, client = interaction.server, interaction.client
    consent = server.store.consents.get(signed_in.user.sub, client.client_id)
    interaction = replace(interaction, signed_in=signed_in, consent=consent)
    step = remaining_step(replace(interaction, consent=None))
    if step not in (Step.CONSENT, None):  # consent is valid only as the last step
        return redirect_with_problem(server, interaction.http, query_of(interaction))
    remember = decision == "allow_always" and can_remember_consent(interaction.request, client)
    return finish(interaction, signed_in, consent_given=True, remember=remember)


def _switch_account(interaction: Interaction) -> Response:
    """Return the redirect to the sign-in page of the same request. Signing in there ends this session."""
    request = interaction.request
    prompt = request.prompt | {"select_account"}
    # A new id: a sign-in for this request satisfies the prompt.
    again = replace(request, request_id=new_id(), browser_id=None, prompt=prompt, login_hint=None, asked_sub=None)
    again = replace(again, answer={}, answers=0, taken_at=None, grant_id=None, sent=None)
    # What the former user has declined, and the email for a code.
    again = replace(again, declined=NO_SCOPE, email_proof=None)
    return redirect_to_request(replace(interaction, request=again))


def _deny(interaction: Interaction, signed_in: SignedInUser) -> Response:
    """Answer the request with AccessDenied. A denial is final, also when access was allowed a moment ago."""
    server, http, client, request = interaction.server, interaction.http, interaction.client, interaction.request
    store, answered = server.store, request
    denied = events.record(store, http, events.CONSENT_DENIED, signed_in.user.sub, client)
    if not request.answered:
        denying = answering(server, http, request, None)
        refused = store.transact(denying, denied)
        refusal = refused.of(denying) if refused else None
        answered = (refusal and refusal.record) or request
    if answered.grant_id is not None:
        allowed = attr("grant_id").eq(answered.grant_id)
        withdrawing = store.requests.changing((request.request_id,), allowed, remove=("grant_id",))
        if store.transact(withdrawing, denied) is None:
            store.grants.write(revoke_grant(store, answered.grant_id, attr("redeemed_at").not_exists()))
    if waits_for_get(http, request):
        return redirect_to_answer(interaction)
    raise AccessDenied("The user denied the request.")
