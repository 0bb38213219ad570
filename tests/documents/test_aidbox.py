"""The authorization code grant of Aidbox, with the requests of its documentation."""

import json
from dataclasses import replace
from urllib.parse import urlsplit

import jwt
import pytest

from tests.support.browser import Answer, Browser
from tests.support.exchanges import curl, is_sign_in_page, needs_curl
from tests.support.site import Registered, Site

REDIRECT_URI = "http://localhost:4200"
BASIC = "Basic d2ViLWFwcDpjbGllbnQtc2VjcmV0"  # web-app:client-secret


@pytest.fixture
def aidbox(site: Site) -> Registered:
    """The client of the document, with the same id and secret."""
    return site.client(
        client_id="web-app",
        client_secret="client-secret",
        client_name="Web app",
        redirect_uris=[REDIRECT_URI, "http://localhost:4200/second"],
        default_redirect_uri=REDIRECT_URI,
        default_scope="openid",
        require_pkce=False,
    )


def authorize(site: Site, browser: Browser, **parameters: str) -> str:
    """Return a code for an authorization request of alice, by default without scope and redirect URI."""
    site.user("alice")
    page = browser.get("/oauth2/authorize", None, response_type="code", client_id="web-app", **parameters)
    assert page.status == 200
    assert (page.header("content-type") or "").startswith("text/html")
    assert is_sign_in_page(page)
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    target = urlsplit(answer.location)
    assert (target.scheme, target.netloc, target.path) == ("http", "localhost:4200", "")
    return answer.code


def check_tokens(site: Site, browser: Browser, answer: Answer) -> None:
    """Check the token response that the document shows: access token, token type and ID token."""
    assert answer.status == 200, answer.body
    members = answer.json
    assert members["token_type"].lower() == "bearer"
    assert members["scope"] == "openid"  # RFC 6749 section 3.3: required, because the request had no scope
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json).keys[0]
    claims = jwt.decode(members["id_token"], key, algorithms=["RS256"], audience="web-app", issuer=site.settings.issuer)
    assert claims["sub"] == browser.userinfo(members["access_token"]).json["sub"]


@needs_curl
@pytest.mark.spec("Aidbox")
def test_a_token_request_can_be_json_with_credentials_in_the_body(
    site: Site, aidbox: Registered, browser: Browser
) -> None:
    code = authorize(site, browser)
    body = (
        '{"client_id":"web-app","client_secret":"client-secret", \n'
        f'       "code": "{code}", \n'
        '       "grant_type":"authorization_code"}'
    )
    url = f"{site.settings.issuer}/oauth2/token"
    result = curl(site, "-X", "POST", "-H", "content-type: application/json", "-d", body, url)
    assert "> content-type: application/json" in result.verbose
    check_tokens(site, browser, result.answer)


@needs_curl
@pytest.mark.spec("Aidbox")
@pytest.mark.spec("RFC 6749 §4.1.3")
def test_a_token_request_can_be_a_form_with_credentials_in_the_header(
    site: Site, aidbox: Registered, browser: Browser
) -> None:
    code = authorize(site, browser)
    result = curl(
        site,
        *("-X", "POST"),
        *("-H", f"Authorization: {BASIC}"),
        *("-H", "Content-Type: application/x-www-form-urlencoded"),
        *("-d", f"grant_type=authorization_code&code={code}"),
        f"{site.settings.issuer}/oauth2/token",
    )
    check_tokens(site, browser, result.answer)


@pytest.mark.spec("RFC 6749 §4.1.3")
@pytest.mark.parametrize("media_type", ["json", "form"])
def test_a_redirect_uri_of_the_authorization_request_is_required_in_the_token_request(
    site: Site, aidbox: Registered, browser: Browser, media_type: str
) -> None:
    def redeem(code: str, **more: str) -> Answer:
        members = {"client_id": "web-app", "client_secret": "client-secret", "code": code, **more}
        members["grant_type"] = "authorization_code"
        if media_type == "form":
            return browser.post("/oauth2/token", members)
        return browser.request("POST", "/oauth2/token", json.dumps(members), {"content-type": "application/json"})

    code = authorize(site, browser, redirect_uri=REDIRECT_URI)
    rejected = redeem(code)
    assert rejected.status == 400
    assert rejected.json["error"] == "invalid_grant"

    def another_code() -> str:
        page = browser.get(
            "/oauth2/authorize", response_type="code", client_id="web-app", redirect_uri=REDIRECT_URI, state="x"
        )
        return browser.submit(page, decision="allow_once").code

    assert redeem(another_code(), redirect_uri="http://localhost:4200/").json["error"] == "invalid_grant"
    check_tokens(site, browser, redeem(another_code(), redirect_uri=REDIRECT_URI))


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_the_state_is_returned_unchanged(site: Site, aidbox: Registered, browser: Browser) -> None:
    site.user("alice")
    state = "a b+c&d=é%20/?#\"'<>" + "x" * 1900
    page = browser.get("/oauth2/authorize", response_type="code", client_id="web-app", state=state)
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    assert answer.answer["state"] == state


@pytest.mark.spec("Aidbox")
@pytest.mark.spec("OpenID Connect Core §3.3.2.5")
@pytest.mark.parametrize("response_type", ["code%20id_token", "id_token%20code", "code+id_token"])
def test_code_and_id_token_are_returned_together(
    site: Site, aidbox: Registered, browser: Browser, response_type: str
) -> None:
    """Send the document's request, with the `scope` and `nonce` that OpenID Connect requires in addition."""
    site.server.store.clients.put(replace(aidbox.record, response_types=("code", "code id_token")))
    site.user("alice")
    page = browser.get(
        f"/oauth2/authorize?response_type={response_type}&client_id=web-app&redirect_uri={REDIRECT_URI}"
        "&scope=openid&nonce=n-0S6_WzA2Mj"
    )
    assert is_sign_in_page(page)
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    assert answer.location.startswith(REDIRECT_URI + "#")
    assert set(answer.answer) == {"code", "id_token", "iss"}
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json).keys[0]
    claims = jwt.decode(answer.answer["id_token"], key, algorithms=["RS256"], audience="web-app")
    assert claims["nonce"] == "n-0S6_WzA2Mj"
    body = {"client_id": "web-app", "client_secret": "client-secret", "grant_type": "authorization_code"}
    tokens = browser.post("/oauth2/token", body | {"code": answer.code, "redirect_uri": REDIRECT_URI})
    check_tokens(site, browser, tokens)


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    ("response_type", "error", "separator"),
    [
        ("code%20id_token", "unauthorized_client", "#"),
        ("id_token+code", "unauthorized_client", "#"),
        ("id_token", "unsupported_response_type", "#"),
        ("token", "unsupported_response_type", "#"),
        ("code%20code", "unsupported_response_type", "?"),
    ],
)
def test_another_response_type_is_rejected_by_redirect(
    site: Site, aidbox: Registered, browser: Browser, response_type: str, error: str, separator: str
) -> None:
    answer = browser.get(
        f"/oauth2/authorize?response_type={response_type}&client_id=web-app&redirect_uri={REDIRECT_URI}&state=s"
    )
    assert answer.status == 302
    assert answer.location.startswith(REDIRECT_URI + separator)
    assert answer.answer["error"] == error
    assert answer.answer["state"] == "s"
    assert answer.answer["iss"] == site.settings.issuer
    assert "code" not in answer.answer
