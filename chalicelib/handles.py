"""The strings we hand out: `code_…`, `rt_…`, `req_…`, `sid_…`, `br_…`.

A handle names a record and proves that we made it: key version, generation, HMAC tag, record id, base64url. The tables
hold the ids alone, so nothing in them can be used; and a forged handle is refused without asking the database.
The secret is an argument: `keys` holds it.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["code", "rt", "req", "sid", "br", "ans"]
_TAG_BYTES = 16
_FIXED = 1 + 4 + _TAG_BYTES
_LONGEST = 512


@dataclass(frozen=True)
class Handle:
    """A handle that has been checked. `generation` tells which of a record's successive handles it is."""

    kind: Kind
    id: str
    generation: int
    key_version: int


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_id() -> str:
    """A record id: 128 random bits, base64url; never one that a command line takes for an option."""
    while (made := base64url(secrets.token_bytes(16))).startswith("-"):
        pass
    return made


def new_secret() -> str:
    """A secret to make handles with: 256 random bits, base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def secret_hash(secret: str) -> str:
    """The SHA-256 of a client secret, base64url. The secret is 256 random bits, so nothing slower is needed."""
    return base64url(hashlib.sha256(secret.encode("utf-8", "replace")).digest())


def make(kind: Kind, record_id: str, generation: int, key_version: int, secret: bytes) -> str:
    """The handle for a record. `key_version` (1 to 255) names `secret`."""
    head = key_version.to_bytes(1, "big") + generation.to_bytes(4, "big")
    identity = record_id.encode()
    body = head + _tag(kind, head + identity, secret) + identity
    return f"{kind}_" + base64url(body)


def read(kind: Kind, text: str, secret_of: Callable[[int], bytes | None]) -> Handle | None:
    """The handle in `text`, or None unless it is of this kind and its tag is right.

    `secret_of` gives the secret of a key version, None for an unknown one.
    """
    prefix = f"{kind}_"
    if not text.startswith(prefix) or len(text) > _LONGEST or not text.isascii():
        return None
    encoded = text[len(prefix) :]
    try:
        body = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        record_id = body[_FIXED:].decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    # One spelling only: base64 ignores the last bits, and two strings for one handle would be one too many.
    if not record_id or base64url(body) != encoded:
        return None
    secret = secret_of(body[0])
    if secret is None or not hmac.compare_digest(body[5:_FIXED], _tag(kind, body[:5] + body[_FIXED:], secret)):
        return None
    return Handle(kind, record_id, int.from_bytes(body[1:5], "big"), body[0])


def _tag(kind: str, data: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, f"signet {kind} ".encode() + data, hashlib.sha256)[:_TAG_BYTES]


def form_tag(subject: str, secret: bytes) -> str:
    """A tag for a form of ours: it proves that we showed this form for this `subject`."""
    return base64url(_tag("form", subject.encode(), secret))
