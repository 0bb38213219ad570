"""/oauth2/authorize: the authorization endpoint (RFC 6749 section 3.1, OpenID Connect Core section 3.1.2)."""

from dataclasses import replace

from chalicelib.authorization.external_login import take_answer
from chalicelib.authorization.flow import proceed
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.recipient import find_recipient, set_recipient_of
from chalicelib.authorization.request import read_request, require_unanswered
from chalicelib.authorization.screens import redirect_to_request
from chalicelib.http.messages import Request, Response
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import identify_browser, read_browser
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused


def get(server: AuthorizationServer, http: Request) -> Response:
    """Answer a new authorization request, or a stored one, whose handle is in `request_uri`."""
    handle = server.keys.read_handle("req", http.query.raw("request_uri"))
    if handle and http.query.get("request_uri"):
        return _continue(server, http, handle.id)
    recipient = find_recipient(server, http, http.query)
    request = read_request(server, http.query, recipient)
    browser = read_browser(server, http, client_id=recipient.client.client_id)
    return proceed(Interaction(server, http, recipient.client, request, browser.signed_in, browser.consent))


def post(server: AuthorizationServer, http: Request) -> Response:
    """Store the same request in a body, and continue by GET: a cross-site POST carries no Lax cookie."""
    form = http.form()
    request = read_request(server, form, find_recipient(server, http, form))
    server.store.requests.put(request)
    return redirect_to_request(server, http, request)


def _continue(server: AuthorizationServer, http: Request, request_id: str) -> Response:
    request, client = require_unanswered(server, http, server.store.requests.get(request_id))
    request, http.answer_headers = _bind(server, http, request)
    set_recipient_of(http, client, request)
    browser = read_browser(server, http, client_id=client.client_id)
    interaction = Interaction(server, http, client, request, browser.signed_in, browser.consent)
    answered = take_answer(interaction) if request.answer else None
    return answered or proceed(interaction)


def _bind(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest
) -> tuple[AuthorizationRequest, dict[str, str]]:
    """Return the request, bound to this browser by the first GET with its handle, and the browser's new cookie.

    Raises RequestEnded in any other browser.
    """
    browser_id, browser_cookie = identify_browser(server, http)
    if request.browser_id is None:
        unbound = attr("browser_id").not_exists()
        bound = server.store.requests.transition((request.request_id,), unbound, {"browser_id": browser_id})
        if not isinstance(bound, Refused):
            return bound, browser_cookie
        request = bound.record or replace(request, browser_id="")
    if request.browser_id != browser_id:
        raise RequestEnded("This request was started in another browser.", code="wrong_browser")
    return request, browser_cookie
