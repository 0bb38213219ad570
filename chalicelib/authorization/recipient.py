"""Who gets the answer to an authorization request, and where it is sent.

Until the recipient is known, an error is shown on a page and never redirected (RFC 6749 section 4.1.2.1).
"""

from urllib.parse import quote_plus

from chalicelib import pages
from chalicelib.authorization.request_object import SentRequest
from chalicelib.builtin_clients import ACCOUNT
from chalicelib.clients.document_cache import DocumentUnusable
from chalicelib.clients.documents import find_client
from chalicelib.http.messages import CONTROL, Params, Request
from chalicelib.protocol import redirect_uris, response_types
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import MAX_URL
from chalicelib.protocol.errors import InvalidRequest
from chalicelib.protocol.recipient import Recipient
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer

MAX_STATE = 4096  # bytes
# A redirect carries the state in a header field, which gateways limit.
MAX_ENCODED_STATE = 8192
MAX_SHOWN = 300  # characters of a redirect_uri on an error page and in the log


def find_recipient(server: AuthorizationServer, http: Request, sent: SentRequest) -> Recipient:
    """Return the client that asks and its redirect URI; errors of this HTTP request are sent to it from now on.

    Raises InvalidRequest, which is shown on a page: there is no recipient yet to send it to.
    """
    recipient = read_recipient(server, http, sent)
    set_recipient(http, recipient)
    return recipient


def read_recipient(server: AuthorizationServer, http: Request, sent: SentRequest) -> Recipient:
    """Return the client that asks, which `http.client` becomes, and its redirect URI. Raises InvalidRequest."""
    client_id, params = require_client_id(sent.params), sent.apparent
    pages.prefer_languages(http, params)
    redirect_uri = params.get("redirect_uri")

    def accept(client: Client) -> bool:
        return redirect_target(client, redirect_uri) is not None

    try:
        client = find_client(server, http, client_id, accept, authorizing=True)
    except DocumentUnusable as error:
        raise _unknown_client(server, client_id, str(error)) from error
    target = redirect_target(client, redirect_uri) if client else None
    if client is None or target is None:
        raise _unknown_recipient(server, client_id, redirect_uri)
    http.client = client
    is_openid = "openid" in (params.raw("scope") or "").split(" ")
    if redirect_uri is None and (is_openid or (client.profile and "request" not in params)):
        # OpenID Connect Core section 3.1.2.1, FAPI 2.0 Security Profile section 5.3.2.2, clause 6: REQUIRED
        raise InvalidRequest("This request must name its redirect_uri.", code="redirect_uri_missing")
    # Send errors with the response_mode and state that the client asked for.
    response_type, response_mode = _readable(params, "response_type"), _readable(params, "response_mode")
    response_mode = response_types.error_response_mode(response_type, response_mode, target)
    state = _state_for_errors(params, response_mode)
    return Recipient(client, target, sent=redirect_uri is not None, state=state, response_mode=response_mode)


def require_client_id(params: Params) -> str:
    """Return the client_id of a request: at most 128 characters, or the URL of a document. Raises InvalidRequest."""
    is_url = (params.raw("client_id") or "").startswith("https://")
    return params.require("client_id", at_most=MAX_URL if is_url else 128)


def _unknown_client(server: AuthorizationServer, client_id: str, detail: str = "") -> InvalidRequest:
    """Return the error for a client_id, the same for every document that cannot be used."""
    if not client_id.startswith("https://") or server.settings.client_documents == "off":
        return InvalidRequest("There is no application with this client_id.", code="unknown_client")
    return InvalidRequest(
        "The document at this client_id cannot be used.", code="client_document_unusable", detail=detail
    )


def _unknown_recipient(server: AuthorizationServer, client_id: str, redirect_uri: str | None) -> InvalidRequest:
    if server.client(client_id) is None:
        return _unknown_client(
            server, client_id, "no such client, or the document is malformed, not allowed or blocked"
        )
    if redirect_uri is None:
        return InvalidRequest(
            "The redirect_uri is missing, and the application has registered several.", code="redirect_uri_missing"
        )
    shown = redirect_uri[:MAX_SHOWN]
    return InvalidRequest(
        f"The redirect_uri is not one that the application has registered: {shown}",
        code="redirect_uri_mismatch",
        detail=f"client {client_id} sent redirect_uri {shown}",
    )


def set_recipient(http: Request, recipient: Recipient) -> None:
    """Send errors of this HTTP request to the recipient from now on.

    Errors for the account page are shown instead: a redirect would end in a loop.
    """
    if recipient.client.client_id != ACCOUNT:
        http.recipient = recipient


def set_recipient_of(http: Request, client: Client, request: AuthorizationRequest) -> None:
    """Send errors of this HTTP request to the recipient of a stored request from now on."""
    http.ui_locales = request.ui_locales
    set_recipient(http, Recipient.of(client, request))


def redirect_target(client: Client, redirect_uri: str | None) -> str | None:
    """Return where the answer may go for the redirect_uri of a request, or None if it is not registered.

    Without a redirect_uri it is the client's default, or its only one.
    """
    if redirect_uri is None:
        only = client.redirect_uris[0] if len(client.redirect_uris) == 1 else None
        return client.default_redirect_uri or only
    if redirect_uri in client.redirect_uris:
        return redirect_uri
    loopback = any(redirect_uris.matches(registered, redirect_uri) for registered in client.redirect_uris)
    return redirect_uri if loopback else None


def read_state(params: Params) -> str | None:
    """Return the `state` of a request, or None without one. Raises InvalidRequest for one that is not accepted."""
    state = params.get("state", at_most=MAX_STATE, at_most_encoded=MAX_ENCODED_STATE)
    if state is not None and len(state.encode()) > MAX_STATE:
        raise InvalidRequest(f"The parameter state is longer than {MAX_STATE} bytes.")
    return state


def _state_for_errors(params: Params, response_mode: str) -> str | None:
    """Return the `state` as it was sent, also one that is not accepted: with it the client knows its request.

    None if there are different ones, or it cannot be sent: it is too long, is not Unicode, or has control characters,
    which a form would change.
    """
    values = params.different("state")
    state = values.pop() if len(values) == 1 else ""
    try:
        fits = len(quote_plus(state)) <= MAX_ENCODED_STATE
    except UnicodeEncodeError:  # a lone surrogate
        return None
    exact = response_mode != "form_post" or CONTROL.search(state) is None
    return state if state and fits and exact else None


def _readable(params: Params, name: str) -> str | None:
    """Return a parameter, or None when it is malformed, which `read_request` rejects later."""
    try:
        return params.get(name)
    except InvalidRequest:
        return None
