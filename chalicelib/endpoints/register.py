"""/oauth2/register: dynamic client registration (RFC 7591) and its management (RFC 7592).

Any page may read the responses, because applications in browsers register themselves. Cookies have no meaning here.
"""

from typing import Any

from chalicelib import events
from chalicelib.clients import dynamic_registration as registration
from chalicelib.clients import registration_limits as limits
from chalicelib.clients.registration_body import read_body
from chalicelib.http.addresses import network_of
from chalicelib.http.messages import NO_STORE, Request, Response, json_response
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import NotFound
from chalicelib.server import AuthorizationServer


def post(server: AuthorizationServer, http: Request) -> Response:
    """Register a client. A request that is rejected for its body is not counted."""
    if server.settings.client_registration == "off":
        raise NotFound("Applications cannot register themselves at this server.")
    handle = limits.read_token(server, http.credentials("bearer") or None)
    body = read_body(http)
    client, members = registration.new_client(server, body)
    if handle:
        client = limits.store_with_token(server, handle, client)
    else:
        limits.count_open(server, network_of(http.source_ip), _appearance(client, body))
        registration.store_new(server, client)
    http.client = client
    events.note(http, events.CLIENT_REGISTERED, detail=f"with {client.registered_with}")
    return json_response(members, 201)


def get(server: AuthorizationServer, http: Request) -> Response:
    """Return the registration of a client, without its secret, which is stored as a hash."""
    client, token = _authenticate(server, http)
    return json_response(registration.response_members(server, client, token))


def put(server: AuthorizationServer, http: Request) -> Response:
    """Replace the registration of a client."""
    client, token = _authenticate(server, http)
    http.client, members = registration.update(server, client, token, read_body(http))
    events.note(http, events.CLIENT_UPDATED)
    return json_response(members)


def delete(server: AuthorizationServer, http: Request) -> Response:
    """Delete a client."""
    client, token = _authenticate(server, http)
    registration.delete(server, client, token)
    events.note(http, events.CLIENT_DELETED)
    return Response(204).add({"Content-Type": "text/plain; charset=utf-8", **NO_STORE})


def _authenticate(server: AuthorizationServer, http: Request) -> tuple[Client, str]:
    """Return the client of a management request, and the registration access token."""
    token = http.credentials("bearer") or None
    client = registration.authenticate(server, http.query.get("client_id"), token)
    http.client = client
    return client, token or ""


def _appearance(client: Client, body: dict[str, Any]) -> str:
    """Return what a client is told apart by from others of its network."""
    return repr((client.redirect_uris, client.client_name, body.get("software_id")))
