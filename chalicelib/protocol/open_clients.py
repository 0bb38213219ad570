"""What clients may have that the operator has not registered: those with a document, or that register themselves."""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from chalicelib.protocol.values import dataclass

HTTPS, LOOPBACK, PRIVATE_USE = "https", "loopback", "private-use"
REDIRECTS = (HTTPS, LOOPBACK, PRIVATE_USE)
GRANT_TYPES = ("authorization_code", "refresh_token")


@dataclass(frozen=True)
class OpenClientPolicy:
    """What the operator allows them. `redirects`: kinds of redirect URIs."""

    scope: str
    redirects: tuple[str, ...] = REDIRECTS
    grant_types: tuple[str, ...] = GRANT_TYPES

    def allowed(self, redirect_uris: Iterable[str]) -> tuple[str, ...]:
        """Return those of the redirect URIs, which are valid, whose kind is allowed."""
        return tuple(uri for uri in redirect_uris if kind_of(uri) in self.redirects)


def kind_of(redirect_uri: str) -> str:
    """Return the kind of a valid redirect URI: at a website, on the user's machine, or of an application's scheme.

    RFC 8252 section 7 has the last two. https on this machine is on this machine too.
    """
    parts = urlsplit(redirect_uri)
    if parts.scheme not in ("http", "https"):
        return PRIVATE_USE
    return LOOPBACK if _is_this_machine(parts.hostname or "") else HTTPS


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
