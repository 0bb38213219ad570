"""Client assertions: a client authenticates by a JWT that its private key has signed (RFC 7523 section 2.2).

The audience is the issuer alone (draft-ietf-oauth-rfc7523bis): an assertion for another server, whatever that server
says about its endpoints, can never be used here.
"""

import math
from typing import Any, TypeGuard

from chalicelib.clients.signatures import has_signed
from chalicelib.http.messages import Params
from chalicelib.keys.client_keys import Jwt, read_jwt
from chalicelib.protocol import fapi
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import MAX_URL
from chalicelib.protocol.durations import HOUR, MINUTE
from chalicelib.protocol.errors import InvalidClient, InvalidRequest
from chalicelib.protocol.spent_assertion import SpentAssertion
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_LENGTH = 8192  # characters
MAX_LIFETIME = HOUR
CLOCK_DIFFERENCE = MINUTE
MAX_JTI = 256
MAX_CLIENT_ID = MAX_URL
# What a client signs with the same keys for another purpose (RFC 8725 section 3.11)
OTHER_TYPES = ("oauth-authz-req+jwt", "application/oauth-authz-req+jwt", "dpop+jwt")


@dataclass(frozen=True)
class Assertion:
    """A client assertion that was read, and is not verified yet."""

    jwt: Jwt
    client_id: str
    audience: str
    jti: str
    expires_at: float


def read_assertion(form: Params) -> Assertion | None:
    """Return the client assertion of a request, or None without one.

    Raises InvalidRequest and InvalidClient for one that is malformed, with any signature.
    """
    text, kind = form.get("client_assertion", at_most=MAX_LENGTH), form.get("client_assertion_type")
    if text is None and kind is None:
        return None
    if text is None or kind is None:
        raise InvalidRequest("Send client_assertion and client_assertion_type together (RFC 7521 section 4.2).")
    if kind != TYPE:
        raise InvalidClient(f"The client_assertion_type must be {TYPE}.")
    try:
        jwt = read_jwt(text)
    except ValueError as error:
        raise InvalidClient("The client_assertion is not a JWT.", detail=str(error)) from error
    if not jwt.alg:
        raise InvalidClient("The client_assertion is signed with an algorithm that is not supported.")
    if jwt.header.get("typ") in OTHER_TYPES:
        raise InvalidClient("The client_assertion is a JWT for another purpose: see its typ.")
    audience = _audience(jwt.claims.get("aud"))
    client_id, jti, expires_at = (jwt.claims.get(name) for name in ("sub", "jti", "exp"))
    if not _is_text(client_id, MAX_CLIENT_ID) or not client_id.isascii() or jwt.claims.get("iss") != client_id:
        raise InvalidClient("The iss and the sub of the client_assertion must be the client_id.")
    if form.get("client_id") not in (None, client_id):
        raise InvalidClient("The client_id in the body is not the sub of the client_assertion.")
    if audience is None:
        raise InvalidClient("The client_assertion must have one audience (aud): the issuer.")
    if not _is_text(jti, MAX_JTI):
        raise InvalidClient(f"The client_assertion must have a jti of at most {MAX_JTI} characters.")
    if not all(_is_time(jwt.claims[name]) for name in ("exp", "iat", "nbf") if name in jwt.claims) or not expires_at:
        raise InvalidClient("The client_assertion must have an exp, and times must be numbers of seconds.")
    return Assertion(jwt, client_id, audience, jti, float(expires_at))


def check_times(server: AuthorizationServer, assertion: Assertion) -> None:
    """Check that an assertion is valid now, by this server's clock or one that differs a little.

    Raises InvalidClient.
    """
    now, claims = server.now(), assertion.jwt.claims
    if assertion.expires_at <= now - CLOCK_DIFFERENCE:
        raise InvalidClient("The client_assertion has expired.")
    if assertion.expires_at > now + MAX_LIFETIME + CLOCK_DIFFERENCE:
        raise InvalidClient("The exp of the client_assertion is more than an hour ahead.")
    if any(claims[name] > now + CLOCK_DIFFERENCE for name in ("iat", "nbf") if name in claims):
        raise InvalidClient("The client_assertion is not valid yet: its iat or nbf is in the future.")


def find_problem(server: AuthorizationServer, client: Client, assertion: Assertion) -> str:
    """Return why an assertion does not authenticate a client, for the log; "" when it does.

    Raises ClientUnavailable while the client's keys cannot be fetched.
    """
    audiences = [server.issuer]
    if client.assertion_audience == "token_endpoint":
        audiences.append(server.issuer + server.addresses["token_endpoint"])
    if assertion.audience not in audiences:
        return "the aud of the client assertion is not the issuer"
    if client.profile and not isinstance(assertion.jwt.claims["aud"], str):
        return "the aud of the client assertion is an array (FAPI 2.0 Security Profile section 5.3.2.1, clause 8)"
    if not fapi.allows_algorithm(client, assertion.jwt.alg):
        return "the client assertion is signed with an algorithm that FAPI 2.0 does not allow"
    if "private_key_jwt" not in client.auth_methods:
        return "the client is not registered for private_key_jwt"
    if not has_signed(server, client, assertion.jwt):
        return "no key of the client has signed the client assertion"
    return ""


def spend(server: AuthorizationServer, assertion: Assertion) -> bool:
    """Record that an assertion was used, by one write. Return False when it was used before."""
    digest = server.keys.digest("client assertion", assertion.client_id, assertion.jti)
    # Longer than any process accepts it, whose clock is late.
    expires_at = math.ceil(assertion.expires_at) + 2 * CLOCK_DIFFERENCE
    return server.store.spent_assertions.insert(SpentAssertion(f"assertion.{digest}", expires_at))


def _audience(value: Any) -> str | None:
    """Return the only audience; None if there are several, or none."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    return value if isinstance(value, str) else None


def _is_text(value: object, at_most: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= at_most


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**53
