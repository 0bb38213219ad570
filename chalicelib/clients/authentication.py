"""Client authentication (RFC 6749 section 2.3): one method per request, secrets compared in constant time."""

import secrets

from chalicelib.clients import assertions, tls_authentication
from chalicelib.clients.credentials import METHODS, ClientCredentials
from chalicelib.clients.document_cache import DocumentUnusable
from chalicelib.clients.documents import find_client
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import ClientUnavailable, InvalidClient, InvalidRequest
from chalicelib.protocol.handles import secret_hash
from chalicelib.server import AuthorizationServer


def authenticate_client(server: AuthorizationServer, http: Request, form: Params) -> Client:
    """Return the client that sent the request, once it has authenticated; `http.client` becomes it.

    `http.client_auth_method` becomes its method.

    An assertion is spent by it, with one write. Raises InvalidRequest when two methods are used, and InvalidClient when
    none is, the client is not registered for it, or it fails; ClientUnavailable while what it needs of the client
    cannot be fetched.
    """
    tls_authentication.read_certificate_of(server, http)
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
        detail = _find_problem(server, http, client, method, credentials)
        return not detail

    try:
        proves_key = credentials.assertion is not None
        client = find_client(server, http, credentials.client_id, accept, proves_key=proves_key)
    except DocumentUnusable as error:
        raise ClientUnavailable(detail=f"client document: {error}") from error
    if client and credentials.assertion and not assertions.spend(server, credentials.assertion):
        client, detail = None, "the client assertion was used before"
    if client is None:
        raise InvalidClient("The client is unknown, or its authentication failed.", detail=detail)
    http.client = client
    # An empty secret is no secret.
    http.client_auth_method = method if credentials.secret or credentials.assertion else "none"
    if not client.public and http.client_auth_method == "none" and http.certificate:
        http.client_auth_method = tls_authentication.method_of(client, http.certificate)
    return client


def _find_problem(
    server: AuthorizationServer, http: Request, client: Client, method: str, credentials: ClientCredentials
) -> str:
    """Return why these credentials do not authenticate a client, for the log; "" when they do."""
    if credentials.assertion:
        problem = assertions.find_problem(server, client, credentials.assertion)
    elif method == "none" and tls_authentication.expects_certificate(client):
        if http.certificate is None:
            return "the client must use its certificate, at an address for mutual TLS"
        return "" if tls_authentication.method_of(client, http.certificate) else "the certificate is not the client's"
    else:
        problem = "" if _is_authentic(client, credentials) else "wrong or missing client secret"
    if not problem and not client.public and method not in client.auth_methods:
        problem = f"the client is not registered for {method}"
    return problem


def _is_authentic(client: Client, credentials: ClientCredentials) -> bool:
    # An empty secret is the same as none (RFC 6749 section 2.3.1): some libraries use HTTP Basic for every client.
    if not credentials.secret:
        return client.public
    presented = secret_hash(credentials.secret)
    return any(secrets.compare_digest(presented, stored) for stored in client.secret_hashes)
