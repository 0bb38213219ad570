"""grant_type=client_credentials (RFC 6749 section 4.4): a client requests a token for itself, without a user."""

from typing import Any

from chalicelib import events
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.errors import InvalidScope, UnauthorizedClient
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Client
from chalicelib.protocol.scopes import SCOPES, parse_scope
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import issue as tokens
from chalicelib.tokens import resources


def redeem(server: AuthorizationServer, http: Request, client: Client, form: Params) -> dict[str, Any]:
    """Return a token response with an access token only.

    The token belongs to a grant, so that it can be introspected and revoked. Raises UnauthorizedClient for a public
    client, InvalidScope for a scope that is not registered or is about a user, InvalidTarget for an unknown resource.
    """
    if client.public:
        raise UnauthorizedClient("A public client cannot use client_credentials.")
    text = form.get("scope", at_most=4096)
    allowed = client.scopes - set(SCOPES)
    scope = client.default_scopes & allowed if text is None else parse_scope(text)
    if not scope:
        raise InvalidScope("Send a scope: this client has no default scope for client_credentials.")
    if not scope <= allowed:
        raise InvalidScope("Not available with client_credentials: " + " ".join(sorted(scope - allowed)))
    now = server.now()
    end = now + tokens.access_token_lifetime(server, client)
    grant = Grant(
        grant_id=new_id(),
        client_id=client.client_id,
        registration_id=client.registration_id,
        client_generation=client.grants_generation,
        redirect_uri_sent=False,
        auth_time=0,
        amr=(),
        created_at=now,
        code_expires_at=now,
        redeemed_at=now,
        expires_at=end,
        ends_at=end,
        scope=scope,
        resource=resources.parse_registered_resources(server, form),
    )
    server.store.grants.insert(grant)
    members = tokens.issue(server, client, grant, scope)
    events.note(http, events.TOKEN_ISSUED, sub=client.client_id)
    return members
