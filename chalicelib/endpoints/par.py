"""/oauth2/par: the pushed authorization request endpoint (RFC 9126 section 2)."""

from chalicelib.authorization.pushed_request import push
from chalicelib.authorization.request import PUSHED_LIFETIME
from chalicelib.clients.authentication import authenticate_client
from chalicelib.http.messages import Request, Response, json_response
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import dpop


def post(server: AuthorizationServer, http: Request) -> Response:
    """Store an authorization request of a client that authenticates, and return the reference to it."""
    form = http.form()
    client = authenticate_client(server, http, form)
    if http.header("dpop") is not None:
        http.proof = dpop.verify_proof(server, http, client)
    return json_response({"request_uri": push(server, http, form, client), "expires_in": PUSHED_LIFETIME}, 201)
