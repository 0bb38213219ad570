"""Where an answer may go: the matching of redirection URIs.

Exact comparison (RFC 9700 section 2.1), with the one exception of RFC 8252 section 7.3: a native application listens on
whatever port of the loopback address it gets.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from chalicelib.messages import origin_of

_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::([0-9]{1,5}))?(?=[/?]|$)")


def matches(registered: str, presented: str) -> bool:
    """Whether an answer may be sent to `presented` for a client that registered `registered`."""
    if registered == presented:
        return True
    theirs, ours = _LOOPBACK.match(presented), _LOOPBACK.match(registered)
    if not theirs or not ours or (theirs[2] and not 0 < int(theirs[2]) < 65536):
        return False
    return theirs[1] + presented[theirs.end() :] == ours[1] + registered[ours.end() :]


def is_loopback(uri: str) -> bool:
    """Whether it leads to the machine that the browser runs on."""
    return _LOOPBACK.match(uri) is not None or urlsplit(uri).hostname == "localhost"


def can_be_impersonated(uri: str) -> bool:
    """Whether another application on the same device can take its answers (RFC 8252 section 8.6)."""
    return is_loopback(uri) or origin_of(uri) is None


def origin_is_registered(origin: str, redirect_uris: Iterable[str]) -> bool:
    """Whether a page of this origin belongs to a client with these redirect URIs: it may read our answers (CORS)."""
    return any(matches(registered, origin) for registered in filter(None, map(origin_of, redirect_uris)))
