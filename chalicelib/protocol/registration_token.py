"""The record of an initial access token, with which applications register themselves (RFC 7591 section 3)."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class RegistrationToken:
    """An initial access token, which is the handle of this record and stored nowhere.

    `max_uses`: how many clients it may register; None is any number. `uses`: how many it has registered.
    """

    registration_token_id: str
    label: str
    created_at: int
    expires_at: int
    max_uses: int | None = None
    uses: int = 0
    revoked_at: int | None = None
