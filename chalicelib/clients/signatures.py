"""JWTs that a client has signed: its assertions and its request objects."""

from collections.abc import Mapping
from typing import Any

from chalicelib.keys.client_keys import Jwt, is_signed_by
from chalicelib.protocol import fapi
from chalicelib.protocol.client import Client
from chalicelib.server import AuthorizationServer


def has_signed(server: AuthorizationServer, client: Client, jwt: Jwt) -> bool:
    """Return whether a key of the client has signed a JWT: one of its record, or of the set at its `jwks_uri`.

    Raises ClientUnavailable while its keys cannot be fetched.
    """
    keys: Mapping[str, Any] | None = client.jwks
    if client.jwks_uri is not None:
        from chalicelib.clients.key_sets import fetch_keys  # few requests need what sends requests

        keys = fetch_keys(server, client, client.jwks_uri, jwt)
    return keys is not None and fapi.allows_algorithm(client, jwt.alg) and is_signed_by(jwt, keys)
