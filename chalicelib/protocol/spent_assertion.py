"""The record of a client assertion that was used."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class SpentAssertion:
    """A used client assertion, in the table of attempts. `attempts_id` is like that of no counter."""

    attempts_id: str
    expires_at: int
