"""/oauth2/authorize: errors on a page while the redirect URI is not verified, and by redirect afterwards."""

import json
import re
from html import escape
from typing import Any

import pytest

from tests.endpoints.authorize.conftest import (
    METHODS,
    REDIRECT_URI,
    STATE,
    Changes,
    is_nothing_stored,
    register_clients,
    send_request,
)
from tests.support.browser import CHALLENGE, Browser
from tests.support.site import Site

ERROR_LINK = re.compile(r'href="/errors#(unknown_client|redirect_uri_missing|redirect_uri_mismatch|invalid_request)"')
ON_PAGE: list[tuple[str, Changes]] = [
    ("client_id missing", {"client_id": None}),
    ("client_id empty", {"client_id": ""}),
    ("client_id repeated", {"client_id": ["print", "print"]}),
    ("client_id of two clients", {"client_id": ["print", "several"]}),
    ("client_id unknown", {"client_id": "unknown"}),
    ("client_id disabled", {"client_id": "disabled"}),
    ("client_id in another case", {"client_id": "Print"}),
    ("client_id with a space after it", {"client_id": "print "}),
    ("client_id too long", {"client_id": "p" * 129}),
    ("client_id longer than a key of DynamoDB", {"client_id": "p" * 3000}),
    ("client_id with NUL", {"client_id": "print\0"}),
    ("client_id with CR LF", {"client_id": "print\r\nSet-Cookie: a=b"}),
    ("client_id not ASCII", {"client_id": "prínt"}),
    ("client_id as HTML", {"client_id": "<script>alert(1)</script>"}),
    ("redirect_uri of another client", {"redirect_uri": REDIRECT_URI + "/2"}),
    ("redirect_uri repeated", {"redirect_uri": [REDIRECT_URI, REDIRECT_URI]}),
    ("redirect_uri repeated, one of them unregistered", {"redirect_uri": [REDIRECT_URI, "https://evil.example/cb"]}),
    ("redirect_uri missing, several registered", {"client_id": "several", "redirect_uri": None, "scope": "email"}),
    ("redirect_uri empty, several registered", {"client_id": "several", "redirect_uri": "", "scope": "email"}),
    ("redirect_uri missing with openid", {"redirect_uri": None}),
    ("redirect_uri missing with openid among others", {"redirect_uri": None, "scope": "email openid"}),
    ("redirect_uri too long", {"redirect_uri": REDIRECT_URI + "/" + "a" * 2048}),
    *(
        (f"redirect_uri {what}", {"redirect_uri": uri})
        for what, uri in (
            ("with the scheme in capitals", "HTTPS://client.example.com/cb"),
            ("with the host in capitals", "https://Client.example.com/cb"),
            ("with the path in capitals", "https://client.example.com/CB"),
            ("with the default port", "https://client.example.com:443/cb"),
            ("with another port", "https://client.example.com:8443/cb"),
            ("with an empty port", "https://client.example.com:/cb"),
            ("by plain http", "http://client.example.com/cb"),
            ("with a slash after it", REDIRECT_URI + "/"),
            ("without its path", "https://client.example.com"),
            ("with another path", "https://client.example.com/cb2"),
            ("with two slashes", "https://client.example.com//cb"),
            ("with a dot segment", "https://client.example.com/./cb"),
            ("with two dots", "https://client.example.com/a/../cb"),
            ("with two dots after it", REDIRECT_URI + "/.."),
            ("with an encoded dot segment", "https://client.example.com/%2e/cb"),
            ("with an encoded letter", "https://client.example.com/c%62"),
            ("with user information", "https://user@client.example.com/cb"),
            ("with the host as user information", "https://client.example.com@evil.example/cb"),
            ("with a backslash", "https://client.example.com\\@evil.example/cb"),
            ("with a fragment", REDIRECT_URI + "#top"),
            ("with an empty fragment", REDIRECT_URI + "#"),
            ("with a query", REDIRECT_URI + "?next=/"),
            ("with an empty query", REDIRECT_URI + "?"),
            ("with path parameters", REDIRECT_URI + ";a=b"),
            ("with a dot after the host", "https://client.example.com./cb"),
            ("at a longer host", "https://client.example.com.evil.example/cb"),
            ("at a subdomain", "https://a.client.example.com/cb"),
            ("with a space after it", REDIRECT_URI + " "),
            ("with a line break after it", REDIRECT_URI + "\n"),
            ("with CR LF", REDIRECT_URI + "\r\nSet-Cookie: a=b"),
            ("with NUL", REDIRECT_URI + "\0"),
            ("with a tab", "https://client.example\t.com/cb"),
            ("with HTML", REDIRECT_URI + '"><script>alert(1)</script>'),
            ("of a script", "javascript:alert(1)//https://client.example.com/cb"),
            ("of a script in mixed case", "JavaScript:alert(1)"),
            ("of data", "data:text/html,<script>alert(1)</script>"),
            ("without a scheme", "//client.example.com/cb"),
            ("of a path only", "/cb"),
            ("of an open bracket", "http://["),
        )
    ),
    *(
        (f"native redirect_uri {what}", {"client_id": "native", "redirect_uri": uri})
        for what, uri in (
            ("at localhost with another path", "http://localhost:3001/cb2"),
            ("at localhost by https", "https://localhost:3000/cb"),
            ("at localhost in capitals", "http://LOCALHOST:3000/cb"),
            ("at a host that looks like localhost", "http://localhost.evil.example/cb"),
            ("with localhost as user information", "http://localhost:80@evil.example/cb"),
            ("at localhost with port 0", "http://localhost:0/cb"),
            ("at localhost with port 65536", "http://localhost:65536/cb"),
            ("at a subdomain of localhost", "http://a.localhost:3000/cb"),
            ("at another loopback address", "http://127.0.0.2:8080/cb"),
            ("at the short loopback address", "http://127.1:8080/cb"),
            ("at the long loopback address", "http://[0:0:0:0:0:0:0:1]:8080/cb"),
            ("at a host that looks like loopback", "http://127.0.0.1.evil.example/cb"),
            ("with loopback as user information", "http://127.0.0.1:80@evil.example/cb"),
            ("at loopback by https", "https://127.0.0.1:8080/cb"),
            ("at loopback with another path", "http://127.0.0.1:8080/cb2"),
            ("at loopback with a query", "http://127.0.0.1:8080/cb?a=b"),
            ("at loopback with a fragment", "http://127.0.0.1:8080/cb#a"),
            ("at loopback with port 0", "http://127.0.0.1:0/cb"),
            ("at loopback with port 65536", "http://127.0.0.1:65536/cb"),
            ("at loopback with an empty port", "http://127.0.0.1:/cb"),
            ("at loopback with a negative port", "http://127.0.0.1:-1/cb"),
            ("at loopback with a port in other digits", "http://127.0.0.1:\uff18\uff10/cb"),
            ("of its own scheme with a host", "com.example.app://host/cb"),
            ("of its own scheme in capitals", "COM.example.app:/cb"),
            ("of its own scheme with another path", "com.example.app:/cb/2"),
        )
    ),
]


