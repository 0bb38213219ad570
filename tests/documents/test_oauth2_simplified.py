"""The authorization code grant as "OAuth 2.0 Simplified" shows it."""

from html import unescape

import pytest

from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser, basic
from tests.support.exchanges import curl, is_consent_page, needs_curl
from tests.support.site import Registered, Site

REDIRECT_URI = "https://example-app.com/auth"
AUTHORIZATION_URL = (
    "/oauth2/authorize?client_id=a17c21ed&response_type=code&state=5ca75bd30"
    "&redirect_uri=https%3A%2F%2Fexample-app.com%2Fauth&scope=photos"
)


@pytest.fixture
def simple(site: Site) -> Registered:
    """The client of the document, with a name that must be escaped."""
    return site.client(
        client_id="a17c21ed",
        client_name="Example <App> & Co",
        redirect_uris=[REDIRECT_URI],
        scope="photos openid",
        require_pkce=False,
    )


@pytest.mark.spec("OAuth 2.0 Simplified")
@pytest.mark.spec("RFC 9207 §2")
def test_the_consent_page_names_client_scope_and_user_and_allowing_gives_a_code(
    site: Site, simple: Registered, browser: Browser
) -> None:
    site.user("alice")
    page = browser.sign_in(browser.get(AUTHORIZATION_URL))
    assert is_consent_page(page)
    text = unescape(page.body)
    assert "Example <App> & Co" in text
    assert "<App>" not in page.body
    assert "photos" in text
    assert "example-app.com" in text
    assert "alice" in text
    answer = browser.submit(page, decision="allow_once")
    assert answer.location.startswith(f"{REDIRECT_URI}?code=")
    assert answer.answer["state"] == "5ca75bd30"
    assert answer.answer["iss"] == site.settings.issuer
    tokens = browser.redeem(simple, answer.code, code_verifier=None)
    assert tokens.status == 200
    assert tokens.json["scope"] == "photos"
    assert "error" in browser.redeem(simple, answer.code, code_verifier=None).json  # codes are valid once


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
def test_denying_gives_access_denied_and_no_grant(site: Site, simple: Registered, browser: Browser) -> None:
    site.user("alice")
    page = browser.sign_in(browser.get(AUTHORIZATION_URL))
    answer = browser.submit(page, decision="deny")
    assert answer.location.startswith(f"{REDIRECT_URI}?")
    assert answer.answer["error"] == "access_denied"
    assert answer.answer["state"] == "5ca75bd30"
    assert answer.answer["iss"] == site.settings.issuer
    assert "code" not in answer.answer
    assert [*site.server.store.grants.scan()] == []


@pytest.mark.spec("RFC 9700 §2.1")
def test_an_unregistered_redirect_uri_is_rejected_without_a_redirect(
    site: Site, simple: Registered, browser: Browser
) -> None:
    answer = browser.get(AUTHORIZATION_URL.replace("%2Fauth", "%2Fauth2"))
    assert answer.status == 400
    assert answer.header("location") is None
    assert "redirect_uri" in answer.body


@pytest.mark.spec("RFC 6749 §3.1.2.3")
def test_a_code_is_bound_to_one_of_several_redirect_uris(site: Site, browser: Browser) -> None:
    site.user("alice")
    redirect_uris = [REDIRECT_URI, "https://example-app.com/auth/2?page=1", "com.example.app:/auth"]
    client = site.client(redirect_uris=redirect_uris)
    for redirect_uri in redirect_uris:
        code = browser.code(client, redirect_uri=redirect_uri)
        for other in set(redirect_uris) - {redirect_uri}:
            code_for_other = browser.code(client, redirect_uri=redirect_uri)
            assert browser.redeem(client, code_for_other, redirect_uri=other).json["error"] == "invalid_grant"
        assert browser.redeem(client, code, redirect_uri=redirect_uri).status == 200
    missing = browser.authorize(client, redirect_uri=None, scope="profile")
    assert missing.status == 400


@pytest.mark.spec("RFC 7636 §4")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_pkce_is_checked_for_every_client_authentication_method(site: Site, browser: Browser, method: str) -> None:
    site.user("alice")
    client = site.client(public=method == "none", scope="photos openid")

    def redeem(code: str, verifier: str | None) -> Answer:
        body = {"grant_type": "authorization_code", "code": code, "redirect_uri": client.record.redirect_uris[0]}
        if verifier:
            body["code_verifier"] = verifier
        if method == "client_secret_basic":
            return browser.post("/oauth2/token", body, basic(client.id, client.secret or ""))
        body["client_id"] = client.id
        if method == "client_secret_post":
            body["client_secret"] = client.secret or ""
        return browser.post("/oauth2/token", body)

    for verifier in (None, VERIFIER[::-1], CHALLENGE):
        rejected = redeem(browser.code(client, scope="photos"), verifier)
        assert rejected.status == 400
        assert rejected.json["error"] == "invalid_grant"
    tokens = redeem(browser.code(client, scope="photos"), VERIFIER)
    assert tokens.status == 200
    assert tokens.json["scope"] == "photos"


@pytest.mark.spec("RFC 7636 §4.4.1 a", "RFC 7636 §4.4.1 b")
@pytest.mark.spec("RFC 7636 §4.4.1")
def test_a_request_without_pkce_gets_an_error_that_names_code_challenge(site: Site, browser: Browser) -> None:
    for client in (site.client(), site.client(public=True)):
        answer = browser.authorize(client, code_challenge=None, code_challenge_method=None)
        assert answer.answer["error"] == "invalid_request"
        assert "code_challenge" in answer.answer["error_description"]


@needs_curl
@pytest.mark.spec("RFC 6749 §2.3.1")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_curl_can_authenticate_by_header_or_body(site: Site, simple: Registered, browser: Browser, method: str) -> None:
    site.user("alice")
    answer = browser.submit(browser.sign_in(browser.get(AUTHORIZATION_URL)), decision="allow_once")
    fields = ["-d", "grant_type=authorization_code", "-d", f"code={answer.code}"]
    fields += ["--data-urlencode", f"redirect_uri={REDIRECT_URI}"]
    if method == "client_secret_basic":
        credentials = ["-u", f"{simple.id}:{simple.secret}"]
    else:
        credentials = ["-d", f"client_id={simple.id}", "-d", f"client_secret={simple.secret}"]
    result = curl(site, *credentials, *fields, f"{site.settings.issuer}/oauth2/token")
    assert result.answer.status == 200
    assert result.answer.json["scope"] == "photos"
