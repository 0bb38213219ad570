"""The page of an error, with links to what the user can do next."""

from chalicelib import pages
from chalicelib.authorization.forms import leads_to_request
from chalicelib.authorization.problems import address_of
from chalicelib.http.messages import Request, Response
from chalicelib.pages.explanations import explain
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import Forbidden, OAuthError
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import cookie_name

# Errors of a request that ended: the same request can be started again, or the user goes back to the application.
_ENDED = {"request_answered", "request_expired", "wrong_browser"}


def show(server: AuthorizationServer, http: Request, error: OAuthError) -> Response:
    """Return the page that explains an error."""
    of_this_server = not isinstance(error, Forbidden)  # behind a proxy, links to this address would be forbidden too
    page = pages.page(
        "error",
        server.settings,
        http,
        _here(server, http),
        explanation=explain(error.code),
        error=error,
        request_id=http.request_id,
        start_again=_start_again(server, http) if error.code in _ENDED else "",
        client=http.client or (_client(server, http) if error.code in _ENDED else None),
        account=of_this_server,
        # Without the keys, which cannot be read during every error.
        has_session=bool(http.cookie(cookie_name(server, "session"))),
        sign_out=of_this_server and http.path == server.addresses.get("end_session_endpoint"),
    )
    return pages.response(page, error.status).add(error.headers)


def _here(server: AuthorizationServer, http: Request) -> str:
    """Return the address that shows the error again, or the page with the form that was sent; "" for this address."""
    is_answer = http.path == "/oauth2/code" and leads_to_request(http.query)
    return address_of(server, http.query.encoded()) if is_answer else ""


def _start_again(server: AuthorizationServer, http: Request) -> str:
    """Return the address of the same request without its record, or "" if the query does not carry the request."""
    query = http.query.replaced("request_uri", None)
    return address_of(server, query.encoded()) if leads_to_request(query) else ""


def _client(server: AuthorizationServer, http: Request) -> Client | None:
    """Return the client of the request in the query, or of the record that its handle names; None if unknown."""
    try:
        client_id = http.query.raw("client_id")
        if not client_id:
            handle = server.keys.read_handle("req", http.query.raw("request_uri"))
            stored = server.store.request_clients.get(handle.id) if handle else None
            client_id = stored.client_id if stored else ""
        return server.client(client_id) if client_id else None
    except OAuthError:  # the page must be shown also without the database
        return None
