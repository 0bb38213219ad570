"""Who may register a client: who has an initial access token, or in open mode a limited number of callers.

Each is counted by one conditional write. Open registrations are counted in a fixed number of counters for each hour:
that of a caller depends on its network. So one write limits both a network and all networks together, and after an hour
every caller can register again.
"""

from dataclasses import replace

from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import HOUR, MINUTE
from chalicelib.protocol.errors import InvalidToken, TooManyRegistrations
from chalicelib.protocol.handles import Handle, new_id
from chalicelib.protocol.registration_token import RegistrationToken
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused

COUNTERS = 256
SAME_PER_MINUTE = 10  # clients that look the same: a service registers one for each of its users
CHALLENGE = 'Bearer realm="registration"'


def create_token(store: Store, keys: KeyRing, label: str, lifetime: int, max_uses: int | None) -> tuple[str, str]:
    """Store an initial access token; return its id and the token, which cannot be read later."""
    record = RegistrationToken(new_id(), label, store.now(), store.now() + lifetime, max_uses)
    token = keys.make_handle("iat", record.registration_token_id)
    store.registration_tokens.put(record)
    return record.registration_token_id, token


def read_token(server: AuthorizationServer, text: str | None) -> Handle | None:
    """Return the handle in an initial access token. Raises InvalidToken without one, except in open mode."""
    if text is None and server.settings.client_registration == "open":
        return None
    handle = server.keys.read_handle("iat", text)
    if handle is None:
        raise _invalid("" if text is None else ', error="invalid_token"')
    return handle


def store_with_token(server: AuthorizationServer, handle: Handle, client: Client) -> Client:
    """Store a new client and count a use of an initial access token, in one transaction; return the client.

    Raises InvalidToken when the token is expired, revoked or used up.
    """
    client = replace(client, registered_with=handle.id)
    valid = attr("revoked_at").not_exists() & (attr("max_uses").not_exists() | attr("uses").lt(attr("max_uses")))
    counting = server.store.registration_tokens.changing((handle.id,), valid, add={"uses": 1})
    if server.store.transact(counting, server.store.clients.inserting(client)):
        raise _invalid(', error="invalid_token"')
    return client


def count_open(server: AuthorizationServer, network: str, appearance: str) -> None:
    """Count a registration without a token. `appearance`: what the client is told apart by.

    Raises TooManyRegistrations at the limit. Beyond it, a process writes nothing more in this hour.
    """
    now, keys, counts = server.now(), server.keys, server.store.registration_counts
    hour, limit = now // HOUR, server.settings.registrations_per_address
    bucket = int.from_bytes(keys.digest("registration network", network).encode()[:2], "big") % COUNTERS
    key = "registrations." + keys.digest("registrations", str(hour), str(bucket))
    full = server.full_counters()
    if key not in full:
        same = f"same_{keys.digest('registration', network, appearance)[:8]}_{now // MINUTE % 60}"
        few = attr("registrations").lt(limit) & (attr(same).not_exists() | attr(same).lt(SAME_PER_MINUTE))
        expiry = {"expires_at": (hour + 2) * HOUR}
        counted = counts.write(counts.changing((key,), few, expiry, {"registrations": 1, same: 1}, create=True))
        if not isinstance(counted, Refused):
            return
        if counted.record and counted.record.registrations < limit:
            raise TooManyRegistrations("a minute", MINUTE - now % MINUTE)
        full.add(key)
    raise TooManyRegistrations("an hour", HOUR - now % HOUR)


def _invalid(error: str) -> InvalidToken:
    return InvalidToken(
        "Registration needs a valid initial access token (RFC 7591 section 3).",
        headers={"WWW-Authenticate": CHALLENGE + error},
    )
