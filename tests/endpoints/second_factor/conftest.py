"""What the tests of the second factor share: alice, with and without an authenticator application, and a client."""

import pytest

from tests.support.second_factor import Authenticator, add_second_factor
from tests.support.site import Registered, Site


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(grant_types=("authorization_code", "refresh_token"), trusted=True)


@pytest.fixture
def phone(site: Site) -> Authenticator:
    """The application of alice, whose second factor is on."""
    site.user("alice")
    return add_second_factor(site)
