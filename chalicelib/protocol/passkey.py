"""Passkeys (Web Authentication Level 3): their record, their names and their limits.

The rules of all records are in `protocol.records`.
"""

import hashlib
from ipaddress import ip_address
from urllib.parse import urlsplit

from chalicelib.protocol.handles import base64url
from chalicelib.protocol.redirect_uris import origin_of
from chalicelib.protocol.values import dataclass

# RFC 8176: possession of a key, presence of the user, and a second factor that the authenticator has verified. Not
# `hwk` or `swk`: without attestation it is unknown where the key is stored.
AMR = ("pop", "user", "mfa")
# COSE algorithms that are offered, best first: Ed25519, ES256, RS256.
ALGORITHMS = (-8, -7, -257)
MAX_CREDENTIAL_ID = 1023  # bytes (section 4)
MAX_PASSKEYS = 20  # of a user
MAX_NAME = 60  # characters
MAX_ANSWER = 16 * 1024  # characters of an answer of a browser
MAX_USER_HANDLE = 64  # bytes (section 5.4.3)


@dataclass(frozen=True)
class Passkey:
    """A passkey of a user. `passkey_id` is a digest of the `credential_id`, which can be too long for a key.

    `credential_id` and `public_key` (a COSE key) are base64url, `alg` is the COSE algorithm. `rp_id`: the domain that
    it was created for. `sign_count`: the highest signature counter; 0 if the authenticator has none. `backup_eligible`:
    whether it can be synchronised between devices, which never changes; `backed_up`: whether it is. `user_verified`:
    whether the authenticator verified the user at the last use. `aaguid`: the model of the authenticator, unproven.
    """

    sub: str
    passkey_id: str
    credential_id: str
    public_key: str
    alg: int
    rp_id: str
    sign_count: int = 0
    backup_eligible: bool = False
    backed_up: bool = False
    user_verified: bool = False
    transports: tuple[str, ...] = ()
    aaguid: str = ""
    name: str = ""
    created_at: int = 0
    last_used_at: int | None = None


def passkey_id_of(credential_id: bytes) -> str:
    """Return the key of a passkey's record, and of its row in the identifiers."""
    return base64url(hashlib.sha256(credential_id).digest())


def passkey_identifier(passkey_id: str) -> str:
    """Return the identifier of a passkey, which is unique: the same credential belongs to one user."""
    return f"passkey:{passkey_id}"


def user_handle(sub: str) -> bytes | None:
    """Return the `user.id` of a user's passkeys; None if the `sub`, an imported one, is too long to be one."""
    handle = sub.encode()
    return handle if len(handle) <= MAX_USER_HANDLE else None


def rp_id_of(setting: str | None, issuer: str) -> str | None:
    """Return the domain of the passkeys (the relying party identifier); None where browsers accept none.

    `setting`: SIGNET_RP_ID, by default the host of the issuer. A server at an IP address can have no passkeys.
    """
    host = urlsplit(issuer).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return setting or host or None
    return None


def origins_of(issuer: str, related_origins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the origins whose pages may use the passkeys of this server."""
    return tuple(dict.fromkeys([origin_of(issuer) or "", *related_origins]))


def is_own_domain(rp_id: str, issuer: str) -> bool:
    """Return whether no other server has passkeys of this domain: it is the issuer's whole host, and not localhost."""
    return rp_id == urlsplit(issuer).hostname and rp_id != "localhost"
