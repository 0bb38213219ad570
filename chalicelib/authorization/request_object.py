"""Request objects (RFC 9101): an authorization request as a JWT that its client has signed.

The signed request is the whole request. Parameters beside it are ignored, except for the `client_id`, which must be
equal.
A browser may send it again, because pages are reloaded: only a pushed one is used once. Until a request object has been
verified, it says no more than parameters do: to which of the registered redirect URIs an error is sent, and how.
"""

from collections.abc import Iterable
from typing import Any

from chalicelib.builtin_clients import RESERVED
from chalicelib.clients.signatures import has_signed
from chalicelib.http.messages import Params
from chalicelib.keys.client_keys import SAME, Jwt, read_jwt
from chalicelib.protocol.client import Client
from chalicelib.protocol.compact_json import to_json
from chalicelib.protocol.durations import HOUR, MINUTE
from chalicelib.protocol.errors import (
    InvalidRequest,
    InvalidRequestObject,
    OAuthError,
    RequestNotSupported,
    RequestUriNotSupported,
)
from chalicelib.server import AuthorizationServer

MAX_LENGTH = 65536  # characters
MAX_LIFETIME = HOUR  # also from `nbf` to `exp`, and of what `nbf` says (FAPI 2.0 Message Signing section 5.3.1)
CLOCK_DIFFERENCE = MINUTE
TYPES = ("jwt", "oauth-authz-req+jwt")  # RFC 9101 section 10.8; the header may leave it out
# Parameters whose value is JSON, and not a text that contains it.
_JSON = ("claims", "authorization_details")
# What decides who gets an error, and how; also in which language the pages are.
_OF_RECIPIENT = ("redirect_uri", "scope", "response_type", "response_mode", "state", "ui_locales")


class SentRequest:
    """The parameters of an authorization request as they were sent, and the request object among them, read once."""

    def __init__(self, params: Params):
        self.params = params
        self._outcome = _read(params)

    @property
    def request_object(self) -> Jwt | None:
        """The request object, not verified; None without one. Raises InvalidRequest and InvalidRequestObject."""
        if isinstance(self._outcome, OAuthError):
            raise self._outcome
        return self._outcome

    @property
    def apparent(self) -> Params:
        """The parameters that say who gets the answer, before the request is verified.

        Those of a signed request object. Of one that is not signed, or cannot be read, at most `response_mode` and
        `state` where the request does not name them: the error is sent as the client asked for.
        """
        params, jwt = self.params, self._outcome
        if not isinstance(jwt, Jwt):
            return params
        names = _OF_RECIPIENT if jwt.alg else ("response_mode", "state")
        claims = Params((name, text) for name in names if isinstance(text := jwt.claims.get(name), str))
        return params.only("client_id").with_fallback(claims) if jwt.alg else params.with_fallback(claims)

    @property
    def expires_at(self) -> float | None:
        """When the request object of a verified request expires, None without one."""
        return float(self.request_object.claims["exp"]) if self.request_object else None


def verified_parameters(
    server: AuthorizationServer, client: Client, sent: SentRequest, names: Iterable[str], *, pushed: bool, seen_at: int
) -> Params:
    """Return the parameters `names` of a request: those of its request object, once all of it has been verified.

    Without one, the parameters as they are. `seen_at`: when it must be valid. Raises InvalidRequestObject,
    InvalidRequest when the client must push or sign its requests, RequestNotSupported for an unsigned request object,
    RequestUriNotSupported, and ClientUnavailable while the client's keys cannot be fetched.
    """
    if not pushed and _must_be_pushed(server, client):
        raise InvalidRequest("The request must be pushed: POST it to the pushed_authorization_request_endpoint.")
    if sent.params.get("request_uri"):
        raise RequestUriNotSupported("The request_uri was not issued by this server.")
    jwt = sent.request_object
    if jwt is None:
        if client.require_signed_request_object:
            raise InvalidRequest("The request must be signed: send it as a request object (RFC 9101).")
        return sent.params
    if jwt.header.get("alg") == "none" and not pushed and not client.require_signed_request_object:
        raise RequestNotSupported("Request objects that are not signed are not supported.")
    _check_header(client, jwt)
    _check_claims(server, client, sent.params, jwt)
    _check_times(client, jwt, seen_at)
    if not has_signed(server, client, jwt):
        raise InvalidRequestObject("No key of the client has signed the request object.")
    try:
        return Params((name, text) for name in names if name in jwt.claims for text in _texts(name, jwt.claims[name]))
    except RecursionError as error:
        raise InvalidRequestObject("The request object is nested too deeply.") from error


