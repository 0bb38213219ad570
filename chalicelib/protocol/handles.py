"""Handles: authorization codes, refresh tokens and other references to records, such as `code_…`, `rt_…`, `sid_…`.

A handle is a key version, a generation, an HMAC tag and a record id, in base64url. The tables contain only the record
ids, so that a copy of them gives no usable handle, and a forged handle is rejected without a read. `keys` holds the
secrets; here they are parameters.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Literal

from chalicelib.protocol.values import dataclass

Kind = Literal["code", "rt", "req", "sid", "br", "ans", "let", "iat", "em"]
_TAG_BYTES = 16
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FIXED = 1 + 4 + _TAG_BYTES
_MAX_LENGTH = 512


@dataclass(frozen=True)
class Handle:
    """A verified handle. `generation` counts the successive handles of one record (refresh token rotation)."""

    kind: Kind
    id: str
    generation: int
    key_version: int


def base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 appendix C)."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL_SAFE, b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return the bytes of base64url without padding. Raises ValueError for any other text."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def new_id() -> str:
    """Return a record id: 128 random bits, base64url; without a leading `-`, so that it is no command-line option."""
    while (record_id := base64url(secrets.token_bytes(16))).startswith("-"):
        pass
    return record_id


def new_secret() -> str:
    """Return a secret for `make`: 256 random bits, base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def secret_hash(secret: str) -> str:
    """Return the SHA-256 of a client secret, base64url. Its 256 random bits need no slower hash."""
    return base64url(hashlib.sha256(secret.encode("utf-8", "replace")).digest())


def make(kind: Kind, record_id: str, generation: int, key_version: int, secret: bytes) -> str:
    """Return the handle of a record. `key_version` (1 to 255) is the version of `secret`."""
    head = key_version.to_bytes(1, "big") + generation.to_bytes(4, "big")
    identity = record_id.encode()
    body = head + _tag(kind, head + identity, secret) + identity
    return f"{kind}_" + base64url(body)


def read(kind: Kind, text: str, secret_of: Callable[[int], bytes | None]) -> Handle | None:
    """Return the handle in `text`, or None unless it has this kind and a valid tag.

    `secret_of` returns the secret of a key version, None for an unknown one.
    """
    prefix = f"{kind}_"
    if not text.startswith(prefix) or len(text) > _MAX_LENGTH or not text.isascii():
        return None
    encoded = text[len(prefix) :]
    try:
        body = from_base64url(encoded)
        record_id = body[_FIXED:].decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    # Base64 ignores the last bits: accept only one spelling of each handle.
    if not record_id or base64url(body) != encoded:
        return None
    secret = secret_of(body[0])
    if secret is None or not hmac.compare_digest(body[5:_FIXED], _tag(kind, body[:5] + body[_FIXED:], secret)):
        return None
    return Handle(kind, record_id, int.from_bytes(body[1:5], "big"), body[0])


def _tag(kind: str, data: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, f"signet {kind} ".encode() + data, hashlib.sha256)[:_TAG_BYTES]


def form_tag(subject: str, secret: bytes) -> str:
    """Return the CSRF tag of a form: it proves that this server rendered the form for this `subject`."""
    return base64url(_tag("form", subject.encode(), secret))
