"""Client authentication (RFC 6749 section 2.3): one method per request, secrets compared in constant time."""

import base64
import binascii
import secrets
from collections.abc import Callable
from urllib.parse import unquote_plus

from chalicelib.clients import assertions
from chalicelib.clients.assertions import Assertion
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClient, InvalidRequest
from chalicelib.protocol.handles import secret_hash
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer


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


def _client_secret_post(_http: Request, form: Params) -> ClientCredentials | None:
    secret = form.get("client_secret")
    return None if secret is None else ClientCredentials(form.require("client_id"), secret)


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


def authenticate_client(server: AuthorizationServer, http: Request, form: Params) -> Client:
    """Return the client that sent the request, once it has authenticated; `http.client` becomes it.

    An assertion is spent by it, with one write. Raises InvalidRequest when two methods are used, and InvalidClient when
    none is, the client is not registered for it, or it fails.
    """
    presented = {name: credentials for name, read in METHODS.items() if (credentials := read(http, form))}
    basic = presented.get("client_secret_basic")
    # The client_id may be in the body too (RFC 6749 section 4.1.3), if it is the same.
    if basic and "none" in presented and presented.pop("none").client_id != basic.client_id:
        raise InvalidRequest("The client_id in the body is not the one in the Authorization header.")
    if len(presented) > 1:
        raise InvalidRequest("Authenticate by one method: in the Authorization header or in the body (RFC 6749 2.3).")
    if not presented:
        raise InvalidClient("The client must authenticate, by HTTP Basic or in the body.")
    method, credentials = next(iter(presented.items()))
    if credentials.assertion:
        assertions.check_times(server, credentials.assertion)
    detail = ""

    def accept(client: Client) -> bool:
        nonlocal detail
        detail = _find_problem(server, client, method, credentials)
        return not detail

    client = server.client(credentials.client_id, accept)
    if client and credentials.assertion and not assertions.spend(server, credentials.assertion):
        client, detail = None, "the client assertion was used before"
    if client is None:
        raise InvalidClient("The client is unknown, or its authentication failed.", detail=detail)
    http.client = client
    return client


def _find_problem(server: AuthorizationServer, client: Client, method: str, credentials: ClientCredentials) -> str:
    """Return why these credentials do not authenticate a client, for the log; "" when they do."""
    if credentials.assertion:
        problem = assertions.find_problem(server, client, credentials.assertion)
    else:
        problem = "" if _is_authentic(client, credentials) else "wrong or missing client secret"
    if not problem and not client.public and method not in client.auth_methods:
        problem = f"the client is not registered for {method}"
    return problem


def _is_authentic(client: Client, credentials: ClientCredentials) -> bool:
    # An empty secret is the same as none (RFC 6749 section 2.3.1): some libraries use HTTP Basic for every client.
    if client.public or not credentials.secret:
        return client.public and not credentials.secret
    presented = secret_hash(credentials.secret)
    return any(secrets.compare_digest(presented, stored) for stored in client.secret_hashes)
