"""How long the record of a client that has registered itself is kept: longer with each use."""

from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused

UNUSED_LIFETIME = 30 * DAY  # until its first grant
LIFETIME = 400 * DAY  # since a grant was used; longer than a refresh token can be left unused
PRECISION = DAY  # it is extended once in this time


def extend_client(server: AuthorizationServer, client: Client) -> None:
    """Keep a client that has just got tokens, by at most one write a day.

    A failure is ignored: the tokens are issued already, and the next use tries again.
    """
    expires_at = server.now() + LIFETIME
    if client.expires_at is None or client.expires_at > expires_at - PRECISION:
        return
    unchanged = attr("expires_at").eq(client.expires_at)
    try:
        extended = server.store.clients.transition((client.client_id,), unchanged, {"expires_at": expires_at})
    except TemporarilyUnavailable:
        return
    # When it was refused, another process has extended the client, or it was changed or deleted.
    current = extended.record if isinstance(extended, Refused) else extended
    enabled = current if current and current.disabled_at is None else None
    server.cache_client(client.client_id, enabled)


def last_use(client: Client) -> int | None:
    """Return when a client that has registered itself got tokens, to the day; None if it never has."""
    used = client.expires_at is not None and client.expires_at > client.client_id_issued_at + UNUSED_LIFETIME
    return client.expires_at - LIFETIME if used and client.expires_at is not None else None
