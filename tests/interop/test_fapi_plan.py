"""The OpenID Foundation's plan FAPI 2.0 Security Profile Final, as far as it is about PAR and private_key_jwt.

Its variant: `private_key_jwt`, `plain_fapi`, `openid_connect`, unsigned requests, plain responses. Each docstring names
its modules, without the prefix of the plan; MODULES lists all of them, as the suite's source does. Modules about DPoP
alone are in `test_fapi_dpop_plan`: DPOP_MODULES.
"""

import secrets
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest

from chalicelib.authorization.request import PUSHED_LIFETIME
from infra.local.state import CHECKOUT
from tests.support.assertions import KeyPair, key_client, key_pair, make_assertion, signed, with_assertion
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser
from tests.support.site import Registered, Site

PREFIX = "fapi2-security-profile-final-"
MODULES = (
    "discovery-end-point-verification",
    "happy-flow",
    "user-rejects-authentication",
    "ensure-authorization-request-without-state-success",
    "ensure-authorization-request-without-nonce-success",
    "ensure-authorization-request-with-64-char-nonce-success",
    "ensure-other-scope-order-succeeds",
    "test-claims-parameter-identity-claims",
    "access-token-type-header-case-sensitivity",
    "ensure-different-nonce-inside-and-outside-request-object",
    "ensure-different-state-inside-and-outside-request-object",
    "ensure-authorization-request-with-long-nonce",
    "ensure-authorization-request-with-long-state",
    "state-only-outside-request-object-not-used",
    "ensure-request-object-without-redirect-uri-fails",
    "plain-fapi-tolerate-unregistered-redirect-uri",
    "ensure-unsigned-authorization-request-without-using-par-fails",
    "ensure-redirect-uri-in-authorization-request",
    "ensure-response-type-code-idtoken-fails",
    "ensure-response-type-token-fails",
    "ensure-client-id-in-token-endpoint",
    "ensure-authorization-code-is-bound-to-client",
    "attempt-reuse-authorization-code-after-one-second",
    "ensure-token-endpoint-fails-with-expired-auth-code",
    "ensure-signed-client-assertion-with-RS256-fails",
    "ensure-client-assertion-in-token-endpoint",
    "ensure-client-assertion-with-exp-is-5-minutes-in-past-fails",
    "ensure-client-assertion-with-wrong-aud-fails",
    "ensure-client-assertion-with-no-sub-fails",
    "ensure-invalid-client-assertions-fail",
    "refresh-token",
    "par-ensure-reused-request-uri-prior-to-auth-completion-succeeds",
    "par-attempt-reuse-request_uri",
    "par-attempt-to-use-expired-request_uri",
    "par-attempt-to-use-request_uri-for-different-client",
    "par-authorization-request-containing-request_uri-form-param",
    "par-attempt-invalid-http-method",
    "par-ensure-pkce-required",
    "ensure-pkce-code-verifier-required",
    "incorrect-pkce-code-verifier-rejected",
    "par-plain-pkce-rejected",
    "par-without-duplicate-parameters",
    "par-test-par-endpoint-url-as-audience-fails",
)
DPOP_MODULES = (
    "ensure-holder-of-key-required",
    "check-dpop-proof-nbf-exp",
    "ensure-dpopproof-with-iat-10seconds-before-succeeds",
    "ensure-dpopproof-with-iat-10seconds-after-succeeds",
    "ensure-mismatched-dpop-jkt-fails",
    "ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt",
    "ensure-token-endpoint-fails-with-mismatched-dpop-jkt",
    "ensure-dpopproof-at-par-endpoint-binding-success",
    "ensure-dpop-auth-code-binding-success",
    "dpop-negative-tests",
)
PAR, TOKEN = "/oauth2/par", "/oauth2/token"
HOME = "https://www.certification.openid.net/test/a/signet/callback"


