"""Passwords: hash, verify, needs_rehash. Owns passlib (its maintained continuation, libpass).

argon2id with 19 MiB, two passes, one lane (OWASP's first recommendation). Hashes that people have brought from another
server are checked too, and replaced at the first sign-in. A password is compared in Unicode's NFC form, as RFC 8265
section 4.2 has it, so that it does not matter which keyboard composed its accents.
"""

import secrets
import string
import unicodedata
from functools import cache
from typing import Any

MEMORY_COST = 19 * 1024  # KiB
TIME_COST = 2
PARALLELISM = 1
# Schemes that a hash may have been made with elsewhere; none of ours is.
FOREIGN = ("pbkdf2_sha512", "pbkdf2_sha256", "pbkdf2_sha1")
LONGEST = 1024
SHORTEST = 8
_ALPHABET = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))


@cache
def _context() -> Any:
    from passlib.context import CryptContext

    return CryptContext(
        schemes=["argon2", *FOREIGN],
        deprecated=list(FOREIGN),
        argon2__type="ID",
        argon2__memory_cost=MEMORY_COST,
        argon2__time_cost=TIME_COST,
        argon2__parallelism=PARALLELISM,
    )


def hash_password(password: str) -> str:
    """The hash to store, in PHC string format. Raises ValueError for what is no Unicode text."""
    hashed: str = _context().hash(_normal(password))
    return hashed


def verify(password: str, password_hash: str | None) -> bool:
    """Whether the password is right. With no hash (an unknown user, or one who has no password) it costs the same time,
    and is False.
    """
    usable = 0 < len(password) <= LONGEST
    try:
        text = _normal(password) if usable else ""
    except ValueError:
        text, usable = "", False
    if not password_hash:
        _context().hash(text)  # a hash is as dear as a verification
        return False
    matches: bool = _context().verify(text, password_hash)
    return matches and usable


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made elsewhere, or with other parameters than today's."""
    answer: bool = _context().needs_update(password_hash)
    return answer


def is_hash(text: str) -> bool:
    """Whether `verify` can check a password against this hash."""
    try:
        _context().needs_update(text)
    except (ValueError, TypeError):
        return False
    return True


def problem_with(password: str, again: str | None = None) -> str | None:
    """What is wrong with a new password, in a sentence for the person; None when it will do.

    `again` is the same once more, where it was typed twice.
    NIST SP 800-63B section 3.1.1: length counts, composition rules do not.
    """
    if len(password) < SHORTEST:
        return f"Use at least {SHORTEST} characters."
    if len(password) > LONGEST:
        return f"Use at most {LONGEST} characters."
    try:
        _normal(password)
    except ValueError:
        return "Use characters that can be written down."
    if again is not None and again != password:
        return "The two entries differ."
    return None


def new_password() -> str:
    """A random password for a person to type: 20 letters and digits that cannot be confused, 115 bits."""
    groups = ["".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4)]
    return "-".join(groups)


def _normal(password: str) -> str:
    normal = unicodedata.normalize("NFC", password)
    normal.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    if "\0" in normal:
        raise ValueError("a password holds no NUL")
    return normal
