"""What a request demands of the sign-in: by the server's setting, its client, its scopes and its own parameters."""

from chalicelib.protocol.authentication_context import Demand
from chalicelib.protocol.client import Client
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer


def demand_of(server: AuthorizationServer, client: Client, request: AuthorizationRequest) -> Demand:
    """Return what a request demands. One read for scopes of the operator that this process has not read recently."""
    of_scopes = [scope.acr for scope in server.own_scopes(request.scope).values() if scope.acr]
    return server.settings.authentication_policy.demand(request, client, of_scopes)
