"""The record of the key ring, with the conventions of `protocol.records`."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class SealedKeyRing:
    """The encrypted key ring. Only `keys.envelope.Seal` can decrypt `sealed`."""

    ring: str
    sealed: bytes
    version: int = 1