def without_menu(body: str) -> str:
    """Return a page without the hidden fields of the language menu, which repeat the request for this server."""
    start, end = body.index('<details class="languages">'), body.index("</details>", body.index("languages"))
    assert 'action="/oauth2/authorize"' in body[start:end]
    return body[:start] + body[end:]


@pytest.mark.spec("RFC 6749 §3.1 h", "RFC 6749 §3.1.2.2 c", "RFC 6749 §3.1.2.3 a", "RFC 6749 §3.1.2.3 b")
@pytest.mark.spec("RFC 6749 §3.1.2.4 a", "RFC 6749 §3.1.2.4 b", "RFC 6749 §4.1.2.1 a", "RFC 6749 §4.1.2.1 b")
@pytest.mark.spec("RFC 6749 §10.6 d", "RFC 6749 §10.14", "RFC 8252 §8.4 c", "RFC 9700 §2.1 a", "RFC 9700 §2.1 b")
@pytest.mark.spec("RFC 9700 §4.11.2 a", "RFC 9700 §4.11.2 c", "OpenID Connect Core §3.1.2.1 c")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1 d", "OpenID Connect Core §3.1.2.2 c", "OpenID Connect Core §3.1.2.6 b")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9700 §2.1")
@pytest.mark.parametrize(("problem", "changes"), ON_PAGE, ids=[row[0] for row in ON_PAGE])
def test_error_is_shown_on_a_page_while_the_redirect_uri_is_not_verified(
    site: Site, browser: Browser, problem: str, changes: Changes
) -> None:
    register_clients(site, changes)
    for method in METHODS:
        answer = send_request(browser, method, changes)
        assert answer.status == 400, method
        assert answer.header("location") is None
        assert answer.header("content-type") == "text/html; charset=utf-8"
        assert answer.header("cache-control") == "no-store"
        assert (answer.header("content-security-policy") or "").endswith("form-action 'self'")
        assert ERROR_LINK.search(answer.body), answer.body
        assert "evil" not in re.sub(r"<bdi>[^<]*</bdi>", "", without_menu(answer.body)), "the URI is shown as text only"
        assert "<script" not in answer.body
    assert is_nothing_stored()


