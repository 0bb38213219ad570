"""What the tests of /oauth2/introspect share: tokens of a client, and a resource server in their audience."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.grants import create_code
from tests.support.resource_servers import API, register_resource_server
from tests.support.site import Registered, Site


@dataclass
class Setup:
    """A client, its tokens for the audiences API and UserInfo, the API's resource server, and the user's sub."""

    site: Site
    browser: Browser
    client: Registered
    resource_server: Registered
    tokens: dict[str, Any]
    sub: str


@pytest.fixture
def setup(site: Site, browser: Browser) -> Setup:
    client, alice = site.client(scope="openid email photos"), site.user()
    resource_server = register_resource_server(site)
    code = create_code(site, client, alice, scope=frozenset({"openid", "photos"}), resource=frozenset({API}))
    return Setup(site, browser, client, resource_server, browser.redeem(client, code).json, alice.sub)
