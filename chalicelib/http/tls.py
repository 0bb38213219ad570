"""The TLS settings of all outgoing connections."""

import secrets
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


@cache
def context() -> "ssl.SSLContext":
    """Return the context, which verifies certificates: with the trust anchors of the system, or of SSL_CERT_FILE.

    Loading these takes longer than a request, so there is one context.
    """
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def add_randomness() -> None:
    """Mix new random bytes into the state of OpenSSL, which is the same in all processes that a snapshot restores."""
    import ssl

    ssl.RAND_add(secrets.token_bytes(32), 32.0)
