"""All checks of a client's record in one place. Every way to write one calls `check_record`."""

from collections.abc import Collection

from chalicelib.clients.acr_values import check_acr_values
from chalicelib.clients.authorization_types import check_types_of_client
from chalicelib.clients.metadata import check_client
from chalicelib.clients.tls_metadata import check_tls_members
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import check_profile


def check_record(client: Client, algorithms: Collection[str] = ALGORITHMS) -> None:
    """Check a client's record, also against its profile. Raises InvalidRedirectUri and InvalidClientMetadata.

    `algorithms`: those that this server can sign tokens with.
    """
    check_members(client, algorithms)
    check_profile(client)


def check_members(client: Client, algorithms: Collection[str] = ALGORITHMS) -> None:
    """Check a client's record, whatever its profile. Raises InvalidRedirectUri and InvalidClientMetadata."""
    check_client(client, algorithms)
    check_acr_values(client)
    check_tls_members(client)
    check_types_of_client(client)
