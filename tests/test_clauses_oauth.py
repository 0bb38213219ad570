"""Clauses of the OAuth specifications that no other test is about."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from chalicelib import handles
from chalicelib.errors import InvalidRedirectUri
from tests.browser import CHALLENGE, Answer, Browser, basic
from tests.shortcut import code_of
from tests.site import Registered, Site

ROOT = Path(__file__).parents[1]
HOME = "https://client.example.com/cb"
# RFC 6749 sections 4.1.2.1 and 5.2
ALLOWED = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")
NASTY = '"\\\u00e9\u2603\U0001f511<b>%22 \u2028'


# ---- what a client is


@pytest.mark.spec("RFC 6749 §2.1", "RFC 8252 §8.4 a")
@pytest.mark.parametrize("uri", [HOME, "http://127.0.0.1/cb", "com.example.app:/cb"])
def test_a_client_is_of_the_type_that_was_registered_whatever_its_redirect_uri_looks_like(
    site: Site, browser: Browser, uri: str
) -> None:
    confidential = site.client(redirect_uris=[uri])
    public = site.client(redirect_uris=[uri], public=True)
    assert (confidential.record.public, public.record.public) == (False, True)
    for client, status in ((confidential, 401), (public, 200)):
        answer = browser.redeem(Registered(client.record, None), code_of(site, client))  # by its client_id alone
        assert answer.status == status, answer.body
    assert browser.redeem(confidential, code_of(site, confidential)).status == 200


@pytest.mark.spec("RFC 6749 §3.1.2.2 a", "RFC 6749 §3.1.2.2 b", "RFC 6749 §10.2 b")
@pytest.mark.spec("RFC 6749 §10.6 b", "RFC 6749 §10.6 c")
@pytest.mark.parametrize("public", [True, False])
def test_nobody_asks_for_codes_without_a_registered_redirect_uri(site: Site, public: bool) -> None:
    with pytest.raises(InvalidRedirectUri):
        site.client(redirect_uris=[], public=public)


@pytest.mark.spec("RFC 6749 §6 b")
def test_a_client_with_a_secret_refreshes_with_it_only(site: Site, browser: Browser) -> None:
    client = site.client()
    form = {
        "grant_type": "refresh_token",
        "refresh_token": browser.redeem(client, code_of(site, client)).json["refresh_token"],
    }
    for credentials in ({"client_id": client.id}, {"client_id": client.id, "client_secret": "wrong"}):
        answer = browser.post("/oauth2/token", form | credentials)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert browser.post("/oauth2/token", form, basic(client.id, client.secret or "")).status == 200


@pytest.mark.spec("RFC 6749 §3.3 c")
def test_the_documentation_tells_what_a_request_without_scope_means() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    (row,) = {line for page in pages for line in page.read_text("utf-8").splitlines() if "`--default-scope`" in line}
    assert "what a request without `scope` means" in row
    assert "by default all of it but `offline_access`" in row


# ---- errors


def _errors(site: Site, browser: Browser) -> list[dict[str, str]]:
    """The members of all kinds of errors that have something of the sender's in them."""
    client = site.client()
    asked = [
        browser.authorize(client, **{name: NASTY})
        for name in ("scope", "response_type", "response_mode", "prompt", "max_age", "code_challenge")
    ]
    body = {"grant_type": NASTY, "code": NASTY, "refresh_token": NASTY, "scope": NASTY, "code_verifier": NASTY}
    header = basic(client.id, client.secret or "")
    sent = [
        browser.post("/oauth2/token", body | {"grant_type": grant_type}, header)
        for grant_type in (NASTY, "authorization_code", "refresh_token")
    ]
    sent += [browser.post("/oauth2/token", body | {"client_id": NASTY}), browser.post("/oauth2/revoke", {}, header)]
    sent += [browser.post("/oauth2/userinfo", {"access_token": NASTY}), browser.userinfo("x")]
    return [answer.answer for answer in asked] + [answer.json for answer in sent]


@pytest.mark.spec("RFC 6749 §4.1.2.1 d", "RFC 6749 §5.2 c")
def test_no_error_has_a_character_that_it_must_not_have(site: Site, browser: Browser) -> None:
    errors = _errors(site, browser)
    assert len(errors) >= 12
    for members in errors:
        for name in ("error", "error_description"):
            assert ALLOWED.fullmatch(members[name]), members


