"""/oauth2/token: the token endpoint (RFC 6749 section 3.2), and what all grant types have in common."""

from chalicelib.clients.authentication import authenticate_client
from chalicelib.clients.client_lifetime import keep_client
from chalicelib.grants import GRANTS
from chalicelib.http.messages import Request, Response, json_response
from chalicelib.protocol.errors import UnauthorizedClient, UnsupportedGrantType
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import dpop, mutual_tls


def post(server: AuthorizationServer, http: Request) -> Response:
    """Answer a token request. The body is a form, or a JSON object of strings."""
    form = http.form(json_allowed=True)
    client = authenticate_client(server, http, form)
    grant_type = form.require("grant_type")
    if grant_type not in GRANTS:
        raise UnsupportedGrantType("The grant_type must be one of: " + ", ".join(GRANTS))
    if grant_type not in client.grant_types:
        raise UnauthorizedClient("The client is not registered for this grant_type.")
    http.proof = dpop.read_proof(server, http, client)
    http.x5t = mutual_tls.bound_certificate(server, http, client)
    members = GRANTS[grant_type](server, http, client, form)
    keep_client(server, client)
    return json_response(members)
