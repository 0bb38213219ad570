"""Passwords: hashing and verification. Owns passlib (its maintained fork, libpass).

argon2id with 19 MiB, two passes, one lane (OWASP's first recommendation). Hashes that were imported from another server
are verified too, and replaced at the first sign-in. A password is compared in the form of RFC 8265 section 4.2.2,
because keyboards compose accents differently. A rejected sign-in uses the same CPU time for every account with a hash
of this server, and for none; with the setting SIGNET_PASSWORD_FAILURE_COST also for one with an imported hash.
"""

import re
import secrets
import string
import time
import unicodedata
from functools import cache
from typing import Any

MEMORY_COST = 19 * 1024  # KiB
TIME_COST = 2
PARALLELISM = 1
# Schemes of imported hashes. New hashes never use them.
FOREIGN = ("pbkdf2_sha512", "pbkdf2_sha256", "pbkdf2_sha1")
MAX_LENGTH = 1024
# The most expensive hash that can be imported.
MAX_MEMORY = 64 * 1024  # KiB
MAX_PASSES = 10
MAX_LANES = 16
MAX_ROUNDS = 1_000_000
MAX_HASH_LENGTH = 1024  # characters
# What the verification of an imported hash may cost, in hashes of this server. The most expensive one costs 20 to 23.
MAX_COST = 25
_IMPORTED_ROUNDS = 45_000  # rounds of PBKDF2-HMAC-SHA-512 that cost at least one hash
_NON_ASCII_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")  # Unicode category Zs
_cpu_time = time.process_time
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
    hashed: str = _context().hash(normalize(password))
    return hashed


def verify(password: str, password_hash: str | None, failure_cost: int = 1) -> bool:
    """Return whether the password of a sign-in is right. `password_hash`: None or "" if no user has one.

    If it is not, that costs `failure_cost` hashes of this server, with any hash of at most that cost and without one:
    the time does not tell whether an account exists, or was imported. With 1, it costs as many as the password has
    forms. What an imported hash costs depends on the machine, so it is measured: in CPU time, which other requests do
    not change.
    """
    _context()  # imports libraries, which the clock must not count
    started = _cpu_time()
    if matches(password, password_hash):
        return True
    if failure_cost <= 1:
        _hash_repeatedly(0 if password_hash else len(_forms(password)))
        return False
    verified = _cpu_time()
    _hash_repeatedly(1)
    cost_of_one = max(_cpu_time() - verified, 1e-6)  # a coarse clock may not have moved
    _hash_repeatedly(failure_cost - 1 - (verified - started) / cost_of_one)
    return False


def matches(password: str, password_hash: str | None) -> bool:
    """Return whether a hash is that of this password, without the cost of a rejected sign-in.

    An imported hash may be of another form of the password, as it was typed or normalised elsewhere. At least the
    first form is tried, and further ones while all together cost no more than MAX_COST.
    """
    if not password_hash:
        return False
    forms = _forms(password)
    most = max(1, int((MAX_COST - 1) / _relative_cost(password_hash)))
    return any(_context().verify(form, password_hash) for form in forms[:most]) and forms != [""]


def needs_rehash(password_hash: str, password: str = "") -> bool:
    """Return whether the hash of this password was imported, made with other parameters, or of another form of it."""
    if _context().needs_update(password_hash):
        return True
    return not password.isascii() and not _context().verify(normalize(password), password_hash)


def is_supported_hash(text: str) -> bool:
    """Return whether `verify` supports this hash."""
    try:
        parsed = _parse(text)
    except (ValueError, TypeError):
        return False
    size = len(parsed.checksum or b"")
    if not hasattr(parsed, "memory_cost"):
        return size > 0 and len(text) <= MAX_HASH_LENGTH
    # The least of RFC 9106 section 3.1; passlib does not check it here.
    valid = size >= 4 and parsed.memory_cost >= 8 * parsed.parallelism and not parsed.data
    return valid and len(text) <= MAX_HASH_LENGTH


def is_affordable_hash(text: str) -> bool:
    """Return whether a supported hash is not more expensive than allowed: an attacker can have it verified."""
    parsed = _parse(text)
    if not hasattr(parsed, "memory_cost"):
        return bool(parsed.rounds <= MAX_ROUNDS)
    within = parsed.memory_cost <= MAX_MEMORY and parsed.rounds <= MAX_PASSES and parsed.parallelism <= MAX_LANES
    return bool(within)


def normalize(password: str) -> str:
    """Return a password as it is hashed: every Unicode space as a space, in NFC (RFC 8265 section 4.2.2).

    Raises ValueError for invalid Unicode and NUL.
    """
    normalized = unicodedata.normalize("NFC", _NON_ASCII_SPACE.sub(" ", password))
    normalized.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    if "\0" in normalized:
        raise ValueError("a password must not contain NUL")
    return normalized


def generate_password() -> str:
    """Return a random password that is easy to type: 20 letters and digits that look different, 115 bits."""
    groups = ["".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4)]
    return "-".join(groups)


def _forms(password: str) -> list[str]:
    """Return the distinct forms in which other servers may have hashed a password, this server's first.

    Only "" for one that cannot be a password.

    NFKC is none: it would make full-width letters equal to others (RFC 8265 section 4.2.2), and the new hash would then
    be that of the entry with the wrong ones.
    """
    if len(password) > MAX_LENGTH:
        return [""]
    try:
        own = normalize(password)
    except ValueError:
        return [""]
    normalized = (unicodedata.normalize(form, password) for form in ("NFC", "NFD"))
    return list(dict.fromkeys((own, password, *normalized)))


def _parse(password_hash: str) -> Any:
    """Return the parameters of a hash. Raises ValueError and TypeError when it has an unknown format."""
    handler = _context().identify(password_hash, resolve=True, required=True)
    return handler.from_string(password_hash)


def _relative_cost(password_hash: str) -> float:
    """Return about how many hashes of this server cost as much as a verification of this one."""
    parsed = _parse(password_hash)
    if not hasattr(parsed, "memory_cost"):
        return float(parsed.rounds / _IMPORTED_ROUNDS)
    return float(parsed.memory_cost * parsed.rounds / (MEMORY_COST * TIME_COST))


def _hash_repeatedly(times: float) -> None:
    """Hash as often as this, with the rest as one hash that needs less memory, and so less time."""
    context = _context()
    for _ in range(int(times)):
        context.hash("")
    argon2 = context.handler("argon2")
    memory = int(times % 1 * argon2.memory_cost) if times > 0 else 0
    if memory >= 8:  # KiB: the least for one lane
        argon2.using(memory_cost=memory).hash("")