def test_unregistered_redirect_uri_is_shown_on_the_page_and_in_the_log(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "signet")
    register_clients(site, {})
    uri = "https://client.example.com/cb/?a=<b>&" + "x" * 400
    answer = send_request(browser, "GET", {"redirect_uri": uri})
    shown = escape(f"The redirect_uri is not one that the application has registered: {uri[:300]}")
    assert f"<bdi>{shown}</bdi>" in answer.body
    line = json.loads(caplog.records[-1].getMessage())
    assert line["detail"] == f"client print sent redirect_uri {uri[:300]}"


@pytest.mark.spec("RFC 6749 §4.1.2.1")
def test_error_page_does_not_disclose_registered_clients(site: Site, browser: Browser) -> None:
    register_clients(site, {"client_id": "disabled"})
    bodies = [send_request(browser, "GET", {"client_id": name}).body for name in ("unknown", "disabled")]
    unknown, disabled = (re.sub("ID <code.*?</code>", "", without_menu(body)) for body in bodies)
    assert unknown == disabled
    assert "client.example.com" not in send_request(browser, "GET", {"redirect_uri": "https://evil.example/cb"}).body


# name, longest accepted value; None: a longer one is ignored
PARAMETERS = (
    ("response_type", 2048),
    ("response_mode", 2048),
    ("code_challenge", 2048),
    ("code_challenge_method", 2048),
    ("scope", 4096),
    ("nonce", 2048),
    ("prompt", 2048),
    ("max_age", 2048),
    ("login_hint", None),
    ("request_uri", 2048),
    ("id_token_hint", 8192),
    ("claims", 8192),
    ("acr_values", 2048),
    ("ui_locales", 2048),
    ("claims_locales", 2048),
    ("display", 2048),
)


def request_claims(member: str = "userinfo", **claims: Any) -> Changes:
    """Return the change that adds a claims parameter."""
    return {"claims": json.dumps({member: claims})}


def malformed(name: str, longest: int | None) -> list[tuple[str, Changes, str]]:
    """Return the rows of a parameter that is repeated, too long, or has a control character."""
    rows: list[tuple[str, Changes, str]] = [
        (f"{name} repeated", {name: ["query", "query"]}, "invalid_request"),
        (f"{name} repeated, the first time empty", {name: ["", "query"]}, "invalid_request"),
        (f"{name} with NUL", {name: "query\0"}, "invalid_request"),
        (f"{name} with CR LF", {name: "query\r\nSet-Cookie: a=b"}, "invalid_request"),
        (f"{name} with a C1 control", {name: "query\x85"}, "invalid_request"),
    ]
    if longest:
        rows.append((f"{name} too long", {name: "1" * (longest + 1)}, "invalid_request"))
    return rows


