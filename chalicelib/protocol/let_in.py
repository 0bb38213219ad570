"""The record of a link by which the operator makes a browser known for a user."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class LetInLink:
    """A link of `signet user let-in`, in the table of attempts. `attempts_id` is like that of no counter.

    `password_generation`: a copy of the user's, so that a new password ends the link, and so does the deletion of the
    user. `browser_id`: the browser that has used the link.
    """

    attempts_id: str
    expires_at: int
    sub: str
    password_generation: int = 0
    browser_id: str | None = None