@pytest.mark.spec("RFC 6749 §4.1.2.1 c", "RFC 6749 §5.2 a", "OpenID Connect Core §3.1.2.6 c")
def test_every_error_has_a_code_that_a_specification_names(site: Site, browser: Browser) -> None:
    oauth = {"invalid_request", "unauthorized_client", "access_denied", "unsupported_response_type", "invalid_scope"}
    oauth |= {"server_error", "temporarily_unavailable", "invalid_client", "invalid_grant", "unsupported_grant_type"}
    assert {members["error"] for members in _errors(site, browser)} <= oauth | {"invalid_token"}


# ---- the challenge of a protected resource


def _challenge(answer: Answer) -> list[tuple[str, str]]:
    scheme, _, rest = (answer.header("www-authenticate") or "").partition(" ")
    assert scheme == "Bearer"
    pairs = re.findall(r'([a-z_]+)="([^"]*)"', rest)
    assert ", ".join(f'{name}="{value}"' for name, value in pairs) == rest, "nothing else is in it"
    return [(name, value) for name, value in pairs]


@pytest.mark.spec("RFC 6750 §3 a", "RFC 6750 §3 b", "RFC 6750 §3 c", "RFC 6750 §3 d", "RFC 6750 §3 e")
@pytest.mark.spec("RFC 6750 §3 f", "RFC 6750 §3 g", "RFC 6750 §3 h", "RFC 6749 §7.2")
def test_a_challenge_has_each_attribute_once_and_characters_that_it_may_have(site: Site, browser: Browser) -> None:
    client, alice = site.client(), site.user()
    narrow = browser.redeem(client, code_of(site, client, alice, scope=frozenset({"email"}))).json["access_token"]
    answers = {
        None: browser.get("/oauth2/userinfo"),
        "invalid_token": browser.userinfo("x"),
        "insufficient_scope": browser.userinfo(narrow),
        "invalid_request": browser.get("/oauth2/userinfo", access_token=narrow),
    }
    for error, answer in answers.items():
        found = _challenge(answer)
        names = [name for name, _ in found]
        assert len(set(names)) == len(names)
        assert names[0] == "realm"
        assert dict(found).get("error") == error
        for _, value in found:
            assert ALLOWED.fullmatch(value)
    assert dict(_challenge(answers["insufficient_scope"]))["scope"] == "openid"


# ---- what is handed out


@pytest.mark.spec("RFC 6749 §10.10 a", "RFC 6749 §10.10 b", "RFC 6749 §10.10 c", "RFC 6750 §5.2 a")
@pytest.mark.parametrize("what", ["code", "rt", "sid", "br", "req"])
def test_who_guesses_a_handle_has_256_bits_to_guess(site: Site, what: Any) -> None:
    made = [site.server.keys.make_handle(what, handles.new_id(), 1) for _ in range(200)]
    bodies = [base64.urlsafe_b64decode(handle.removeprefix(f"{what}_") + "==") for handle in made]
    tags, ids = ({body[5:21] for body in bodies}, {base64.urlsafe_b64decode(body[21:] + b"==") for body in bodies})
    for values in (tags, ids):  # 16 bytes each, every bit of which is sometimes 0 and sometimes 1
        assert {len(value) for value in values} == {16}
        assert len(values) == 200
        numbers = [int.from_bytes(value, "big") for value in values]
        for bit in range(128):
            assert 40 < sum(number >> bit & 1 for number in numbers) < 160


