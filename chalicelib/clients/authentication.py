"""Client authentication (RFC 6749 section 2.3): one method per request, secrets compared in constant time."""

import base64
import binascii
import secrets
from collections.abc import Callable
from urllib.parse import unquote_plus

from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClient, InvalidRequest
from chalicelib.protocol.handles import secret_hash
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer

CHALLENGE = {"WWW-Authenticate": 'Basic realm="client", charset="UTF-8"'}


@dataclass(frozen=True)
class ClientCredentials:
    """The client_id and secret that a client presented; no secret with the method `none`."""

    client_id: str
    secret: str | None = None


def basic_credentials(http: Request) -> tuple[str, str] | None:
    """Return user-id and password of HTTP Basic (RFC 7617), or None without such a header. The scheme is in any case.

    Raises ValueError when the header is not base64, not UTF-8, or has no colon.
    """
    scheme, _, encoded = (http.header("authorization") or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user_id, colon, password = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not base64 of UTF-8") from error
    if not colon:
        raise ValueError("no colon")
    return user_id, password


def _client_secret_basic(http: Request, _form: Params) -> ClientCredentials | None:
    try:
        basic = basic_credentials(http)
    except ValueError as error:
        raise InvalidClient("The Authorization header cannot be read.", headers=CHALLENGE) from error
    if basic is None:
        return None
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
    return _plain_uri_credentials(*basic) or ClientCredentials(*map(unquote_plus, basic))


def _plain_uri_credentials(scheme: str, rest: str) -> ClientCredentials | None:
    """Return the credentials of a resource server that does not encode its id, a URI, as `curl -u` does; else None.

    The id ends at the last colon: a secret of this server has none.
    """
    after_scheme, colon, secret = rest.rpartition(":")
    if scheme not in ("https", "http") or not after_scheme.startswith("//"):
        return None
    return ClientCredentials(f"{scheme}:{after_scheme}", secret) if colon else None


def _client_secret_post(_http: Request, form: Params) -> ClientCredentials | None:
    secret = form.get("client_secret")
    return None if secret is None else ClientCredentials(form.require("client_id"), secret)


def _none(_http: Request, form: Params) -> ClientCredentials | None:
    client_id = form.get("client_id")
    return None if client_id is None or form.get("client_secret") else ClientCredentials(client_id)


# method -> what reads its credentials from a request, or returns None
METHODS: dict[str, Callable[[Request, Params], ClientCredentials | None]] = {
    "client_secret_basic": _client_secret_basic,
    "client_secret_post": _client_secret_post,
    "none": _none,
}


def authenticate_client(server: AuthorizationServer, http: Request, form: Params) -> Client:
    """Return the client that sent the request, once it has authenticated; `http.client` becomes it.

    Raises InvalidRequest when two methods are used, and InvalidClient when none is, the client is not registered for
    it, or it fails.
    """
    presented = {name: credentials for name, read in METHODS.items() if (credentials := read(http, form))}
    basic = presented.get("client_secret_basic")
    # The client_id may be in the body too (RFC 6749 section 4.1.3), if it is the same.
    if basic and "none" in presented and presented.pop("none").client_id != basic.client_id:
        raise InvalidRequest("The client_id in the body is not the one in the Authorization header.")
    if len(presented) > 1:
        raise InvalidRequest("Authenticate in the Authorization header or in the body, not in both (RFC 6749 2.3).")
    if not presented:
        raise InvalidClient("The client must authenticate, by HTTP Basic or in the body.", headers=CHALLENGE)
    method, credentials = next(iter(presented.items()))
    detail = ""

    def accept(client: Client) -> bool:
        nonlocal detail
        authentic, registered = _is_authentic(client, credentials), client.public or method in client.auth_methods
        detail = f"the client is not registered for {method}" if authentic and not registered else ""
        return authentic and registered

    client = server.client(credentials.client_id, accept)
    if client is None:
        raise InvalidClient("The client is unknown, or its authentication failed.", headers=CHALLENGE, detail=detail)
    http.client = client
    return client


def _is_authentic(client: Client, credentials: ClientCredentials) -> bool:
    # An empty secret is the same as none (RFC 6749 section 2.3.1): some libraries use HTTP Basic for every client.
    if client.public or not credentials.secret:
        return client.public and not credentials.secret
    presented = secret_hash(credentials.secret)
    return any(secrets.compare_digest(presented, stored) for stored in client.secret_hashes)
