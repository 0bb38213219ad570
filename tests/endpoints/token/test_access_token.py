"""The claims of an access token (RFC 9068)."""

import jwt
import pytest

from tests.support.browser import Browser
from tests.support.grants import create_code
from tests.support.site import Site


@pytest.mark.spec("RFC 9068 §2.2 a", "RFC 9068 §2.2 b", "RFC 9068 §2.2.3 a", "RFC 9068 §3 b", "RFC 9068 §3 e")
@pytest.mark.spec("RFC 6750 §5.2 c", "RFC 6750 §5.3 c", "RFC 9700 §2.3 d")
def test_access_token_has_issuer_audience_subject_client_scope_and_lifetime(site: Site, browser: Browser) -> None:
    client, alice = site.client(), site.user()
    code = create_code(site, client, alice, scope=frozenset({"openid", "email"}))
    token = browser.redeem(client, code).json["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == claims["aud"] == site.settings.issuer  # the audience of all scopes
    assert claims["sub"] == alice.sub
    assert claims["client_id"] == client.id
    assert claims["scope"] == "email openid"
    assert (claims["iat"], claims["exp"]) == (site.clock.time, site.clock.time + 600)
    assert len(claims["jti"]) >= 22
