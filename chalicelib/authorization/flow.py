"""The one dispatcher of the authorization flow: a page, a redirect with a code, or an error for the recipient.

Steps do not call each other: all return to this dispatcher.
"""

from dataclasses import replace
from typing import Any

from chalicelib.authorization.authentication_policy import demand_of, has_passkey
from chalicelib.authorization.grant import NotGranted, create_grant
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.offers import keeping_offer, note_offered, offered_step
from chalicelib.authorization.repeated_answer import redirect_to_answer, repeat_answer
from chalicelib.authorization.request import ended
from chalicelib.authorization.response import send_prepared
from chalicelib.authorization.screens import redirect_to_request, show
from chalicelib.authorization.stored_request import stored_for, storing, waits_for_get
from chalicelib.builtin_clients import ACCOUNT
from chalicelib.http.messages import Response, redirect
from chalicelib.protocol.authentication_context import BY_PASSWORD
from chalicelib.protocol.next_step import SignedInUser, Step, next_step
from chalicelib.protocol.records import AuthorizationRequest, Consent, User
from chalicelib.sessions import browser_sessions
from chalicelib.storage.table import Write
from chalicelib.tokens.subjects import subject


def proceed(interaction: Interaction) -> Response:
    """Return the next page, or the answer with the code. Raises the OAuthError that goes to the recipient."""
    step = remaining_step(interaction)
    if step is None and interaction.signed_in:
        return finish(interaction, interaction.signed_in)
    if interaction.http.method == "POST":
        return redirect_to_request(interaction)
    if step is Step.OFFER_PASSKEY and interaction.signed_in:
        note_offered(interaction.server, interaction.signed_in.user)
    return show(interaction, step or Step.SIGN_IN)


def remaining_step(interaction: Interaction) -> Step | None:
    """Return what the user must still do, or is offered, None when nothing is left; raises as `next_step`."""
    server, client = interaction.server, interaction.client
    request, signed_in = interaction.request, interaction.signed_in
    names_user = request.hinted_sub is not None or bool(request.claims)
    client_subject = subject(server, client, signed_in.user.sub) if signed_in and names_user else None
    demand = demand_of(server, client, request)
    step = next_step(
        request,
        client,
        signed_in,
        interaction.remembered,
        server.now(),
        client_subject,
        policy=server.settings.authentication_policy,
        demand=demand,
        waiting=interaction.waiting is not None,
        has_passkey=interaction.waiting is None and has_passkey(interaction, demand),
    )
    return offered_step(interaction) or step if step in (None, Step.CONSENT) else step


def stored_if_continued(
    interaction: Interaction, user: User, consent: Consent | None, amr: tuple[str, ...] = BY_PASSWORD
) -> tuple[AuthorizationRequest, tuple[Write[Any], ...]]:
    """Return the request, and the write that stores it if this user, once signed in, continues after a redirect.

    `amr`: how the user signs in. Raises as `remaining_step`.
    """
    server, http, request = interaction.server, interaction.http, interaction.request
    if http.method != "POST" or request.answered:
        return request, ()
    if request.stored:
        return request, keeping_offer(server, request, user)
    expected = browser_sessions.unstored_session(server, http, user, request.request_id)
    signed_in = SignedInUser(user, replace(expected.session, amr=amr))
    if remaining_step(replace(interaction, signed_in=signed_in, consent=consent)) is None:
        return request, ()
    request = stored_for(server, request, browser_sessions.identify_browser(server, http)[0])
    return request, (storing(server, request),)


def finish(
    interaction: Interaction,
    signed_in: SignedInUser,
    *,
    consent_given: bool = False,
    remember: bool = False,
    also: tuple[Write[Any], ...] = (),
) -> Response:
    """Create the grant and return the answer with its code; or what is left to do, when that has changed in between.

    The arguments are those of `create_grant`. Raises RequestEnded when the request has been answered already.
    """
    http, client, request = interaction.http, interaction.client, interaction.request
    if client.client_id == ACCOUNT:  # the account page needs no code, only the session
        return redirect(http, request.redirect_uri)
    if request.answered:
        return answer_again(interaction, signed_in)
    outcome = create_grant(interaction, signed_in, consent_given=consent_given, remember=remember, also=also)
    if outcome is NotGranted.ALREADY_ANSWERED:
        return _answer_again_at_once(interaction, signed_in)
    if isinstance(outcome, NotGranted):
        if request.stored or http.method == "POST":  # read everything again
            return redirect_to_request(interaction)
        return proceed(replace(interaction, signed_in=None, consent=None))
    return _send(interaction, outcome)


def answer_again(interaction: Interaction, signed_in: SignedInUser) -> Response:
    """Return the answer to a request that was answered in this browser a moment ago, as `repeat_answer`."""
    if waits_for_get(interaction.http, interaction.request):
        return redirect_to_answer(interaction)
    return _send(interaction, repeat_answer(interaction, signed_in))


def _answer_again_at_once(interaction: Interaction, signed_in: SignedInUser) -> Response:
    """Return the answer to a request that another HTTP request of this browser has just answered."""
    request = interaction.request
    current = interaction.server.store.requests.get(request.request_id)
    if current is None or current.taken_at is None or interaction.http.method != "POST":
        raise ended(current)
    return answer_again(replace(interaction, request=request.answered_as(current)), signed_in)


def _send(interaction: Interaction, parameters: dict[str, str | None]) -> Response:
    http = interaction.http
    if waits_for_get(http, interaction.request):
        return redirect_to_answer(interaction)
    return send_prepared(interaction.server, http, interaction.recipient, parameters)
