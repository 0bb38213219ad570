"""What users of other servers have in common: which claims Signet supports, and a `sub` for those without one."""

import hashlib
from collections.abc import Mapping
from typing import Any

from chalicelib.protocol import scopes
from chalicelib.protocol.handles import base64url

CLAIMS = set(scopes.CLAIMS) - {"sub", "preferred_username", "groups"}


def with_values(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims that have a value, without the spaces around a text."""
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in claims.items()}
    return {name: value for name, value in stripped.items() if value not in (None, "", {}, [])}


def derived_sub(origin: str, name: str) -> str:
    """Return a `sub` for a user without one in the file: the same each time that the file is read."""
    return base64url(hashlib.sha256(f"{origin} {name}".encode()).digest()[:16])
