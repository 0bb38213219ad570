"""Reading and checking an authorization request. Does not know sessions or pages."""

from dataclasses import replace
from typing import Any

from chalicelib.authorization.openid_parameters import read_openid_parameters
from chalicelib.authorization.recipient import find_recipient, read_state, redirect_target
from chalicelib.authorization.request_object import SentRequest, verified_parameters
from chalicelib.authorization.requested_access import may_ask, read_access
from chalicelib.http.messages import Params, Request
from chalicelib.protocol import claims_parameter, pkce
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import (
    InvalidRequest,
    InvalidScope,
    OAuthError,
    RegistrationNotSupported,
    RequestEnded,
)
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.recipient import Recipient
from chalicelib.protocol.records import NO_SCOPE, AuthorizationRequest
from chalicelib.protocol.response_types import check_response
from chalicelib.protocol.scopes import parse_scope
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.tokens.issue import registered_scope

ANSWERED = "This request has expired or has been answered already."
# The parameters that mean something to this server, and that may be in an address.
PARAMETERS = (
    *("response_type", "client_id", "redirect_uri", "scope", "state", "response_mode", "nonce", "prompt", "max_age"),
    *("display", "claims_locales", "ui_locales", "acr_values", "claims", "resource", "authorization_details"),
    *("code_challenge", "code_challenge_method", "dpop_jkt"),
)
# The parameters of a request object.
_IN_OBJECT = (*PARAMETERS, "login_hint", "id_token_hint", "registration")
PUSHED_LIFETIME = 5 * MINUTE  # until a browser opens it; then it is that of any request
MAX_SHOWN = 200  # characters of the request in the description of an error


def receive_request(
    server: AuthorizationServer, http: Request, sent: SentRequest, *, seen_at: int | None = None
) -> tuple[AuthorizationRequest, Client]:
    """Return a request that a browser has sent, every check passed, and its client.

    Errors of this HTTP request are sent to its recipient, as soon as that is known. Raises as `find_recipient` and
    `read_request`.
    """
    recipient = find_recipient(server, http, sent)
    return read_request(server, sent, recipient, seen_at=seen_at), recipient.client


def receive_query(
    server: AuthorizationServer, http: Request, *, seen_at: int
) -> tuple[AuthorizationRequest, Client, float | None]:
    """Return the request in the query as `receive_request` does, and when its request object expires, if it has one."""
    sent = SentRequest(http.query)
    return *receive_request(server, http, sent, seen_at=seen_at), sent.expires_at


def read_request(
    server: AuthorizationServer,
    sent: SentRequest,
    recipient: Recipient,
    *,
    pushed: bool = False,
    seen_at: int | None = None,
) -> AuthorizationRequest:
    """Return the request, every check passed. Raises the OAuthError that goes to the recipient.

    `pushed`: the client itself has sent it (RFC 9126). `seen_at`: when its request object must be valid, not now.
    """
    seen_at = server.now() if seen_at is None else seen_at
    try:
        return _read(server, sent, recipient, pushed, seen_at)
    except OAuthError:
        # No client is rejected because of a cached record: it is read again first.
        client = server.read_client(recipient.client.client_id)
        if client is None or client == recipient.client:
            raise
        return _read(server, sent, replace(recipient, client=client), pushed, seen_at)


def _read(
    server: AuthorizationServer, sent: SentRequest, recipient: Recipient, pushed: bool, seen_at: int
) -> AuthorizationRequest:
    params = verified_parameters(server, recipient.client, sent, _IN_OBJECT, pushed=pushed, seen_at=seen_at)
    state = read_state(params)
    if params.get("registration", at_most=65536):
        raise RegistrationNotSupported("Clients cannot register themselves.")
    client, redirect_uri = recipient.client, recipient.redirect_uri
    response_type = params.require("response_type")
    response_type, response_mode = check_response(client, response_type, params.get("response_mode"), redirect_uri)
    scope = _scope(server, params, client)
    code_challenge, dpop_jkt = _code_challenge(params, client), params.get("dpop_jkt")
    if dpop_jkt is not None and not pkce.is_challenge(dpop_jkt):  # it is a SHA-256 too
        raise InvalidRequest(
            "The dpop_jkt must be the SHA-256 thumbprint of a key, in base64url (RFC 9449 section 10)."
        )
    claims = params.get("claims", at_most=claims_parameter.MAX_LENGTH, is_json=True)
    # After the checks above: a malformed request must not be answered with login_required because of an old hint.
    openid = read_openid_parameters(server, params, client, response_type, scope)
    targets, scope, details = read_access(server, client, params, scope)
    now, acr_values = server.now(), server.settings.authentication_policy.acr_values
    return AuthorizationRequest(
        request_id=new_id(),
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        redirect_uri_sent=recipient.sent,
        response_type=response_type,
        response_mode=response_mode,
        scope=scope,
        state=state,
        code_challenge=code_challenge,
        claims=_requested_claims(server, client, claims, acr_values) if claims else {},
        resource=frozenset(targets.by_uri),
        resource_scope=targets.named_in(scope),
        created_at=now,
        expires_at=now + (PUSHED_LIFETIME if pushed else server.settings.request_lifetime),
        pushed=pushed or None,
        dpop_jkt=dpop_jkt,
        authorization_details=details or None,
        **openid,
    )


