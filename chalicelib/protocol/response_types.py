"""Grant types, response types and response modes (OAuth 2.0 Multiple Response Type Encoding Practices, JARM).

A response mode is how the response is sent and, with `.jwt`, that it is a signed JWT (JARM section 2.3).
"""

from chalicelib.protocol import fapi
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidRequest, UnauthorizedClient, UnsupportedResponseType
from chalicelib.protocol.redirect_uris import origin_of

GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials")
RESPONSE_TYPES = ("code", "code id_token")
_SIGNED = ".jwt"
# `jwt` is the signed mode that is the default for the response type.
RESPONSE_MODES = ("query", "fragment", "form_post", "query.jwt", "fragment.jwt", "form_post.jwt", "jwt")


def normalize(response_type: str) -> str:
    """Return a response type with its words sorted: their order has no meaning (RFC 6749 section 8.4)."""
    return " ".join(sorted(filter(None, response_type.split(" "))))


def default_response_mode(response_type: str) -> str:
    """Return the response mode of a request without `response_mode`: fragment for tokens, else query."""
    return "fragment" if {"token", "id_token"} & set(response_type.split()) else "query"


def is_signed(response_mode: str) -> bool:
    """Return whether the response is a signed JWT."""
    return response_mode.endswith(_SIGNED)


def transport_of(response_mode: str) -> str:
    """Return how the response is sent: query, fragment or form_post."""
    return response_mode.removesuffix(_SIGNED)


def check_response(client: Client, response_type: str, response_mode: str | None, redirect_uri: str) -> tuple[str, str]:
    """Return the response type, its words sorted, and the response mode of a request.

    Raises UnsupportedResponseType, UnauthorizedClient when the client is not registered for it, InvalidRequest for the
    response mode.
    """
    response_type = normalize(response_type)
    if response_type not in RESPONSE_TYPES:
        raise UnsupportedResponseType("The response_type must be " + " or ".join(RESPONSE_TYPES))
    if response_type not in map(normalize, client.response_types) or "authorization_code" not in client.grant_types:
        raise UnauthorizedClient("The client is not registered for this response_type.")
    response_mode = _named(response_mode or default_response_mode(response_type), response_type)
    if problem := _problem_with(response_mode, response_type, redirect_uri):
        raise InvalidRequest(problem)
    if fapi.requires_signed_response(client) and not is_signed(response_mode):
        raise InvalidRequest("The response_mode must be jwt: this client gets signed authorization responses only.")
    return response_type, response_mode


def error_response_mode(response_type: str | None, response_mode: str | None, redirect_uri: str) -> str:
    """Return how an error of an unchecked request is sent: as it asks, if that is possible."""
    response_type = normalize(response_type or "")
    response_mode = _named(response_mode or "", response_type)
    if not _problem_with(response_mode, response_type, redirect_uri):
        return response_mode
    default = default_response_mode(response_type)
    return default + _SIGNED if response_mode in RESPONSE_MODES and is_signed(response_mode) else default


def _named(response_mode: str, response_type: str) -> str:
    """Return a response mode, `jwt` by its other name."""
    return default_response_mode(response_type) + _SIGNED if response_mode == "jwt" else response_mode


def _problem_with(response_mode: str, response_type: str, redirect_uri: str) -> str | None:
    """Return why a response must not be sent in this mode, or None when it may."""
    if response_mode not in RESPONSE_MODES:
        return "The response_mode must be " + " or ".join(RESPONSE_MODES) + "."
    transport = transport_of(response_mode)
    if transport == "query" and default_response_mode(response_type) != "query":
        return "The query must not carry a token: leave response_mode out, or use form_post."
    if transport == "form_post" and origin_of(redirect_uri) is None:
        return "The response_mode form_post needs an http or https redirect URI."
    return None
