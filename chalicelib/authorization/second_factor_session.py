"""What follows a proved second factor: a new session, a higher level of the present one, or the offer to restore."""

from typing import Any

from chalicelib.authentication.password import remember_browser, remember_network
from chalicelib.authentication.sign_in_addresses import telling_user
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.restoration import offer_restoration
from chalicelib.authorization.second_factor import using
from chalicelib.authorization.second_factor_proof import Proved
from chalicelib.http.messages import Response
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import User
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.browser_sessions import CodeSpent
from chalicelib.sessions.step_up import step_up
from chalicelib.storage.table import Write


def start(interaction: Interaction, user: User, proved: Proved, digest: str) -> SignedInUser:
    """Sign in a user who was waiting. `digest`: of the form. Raises as `browser_sessions.start_session`."""
    server, http, request = interaction.server, interaction.http, interaction.request
    kept, writes = bool(request.keep_signed_in), _writes(interaction, user, proved)
    how = browser_sessions.SignIn(proved.amr, digest, proved.if_repeated, proved.of_user, kept)
    return browser_sessions.start_session(server, http, user, request.request_id, interaction.signed_in, writes, how)


def raise_session(interaction: Interaction, proved: Proved, digest: str) -> SignedInUser:
    """Raise the session of the signed-in user, as `step_up`."""
    assert interaction.signed_in  # noqa: S101  the caller has checked it
    server, http, signed_in = interaction.server, interaction.http, interaction.signed_in
    return step_up(server, http, signed_in, proved.of_user, proved.also, digest, proved.amr)


def restore(interaction: Interaction, user: User, proved: Proved) -> Response:
    """Use the proof up without a session, and offer to restore the account. Raises CodeSpent when it is refused."""
    if interaction.server.store.transact(proved.of_user, *_writes(interaction, user, proved)):
        raise CodeSpent
    return offer_restoration(interaction, user)


def _writes(interaction: Interaction, user: User, proved: Proved) -> tuple[Write[Any], ...]:
    server, http, request = interaction.server, interaction.http, interaction.request
    remembering = (*remember_browser(server, http, user, request.browser_id), *remember_network(server, http, user))
    is_noticed = server.settings.sign_in_notice and "unknown_browser" in request.waiting
    notice = telling_user(server, http, user) if is_noticed else ()
    return (using(server, request), *proved.also, *remembering, *notice)
