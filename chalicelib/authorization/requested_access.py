"""What an authorization request asks for by resources (RFC 8707) and authorization details (RFC 9396)."""

from chalicelib.http.messages import Params
from chalicelib.protocol.authorization_details import types_in
from chalicelib.protocol.client import Client
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import resources
from chalicelib.tokens.authorization_details import read_details
from chalicelib.tokens.resources import Resources


def read_access(
    server: AuthorizationServer, client: Client, params: Params, scope: frozenset[str]
) -> tuple[Resources, frozenset[str], tuple[str, ...]]:
    """Return the resources of a request, the scope that can be granted for them, and the authorization details.

    The resources of the details are among them, and do not limit the scope (RFC 9396 section 3.1). Raises
    InvalidAuthorizationDetails, and as `resources.grantable`.
    """
    details = read_details(server, client, params)
    named = resources.parse_resources(params)
    targets, allowed = resources.grantable(server, client, named, scope, frozenset(details.resources))
    return Resources({**details.resources, **targets.by_uri}), allowed, details.texts


def may_ask(client: Client, request: AuthorizationRequest) -> bool:
    """Return whether a client, as it is registered now, may have the scope and the details of a stored request."""
    types = types_in(request.authorization_details)
    return request.scope <= client.scopes and types <= client.details_types
