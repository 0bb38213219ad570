"""The authorization code grant as the documentation of WSO2 Identity Server shows it, behind an API manager."""

import pytest

from tests.support.browser import Browser
from tests.support.exchanges import curl, is_consent_page, is_sign_in_page, needs_curl
from tests.support.site import Registered, Site

REDIRECT_URI = "https://client.example.com/oauth2client"


@pytest.fixture
def wso2(site: Site) -> Registered:
    """The client of the document."""
    return site.client(client_name="My API client", redirect_uris=[REDIRECT_URI], require_pkce=False)


def authorization_url(client: Registered) -> str:
    return (
        f"/oauth2/authorize?response_type=code&client_id={client.id}&redirect_uri={REDIRECT_URI}"
        "&scope=openid&state=myteststate"
    )


@needs_curl
@pytest.mark.spec("WSO2 Identity Server")
@pytest.mark.spec("RFC 6749 §5.1")
def test_sign_in_consent_and_a_token_request_by_curl_give_access_to_userinfo(
    site: Site, wso2: Registered, browser: Browser
) -> None:
    user = site.user("alice")
    # Steps A to G of the document: the sign-in page, then the consent page with Allow and Deny.
    sign_in = browser.get(authorization_url(wso2))
    assert sign_in.status == 200
    assert is_sign_in_page(sign_in)
    consent = browser.sign_in(sign_in)
    assert is_consent_page(consent)
    assert "My API client" in consent.body
    # Step H: redirect_uri?code=authorization code&state=myteststate
    answer = browser.submit(consent, decision="allow_once")
    assert answer.location.startswith(f"{REDIRECT_URI}?code=")
    assert answer.answer["state"] == "myteststate"
    # Steps I and J
    body = f"grant_type=authorization_code&code={answer.code}&redirect_uri={REDIRECT_URI}"
    token_url = f"{site.settings.issuer}/oauth2/token"
    tokens = curl(site, "-k", "-u", f"{wso2.id}:{wso2.secret}", "-d", body, token_url)
    assert "> POST /oauth2/token HTTP/1.1" in tokens.verbose
    assert "> Authorization: Basic " in tokens.verbose
    assert "> Accept: */*" in tokens.verbose
    assert "> Content-Type: application/x-www-form-urlencoded" in tokens.verbose
    assert tokens.answer.status == 200
    assert tokens.answer.header("content-type") == "application/json"
    assert tokens.answer.header("cache-control") == "no-store"
    assert tokens.answer.header("pragma") == "no-cache"
    assert tokens.answer.header("set-cookie") is None
    assert "refresh_token" in tokens.answer.json
    # Step K
    bearer = f"Authorization: Bearer {tokens.answer.json['access_token']}"
    resource = curl(site, "-k", "-H", bearer, f"{site.settings.issuer}/oauth2/userinfo")
    assert resource.answer.status == 200
    assert resource.answer.json == {"sub": user.sub}


def test_a_signed_in_user_gets_the_consent_page_at_once(site: Site, wso2: Registered, browser: Browser) -> None:
    site.user("alice")
    browser.sign_in(browser.get(authorization_url(wso2)))
    assert is_consent_page(browser.get(authorization_url(wso2)))


def test_deny_returns_the_state(site: Site, wso2: Registered, browser: Browser) -> None:
    site.user("alice")
    consent = browser.sign_in(browser.get(authorization_url(wso2)))
    answer = browser.submit(consent, decision="deny")
    assert answer.location.startswith(f"{REDIRECT_URI}?error=access_denied&")
    assert answer.answer["state"] == "myteststate"


@needs_curl
@pytest.mark.spec("RFC 6750 §3")
def test_userinfo_without_a_valid_token_answers_401(site: Site) -> None:
    url = f"{site.settings.issuer}/oauth2/userinfo"
    without = curl(site, "-k", url).answer
    assert without.status == 401
    assert (without.header("www-authenticate") or "").startswith('Bearer realm="userinfo", DPoP ')
    wrong = curl(site, "-k", "-H", "Authorization: Bearer abc", url).answer
    assert wrong.status == 401
    assert 'error="invalid_token"' in (wrong.header("www-authenticate") or "")
