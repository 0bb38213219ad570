"""Client authentication (RFC 6749 section 2.3): one method a request, a secret compared in constant time."""

import base64
import binascii
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_plus

from chalicelib.errors import InvalidClient, InvalidRequest
from chalicelib.handles import secret_hash
from chalicelib.messages import Params, Request
from chalicelib.models import Client
from chalicelib.server import AuthorizationServer

CHALLENGE = {"WWW-Authenticate": 'Basic realm="client", charset="UTF-8"'}


@dataclass(frozen=True)
class Credentials:
    """What a client presented, by which method. `secret` is None for `none`."""

    client_id: str
    secret: str | None = None


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """User-id and password of HTTP Basic (RFC 7617), the scheme in any case; None without such a header.

    Raises ValueError when the header is not base64, not UTF-8, or has no colon.
    """
    scheme, _, encoded = (request.header("authorization") or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user_id, colon, password = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not base64 of UTF-8") from error
    if not colon:
        raise ValueError("no colon")
    return user_id, password


def _client_secret_basic(request: Request, _form: Params) -> Credentials | None:
    try:
        found = basic_credentials(request)
    except ValueError as error:
        raise InvalidClient("The Authorization header cannot be read.", headers=CHALLENGE) from error
    if found is None:
        return None
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
    return Credentials(unquote_plus(found[0]), unquote_plus(found[1]))


def _client_secret_post(_request: Request, form: Params) -> Credentials | None:
    secret = form.one("client_secret")
    return None if secret is None else Credentials(form.required("client_id"), secret)


def _none(_request: Request, form: Params) -> Credentials | None:
    client_id = form.one("client_id")
    return None if client_id is None or form.one("client_secret") else Credentials(client_id)


# Each reads its credentials from a request, or finds none.
METHODS: dict[str, Callable[[Request, Params], Credentials | None]] = {
    "client_secret_basic": _client_secret_basic,
    "client_secret_post": _client_secret_post,
    "none": _none,
}


def authenticate_client(server: AuthorizationServer, request: Request, form: Params) -> Client:
    """The client that made this request; it is noted in `request.client`.

    A client with a secret may send it by either secret method. Raises InvalidRequest when two methods are used, and
    InvalidClient when none is, or it fails.
    """
    found = {name: credentials for name, read in METHODS.items() if (credentials := read(request, form))}
    basic = found.get("client_secret_basic")
    # The client_id may stand in the body too (RFC 6749 section 4.1.3), if it is the same.
    if basic and "none" in found and found.pop("none").client_id != basic.client_id:
        raise InvalidRequest("The client_id in the body is not the one in the Authorization header.")
    if len(found) > 1:
        raise InvalidRequest("Authenticate in the Authorization header or in the body, not in both (RFC 6749 2.3).")
    if not found:
        raise InvalidClient("The client must authenticate, by HTTP Basic or in the body.", headers=CHALLENGE)
    credentials = next(iter(found.values()))
    # Nobody is refused because of what the cached record says: it is read again first.
    for fresh in (False, True):
        client = server.client(credentials.client_id, fresh=fresh)
        if client and _proven(client, credentials):
            request.client = client
            return client
    raise InvalidClient("The client is unknown, or its authentication failed.", headers=CHALLENGE)


def _proven(client: Client, credentials: Credentials) -> bool:
    # An empty secret is as none (RFC 6749 section 2.3.1): some libraries use HTTP Basic whatever the client.
    if client.public or not credentials.secret:
        return client.public and not credentials.secret
    presented = secret_hash(credentials.secret)
    return any(secrets.compare_digest(presented, known) for known in client.secret_hashes)
