"""The fields of a user for the second factor: a time-based one-time password (TOTP, RFC 6238), and recovery codes."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True, kw_only=True)
class SecondFactor:
    """The second factor of a user, a part of the record `User`.

    `totp_secret`: sealed with the ring's data key. `totp_confirmed_at`: when it was turned on; None while it is being
    set up. `totp_step`: the newest time step whose code was used; no older one is accepted. `totp_generation`: how
    often it was turned on or off; a new secret depends on it.

    `recovery_codes`: a keyed digest of each that was not used. `recovery_batch`: the time and a random id from which
    the codes can be computed again, until the user has saved them.
    """

    totp_secret: bytes | None = None
    totp_confirmed_at: int | None = None
    totp_step: int = 0
    totp_generation: int = 0
    recovery_codes: frozenset[str] = frozenset()
    recovery_batch: str | None = None

    @property
    def has_second_factor(self) -> bool:
        """Whether the second factor is on."""
        return self.totp_confirmed_at is not None and self.totp_secret is not None


SECOND_FACTOR_FIELDS = (
    *("totp_secret", "totp_confirmed_at", "totp_step", "totp_generation"),
    *("recovery_codes", "recovery_batch"),
)
