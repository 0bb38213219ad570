"""The record of an email that proves something: that its reader has the mailbox, and may do what the email is for."""

from chalicelib.protocol.durations import DAY, MINUTE
from chalicelib.protocol.values import dataclass

RESET = "reset"
VERIFY = "verify"
UNDO = "undo"
SIGN_IN = "signin"
SIGN_UP = "signup"
INVITATION = "invitation"
RESTORE = "restore"
# purpose -> for how long its email is valid; that of RESTORE as long as the account can be restored
LIFETIMES = {
    RESET: 30 * MINUTE,
    VERIFY: DAY,
    UNDO: 3 * DAY,
    SIGN_IN: 10 * MINUTE,
    SIGN_UP: DAY,
    INVITATION: 7 * DAY,
}
MAX_TRIES = 5  # of a code, in the browser that asked for the email
MAX_LINK_TRIES = 20  # of a code, by all who have the link


@dataclass(frozen=True)
class Proof:
    """An email with a code and a link, neither of which is stored: the key ring derives both from the `proof_id`.

    `proof_key` is the purpose with a digest of whom it is for, where a newer email replaces the older one, else random.
    `nonce`: random, of this email. `browser_id`: the browser that may use it; None until the code is typed in one.
    `sub`: the user; None for a decoy, whose email is not sent, and where there is no user yet. `sealed`: the address
    and what to continue with, encrypted. `generation`: a copy of a number of the user, a change of which ends the
    proof. `tries`: of the code; `link_tries`: those in other browsers, which programs that read messages can cause.
    """

    proof_key: str
    nonce: str
    created_at: int
    expires_at: int
    browser_id: str | None = None
    sub: str | None = None
    sealed: str | None = None
    generation: int = 0
    tries: int = 0
    link_tries: int = 0
    spent_at: int | None = None

    @property
    def proof_id(self) -> str:
        """The id of this email: another one than that of an earlier email for the same purpose."""
        return f"{self.proof_key}.{self.nonce}"

    @property
    def purpose(self) -> str:
        """What the email is for, one of LIFETIMES."""
        return self.proof_key.partition(".")[0]
