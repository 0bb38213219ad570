"""The record that counts failed sign-ins, and makes a browser or a network known."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class Attempts:
    """A count of failed sign-ins: of a browser, a network, an address or an account. `attempts_id` is a keyed digest.

    `hour_failures` and `day_failures` are those since `hour_started` and `day_started`, for an hour and a day.
    `unlocked`: of an account, a random number that the operator's unlock replaces; the records of its networks have a
    copy, and another one ends their windows. `failures`: of a browser, since its last success. `generation`: of a
    browser or a network that is known, a copy of the user's `password_generation`.
    """

    attempts_id: str
    expires_at: int
    failures: int = 0
    generation: int | None = None
    hour_started: int = 0
    hour_failures: int = 0
    day_started: int = 0
    day_failures: int = 0
    unlocked: int = 0