BY_REDIRECT: list[tuple[str, Changes, str]] = [
    ("response_type missing", {"response_type": None}, "invalid_request"),
    ("response_type empty", {"response_type": ""}, "invalid_request"),
    ("response_type unknown", {"response_type": "banana"}, "unsupported_response_type"),
    ("response_type in capitals", {"response_type": "CODE"}, "unsupported_response_type"),
    ("response_type token", {"response_type": "token"}, "unsupported_response_type"),
    ("response_type id_token", {"response_type": "id_token"}, "unsupported_response_type"),
    ("response_type code token", {"response_type": "code token"}, "unsupported_response_type"),
    ("response_type code id_token token", {"response_type": "code id_token token"}, "unsupported_response_type"),
    ("response_type none", {"response_type": "none"}, "unsupported_response_type"),
    ("response_type code twice over", {"response_type": "code code"}, "unsupported_response_type"),
    ("response_type id_token twice over", {"response_type": "code id_token id_token"}, "unsupported_response_type"),
    ("response_type with a comma", {"response_type": "code,id_token"}, "unsupported_response_type"),
    ("response_type code id_token, unregistered", {"response_type": "code id_token"}, "unauthorized_client"),
    ("response_type id_token code, unregistered", {"response_type": "id_token code"}, "unauthorized_client"),
    ("response_mode unknown", {"response_mode": "web_message"}, "invalid_request"),
    ("response_mode signed twice", {"response_mode": "query.jwt.jwt"}, "invalid_request"),
    ("response_mode in capitals", {"response_mode": "QUERY"}, "invalid_request"),
    ("response_mode of two", {"response_mode": "query fragment"}, "invalid_request"),
    ("code_challenge missing", {"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    ("code_challenge empty", {"code_challenge": "", "code_challenge_method": ""}, "invalid_request"),
    ("code_challenge_method without code_challenge", {"code_challenge": None}, "invalid_request"),
    ("code_challenge_method missing", {"code_challenge_method": None}, "invalid_request"),
    ("code_challenge_method empty", {"code_challenge_method": ""}, "invalid_request"),
    ("code_challenge_method plain", {"code_challenge_method": "plain"}, "invalid_request"),
    ("code_challenge_method in small letters", {"code_challenge_method": "s256"}, "invalid_request"),
    ("code_challenge_method unknown", {"code_challenge_method": "S512"}, "invalid_request"),
    ("code_challenge of 42 characters", {"code_challenge": CHALLENGE[:42]}, "invalid_request"),
    ("code_challenge of 44 characters", {"code_challenge": CHALLENGE + "A"}, "invalid_request"),
    ("code_challenge padded", {"code_challenge": CHALLENGE + "="}, "invalid_request"),
    ("code_challenge not base64url", {"code_challenge": CHALLENGE[:42] + "+"}, "invalid_request"),
    ("code_challenge with a line break", {"code_challenge": CHALLENGE + "\n"}, "invalid_request"),
    ("scope unregistered", {"scope": "phone address"}, "invalid_scope"),
    ("scope in capitals", {"scope": "OpenID"}, "invalid_scope"),
    ("scope of a space", {"scope": " "}, "invalid_scope"),
    ("scope with a comma", {"scope": "openid,email"}, "invalid_scope"),
    ("scope with a quotation mark", {"scope": 'openid "email"'}, "invalid_scope"),
    ("scope with a backslash", {"scope": "openid\\email"}, "invalid_scope"),
    ("scope not ASCII", {"scope": "openid émail"}, "invalid_scope"),
    ("scope with HTML", {"scope": "<script>alert(1)</script>"}, "invalid_scope"),
    ("scope with a tab", {"scope": "openid\temail"}, "invalid_request"),
    ("prompt unknown", {"prompt": "create"}, "invalid_request"),
    ("prompt in capitals", {"prompt": "NONE"}, "invalid_request"),
    ("prompt none with another", {"prompt": "none login"}, "invalid_request"),
    ("prompt with an unknown one", {"prompt": "login create"}, "invalid_request"),
    ("max_age negative", {"max_age": "-1"}, "invalid_request"),
    ("max_age a word", {"max_age": "soon"}, "invalid_request"),
    ("max_age a fraction", {"max_age": "1.5"}, "invalid_request"),
    ("max_age with an exponent", {"max_age": "1e3"}, "invalid_request"),
    ("max_age with a space", {"max_age": " 1"}, "invalid_request"),
    ("max_age with a sign", {"max_age": "+1"}, "invalid_request"),
    ("max_age in other digits", {"max_age": "\u0663"}, "invalid_request"),
    ("max_age too large", {"max_age": "99999999999"}, "invalid_request"),
    ("request", {"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    ("request repeated", {"request": ["a", "a"]}, "invalid_request"),
    ("request_uri", {"request_uri": "https://client.example.com/request"}, "request_uri_not_supported"),
    ("request_uri not issued by this server", {"request_uri": "rqo_AQAAAAAAAAAAAAAA"}, "request_uri_not_supported"),
    ("registration", {"registration": '{"client_name":"Self"}'}, "registration_not_supported"),
    ("registration repeated", {"registration": ["{}", "{}"]}, "invalid_request"),
    ("claims not JSON", {"claims": "{userinfo:{}}"}, "invalid_request"),
    ("claims cut off", {"claims": '{"userinfo":{"email":'}, "invalid_request"),
    ("claims with something after them", {"claims": "{}{}"}, "invalid_request"),
    ("claims a list", {"claims": "[]"}, "invalid_request"),
    ("claims a string", {"claims": '"userinfo"'}, "invalid_request"),
    ("claims null", {"claims": "null"}, "invalid_request"),
    ("claims not a number", {"claims": '{"userinfo":{"email":{"value":NaN}}}'}, "invalid_request"),
    ("claims infinite", {"claims": '{"other":-Infinity}'}, "invalid_request"),
    ("claims a number of 5,000 digits", {"claims": '{"other":' + "9" * 5000 + "}"}, "invalid_request"),
    ("claims nested 5,000 deep", {"claims": "[" * 5000 + "]" * 5000}, "invalid_request"),
    ("claims lists nested 4,000 deep", {"claims": "[" * 4000 + "]" * 4000}, "invalid_request"),
    ("claims objects nested 1,300 deep", {"claims": '{"a":' * 1300 + "1" + "}" * 1300}, "invalid_request"),
    ("claims, a claim nested 4,000 deep", {"claims": '{"userinfo":{"x":' + "[" * 4000}, "invalid_request"),
    ("claims member a list", {"claims": '{"userinfo":["email"]}'}, "invalid_request"),
    ("claims member null", {"claims": '{"id_token":null}'}, "invalid_request"),
    ("claims member a string", {"claims": '{"id_token":"email"}'}, "invalid_request"),
    ("claims with a claim true", request_claims(email=True), "invalid_request"),
    ("claims with a claim a string", request_claims(email="essential"), "invalid_request"),
    ("claims with an unknown claim a list", request_claims(unknown=[]), "invalid_request"),
    ("claims essential a string", request_claims(email={"essential": "true"}), "invalid_request"),
    ("claims essential a number", request_claims(email={"essential": 1}), "invalid_request"),
    ("claims values a string", request_claims(email={"values": "a"}), "invalid_request"),
    ("claims sub a number", request_claims("id_token", sub={"value": 1}), "invalid_request"),
    ("claims sub null", request_claims("id_token", sub={"value": None}), "invalid_request"),
    ("claims sub empty", request_claims("id_token", sub={"value": ""}), "invalid_request"),
    ("claims sub too long", request_claims("id_token", sub={"value": "a" * 256}), "invalid_request"),
    ("claims sub not ASCII", request_claims("id_token", sub={"value": "\xe9"}), "invalid_request"),
    ("claims sub a lone surrogate", request_claims("id_token", sub={"value": "\ud800"}), "invalid_request"),
    ("claims sub with NUL", request_claims("id_token", sub={"values": ["a", "b\0"]}), "invalid_request"),
    ("claims sub in userinfo a list", request_claims("userinfo", sub={"values": [["a"]]}), "invalid_request"),
    (
        "claims with an essential acr that is not supported",
        request_claims("id_token", acr={"essential": True, "values": ["urn:mace:incommon:iap:silver", "2"]}),
        "unmet_authentication_requirements",
    ),
    (
        "claims with an essential acr that is a number",
        request_claims("id_token", acr={"essential": True, "value": 1}),
        "unmet_authentication_requirements",
    ),
    ("id_token_hint not a JWT", {"id_token_hint": "alice"}, "invalid_request"),
    ("id_token_hint of empty parts", {"id_token_hint": ".."}, "invalid_request"),
    ("id_token_hint not signed", {"id_token_hint": "eyJhbGciOiJub25lIn0.e30."}, "invalid_request"),
    ("resource unknown", {"resource": "https://api.example.com/"}, "invalid_target"),
    ("resource a client that is not a resource server", {"resource": "print"}, "invalid_target"),
    ("resource relative", {"resource": "/api"}, "invalid_target"),
    ("resource without a scheme", {"resource": "//api.example.com/"}, "invalid_target"),
    ("resource malformed", {"resource": "https://["}, "invalid_target"),
    ("resource too long", {"resource": "https://api.example.com/" + "a" * 2048}, "invalid_target"),
    ("resource with NUL", {"resource": "https://api.example.com/\0"}, "invalid_target"),
    ("resource with CR LF", {"resource": "https://api.example.com/\r\nSet-Cookie: a=b"}, "invalid_target"),
    ("resource unknown, twice", {"resource": ["https://a.example/", "https://b.example/"]}, "invalid_target"),
    ("resources too many", {"resource": [f"https://{n}.example/" for n in range(11)]}, "invalid_target"),
    *(row for name, longest in PARAMETERS for row in malformed(name, longest)),
]


@pytest.mark.spec("RFC 6749 §3.1 h", "RFC 6749 §3.1.1", "RFC 6749 §4.1.2.1 f", "RFC 6749 §10.3 d", "RFC 7636 §4.4.1 a")
@pytest.mark.spec("RFC 9207 §2 a", "OpenID Connect Core §3.1.2.2 a", "OpenID Connect Core §3.1.2.2 i")
@pytest.mark.spec("OpenID Connect Core §3.1.2.6 d")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
@pytest.mark.parametrize(("problem", "changes", "error"), BY_REDIRECT, ids=[row[0] for row in BY_REDIRECT])
def test_error_is_sent_by_redirect_with_state_and_issuer(
    site: Site, browser: Browser, problem: str, changes: Changes, error: str
) -> None:
    register_clients(site, changes)
    for method in METHODS:
        answer = send_request(browser, method, changes)
        assert answer.status == (303 if method == "POST" else 302)
        # A client that requested a token reads the fragment.
        in_fragment = {"token", "id_token"} & {*str(changes.get("response_type")).split()}
        assert answer.location.startswith(REDIRECT_URI + ("#" if in_fragment else "?"))
        assert answer.header("cache-control") == "no-store"
        parameters = answer.answer
        assert parameters.pop("error_description").isascii()
        assert parameters == {"error": error, "state": STATE, "iss": site.settings.issuer}
    assert is_nothing_stored()
