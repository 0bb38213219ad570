"""The authorization code grant of WSO2 API Manager, with the requests of its documentation, byte for byte."""

from collections.abc import Callable

import jwt
import pytest

from tests.support.browser import Browser
from tests.support.exchanges import allow_always, is_consent_page, is_sign_in_page, send_bytes
from tests.support.site import Registered, Site

# The header of the document's token request.
BASIC = "Basic SVpzSWk2SERiQjVlOFZLZFpBblVpX2ZaM2Y4YTpHbTBiSjZvV1Y4ZkM1T1FMTGxDNmpzbEFDVzhh"
CLIENT_ID, CLIENT_SECRET = "IZsIi6HDbB5e8VKdZAnUi_fZ3f8a", "Gm0bJ6oWV8fC5OQLLlC6jslACW8a"
ENCODED_REDIRECT_URI = "https%3A%2F%2Fclient%2Eexample%2Ecom%2Fcb"


@pytest.fixture
def playground(site: Site) -> Registered:
    """The client of the document, with the same id and secret."""
    return site.client(
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_name="Playground",
        redirect_uris=["https://client.example.com/cb"],
        scope="PRODUCTION SANDBOX openid",
        require_pkce=False,
    )


def authorization_request(browser: Browser, scope: str = "PRODUCTION") -> bytes:
    """Return the request of the document, byte for byte except for path, client and cookies."""
    lines = [
        f"GET /oauth2/authorize?response_type=code&client_id={CLIENT_ID}&scope={scope}"
        f"&redirect_uri={ENCODED_REDIRECT_URI} HTTP/1.1",
        "Host: server.example.com",
        "Content-Type:application/x-www-form-urlencoded",
        "Cookie: " + "; ".join(f"{name}={value}" for name, value in browser.cookies.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.spec("WSO2 API Manager")
@pytest.mark.spec("RFC 6749 §4.1")
def test_the_requests_of_the_document_work_byte_for_byte(site: Site, playground: Registered, browser: Browser) -> None:
    site.user("alice")
    page = browser.sign_in(browser.authorize(playground, scope="PRODUCTION"))
    assert "PRODUCTION" in page.body
    browser.submit(page, decision="allow_always")
    # The Host header has no effect, and a Content-Type on a GET request is ignored.
    answer = send_bytes(site, authorization_request(browser))
    assert answer.status == 302
    assert answer.location.startswith("https://client.example.com/cb?code=")
    assert set(answer.answer) == {"code", "iss"}
    assert answer.answer["iss"] == site.settings.issuer
    body = f"grant_type=authorization_code&code={answer.code}&redirect_uri={ENCODED_REDIRECT_URI}"
    head = (
        "POST /oauth2/token HTTP/1.1\r\nHost: server.example.com\r\n"
        f"Authorization: {BASIC}\r\nContent-Type:application/x-www-form-urlencoded\r\n"
    )
    tokens = send_bytes(site, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert tokens.status == 200, tokens.body
    assert tokens.json["scope"] == "PRODUCTION"
    assert tokens.json["token_type"] == "Bearer"
    assert "id_token" not in tokens.json
    # The playground of the document also refreshes.
    refreshed = browser.refresh(playground, tokens.json["refresh_token"])
    assert refreshed.status == 200
    assert refreshed.json["scope"] == "PRODUCTION"
    claims = jwt.decode(refreshed.json["access_token"], options={"verify_signature": False})
    assert claims["scope"] == "PRODUCTION"
    assert claims["client_id"] == CLIENT_ID


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "application/json", "nonsense", "a/b; c"])
def test_the_content_type_of_a_get_request_is_ignored(
    site: Site, playground: Registered, browser: Browser, media_type: str
) -> None:
    answer = browser.authorize(playground, scope="PRODUCTION", headers={"Content-Type": media_type})
    assert answer.status == 200
    assert is_sign_in_page(answer)


def test_only_a_consent_to_always_allow_is_remembered(
    site: Site, playground: Registered, browsers: Callable[..., Browser]
) -> None:
    alice, bob = site.user("alice"), site.user("bob")
    browser = browsers()
    page = browser.sign_in(browser.authorize(playground, scope="PRODUCTION"))
    assert ("decision", "allow") in page.form.buttons
    assert "Remember my choice" in page.body
    assert browser.submit(page, decision="allow_once").code
    page = browser.authorize(playground, scope="PRODUCTION")
    assert is_consent_page(page)
    assert browser.submit(page, decision="allow_always").code
    assert browser.authorize(playground, scope="PRODUCTION").code
    # The consent is remembered for the user in every browser, and for no other user.
    elsewhere = browsers()
    assert elsewhere.sign_in(elsewhere.authorize(playground, scope="PRODUCTION")).code
    bobs = browsers()
    assert is_consent_page(bobs.sign_in(bobs.authorize(playground, scope="PRODUCTION"), "bob"))
    # It is remembered for this client only.
    assert is_consent_page(browser.authorize(site.client(client_name="Another"), scope="openid"))
    remembered = site.server.store.consents.get(alice.sub, CLIENT_ID)
    assert remembered
    assert remembered.scope == {"PRODUCTION"}
    assert site.server.store.consents.get(bob.sub, CLIENT_ID) is None


def test_a_request_for_more_scope_asks_again_and_marks_the_new_scope(
    site: Site, playground: Registered, browser: Browser
) -> None:
    alice = site.user("alice")
    allow_always(site, playground, "PRODUCTION")
    assert site.server.store.consents.get(alice.sub, playground.id)
    page = browser.sign_in(browser.authorize(playground, scope="PRODUCTION SANDBOX"))
    assert is_consent_page(page)
    lines = [line for line in page.body.splitlines() if line.startswith("<li>")]
    assert [("PRODUCTION" in line, "SANDBOX" in line, "new" in line) for line in lines] == [
        (False, True, True),
        (True, False, False),
    ]
    # "Allow" does not change the remembered consent.
    assert browser.submit(page, decision="allow_once").code
    assert is_consent_page(browser.authorize(playground, scope="PRODUCTION SANDBOX"))
    assert browser.authorize(playground, scope="PRODUCTION").code
    # "Always allow" extends it, and it covers requests for less.
    page = browser.authorize(playground, scope="SANDBOX")
    assert browser.submit(page, decision="allow_always").code
    assert browser.authorize(playground, scope="PRODUCTION SANDBOX").code


@pytest.mark.spec("RFC 6749 §3.3")
@pytest.mark.parametrize("scope", ["production", "production ADMIN", "ADMIN"])
def test_a_custom_scope_must_be_registered_for_the_client_and_is_case_sensitive(
    site: Site, playground: Registered, browser: Browser, scope: str
) -> None:
    assert browser.authorize(playground, scope=scope).answer["error"] == "invalid_scope"