def ended(request: AuthorizationRequest | None) -> RequestEnded:
    """Return the error for a request that can no longer be answered: it was answered, or is absent."""
    answered = request is not None and request.answered
    return RequestEnded(ANSWERED, code="request_answered" if answered else "request_expired")


def answered_in_between() -> RequestEnded:
    """Return the error for a request that another HTTP request has answered since it was read."""
    return RequestEnded(ANSWERED, code="request_answered")


def read_stored_request(server: AuthorizationServer, http: Request, text: str) -> tuple[AuthorizationRequest, Client]:
    """Return the request that a handle names, and its client. Raises RequestEnded when it cannot be answered."""
    handle = server.keys.read_handle("req", text)
    return require_unanswered(server, http, server.store.requests.get(handle.id) if handle else None)


def require_unanswered(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest | None
) -> tuple[AuthorizationRequest, Client]:
    """Return a stored request that is still to be answered, and its client, as `require_current`.

    Raises RequestEnded for any other.
    """
    if request is not None and request.answered:
        raise ended(request)
    return require_current(server, http, request)


def require_repeatable(server: AuthorizationServer, request: AuthorizationRequest) -> None:
    """Raise RequestEnded for a request whose answer is not repeated: it was given some time ago, or is not known."""
    if request.taken_at is not None and (request.sent is None or server.now() - request.taken_at >= REPEATED_FOR):
        raise ended(request)


def require_current(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest | None
) -> tuple[AuthorizationRequest, Client]:
    """Return a stored request that can be answered, now or again, and its client, which `http.client` becomes.

    Raises RequestEnded for any other, and for one that the client, as it is registered now, could not make: nothing is
    sent to a redirect URI, and no scope is granted, that the operator has removed since.
    """
    if request is None:
        raise ended(request)
    require_repeatable(server, request)

    def may_request(client: Client) -> bool:
        return redirect_target(client, request.redirect_uri) is not None and may_ask(client, request)

    client = server.client(request.client_id, accept=may_request)
    if client is None:
        raise ended(request)
    http.client, http.ui_locales = client, request.ui_locales
    return request, client


def _requested_claims(
    server: AuthorizationServer, client: Client, text: str, acr_values: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    return claims_parameter.read(text, client, acr_values, lambda: server.own_scopes(client.scopes).values())


def _scope(server: AuthorizationServer, params: Params, client: Client) -> frozenset[str]:
    """Return the requested scope, or the client's default when none is named (RFC 6749 section 3.3).

    What the client is not registered for is left out (OpenID Connect Core section 3.1.2.1), and the token response says
    so. Raises InvalidScope when nothing is left, or with `strict_scope` when anything would be left out.
    """
    text = params.get("scope", at_most=4096)
    requested = client.default_scopes if text is None else parse_scope(text)
    if not requested:
        if "authorization_details" in params:
            return NO_SCOPE
        raise InvalidScope("Name a scope: this client has no default.")
    scope = registered_scope(server, client, requested)
    if not scope or (client.strict_scope and scope != requested):
        unregistered = " ".join(sorted(requested - scope))[:MAX_SHOWN]  # a redirect has a limited length
        hint = " (spaces separate scopes)" if "," in unregistered or "+" in unregistered else ""
        raise InvalidScope(f"The client is not registered for: {unregistered}{hint}")
    return scope


def _code_challenge(params: Params, client: Client) -> str | None:
    """Return the code_challenge (RFC 7636 section 4.3).

    Only S256, so the method must be named: its default would be plain.
    """
    challenge, method = params.get("code_challenge"), params.get("code_challenge_method")
    if challenge is None:
        if method is not None:
            raise InvalidRequest("There is a code_challenge_method but no code_challenge.")
        if client.require_pkce or client.public:
            unless = "" if client.public else ", unless the operator registers it with --no-pkce"
            raise InvalidRequest(f"The code_challenge is missing: this client must use PKCE (RFC 7636){unless}.")
        return None
    if method not in pkce.METHODS:
        raise InvalidRequest("The code_challenge_method must be S256.")
    if not pkce.is_challenge(challenge):
        raise InvalidRequest("The code_challenge must be 43 base64url characters (RFC 7636 section 4.2).")
    return challenge
