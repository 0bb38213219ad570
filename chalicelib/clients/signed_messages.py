"""The checks of client metadata about signatures (OpenID Connect Registration section 2, RFC 9101 section 10.5)."""

from collections.abc import Collection

from chalicelib.keys.client_keys import ACCEPTED
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata

_SIGNED = ("id_token", "access_token")
_SIGNED_IF_REQUESTED = ("userinfo", "authorization", "introspection")


def check_algorithms(client: Client, algorithms: Collection[str]) -> None:
    """Check what this server signs for a client, with one of these algorithms. Raises InvalidClientMetadata."""
    for kind in (*_SIGNED, *_SIGNED_IF_REQUESTED):
        alg = getattr(client, f"{kind}_signed_response_alg")
        if alg not in algorithms and not (alg is None and kind in _SIGNED_IF_REQUESTED):
            raise InvalidClientMetadata(f"The {kind}_signed_response_alg must be one of: " + ", ".join(algorithms))


def check_signed_requests(client: Client) -> None:
    """Check what a client registers about its request objects. Raises InvalidClientMetadata."""
    alg = client.request_object_signing_alg
    if alg is not None and alg not in ACCEPTED:
        raise InvalidClientMetadata("The request_object_signing_alg must be one of: " + ", ".join(ACCEPTED))
    if client.require_signed_request_object and client.jwks is None and client.jwks_uri is None:
        raise InvalidClientMetadata("With require_signed_request_object, register public keys: jwks or jwks_uri.")
