"""DPoP (RFC 9449): a client proves with each request that it holds a key, which its tokens are bound to."""

import hashlib
import re

from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.resource_uris import normalize
from chalicelib.protocol.values import dataclass

USED_BEFORE = "The DPoP proof was used before: make a new one for each request."
TYPE = "dpop+jwt"
MAX_LENGTH = 4096  # characters; a proof by an RSA key of 4,096 bits has about 2,500
MAX_JTI = 128
# How far the clock of a client may be behind, which is also how long a proof can be used, and how far ahead.
MAX_AGE, MAX_AHEAD = MINUTE, 10
LIFETIME = MAX_AGE + MAX_AHEAD + 1  # after this time, a proof that was accepted is too old
NONCE_PERIOD = 2 * MINUTE  # a nonce is accepted in its period and in the next one
_NONCE = re.compile(r"(?P<period>[0-9]{1,12})\.(?P<tag>[A-Za-z0-9_-]{22})")


@dataclass(frozen=True)
class Proof:
    """A verified proof. `jkt`: the thumbprint of its key (RFC 7638). `jti`: a digest of its key and its `jti`."""

    jkt: str
    jti: str


def proof_digest(jkt: str, jti: str) -> str:
    """Return what tells one proof from another: 128 bits. Raises ValueError for a lone surrogate."""
    return base64url(hashlib.sha256(f"{jkt} {jti}".encode()).digest()[:16])


def access_token_hash(token: str) -> str:
    """Return the `ath` of a proof for an access token (RFC 9449 section 4.2)."""
    return base64url(hashlib.sha256(token.encode()).digest())


def is_same_address(htu: str, address: str) -> bool:
    """Return whether `htu` is an address of this server, without its query and fragment (RFC 9449 section 4.3)."""
    return normalize(re.split(r"[?#]", htu, maxsplit=1)[0]) == normalize(address)


def nonce_period(now: int) -> int:
    """Return the number of the period that a time is in."""
    return now // NONCE_PERIOD


def nonce_subject(period: int) -> str:
    """Return what the tag of the nonces of a period is made of."""
    return f"DPoP nonce {period}"


def split_nonce(nonce: str) -> tuple[int, str] | None:
    """Return the period and the tag of a nonce, or None for a text that this server never issues."""
    match = _NONCE.fullmatch(nonce)
    return (int(match["period"]), match["tag"]) if match else None
