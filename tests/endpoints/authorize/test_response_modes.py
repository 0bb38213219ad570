"""Authorization responses: their parameters and their response mode (query, fragment, form_post)."""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest

from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.errors import TemporarilyUnavailable
from tests.endpoints.authorize.conftest import (
    METHODS,
    REDIRECT_URI,
    is_nothing_stored,
    read_claims,
)
from tests.support.browser import Answer, Browser, basic
from tests.support.chromium import Application, Window
from tests.support.grants import update_client
from tests.support.resource_servers import register_resource_server
from tests.support.site import PASSWORD, STAGE, Registered, Site, dump_tables, tables

HYBRID: dict[str, Any] = {"response_type": "code id_token", "nonce": "n-0S6_WzA2Mj"}
# 500 characters that an encoding could lose or change.
STATE = ("a b+c&d=e%20#/?;\"'<>`\\{}|^~é©\u2028\ufffc\U0001f600" * 20)[:500]
# parameters of the request, mode of the response
MODES: list[tuple[dict[str, str], str]] = [
    ({}, "query"),
    ({"response_mode": "query"}, "query"),
    ({"response_mode": "fragment"}, "fragment"),
    ({"response_mode": "form_post"}, "form_post"),
    (HYBRID, "fragment"),
    (HYBRID | {"response_type": "id_token code"}, "fragment"),
    (HYBRID | {"response_mode": "fragment"}, "fragment"),
    (HYBRID | {"response_mode": "form_post"}, "form_post"),
]
IDS = [" ".join(parameters.values()) or "code" for parameters, _ in MODES]
modes = pytest.mark.parametrize(("parameters", "mode"), MODES, ids=IDS)


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return site.client(response_types=("code", "code id_token"))


