"""The second factor of an imported user: it is sealed, so that only the stage that exported it can read it."""

from typing import Any

from chalicelib.authentication import totp
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.stored_ring import KeyRingMissing
from chalicelib.protocol.records import User
from chalicelib.storage.store import Store

NO_SECOND_FACTOR: dict[str, Any] = {
    "totp_secret": None,
    "totp_confirmed_at": None,
    "totp_step": 0,
    "totp_generation": 0,
    "recovery_codes": frozenset(),
}


def is_readable(store: Store, user: User) -> bool:
    """Return whether this stage can read the secret of a user's second factor."""
    try:
        return totp.unseal(KeyRing(store), user) is not None
    except KeyRingMissing:
        return False
