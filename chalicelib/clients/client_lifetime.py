"""How long the record of a client that the operator has not registered is kept: longer with each use."""

from typing import Any

from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused, Table

UNUSED_LIFETIME = 30 * DAY  # of a client that has registered itself, until its first grant
LIFETIME = 400 * DAY  # since a grant was used; longer than a refresh token can be left unused
PRECISION = DAY  # a client that has registered itself is extended once in this time
DOCUMENT_PRECISION = 30 * DAY


def keep_client(server: AuthorizationServer, client: Client) -> None:
    """Keep the record of a client that has just got tokens, or its document, by at most one write a day.

    A failure is ignored: the tokens are issued already, and the next use tries again.
    """
    record, expires_at = client.document or client, server.now() + LIFETIME
    precision = DOCUMENT_PRECISION if client.document else PRECISION
    if record.expires_at is None or record.expires_at > expires_at - precision:
        return
    table: Table[Any] = server.store.documents if client.document else server.store.clients
    earlier = attr("expires_at").lt(expires_at)
    try:
        kept = table.transition((client.client_id,), earlier, {"expires_at": expires_at})
    except TemporarilyUnavailable:
        return
    # When it was refused, another process has extended it, or it was changed or deleted.
    current = kept.record if isinstance(kept, Refused) else kept
    # A document is read again, with what blocks it.
    enabled = isinstance(current, Client) and current.disabled_at is None
    server.cache_client(client.client_id, current if enabled else None)


def last_use(client: Client) -> int | None:
    """Return when a client that has registered itself got tokens, to the day; None if it never has."""
    used = client.expires_at is not None and client.expires_at > client.client_id_issued_at + UNUSED_LIFETIME
    return client.expires_at - LIFETIME if used and client.expires_at is not None else None
