"""The methods of client authentication (RFC 6749 section 2.3), and how a request carries their credentials."""

import base64
import binascii
from collections.abc import Callable
from urllib.parse import unquote_plus

from chalicelib.clients import assertions
from chalicelib.clients.assertions import Assertion
from chalicelib.http.messages import Params, Request
from chalicelib.protocol import mutual_tls
from chalicelib.protocol.errors import InvalidClient
from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class ClientCredentials:
    """The client_id with the secret or the assertion that a client presented; neither with the method `none`."""

    client_id: str
    secret: str | None = None
    assertion: Assertion | None = None


def basic_credentials(http: Request) -> tuple[str, str] | None:
    """Return user-id and password of HTTP Basic (RFC 7617), or None without such a header. The scheme is in any case.

    Raises ValueError when the header is not base64, not UTF-8, or has no colon.
    """
    encoded = http.credentials("basic")
    if encoded is None:
        return None
    try:
        user_id, colon, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not base64 of UTF-8") from error
    if not colon:
        raise ValueError("no colon")
    return user_id, password


def _client_secret_basic(http: Request, _form: Params) -> ClientCredentials | None:
    try:
        basic = basic_credentials(http)
    except ValueError as error:
        raise InvalidClient("The Authorization header cannot be read.") from error
    if basic is None:
        return None
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
    client_id, secret = map(unquote_plus, basic)
    return _plain_uri_credentials(*basic) or ClientCredentials(client_id, secret)


def _plain_uri_credentials(scheme: str, rest: str) -> ClientCredentials | None:
    """Return the credentials of a resource server that does not encode its id, a URI, as `curl -u` does; else None.

    The id ends at the last colon: a secret of this server has none.
    """
    after_scheme, colon, secret = rest.rpartition(":")
    if scheme not in ("https", "http") or not after_scheme.startswith("//"):
        return None
    return ClientCredentials(f"{scheme}:{after_scheme}", secret) if colon else None


def _client_secret_post(http: Request, form: Params) -> ClientCredentials | None:
    secret = form.get("client_secret")
    if secret is None:
        return None
    # With HTTP Basic too, the error is that there are two methods, not that this one lacks its client_id.
    client_id = form.get("client_id") if http.credentials("basic") else form.require("client_id")
    return ClientCredentials(client_id or "", secret)


def _private_key_jwt(_http: Request, form: Params) -> ClientCredentials | None:
    assertion = assertions.read_assertion(form)
    return ClientCredentials(assertion.client_id, assertion=assertion) if assertion else None


def _none(_http: Request, form: Params) -> ClientCredentials | None:
    client_id = form.get("client_id")
    proven = form.get("client_secret") or form.raw("client_assertion")
    return None if client_id is None or proven else ClientCredentials(client_id)


# method -> what reads its credentials from a request, or returns None
METHODS: dict[str, Callable[[Request, Params], ClientCredentials | None]] = {
    "client_secret_basic": _client_secret_basic,
    "client_secret_post": _client_secret_post,
    "private_key_jwt": _private_key_jwt,
    "none": _none,
}
# A request carries nothing for these: the certificate is in the TLS connection, and the client_id in the body.
ALL_METHODS = (*METHODS, *mutual_tls.METHODS)
