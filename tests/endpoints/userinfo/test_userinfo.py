"""/oauth2/userinfo: presenting an access token, and the claims that each scope releases."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.endpoints.userinfo.conftest import assert_rejected, claims_of
from tests.support.browser import Browser
from tests.support.grants import create_code
from tests.support.site import Registered, Site

FORM = "application/x-www-form-urlencoded"
CLAIMS: dict[str, Any] = {
    "name": "Alice Liddell",
    "given_name": "Alice",
    "nickname": "",
    "email": "alice@example.com",
    "email_verified": False,
    "phone_number": "+1 (604) 555-1234",
    "address": {"locality": "Oxford", "country": "UK"},
    "updated_at": 1311280970,
    "shoe_size": "37",
}


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(scope="openid profile email address phone offline_access PRODUCTION")


@pytest.fixture
def access_token(site: Site, browser: Browser, client: Registered) -> Callable[..., str]:
    """Return a function that creates an access token for Alice with these scopes."""
    alice = site.user("alice", claims=CLAIMS)

    def make(scope: str = "openid") -> str:
        code = create_code(site, client, alice, scope=frozenset(scope.split()))
        token: str = browser.redeem(client, code).json["access_token"]
        return token

    return make


# ---- presenting the token


@pytest.mark.spec("OpenID Connect Core §5.3 b", "OpenID Connect Core §5.3 c")
@pytest.mark.spec("RFC 6750 §2.1")
@pytest.mark.spec("OpenID Connect Core §5.3.1")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_token_in_the_header_is_accepted(
    browser: Browser, access_token: Callable[..., str], method: str, scheme: str
) -> None:
    answer = browser.request(method, "/oauth2/userinfo", headers={"Authorization": f"{scheme} {access_token()}"})
    assert answer.status == 200
    assert answer.header("cache-control") == "no-store"
    assert set(answer.json) == {"sub"}


@pytest.mark.spec("RFC 6750 §2.2")
@pytest.mark.parametrize("media_type", [FORM, f"{FORM}; charset=utf-8", FORM.upper()])
def test_token_in_a_form_body_is_accepted(browser: Browser, access_token: Callable[..., str], media_type: str) -> None:
    body = urlencode({"access_token": access_token()})
    assert browser.request("POST", "/oauth2/userinfo", body, {"Content-Type": media_type}).status == 200


def test_body_of_another_media_type_is_ignored(browser: Browser, access_token: Callable[..., str]) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {access_token()}"}
    assert browser.request("POST", "/oauth2/userinfo", "{", headers).status == 200
    assert browser.request("GET", "/oauth2/userinfo", None, headers | {"Content-Type": FORM}).status == 200


@pytest.mark.spec("RFC 6749 §7", "RFC 6750 §3.1 c", "RFC 9068 §4 j")
@pytest.mark.spec("RFC 6750 §3.1")
def test_scope_without_openid_is_insufficient(browser: Browser, access_token: Callable[..., str]) -> None:
    answer = browser.userinfo(access_token("profile email"))
    assert_rejected(answer, 403, "insufficient_scope")
    assert 'scope="openid"' in (answer.header("www-authenticate") or "")


# ---- claims

PROFILE = {"name": "Alice Liddell", "given_name": "Alice", "preferred_username": "alice", "updated_at": 1311280970}
EMAIL = {"email": "alice@example.com", "email_verified": False}


@pytest.mark.spec("RFC 9068 §4 j", "OpenID Connect Core §5.3.2 d")
@pytest.mark.spec("OpenID Connect Core §5.4")
@pytest.mark.spec("OpenID Connect Core §5.3.2")
@pytest.mark.parametrize(
    ("scope", "claims"),
    [
        ("openid", {}),
        ("openid offline_access PRODUCTION", {}),
        ("openid profile", PROFILE),
        ("openid email", EMAIL),
        ("openid address", {"address": {"locality": "Oxford", "country": "UK"}}),
        ("openid phone", {"phone_number": "+1 (604) 555-1234"}),
        ("openid profile email", PROFILE | EMAIL),
    ],
)
def test_each_scope_releases_its_claims_only(
    browser: Browser, access_token: Callable[..., str], scope: str, claims: dict[str, Any]
) -> None:
    token = access_token(scope)
    assert browser.userinfo(token).json == {"sub": claims_of(token)["sub"], **claims}


@pytest.mark.spec("OpenID Connect Core §5.3.2 b", "OpenID Connect Core §5.3.2 c", "OpenID Connect Core §13.3")
@pytest.mark.spec("OpenID Connect Core §5.3.2")
def test_claim_without_a_value_is_omitted(site: Site, browser: Browser, client: Registered) -> None:
    bob = site.user("bob", claims={"name": None, "family_name": "", "locale": "en"})
    scope = frozenset({"openid", "profile", "email", "phone", "address"})
    token = browser.redeem(client, create_code(site, client, bob, scope=scope)).json["access_token"]
    assert browser.userinfo(token).json == {"sub": bob.sub, "preferred_username": "bob", "locale": "en"}
