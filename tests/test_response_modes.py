"""What an authorization response is made of, and how it travels: query, fragment, or a form that is posted."""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest

from chalicelib.errors import TemporarilyUnavailable
from chalicelib.keys import KeyRing
from tests.browser import Answer, Browser, basic
from tests.shortcut import change
from tests.site import PASSWORD, STAGE, Registered, Site, tables
from tests.windows import Application, Window

HOME = "https://client.example.com/cb"
HYBRID: dict[str, Any] = {"response_type": "code id_token", "nonce": "n-0S6_WzA2Mj"}
METHODS = ("GET", "POST")
# Every character that an encoding could lose or change; 500 of them.
STATE = ("a b+c&d=e%20#/?;\"'<>`\\{}|^~é©\u2028\ufffd\U0001f600" * 20)[:500]
# how an answer is asked for, and how it has to come
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
IDS = [" ".join(asked.values()) or "code" for asked, _ in MODES]
modes = pytest.mark.parametrize(("asked", "mode"), MODES, ids=IDS)


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return site.client(response_types=("code", "code id_token"))


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def check_no_url_has(answer: Answer, *secrets: str) -> None:
    """None of these stands in the URL that the browser is sent to, but for its fragment."""
    if answer.mode == "form_post":
        assert not any(secret in value for name, value in answer.headers for secret in secrets), answer.headers
        assert answer.form.action == HOME
        return
    goal = urlsplit(answer.location)
    assert not goal.query
    assert not any(secret in goal.path for secret in secrets)


# ---- where the answer stands


@modes
@pytest.mark.spec("OpenID Connect Core §3.1.2.5", "OpenID Connect Core §3.3.2.5")
@pytest.mark.spec("OAuth 2.0 Multiple Response Type Encoding Practices §2.1", "OAuth 2.0 Form Post Response Mode §2")
def test_the_code_comes_in_the_mode_asked_for(
    site: Site, browser: Browser, client: Registered, asked: dict[str, str], mode: str
) -> None:
    answer = browser.answer(client, **asked)
    assert answer.mode == mode
    given = answer.answer
    assert (given["state"], given["iss"]) == ("af0ifjsldkj", site.settings.issuer)
    tokens = {"id_token"} if asked.get("nonce") else set()
    assert set(given) == {"code", "state", "iss"} | tokens
    assert answer.header("cache-control") == "no-store"
    if mode != "query":
        check_no_url_has(answer, given["code"], *(given[name] for name in tokens))
    assert browser.redeem(client, given["code"]).status == 200


