"""grant_type=client_credentials (RFC 6749 section 4.4): a client requests a token for itself, without a user."""

from typing import Any

from chalicelib import events
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.dpop import LIFETIME, USED_BEFORE
from chalicelib.protocol.errors import InvalidDpopProof, InvalidScope, UnauthorizedClient
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.scopes import SCOPES, parse_scope
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import dpop, resources
from chalicelib.tokens import issue as tokens
from chalicelib.tokens.authorization_details import read_details


def redeem(server: AuthorizationServer, http: Request, client: Client, form: Params) -> dict[str, Any]:
    """Return a token response with an access token only.

    The token belongs to a grant, so that it can be introspected and revoked; the insertion of the grant refuses a DPoP
    proof that was used before. Raises InvalidDpopProof then, and UnauthorizedClient for a public
    client, InvalidTarget for a resource that is unknown or not for this client, and InvalidScope when nothing is left
    of the scope. What is not registered, or is about a user, is left out, unless the client is registered with
    `strict_scope`: then it is an error.
    """
    if client.public:
        raise UnauthorizedClient("A public client cannot use client_credentials.")
    text = form.get("scope", at_most=4096)
    requested = client.default_scopes - SCOPES.keys() if text is None else parse_scope(text)
    details = read_details(server, client, form)
    if not requested and not details.texts:
        raise InvalidScope("Send a scope: this client has no default scope for client_credentials.")
    registered = tokens.registered_scope(server, client, requested)
    scope = registered - SCOPES.keys()
    if (requested and not scope) or (client.strict_scope and scope != requested):
        if unregistered := requested - registered:
            raise InvalidScope("The client is not registered for: " + " ".join(sorted(unregistered)))
        raise InvalidScope("Not available with client_credentials: " + " ".join(sorted(requested - scope)))
    named = resources.parse_resource(form)
    # An access token is for one resource: the one that is named, or else that of the details.
    detailed = frozenset(details.resources)
    asked_for = frozenset({named} if named else detailed if len(detailed) == 1 else ())
    targets, allowed = resources.grantable(server, client, asked_for, scope, detailed)
    now = server.now()
    end = now + tokens.access_token_lifetime(server, client, next(iter(targets.by_uri.values()), None))
    proof = http.proof
    grant = Grant(
        grant_id=dpop.record_id(server, client, proof) if proof else new_id(),
        client_id=client.client_id,
        registration_id=client.registration_id,
        client_generation=client.grants_generation,
        redirect_uri_sent=False,
        auth_time=0,
        amr=(),
        created_at=now,
        code_expires_at=now,
        redeemed_at=now,
        expires_at=max(end, now + LIFETIME) if proof else end,  # the record remembers the proof
        ends_at=end,
        scope=allowed,
        resource=frozenset(targets.by_uri),
        resource_scope=targets.named_in(allowed),
        authorization_details=details.texts or None,
    )
    jkt, only = proof.jkt if proof else None, details.texts or None
    # Issued before anything is stored, because the details may not be for the resource.
    members = tokens.issue(server, client, grant, allowed, jkt=jkt, x5t=http.x5t, details=only, types=details.types)
    if not server.store.grants.insert(grant) and proof:
        raise InvalidDpopProof(USED_BEFORE)
    events.note(http, events.TOKEN_ISSUED, sub=client.client_id)
    return members
