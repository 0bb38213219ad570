"""Passwords: hashing, verification, and the rules for new ones. Owns passlib (its maintained fork, libpass).

argon2id with 19 MiB, two passes, one lane (OWASP's first recommendation). Hashes that were imported from another server
are verified too, and replaced at the first sign-in. A password is compared in Unicode's NFC form, because
keyboards compose accents differently (RFC 8265 section 4.2).
"""

import secrets
import string
import unicodedata
from functools import cache
from typing import Any

MEMORY_COST = 19 * 1024  # KiB
TIME_COST = 2
PARALLELISM = 1
# Schemes of imported hashes. New hashes never use them.
FOREIGN = ("pbkdf2_sha512", "pbkdf2_sha256", "pbkdf2_sha1")
MAX_LENGTH = 1024
MIN_LENGTH = 8
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
    """Return the hash to store, in PHC string format. Raises ValueError for invalid Unicode and NUL."""
    hashed: str = _context().hash(_normalize(password))
    return hashed


def verify(password: str, password_hash: str | None) -> bool:
    """Return whether the password is right.

    Without a hash (an unknown user, or one without a password) the result is False, and takes as long.
    """
    usable = 0 < len(password) <= MAX_LENGTH
    try:
        text = _normalize(password) if usable else ""
    except ValueError:
        text, usable = "", False
    if not password_hash:
        _context().hash(text)  # takes as long as a verification
        return False
    matches: bool = _context().verify(text, password_hash)
    return matches and usable


def needs_rehash(password_hash: str) -> bool:
    """Return whether the hash was imported, or made with other parameters than the current ones."""
    outdated: bool = _context().needs_update(password_hash)
    return outdated


def is_supported_hash(text: str) -> bool:
    """Return whether `verify` supports this hash."""
    try:
        _context().needs_update(text)
    except (ValueError, TypeError):
        return False
    return True


def find_problem(password: str, repeated: str | None = None) -> str | None:
    """Return what is wrong with a new password, as a sentence for the user, or None.

    `repeated`: the second entry, where the password is typed twice. There are no composition rules (NIST SP 800-63B
    section 3.1.1).
    """
    if len(password) < MIN_LENGTH:
        return f"Use at least {MIN_LENGTH} characters."
    if len(password) > MAX_LENGTH:
        return f"Use at most {MAX_LENGTH} characters."
    try:
        _normalize(password)
    except ValueError:
        return "The password contains a character that cannot be used. Choose another one."
    if repeated is not None and repeated != password:
        return "The two entries differ."
    return None


def generate_password() -> str:
    """Return a random password that is easy to type: 20 letters and digits that look different, 115 bits."""
    groups = ["".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4)]
    return "-".join(groups)


def _normalize(password: str) -> str:
    normalized = unicodedata.normalize("NFC", password)
    normalized.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    if "\0" in normalized:
        raise ValueError("a password must not contain NUL")
    return normalized
