"""The record of how many clients were registered without a token."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class RegistrationCount:
    """A count of registrations in an hour, in the table of attempts. `attempts_id` is like that of no other counter.

    It has an attribute more for each minute and kind of client, which counts the clients that look the same.
    """

    attempts_id: str
    expires_at: int
    registrations: int = 0
