"""Signing in to an account that its user has deleted: no session starts, and the only offer is to restore it."""

from chalicelib import pages
from chalicelib.authorization.forms import query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.http.messages import Response, redirect
from chalicelib.protocol.records import User
from chalicelib.users import restoration


def offer_restoration(interaction: Interaction, user: User) -> Response:
    """Return the redirect to the page that restores the account, whose query leads on to the request."""
    server = interaction.server
    address = f"{pages.base(server.settings)}{restoration.PATH}?{query_of(interaction)}"
    return redirect(interaction.http, address).add(restoration.offer_cookie(server, user))
