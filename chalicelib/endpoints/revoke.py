"""/oauth2/revoke: token revocation (RFC 7009)."""

from dataclasses import replace

from chalicelib import events
from chalicelib.clients.authentication import authenticate_client
from chalicelib.events import history
from chalicelib.http.messages import Params, Request, Response, json_response
from chalicelib.protocol.errors import InvalidGrant, InvalidToken
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.revocation import revoke_grant
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from chalicelib.tokens.issue import ACCESS_TOKEN_TYPE, MAX_TOKEN


def post(server: AuthorizationServer, http: Request) -> Response:
    """Revoke the grant of a refresh or access token, with all its tokens (RFC 7009 section 2.1).

    An unknown or revoked token is a success (section 2.2). Raises InvalidGrant for another client's token, which stays
    valid.
    """
    form = http.form(json_allowed=True)
    client = authenticate_client(server, http, form)
    grant_id = _grant_id(server, form)
    if grant_id:
        grants = server.store.grants
        revoked = grants.write(revoke_grant(server.store, grant_id, attr("client_id").eq(client.client_id)))
        if not isinstance(revoked, Refused):
            events.note(http, events.TOKEN_REVOKED, sub=revoked.sub)
            if revoked.sub and revoked.has_user:  # they see it on their account page
                event = history.by_request(server.store, http, revoked.sub, events.TOKEN_REVOKED, client)
                server.store.events.put(replace(event, device=None, source_ip=None))
        elif revoked.record is not None and revoked.record.client_id != client.client_id:
            raise InvalidGrant("The token was issued to another client.")
    return json_response({})


def _grant_id(server: AuthorizationServer, form: Params) -> str | None:
    token = form.require("token", at_most=MAX_TOKEN)
    form.get("token_type_hint")  # not needed: a handle does not look like a JWT (section 2.1)
    handle = server.keys.read_handle("rt", token)
    if handle:
        return handle.id
    try:
        grant_id: str = server.keys.verify(token, ACCESS_TOKEN_TYPE, server.issuer)["grant_id"]
    except InvalidToken:
        return None
    return grant_id
