"""/oauth2/authorize: the authorization endpoint (RFC 6749 section 3.1, OpenID Connect Core section 3.1.2)."""

from dataclasses import replace

from chalicelib import login_application, sessions
from chalicelib.authorization import answer_errors, proceed, waiting
from chalicelib.authorization_request import Recipient, read, recipient, still_waiting
from chalicelib.dynamodb import attr
from chalicelib.errors import RequestEnded
from chalicelib.messages import Request, Response
from chalicelib.models import AuthorizationRequest
from chalicelib.server import AuthorizationServer
from chalicelib.table import Refused


def get(server: AuthorizationServer, http: Request) -> Response:
    """A new authorization request, or, by its handle in `request_uri`, one that is stored."""
    handle = server.keys.read_handle("req", http.query.raw("request_uri"))
    if handle and http.query.one("request_uri"):
        return _continue(server, http, handle.id)
    to = recipient(server, http, http.query)

    def answer() -> Response:
        request = read(server, http.query, to)
        person, consent, _ = sessions.current(server, http, to.client.client_id)
        return proceed(server, http, to.client, request, person, consent)

    return answer_errors(server, http, to, answer)


def post(server: AuthorizationServer, http: Request) -> Response:
    """The same request in a body: stored, then continued by GET, for a cross-site POST carries no Lax cookie."""
    form = http.form()
    to = recipient(server, http, form)

    def answer() -> Response:
        request = read(server, form, to)
        server.store.requests.put(request)
        return waiting(server, http, request)

    return answer_errors(server, http, to, answer)


def _continue(server: AuthorizationServer, http: Request, request_id: str) -> Response:
    request, client = still_waiting(server, http, server.store.requests.get(request_id))
    request, new_browser = _bind(server, http, request)
    to = Recipient.of(client, request)

    def answer() -> Response:
        person, consent, _ = sessions.current(server, http, client.client_id)
        posted = login_application.take(server, http, client, request, person) if request.answer else None
        return posted or proceed(server, http, client, request, person, consent)

    return answer_errors(server, http, to, answer).add(new_browser)


def _bind(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest
) -> tuple[AuthorizationRequest, dict[str, str]]:
    """The request, bound to this browser by the first GET that brings its handle. Raises RequestEnded in any other."""
    browser_id, new_browser = sessions.browser(server, http)
    if request.browser_id is None:
        unbound = attr("browser_id").not_exists()
        bound = server.store.requests.transition((request.request_id,), unbound, {"browser_id": browser_id})
        if not isinstance(bound, Refused):
            return bound, new_browser
        request = bound.record or replace(request, browser_id="")
    if request.browser_id != browser_id:
        raise RequestEnded("This request was started in another browser.", code="wrong_browser")
    return request, new_browser
