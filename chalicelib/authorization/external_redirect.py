"""The redirect to the operator's login application, which asks the user in place of our pages."""

from typing import Any

from chalicelib.authorization.request import ended
from chalicelib.http.messages import Request, Response, redirect, with_query
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused


def ask_externally(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest, asked_sub: str | None
) -> Response:
    """Return the redirect to the login application.

    The stored request says who is asked for consent, None to sign in. Raises RequestEnded once it has been answered.
    """
    if request.asked_sub != asked_sub:
        changes: dict[str, Any] = {"asked_sub": asked_sub} if asked_sub else {}
        remove = () if asked_sub else ("asked_sub",)
        unanswered = attr("taken_at").not_exists()
        changed = server.store.requests.transition((request.request_id,), unanswered, changes, remove)
        if isinstance(changed, Refused):
            raise ended(changed.record)
    handle = server.keys.make_handle("req", request.request_id)
    return redirect(http, with_query(server.settings.login_url or "", {"request_uri": handle}))
