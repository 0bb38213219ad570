"""Proof Key for Code Exchange (RFC 7636): S256 only."""

import hashlib
import re

from chalicelib.protocol.handles import base64url

METHODS = ("S256",)
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def challenge(verifier: str) -> str:
    """Return BASE64URL-ENCODE(SHA256(ASCII(code_verifier))) (RFC 7636 section 4.2)."""
    return base64url(hashlib.sha256(verifier.encode()).digest())


def is_verifier(text: str) -> bool:
    """Return whether the text is a code verifier: 43 to 128 unreserved characters (RFC 7636 section 4.1)."""
    return _VERIFIER.fullmatch(text) is not None


def is_challenge(text: str) -> bool:
    """Return whether the text can be an S256 challenge: 43 base64url characters."""
    return _CHALLENGE.fullmatch(text) is not None
