"""The OpenID Foundation's conformance plans Basic OP, Form Post Basic OP, Hybrid OP (`code id_token`) and Config OP.

A test for each module that the suite runs against a server with registered clients, in our own words, over HTTP. Each
docstring names its modules; MODULES is the list of them all. What the suite needs of an operator is told in
docs/certification.md: two confidential clients that may leave out PKCE, and a person who always allows them.
"""

import base64
import hashlib
import json
import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from chalicelib.claims import SCOPES
from tests.browser import CHALLENGE, VERIFIER, Answer, Browser
from tests.site import Registered, Site

MODULES = (
    "oidcc-server",
    "oidcc-response-type-missing",
    "oidcc-idtoken-signature",
    "oidcc-idtoken-unsigned",
    "oidcc-userinfo-get",
    "oidcc-userinfo-post-header",
    "oidcc-userinfo-post-body",
    "oidcc-ensure-request-without-nonce-succeeds-for-code-flow",
    "oidcc-ensure-request-without-nonce-fails",
    "oidcc-scope-profile",
    "oidcc-scope-email",
    "oidcc-scope-address",
    "oidcc-scope-phone",
    "oidcc-scope-all",
    "oidcc-ensure-other-scope-order-succeeds",
    "oidcc-alternate-happy-flow",
    "oidcc-display-page",
    "oidcc-display-popup",
    "oidcc-prompt-login",
    "oidcc-prompt-none-not-logged-in",
    "oidcc-prompt-none-logged-in",
    "oidcc-max-age-1",
    "oidcc-max-age-10000",
    "oidcc-ensure-request-with-unknown-parameter-succeeds",
    "oidcc-id-token-hint",
    "oidcc-login-hint",
    "oidcc-ui-locales",
    "oidcc-claims-locales",
    "oidcc-ensure-request-with-acr-values-succeeds",
    "oidcc-codereuse",
    "oidcc-codereuse-30seconds",
    "oidcc-ensure-registered-redirect-uri",
    "oidcc-ensure-post-request-succeeds",
    "oidcc-server-client-secret-post",
    "oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported",
    "oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported",
    "oidcc-claims-essential",
    "oidcc-ensure-request-object-with-redirect-uri",
    "oidcc-refresh-token",
    "oidcc-ensure-request-with-valid-pkce-succeeds",
    "oidcc-discovery-endpoint-verification",
)
HOME = "https://www.certification.openid.net/test/a/signet/callback"
EVERY_SCOPE = " ".join(SCOPES)
BUFFY: dict[str, Any] = {
    "name": "Buffy Summers",
    "given_name": "Buffy",
    "family_name": "Summers",
    "middle_name": "Anne",
    "nickname": "Buff",
    "profile": "https://example.com/buffy",
    "picture": "https://example.com/buffy.png",
    "website": "https://buffy.example.com",
    "gender": "female",
    "birthdate": "1981-01-19",
    "zoneinfo": "America/Los_Angeles",
    "locale": "en-US",
    "updated_at": 1700000000,
    "email": "buffy@example.com",
    "email_verified": True,
    "address": {"street_address": "1630 Revello Drive", "locality": "Sunnydale", "country": "US"},
    "phone_number": "+1 555 0100",
    "phone_number_verified": False,
}
CLAIMS_OF = {scope: set(names) for scope, (_, names) in SCOPES.items()}


@dataclass(frozen=True)
class Plan:
    """A plan: what each of its requests asks for, and how each answer has to come."""

    name: str
    asked: dict[str, str]
    mode: str

    @property
    def hybrid(self) -> bool:
        return "id_token" in self.asked["response_type"]


BASIC = Plan("Basic OP", {"response_type": "code"}, "query")
FORM_POST = Plan("Form Post Basic OP", {"response_type": "code", "response_mode": "form_post"}, "form_post")
HYBRID = Plan("Hybrid OP", {"response_type": "code id_token"}, "fragment")


