"""Creating a grant: in one transaction with the session, the user, the consent and the request that it relies on."""

from enum import Enum
from typing import Any

from chalicelib import events
from chalicelib.authorization.interaction import Interaction
from chalicelib.events import history
from chalicelib.protocol import claims
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import AuthorizationRequest, Grant
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import require_active_user
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Write
from chalicelib.tokens.issue import id_token, max_refresh_lifetime


class NotGranted(Enum):
    """Why no grant was created."""

    ALREADY_ANSWERED = "the request has been answered"
    SIGNED_OUT = "the session has ended or the account is disabled: the user must sign in"
    CONSENT_REMOVED = "the remembered consent has been removed: the user must be asked"


def create_grant(
    interaction: Interaction,
    signed_in: SignedInUser,
    *,
    consent_given: bool = False,
    remember: bool = False,
    also: tuple[Write[Any], ...] = (),
) -> dict[str, str] | NotGranted:
    """Create the grant; return the parameters of the authorization response, or why there is no grant.

    `consent_given`: the user has just allowed it; `remember` stores that consent; `also`: further writes of it.
    """
    server, http, client, request = interaction.server, interaction.http, interaction.client, interaction.request
    store, sub, session = server.store, signed_in.user.sub, signed_in.session
    grant = _new_grant(interaction, signed_in)
    code = server.keys.make_handle("code", grant.grant_id)
    answer = {"code": code}
    if "id_token" in request.response_type.split():  # signed before anything is written, because that may fail
        answer["id_token"] = id_token(server, client, grant, nonce=request.nonce, code=code, user=signed_in.user)
    writes: list[Write[Any]] = [store.grants.inserting(grant), require_active_user(server, signed_in.user)]
    answering = answer_request(server, request) if request.browser_id is not None else None
    if answering:  # the request has been stored, and is answered only once
        writes.append(answering)
    writes += also
    if session.generation:
        current = attr("ended_at").not_exists() & attr("generation").eq(session.generation)
        idle_until = {"expires_at": server.now() + server.settings.session_idle_lifetime}
        joining = {"grants": frozenset({grant.grant_id})}
        if client.backchannel_logout_uri:
            joining["backchannel_clients"] = frozenset({client.client_id})
        writes.append(store.sessions.changing((session.session_id,), current, idle_until, add=joining))
    if consent_given:
        writes.append(events.record(store, http, events.CONSENT_GIVEN, sub, client))
    remembered = None
    if not consent_given and not client.trusted:
        remembered = store.consents.checking((sub, client.client_id))
        writes.append(remembered)
    if remember:
        names = claims.requested_outside_scope(request.claims, request.scope)
        allowed = {"scope": request.scope} | ({"claims": names} if names else {})
        key, changes = (sub, client.client_id), {"updated_at": server.now()}
        writes.append(store.consents.changing(key, None, changes, add=allowed, create=True))
    refused = store.transact(*writes)
    if refused is None:
        events.note(http, events.CODE_ISSUED, sub=sub)
        return answer
    if answering and refused.of(answering):
        return NotGranted.ALREADY_ANSWERED
    if remembered and refused.of(remembered) and session.generation:
        return NotGranted.CONSENT_REMOVED
    return NotGranted.SIGNED_OUT


def answer_request(server: AuthorizationServer, request: AuthorizationRequest) -> Write[AuthorizationRequest]:
    """Return the write that answers a stored request. It is refused once the request has been answered."""
    unanswered = attr("taken_at").not_exists()
    return server.store.requests.changing((request.request_id,), unanswered, {"taken_at": server.now()})


def _new_grant(interaction: Interaction, signed_in: SignedInUser) -> Grant:
    server, client, request = interaction.server, interaction.client, interaction.request
    now = server.now()
    code_expires_at = now + (client.authorization_code_lifetime or server.settings.authorization_code_lifetime)
    return Grant(
        grant_id=new_id(),
        client_id=client.client_id,
        sub=signed_in.user.sub,
        session_id=signed_in.session.session_id,
        redirect_uri=request.redirect_uri,
        redirect_uri_sent=request.redirect_uri_sent,
        scope=request.scope,
        auth_time=signed_in.session.auth_time,
        amr=signed_in.session.amr,
        created_at=now,
        code_expires_at=code_expires_at,
        expires_at=code_expires_at,
        ends_at=now + max_refresh_lifetime(server, client),
        nonce=request.nonce,
        code_challenge=request.code_challenge,
        claims=request.claims,
        resource=request.resource,
        device=history.device(interaction.http),
    )
