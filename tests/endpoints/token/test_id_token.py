"""The header and the claims of an ID token (OpenID Connect Core section 2)."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest

from tests.endpoints.token.conftest import claims_of
from tests.support.browser import Browser
from tests.support.site import Site


def id_token(site: Site, browser: Browser, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims of the ID token for an authorization request of alice."""
    client = site.client(trusted=True)
    page = browser.authorize(client, **parameters)
    token = browser.redeem(client, browser.sign_in(page).code).json["id_token"]
    return jwt.get_unverified_header(token), claims_of(token) | {"client": client.id}


@pytest.mark.spec("OpenID Connect Core §2 b", "OpenID Connect Core §2 c", "OpenID Connect Core §2 d")
@pytest.mark.spec("OpenID Connect Core §2 e", "OpenID Connect Core §2 f", "OpenID Connect Core §2 g")
@pytest.mark.spec("OpenID Connect Core §2 m", "OpenID Connect Core §2 o", "OpenID Connect Core §2 p")
def test_id_token_has_the_required_claims_and_no_keys_in_its_header(site: Site, browser: Browser) -> None:
    alice = site.user()
    header, claims = id_token(site, browser)
    assert claims["sub"] == alice.sub
    assert claims["sub"].isascii()
    assert 0 < len(claims["sub"]) <= 255
    assert claims["aud"] == claims["client"]
    assert (claims["iat"], claims["auth_time"]) == (site.clock.time, site.clock.time)
    assert claims["exp"] == site.clock.time + 600
    assert set(header) == {"alg", "kid", "typ"}
    assert header["alg"] == "RS256"


@pytest.mark.spec("OpenID Connect Core §2 j")
def test_acr_is_a_uri_listed_in_the_metadata(site: Site, browser: Browser) -> None:
    site.user()
    _, claims = id_token(site, browser)
    assert claims["acr"].startswith("urn:")
    assert claims["acr"] in browser.get("/.well-known/openid-configuration").json["acr_values_supported"]


@pytest.mark.spec("RFC 9207 §2.4")
def test_id_token_in_an_authorization_response_has_the_issuer_of_the_response(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True, response_types=("code", "code id_token"))
    page = browser.authorize(client, response_type="code id_token", nonce="n-0S6_WzA2Mj")
    response = dict(parse_qsl(urlsplit(browser.sign_in(page).location).fragment))
    assert claims_of(response["id_token"])["iss"] == response["iss"] == site.settings.issuer


@pytest.mark.spec("OpenID Connect Core §2 h", "OpenID Connect Core §2 i")
@pytest.mark.parametrize("nonce", ["n-0S6_WzA2Mj", " n ", 'ü☃"\\%41+&=', "0", "x" * 2048])
def test_nonce_is_returned_unchanged_and_can_be_repeated(site: Site, browser: Browser, nonce: str) -> None:
    site.user()
    for _ in range(2):  # clients must check that a nonce is new
        assert id_token(site, browser, nonce=nonce, prompt="login")[1]["nonce"] == nonce


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 o", "OpenID Connect Core §2 g", "OpenID Connect Core §15.1 e")
def test_with_max_age_the_id_token_has_the_time_of_sign_in(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True)
    browser.sign_in(browser.authorize(client))
    signed_in = site.clock.time
    site.clock.advance(50)
    code = browser.authorize(client, max_age="100").code
    token = browser.redeem(client, code).json["id_token"]
    assert claims_of(token)["auth_time"] == signed_in


CLAIMS = {"email": "alice@example.com", "email_verified": True, "name": "Alice", "phone_number": "+49228555"}
ALL_SCOPES = "openid profile email phone offline_access"


def test_id_token_has_the_claims_of_the_scope_for_a_client_registered_for_them(site: Site, browser: Browser) -> None:
    site.user(claims=CLAIMS)
    client = site.client(trusted=True, scope=ALL_SCOPES, id_token_claims_from_scope=True)
    tokens = browser.tokens(client, scope="openid profile email offline_access")
    claims = claims_of(tokens["id_token"])
    released = {"preferred_username": "alice", **{name: value for name, value in CLAIMS.items() if "phone" not in name}}
    assert released.items() <= claims.items()
    assert "phone_number" not in claims, "its scope was not requested"
    assert browser.userinfo(tokens["access_token"]).json == {"sub": claims["sub"], **released}
    refreshed = browser.refresh(client, tokens["refresh_token"]).json["id_token"]
    assert released.items() <= claims_of(refreshed).items()
    narrowed = browser.refresh(client, tokens["refresh_token"], scope="openid email").json["id_token"]
    assert {"email"} <= set(claims_of(narrowed))
    assert "name" not in claims_of(narrowed)


def test_id_token_has_no_claims_of_the_scope_by_default(site: Site, browser: Browser) -> None:
    site.user(claims=CLAIMS)
    claims = claims_of(browser.tokens(site.client(trusted=True, scope=ALL_SCOPES), scope=ALL_SCOPES)["id_token"])
    assert not set(claims) & {*CLAIMS, "preferred_username"}


def test_claims_of_the_scope_are_not_in_an_id_token_in_an_address(site: Site, browser: Browser) -> None:
    site.user(claims=CLAIMS)
    client = site.client(
        trusted=True, scope=ALL_SCOPES, id_token_claims_from_scope=True, response_types=("code", "code id_token")
    )
    answer = browser.answer(client, scope="openid email", response_type="code id_token", nonce="n-0S6_WzA2Mj").answer
    assert "email" not in claims_of(answer["id_token"])
    assert claims_of(browser.redeem(client, answer["code"]).json["id_token"])["email"] == CLAIMS["email"]
