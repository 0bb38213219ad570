"""/oauth2/authorize: the authorization endpoint (RFC 6749 section 3.1, OpenID Connect Core section 3.1.2)."""

from dataclasses import replace

from chalicelib.authorization.external_login import take_answer
from chalicelib.authorization.flow import answer_again, proceed
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import address_of
from chalicelib.authorization.pushed_request import is_pushed, lifetime_when_opened, read_pushed_request
from chalicelib.authorization.recipient import set_recipient_of
from chalicelib.authorization.request import PARAMETERS, ended, receive_request, require_current, require_unanswered
from chalicelib.authorization.request_object import SentRequest
from chalicelib.authorization.second_factor import lookups_of_waiting, waiting_user
from chalicelib.authorization.stored_request import is_short, redirect_to_stored_request, store_unauthenticated
from chalicelib.http.messages import Request, Response, redirect
from chalicelib.protocol.errors import InvalidRequest, RequestEnded
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.protocol.response_types import transport_of
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import browser_id_of, identify_browser, read_browser
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused

# Parameters that say who the user is: not to be repeated in an address of this server.
PERSONAL = ("id_token_hint", "login_hint")


def get(server: AuthorizationServer, http: Request) -> Response:
    """Answer a new authorization request, or a stored one, whose handle is in `request_uri`.

    A stored request that has expired, or belongs to another browser, is started again if its query carries it. A pushed
    one (RFC 9126) has nothing else in its query, and is opened by its client only.
    """
    if is_pushed(http.query):
        return _continue(server, http, read_pushed_request(server, http), by_its_client=True)
    text = _own_request_uri(http)
    if text:
        handle = server.keys.read_handle("req", text)
        stored = server.store.requests.get(handle.id) if handle else None
        of_another = stored is not None and stored.browser_id not in (None, browser_id_of(server, http))
        if "client_id" not in http.query or (stored and not of_another):
            return _continue(server, http, stored)
        http.query = http.query.replaced("request_uri", None)
    request, client = receive_request(server, http, SentRequest(http.query))
    browser = read_browser(server, http, client_id=client.client_id)
    return proceed(Interaction(server, http, client, request, browser.signed_in, browser.consent))


def _own_request_uri(http: Request) -> str | None:
    """Return the `request_uri` if it looks like a handle of this server; a malformed one is rejected later."""
    try:
        text = http.query.get("request_uri") or ""
    except InvalidRequest:
        return None
    return text if text.startswith("req_") else None


def post(server: AuthorizationServer, http: Request) -> Response:
    """Continue by GET with the same request in a body: a cross-site POST carries no Lax cookie.

    A request that is too long for an address, or that says who the user is, is stored.
    """
    form = http.form()
    if is_pushed(form):
        return redirect(http, address_of(server, form.only("client_id", "request_uri").encoded()))
    request, _ = receive_request(server, http, SentRequest(form))
    sent = form.only("client_id", "request") if "request" in form else form.only(*PARAMETERS)
    names_user = any(name in form for name in PERSONAL) or any("sub" in names for names in request.claims.values())
    names_user = names_user or request.login_hint is not None or request.hinted_sub is not None
    if is_short(sent) and not names_user:
        return redirect(http, address_of(server, sent.encoded()))
    store_unauthenticated(server, http, form, request)
    return redirect_to_stored_request(server, http, request)


def _continue(
    server: AuthorizationServer, http: Request, stored: AuthorizationRequest | None, *, by_its_client: bool = False
) -> Response:
    if stored and stored.pushed and not stored.stored and not by_its_client:
        raise ended(None)
    if stored and stored.answered and transport_of(stored.response_mode) == "form_post":
        return _give_answer(server, http, stored)
    request, client = require_unanswered(server, http, stored)
    request, browser_cookie = _bind(server, http, request)
    http.answer_headers.append(browser_cookie)
    set_recipient_of(http, client, request)
    of_waiting = lookups_of_waiting(server, request)
    browser = read_browser(server, http, *of_waiting, client_id=client.client_id)
    waiting = waiting_user(server, request, browser.records.get(of_waiting[0])) if of_waiting else None
    interaction = Interaction(server, http, client, request, browser.signed_in, browser.consent, waiting)
    answered = take_answer(interaction) if request.answer else None
    return answered or proceed(interaction)


def _give_answer(server: AuthorizationServer, http: Request, stored: AuthorizationRequest) -> Response:
    """Return the page that posts the answer to a request, which was answered in this browser a moment ago."""
    request, client = require_current(server, http, stored)
    if request.browser_id != browser_id_of(server, http):
        raise RequestEnded("This request was started in another browser.", code="wrong_browser")
    set_recipient_of(http, client, request)
    signed_in = read_browser(server, http).signed_in
    if signed_in is None:
        raise ended(request)
    return answer_again(Interaction(server, http, client, request, signed_in), signed_in)


def _bind(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest
) -> tuple[AuthorizationRequest, dict[str, str]]:
    """Return the request, bound to this browser by the first GET with its handle, and the browser's new cookie.

    Raises RequestEnded in any other browser, and when another HTTP request has bound and answered it in between.
    """
    browser_id, browser_cookie = identify_browser(server, http)
    if request.browser_id is None:
        unbound = attr("browser_id").not_exists()
        set_ = {"browser_id": browser_id, **lifetime_when_opened(server, request)}
        bound = server.store.requests.transition((request.request_id,), unbound, set_)
        if not isinstance(bound, Refused):
            return bound, browser_cookie
        request = bound.record or replace(request, browser_id="")
    if request.browser_id != browser_id:
        raise RequestEnded("This request was started in another browser.", code="wrong_browser")
    if request.answered:
        raise ended(request)
    return request, browser_cookie
