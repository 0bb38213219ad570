"""What the tests of mutual TLS share: a server with a domain for it, behind a gateway."""

from collections.abc import Callable

import pytest

from tests.support.client_certificates import DOMAIN, ISSUER
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.site import Site


@pytest.fixture
def mtls_site(site_with: Callable[..., Site]) -> Site:
    """Return a server with a domain for mutual TLS, and the user alice."""
    server = site_with(issuer=ISSUER, mtls_domain=DOMAIN)
    server.user("alice", claims={"name": "Alice"})
    return server


@pytest.fixture
def ordinary(mtls_site: Site) -> GatewayBrowser:
    """Return a browser at the ordinary address of that server."""
    return GatewayBrowser(mtls_site, HTTP_2)
