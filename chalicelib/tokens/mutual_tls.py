"""Access tokens that are bound to the certificate of their client (RFC 8705 section 3)."""

from collections.abc import Mapping
from typing import Any

from chalicelib.http.messages import Request
from chalicelib.keys.certificates import read_certificate
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidRequest, InvalidToken
from chalicelib.server import AuthorizationServer


def bound_certificate(server: AuthorizationServer, http: Request, client: Client) -> str | None:
    """Return the thumbprint of the certificate that a client's tokens are to be bound to; None if it has not asked.

    A token is bound to one key (RFC 7800 section 3.1), so there is no DPoP proof then. Raises InvalidRequest.
    """
    if not client.tls_client_certificate_bound_access_tokens:
        return None
    if http.certificate and not http.proof:
        return http.certificate.thumbprint
    current = server.read_client(client.client_id)  # no client is rejected because of a cached record
    if current and not current.tls_client_certificate_bound_access_tokens:
        return None
    if http.proof:
        raise InvalidRequest("The tokens of this client are bound to its certificate: send no DPoP proof.")
    raise InvalidRequest("This client must use its certificate, at one of the mtls_endpoint_aliases (RFC 8705).")


def require_same_certificate(server: AuthorizationServer, http: Request, claims: Mapping[str, Any]) -> None:
    """Check that an access token that is bound to a certificate came with this certificate. Raises InvalidToken."""
    bound_to = claims.get("cnf", {}).get("x5t#S256")
    if bound_to is None:
        return
    if http.presented_certificate is None:
        raise InvalidToken("The access token is bound to a certificate: use it at the address for mutual TLS.")
    try:
        certificate = read_certificate(http.presented_certificate, server.now())
    except ValueError as error:
        raise InvalidToken("The client certificate cannot be used.", detail=f"certificate: {error}") from error
    if certificate.thumbprint != bound_to:
        raise InvalidToken("The access token is bound to another certificate.")
