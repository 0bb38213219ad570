"""Reads and checks an authorization request, in order. Knows nothing of sessions, pages or storage.

`recipient` first: until it has answered, an error is shown and never redirected (RFC 6749 section 4.1.2.1). `read` does
every other check, and what it raises goes back to the recipient.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import quote_plus

from chalicelib import authentication_request, claims_parameter, pkce, redirect_uris, resources, response_modes
from chalicelib.client_metadata import MAX_SCOPE_TOKENS
from chalicelib.errors import (
    InvalidRequest,
    InvalidScope,
    OAuthError,
    RegistrationNotSupported,
    RequestEnded,
    RequestNotSupported,
    RequestUriNotSupported,
    UnauthorizedClient,
    UnsupportedResponseType,
)
from chalicelib.handles import new_id
from chalicelib.messages import Params, Request
from chalicelib.models import AuthorizationRequest, Client
from chalicelib.server import AuthorizationServer

ANSWERED = "This request has expired or has been answered already."
LONGEST_ENCODED_STATE = 8192
LONGEST_SHOWN = 200  # of what a request says, in the description of an error
# RFC 6749 section 3.3
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True)
class Recipient:
    """Who asked, where and how every answer goes, with which `state`. `sent`: the request named the redirect URI."""

    client: Client
    redirect_uri: str
    sent: bool
    state: str | None
    response_mode: str

    @classmethod
    def of(cls, client: Client, request: AuthorizationRequest) -> "Recipient":
        """The recipient of the answer to a request that has been checked."""
        return cls(client, request.redirect_uri, request.redirect_uri_sent, request.state, request.response_mode)


def recipient(server: AuthorizationServer, request: Request, params: Params) -> Recipient:
    """The client and its redirect URI; the client is noted in `request.client`.

    Raises InvalidRequest: to be shown, for there is nobody yet to send it to.
    """
    client_id = params.required("client_id", at_most=128)
    redirect_uri = params.one("redirect_uri")
    # Nobody is refused because of what the cached record says: it is read again first.
    for fresh in (False, True):
        client = server.client(client_id, fresh=fresh)
        goal = _goal(client, redirect_uri) if client else None
        if client and goal:
            request.client = client
            # What is refused is refused in the way that its client waits for.
            told = params.or_else(authentication_request.of_request_object(params)) if "request" in params else params
            try:
                state = _state(told)
            except OAuthError:
                state = None  # `read` refuses it; what is malformed is not repeated
            asks_openid = "openid" in (params.raw("scope") or "").split(" ")
            if redirect_uri is None and asks_openid:
                # OpenID Connect Core section 3.1.2.1: REQUIRED
                raise InvalidRequest(
                    "An OpenID Connect request must name its redirect_uri.", code="redirect_uri_missing"
                )
            return Recipient(client, goal, redirect_uri is not None, state, response_modes.of_errors(told, goal))
    if client is None:
        raise InvalidRequest("There is no application with this client_id.", code="unknown_client")
    if redirect_uri is None:
        raise InvalidRequest(
            "The redirect_uri is missing, and the application has registered several.", code="redirect_uri_missing"
        )
    raise InvalidRequest(
        "The redirect_uri is not one that the application has registered.", code="redirect_uri_mismatch"
    )


def _goal(client: Client, redirect_uri: str | None) -> str | None:
    if redirect_uri is None:
        only = client.redirect_uris[0] if len(client.redirect_uris) == 1 else None
        return client.default_redirect_uri or only
    registered = any(redirect_uris.matches(uri, redirect_uri) for uri in client.redirect_uris)
    return redirect_uri if registered else None


def read(server: AuthorizationServer, params: Params, to: Recipient) -> AuthorizationRequest:
    """The request, every check passed. Raises the OAuthError that goes back to the recipient."""
    try:
        return _read(server, params, to)
    except OAuthError:
        # Nobody is refused because of what the cached record says: it is read again first.
        client = server.client(to.client.client_id, fresh=True)
        if client is None or client == to.client:
            raise
        return _read(server, params, replace(to, client=client))


def _read(server: AuthorizationServer, params: Params, to: Recipient) -> AuthorizationRequest:
    state = _state(params)
    if params.one("request", at_most=authentication_request.LONGEST_REQUEST_OBJECT):
        raise RequestNotSupported("Request objects are not supported.")
    if params.one("request_uri"):
        raise RequestUriNotSupported("The request_uri is not one of ours.")
    if params.one("registration", at_most=65536):
        raise RegistrationNotSupported("Clients cannot register themselves.")
    client = to.client
    response_type = _response_type(params, client)
    scope = _scope(params, client)
    nonce = params.one("nonce")
    authentication_request.check_id_token(response_type, scope, nonce)
    claims = params.one("claims", at_most=claims_parameter.LONGEST)
    for name in ("display", "claims_locales"):  # accepted and not needed; repeated, they are an error all the same
        params.one(name)
    now = server.now()
    return AuthorizationRequest(
        request_id=new_id(),
        client_id=client.client_id,
        redirect_uri=to.redirect_uri,
        redirect_uri_sent=to.sent,
        response_type=response_type,
        response_mode=_response_mode(params, response_type, to.redirect_uri),
        scope=scope,
        state=state,
        nonce=nonce,
        code_challenge=_code_challenge(params, client),
        prompt=authentication_request.prompt(params),
        max_age=authentication_request.max_age(params),
        login_hint=params.one("login_hint", at_most=320),
        hinted_sub=authentication_request.hinted_sub(server, params, client),
        acr_values=authentication_request.acr_values(params),
        ui_locales=authentication_request.ui_locales(params),
        claims=claims_parameter.read(claims, client) if claims else {},
        resource=resources.registered(server, params),
        created_at=now,
        expires_at=now + server.settings.request_lifetime,
    )


def ended(request: AuthorizationRequest | None) -> RequestEnded:
    """The error for a request that does not wait any more: it was answered, or is not there."""
    answered = request is not None and request.taken_at is not None
    return RequestEnded(ANSWERED, code="request_answered" if answered else "request_expired")


def still_waiting(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest | None
) -> tuple[AuthorizationRequest, Client]:
    """A stored request that is still to be answered, and its client, which is noted in `http.client`.

    Raises RequestEnded for any other, and for one that the client, as it is registered now, could not make: nothing
    goes to a redirect URI, nor is a scope granted, that the operator has taken away since.
    """
    for fresh in (False, True):  # nobody is refused because of what the cached record says
        client = server.client(request.client_id, fresh=fresh) if request else None
        if request is None or client is None or request.taken_at is not None:
            raise ended(request)
        if _goal(client, request.redirect_uri) and request.scope <= client.scopes:
            http.client = client
            return request, client
    raise ended(request)


def _state(params: Params) -> str | None:
    """The state, if it can come back in a header field, which a gateway limits."""
    state = params.one("state")
    if state and len(quote_plus(state)) > LONGEST_ENCODED_STATE:
        raise InvalidRequest(f"The parameter state is longer than {LONGEST_ENCODED_STATE} characters when encoded.")
    return state


def _response_type(params: Params, client: Client) -> str:
    response_type = response_modes.normal(params.required("response_type"))
    if response_type not in response_modes.RESPONSE_TYPES:
        known = " or ".join(response_modes.RESPONSE_TYPES)
        raise UnsupportedResponseType(f"The response_type must be {known}.")
    registered = map(response_modes.normal, client.response_types)
    if response_type not in registered or "authorization_code" not in client.grant_types:
        raise UnauthorizedClient("The client is not registered for this response_type.")
    return response_type


def _response_mode(params: Params, response_type: str, redirect_uri: str) -> str:
    response_mode = params.one("response_mode") or response_modes.default(response_type)
    if problem := response_modes.problem_with(response_mode, response_type, redirect_uri):
        raise InvalidRequest(problem)
    return response_mode


def scope_tokens(text: str) -> frozenset[str]:
    """The tokens of a scope, with a space between or several: applications join lists in which there is nothing.

    Raises InvalidScope when it is malformed, or has more of them than any registered one.
    """
    tokens = [token for token in text.split(" ") if token]
    if not 1 <= len(tokens) <= MAX_SCOPE_TOKENS or not all(map(_SCOPE_TOKEN.fullmatch, tokens)):
        raise InvalidScope(f"The scope must be 1 to {MAX_SCOPE_TOKENS} tokens, spaces between (RFC 6749 3.3).")
    return frozenset(tokens)


def _scope(params: Params, client: Client) -> frozenset[str]:
    """What is asked for: the client's default when nothing is named (RFC 6749 section 3.3)."""
    text = params.one("scope", at_most=4096)
    scope = client.default_scopes if text is None else scope_tokens(text)
    if not scope:
        raise InvalidScope("Name a scope: this client has no default.")
    if not scope <= client.scopes:
        foreign = " ".join(sorted(scope - client.scopes))[:LONGEST_SHOWN]  # beside the state
        hint = " (spaces separate scopes)" if "," in foreign or "+" in foreign else ""
        raise InvalidScope(f"The client is not registered for: {foreign}{hint}")
    return scope


def _code_challenge(params: Params, client: Client) -> str | None:
    """RFC 7636 section 4.3; S256 only, so the method has to be named (its default would be plain)."""
    challenge, method = params.one("code_challenge"), params.one("code_challenge_method")
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
