"""Reads and checks an authorization request, in order. Knows nothing of sessions, pages or storage.

`recipient` first: until it has answered, an error is shown and never redirected (RFC 6749 section 4.1.2.1). `read` does
every other check, and what it raises goes back to the recipient.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import quote_plus

from chalicelib import pkce, redirect_uris
from chalicelib.errors import (
    InvalidRequest,
    InvalidScope,
    OAuthError,
    RequestNotSupported,
    RequestUriNotSupported,
    UnauthorizedClient,
    UnsupportedResponseType,
)
from chalicelib.handles import new_id
from chalicelib.messages import Params, Request
from chalicelib.models import AuthorizationRequest, Client
from chalicelib.registration import MAX_SCOPE_TOKENS
from chalicelib.server import AuthorizationServer

RESPONSE_TYPES = ("code",)
RESPONSE_MODES = ("query",)
LONGEST_ENCODED_STATE = 8192
PROMPTS = ("none", "login", "consent", "select_account")
# RFC 6749 section 3.3
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


@dataclass(frozen=True)
class Recipient:
    """Who asked, and where every answer goes, with which `state`. `sent`: the request named the redirect URI."""

    client: Client
    redirect_uri: str
    sent: bool
    state: str | None


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
            try:
                state = _state(params)
            except OAuthError:
                state = None  # `read` refuses it; what is malformed is not repeated
            asks_openid = "openid" in (params.raw("scope") or "").split(" ")
            if redirect_uri is None and asks_openid:
                # OpenID Connect Core section 3.1.2.1: REQUIRED
                raise InvalidRequest("An OpenID Connect request must name its redirect_uri.")
            return Recipient(client, goal, redirect_uri is not None, state)
    if client is None:
        raise InvalidRequest("There is no application with this client_id.")
    if redirect_uri is None:
        raise InvalidRequest("The redirect_uri is missing, and the application has registered several.")
    raise InvalidRequest("The redirect_uri is not one that the application has registered.")


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
    if params.one("request", at_most=65536):
        raise RequestNotSupported("Request objects are not supported.")
    if params.one("request_uri"):
        raise RequestUriNotSupported("The request_uri is not one of ours.")
    _check_response_type(params, to.client)
    now = server.now()
    return AuthorizationRequest(
        request_id=new_id(),
        client_id=to.client.client_id,
        redirect_uri=to.redirect_uri,
        redirect_uri_sent=to.sent,
        scope=_scope(params, to.client),
        state=state,
        nonce=params.one("nonce"),
        code_challenge=_code_challenge(params, to.client),
        prompt=_prompt(params),
        max_age=_max_age(params),
        login_hint=params.one("login_hint", at_most=320),
        created_at=now,
        expires_at=now + server.settings.request_lifetime,
    )


def _state(params: Params) -> str | None:
    """The state, if it can come back in a header field, which a gateway limits."""
    state = params.one("state")
    if state and len(quote_plus(state)) > LONGEST_ENCODED_STATE:
        raise InvalidRequest(f"The parameter state is longer than {LONGEST_ENCODED_STATE} characters when encoded.")
    return state


def _check_response_type(params: Params, client: Client) -> None:
    # An unordered set (OAuth 2.0 Multiple Response Type Encoding Practices, section 2.1).
    response_type = " ".join(sorted(params.required("response_type").split()))
    if response_type not in RESPONSE_TYPES:
        raise UnsupportedResponseType("The response_type must be " + " or ".join(RESPONSE_TYPES) + ".")
    if response_type not in client.response_types or "authorization_code" not in client.grant_types:
        raise UnauthorizedClient("The client is not registered for this response_type.")
    if (params.one("response_mode") or "query") not in RESPONSE_MODES:
        raise InvalidRequest("The response_mode must be " + " or ".join(RESPONSE_MODES) + ".")


def scope_tokens(text: str) -> frozenset[str]:
    """The tokens of a scope. Raises InvalidScope when it is malformed, or has more of them than any registered one."""
    if not _SCOPE.fullmatch(text) or text.count(" ") >= MAX_SCOPE_TOKENS:
        raise InvalidScope(f"The scope must be 1 to {MAX_SCOPE_TOKENS} tokens, single spaces between (RFC 6749 3.3).")
    return frozenset(text.split(" "))


def _scope(params: Params, client: Client) -> frozenset[str]:
    """What is asked for: the client's default when nothing is named (RFC 6749 section 3.3)."""
    text = params.one("scope", at_most=4096)
    scope = client.default_scopes if text is None else scope_tokens(text)
    if not scope:
        raise InvalidScope("Name a scope: this client has no default.")
    if not scope <= client.scopes:
        raise InvalidScope("The client is not registered for: " + " ".join(sorted(scope - client.scopes)))
    return scope


def _code_challenge(params: Params, client: Client) -> str | None:
    """RFC 7636 section 4.3; S256 only, so the method has to be named (its default would be plain)."""
    challenge, method = params.one("code_challenge"), params.one("code_challenge_method")
    if challenge is None:
        if method is not None:
            raise InvalidRequest("There is a code_challenge_method but no code_challenge.")
        if client.require_pkce or client.public:
            raise InvalidRequest("The code_challenge is missing: this client must use PKCE (RFC 7636).")
        return None
    if method not in pkce.METHODS:
        raise InvalidRequest("The code_challenge_method must be S256.")
    if not pkce.is_challenge(challenge):
        raise InvalidRequest("The code_challenge must be 43 base64url characters (RFC 7636 section 4.2).")
    return challenge


def _prompt(params: Params) -> frozenset[str]:
    """OpenID Connect Core section 3.1.2.1."""
    prompt = frozenset((params.one("prompt") or "").split())
    if not prompt <= set(PROMPTS):
        raise InvalidRequest("The prompt must be made of " + ", ".join(PROMPTS) + ".")
    if "none" in prompt and len(prompt) > 1:
        raise InvalidRequest("prompt=none goes with no other value.")
    return prompt


def _max_age(params: Params) -> int | None:
    text = params.one("max_age")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidRequest("The max_age must be a number of seconds.")
    return int(text)
