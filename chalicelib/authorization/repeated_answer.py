"""The answer to a request, given again: to a user who pressed the button twice, or reloaded the page that posts it.

For a minute, the browser that got the answer gets it again, because the first one may never have arrived. Each time it
has a new code, of a new grant with the same content: the same code twice would be a replay (RFC 6749 section 4.1.2).
"""

from dataclasses import replace

from chalicelib import events
from chalicelib.authorization.forms import query_of
from chalicelib.authorization.grant import code_times, response_parameters
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import address_of
from chalicelib.authorization.request import ended
from chalicelib.http.messages import Response, redirect
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.sessions.browser_sessions import browser_id_of
from chalicelib.storage.dynamodb import attr

MAX_REPEATS = 3  # after the first answer to a request


def redirect_to_answer(interaction: Interaction) -> Response:
    """Return the redirect to a request by its handle, after it was answered: there its answer is given."""
    server, http = interaction.server, interaction.http
    request = replace(interaction.request, browser_id=browser_id_of(server, http))
    return redirect(http, address_of(server, query_of(replace(interaction, request=request))))


def repeat_answer(interaction: Interaction, signed_in: SignedInUser) -> dict[str, str | None]:
    """Return the parameters of the authorization response again. The request is answered, in this browser.

    Raises AccessDenied when it was denied, RequestEnded when it was answered for another session, when what was granted
    has been revoked, or when the answer was repeated often.
    """
    server, request = interaction.server, interaction.request
    if request.grant_id is None:
        raise AccessDenied("The user denied the request.")
    first = server.store.grants.get(request.grant_id)
    if first is None or first.revoked_at is not None or first.session_id != signed_in.session.session_id:
        return _repeat_if_changed(interaction, signed_in, server.store.requests.get(request.request_id))
    is_first = request.sent == 0 and first.code_expires_at > server.now()
    grant = first if is_first else _copy(interaction, first)
    parameters = response_parameters(interaction, signed_in.user, grant)
    so_often = attr("sent").eq(0) if is_first else attr("sent").lte(MAX_REPEATS)
    not_denied = attr("grant_id").eq(request.grant_id)
    counting = server.store.requests.changing((request.request_id,), so_often & not_denied, add={"sent": 1})
    if refused := server.store.transact(counting, *([] if is_first else [server.store.grants.inserting(grant)])):
        refusal = refused.of(counting)
        current = refusal.record if refusal else None
        if is_first and current:  # another request has got the first code in between
            return repeat_answer(replace(interaction, request=request.answered_as(current)), signed_in)
        return _repeat_if_changed(interaction, signed_in, current)
    events.note(interaction.http, events.CODE_ISSUED, sub=signed_in.user.sub)
    return parameters


def _repeat_if_changed(
    interaction: Interaction, signed_in: SignedInUser, current: AuthorizationRequest | None
) -> dict[str, str | None]:
    """Return the answer that the request's record has now, if it is another one: the user may have denied it since.

    Raises as `repeat_answer`.
    """
    if current is None or current.grant_id == interaction.request.grant_id:
        raise ended(interaction.request)
    return repeat_answer(replace(interaction, request=interaction.request.answered_as(current)), signed_in)


def _copy(interaction: Interaction, grant: Grant) -> Grant:
    """Return a new grant with the content of one, whose code may have been redeemed in between."""
    created_at, code_expires_at, expires_at = code_times(interaction)
    return replace(
        grant,
        grant_id=new_id(),
        created_at=created_at,
        code_expires_at=code_expires_at,
        expires_at=expires_at,
        generation=0,
        redeemed_at=None,
        rotated_at={},
        refreshed_at=None,
        refresh_token_jkt=None,
        refresh_token_x5t=None,
        dpop_jti=None,
    )
