"""Between the first factor and the second one: there is no session, only the request, which knows who is waiting.

The request is stored and bound to its browser. For five minutes it says which user has proved the first one, with
copies of the user's generations, so that a new password or an ending of the sessions ends this too. Once the second
factor is proved it is marked as used, in the transaction that starts the session.
"""

from dataclasses import replace
from typing import Any

from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.request import ended
from chalicelib.authorization.screens import redirect_to_request
from chalicelib.authorization.stored_request import stored_for, storing
from chalicelib.http.messages import Response
from chalicelib.protocol.authentication_context import BY_PASSWORD
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import AuthorizationRequest, User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import identify_browser
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Lookup, Write

WAITS_FOR = 5 * MINUTE
_GENERATIONS = ("sessions_generation", "password_generation")


def ask_for_second_factor(
    interaction: Interaction,
    user: User,
    writes: tuple[Write[Any], ...],
    *,
    amr: tuple[str, ...] = BY_PASSWORD,
    in_unknown_browser: bool = False,
) -> Response:
    """Return the redirect to the page that asks for the second factor, after the first one, in a POST.

    One transaction with `writes`, which check that the first factor is still valid. `amr`: the methods of that one.
    `in_unknown_browser`: whether the user is told of a sign-in in a browser that is not known. Raises RequestEnded when
    the request was answered in between, or one of `writes` is refused.
    """
    server, http, request, store = interaction.server, interaction.http, interaction.request, interaction.server.store
    members = waiting_members(server, user, amr, in_unknown_browser=in_unknown_browser)
    if request.stored:
        unanswered = attr("taken_at").not_exists() & attr("browser_id").eq(request.browser_id)
        changes = {"waiting": members, "keep_signed_in": bool(request.keep_signed_in)}
        changes |= {"offer_passkey": True} if request.offer_passkey else {}
        waiting = store.requests.changing((request.request_id,), unanswered, changes)
    else:
        request = replace(stored_for(server, request, identify_browser(server, http)[0]), waiting=members)
        waiting = storing(server, request)
    if refused := store.transact(waiting, *writes):
        refusal = refused.of(waiting)
        raise ended(refusal.record if refusal else None)
    return redirect_to_request(replace(interaction, request=request))


def waiting_members(
    server: AuthorizationServer, user: User, amr: tuple[str, ...] = BY_PASSWORD, *, in_unknown_browser: bool = False
) -> dict[str, Any]:
    """Return what a request keeps of a user who has proved the first factor, by the methods `amr`."""
    members = {"id": new_id(), "sub": user.sub, "at": server.now(), "amr": amr}
    members |= {name: getattr(user, name) for name in _GENERATIONS}
    return members | ({"unknown_browser": True} if in_unknown_browser else {})


def lookups_of_waiting(server: AuthorizationServer, request: AuthorizationRequest | None) -> tuple[Lookup[User], ...]:
    """Return the lookup of the user who is waiting, if there is one."""
    waits = request is not None and "sub" in request.waiting and "used" not in request.waiting
    return (server.store.users.lookup(request.waiting["sub"]),) if request and waits else ()


def waiting_user(server: AuthorizationServer, request: AuthorizationRequest, user: User | None) -> User | None:
    """Return the user who must still prove the second factor; None once that is not possible any longer.

    `user`: the record of `lookups_of_waiting`.
    """
    waiting = request.waiting
    if user is None or waiting.get("sub") != user.sub or "used" in waiting or user.disabled_at is not None:
        return None
    if user.is_gone(server.now()):
        return None
    if any(waiting[name] != getattr(user, name) for name in _GENERATIONS):
        return None
    is_recent = server.now() - waiting["at"] < WAITS_FOR
    return user if is_recent and server.settings.authentication_policy.asks_for_code(user) else None


def using(server: AuthorizationServer, request: AuthorizationRequest) -> Write[AuthorizationRequest]:
    """Return the write that ends the waiting, because the second factor was proved. It is refused the second time."""
    same = attr("waiting.id").eq(request.waiting["id"]) & attr("waiting.used").not_exists()
    return server.store.requests.changing((request.request_id,), same, {"waiting.used": server.now()})


def stop_waiting(server: AuthorizationServer, request: AuthorizationRequest) -> AuthorizationRequest:
    """Forget who is waiting, so that another user can sign in; return the request."""
    same = attr("waiting.id").eq(request.waiting["id"])
    server.store.requests.transition((request.request_id,), same, remove=("waiting",))
    return replace(request, waiting={})
