"""Cookies, security headers, caching and escaping of the pages."""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from chalicelib.server import AuthorizationServer
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Site


def cookies(answer: Answer) -> dict[str, set[str]]:
    """Return the cookies that a response sets, with their attributes."""
    values = [value.split("; ") for name, value in answer.headers if name.lower() == "set-cookie"]
    return {first.partition("=")[0]: set(attributes) for first, *attributes in values}


LAX = {"Path=/", "HttpOnly", "SameSite=Lax"}


@pytest.mark.spec("RFC 6265 §5.4")
def test_cookies_are_host_only_http_only_and_same_site(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    page = browser.authorize(client)
    assert cookies(page) == {"signet-browser": LAX | {"Max-Age=31536000"}}
    fields = page.form.fields | {"username": "alice", "password": PASSWORD}
    wrong = browser.post(page.form.action or "", fields | {"password": "wrong"})
    assert cookies(wrong) == {"signet-problem": LAX | {"Max-Age=120"}}
    assert cookies(browser.get(wrong.location)) == {"signet-problem": LAX | {"Max-Age=0"}}
    answer = browser.post(page.form.action or "", fields)
    assert cookies(answer) == {"signet-session": LAX, "signet-browser": LAX | {"Max-Age=31536000"}}
    consent = browser.get(answer.location)
    assert cookies(consent) == {}
    assert cookies(browser.submit(consent, decision="allow_once")) == {}
    assert cookies(browser.authorize(client)) == {}, "the browser has both cookies"


@pytest.mark.spec("RFC 6265bis §4.1.3.2")
@pytest.mark.parametrize("issuer", ["https://id.example.com", "https://id.example.com/tenant"])
def test_cookies_of_an_https_issuer_are_secure_with_the_host_prefix(
    site: Site, site_with: Any, browsers: Any, issuer: str
) -> None:
    secure = site_with()
    secure.settings = replace(secure.settings, issuer=issuer)
    secure.server = AuthorizationServer.connect(secure.settings, site.clock)
    site.user()
    client = site.client(trusted=True)
    browser = browsers(secure)
    page = browser.authorize(client)
    assert cookies(page) == {"__Host-signet-browser": LAX | {"Secure", "Max-Age=31536000"}}
    assert page.header("strict-transport-security") == "max-age=31536000"
    path, query = urlsplit(issuer).path, (page.form.action or "").partition("?")[2]
    assert page.form.action == f"{path}/oauth2/code?{query}"
    headers, fields = {"Origin": "https://id.example.com"}, page.form.fields | {"username": "alice"}
    wrong = browser.post(f"/oauth2/code?{query}", fields | {"password": "wrong"}, headers)
    assert wrong.location == f"{path}/oauth2/authorize?{query}"
    assert cookies(wrong) == {"__Host-signet-problem": LAX | {"Secure", "Max-Age=120"}}
    answer = browser.post(f"/oauth2/code?{query}", fields | {"password": PASSWORD}, headers)
    assert cookies(answer) == {
        "__Host-signet-session": LAX | {"Secure"},
        "__Host-signet-browser": LAX | {"Secure", "Max-Age=31536000"},
    }
    assert answer.answer["iss"] == issuer
    assert browser.authorize(client, prompt="none").code
    browser.cookies = {name.removeprefix("__Host-"): value for name, value in browser.cookies.items()}
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required", (
        "cookies without the prefix are ignored"
    )


def test_sign_in_replaces_the_session_cookie_and_rejects_the_old_one(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True)
    browser.code(client)
    before = browser.cookies["signet-session"]
    browser.code(client, prompt="login")
    after = browser.cookies["signet-session"]
    assert before != after
    browser.cookies["signet-session"] = before
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    browser.cookies["signet-session"] = after
    assert browser.authorize(client, prompt="none").code


@pytest.mark.parametrize("value", ["", "x", "sid_", "sid_AQ", "\u00ff", "a=b", '"sid_x"', "sid_" + "A" * 4000])
def test_malformed_cookies_are_ignored(site: Site, browser: Browser, value: str) -> None:
    client = site.client()
    browser.cookies = {"signet-session": value, "signet-browser": value}
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    page = browser.authorize(client)
    assert page.status == 200
    assert set(cookies(page)) == {"signet-browser"}


