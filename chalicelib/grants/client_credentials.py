"""grant_type=client_credentials (RFC 6749 section 4.4): a client asks for itself. There is no person in it."""

from typing import Any

from chalicelib import audit, resources, tokens
from chalicelib.authorization_request import scope_tokens
from chalicelib.claims import SCOPES
from chalicelib.errors import InvalidScope, UnauthorizedClient
from chalicelib.handles import new_id
from chalicelib.messages import Params, Request
from chalicelib.models import Client, Grant
from chalicelib.server import AuthorizationServer


def redeem(server: AuthorizationServer, http: Request, client: Client, form: Params) -> dict[str, Any]:
    """An access token, and nothing else, for what the client may do in its own name.

    It comes of a grant like any other, so it can be introspected and revoked. Raises UnauthorizedClient for a public
    client, InvalidScope for a scope that is not its own, or is about a person, InvalidTarget for an unknown resource.
    """
    if client.public:
        raise UnauthorizedClient("Only a client that can keep a secret may ask for itself.")
    text = form.one("scope", at_most=4096)
    own = client.scopes - set(SCOPES)
    scope = client.default_scopes & own if text is None else scope_tokens(text)
    if not scope:
        raise InvalidScope("Name a scope: this client has no default of its own.")
    if not scope <= own:
        raise InvalidScope("Not for a client itself: " + " ".join(sorted(scope - own)))
    now = server.now()
    end = now + tokens.access_token_lifetime(server, client)
    grant = Grant(
        grant_id=new_id(),
        client_id=client.client_id,
        sub=client.client_id,  # RFC 9068 section 2.2
        session_id="",
        redirect_uri="",
        redirect_uri_sent=False,
        auth_time=0,
        amr=(),
        created_at=now,
        code_expires_at=now,
        redeemed_at=now,
        expires_at=end,
        ends_at=end,
        scope=scope,
        resource=resources.registered(server, form),
    )
    server.store.grants.insert(grant)
    members = tokens.issue(server, client, grant, scope)
    audit.note(http, audit.TOKEN_ISSUED, sub=client.client_id)
    return members
