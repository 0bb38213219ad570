"""The stored key ring: one encrypted record. It is created by the operator, and replaced by conditional writes."""

import json
from collections.abc import Callable
from typing import Any

from chalicelib.keys import signing
from chalicelib.keys.envelope import Seal
from chalicelib.protocol import handles
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused

RING = "main"
_TRIES = 5


class KeyRingMissing(TemporarilyUnavailable):
    """The stage has no key ring. Only the operator may create one: a new ring ends all sessions and grants."""

    def __init__(self, stage: str):
        super().__init__(
            detail=f"The key ring of the stage {stage} is missing. Restore it from a backup, or create a new one "
            f"with `signet key create --stage {stage}`."
        )


class StoredRing:
    """The key ring of a stage, in its table."""

    def __init__(self, store: Store):
        self._store = store
        self.seal = Seal(store.settings, store.account)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms that must have a key."""
        return signing.algorithms(self._store.settings)

    @property
    def now(self) -> int:
        """The time in seconds since 1970."""
        return self._store.now()

    @property
    def stage(self) -> str:
        """The name of the stage."""
        return self._store.settings.stage

    def exists(self) -> bool:
        """Return whether there is a ring."""
        return self._store.keys.get(RING) is not None

    def create(self) -> bool:
        """Create the ring. Return False, and change nothing, when there is one."""
        if self.exists():
            return False
        secret = {"version": 1, "secret": handles.new_secret(), "created_at": self.now}
        document = self._complete({"signing": [], "handles": [secret]})
        return self._store.keys.insert(self._sealed(document, 1))

    def restore(self, record: SealedKeyRing, change: Callable[[dict[str, Any]], object] | None = None) -> bool:
        """Insert a record that this stage can decrypt. Return False, and change nothing, when there is a ring.

        `change`: change the decrypted ring before it is inserted.
        """
        plain = self.seal.unseal(record.sealed, record.version)
        if change:
            document = json.loads(plain)
            change(document)
            record = self._sealed(document, record.version + 1)
        return self._store.keys.insert(record)

    def read(self) -> SealedKeyRing:
        """Return the encrypted ring. Raises KeyRingMissing."""
        record = self._store.keys.get(RING)
        if record is None:
            raise KeyRingMissing(self.stage)
        return record

    def open(self, record: SealedKeyRing) -> tuple[dict[str, Any], SealedKeyRing]:
        """Return the decrypted ring and its record, which is another one if the ring was changed.

        A ring of an older version of Signet gets the keys that it lacks.
        """
        for _ in range(_TRIES):
            document: dict[str, Any] = json.loads(self.seal.unseal(record.sealed, record.version))
            if {"pairwise", "data"} <= document.keys() and not self._missing_algorithms(document):
                return document, record
            document = self._complete(document)
            if replacement := self.replace(document, record.version):
                return document, replacement
            record = self.read()
        raise TemporarilyUnavailable(detail="the key ring is being changed by another process")

    def replace(self, document: dict[str, Any], version: int) -> SealedKeyRing | None:
        """Replace that version of the ring. Return None when another process has replaced it before."""
        record = self._sealed(document, version + 1)
        changes = {"sealed": record.sealed, "version": record.version}
        outcome = self._store.keys.transition((RING,), attr("version").eq(version), changes)
        return None if isinstance(outcome, Refused) else outcome

    def new_key_pair(self, alg: str) -> dict[str, Any]:
        """Return the entry for a new key pair: generated, or the key that the alias in KMS points to."""
        if self._store.settings.signing == "kms":
            return signing.kms_entry(alg, self.seal.kms, f"alias/signet-{self.stage}-{alg.lower()}", self.now)
        return signing.new_entry(alg, self.now)

    def _sealed(self, document: dict[str, Any], version: int) -> SealedKeyRing:
        return SealedKeyRing(RING, self.seal.seal(json.dumps(document).encode(), version), version)

    def _missing_algorithms(self, document: dict[str, Any]) -> list[str]:
        present = {key["alg"] for key in document["signing"]}
        return [alg for alg in self.algorithms if alg not in present]

    def _complete(self, document: dict[str, Any]) -> dict[str, Any]:
        document["signing"] += [self.new_key_pair(alg) for alg in self._missing_algorithms(document)]
        document.setdefault("pairwise", handles.new_secret())
        document.setdefault("data", [{"version": 1, "secret": handles.new_secret(), "created_at": self.now}])
        return document
