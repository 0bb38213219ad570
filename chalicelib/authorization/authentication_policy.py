"""What a request demands of the sign-in: by the server's setting, its client, its scopes and its own parameters."""

from chalicelib.authorization.interaction import Interaction
from chalicelib.builtin_clients import ACCOUNT
from chalicelib.protocol.authentication_context import PASSKEY, TWO_FACTORS, Demand, level
from chalicelib.protocol.client import Client
from chalicelib.protocol.records import AuthorizationRequest, User
from chalicelib.server import AuthorizationServer


def demand_of(server: AuthorizationServer, client: Client, request: AuthorizationRequest) -> Demand:
    """Return what a request demands. One read for scopes of the operator that this process has not read recently."""
    of_scopes = [scope.acr for scope in server.own_scopes(request.scope).values() if scope.acr]
    return server.settings.authentication_policy.demand(request, client, of_scopes, server.now())


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
    if not server.settings.authentication_policy.asks_for_code(user):
        return False
    required = demand_of(server, client, interaction.request).required
    if required == PASSKEY:
        return not interaction.passkeys_of(user.sub)
    if interaction.waiting is not None or interaction.signed_in is None:
        return True
    return level(interaction.signed_in.session.amr) < TWO_FACTORS  # else only a passkey leads further


def prefers_passkey(interaction: Interaction) -> bool:
    """Return whether a request asks for a passkey, but can be answered without one."""
    demand = demand_of(interaction.server, interaction.client, interaction.request)
    return (
        demand.required < PASSKEY
        and demand.level_for(interaction.server.settings.authentication_policy.highest) == PASSKEY
    )


def may_decline_preference(interaction: Interaction) -> bool:
    """Return whether the signed-in user can continue without the level that a request only prefers."""
    signed_in = interaction.signed_in
    if signed_in is None or interaction.waiting is not None:
        return False
    required = demand_of(interaction.server, interaction.client, interaction.request).required
    return level(signed_in.session.amr) >= required


def may_decline_enrolment(interaction: Interaction) -> bool:
    """Return whether the signed-in user can set up a second factor later: it is required of all users, but not yet."""
    server = interaction.server
    return server.settings.authentication_policy.asks_to_enrol(server.now()) and may_decline_preference(interaction)
