"""What this process remembers of the records that it has read, so that most requests read none of them."""

import threading
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from chalicelib.protocol.authorization_type import AuthorizationType
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.resource import Resource

LIFETIME = MINUTE
SIZE = 1000
V = TypeVar("V")


class Cache(Generic[V]):
    """Values by key, each of which is returned for `lifetime` seconds after it was read.

    Beyond `size` the values that were stored first are dropped. A value may be None: that there is no record. It is the
    caller who decides what may be cached, and who reads again before anything is rejected because of a cached value.
    """

    def __init__(self, lifetime: int = LIFETIME, size: int = SIZE):
        self._lifetime = lifetime
        self._size = size
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[int, V]] = {}

    def get(self, key: str, now: int) -> V | None:
        """Return a value; None when it is not cached, or for too long."""
        entry = self._entries.get(key)
        return entry[1] if entry and now - entry[0] < self._lifetime else None

    def recent(self, keys: Iterable[str], now: int) -> dict[str, V]:
        """Return the values among these that are cached, by key."""
        values = {}
        for key in keys:
            entry = self._entries.get(key)
            if entry and now - entry[0] < self._lifetime:
                values[key] = entry[1]
        return values

    def update(self, values: Mapping[str, V], read_at: int) -> None:
        """Cache values by key, in place of older ones. `read_at`: when they were read, in seconds since 1970."""
        if not values:
            return
        with self._lock:
            for key, value in values.items():
                self._entries.pop(key, None)
                self._entries[key] = (read_at, value)
            while len(self._entries) > self._size:
                del self._entries[next(iter(self._entries))]

    def drop(self, keys: Iterable[str]) -> None:
        """Drop the values of these keys, so that the next use reads them again."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._entries.clear()


class RecordCaches:
    """What a process remembers of each kind of record, by its name; resources by URI, in any spelling.

    `playground_types`: the names of the types that the playground may ask for, by "".
    """

    def __init__(self) -> None:
        self.clients = Cache[Client]()
        self.scopes = Cache[Scope | None]()
        self.resources = Cache[Resource]()
        self.authorization_types = Cache[AuthorizationType]()
        self.playground_types = Cache[list[str]]()

    def clear(self) -> None:
        """Drop all values."""
        for cache in vars(self).values():
            cache.clear()
