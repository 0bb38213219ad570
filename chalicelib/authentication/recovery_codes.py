"""Recovery codes: what a user enters who has lost the second factor. Each works once.

A code has 50 random bits and is stored as a keyed digest. The codes are computed from a random batch id, which is
deleted once the user has saved them: until then the page that shows them can be reloaded.
"""

import base64

from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.handles import from_base64url, new_id
from chalicelib.protocol.records import User

CODES = 10
FEW = 2  # so many left are worth a warning
SHOWN_FOR = 10 * MINUTE
_LENGTH = 10  # characters of 5 bits
_LOOKALIKES = str.maketrans("018", "OIB")  # base32 has none of these digits


def new_batch(now: int, session_id: str) -> str:
    """Return a new batch: the time, a random id, and the session in which its codes are shown."""
    return f"{now}.{new_id()}.{session_id}"


def shown_batch(user: User, now: int, session_id: str) -> str | None:
    """Return the batch whose codes the user has not saved yet in this session, for ten minutes after its creation."""
    batch = user.recovery_batch
    if batch is None or not batch.endswith(f".{session_id}"):
        return None
    return batch if now - int(batch.partition(".")[0]) < SHOWN_FOR else None


def codes_of(keys: KeyRing, sub: str, batch: str) -> list[str]:
    """Return the codes of a batch, as users read them: ABCD-EFGH-IJ."""
    return [_format(from_base64url(keys.digest("recovery code", batch, str(i), sub))) for i in range(CODES)]


def _format(random: bytes) -> str:
    text = base64.b32encode(random[:10]).decode()[:_LENGTH]
    return f"{text[:4]}-{text[4:8]}-{text[8:]}"


def normalize(text: str) -> str:
    """Return a code as it was entered, without hyphens and spaces, in capital letters."""
    return "".join(each for each in text[:64].upper() if each.isalnum()).translate(_LOOKALIKES)


def digest(keys: KeyRing, sub: str, code: str) -> str:
    """Return what is stored of a code."""
    return keys.digest("recovery code of", sub, normalize(code))


def digests(keys: KeyRing, sub: str, batch: str) -> frozenset[str]:
    """Return what is stored of the codes of a batch."""
    return frozenset(digest(keys, sub, code) for code in codes_of(keys, sub, batch))
