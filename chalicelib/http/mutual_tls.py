"""The domain for mutual TLS, if the settings name one: the only place where a client certificate exists.

The gateway demands a certificate there, and verifies it. No header can carry one: whatever a caller sends anywhere else
is not read.
"""

from collections.abc import Mapping

from chalicelib.http.messages import Request
from chalicelib.protocol.errors import Forbidden, NotFound
from chalicelib.protocol.mutual_tls import ENDPOINTS


def served(addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the endpoints that this domain serves, of all by their names in the metadata."""
    return {name: addresses[name] for name in ENDPOINTS}


def admit(http: Request, domain: str | None, addresses: Mapping[str, str]) -> bool:
    """Return whether a request came by the domain for mutual TLS; any other one loses what claims to be a certificate.

    `addresses`: the paths of all endpoints, by their names in the metadata. Raises NotFound for another path, because
    pages have one address only, and Forbidden without a certificate: then the gateway does not demand one.
    """
    if http.domain != domain:
        http.presented_certificate = None
        return False
    if http.presented_certificate is None:
        raise Forbidden("This address is for clients with a certificate.")
    if http.path not in served(addresses).values():
        raise NotFound("There is nothing at this address.")
    return True
