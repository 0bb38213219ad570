"""/oauth2/revoke: token revocation (RFC 7009)."""

from dataclasses import replace

from chalicelib import audit, history
from chalicelib.client_auth import authenticate_client
from chalicelib.dynamodb import attr
from chalicelib.errors import InvalidGrant, InvalidToken
from chalicelib.messages import Params, Request, Response, json_response
from chalicelib.server import AuthorizationServer
from chalicelib.table import Refused
from chalicelib.tokens import ACCESS_TOKEN_TYPE


def post(server: AuthorizationServer, http: Request) -> Response:
    """Ends the grant that a refresh or access token came from, all its tokens with it (RFC 7009 section 2.1).

    An unknown or ended token is a success (section 2.2). Another client's token is left alone: InvalidGrant.
    """
    form = http.form(json_allowed=True)
    client = authenticate_client(server, http, form)
    grant_id = _grant_id(server, form)
    if grant_id:
        living = attr("client_id").eq(client.client_id) & attr("revoked_at").not_exists()
        revoked = server.store.grants.transition((grant_id,), living, {"revoked_at": server.now()})
        if not isinstance(revoked, Refused):
            audit.note(http, audit.TOKEN_REVOKED, sub=revoked.sub)
            if revoked.session_id:  # a person's: they will see it on their account page
                event = history.by_request(server.store, http, revoked.sub, audit.TOKEN_REVOKED, client)
                server.store.events.put(replace(event, device=None, source_ip=None))
        elif revoked.record is not None and revoked.record.client_id != client.client_id:
            raise InvalidGrant("The token was issued to another client.")
    return json_response({})


def _grant_id(server: AuthorizationServer, form: Params) -> str | None:
    token = form.required("token", at_most=8192)
    form.one("token_type_hint")  # of no use: a handle is told from a JWT by its looks (section 2.1)
    handle = server.keys.read_handle("rt", token)
    if handle:
        return handle.id
    try:
        grant_id: str = server.keys.verify(token, ACCESS_TOKEN_TYPE, server.issuer)["grant_id"]
    except InvalidToken:
        return None
    return grant_id
