"""The copy of the key ring in this process: at most a minute old, and read by one thread while others use it."""

import base64
import json
import logging
import sys
import threading
from dataclasses import field, replace

from chalicelib.keys import signing
from chalicelib.keys.signing import SigningKey
from chalicelib.keys.stored_ring import KeyRingMissing, StoredRing
from chalicelib.protocol.durations import HOUR, MINUTE
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.protocol.values import dataclass

LIFETIME = MINUTE
# One thread reads the ring before the copy is too old, so that the others need not wait.
READ_AFTER = 50
OUTAGE_LIFETIME = HOUR  # of the copy, while the ring cannot be read
RETRY_AFTER = 10
# The log of `events.log`, which this package must not import.
_log = logging.getLogger("signet.requests")


@dataclass(frozen=True)
class Keys:
    """The parsed keys. `handles`: version -> the secret, and the time from which it is used; `data`: the same.

    `read_at` is the time before the ring was read, so that the age of the keys is never underestimated.
    """

    signing: tuple[SigningKey, ...]
    handles: dict[int, tuple[bytes, int]] = field(repr=False)
    data: dict[int, tuple[bytes, int]] = field(repr=False)
    pairwise: bytes = field(repr=False)
    record: SealedKeyRing = field(repr=False)
    read_at: int


class KeyCache:
    """The keys of the ring, read again after a minute."""

    def __init__(self, ring: StoredRing):
        self._ring = ring
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._parsed: dict[str, SigningKey] = {}
        self._failed_at: int | None = None

    def load(self) -> Keys:
        """Return the keys, at most a minute old. While the table or KMS is unreachable, at most an hour old.

        Raises KeyRingMissing, and TemporarilyUnavailable when the ring cannot be read and the copy is too old.
        """
        keys = self._keys
        if keys and self._is_current(keys):
            return keys
        if not self._lock.acquire(blocking=keys is None or self.age(keys) >= LIFETIME):
            assert keys  # noqa: S101  without keys, the call above waits
            return keys
        try:
            return self._load_locked()
        finally:
            self._lock.release()

    def read_again(self, keys: Keys) -> Keys:
        """Return keys that were read after `keys`. Raises TemporarilyUnavailable when the ring cannot be read."""
        with self._lock:
            if self._keys and self._keys is not keys:
                return self._keys
            if self._is_retry_too_early():
                raise TemporarilyUnavailable(detail="the key ring could not be read a few seconds ago")
            try:
                return self._read()
            except KeyRingMissing:
                raise
            except TemporarilyUnavailable:
                self._failed_at = self._ring.now
                raise

    def forget(self) -> None:
        """Drop the copy, so that the next use reads the ring."""
        with self._lock:  # a thread that is reading must not store an older ring afterwards
            self._keys = self._failed_at = None

    def age(self, keys: Keys) -> int:
        """Return the age of the keys in seconds. Keys from the future are too old: the clock was changed."""
        age = self._ring.now - keys.read_at
        return age if age >= 0 else sys.maxsize

    def _is_current(self, keys: Keys) -> bool:
        return self.age(keys) < (OUTAGE_LIFETIME if self._is_retry_too_early() else READ_AFTER)

    def _is_retry_too_early(self) -> bool:
        return self._failed_at is not None and 0 <= self._ring.now - self._failed_at < RETRY_AFTER

    def _load_locked(self) -> Keys:
        keys = self._keys
        if keys and self._is_current(keys):  # by now
            return keys
        try:
            return self._read()
        except KeyRingMissing:
            raise
        except TemporarilyUnavailable as outage:
            if keys is None or self.age(keys) >= OUTAGE_LIFETIME:
                raise
            self._failed_at = self._ring.now
            self._log_outage(outage.detail, self.age(keys))
            return keys

    def _read(self) -> Keys:
        read_at, previous, record = self._ring.now, self._keys, self._ring.read()
        if previous and previous.record == record:  # unchanged: KMS is not needed
            self._keys = replace(previous, read_at=read_at)
        else:
            self._keys = self._parse(record, read_at)
        self._failed_at = None
        return self._keys

    def _parse(self, record: SealedKeyRing, read_at: int) -> Keys:
        document, record = self._ring.open(record)
        # Parsing a key costs a hundred times a signature: keep the keys that are parsed already.
        keys = tuple(
            self._parsed.get(key["kid"]) or signing.parse(key, lambda: self._ring.seal.kms)
            for key in document["signing"]
        )
        self._parsed = {key.kid: key for key in keys}
        handles, data = (
            {key["version"]: (base64.b64decode(key["secret"]), signing.used_from(key)) for key in document[kind]}
            for kind in ("handles", "data")
        )
        return Keys(keys, handles, data, base64.b64decode(document["pairwise"]), record, read_at)

    def _log_outage(self, reason: str, age: int) -> None:
        detail = f"The key ring cannot be read ({reason}). The copy read {age} s ago is used until it is an hour old."
        line = {"level": "ERROR", "stage": self._ring.stage, "endpoint": "none", "detail": detail}
        _log.error(json.dumps(line))
