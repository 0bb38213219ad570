"""What the tests of /oauth2/userinfo share."""

from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from chalicelib.protocol.records import User
from chalicelib.tokens.issue import ACCESS_TOKEN_TYPE
from tests.support.browser import Answer, Browser
from tests.support.grants import create_code
from tests.support.site import Registered, Site


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT without checking it."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@dataclass
class Setup:
    """A client, its user, and the tokens of a code exchange with the scopes openid, email and profile."""

    site: Site
    browser: Browser
    client: Registered
    user: User
    tokens: dict[str, Any]

    @property
    def access_token(self) -> str:
        return str(self.tokens["access_token"])

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the access token."""
        return claims_of(self.access_token)

    @property
    def header(self) -> dict[str, Any]:
        """The JOSE header of the access token."""
        return jwt.get_unverified_header(self.access_token)

    def sign(self, typ: str = ACCESS_TOKEN_TYPE, alg: str = "RS256", **changed: Any) -> str:
        """Return the access token signed again with changed claims; None omits a claim."""
        claims = {name: value for name, value in (self.claims | changed).items() if value is not None}
        return self.site.server.keys.sign(claims, typ, alg)


def redeem_code(site: Site, browser: Browser, client: Registered, user: User) -> Setup:
    """Redeem an authorization code of this client and user."""
    return Setup(site, browser, client, user, browser.redeem(client, create_code(site, client, user)).json)


@pytest.fixture
def setup(site: Site, browser: Browser) -> Setup:
    return redeem_code(site, browser, site.client(), site.user())


def assert_rejected(answer: Answer, status: int, error: str | None) -> None:
    """Assert a challenge with this error code in header and body (RFC 6750 section 3); None: no token was sent."""
    challenge = answer.header("www-authenticate") or ""
    assert challenge.startswith('Bearer realm="userinfo"'), answer
    assert (answer.status, answer.json.get("error")) == (status, error)
    assert (f'error="{error}"' in challenge) if error else ("error" not in challenge)
    assert answer.header("cache-control") == "no-store"
    assert "sub" not in answer.json