def build_parameters(client: Registered, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of an authorization request, with changes."""
    parameters = {"client_id": client.id, "redirect_uri": REDIRECT_URI, "scope": "openid", "response_type": "code"}
    return parameters | {"code_challenge": "A" * 43, "code_challenge_method": "S256"} | changes


def check_url_contains_none_of(answer: Answer, *secrets: str) -> None:
    """Check that the URL of a redirect, apart from its fragment, contains none of the secrets."""
    if answer.mode == "form_post":
        assert not any(secret in value for name, value in answer.headers for secret in secrets), answer.headers
        assert answer.form.action == REDIRECT_URI
        return
    url = urlsplit(answer.location)
    assert not url.query
    assert not any(secret in url.path for secret in secrets)


# ---- the mode of the response


@modes
@pytest.mark.spec("OpenID Connect Core §3.1.2.5", "OpenID Connect Core §3.3.2.5")
@pytest.mark.spec("OAuth 2.0 Multiple Response Type Encoding Practices §2.1", "OAuth 2.0 Form Post Response Mode §2")
def test_code_is_sent_in_the_requested_mode(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str], mode: str
) -> None:
    answer = browser.answer(client, **parameters)
    assert answer.mode == mode
    response = answer.answer
    assert (response["state"], response["iss"]) == ("af0ifjsldkj", site.settings.issuer)
    tokens = {"id_token"} if parameters.get("nonce") else set()
    assert set(response) == {"code", "state", "iss"} | tokens
    assert answer.header("cache-control") == "no-store"
    if mode != "query":
        check_url_contains_none_of(answer, response["code"], *(response[name] for name in tokens))
    assert browser.redeem(client, response["code"]).status == 200


@modes
@pytest.mark.spec("OpenID Connect Core §3.1.2.6 d", "OpenID Connect Core §3.3.2.6", "OpenID Connect Core §3.1.2.2 i")
def test_error_is_sent_in_the_requested_mode(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str], mode: str
) -> None:
    errors: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "none"}, "login_required"),
        ({"scope": "phone"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"request": "e30.e30."}, "invalid_request_object"),
    ]
    for changes, error in errors:
        answer = browser.authorize(client, **(parameters | changes))
        assert answer.mode == mode, changes
        response = dict(answer.answer)
        assert response.pop("error_description")
        assert response == {"error": error, "state": "af0ifjsldkj", "iss": site.settings.issuer}
        assert answer.header("cache-control") == "no-store"


@modes
@pytest.mark.spec("OpenID Connect Core §3.1.2.6 d")
def test_denial_is_sent_in_the_requested_mode(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str], mode: str
) -> None:
    answer = browser.answer(client, "deny", **parameters)
    assert answer.mode == mode
    assert answer.answer["error"] == "access_denied"
    assert not {"code", "id_token"} & set(answer.answer)
    assert not tables()[f"signet-{STAGE}-grants"].items


@modes
@pytest.mark.spec("RFC 6749 §4.1.2")
def test_state_of_500_characters_is_returned_unchanged(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str], mode: str
) -> None:
    assert len(STATE) == 500
    for extra in ({"prompt": "none"}, {}):
        answer = browser.answer(client, state=STATE, **(parameters | extra))
        assert answer.mode == mode
        assert answer.answer["state"] == STATE


@modes
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.spec("OpenID Connect Core §3.1.2.1 a")
def test_request_by_post_is_answered_in_the_requested_mode(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str], mode: str, method: str
) -> None:
    browser.answer(client, "allow_always")
    for extra, expected in (({}, "code"), ({"prompt": "none", "max_age": "0"}, "error")):
        fields = build_parameters(client, parameters | extra)
        post, get = browser.post, browser.get
        answer = post("/oauth2/authorize", fields) if method == "POST" else get("/oauth2/authorize", **fields)
        answer = browser.follow(answer)
        assert answer.mode == mode
        assert expected in answer.answer


@pytest.mark.parametrize(
    ("parameters", "mode", "error"),
    [
        # A token must not be in a query. The error is not in the query either, because the client reads the fragment.
        (HYBRID | {"response_mode": "query"}, "fragment", "invalid_request"),
        (HYBRID | {"response_mode": "web_message"}, "fragment", "invalid_request"),
        ({"response_mode": "web_message"}, "query", "invalid_request"),
        ({"response_mode": ["fragment", "form_post"]}, "query", "invalid_request"),
        ({"response_mode": ["form_post", "form_post"]}, "query", "invalid_request"),
        ({"response_mode": "form_post\n"}, "query", "invalid_request"),
        ({"response_mode": "f" * 2049}, "query", "invalid_request"),
        ({"response_mode": "form_post", "response_type": None}, "form_post", "invalid_request"),
        ({"response_mode": "fragment", "response_type": None}, "fragment", "invalid_request"),
        ({"response_mode": "form_post", "response_type": ["code", "code"]}, "form_post", "invalid_request"),
        ({"response_type": ["code", "id_token"]}, "query", "invalid_request"),
        ({"response_type": None}, "query", "invalid_request"),
        ({"response_type": "token"}, "fragment", "unsupported_response_type"),
        ({"response_type": "token", "response_mode": "query"}, "fragment", "unsupported_response_type"),
        ({"response_type": "token", "response_mode": "form_post"}, "form_post", "unsupported_response_type"),
        ({"response_type": "none"}, "query", "unsupported_response_type"),
        (HYBRID | {"nonce": None}, "fragment", "invalid_request"),
        (HYBRID | {"nonce": ""}, "fragment", "invalid_request"),
        (HYBRID | {"nonce": ["a", "a"]}, "fragment", "invalid_request"),
        (HYBRID | {"nonce": None, "response_mode": "form_post"}, "form_post", "invalid_request"),
        (HYBRID | {"scope": "email"}, "fragment", "invalid_scope"),
        (HYBRID | {"state": ["a", "a"]}, "fragment", "invalid_request"),
    ],
    ids=repr,
)
@pytest.mark.spec("OpenID Connect Core §3.3.2.1", "OpenID Connect Core §3.3.2.6")
@pytest.mark.spec("OAuth 2.0 Multiple Response Type Encoding Practices §2.1")
def test_invalid_request_is_answered_in_the_mode_that_the_client_reads(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, Any], mode: str, error: str
) -> None:
    present = {name: value for name, value in build_parameters(client, parameters).items() if value is not None}
    query = urlencode(present, doseq=True)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for method in METHODS:
        answer = (
            browser.get(f"/oauth2/authorize?{query}")
            if method == "GET"
            else browser.request(method, "/oauth2/authorize", query, form)
        )
        assert answer.mode == mode, answer.headers
        assert answer.answer["error"] == error
    assert is_nothing_stored()


@pytest.mark.parametrize("parameters", [{}, HYBRID], ids=["code", "code id_token"])
def test_form_post_to_a_private_use_uri_scheme_is_rejected(
    site: Site, browser: Browser, parameters: dict[str, str]
) -> None:
    """A browser can send a form to http and https only. Query and fragment work for every scheme."""
    redirect_uri = "com.example.app:/cb"
    client = site.client(redirect_uris=[redirect_uri], public=True, response_types=("code", "code id_token"))
    answer = browser.authorize(client, response_mode="form_post", **parameters)
    assert answer.answer["error"] == "invalid_request"
    assert answer.location.startswith(redirect_uri + ("#" if parameters else "?"))
    assert browser.authorize(client, response_mode="fragment", **parameters).status == 200


@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
@pytest.mark.spec("RFC 6749 §3.1.2")
def test_query_of_the_redirect_uri_is_kept_in_every_mode(site: Site, browser: Browser, mode: str) -> None:
    redirect_uri = REDIRECT_URI + "?tenant=a%20b&x="
    client = site.client(redirect_uris=[redirect_uri])
    answer = browser.authorize(client, response_mode=mode, prompt="none")
    assert answer.mode == mode
    if mode == "form_post":
        assert answer.form.action == redirect_uri
        return
    assert answer.location.startswith(redirect_uri + {"query": "&error=", "fragment": "#error="}[mode])


# ---- the ID token that comes with the code


@pytest.mark.spec("OpenID Connect Core §3.3.3.6 c")
@pytest.mark.spec("OpenID Connect Core §3.3.2.11 a", "OpenID Connect Core §3.3.2.11 c")
@pytest.mark.spec("OpenID Connect Core §3.3.3.6 a", "OpenID Connect Core §3.3.3.6 b")
def test_id_token_contains_c_hash_and_matches_that_of_the_token_endpoint(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.answer(client, **HYBRID).answer
    first = read_claims(answer["id_token"])
    digest = hashlib.sha256(answer["code"].encode("ascii")).digest()
    assert first["c_hash"] == base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
    assert "at_hash" not in first
    assert first["nonce"] == HYBRID["nonce"]
    assert first["aud"] == client.id
    key = next(key for key in browser.get("/oauth2/jwks").json["keys"] if key["alg"] == "RS256")
    jwt.decode(answer["id_token"], jwt.PyJWK(key), algorithms=["RS256"], audience=client.id)
    second = read_claims(browser.redeem(client, answer["code"]).json["id_token"])
    assert "at_hash" in second
    for name in ("iss", "sub", "aud", "auth_time", "amr", "acr", "sid", "nonce"):
        assert first[name] == second[name], name


@pytest.mark.spec("OpenID Connect Core §5.4")
def test_id_token_contains_requested_claims_but_not_those_of_scopes(site: Site, browser: Browser) -> None:
    site.user("alice", claims={"name": "Alice", "email": "alice@example.com"})
    client = site.client(response_types=("code id_token",))
    parameters = {"claims": '{"id_token":{"email":null}}', "scope": "openid profile"}
    answer = browser.answer(client, **(HYBRID | parameters)).answer
    for token in (answer["id_token"], browser.redeem(client, answer["code"]).json["id_token"]):
        assert read_claims(token)["email"] == "alice@example.com"
        assert "name" not in read_claims(token)


def test_response_type_code_returns_no_id_token(site: Site, browser: Browser, client: Registered) -> None:
    for mode in ("query", "fragment", "form_post"):
        assert "id_token" not in browser.answer(client, nonce="n", response_mode=mode).answer


@pytest.mark.parametrize("alg", ["RS256", "ES256", "PS256", "EdDSA"])
@pytest.mark.spec("OpenID Connect Core §3.3.2.11 c")
def test_c_hash_uses_the_signing_algorithm_of_the_client(site: Site, browser: Browser, alg: str) -> None:
    site.user("alice")
    client = site.client(response_types=("code id_token",), id_token_signed_response_alg=alg)
    answer = browser.answer(client, **HYBRID).answer
    assert jwt.get_unverified_header(answer["id_token"])["alg"] == alg
    digest = (hashlib.sha512 if alg == "EdDSA" else hashlib.sha256)(answer["code"].encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    assert read_claims(answer["id_token"])["c_hash"] == half


def test_failure_to_sign_the_id_token_stores_nothing(
    site: Site, browser: Browser, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode="fragment", **HYBRID))

    def fail(*_: Any, **__: Any) -> str:
        raise TemporarilyUnavailable(detail="kms: unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(KeyRing, "sign", fail)
        answer = browser.submit(page, decision="allow_always")
        assert answer.mode == "fragment"
        assert answer.answer["error"] == "temporarily_unavailable"
    assert list(site.server.store.grants.scan()) == []
    assert list(site.server.store.consents.scan()) == []
    # The authorization request is still stored, so the user can try again.
    assert "code" in browser.submit(page, decision="allow_once").answer


def test_failure_to_sign_the_id_token_for_a_form_leaves_the_answer_to_the_next_try(
    browser: Browser, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode="form_post", **HYBRID))
    address = browser.send(page, decision="allow_once").location

    def fail(*_: Any, **__: Any) -> str:
        raise TemporarilyUnavailable(detail="kms: unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(KeyRing, "sign", fail)
        for _ in range(5):
            answer = browser.get(address)
            assert answer.mode == "form_post"
            assert answer.answer["error"] == "temporarily_unavailable"
    assert {"code", "id_token"} <= browser.get(address).answer.keys()


def test_request_is_answered_once_in_every_mode(site: Site, browser: Browser, client: Registered) -> None:
    for mode in ("fragment", "form_post"):
        page = browser.authorize(client, response_mode=mode, prompt="login", **HYBRID)
        page = browser.sign_in(page)
        assert "code" in browser.submit(page, decision="allow_once").answer
        site.clock.advance(60)
        before = dump_tables()
        second = browser.submit(page, decision="allow_once")
        assert (second.status, second.header("location")) == (400, None)
        assert "code" not in second.form.fields
        assert dump_tables() == before


# ---- what is stored with a grant


def test_session_lists_only_clients_with_a_backchannel_logout_uri(
    site: Site, browser: Browser, client: Registered
) -> None:
    other = site.client(client_name="Other", backchannel_logout_uri="https://other.example.com/logout")
    browser.answer(client)
    browser.answer(other)
    (session,) = site.server.store.sessions.scan()
    assert session.backchannel_clients == {other.id}
    assert {grant.session_id for grant in site.server.store.grants.scan()} == {session.session_id}


def test_grant_stores_device_claims_and_resource(site: Site, browser: Browser, client: Registered) -> None:
    headers = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/130.0"}
    resource = "https://api.example.com/"
    register_resource_server(site, resource)
    page = browser.sign_in(
        browser.authorize(client, claims='{"userinfo":{"email":{"essential":true}}}', resource=resource)
    )
    browser.send(page, headers, decision="allow_once")
    (grant,) = site.server.store.grants.scan()
    assert grant.device == "Firefox on Windows"
    assert set(grant.claims["userinfo"]) == {"email"}
    assert grant.resource == {resource}


def test_direct_sign_in_sets_no_session_cookie_in_any_mode(site: Site, browser: Browser) -> None:
    """A link must not sign a browser in, whatever the response mode."""
    site.user("alice")
    client = site.client(direct_sign_in=True, trusted=True)
    for mode in ("query", "fragment", "form_post"):
        answer = browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD), response_mode=mode)
        assert answer.mode == mode
        assert "code" in answer.answer
        assert not any("session" in name for name in browser.cookies)


# ---- the form that posts the response


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode §2")
def test_form_page_has_a_strict_content_security_policy_and_a_button(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.answer(client, response_mode="form_post")
    assert answer.status == 200
    assert answer.header("content-type") == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in (answer.header("content-security-policy") or "").split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self' https:"
    assert "unsafe" not in str(policy)
    assert re.search(r'<form method="post" action="https://client\.example\.com/cb"', answer.body)
    assert re.search(r'<button type="submit"[^>]*>Continue', answer.body)
    assert not re.search(r"<script(?![^>]* src=)", answer.body)
    assert "Photo Print" in answer.body


@pytest.mark.parametrize(
    "state", ['"><script>alert(1)</script>', "{{7*7}}${7*7}", "\u202e\u2066abc", "&amp;&lt;", "'\""]
)
def test_state_is_escaped_in_the_form(site: Site, browser: Browser, client: Registered, state: str) -> None:
    answer = browser.authorize(client, response_mode="form_post", prompt="none", state=state)
    assert answer.form.fields["state"] == state
    assert "<script>alert" not in answer.body
    assert set(answer.form.fields) == {"error", "error_description", "state", "iss"}


@pytest.mark.browser
@pytest.mark.spec("OAuth 2.0 Form Post Response Mode §2")
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])
@pytest.mark.parametrize("response_type", ["code", "code id_token"])
def test_browser_posts_the_form(
    site: Site, application: Application, windows: Callable[..., Window], script: bool, response_type: str
) -> None:
    site.user("alice")
    redirect_uri = application.url(host="localhost")
    client = site.client(redirect_uris=[redirect_uri], response_types=("code", "code id_token"))
    window = windows(java_script_enabled=script)
    parameters: dict[str, Any] = {
        "response_mode": "form_post",
        "response_type": response_type,
        "nonce": "n",
        "state": STATE,
    }
    window.authorize(client, redirect_uri, **parameters)
    window.sign_in()
    if script:
        with window.page.expect_request(redirect_uri):
            window.page.get_by_role("button", name="Allow", exact=True).click()
    else:
        window.press("Allow")
        assert window.heading() == "Back to Photo Print"
        assert f"localhost:{application.port}" in window.text()
        assert application.posted == []
        window.press("Continue")
    window.page.wait_for_url(redirect_uri)
    assert window.heading() == "Welcome back"
    check_posted(site, client, application, redirect_uri, {"id_token"} if " " in response_type else set())
    # An error is sent in the same way.
    window.authorize(client, redirect_uri, **parameters, prompt="none")
    if not script:
        window.press("Continue")
    window.page.wait_for_url(redirect_uri)
    assert application.posted[-1][1]["error"] == "consent_required"
    assert application.posted[-1][1]["state"] == STATE


def check_posted(site: Site, client: Registered, application: Application, redirect_uri: str, tokens: set[str]) -> None:
    """Check that one response arrived, by POST, and that its code can be redeemed."""
    ((path, fields),) = application.posted
    assert path == "/cb"
    assert application.received == ["/cb"]
    assert set(fields) == {"code", "state", "iss"} | tokens
    assert (fields["state"], fields["iss"]) == (STATE, site.settings.issuer)
    site.secrets.update(fields[name] for name in {"code"} | tokens)
    browser = Browser(site)
    assert browser.redeem(client, fields["code"], redirect_uri=redirect_uri).status == 200
    browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_browser_does_not_send_the_fragment_to_the_server(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    redirect_uri = application.url(host="localhost")
    client = site.client(redirect_uris=[redirect_uri], response_types=("code id_token",))
    window = windows(java_script_enabled=script)
    window.authorize(client, redirect_uri, state=STATE, **HYBRID)
    window.sign_in()
    window.press("Allow")
    assert window.heading() == "Welcome back"
    answer = dict(parse_qsl(urlsplit(window.page.url).fragment))
    site.secrets.update((answer["code"], answer["id_token"]))
    assert answer["state"] == STATE
    assert application.received == ["/cb"]


def test_client_that_is_no_longer_registered_for_id_tokens_is_unauthorized(
    site: Site, browser: Browser, client: Registered
) -> None:
    update_client(site, client, response_types=("code",))
    answer = browser.authorize(client, **HYBRID)
    assert answer.answer["error"] == "unauthorized_client"
    site.server.store.clients.put(replace(client.record, response_types=("id_token code",)))
    assert browser.authorize(client, **HYBRID).status == 200, (
        "the order of the values does not matter, and the record is read again"
    )
