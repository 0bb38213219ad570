"""The record of a key set that was fetched from the `jwks_uri` of a client.

It is in the table of client metadata documents, because it is fetched and kept as they are.
"""

from typing import Any

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class KeySet:
    """A key set as it was read and checked (`keys.client_keys.read_jwks`).

    `fresh_until`: when it is fetched again, by one process until `refreshing_until`.
    """

    document_id: str
    expires_at: int
    jwks: dict[str, Any]
    fetched_at: int
    fresh_until: int
    refreshing_until: int = 0


def key_set_id(uri: str) -> str:
    """Return the key of the record of the key set at a `jwks_uri`, which is no URL of a document."""
    return f"keys {uri}"