class Suite:
    """The suite as a client: its two clients, each with a key of its own, and the user alice."""

    def __init__(self, site: Site, browser: Browser):
        self.site, self.browser = site, browser
        self.keys: dict[str, KeyPair] = {}
        self.client, self.second = (self._register(key_pair("ES256", kid)) for kid in ("first", "second"))
        site.user("alice", claims={"name": "Alice Liddell", "email": "alice@example.com"})
        self.sent: dict[str, Any] = {}

    def _register(self, pair: KeyPair) -> Registered:
        client = key_client(
            self.site,
            pair,
            redirect_uris=[HOME],
            scope="openid profile email offline_access",
            require_pushed_authorization_requests=True,
        )
        self.keys[client.id] = pair
        return client

    def authentication(self, client: Registered | None = None, /, **changes: Any) -> dict[str, str]:
        """Return the parameters with a new client assertion."""
        client = client or self.client
        return signed(self.site, client, **({"pair": self.keys[client.id]} | changes))

    def push(
        self,
        client: Registered | None = None,
        /,
        credentials: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        **changes: Any,
    ) -> Answer:
        """Push an authorization request; a parameter of None is left out."""
        client = client or self.client
        given: dict[str, Any] = {
            "client_id": client.id,
            "response_type": "code",
            "redirect_uri": HOME,
            "scope": "openid",
            "state": secrets.token_urlsafe(7),
            "nonce": secrets.token_urlsafe(7),
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        self.sent = {name: value for name, value in (given | changes).items() if value is not None}
        if credentials is None:
            credentials = self.authentication(client)
        answer = self.browser.post(PAR, self.sent | credentials, headers)
        if answer.status == 201:
            self.site.secrets.add(answer.json["request_uri"].rpartition(":")[2])
        return answer

    def pushed(self, client: Registered | None = None, /, **changes: Any) -> str:
        """Push a request that is accepted; return its reference, which is as the suite checks it."""
        answer = self.push(client, **changes)
        assert (answer.status, answer.header("cache-control")) == (201, "no-store"), answer.body
        assert 0 < answer.json["expires_in"] < 600
        uri = str(answer.json["request_uri"])
        assert uri.startswith("urn:ietf:params:oauth:request_uri:")
        assert len(uri) > 60, "the suite measures its entropy"
        return uri

    def open(self, uri: str, client: Registered | None = None, **more: Any) -> Answer:
        """Open the authorization endpoint with a reference."""
        return self.browser.get("/oauth2/authorize", client_id=(client or self.client).id, request_uri=uri, **more)

    def answer(self, page: Answer, decision: str = "allow_once") -> dict[str, str]:
        """Sign in and decide; return the verified parameters of the response."""
        if "password" in page.form.fields:
            page = self.browser.sign_in(page)
        answer = self.browser.submit(page, decision=decision) if page.form.action else page
        assert answer.location.startswith(f"{HOME}?"), answer.location
        given = answer.answer
        assert given["iss"] == self.site.settings.issuer
        assert given.get("state") == self.sent.get("state")
        return given

    def authorize(self, client: Registered | None = None, /, **changes: Any) -> str:
        """Push a request and answer it; return the code."""
        return self.answer(self.open(self.pushed(client, **changes), client))["code"]

    def token(
        self,
        client: Registered | None = None,
        /,
        credentials: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        **parameters: Any,
    ) -> Answer:
        """Send a token request; a parameter of None is left out."""
        if credentials is None:
            credentials = self.authentication(client)
        given = {name: value for name, value in parameters.items() if value is not None}
        return self.browser.post(TOKEN, given | credentials, headers)

    def redeem(self, code: str, client: Registered | None = None, /, **changes: Any) -> Answer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": HOME, "code_verifier": VERIFIER}
        return self.token(client, **(form | changes))

    def flow(self, client: Registered | None = None, /, **changes: Any) -> dict[str, Any]:
        """Complete the whole flow; return the tokens."""
        answer = self.redeem(self.authorize(client, **changes), client)
        assert (answer.status, answer.header("cache-control")) == (200, "no-store"), answer.body
        return answer.json

    def id_token(self, tokens: dict[str, Any]) -> dict[str, Any]:
        """Verify an ID token; return its claims."""
        keys = jwt.PyJWKSet.from_dict(self.browser.get("/oauth2/jwks").json)
        claims: dict[str, Any] = jwt.decode(
            tokens["id_token"],
            keys[jwt.get_unverified_header(tokens["id_token"])["kid"]],
            algorithms=["RS256"],
            issuer=self.site.settings.issuer,
            options={"verify_aud": False, "require": ["exp", "iat", "sub", "aud"]},
        )
        assert claims.get("nonce") == self.sent.get("nonce")
        return claims


@pytest.fixture
def suite(site: Site, browser: Browser) -> Suite:
    return Suite(site, browser)


def is_rejected(answer: Answer, *errors: str) -> bool:
    """Return whether a request of a client was rejected with one of these errors, as JSON without a redirect."""
    status = 401 if answer.json["error"] == "invalid_client" else 400
    return (answer.status, answer.header("location"), answer.json["error"] in errors) == (status, None, True)


def is_error_page(answer: Answer) -> bool:
    """Return whether the user sees an error, and nothing is redirected: the suite asks for a screenshot of it."""
    return (answer.status, answer.header("location"), "password" in answer.form.fields) == (400, None, False)


def test_metadata_meets_the_requirements(suite: Suite) -> None:
    """discovery-end-point-verification: except for the algorithms of DPoP. It wants no RS256 in the lists of
    algorithms, where the other certifications want it: the suite's checks of these lists were not replayed."""
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    issuer = suite.site.settings.issuer
    assert metadata["pushed_authorization_request_endpoint"] == issuer + PAR
    assert "private_key_jwt" in metadata["token_endpoint_auth_methods_supported"]
    assert {*metadata["token_endpoint_auth_signing_alg_values_supported"]} >= {"PS256", "ES256", "EdDSA"}
    assert "S256" in metadata["code_challenge_methods_supported"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert "authorization_code" in metadata["grant_types_supported"]


def test_both_clients_complete_the_flow(suite: Suite) -> None:
    """happy-flow: with bearer tokens. par-without-duplicate-parameters"""
    for client in (suite.client, suite.second):
        tokens = suite.flow(client, state="s", nonce="n")
        assert suite.id_token(tokens)["aud"] == client.id
        assert suite.browser.userinfo(tokens["access_token"]).json["sub"] == suite.id_token(tokens)["sub"]


@pytest.mark.parametrize("changes", [{"state": None}, {"nonce": None}, {"nonce": "n" * 64}], ids=str)
def test_state_and_nonce_are_optional(suite: Suite, changes: dict[str, str | None]) -> None:
    """ensure-authorization-request-without-state-success ensure-authorization-request-without-nonce-success
    ensure-authorization-request-with-64-char-nonce-success"""
    suite.id_token(suite.flow(**changes))


@pytest.mark.parametrize("changes", [{"nonce": "n" * 384}, {"state": "s" * 1000}], ids=["nonce", "state"])
def test_long_values_are_returned_intact(suite: Suite, changes: dict[str, str]) -> None:
    """ensure-authorization-request-with-long-nonce ensure-authorization-request-with-long-state"""
    suite.id_token(suite.flow(**changes))


def test_order_of_scopes_does_not_matter(suite: Suite) -> None:
    """ensure-other-scope-order-succeeds"""
    assert {*suite.flow(scope="email openid")["scope"].split()} == {"openid", "email"}


def test_requested_claims_are_returned(suite: Suite) -> None:
    """test-claims-parameter-identity-claims"""
    claims = '{"id_token": {"name": null}, "userinfo": {"email": null}}'
    tokens = suite.flow(scope="openid profile email", claims=claims)
    returned = suite.id_token(tokens) | suite.browser.userinfo(tokens["access_token"]).json
    assert (returned["name"], returned["email"]) == ("Alice Liddell", "alice@example.com")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "bEaReR"])