@pytest.mark.parametrize(
    ("uri", "sources"),
    [
        ("https://client.example.com/cb?a=b", {"https://client.example.com", "https:"}),
        ("https://client.example.com:8443/cb", {"https://client.example.com:8443", "https:"}),
        ("http://127.0.0.1:5000/cb", {"http://127.0.0.1:5000", "http:"}),
        ("http://[::1]:5000/cb", {"http:"}),  # CSP cannot name an IPv6 address
        ("http://localhost:3000/cb", {"http://localhost:3000", "http:"}),
        ("com.example.app:/cb", {"com.example.app:"}),
    ],
)
def test_policy_allows_forms_to_this_server_and_redirects_to_the_client(
    site: Site, browser: Browser, uri: str, sources: set[str]
) -> None:
    page = browser.authorize(site.client(redirect_uris=[uri], public=True))
    policy = dict(
        directive.strip().partition(" ")[::2] for directive in (page.header("content-security-policy") or "").split(";")
    )
    own, target = policy["form-action"].split()
    assert own == "'self'"
    assert target in sources
    assert policy["frame-ancestors"] == policy["default-src"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["img-src"] == "data:"


def test_pages_are_not_cached_framed_or_sent_as_referrer(site: Site, browser: Browser) -> None:
    site.user(password=None)
    site.user("bob")
    client = site.client()
    sign_in = browser.authorize(client)
    consent = browser.sign_in(sign_in, "bob")
    all_pages = [sign_in, consent, browser.authorize(client, client_id="unknown"), browser.get("/")]
    for page in all_pages:
        assert page.header("cache-control") == "no-store"
        assert page.header("content-type") == "text/html; charset=utf-8"
        assert page.header("x-content-type-options") == "nosniff"
        # Those of an authorization request have a long address, which another request could not carry as well.
        assert page.header("referrer-policy") == ("origin" if page in (sign_in, consent) else "same-origin")
        assert "frame-ancestors 'none'" in (page.header("content-security-policy") or "")
        scripts = re.findall(r"<script[^>]*>[^<]*", page.body)
        assert all(re.fullmatch(r'<script src="/script\.js\?v=[0-9a-f]{12}" defer>', script) for script in scripts)
        assert ("script-src" in (page.header("content-security-policy") or "")) == bool(scripts)
        assert page.body.startswith("<!doctype html>\n<html lang=")
    answer = browser.submit(consent, decision="allow_once")
    assert answer.header("cache-control") == "no-store"
    assert answer.header("referrer-policy") == "same-origin"


def test_names_are_escaped_in_pages(site: Site, browser: Browser) -> None:
    site.user("<i>\"alice'&amp;")
    client = site.client(client_name="<b>\"Print'&amp;", scope="openid <u>&amp;</u>")
    page = browser.authorize(client, login_hint="<s>\"hint'", scope="openid <u>&amp;</u>")
    consent = browser.sign_in(page, "<i>\"alice'&amp;")
    assert page.form.fields["username"] == "<s>\"hint'"
    for body in (page.body, consent.body):
        assert not any(tag in body for tag in ("<b>", "<i>", "<s>", "<u>"))
        assert "&lt;b&gt;" in body


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/oauth2/authorize", "/oauth2/code"])
def test_pages_have_no_other_methods_and_no_cors(site: Site, path: str, method: str) -> None:
    # Call the handler directly: `chalice local` answers OPTIONS itself.
    context = {"http": {"method": method, "path": path, "sourceIp": "192.0.2.1"}, "stage": "$default"}
    event = {"version": "2.0", "rawPath": path, "rawQueryString": "", "requestContext": context}
    answer = site.http_handler(event | {"headers": {"origin": "https://client.example.com"}}, None)
    assert answer["statusCode"] == 405
    assert answer["headers"]["Allow"] == "GET, POST, HEAD"
    assert "Access-Control-Allow-Origin" not in answer["headers"]


def test_fields_are_marked_invalid_only_after_wrong_credentials(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.authorize(site.client())
    assert "aria-" not in page.body.partition("<footer")[0].replace('aria-hidden="true"', "")
    wrong = browser.sign_in(page, "alice", "wrong")
    assert wrong.body.count('aria-describedby="problem" aria-invalid="true"') == 2
    assert wrong.form.fields["username"] == "alice"
    assert wrong.form.fields["password"] == ""
    consent = browser.sign_in(page)
    del browser.cookies["signet-session"]
    signed_out = browser.submit(consent, decision="allow_once")
    assert "signed out" in signed_out.body
    assert signed_out.body.count('aria-describedby="problem"') == 2
    assert "aria-invalid" not in signed_out.body