@pytest.mark.spec("RFC 7636 §4.4 b")
def test_the_challenge_is_in_no_answer(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    page = browser.authorize(client)
    consent = browser.sign_in(page)
    answer = browser.submit(consent, decision="allow_once")
    raw = base64.urlsafe_b64decode(answer.code.removeprefix("code_") + "==")
    assert base64.urlsafe_b64decode(CHALLENGE + "=") not in raw
    for shown in (page.body, consent.body, answer.location, raw.decode("latin-1"), json.dumps(browser.cookies)):
        assert CHALLENGE not in shown


@pytest.mark.spec("RFC 7636 §4.4.1 d", "RFC 7636 §4.4.1 c")
@pytest.mark.parametrize("method", ["plain", None])
def test_who_uses_another_challenge_method_is_told_which_one_to_use(
    site: Site, browser: Browser, method: str | None
) -> None:
    answer = browser.authorize(site.client(), code_challenge_method=method).answer
    assert answer["error"] == "invalid_request"
    assert "S256" in answer["error_description"]


@pytest.mark.spec("RFC 7009 §5 b")
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_wrong_hint_costs_no_more_than_a_right_one(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    client = site.client()
    calls = set()
    for hint in ("access_token", "refresh_token", "nonsense", None):
        token = browser.redeem(client, code_of(site, client)).json[kind]
        form = {"token": token} | ({"token_type_hint": hint} if hint else {})
        assert browser.post("/oauth2/revoke", form, basic(client.id, client.secret or "")).status == 200
        calls.add(json.loads(caplog.records[-1].getMessage())["dynamodb_calls"])
    assert len(calls) == 1


# ---- comparisons

LIKE = {
    "wide letters": ("openid", "\uff4f\uff50\uff45\uff4e\uff49\uff44"),
    "a ligature": ("profile", "pro\ufb01le"),
    "a soft hyphen": ("email", "e\u00admail"),
    "a letter of another alphabet": ("email", "\u0435mail"),
}


@pytest.mark.spec("RFC 8414 §4", "OpenID Connect Core §14 a", "OpenID Connect Discovery §5")
@pytest.mark.parametrize("what", LIKE)
def test_what_only_looks_alike_is_not_the_same(site: Site, browser: Browser, what: str) -> None:
    right, alike = LIKE[what]
    client = site.client(redirect_uris=[HOME + "/" + right], scope=right)
    assert browser.authorize(client, scope=right, response_type="code").status == 200
    assert browser.authorize(client, scope=alike).answer["error"] == "invalid_scope"
    assert browser.authorize(client, scope=right, redirect_uri=HOME + "/" + alike).status == 400
    named = site.client(client_id=right)
    assert browser.authorize(named, client_id=alike).status == 400
    body = f'{{"grant_type": "{json.dumps(right)[1:-1]}"}}', f'{{"grant_type": "{json.dumps(alike)[1:-1]}"}}'
    for text in body:
        headers = {"Content-Type": "application/json", **basic(named.id, named.secret or "")}
        answer = browser.request("POST", "/oauth2/token", text, headers)
        assert answer.json["error"] == "unsupported_grant_type"


@pytest.mark.spec("RFC 8414 §4", "OpenID Connect Core §14 a", "OpenID Connect Discovery §5")
def test_json_escapes_are_removed_and_nothing_is_normalised(site: Site, browser: Browser) -> None:
    client = site.client()
    headers = {"Content-Type": "application/json", **basic(client.id, client.secret or "")}
    escaped = '"gr\\u0061nt_type": "\\u0061uthorization_code"'
    answer = browser.request("POST", "/oauth2/token", f'{{{escaped}, "code": "x"}}', headers)
    assert answer.json["error"] == "invalid_grant"  # so both were understood
    composed, decomposed = "z\u00eb", "ze\u0308"
    for state in (composed, decomposed):
        assert browser.authorize(client, state=state, response_type="x").answer["state"] == state


# ---- access tokens


@pytest.fixture
def access(site: Site, browser: Browser) -> Callable[..., dict[str, Any]]:
    """The claims of an access token for Alice."""

    def make(**changes: Any) -> dict[str, Any]:
        client = site.client()
        members = browser.redeem(client, code_of(site, client, site.user(), **changes)).json
        claims: dict[str, Any] = jwt.decode(members["access_token"], options={"verify_signature": False})
        return claims | {"client": client.id}

    return make


@pytest.mark.spec("RFC 9068 §2.2 a", "RFC 9068 §2.2 b", "RFC 9068 §2.2.3 a", "RFC 9068 §3 b", "RFC 9068 §3 e")
@pytest.mark.spec("RFC 6750 §5.2 c", "RFC 6750 §5.3 c", "RFC 9700 §2.3 d")
def test_an_access_token_tells_who_granted_what_to_whom_where_and_for_how_long(
    site: Site, access: Callable[..., dict[str, Any]]
) -> None:
    claims = access(scope=frozenset({"openid", "email"}))
    (alice,) = site.server.store.users.scan()
    assert claims["iss"] == claims["aud"] == site.settings.issuer  # one audience, which all scopes are for
    assert claims["sub"] == alice.sub
    assert claims["client_id"] == claims["client"]
    assert claims["scope"] == "email openid"
    assert (claims["iat"], claims["exp"]) == (site.clock.time, site.clock.time + 600)
    assert len(claims["jti"]) >= 22


# ---- metadata


@pytest.mark.spec("RFC 8414 §2 k")
def test_the_metadata_tells_how_clients_authenticate_for_introspection(browser: Browser, site: Site) -> None:
    metadata = browser.get("/.well-known/oauth-authorization-server").json
    client = site.client()
    methods = {
        "client_secret_basic": ({}, basic(client.id, client.secret or "")),
        "client_secret_post": ({"client_id": client.id, "client_secret": client.secret}, {}),
    }
    assert metadata["introspection_endpoint_auth_methods_supported"] == list(methods)
    for body, headers in methods.values():
        assert browser.post("/oauth2/introspect", {"token": "x", **body}, headers).json == {"active": False}
