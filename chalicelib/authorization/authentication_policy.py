"""What a request demands of the sign-in: by the server's setting, its client, its scopes and its own parameters."""

from chalicelib.authorization.interaction import Interaction
from chalicelib.builtin_clients import ACCOUNT
from chalicelib.protocol.authentication_context import PASSKEY, Demand
from chalicelib.protocol.client import Client
from chalicelib.protocol.records import AuthorizationRequest, User
from chalicelib.server import AuthorizationServer


def demand_of(server: AuthorizationServer, client: Client, request: AuthorizationRequest) -> Demand:
    """Return what a request demands. One read for scopes of the operator that this process has not read recently."""
    of_scopes = [scope.acr for scope in server.own_scopes(request.scope).values() if scope.acr]
    return server.settings.authentication_policy.demand(request, client, of_scopes)


def has_passkey(interaction: Interaction, demand: Demand) -> bool:
    """Return whether the signed-in user has a passkey, if that decides the next step. One call at most.

    The account page does not prefer passkeys: a user who has lost one removes it there.
    """
    signed_in = interaction.signed_in
    if interaction.client.client_id == ACCOUNT:
        demand = Demand(demand.required)
    policy = interaction.server.settings.authentication_policy
    if signed_in is None or not policy.depends_on_passkeys(demand, signed_in.user, signed_in.session.amr):
        return False
    return bool(interaction.passkeys_of(signed_in.user.sub))


def accepts_code(interaction: Interaction, user: User) -> bool:
    """Return whether a code of the second factor leads on: not if the user has none, or must use a passkey."""
    server, client = interaction.server, interaction.client
    policy = server.settings.authentication_policy
    if not policy.asks_for_code(user):
        return False
    needed = demand_of(server, client, interaction.request).level_for(policy.highest)
    return needed < PASSKEY or not interaction.passkeys_of(user.sub)
