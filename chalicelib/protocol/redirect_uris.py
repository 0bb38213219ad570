"""Matching and classification of redirect URIs.

Comparison is exact (RFC 9700 section 2.1), except for the port of a loopback address, which a native application gets
from its system (RFC 8252 section 7.3). Many of them use `localhost` in place of an address.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::([0-9]{1,5}))?(?=[/?]|$)")


def matches(registered: str, presented: str) -> bool:
    """Return whether a client that registered `registered` may use `presented`."""
    if registered == presented:
        return True
    loopback, registered_loopback = _LOOPBACK.match(presented), _LOOPBACK.match(registered)
    if not loopback or not registered_loopback or (loopback[2] and not 0 < int(loopback[2]) < 65536):
        return False
    return loopback[1] + presented[loopback.end() :] == registered_loopback[1] + registered[registered_loopback.end() :]


def is_loopback(uri: str) -> bool:
    """Return whether the URI leads to the machine that the browser runs on."""
    return _LOOPBACK.match(uri) is not None or urlsplit(uri).hostname == "localhost"


def can_be_impersonated(uri: str) -> bool:
    """Return whether another application on the same device can receive the responses (RFC 8252 section 8.6)."""
    return is_loopback(uri) or origin_of(uri) is None


def origin_is_registered(origin: str, redirect_uris: Iterable[str]) -> bool:
    """Return whether a redirect URI has this origin: pages of a client may read its responses (CORS)."""
    return any(matches(registered, origin) for registered in filter(None, map(origin_of, redirect_uris)))


def origin_of(url: str) -> str | None:
    """Return the origin of an http or https URL (RFC 6454), None for any other scheme."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port and parts.port != default else "")
