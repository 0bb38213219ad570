"""The OpenID Foundation's conformance plans Basic OP, Form Post Basic OP, Hybrid OP (`code id_token`) and Config OP.

There is a test for each module that the suite runs against a server with registered clients. Each docstring names its
modules; MODULES lists all of them. docs/certification.md says what the suite needs: two confidential clients that do
not have to use PKCE, and a user who always allows access.
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

from chalicelib.protocol.scopes import SCOPES
from tests.interop import test_dynamic_plan
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser
from tests.support.site import Registered, Site

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
CLAIMS_OF = {name: set(scope.claims) for name, scope in SCOPES.items()}


@dataclass(frozen=True)
class Plan:
    """A plan: the parameters of its authorization requests, and the expected response mode."""

    name: str
    parameters: dict[str, str]
    mode: str

    @property
    def hybrid(self) -> bool:
        return "id_token" in self.parameters["response_type"]


BASIC = Plan("Basic OP", {"response_type": "code"}, "query")
FORM_POST = Plan("Form Post Basic OP", {"response_type": "code", "response_mode": "form_post"}, "form_post")
HYBRID = Plan("Hybrid OP", {"response_type": "code id_token"}, "fragment")


class Suite:
    """The suite as a relying party: `client` and `second` are its clients, buffy is the user."""

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
        self.current = self.client  # the client of the last request
        self.last_request: dict[str, Any] = {}
        site.user("buffy", claims=BUFFY)

    def request(self, client: Registered | None = None, **changes: str | None) -> dict[str, Any]:
        """Return the parameters of a new authorization request; None omits a parameter."""
        self.current = client or self.client
        given: dict[str, Any] = {
            "client_id": self.current.id,
            "redirect_uri": HOME,
            "scope": "openid",
            "state": secrets.token_urlsafe(7),
            "nonce": secrets.token_urlsafe(7),
            **self.plan.parameters,
        }
        self.last_request = {name: value for name, value in (given | changes).items() if value is not None}
        return self.last_request

    def complete(self, answer: Answer) -> Answer:
        """Sign in and allow access, as far as the pages ask for it."""
        if "password" in answer.form.fields:
            answer = self.browser.sign_in(answer, "buffy")
        if "tag" in answer.form.fields:
            answer = self.browser.submit(answer, decision="allow_always")
        return answer

    def authorize(self, client: Registered | None = None, **changes: str | None) -> dict[str, str]:
        """Complete an authorization request; return the verified parameters of the response."""
        answer = self.browser.get("/oauth2/authorize", **self.request(client, **changes))
        return self.callback(self.complete(answer))

    def callback(self, answer: Answer) -> dict[str, str]:
        """Verify an authorization response against the plan; return its parameters."""
        assert answer.mode == self.plan.mode
        if answer.mode != "query":
            target = answer.form.action if answer.mode == "form_post" else answer.location
            assert urlsplit(target or "").query == ""
        given = answer.answer
        assert given["iss"] == self.site.settings.issuer
        assert given["state"] == self.last_request["state"]
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
        """Return the error of an authorization response."""
        given = self.callback(answer)
        assert not {"code", "id_token"} & set(given)
        return given["error"]

    def redeem(self, answer: dict[str, str], **parameters: str) -> dict[str, Any]:
        """Redeem a code; return the verified tokens."""
        form: dict[str, Any] = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": HOME}
        response = self.browser.token(self.current, **(form | parameters))
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
        """Verify an ID token (OpenID Connect Core section 3.1.3.7); return its claims."""
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
        assert claims.get("nonce") == self.last_request.get("nonce")
        assert None not in claims.values()
        assert "name" not in claims, "claims of scopes are only in the UserInfo response"
        return claims

    def userinfo(self, tokens: dict[str, Any]) -> dict[str, Any]:
        answer = self.browser.userinfo(tokens["access_token"])
        assert answer.status == 200
        return answer.json

    def flow(self, **changes: str | None) -> dict[str, Any]:
        """Complete the whole flow; return the tokens."""
        return self.redeem(self.authorize(None, **changes))


def half_hash(value: str) -> str:
    """Return the left half of the SHA-256 hash, base64url-encoded (OpenID Connect Core section 3.1.3.6)."""
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


def test_code_is_exchanged_for_tokens(suite: Suite) -> None:
    """oidcc-server"""
    assert set(suite.flow()) == {"access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token"}


def test_request_without_response_type_is_rejected(suite: Suite) -> None:
    """oidcc-response-type-missing: the response is in the query, because the request does not mention tokens."""
    answer = suite.browser.get("/oauth2/authorize", **suite.request(response_type=None))
    assert answer.mode == ("form_post" if suite.plan is FORM_POST else "query")
    assert answer.answer["error"] in ("invalid_request", "unsupported_response_type")
    assert answer.answer["state"] == suite.last_request["state"]


def test_id_token_is_signed_and_names_its_key(suite: Suite) -> None:
    """oidcc-idtoken-signature; oidcc-idtoken-unsigned: the suite skips it, because `none` is not listed."""
    header = jwt.get_unverified_header(suite.flow()["id_token"])
    assert (header["alg"], bool(header["kid"])) == ("RS256", True)
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert "none" not in metadata["id_token_signing_alg_values_supported"]


@pytest.mark.parametrize("method", ["get", "post-header", "post-body"])
def test_userinfo_accepts_the_token_in_each_place(suite: Suite, method: str) -> None:
    """oidcc-userinfo-get oidcc-userinfo-post-header oidcc-userinfo-post-body"""
    tokens, browser = suite.flow(), suite.browser
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    answer = {
        "get": lambda: browser.get("/oauth2/userinfo", bearer),
        "post-header": lambda: browser.request("POST", "/oauth2/userinfo", None, bearer),
        "post-body": lambda: browser.post("/oauth2/userinfo", {"access_token": tokens["access_token"]}),
    }[method]()
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("application/json")
    assert answer.json == {"sub": suite.id_token(tokens["id_token"])["sub"]}


def test_code_flow_does_not_require_a_nonce(basic_suite: Suite) -> None:
    """oidcc-ensure-request-without-nonce-succeeds-for-code-flow"""
    tokens = basic_suite.flow(nonce=None)
    assert "nonce" not in basic_suite.id_token(tokens["id_token"])


def test_hybrid_flow_requires_a_nonce(site: Site, browser: Browser) -> None:
    """oidcc-ensure-request-without-nonce-fails"""
    suite = Suite(site, browser, HYBRID)
    assert suite.error(browser.get("/oauth2/authorize", **suite.request(nonce=None))) == "invalid_request"


@pytest.mark.parametrize("scope", ["profile", "email", "address", "phone", "email phone address profile"])
def test_each_scope_releases_its_claims_in_the_userinfo_response(suite: Suite, scope: str) -> None:
    """oidcc-scope-profile oidcc-scope-email oidcc-scope-address oidcc-scope-phone oidcc-scope-all"""
    released = suite.userinfo(suite.flow(scope=f"openid {scope}"))
    assert set(released) == {"sub"}.union(*(CLAIMS_OF[name] for name in scope.split()))
    assert released == released | {name: value for name, value in BUFFY.items() if name in released}
    kinds: dict[str, type] = {"email_verified": bool, "phone_number_verified": bool, "updated_at": int, "address": dict}
    assert all(isinstance(value, kinds.get(name, str)) for name, value in released.items())


def test_order_of_scopes_and_parameters_does_not_matter(suite: Suite) -> None:
    """oidcc-ensure-other-scope-order-succeeds oidcc-alternate-happy-flow"""
    released = suite.userinfo(suite.flow(scope="email openid"))
    assert released["email"] == BUFFY["email"]
    reordered = dict(reversed(suite.request(scope="email openid").items()))
    answer = suite.complete(suite.browser.get("/oauth2/authorize", **reordered))
    assert suite.userinfo(suite.redeem(suite.callback(answer)))["email"] == BUFFY["email"]


@pytest.mark.parametrize(
    "parameter",
    [
        {"display": "page"},
        {"display": "popup"},
        {"extra": "foobar"},
        {"login_hint": "buffy@www.example.com"},
        {"ui_locales": "se"},
        {"claims_locales": "se"},
    ],
    ids=lambda parameter: next(iter(parameter)),
)
def test_optional_and_unknown_parameters_are_accepted(suite: Suite, parameter: dict[str, str]) -> None:
    """oidcc-display-page oidcc-display-popup oidcc-ensure-request-with-unknown-parameter-succeeds oidcc-login-hint
    oidcc-ui-locales oidcc-claims-locales
    """
    suite.flow(**parameter)


def test_prompt_login_requires_a_new_sign_in(suite: Suite) -> None:
    """oidcc-prompt-login"""
    first = suite.id_token(suite.flow()["id_token"])
    suite.site.clock.advance(1)
    page = suite.browser.get("/oauth2/authorize", **suite.request(prompt="login"))
    assert is_sign_in(page)
    second = suite.id_token(suite.redeem(suite.callback(suite.complete(page)))["id_token"])
    assert second["auth_time"] == suite.site.clock() > first["auth_time"]
    assert second["sub"] == first["sub"]


def test_prompt_none_without_a_session_is_an_error(suite: Suite) -> None:
    """oidcc-prompt-none-not-logged-in: with a long state, which is returned unchanged."""
    answer = suite.browser.get("/oauth2/authorize", **suite.request(prompt="none", state=secrets.token_urlsafe(96)))
    assert suite.error(answer) in ("login_required", "interaction_required", "account_selection_required")


@pytest.mark.parametrize("hinted", [False, True], ids=["alone", "with id_token_hint"])
def test_prompt_none_with_a_session_keeps_the_sign_in(suite: Suite, hinted: bool) -> None:
    """oidcc-prompt-none-logged-in oidcc-id-token-hint: no page is shown, and both ID tokens are of the same sign-in."""
    tokens = suite.flow()
    first = suite.id_token(tokens["id_token"])
    suite.site.clock.advance(5)
    hint: dict[str, Any] = {"id_token_hint": tokens["id_token"]} if hinted else {}
    answer = suite.browser.get("/oauth2/authorize", **suite.request(prompt="none", **hint))
    second = suite.id_token(suite.redeem(suite.callback(answer))["id_token"])
    assert (second["sub"], second["auth_time"]) == (first["sub"], first["auth_time"])


def test_max_age_1_after_two_seconds_requires_a_new_sign_in(suite: Suite) -> None:
    """oidcc-max-age-1"""
    first = suite.id_token(suite.flow()["id_token"])
    suite.site.clock.advance(2)
    page = suite.browser.get("/oauth2/authorize", **suite.request(max_age="1"))
    assert is_sign_in(page)
    answer = suite.callback(suite.complete(page))
    tokens = [suite.redeem(answer)["id_token"], *filter(None, [answer.get("id_token")])]
    for second in map(suite.id_token, tokens):
        assert second["auth_time"] == suite.site.clock() > first["auth_time"]


def test_max_age_10000_keeps_the_sign_in(suite: Suite) -> None:
    """oidcc-max-age-10000"""
    first = suite.id_token(suite.flow(max_age="15000")["id_token"])
    suite.site.clock.advance(5)
    answer = suite.browser.get("/oauth2/authorize", **suite.request(max_age="10000"))
    second = suite.id_token(suite.redeem(suite.callback(answer))["id_token"])
    assert (second["sub"], second["auth_time"]) == (first["sub"], first["auth_time"])


def test_listed_acr_values_are_returned_as_acr(suite: Suite) -> None:
    """oidcc-ensure-request-with-acr-values-succeeds"""
    listed = suite.browser.get("/.well-known/openid-configuration").json["acr_values_supported"]
    assert suite.id_token(suite.flow(acr_values=" ".join(listed))["id_token"])["acr"] in listed
    assert suite.id_token(suite.flow(acr_values="1 2")["id_token"])["acr"] in listed


@pytest.mark.parametrize("seconds", [0, 30])
def test_second_redemption_of_a_code_revokes_the_tokens(suite: Suite, seconds: int) -> None:
    """oidcc-codereuse oidcc-codereuse-30seconds"""
    answer = suite.authorize()
    tokens = suite.redeem(answer)
    suite.site.clock.advance(seconds)
    again = suite.browser.token(suite.client, grant_type="authorization_code", code=answer["code"], redirect_uri=HOME)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert suite.browser.userinfo(tokens["access_token"]).status == 401


def test_unregistered_redirect_uri_shows_an_error_page(suite: Suite) -> None:
    """oidcc-ensure-registered-redirect-uri"""
    answer = suite.browser.get("/oauth2/authorize", **suite.request(redirect_uri=HOME + "/" + secrets.token_hex(4)))
    assert (answer.status, answer.header("location")) == (400, None)
    assert "redirect_uri" in answer.body


def test_authorization_request_may_be_posted(suite: Suite) -> None:
    """oidcc-ensure-post-request-succeeds"""
    page = suite.browser.follow(suite.browser.post("/oauth2/authorize", suite.request()))
    suite.redeem(suite.callback(suite.complete(page)))


def test_client_secret_post_is_accepted(suite: Suite) -> None:
    """oidcc-server-client-secret-post"""
    answer = suite.authorize()
    form: dict[str, Any] = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": HOME}
    form |= {"client_id": suite.client.id, "client_secret": suite.client.secret}
    tokens = suite.browser.post("/oauth2/token", form)
    assert tokens.status == 200
    suite.userinfo(tokens.json)


def request_object(claims: Any) -> str:
    """Return an unsigned request object."""
    parts = (part if isinstance(part, str) else json.dumps(part) for part in ({"alg": "none"}, claims))
    return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts) + "."


def test_request_objects_are_rejected_as_unsupported(suite: Suite) -> None:
    """oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported
    oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported
    """
    parameters = suite.request()
    # The other parameters are only in the object. `callback` verifies that the error uses its response_mode and state.
    outside = {name: parameters[name] for name in ("client_id", "response_type", "scope", "redirect_uri")}
    answer = suite.browser.get("/oauth2/authorize", **outside, request=request_object(parameters))
    assert suite.error(answer) == "request_not_supported"
    outside = {name: value for name, value in parameters.items() if name != "nonce"}
    answer = suite.browser.get("/oauth2/authorize", **outside, request_uri="https://www.certification.openid.net/r.jwt")
    assert suite.error(answer) == "request_uri_not_supported"
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert metadata["request_uri_parameter_supported"] is False
    assert "none" not in metadata["request_object_signing_alg_values_supported"]


def test_malformed_request_objects_are_rejected_without_a_state(site: Site, browser: Browser) -> None:
    suite = Suite(site, browser, BASIC)
    parameters = suite.request(state=None)
    deep, number = "[" * 5000, "9" * 5000
    payloads = ["", "{", "null", "[]", '"form_post"', deep, f'{{"state":{number}}}', f'{{"state":"a","x":{deep}}}', {}]
    payloads += [{"response_mode": value} for value in ("web_message", "", 1, None, ["form_post"], {"form_post": True})]
    payloads += [{"state": value} for value in ("\ud800", "x" * 8193, 1, None, ["a"], "")]
    objects = ["x", "..", "a.b.c", "e30.\xe9.", "e30.////.", "e30." + base64.b64encode(b"\xff\xfe").decode()]
    for request in [*objects, *map(request_object, payloads)]:
        answer = browser.get("/oauth2/authorize", **parameters, request=request)
        errors = ("request_not_supported", "invalid_request_object")
        assert (answer.mode, answer.answer["error"] in errors) == ("query", True), request
        assert "state" not in answer.answer, request
    answer = browser.get("/oauth2/authorize", **parameters, request=request_object({"state": "a\r\nb"}))
    assert answer.answer["state"] == "a\r\nb"
    # Parameters of the request take precedence, and a response with a token never uses the query.
    object_ = request_object({"state": "inner", "response_mode": "form_post"})
    answer = browser.get("/oauth2/authorize", **parameters, state="outer", response_mode="fragment", request=object_)
    assert (answer.mode, answer.answer["state"]) == ("fragment", "outer")
    answer = browser.get(
        "/oauth2/authorize",
        **(parameters | HYBRID.parameters),
        request=request_object({"state": "inner", "response_mode": "query"}),
    )
    assert (answer.mode, answer.answer["state"]) == ("fragment", "inner")


def test_redirect_uri_of_a_request_object_does_not_replace_a_wrong_parameter(suite: Suite) -> None:
    """oidcc-ensure-request-object-with-redirect-uri: the parameter is wrong, so an error page is shown."""
    parameters = suite.request()
    answer = suite.browser.get(
        "/oauth2/authorize", **(parameters | {"redirect_uri": HOME + "/wrong", "request": request_object(parameters)})
    )
    assert (answer.status, answer.header("location")) == (400, None)


def test_essential_claim_is_in_the_userinfo_response(suite: Suite) -> None:
    """oidcc-claims-essential"""
    tokens = suite.flow(claims=json.dumps({"userinfo": {"name": {"essential": True}}}))
    assert suite.userinfo(tokens) == {"sub": suite.id_token(tokens["id_token"])["sub"], "name": BUFFY["name"]}


def test_refresh_token_is_bound_to_its_client(suite: Suite) -> None:
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
        nonce = suite.last_request.pop("nonce")
        before, after = (
            jwt.decode(tokens["id_token"], options={"verify_signature": False}) for tokens in (first, refreshed)
        )
        for name in ("iss", "sub", "aud", "auth_time"):
            assert before[name] == after[name], name
        assert after["iat"] > before["iat"]
        assert after.get("nonce", nonce) == nonce
        suite.userinfo(refreshed)
    foreign = suite.browser.refresh(suite.client, refreshed["refresh_token"])
    assert (foreign.status, foreign.json["error"]) == (400, "invalid_grant")


def test_pkce_is_accepted(suite: Suite) -> None:
    """oidcc-ensure-request-with-valid-pkce-succeeds"""
    answer = suite.authorize(code_challenge=CHALLENGE, code_challenge_method="S256")
    suite.redeem(answer, code_verifier=VERIFIER)


def test_discovery_document_meets_the_requirements(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    """oidcc-discovery-endpoint-verification: with an https issuer, as required."""
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
    assert {"query", "fragment", "form_post"} <= {*metadata["response_modes_supported"]}
    assert {*metadata["subject_types_supported"]} <= {"public", "pairwise"}
    for name in ("id_token", "userinfo"):
        assert "RS256" in metadata.get(f"{name}_signing_alg_values_supported", ["RS256"])
    assert "authorization_code" in metadata["grant_types_supported"]
    assert {"openid", "profile", "email", "address", "phone"} <= {*metadata["scopes_supported"]}
    assert all(re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope) for scope in metadata["scopes_supported"])
    assert "sub" in metadata["claims_supported"]
    assert metadata["claims_parameter_supported"] is True
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["ui_locales_supported"] == ["en", "de", "fr", "es", "ja", "ar"]
    keys = browser.get("/oauth2/jwks").json["keys"]
    assert len({key["kid"] for key in keys}) == len(keys)
    assert not any({"d", "p", "q", "dp", "dq", "qi", "k", "oth"} & set(key) for key in keys)


def test_certification_document_registers_clients_and_user() -> None:
    text = (Path(__file__).parents[2] / "docs/certification.md").read_text("utf-8")
    commands = [shlex.split(command) for command in re.findall(r"\.venv/bin/signet (.+)", text.replace("\\\n", ""))]
    clients = [words for words in commands if "client" in words]
    (own,) = [words for words in clients if "--backchannel-logout-uri" in words]
    assert len(clients) == 3
    for words in clients:
        assert {"--no-pkce", "--trusted", "$SUITE/callback", EVERY_SCOPE} <= {*words}
        assert words is own or {"code", "code id_token"} <= {*words}
    # The suite's client of RP-Initiated Logout gets no logout tokens.
    assert [words for words in clients if "--post-logout-redirect-uri" in words] == [clients[0], own]
    (user,) = [words for words in commands if "user" in words]
    options = {words.partition("=")[0].removeprefix("--") for words in user}
    # The server sets the other claims itself.
    assert set().union(*CLAIMS_OF.values()) - options - {"groups"} == {"sub", "preferred_username", "updated_at"}
    modules = {*MODULES, *test_dynamic_plan.MODULES, *test_dynamic_plan.NOT_MET}
    assert {*re.findall(r"`(oidcc-(?!rp|dynamic)[a-z0-9-]+)`", text)} <= modules


def test_every_module_has_a_test() -> None:
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    named = [word for test in tests for word in re.findall(r"oidcc-[a-z0-9-]+", test.__doc__ or "")]
    assert sorted(named) == sorted(MODULES)
