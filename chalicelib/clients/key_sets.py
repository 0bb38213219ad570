"""The key sets that are fetched from the `jwks_uri` of clients, and kept by the process."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib.http.outbound import Undeliverable, get
from chalicelib.keys.client_keys import Jwt, has_key_for, read_json, read_jwks
from chalicelib.protocol.durations import DAY, MINUTE
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.server import AuthorizationServer

FRESH_FOR = 5 * MINUTE
STALE_FOR = DAY  # while it cannot be fetched again
PAUSE = 30  # seconds between two requests for a set: any caller can name an unknown key
MAX_BYTES = 65536
MAX_SETS = 1000


@dataclass
class _Fetched:
    """A key set as this process has it: `fetched_at` is that of the keys, `tried_at` of the last request."""

    keys: Mapping[str, Any] | None = None
    fetched_at: int = 0
    tried_at: int | None = None
    problem: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


def fetch_keys(server: AuthorizationServer, uri: str, jwt: Jwt) -> Mapping[str, Any]:
    """Return the key set at a `jwks_uri`, for a JWT of its client.

    It is fetched again after a while, or when it has no key with the `kid` of the JWT, but at most once in PAUSE.
    Raises TemporarilyUnavailable while there is none, because it cannot be fetched.
    """
    fetched = _remembered(server, uri)
    with fetched.lock:  # the other threads wait for the same answer
        now = server.now()
        age = now - fetched.fetched_at
        if fetched.keys and age < FRESH_FOR and has_key_for(jwt, fetched.keys):
            return fetched.keys
        if fetched.tried_at is None or now - fetched.tried_at >= PAUSE:
            fetched.tried_at = now
            try:
                text = get(uri, server.settings.outbound_networks, at_most=MAX_BYTES)
                fetched.keys, fetched.fetched_at = read_jwks(read_json(text)), now
            except (Undeliverable, ValueError) as error:
                fetched.problem = f"the jwks_uri of the client cannot be used: {error}"
        if fetched.keys is None or now - fetched.fetched_at >= STALE_FOR:
            raise TemporarilyUnavailable(detail=fetched.problem)
        return fetched.keys


def _remembered(server: AuthorizationServer, uri: str) -> _Fetched:
    """Return what the process remembers of a set, without the oldest one if there are many."""
    sets: dict[str, _Fetched] = server.process_memory.setdefault("key sets", {})
    if uri not in sets and len(sets) >= MAX_SETS:
        sets.pop(next(iter(sets)), None)
    return sets.setdefault(uri, _Fetched())