@modes
@pytest.mark.spec("OpenID Connect Core §3.1.2.6 d", "OpenID Connect Core §3.3.2.6", "OpenID Connect Core §3.1.2.2 i")
def test_an_error_comes_in_the_mode_asked_for(
    site: Site, browser: Browser, client: Registered, asked: dict[str, str], mode: str
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "none"}, "login_required"),
        ({"scope": "openid phone"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
    ]
    for changes, error in wrong:
        answer = browser.authorize(client, **(asked | changes))
        assert answer.mode == mode, changes
        given = dict(answer.answer)
        assert given.pop("error_description")
        assert given == {"error": error, "state": "af0ifjsldkj", "iss": site.settings.issuer}
        assert answer.header("cache-control") == "no-store"


@modes
@pytest.mark.spec("OpenID Connect Core §3.1.2.6 d")
def test_what_the_person_denies_is_told_in_the_mode_asked_for(
    site: Site, browser: Browser, client: Registered, asked: dict[str, str], mode: str
) -> None:
    answer = browser.answer(client, "deny", **asked)
    assert answer.mode == mode
    assert answer.answer["error"] == "access_denied"
    assert not {"code", "id_token"} & set(answer.answer)
    assert not tables()[f"signet-{STAGE}-grants"].items


@modes
@pytest.mark.spec("RFC 6749 §4.1.2")
def test_a_state_of_500_characters_comes_back_exactly(
    site: Site, browser: Browser, client: Registered, asked: dict[str, str], mode: str
) -> None:
    assert len(STATE) == 500
    for further in ({"prompt": "none"}, {}):
        answer = browser.answer(client, state=STATE, **(asked | further))
        assert answer.mode == mode
        assert answer.answer["state"] == STATE


@modes
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.spec("OpenID Connect Core §3.1.2.1 a")
def test_a_request_by_post_is_answered_in_the_mode_asked_for(
    site: Site, browser: Browser, client: Registered, asked: dict[str, str], mode: str, method: str
) -> None:
    browser.answer(client, "allow_always")
    given: dict[str, Any] = {"client_id": client.id, "redirect_uri": HOME, "scope": "openid", "response_type": "code"}
    given |= {"code_challenge": "A" * 43, "code_challenge_method": "S256"} | asked
    for further, expected in (({}, "code"), ({"prompt": "none", "max_age": "0"}, "error")):
        answer = (
            browser.post("/oauth2/authorize", given | further)
            if method == "POST"
            else browser.get("/oauth2/authorize", **(given | further))
        )
        answer = browser.follow(answer)
        assert answer.mode == mode
        assert expected in answer.answer


@pytest.mark.parametrize(
    ("asked", "mode", "error"),
    [
        # A token must not stand in a query; nor may the answer that says so, for the client looks elsewhere.
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
def test_what_is_refused_goes_back_where_the_client_looks_for_it(
    site: Site, browser: Browser, client: Registered, asked: dict[str, Any], mode: str, error: str
) -> None:
    given: dict[str, Any] = {"client_id": client.id, "redirect_uri": HOME, "scope": "openid", "response_type": "code"}
    given |= {"code_challenge": "A" * 43, "code_challenge_method": "S256"}
    query = urlencode({name: value for name, value in (given | asked).items() if value is not None}, doseq=True)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for method in METHODS:
        answer = (
            browser.get(f"/oauth2/authorize?{query}")
            if method == "GET"
            else browser.request(method, "/oauth2/authorize", query, form)
        )
        assert answer.mode == mode, answer.headers
        assert answer.answer["error"] == error
    assert not any(tables()[f"signet-{STAGE}-{kind}"].items for kind in ("requests", "grants"))


@pytest.mark.parametrize("asked", [{}, HYBRID], ids=["code", "code id_token"])
def test_no_form_is_posted_to_an_application_with_a_scheme_of_its_own(
    site: Site, browser: Browser, asked: dict[str, str]
) -> None:
    """A browser would not know how; fragment and query do."""
    goal = "com.example.app:/cb"
    client = site.client(redirect_uris=[goal], public=True, response_types=("code", "code id_token"))
    answer = browser.authorize(client, response_mode="form_post", **asked)
    assert answer.answer["error"] == "invalid_request"
    assert answer.location.startswith(goal + ("#" if asked else "?"))
    assert browser.authorize(client, response_mode="fragment", **asked).status == 200


@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
@pytest.mark.spec("RFC 6749 §3.1.2")
def test_the_query_of_a_redirect_uri_is_kept_in_every_mode(site: Site, browser: Browser, mode: str) -> None:
    goal = HOME + "?tenant=a%20b&x="
    client = site.client(redirect_uris=[goal])
    answer = browser.authorize(client, response_mode=mode, prompt="none")
    assert answer.mode == mode
    if mode == "form_post":
        assert answer.form.action == goal
        return
    assert answer.location.startswith(goal + {"query": "&error=", "fragment": "#error="}[mode])


# ---- the ID token that comes with the code


@pytest.mark.spec("OpenID Connect Core §3.3.3.6 c")
@pytest.mark.spec("OpenID Connect Core §3.3.2.11 a", "OpenID Connect Core §3.3.2.11 c")
@pytest.mark.spec("OpenID Connect Core §3.3.3.6 a", "OpenID Connect Core §3.3.3.6 b")
def test_the_id_token_vouches_for_the_code_and_agrees_with_the_one_for_it(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.answer(client, **HYBRID).answer
    first = claims_of(answer["id_token"])
    digest = hashlib.sha256(answer["code"].encode("ascii")).digest()
    assert first["c_hash"] == base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
    assert "at_hash" not in first
    assert first["nonce"] == HYBRID["nonce"]
    assert first["aud"] == client.id
    key = next(key for key in browser.get("/oauth2/jwks").json["keys"] if key["alg"] == "RS256")
    jwt.decode(answer["id_token"], jwt.PyJWK(key), algorithms=["RS256"], audience=client.id)
    second = claims_of(browser.redeem(client, answer["code"]).json["id_token"])
    assert "at_hash" in second
    for name in ("iss", "sub", "aud", "auth_time", "amr", "acr", "sid", "nonce"):
        assert first[name] == second[name], name


@pytest.mark.spec("OpenID Connect Core §5.4")
def test_the_id_token_has_the_claims_asked_for_by_name_and_not_those_of_the_scope(site: Site, browser: Browser) -> None:
    site.user("alice", claims={"name": "Alice", "email": "alice@example.com"})
    client = site.client(response_types=("code id_token",))
    asked = {"claims": '{"id_token":{"email":null}}', "scope": "openid profile"}
    answer = browser.answer(client, **(HYBRID | asked)).answer
    for token in (answer["id_token"], browser.redeem(client, answer["code"]).json["id_token"]):
        assert claims_of(token)["email"] == "alice@example.com"
        assert "name" not in claims_of(token)


def test_a_code_alone_comes_without_an_id_token_whatever_the_nonce(
    site: Site, browser: Browser, client: Registered
) -> None:
    for mode in ("query", "fragment", "form_post"):
        assert "id_token" not in browser.answer(client, nonce="n", response_mode=mode).answer


@pytest.mark.parametrize("alg", ["RS256", "ES256", "PS256", "EdDSA"])
@pytest.mark.spec("OpenID Connect Core §3.3.2.11 c")
def test_the_hash_is_that_of_the_clients_algorithm(site: Site, browser: Browser, alg: str) -> None:
    site.user("alice")
    client = site.client(response_types=("code id_token",), id_token_signed_response_alg=alg)
    answer = browser.answer(client, **HYBRID).answer
    assert jwt.get_unverified_header(answer["id_token"])["alg"] == alg
    digest = (hashlib.sha512 if alg == "EdDSA" else hashlib.sha256)(answer["code"].encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    assert claims_of(answer["id_token"])["c_hash"] == half


@pytest.mark.parametrize("mode", ["fragment", "form_post"])
def test_when_the_id_token_cannot_be_signed_nothing_is_half_done(
    site: Site, browser: Browser, client: Registered, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode=mode, **HYBRID))

    def out_of_reach(*_: Any, **__: Any) -> str:
        raise TemporarilyUnavailable(detail="kms: out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(KeyRing, "sign", out_of_reach)
        answer = browser.submit(page, decision="allow_always")
        assert answer.mode == mode
        assert answer.answer["error"] == "temporarily_unavailable"
    assert list(site.server.store.grants.scan()) == []
    assert list(site.server.store.consents.scan()) == []
    (session,) = site.server.store.sessions.scan()
    assert not session.grants
    # The request still waits: the person may go back and try again.
    assert "code" in browser.submit(page, decision="allow_once").answer


def test_a_request_is_answered_once_in_every_mode(site: Site, browser: Browser, client: Registered) -> None:
    for mode in ("fragment", "form_post"):
        page = browser.authorize(client, response_mode=mode, prompt="login", **HYBRID)
        page = browser.sign_in(page)
        assert "code" in browser.submit(page, decision="allow_once").answer
        again = browser.submit(page, decision="allow_once")
        assert (again.status, again.header("location")) == (400, None)
        assert "code" not in again.form.fields
    assert len(list(site.server.store.grants.scan())) == 2


# ---- what else is done when a grant is born


def test_only_clients_that_want_to_hear_of_its_end_are_kept_in_the_session(
    site: Site, browser: Browser, client: Registered
) -> None:
    other = site.client(client_name="Other", backchannel_logout_uri="https://other.example.com/logout")
    browser.answer(client)
    browser.answer(other)
    (session,) = site.server.store.sessions.scan()
    assert session.backchannel_clients == {other.id}
    assert len(session.grants) == 2


def test_a_grant_keeps_what_its_tokens_and_its_owner_need(site: Site, browser: Browser, client: Registered) -> None:
    windows = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/130.0"}
    resource = "https://api.example.com/"
    site.client(client_id=resource, client_name="API", grant_types=(), response_types=(), redirect_uris=[])
    page = browser.sign_in(
        browser.authorize(client, claims='{"userinfo":{"email":{"essential":true}}}', resource=resource)
    )
    browser.send(page, windows, decision="allow_once")
    (grant,) = site.server.store.grants.scan()
    assert grant.device == "Firefox on Windows"
    assert set(grant.claims["userinfo"]) == {"email"}
    assert grant.resource == {resource}


def test_a_direct_sign_in_ends_with_the_form_and_leaves_no_session_cookie(site: Site, browser: Browser) -> None:
    """A link must not sign a browser in for good, whatever the mode of its answer."""
    site.user("alice")
    client = site.client(direct_sign_in=True, trusted=True)
    for mode in ("query", "fragment", "form_post"):
        answer = browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD), response_mode=mode)
        assert answer.mode == mode
        assert "code" in answer.answer
        assert not any("session" in name for name in browser.cookies)


# ---- the form that posts the answer


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode §2")
def test_the_form_stands_on_a_page_with_a_strict_policy_and_a_button(
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
def test_a_state_cannot_get_out_of_the_form(site: Site, browser: Browser, client: Registered, state: str) -> None:
    answer = browser.authorize(client, response_mode="form_post", prompt="none", state=state)
    assert answer.form.fields["state"] == state
    assert "<script>alert" not in answer.body
    assert set(answer.form.fields) == {"error", "error_description", "state", "iss"}


@pytest.mark.browser
@pytest.mark.spec("OAuth 2.0 Form Post Response Mode §2")
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])
@pytest.mark.parametrize("response_type", ["code", "code id_token"])
def test_a_browser_posts_the_form(
    site: Site, application: Application, windows: Callable[..., Window], script: bool, response_type: str
) -> None:
    site.user("alice")
    goal = application.url(host="localhost")
    client = site.client(redirect_uris=[goal], response_types=("code", "code id_token"))
    window = windows(java_script_enabled=script)
    asked: dict[str, Any] = {"response_mode": "form_post", "response_type": response_type, "nonce": "n", "state": STATE}
    window.authorize(client, goal, **asked)
    window.sign_in()
    if script:
        with window.page.expect_request(goal):
            window.page.get_by_role("button", name="Allow once").click()
    else:
        window.press("Allow once")
        assert window.heading() == "Back to Photo Print"
        assert f"localhost:{application.port}" in window.text()
        assert application.posted == []
        window.press("Continue")
    window.page.wait_for_url(goal)
    assert window.heading() == "Welcome back"
    check_posted(site, client, application, goal, {"id_token"} if " " in response_type else set())
    # The second time nobody is asked, and an error takes the same way.
    window.authorize(client, goal, **asked, prompt="none")
    if not script:
        window.press("Continue")
    window.page.wait_for_url(goal)
    assert application.posted[-1][1]["error"] == "consent_required"
    assert application.posted[-1][1]["state"] == STATE


def check_posted(site: Site, client: Registered, application: Application, goal: str, tokens: set[str]) -> None:
    """One answer arrived, by POST alone, and its code is worth tokens."""
    ((path, fields),) = application.posted
    assert path == "/cb"
    assert application.received == ["/cb"]
    assert set(fields) == {"code", "state", "iss"} | tokens
    assert (fields["state"], fields["iss"]) == (STATE, site.settings.issuer)
    site.secrets.update(fields[name] for name in {"code"} | tokens)
    browser = Browser(site)
    assert browser.redeem(client, fields["code"], redirect_uri=goal).status == 200
    browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_browser_brings_the_fragment_to_the_application_and_not_to_its_server(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url(host="localhost")
    client = site.client(redirect_uris=[goal], response_types=("code id_token",))
    window = windows(java_script_enabled=script)
    window.authorize(client, goal, state=STATE, **HYBRID)
    window.sign_in()
    window.press("Allow once")
    assert window.heading() == "Welcome back"
    answer = dict(parse_qsl(urlsplit(window.page.url).fragment))
    site.secrets.update((answer["code"], answer["id_token"]))
    assert answer["state"] == STATE
    assert application.received == ["/cb"]


def test_a_client_that_lost_its_registration_for_id_tokens_gets_none_any_more(
    site: Site, browser: Browser, client: Registered
) -> None:
    change(site, client, response_types=("code",))
    answer = browser.authorize(client, **HYBRID)
    assert answer.answer["error"] == "unauthorized_client"
    changed = replace(client.record, response_types=("id_token code",))
    site.server.store.clients.put(changed)
    assert browser.authorize(client, **HYBRID).status == 200, "the words are a set, and the record is read again"
