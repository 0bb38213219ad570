"""What a user who has just signed in is asked, and can decline: to add a passkey, and to set up a second factor.

A passkey is offered once to each user, after a sign-in without one. The sign-in page says whether the browser can add
one, so that no page is shown that leads nowhere. A second factor is offered at each sign-in before the day from which
it is required. Neither is ever offered for a request with `prompt=none`, or by HTTP Basic.
"""

from typing import Any

from chalicelib.authorization.authentication_policy import may_decline_enrolment
from chalicelib.authorization.interaction import Interaction
from chalicelib.builtin_clients import ACCOUNT
from chalicelib.protocol.authentication_context import DECLINED_ENROLMENT, ONE_FACTOR, level
from chalicelib.protocol.next_step import RECENT, RECENT_ELSEWHERE, SignedInUser, Step
from chalicelib.protocol.passkey import user_handle
from chalicelib.protocol.records import AuthorizationRequest, User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Write


def offered_step(interaction: Interaction) -> Step | None:
    """Return what is offered to the user before the request is answered. One call at most, where it decides."""
    signed_in = interaction.signed_in
    if signed_in is None or not _has_just_signed_in(interaction, signed_in):
        return None
    if _offers_passkey(interaction, signed_in):
        return Step.OFFER_PASSKEY
    return Step.ENROL_SECOND_FACTOR if _offers_second_factor(interaction, signed_in) else None


def _has_just_signed_in(interaction: Interaction, signed_in: SignedInUser) -> bool:
    """Return whether the user has signed in for this request, on a page, so that other pages can follow."""
    request, session = interaction.request, signed_in.session
    if request.answered or "none" in request.prompt or interaction.client.client_id == ACCOUNT:
        return False
    has_page = session.generation > 0 or interaction.http.method == "POST"  # HTTP Basic stores no session
    return has_page and session.request_id == request.request_id


def _offers_passkey(interaction: Interaction, signed_in: SignedInUser) -> bool:
    server, user, session = interaction.server, signed_in.user, signed_in.session
    if not interaction.request.offer_passkey or "pop" in session.amr:
        return False
    if level(session.amr) < server.settings.authentication_policy.reachable(user, session.amr):
        return False  # the user has set up a second factor since, without which no passkey is added
    offered_before = user.passkey_offered_at is not None and user.passkey_offered_at < session.auth_time
    is_recent = server.now() - session.auth_time <= RECENT_ELSEWHERE
    if offered_before or not is_recent or not _has_passkeys(server, user):
        return False
    return not interaction.passkeys_of(user.sub)


def _has_passkeys(server: AuthorizationServer, user: User) -> bool:
    """Return whether users of this server have passkeys, and this one can have some."""
    settings = server.settings
    return settings.mfa != "off" and settings.passkey_domain is not None and user_handle(user.sub) is not None


def _offers_second_factor(interaction: Interaction, signed_in: SignedInUser) -> bool:
    user, session = signed_in.user, signed_in.session
    if DECLINED_ENROLMENT in interaction.request.declined or not may_decline_enrolment(interaction):
        return False
    if user.has_second_factor or level(session.amr) > ONE_FACTOR:
        return False
    is_recent = interaction.server.now() - session.auth_time <= RECENT
    return is_recent and not interaction.passkeys_of(user.sub)


def keeping_offer(server: AuthorizationServer, request: AuthorizationRequest, user: User) -> tuple[Write[Any], ...]:
    """Return the write that lets a stored request keep what the browser can do; none for a user who was asked."""
    if not request.offer_passkey or user.passkey_offered_at is not None:
        return ()
    return (server.store.requests.changing((request.request_id,), None, {"offer_passkey": True}),)


def note_offered(server: AuthorizationServer, user: User) -> None:
    """Note that the user was asked to add a passkey. At most one write for each user, ever."""
    if user.passkey_offered_at is None:
        not_offered = attr("passkey_offered_at").not_exists()
        server.store.users.transition((user.sub,), not_offered, {"passkey_offered_at": server.now()})