class Suite:
    """The suite as a relying party: `client` and `second` are its clients, buffy the person who runs it."""

    def __init__(self, site: Site, browser: Browser, plan: Plan):
        self.site, self.browser, self.plan = site, browser, plan
        self.client, self.second = (
            site.client(
                client_name=name,
                redirect_uris=[HOME],
                scope=EVERY_SCOPE,
                require_pkce=False,
                response_types=("code", "code id_token"),
            )
            for name in ("Conformance suite", "Conformance suite, second client")
        )
        self.current = self.client  # whose request was the last
        self.asked: dict[str, Any] = {}
        site.user("buffy", claims=BUFFY)

    def request(self, client: Registered | None = None, **changes: str | None) -> dict[str, Any]:
        """The parameters of a request, fresh ones; None leaves a parameter out."""
        self.current = client or self.client
        given: dict[str, Any] = {
            "client_id": self.current.id,
            "redirect_uri": HOME,
            "scope": "openid",
            "state": secrets.token_urlsafe(7),
            "nonce": secrets.token_urlsafe(7),
            **self.plan.asked,
        }
        self.asked = {name: value for name, value in (given | changes).items() if value is not None}
        return self.asked

    def go(self, answer: Answer) -> Answer:
        """The person does what the pages ask for."""
        if "password" in answer.form.fields:
            answer = self.browser.sign_in(answer, "buffy")
        if "tag" in answer.form.fields:
            answer = self.browser.submit(answer, decision="allow_always")
        return answer

    def authorize(self, client: Registered | None = None, **changes: str | None) -> dict[str, str]:
        """A whole authorization, and its answer, checked as every answer is."""
        answer = self.browser.get("/oauth2/authorize", **self.request(client, **changes))
        return self.callback(self.go(answer))

    def callback(self, answer: Answer) -> dict[str, str]:
        """The parameters that arrive; a code, a token and an error stand only where the plan says."""
        assert answer.mode == self.plan.mode
        if answer.mode != "query":
            goal = answer.form.action if answer.mode == "form_post" else answer.location
            assert urlsplit(goal or "").query == ""
        given = answer.answer
        assert given["iss"] == self.site.settings.issuer
        assert given["state"] == self.asked["state"]
        if "error" in given:
            assert set(given) <= {"error", "error_description", "state", "iss"}
            assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", given["error_description"])
            return given
        assert set(given) == {"code", "state", "iss"} | ({"id_token"} if self.plan.hybrid else set())
        assert len(given["code"]) >= 22
        if self.plan.hybrid:
            claims = self.id_token(given["id_token"])
            assert claims["c_hash"] == half_hash(given["code"])
        return given

    def error(self, answer: Answer) -> str:
        """The error that arrives."""
        given = self.callback(answer)
        assert not {"code", "id_token"} & set(given)
        return given["error"]

    def redeem(self, answer: dict[str, str], **parameters: str) -> dict[str, Any]:
        """The tokens for a code, checked as they always are."""
        asked: dict[str, Any] = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": HOME}
        response = self.browser.token(self.current, **(asked | parameters))
        assert response.status == 200, response.body
        assert response.header("cache-control") == "no-store"
        tokens = response.json
        assert tokens["token_type"] == "Bearer"
        assert tokens["expires_in"] > 0
        claims = self.id_token(tokens["id_token"])
        assert claims.get("at_hash", half_hash(tokens["access_token"])) == half_hash(tokens["access_token"])
        assert claims.get("c_hash", half_hash(answer["code"])) == half_hash(answer["code"])
        if "id_token" in answer:
            assert {claims["sub"]} == {self.id_token(answer["id_token"])["sub"]}
        assert self.userinfo(tokens)["sub"] == claims["sub"]
        return tokens

    def id_token(self, token: str) -> dict[str, Any]:
        """The claims of an ID token that has passed every check of OpenID Connect Core section 3.1.3.7."""
        header = jwt.get_unverified_header(token)
        (key,) = [key for key in self.browser.get("/oauth2/jwks").json["keys"] if key["kid"] == header["kid"]]
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(key),
            algorithms=["RS256"],
            audience=self.current.id,
            issuer=self.site.settings.issuer,
            options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
        )
        assert claims["exp"] > self.site.clock()
        assert isinstance(claims["acr"], str)
        assert 0 < len(claims["sub"]) <= 255
        assert claims.get("nonce") == self.asked.get("nonce")
        assert None not in claims.values()
        assert "name" not in claims, "no claim of a scope: there is UserInfo for them"
        return claims

    def userinfo(self, tokens: dict[str, Any]) -> dict[str, Any]:
        answer = self.browser.userinfo(tokens["access_token"])
        assert answer.status == 200
        return answer.json

    def flow(self, **changes: str | None) -> dict[str, Any]:
        """The whole flow: the tokens."""
        return self.redeem(self.authorize(None, **changes))


