"""Pushed authorization requests (RFC 9126): the client sends the request itself, and the browser only its reference.

It is a stored request whose handle is in a `request_uri`. The first browser that opens it can reload its page, and go
back to it, until it is answered.
"""

from dataclasses import replace
from typing import Any

from chalicelib.authorization.recipient import read_recipient, require_client_id
from chalicelib.authorization.request import ended, read_request
from chalicelib.authorization.request_object import SentRequest
from chalicelib.authorization.stored_request import store_unauthenticated
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.dpop import USED_BEFORE
from chalicelib.protocol.errors import InvalidDpopProof, InvalidRequest
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer
from chalicelib.tokens.dpop import record_id

PREFIX = "urn:ietf:params:oauth:request_uri:"


def push(server: AuthorizationServer, http: Request, params: Params, client: Client) -> str:
    """Check and store a request of a client that has authenticated; return its `request_uri`.

    Its code is bound to the key of the DPoP proof, if there is one (RFC 9449 section 10.1). A proof is for one request.
    Raises the OAuthError for the client, of which nothing is redirected.
    """
    if params.get("request_uri"):
        raise InvalidRequest("A request that is pushed has no request_uri (RFC 9126 section 2.1).")
    params = params.replaced("client_id", client.client_id)
    for credential in ("client_secret", "client_assertion"):
        params = params.replaced(credential, None)
    sent = SentRequest(params)
    request = read_request(server, sent, read_recipient(server, http, sent), pushed=True)
    if http.proof and request.dpop_jkt not in (None, http.proof.jkt):
        raise InvalidRequest("The dpop_jkt is not the thumbprint of the key of the DPoP proof.")
    if http.proof:
        request = replace(request, request_id=record_id(server, client, http.proof), dpop_jkt=http.proof.jkt)
    authenticated = not client.public and client.document is None  # anyone can publish a document
    if not store_unauthenticated(server, http, params, request, authenticated=authenticated):
        raise InvalidDpopProof(USED_BEFORE)
    return PREFIX + server.keys.make_handle("req", request.request_id)


def is_pushed(params: Params) -> bool:
    """Return whether an authorization request refers to a pushed one; a malformed reference is rejected later."""
    return (params.raw("request_uri") or "").startswith(PREFIX)


def read_pushed_request(server: AuthorizationServer, http: Request) -> AuthorizationRequest:
    """Return the pushed request that a query refers to, which becomes the query of a stored request.

    Other parameters are ignored (RFC 9126 section 4). Raises RequestEnded when there is none, or another client has
    pushed it, and InvalidRequest without a `client_id`.
    """
    client_id, text = require_client_id(http.query), http.query.require("request_uri")
    text = text.removeprefix(PREFIX)
    handle = server.keys.read_handle("req", text)
    request = server.store.requests.get(handle.id) if handle else None
    if request is None or not request.pushed or request.client_id != client_id:
        raise ended(None)
    http.query = Params([("request_uri", text)])
    return request


def lifetime_when_opened(server: AuthorizationServer, request: AuthorizationRequest) -> dict[str, Any]:
    """Return the changed members of a request that a browser opens: of a pushed one, the time that its user has."""
    return {"expires_at": server.now() + server.settings.request_lifetime} if request.pushed else {}