def _read(params: Params) -> Jwt | OAuthError | None:
    """Return the request object, or why there is none that can be read."""
    try:
        text = params.get("request", at_most=MAX_LENGTH)
        return None if text is None else read_jwt(text)
    except InvalidRequest as error:
        return error
    except ValueError as error:
        return InvalidRequestObject("The request object is not a signed JWT.", detail=str(error))


def _must_be_pushed(server: AuthorizationServer, client: Client) -> bool:
    """Return whether a client must push its requests (RFC 9126 sections 5 and 6). The server's own pages cannot."""
    required = server.settings.require_pushed_authorization_requests
    return client.require_pushed_authorization_requests or (required and client.client_id not in RESERVED)


def _check_header(client: Client, jwt: Jwt) -> None:
    expected = client.request_object_signing_alg
    if not jwt.alg or (expected is not None and jwt.alg != SAME.get(expected, expected)):
        raise InvalidRequestObject(
            f"The request object must be signed with {expected}."
            if expected
            else "The request object is signed with an algorithm that is not supported."
        )
    typ = jwt.header.get("typ", TYPES[0])
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in TYPES:
        raise InvalidRequestObject("The typ of the request object must be oauth-authz-req+jwt.")


def _check_claims(server: AuthorizationServer, client: Client, params: Params, jwt: Jwt) -> None:
    """Check that the client has made it for this server, and as a request of its own (RFC 9101 sections 4, 5, 6.3)."""
    claims = jwt.claims
    if claims.get("iss") != client.client_id or claims.get("client_id") != client.client_id:
        raise InvalidRequestObject("The iss and the client_id in the request object must be the client_id.")
    if params.get("client_id") != client.client_id:
        raise InvalidRequestObject("The client_id must be that of the request object.")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if server.issuer not in audiences or not all(isinstance(each, str) for each in audiences):
        raise InvalidRequestObject("The aud of the request object must be the issuer.")
    if "request" in claims or "request_uri" in claims:
        raise InvalidRequestObject("A request object has no request and no request_uri (RFC 9101 section 4).")
    if claims.get("sub") == client.client_id:  # it could be used as a client assertion
        raise InvalidRequestObject("The sub of a request object is never the client_id (RFC 9101 section 10.8).")


def _check_times(client: Client, jwt: Jwt, now: int) -> None:
    """Check that it is valid, and for an hour at most. A client that must sign its requests must say from when."""
    claims = jwt.claims
    if not all(_is_time(claims[name]) for name in ("exp", "nbf", "iat") if name in claims) or "exp" not in claims:
        raise InvalidRequestObject("The request object must have an exp, and times must be numbers of seconds.")
    expires, not_before = claims["exp"], claims.get("nbf")
    if not_before is None and client.require_signed_request_object:
        raise InvalidRequestObject("The request object must have an nbf.")
    if expires <= now - CLOCK_DIFFERENCE:
        raise InvalidRequestObject("The request object has expired.")
    if expires > now + MAX_LIFETIME + CLOCK_DIFFERENCE:
        raise InvalidRequestObject("The exp of the request object is more than an hour ahead.")
    if any(claims[name] > now + CLOCK_DIFFERENCE for name in ("nbf", "iat") if name in claims):
        raise InvalidRequestObject("The request object is not valid yet: its nbf or iat is in the future.")
    # It has not expired, so its nbf is not earlier than MAX_LIFETIME and CLOCK_DIFFERENCE ago either.
    if not_before is not None and expires - not_before > MAX_LIFETIME:
        raise InvalidRequestObject("The request object is valid for more than an hour: from its nbf to its exp.")


def _texts(name: str, value: Any) -> list[str]:
    """Return the values of a parameter as a query would have them. Raises InvalidRequestObject for another type."""
    if isinstance(value, str):
        return [value]
    if name == "max_age" and isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    if name == "resource" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    if name in _JSON and isinstance(value, dict | list):
        return [to_json(value)]
    raise InvalidRequestObject(f"The member {name} of the request object has the wrong type.")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**53