def half_hash(value: str) -> str:
    """The left half of the SHA-256, base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(value.encode()).digest()[:16]).rstrip(b"=").decode()


@pytest.fixture(params=[BASIC, FORM_POST, HYBRID], ids=lambda plan: plan.name)
def suite(site: Site, browser: Browser, request: pytest.FixtureRequest) -> Suite:
    """The suite with each of the plans."""
    return Suite(site, browser, request.param)


@pytest.fixture(params=[BASIC, FORM_POST], ids=lambda plan: plan.name)
def basic_suite(site: Site, browser: Browser, request: pytest.FixtureRequest) -> Suite:
    """The suite with the plans for the code flow."""
    return Suite(site, browser, request.param)


def is_sign_in(page: Answer) -> bool:
    return page.status == 200 and "password" in page.form.fields


def test_the_whole_flow(suite: Suite) -> None:
    """oidcc-server"""
    assert set(suite.flow()) == {"access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token"}


def test_a_request_without_response_type(suite: Suite) -> None:
    """oidcc-response-type-missing: without it, nobody knows that tokens were meant, and the answer is in the query."""
    answer = suite.browser.get("/oauth2/authorize", **suite.request(response_type=None))
    assert answer.mode == ("form_post" if suite.plan is FORM_POST else "query")
    assert answer.answer["error"] in ("invalid_request", "unsupported_response_type")
    assert answer.answer["state"] == suite.asked["state"]


def test_the_id_token_is_signed_by_a_key_that_is_named(suite: Suite) -> None:
    """oidcc-idtoken-signature; oidcc-idtoken-unsigned: skipped by the suite, for `none` is not listed."""
    header = jwt.get_unverified_header(suite.flow()["id_token"])
    assert (header["alg"], bool(header["kid"])) == ("RS256", True)
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert "none" not in metadata["id_token_signing_alg_values_supported"]


@pytest.mark.parametrize("way", ["get", "post-header", "post-body"])
def test_userinfo_takes_the_token_in_each_way(suite: Suite, way: str) -> None:
    """oidcc-userinfo-get oidcc-userinfo-post-header oidcc-userinfo-post-body"""
    tokens, browser = suite.flow(), suite.browser
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    answer = {
        "get": lambda: browser.get("/oauth2/userinfo", bearer),
        "post-header": lambda: browser.request("POST", "/oauth2/userinfo", None, bearer),
        "post-body": lambda: browser.post("/oauth2/userinfo", {"access_token": tokens["access_token"]}),
    }[way]()
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("application/json")
    assert answer.json == {"sub": suite.id_token(tokens["id_token"])["sub"]}


def test_the_code_flow_needs_no_nonce(basic_suite: Suite) -> None:
    """oidcc-ensure-request-without-nonce-succeeds-for-code-flow"""
    tokens = basic_suite.flow(nonce=None)
    assert "nonce" not in basic_suite.id_token(tokens["id_token"])


def test_the_hybrid_flow_needs_a_nonce(site: Site, browser: Browser) -> None:
    """oidcc-ensure-request-without-nonce-fails"""
    suite = Suite(site, browser, HYBRID)
    assert suite.error(browser.get("/oauth2/authorize", **suite.request(nonce=None))) == "invalid_request"


@pytest.mark.parametrize("scope", ["profile", "email", "address", "phone", "email phone address profile"])
def test_each_scope_releases_its_claims_at_userinfo(suite: Suite, scope: str) -> None:
    """oidcc-scope-profile oidcc-scope-email oidcc-scope-address oidcc-scope-phone oidcc-scope-all"""
    released = suite.userinfo(suite.flow(scope=f"openid {scope}"))
    assert set(released) == {"sub"}.union(*(CLAIMS_OF[name] for name in scope.split()))
    assert released == released | {name: value for name, value in BUFFY.items() if name in released}
    kinds: dict[str, type] = {"email_verified": bool, "phone_number_verified": bool, "updated_at": int, "address": dict}
    assert all(isinstance(value, kinds.get(name, str)) for name, value in released.items())


def test_the_order_of_scopes_and_parameters_does_not_matter(suite: Suite) -> None:
    """oidcc-ensure-other-scope-order-succeeds oidcc-alternate-happy-flow"""
    released = suite.userinfo(suite.flow(scope="email openid"))
    assert released["email"] == BUFFY["email"]
    reordered = dict(reversed(suite.request(scope="email openid").items()))
    answer = suite.go(suite.browser.get("/oauth2/authorize", **reordered))
    assert suite.userinfo(suite.redeem(suite.callback(answer)))["email"] == BUFFY["email"]


@pytest.mark.parametrize(
    "wish",
    [
        {"display": "page"},
        {"display": "popup"},
        {"extra": "foobar"},
        {"login_hint": "buffy@www.example.com"},
        {"ui_locales": "se"},
        {"claims_locales": "se"},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_what_may_be_wished_for_or_is_unknown_is_no_error(suite: Suite, wish: dict[str, str]) -> None:
    """oidcc-display-page oidcc-display-popup oidcc-ensure-request-with-unknown-parameter-succeeds oidcc-login-hint
    oidcc-ui-locales oidcc-claims-locales
    """
    suite.flow(**wish)


def test_prompt_login_asks_again(suite: Suite) -> None:
    """oidcc-prompt-login"""
    first = suite.id_token(suite.flow()["id_token"])
    suite.site.clock.advance(1)
    page = suite.browser.get("/oauth2/authorize", **suite.request(prompt="login"))
    assert is_sign_in(page)
    second = suite.id_token(suite.redeem(suite.callback(suite.go(page)))["id_token"])
    assert second["auth_time"] > first["auth_time"]
    assert second["sub"] == first["sub"]


def test_prompt_none_of_somebody_not_signed_in(suite: Suite) -> None:
    """oidcc-prompt-none-not-logged-in: with a long state, which comes back as it was."""
    answer = suite.browser.get("/oauth2/authorize", **suite.request(prompt="none", state=secrets.token_urlsafe(96)))
    assert suite.error(answer) in ("login_required", "interaction_required", "account_selection_required")


@pytest.mark.parametrize("hinted", [False, True], ids=["alone", "with id_token_hint"])
def test_prompt_none_of_somebody_signed_in(suite: Suite, hinted: bool) -> None:
    """oidcc-prompt-none-logged-in oidcc-id-token-hint: nobody is asked, and both ID tokens tell of one sign-in."""
    tokens = suite.flow()
    first = suite.id_token(tokens["id_token"])
    suite.site.clock.advance(5)
    hint: dict[str, Any] = {"id_token_hint": tokens["id_token"]} if hinted else {}
    answer = suite.browser.get("/oauth2/authorize", **suite.request(prompt="none", **hint))
    second = suite.id_token(suite.redeem(suite.callback(answer))["id_token"])
    assert (second["sub"], second["auth_time"]) == (first["sub"], first["auth_time"])


def test_max_age_1_after_two_seconds_asks_again(suite: Suite) -> None:
    """oidcc-max-age-1"""
    first = suite.id_token(suite.flow()["id_token"])
    suite.site.clock.advance(2)
    page = suite.browser.get("/oauth2/authorize", **suite.request(max_age="1"))
    assert is_sign_in(page)
    answer = suite.callback(suite.go(page))
    tokens = [suite.redeem(answer)["id_token"], *filter(None, [answer.get("id_token")])]
    for second in map(suite.id_token, tokens):
        assert second["auth_time"] == suite.site.clock() > first["auth_time"]


def test_max_age_10000_asks_nobody(suite: Suite) -> None:
    """oidcc-max-age-10000"""
    first = suite.id_token(suite.flow(max_age="15000")["id_token"])
    suite.site.clock.advance(5)
    answer = suite.browser.get("/oauth2/authorize", **suite.request(max_age="10000"))
    second = suite.id_token(suite.redeem(suite.callback(answer))["id_token"])
    assert (second["sub"], second["auth_time"]) == (first["sub"], first["auth_time"])


def test_acr_values_that_are_listed_are_the_acr(suite: Suite) -> None:
    """oidcc-ensure-request-with-acr-values-succeeds"""
    listed = suite.browser.get("/.well-known/openid-configuration").json["acr_values_supported"]
    assert suite.id_token(suite.flow(acr_values=" ".join(listed))["id_token"])["acr"] in listed
    assert suite.id_token(suite.flow(acr_values="1 2")["id_token"])["acr"] in listed


@pytest.mark.parametrize("seconds", [0, 30])
def test_a_code_counts_once(suite: Suite, seconds: int) -> None:
    """oidcc-codereuse oidcc-codereuse-30seconds: used again, it ends what it was worth."""
    answer = suite.authorize()
    tokens = suite.redeem(answer)
    suite.site.clock.advance(seconds)
    again = suite.browser.token(suite.client, grant_type="authorization_code", code=answer["code"], redirect_uri=HOME)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert suite.browser.userinfo(tokens["access_token"]).status == 401


def test_a_redirect_uri_that_is_not_registered_gets_a_page(suite: Suite) -> None:
    """oidcc-ensure-registered-redirect-uri"""
    answer = suite.browser.get("/oauth2/authorize", **suite.request(redirect_uri=HOME + "/" + secrets.token_hex(4)))
    assert (answer.status, answer.header("location")) == (400, None)
    assert "redirect_uri" in answer.body


def test_a_request_may_come_by_post(suite: Suite) -> None:
    """oidcc-ensure-post-request-succeeds"""
    page = suite.browser.follow(suite.browser.post("/oauth2/authorize", suite.request()))
    suite.redeem(suite.callback(suite.go(page)))


def test_the_client_may_authenticate_in_the_body(suite: Suite) -> None:
    """oidcc-server-client-secret-post"""
    answer = suite.authorize()
    asked = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": HOME}
    given = asked | {"client_id": suite.client.id, "client_secret": suite.client.secret}
    tokens = suite.browser.post("/oauth2/token", given)
    assert tokens.status == 200
    suite.userinfo(tokens.json)


def request_object(claims: Any) -> str:
    """An unsigned request object."""
    parts = (part if isinstance(part, str) else json.dumps(part) for part in ({"alg": "none"}, claims))
    return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts) + "."


def test_a_request_object_is_refused_as_unsupported(suite: Suite) -> None:
    """oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported
    oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported
    """
    asked = suite.request()
    # The rest stands in the object alone; `callback` sees whether the refusal comes as that wants it, with its state.
    outside = {name: asked[name] for name in ("client_id", "response_type", "scope", "redirect_uri")}
    answer = suite.browser.get("/oauth2/authorize", **outside, request=request_object(asked))
    assert suite.error(answer) == "request_not_supported"
    outside = {name: value for name, value in asked.items() if name != "nonce"}
    answer = suite.browser.get("/oauth2/authorize", **outside, request_uri="https://www.certification.openid.net/r.jwt")
    assert suite.error(answer) == "request_uri_not_supported"
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert metadata["request_parameter_supported"] is metadata["request_uri_parameter_supported"] is False


def test_a_request_object_that_cannot_be_read_is_refused_as_any_other(site: Site, browser: Browser) -> None:
    suite = Suite(site, browser, BASIC)
    asked = suite.request(state=None)
    deep, number = "[" * 5000, "9" * 5000
    said = ["", "{", "null", "[]", '"form_post"', deep, f'{{"state":{number}}}', f'{{"state":"a","x":{deep}}}', {}]
    said += [{"response_mode": value} for value in ("web_message", "", 1, None, ["form_post"], {"form_post": True})]
    said += [{"state": value} for value in ("a\r\nb", "\ud800", "x" * 2049, 1, None, ["a"], "")]
    objects = ["x", "..", "a.b.c", "e30.\xe9.", "e30.////.", "e30." + base64.b64encode(b"\xff\xfe").decode()]
    for request in [*objects, *map(request_object, said)]:
        answer = browser.get("/oauth2/authorize", **asked, request=request)
        assert (answer.mode, answer.answer["error"]) == ("query", "request_not_supported"), request
        assert "state" not in answer.answer, request
    # What the request itself says goes first, and a token is never promised to a query.
    object_ = request_object({"state": "inner", "response_mode": "form_post"})
    answer = browser.get("/oauth2/authorize", **asked, state="outer", response_mode="fragment", request=object_)
    assert (answer.mode, answer.answer["state"]) == ("fragment", "outer")
    answer = browser.get(
        "/oauth2/authorize",
        **(asked | HYBRID.asked),
        request=request_object({"state": "inner", "response_mode": "query"}),
    )
    assert (answer.mode, answer.answer["state"]) == ("fragment", "inner")


def test_the_redirect_uri_of_a_request_object_is_not_taken_for_one_of_the_request(suite: Suite) -> None:
    """oidcc-ensure-request-object-with-redirect-uri: the parameter is wrong, so it is a page."""
    asked = suite.request()
    answer = suite.browser.get(
        "/oauth2/authorize", **(asked | {"redirect_uri": HOME + "/wrong", "request": request_object(asked)})
    )
    assert (answer.status, answer.header("location")) == (400, None)


def test_a_claim_that_is_essential_is_at_userinfo(suite: Suite) -> None:
    """oidcc-claims-essential"""
    tokens = suite.flow(claims=json.dumps({"userinfo": {"name": {"essential": True}}}))
    assert suite.userinfo(tokens) == {"sub": suite.id_token(tokens["id_token"])["sub"], "name": BUFFY["name"]}


def test_a_refresh_token_belongs_to_its_client(suite: Suite) -> None:
    """oidcc-refresh-token"""
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert "refresh_token" in metadata["grant_types_supported"]
    scope, refreshed = "openid offline_access", {}
    for client in (suite.client, suite.second):
        first = suite.redeem(suite.authorize(client, scope=scope, prompt="consent"))
        assert re.fullmatch(r"[\x20-\x7e]{22,}", first["refresh_token"])
        suite.site.clock.advance(1)
        answer = suite.browser.refresh(client, first["refresh_token"], scope=scope)
        assert answer.status == 200, answer.body
        refreshed = answer.json
        assert refreshed["access_token"] != first["access_token"]
        nonce = suite.asked.pop("nonce")
        before, after = (jwt.decode(t["id_token"], options={"verify_signature": False}) for t in (first, refreshed))
        for name in ("iss", "sub", "aud", "auth_time"):
            assert before[name] == after[name], name
        assert after["iat"] > before["iat"]
        assert after.get("nonce", nonce) == nonce
        suite.userinfo(refreshed)
    foreign = suite.browser.refresh(suite.client, refreshed["refresh_token"])
    assert (foreign.status, foreign.json["error"]) == (400, "invalid_grant")


def test_pkce_may_be_used(suite: Suite) -> None:
    """oidcc-ensure-request-with-valid-pkce-succeeds"""
    answer = suite.authorize(code_challenge=CHALLENGE, code_challenge_method="S256")
    suite.redeem(answer, code_verifier=VERIFIER)


def test_discovery_says_what_it_must(site_with: Callable[..., Site], browsers: Callable[..., Browser]) -> None:
    """oidcc-discovery-endpoint-verification: of an issuer that is https, as it has to be."""
    issuer = "https://auth.example.com"
    browser = browsers(site_with(issuer=issuer))
    answer = browser.get("/.well-known/openid-configuration")
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    metadata = answer.json
    assert metadata["issuer"] == issuer
    endpoints = [name for name in metadata if name.endswith("_endpoint") or name == "jwks_uri"]
    assert {"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"} <= {*endpoints}
    assert all(metadata[name].startswith(issuer + "/") for name in endpoints)
    assert {"code", "code id_token"} == {*metadata["response_types_supported"]}
    assert {"query", "fragment", "form_post"} == {*metadata["response_modes_supported"]}
    assert {*metadata["subject_types_supported"]} <= {"public", "pairwise"}
    for name in ("id_token", "userinfo"):
        assert "RS256" in metadata.get(f"{name}_signing_alg_values_supported", ["RS256"])
    assert "authorization_code" in metadata["grant_types_supported"]
    assert {"openid", "profile", "email", "address", "phone"} <= {*metadata["scopes_supported"]}
    assert all(re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope) for scope in metadata["scopes_supported"])
    assert "sub" in metadata["claims_supported"]
    assert metadata["claims_parameter_supported"] is True
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["ui_locales_supported"] == ["en"]
    keys = browser.get("/oauth2/jwks").json["keys"]
    assert len({key["kid"] for key in keys}) == len(keys)
    assert not any({"d", "p", "q", "dp", "dq", "qi", "k", "oth"} & set(key) for key in keys)


def test_an_operator_is_told_to_register_all_of_that() -> None:
    text = (Path(__file__).parent.parent / "docs/certification.md").read_text("utf-8")
    commands = [shlex.split(one) for one in re.findall("-m infra (.+)", text.replace("\\\n", ""))]
    clients = [words for words in commands if "client" in words]
    assert len(clients) == 2
    for words in clients:
        assert {"--no-pkce", "--trusted", "code", "code id_token", "$SUITE/callback", EVERY_SCOPE} <= {*words}
    (user,) = [words for words in commands if "user" in words]
    told = {words.partition("=")[0].removeprefix("--") for words in user}
    # The other two are there of themselves.
    assert set().union(*CLAIMS_OF.values()) - told == {"sub", "preferred_username", "updated_at"}
    assert {*re.findall(r"`(oidcc-(?!rp)[a-z0-9-]+)`", text)} <= {*MODULES}


def test_no_module_of_the_plans_is_forgotten() -> None:
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    named = [word for test in tests for word in re.findall(r"oidcc-[a-z0-9-]+", test.__doc__ or "")]
    assert sorted(named) == sorted(MODULES)
