"""Creating a grant: one conditional write, which needs no other when the user and the consent are known.

What the grant relies on is not proved here: the grant copies the generations of the user, the consent and the client,
and every use proves them again (`protocol.validity`).
"""

from enum import Enum
from typing import Any

from chalicelib import events
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.response import prepare_response
from chalicelib.authorization.stored_request import answering, waits_for_get
from chalicelib.events import history
from chalicelib.protocol import claims, fapi
from chalicelib.protocol.authentication_context import authenticated_at
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import Consent, User
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Write
from chalicelib.tokens.issue import id_token, max_refresh_lifetime


class NotGranted(Enum):
    """Why no grant was created."""

    ALREADY_ANSWERED = "the request has been answered"
    CHANGED = "the session, the user or the consent has changed in between"


def create_grant(
    interaction: Interaction,
    signed_in: SignedInUser,
    *,
    consent_given: bool = False,
    remember: bool = False,
    also: tuple[Write[Any], ...] = (),
) -> dict[str, str | None] | NotGranted:
    """Create the grant; return the parameters of the authorization response, or why there is no grant.

    No parameters if the answer waits for a GET. `consent_given`: the user has just allowed it; `remember` stores that
    consent; `also`: further writes of it. One write, or a transaction with what must be written with it.
    """
    server, http, client, request = interaction.server, interaction.http, interaction.client, interaction.request
    store, user = server.store, signed_in.user
    grant = _new_grant(interaction, signed_in)
    # Signed before anything is written, because that may fail.
    parameters = {} if waits_for_get(http, request) else response_parameters(interaction, user, grant)
    creation = store.grants.inserting(grant)
    # Stored or sent by a form, a request is answered only once.
    once = request.stored or http.method == "POST"
    answer_once = [answering(server, http, request, grant.grant_id)] if once else []
    writes: list[Write[Any]] = [*answer_once, *also, *_join_session(interaction, signed_in)]
    if consent_given:
        writes.append(events.record(store, http, events.CONSENT_GIVEN, user.sub, client))
    if remember:
        writes += _remember_consent(interaction, user)
    if refused := store.transact(creation, *writes):
        answered = bool(answer_once) and refused.of(answer_once[0]) is not None
        return NotGranted.ALREADY_ANSWERED if answered else NotGranted.CHANGED
    if parameters:
        events.note(http, events.CODE_ISSUED, sub=user.sub)
    return parameters


def response_parameters(interaction: Interaction, user: User, grant: Grant) -> dict[str, str | None]:
    """Return the parameters of the authorization response for a new grant, as they are sent: signed if it must be.

    They have its code, and an ID token if requested. Raises TemporarilyUnavailable when one cannot be signed.
    """
    server, client, request = interaction.server, interaction.client, interaction.request
    code = server.keys.make_handle("code", grant.grant_id)
    answer = {"code": code}
    if "id_token" in request.response_type.split():
        answer["id_token"] = id_token(server, client, grant, nonce=request.nonce, code=code, user=user)
    return prepare_response(server, interaction.recipient, answer)


def code_times(interaction: Interaction) -> tuple[int, int, int]:
    """Return `created_at`, `code_expires_at` and `expires_at` of a new grant."""
    server, client, now = interaction.server, interaction.client, interaction.server.now()
    lifetime = client.authorization_code_lifetime or server.settings.authorization_code_lifetime
    lifetime = fapi.code_lifetime(client, lifetime)
    return now, now + lifetime, now + max(lifetime, REPEATED_FOR)  # until then, the answer can be repeated


def _join_session(interaction: Interaction, signed_in: SignedInUser) -> list[Write[Any]]:
    """Return the write that adds a client to those that are told when the session ends, if it is new there."""
    client, session = interaction.client, signed_in.session
    if not client.backchannel_logout_uri or client.client_id in session.backchannel_clients or not session.generation:
        return []
    joining = {"backchannel_clients": frozenset({client.client_id})}
    active = attr("ended_at").not_exists()
    return [interaction.server.store.sessions.changing((session.session_id,), active, add=joining)]


def _remember_consent(interaction: Interaction, user: User) -> list[Write[Any]]:
    """Return the writes that remember what the request asks for, on the condition that nothing was ended in between.

    It is added to what is remembered already, also by another request at the same time.
    """
    store, client, request = interaction.server.store, interaction.client, interaction.request
    key, before = (user.sub, client.client_id), interaction.consent
    names = claims.requested_outside_scope(request.claims, request.scope)
    allowed = Consent(
        *key,
        scope=request.scope_of_no_resource,
        claims=names,
        resource_scope=request.resource_scope,
        updated_at=interaction.server.now(),
        generation=before.generation if before else 0,
        consents_generation=user.consents_generation,
        registration_id=client.registration_id,
        client_generation=client.grants_generation,
        document_digest=client.document_digest,
    )
    copies = ("consents_generation", "registration_id", "client_generation", "document_digest")
    if before and any(getattr(before, name) != getattr(allowed, name) for name in copies):
        remembering = store.consents.rewriting(before, allowed)  # what it remembers was ended, and is replaced
    else:
        same = store.consents.unchanged(allowed, "generation", *copies)
        set_ = {name: value for name in ("updated_at", *copies) if (value := getattr(allowed, name)) is not None}
        added = {name: value for name in ("scope", "claims", "resource_scope") if (value := getattr(allowed, name))}
        remembering = store.consents.changing(key, same, set_, add=added, create=True)
    of_user = store.users.unchanged(user, "grants_generation", "consents_generation")
    return [store.users.checking((user.sub,), of_user), remembering]


def _new_grant(interaction: Interaction, signed_in: SignedInUser) -> Grant:
    server, client, request = interaction.server, interaction.client, interaction.request
    now, code_expires_at, expires_at = code_times(interaction)
    return Grant(
        grant_id=new_id(),
        client_id=client.client_id,
        sub=signed_in.user.sub,
        session_id=signed_in.session.session_id,
        session_stored=signed_in.session.generation > 0,
        registration_id=client.registration_id,
        client_generation=client.grants_generation,
        user_generation=signed_in.user.grants_generation,
        sessions_generation=signed_in.session.sessions_generation,
        consent_generation=interaction.consent.generation if interaction.consent else 0,
        redirect_uri=request.redirect_uri,
        redirect_uri_sent=request.redirect_uri_sent,
        scope=request.scope,
        auth_time=authenticated_at(signed_in.session),
        amr=signed_in.session.amr,
        created_at=now,
        code_expires_at=code_expires_at,
        expires_at=expires_at,
        ends_at=now + max_refresh_lifetime(server, client),
        nonce=request.nonce,
        code_challenge=request.code_challenge,
        dpop_jkt=request.dpop_jkt,
        claims=request.claims,
        resource=request.resource,
        resource_scope=request.resource_scope,
        authorization_details=request.authorization_details,
        device=history.device(interaction.http),
    )
