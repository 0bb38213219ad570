"""The records of authorization requests. Most requests have none until a person has signed in or answered.

Stored before that are only requests that are too long for an address, that were posted with hints about a person, or
that a login application asks about: without authentication, so their size and their number for one address are limited.
"""

from dataclasses import fields, replace
from typing import Any

from chalicelib.http.addresses import network_of
from chalicelib.http.messages import Params, Request, Response, redirect, with_query
from chalicelib.protocol.errors import InvalidRequest, TemporarilyUnavailable
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.protocol.response_types import transport_of
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import browser_id_of
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.table import Write

# Bytes of a query that a form's action can repeat: API Gateway takes 10,240 bytes of request line and header fields.
MAX_QUERY = 4000
MAX_STORED = 16 * 1024


def is_short(params: Params) -> bool:
    """Return whether an address can carry the request, so that it need not be stored."""
    return len(params.encoded()) <= MAX_QUERY


def store_unauthenticated(
    server: AuthorizationServer,
    http: Request,
    params: Params,
    request: AuthorizationRequest,
    *,
    authenticated: bool = False,
) -> bool:
    """Store a request that was not answered by a form. `params`: what was sent. Return False if there is one.

    `authenticated`: a user is signed in, or the client has proved who it is. Raises InvalidRequest when it is too long,
    and TemporarilyUnavailable when many others were stored for this address.
    """
    if len(params.replaced("id_token_hint", None).encoded()) > MAX_STORED:  # what is stored of the hint is short
        raise InvalidRequest(f"The request is longer than {MAX_STORED} bytes.")
    limit, network = server.settings.stored_requests_per_address, network_of(http.source_ip)
    if not authenticated and not server.count_in_hour("stored requests", network, limit):
        raise TemporarilyUnavailable("Too many requests came from your network. Please try again in an hour.")
    return server.store.requests.insert(request)


def stored_if_expired(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest, expires_at: float | None
) -> AuthorizationRequest:
    """Return the request, stored if its request object has expired while its page was shown.

    `expires_at`: of the request object, None without one. The next page could not be shown again otherwise. Raises
    TemporarilyUnavailable as `store_unauthenticated`.
    """
    browser_id = browser_id_of(server, http)
    if expires_at is None or expires_at > server.now() or request.stored or request.answered or browser_id is None:
        return request
    request = stored_for(server, request, browser_id)
    store_unauthenticated(server, http, http.query, request)
    return request


def storing(
    server: AuthorizationServer, request: AuthorizationRequest, also: Condition | None = None
) -> Write[AuthorizationRequest]:
    """Return the write that stores a request for its browser, also when a form that was sent twice has stored it.

    It is refused once the request has been answered, or when a stored one does not fulfil `also`.
    """
    set_ = _members(request)
    remove = tuple(field.name for field in fields(request) if field.name not in ("request_id", *set_))
    unanswered = attr("taken_at").not_exists() & attr("browser_id").eq(request.browser_id)
    condition = unanswered if also is None else unanswered & also
    return server.store.requests.changing((request.request_id,), condition, set_, remove=remove, create=True)


def storing_email(
    server: AuthorizationServer, before: AuthorizationRequest, request: AuthorizationRequest
) -> Write[AuthorizationRequest]:
    """Return the write that keeps the email that was asked for with a request. `before`: as the request was read.

    It is refused once the request has been answered, and when another email was asked for in between.
    """
    requests = server.store.requests
    same = requests.unchanged(before, "email_proof")
    if not before.stored:
        return storing(server, request, same)
    same &= attr("taken_at").not_exists() & attr("browser_id").eq(request.browser_id)
    changes = {"email_proof": request.email_proof, "expires_at": request.expires_at}
    changes |= {"keep_signed_in": bool(request.keep_signed_in)}
    return requests.changing((request.request_id,), same, changes)


def forget_email(server: AuthorizationServer, request: AuthorizationRequest) -> None:
    """Forget the email that was asked for, so that the page of the request asks for the password again. One write."""
    same = attr("email_proof").eq(request.email_proof)
    server.store.requests.transition((request.request_id,), same, remove=("email_proof",))


def waits_for_get(http: Request, request: AuthorizationRequest) -> bool:
    """Return whether this HTTP request is not answered with the page that posts the response, but redirected to it.

    So the page can be reloaded, and the form that it follows can be sent twice.
    """
    return http.method == "POST" and transport_of(request.response_mode) == "form_post"


def answering(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest, grant_id: str | None
) -> Write[AuthorizationRequest]:
    """Return the write that answers a request: with a grant, or by a denial. Refused once it has been answered.

    The record is created if there is none: with it, a form that was sent twice is answered once. It has the whole
    request if the answer waits for a GET with its handle.
    """
    now = server.now()
    set_: dict[str, Any] = {"taken_at": now, "expires_at": max(request.expires_at, now + REPEATED_FOR)}
    set_["sent"] = 0 if waits_for_get(http, request) else 1
    if grant_id is not None:
        set_["grant_id"] = grant_id
    if not request.stored and waits_for_get(http, request):
        set_ = _members(replace(request, browser_id=browser_id_of(server, http))) | set_
    elif not request.stored:
        required = ("client_id", "redirect_uri", "created_at")
        set_ |= {name: getattr(request, name) for name in required}
    unanswered = attr("taken_at").not_exists()
    return server.store.requests.changing((request.request_id,), unanswered, set_, create=not request.stored)


def _members(request: AuthorizationRequest) -> dict[str, Any]:
    """Return the attributes of a request that are stored, without its key."""
    members = {field.name: getattr(request, field.name) for field in fields(request) if field.name != "request_id"}
    return {name: value for name, value in members.items() if value is not None and value != frozenset()}


def stored_for(server: AuthorizationServer, request: AuthorizationRequest, browser_id: str) -> AuthorizationRequest:
    """Return the request as it is stored for a browser: the next page is valid as long as any other."""
    expires_at = max(request.expires_at, server.now() + server.settings.request_lifetime)
    return replace(request, browser_id=browser_id, expires_at=expires_at)


def redirect_to_stored_request(server: AuthorizationServer, http: Request, request: AuthorizationRequest) -> Response:
    """Return the redirect to a request that is stored, by its handle."""
    handle = server.keys.make_handle("req", request.request_id)
    return redirect(http, with_query(server.path_of("authorization_endpoint"), {"request_uri": handle}))