def test_scheme_of_the_access_token_has_no_case(suite: Suite, scheme: str) -> None:
    """access-token-type-header-case-sensitivity"""
    token = suite.flow()["access_token"]
    assert suite.browser.get("/oauth2/userinfo", {"Authorization": f"{scheme} {token}"}).status == 200


def test_user_rejects_the_request(suite: Suite) -> None:
    """user-rejects-authentication"""
    for client in (suite.client, suite.second):
        assert suite.answer(suite.open(suite.pushed(client), client), "deny")["error"] == "access_denied"


@pytest.mark.parametrize("pushed", [{}, {"state": None, "nonce": None}], ids=["different", "only outside"])
def test_parameters_beside_the_reference_are_ignored(suite: Suite, pushed: dict[str, Any]) -> None:
    """ensure-different-nonce-inside-and-outside-request-object state-only-outside-request-object-not-used
    ensure-different-state-inside-and-outside-request-object"""
    page = suite.open(suite.pushed(**pushed), state="outside", nonce="outside")
    suite.id_token(suite.redeem(suite.answer(page)["code"]).json)


# ---- requests that are rejected


def test_request_that_was_not_pushed_is_rejected(suite: Suite) -> None:
    """ensure-unsigned-authorization-request-without-using-par-fails"""
    suite.pushed()
    answer = suite.browser.get("/oauth2/authorize", **suite.sent)
    assert (answer.answer["error"], "code" in answer.answer) == ("invalid_request", False)


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no redirect_uri": ({"redirect_uri": None}, "invalid_request"),
    "an unregistered redirect_uri": ({"redirect_uri": f"{HOME}/other"}, "invalid_request"),
    "code id_token": ({"response_type": "code id_token"}, "unauthorized_client unsupported_response_type"),
    "token": ({"response_type": "token"}, "unsupported_response_type"),
    "no PKCE": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "plain PKCE": ({"code_challenge": VERIFIER, "code_challenge_method": "plain"}, "invalid_request"),
    "a request_uri": ({"request_uri": "urn:ietf:params:oauth:request_uri:abc"}, "invalid_request"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_request_is_not_accepted_by_par(suite: Suite, case: str) -> None:
    """ensure-request-object-without-redirect-uri-fails ensure-redirect-uri-in-authorization-request
    plain-fapi-tolerate-unregistered-redirect-uri ensure-response-type-code-idtoken-fails
    ensure-response-type-token-fails par-ensure-pkce-required par-plain-pkce-rejected
    par-authorization-request-containing-request_uri-form-param"""
    changes, errors = BAD_REQUESTS[case]
    assert is_rejected(suite.push(**changes), *errors.split())


def test_par_is_for_post_only(suite: Suite) -> None:
    """par-attempt-invalid-http-method"""
    assert suite.browser.request("PUT", PAR, "").status in (403, 404, 405)


# ---- the reference


def test_reference_is_valid_until_the_request_is_answered(suite: Suite) -> None:
    """par-ensure-reused-request-uri-prior-to-auth-completion-succeeds par-attempt-reuse-request_uri: an error page."""
    uri = suite.pushed()
    assert suite.open(uri).status == 200
    assert suite.answer(suite.open(uri))["code"]
    assert is_error_page(suite.open(uri))


def test_expired_reference_is_rejected(suite: Suite) -> None:
    """par-attempt-to-use-expired-request_uri"""
    uri = suite.pushed()
    suite.site.clock.advance(PUSHED_LIFETIME + 1)
    assert is_error_page(suite.open(uri))


def test_reference_is_rejected_for_another_client(suite: Suite) -> None:
    """par-attempt-to-use-request_uri-for-different-client"""
    assert is_error_page(suite.open(suite.pushed(), suite.second))


# ---- the token endpoint


def test_code_is_bound_to_its_client(suite: Suite) -> None:
    """ensure-authorization-code-is-bound-to-client"""
    assert is_rejected(suite.redeem(suite.authorize(), suite.second), "invalid_grant")


def test_client_id_must_be_that_of_the_assertion(suite: Suite) -> None:
    """ensure-client-id-in-token-endpoint"""
    code = suite.authorize()
    assert is_rejected(suite.redeem(code, client_id=suite.second.id), "invalid_client", "invalid_request")


def test_code_is_used_once(suite: Suite) -> None:
    """attempt-reuse-authorization-code-after-one-second: the access token is revoked."""
    code = suite.authorize()
    tokens = suite.redeem(code).json
    suite.site.clock.advance(1)
    assert is_rejected(suite.redeem(code), "invalid_grant")
    assert suite.browser.userinfo(tokens["access_token"]).status == 401


def test_code_expires_within_a_minute(suite: Suite) -> None:
    """ensure-token-endpoint-fails-with-expired-auth-code"""
    code = suite.authorize()
    suite.site.clock.advance(62)
    assert is_rejected(suite.redeem(code), "invalid_grant")


@pytest.mark.parametrize("verifier", [None, "x" * 43])
def test_code_needs_its_verifier(suite: Suite, verifier: str | None) -> None:
    """ensure-pkce-code-verifier-required incorrect-pkce-code-verifier-rejected"""
    assert is_rejected(suite.redeem(suite.authorize(), code_verifier=verifier), "invalid_grant", "invalid_request")


def test_refresh_token_is_bound_to_its_client(suite: Suite) -> None:
    """refresh-token: with bearer tokens."""
    tokens = suite.flow(scope="openid offline_access", prompt="consent")
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert is_rejected(suite.token(credentials={}, client_id=suite.client.id, **form), "invalid_client")
    assert is_rejected(suite.token(suite.second, **form), "invalid_grant")
    answer = suite.token(**form)
    assert answer.status == 200
    assert suite.browser.userinfo(answer.json["access_token"]).status == 200


# ---- client assertions


def changed(**changes: Any) -> Callable[[Suite], dict[str, str]]:
    """Return a function that returns a client assertion with changes of its claims.

    Times are seconds from now, and ISSUER stands for the issuer.
    """

    def value(suite: Suite, given: Any) -> Any:
        if isinstance(given, int):
            return suite.site.clock.time + given
        return given.replace("ISSUER", suite.site.settings.issuer) if given else given

    return lambda suite: suite.authentication(**{name: value(suite, given) for name, given in changes.items()})


def without(name: str, value: str | None = None) -> Callable[[Suite], dict[str, str]]:
    """Return a function that returns the parameters of a client assertion, one of them left out or replaced."""

    def make(suite: Suite) -> dict[str, str]:
        given = suite.authentication() | {name: value}
        return {name: text for name, text in given.items() if text is not None}

    return make


def by_key(alg: str, kid: str) -> Callable[[Suite], dict[str, str]]:
    """Return a function that returns a client assertion that another key has signed."""
    return lambda suite: with_assertion(
        make_assertion(suite.site, suite.client.id, key_pair(alg, kid), headers={"kid": "first"})
    )


def unsigned(suite: Suite) -> dict[str, str]:
    claims = jwt.decode(suite.authentication()["client_assertion"], options={"verify_signature": False})
    return with_assertion(jwt.encode(claims, "", "none"))


ASSERTIONS: dict[str, Callable[[Suite], dict[str, str]]] = {
    "none": lambda _: {},
    "no client_assertion_type": without("client_assertion_type"),
    "another client_assertion_type": without("client_assertion_type", "urn:ietf:params:oauth:grant-type:saml2-bearer"),
    "no sub": changed(sub=None),
    "another sub": changed(sub="another"),
    "no iss": changed(iss=None),
    "another iss": changed(iss="another"),
    "no aud": changed(aud=None),
    "another aud": changed(aud="https://example.com"),
    "aud is the PAR endpoint": changed(aud=f"ISSUER{PAR}"),
    "aud is the token endpoint": changed(aud=f"ISSUER{TOKEN}"),
    "exp 5 minutes ago": changed(exp=-300),
    "iat and nbf in more than 60 seconds": changed(iat=70, nbf=70, exp=300),
    "RS256": by_key("RS256", "first"),
    "another key": by_key("ES256", "second"),
    "alg none": unsigned,
}


@pytest.mark.parametrize("endpoint", ["par", "token"])
@pytest.mark.parametrize("case", ASSERTIONS)
def test_bad_client_assertion_is_rejected(suite: Suite, case: str, endpoint: str) -> None:
    """ensure-invalid-client-assertions-fail: except for an aud that is an array of the issuer alone, which Signet
    accepts. ensure-signed-client-assertion-with-RS256-fails: the suite skips it, because its key is no RSA key.
    ensure-client-assertion-in-token-endpoint ensure-client-assertion-with-exp-is-5-minutes-in-past-fails
    ensure-client-assertion-with-wrong-aud-fails ensure-client-assertion-with-no-sub-fails
    par-test-par-endpoint-url-as-audience-fails"""
    send = suite.push if endpoint == "par" else partial(suite.redeem, suite.authorize(), client_id=suite.client.id)
    answer = send(credentials=ASSERTIONS[case](suite))
    assert is_rejected(answer, "invalid_client", "invalid_request")
    assert send(credentials=suite.authentication()).status in (200, 201), "the rest of the request was valid"


def test_clock_of_the_client_may_be_8_seconds_ahead(suite: Suite) -> None:
    """ensure-invalid-client-assertions-fail"""
    assert suite.push(credentials=changed(iat=8, nbf=8)(suite)).status == 201


def test_every_module_has_a_test() -> None:
    tests = [value for name, value in vars(sys.modules[__name__]).items() if name.startswith("test_")]
    named = {word.strip(".:") for test in tests for word in (test.__doc__ or "").split()}
    assert {*MODULES} <= named
    assert not {*DPOP_MODULES} & {*MODULES}
    text = (CHECKOUT / "docs" / "certification.md").read_text("utf-8")
    assert f"`tests/interop/test_fapi_plan.py` repeats {len(MODULES)} modules" in text
