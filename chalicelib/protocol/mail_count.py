"""The record of how many mails were asked for or sent."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class MailCount:
    """A count of mails in one period, in the table of attempts. `attempts_id` is like that of no other counter."""

    attempts_id: str
    expires_at: int
    mails: int = 0
