"""The OpenID Foundation's plan FAPI 2.0 Security Profile Final, with private_key_jwt and DPoP.

Its variant is that of `fapi_suite`, with unsigned requests and plain responses. Each docstring names its modules,
without the prefix of the plan; MODULES and DPOP_MODULES list all of them, as the suite's source does, also those that
other versions of it have. The ones about DPoP alone are in `test_fapi_dpop_plan`.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jwt
import pytest

from chalicelib.authorization.request import PUSHED_LIFETIME
from infra.local.state import CHECKOUT
from tests.interop.fapi_suite import HOME, KEY, PAR, TOKEN, Suite, is_error_page, is_rejected
from tests.support.assertions import key_pair, make_assertion, with_assertion
from tests.support.browser import VERIFIER, Browser
from tests.support.proofs import with_token
from tests.support.site import Site

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
    # Which some versions of the suite have in place of one or several of the others.
    "par-test-array-as-audience-fails",
    "par-test-token-endpoint-url-as-audience-fails",
    "par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted",
    "par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails",
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


@pytest.fixture
def suite(site: Site, browser: Browser) -> Suite:
    return Suite(site, browser)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 a")
def test_metadata_meets_the_requirements(suite: Suite) -> None:
    """discovery-end-point-verification"""
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert metadata == suite.browser.get("/.well-known/oauth-authorization-server").json
    issuer = suite.site.settings.issuer
    assert metadata["issuer"] == issuer
    assert metadata["pushed_authorization_request_endpoint"] == issuer + PAR
    assert metadata["require_pushed_authorization_requests"] in (True, False)
    assert "private_key_jwt" in metadata["token_endpoint_auth_methods_supported"]
    # Each must have one of the algorithms of FAPI 2.0, and may have others.
    for kind in ("dpop", "id_token", "token_endpoint_auth", "userinfo"):
        assert {*metadata[f"{kind}_signing_alg_values_supported"]} & {"PS256", "ES256", "EdDSA"}, kind
    assert "S256" in metadata["code_challenge_methods_supported"]
    assert "code" in metadata["response_types_supported"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert {"authorization_code", "refresh_token"} <= {*metadata["grant_types_supported"]}
    assert "openid" in metadata["scopes_supported"]
    assert metadata["subject_types_supported"]
    assert all(metadata[name].startswith(issuer) for name in ("token_endpoint", "authorization_endpoint", "jwks_uri"))


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 b", "FAPI 2.0 Security Profile §5.3.2.1 e")
def test_both_clients_complete_the_flow(suite: Suite) -> None:
    """happy-flow par-without-duplicate-parameters"""
    for client in (suite.client, suite.second):
        tokens = suite.flow(client, state="s", nonce="n")
        assert suite.id_token(tokens)["aud"] == client.id
        assert suite.resource(tokens["access_token"]).json["sub"] == suite.id_token(tokens)["sub"]


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
    returned = suite.id_token(tokens) | suite.resource(tokens["access_token"]).json
    assert (returned["name"], returned["email"]) == ("Alice Liddell", "alice@example.com")


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.4 a")
@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "dPoP", "DPOP"])
def test_scheme_of_the_access_token_has_no_case(suite: Suite, scheme: str) -> None:
    """access-token-type-header-case-sensitivity"""
    token = suite.flow()["access_token"]
    headers = with_token(suite.site, token, pair=KEY) | {"Authorization": f"{scheme} {token}"}
    assert suite.browser.get("/oauth2/userinfo", headers).status == 200


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 g")
def test_user_rejects_the_request(suite: Suite) -> None:
    """user-rejects-authentication"""
    for client in (suite.client, suite.second):
        assert suite.answer(suite.open(suite.pushed(client), client), "deny", client)["error"] == "access_denied"


@pytest.mark.parametrize("pushed", [{}, {"state": None, "nonce": None}], ids=["different", "only outside"])
def test_parameters_beside_the_reference_are_ignored(suite: Suite, pushed: dict[str, Any]) -> None:
    """ensure-different-nonce-inside-and-outside-request-object state-only-outside-request-object-not-used
    ensure-different-state-inside-and-outside-request-object"""
    page = suite.open(suite.pushed(**pushed), state="outside", nonce="outside")
    suite.id_token(suite.redeem(suite.answer(page)["code"]).json)


# ---- requests that are rejected


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 c")
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


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 a", "FAPI 2.0 Security Profile §5.3.2.2 e")
@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 f", "FAPI 2.0 Security Profile §5.3.2.1 g")
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


@pytest.mark.spec("RFC 9126 §4 a", "RFC 9126 §7.3")
def test_reference_is_valid_until_the_request_is_answered(suite: Suite) -> None:
    """par-ensure-reused-request-uri-prior-to-auth-completion-succeeds par-attempt-reuse-request_uri: an error page."""
    uri = suite.pushed()
    assert suite.open(uri).status == 200
    assert suite.answer(suite.open(uri))["code"]
    assert is_error_page(suite.open(uri))


@pytest.mark.spec("RFC 9126 §4 b")
def test_expired_reference_is_rejected(suite: Suite) -> None:
    """par-attempt-to-use-expired-request_uri"""
    uri = suite.pushed()
    suite.site.clock.advance(PUSHED_LIFETIME + 1)
    assert is_error_page(suite.open(uri))


@pytest.mark.spec("RFC 9126 §2.2 b")
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


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 i", "FAPI 2.0 Security Profile §5.3.4 c")
def test_code_is_used_once(suite: Suite) -> None:
    """attempt-reuse-authorization-code-after-one-second: the access token is revoked."""
    code = suite.authorize()
    tokens = suite.redeem(code).json
    suite.site.clock.advance(1)
    assert is_rejected(suite.redeem(code), "invalid_grant")
    assert suite.resource(tokens["access_token"]).status == 401


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 k")
def test_code_expires_within_a_minute(suite: Suite) -> None:
    """ensure-token-endpoint-fails-with-expired-auth-code"""
    code = suite.authorize()
    suite.site.clock.advance(62)
    assert is_rejected(suite.redeem(code), "invalid_grant")


@pytest.mark.parametrize("verifier", [None, "x" * 43])
def test_code_needs_its_verifier(suite: Suite, verifier: str | None) -> None:
    """ensure-pkce-code-verifier-required incorrect-pkce-code-verifier-rejected"""
    assert is_rejected(suite.redeem(suite.authorize(), code_verifier=verifier), "invalid_grant", "invalid_request")


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 i")
def test_refresh_token_is_bound_to_its_client(suite: Suite) -> None:
    """refresh-token: of the second client too, and without a proof in `test_fapi_dpop_plan`."""
    tokens = suite.flow(scope="openid offline_access", prompt="consent")
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert is_rejected(suite.token(credentials={}, client_id=suite.client.id, **form), "invalid_client")
    assert is_rejected(suite.token(suite.second, **form), "invalid_grant")
    answer = suite.token(**form)
    assert answer.status == 200
    assert answer.json["refresh_token"] == tokens["refresh_token"], "it is not rotated"
    assert suite.resource(answer.json["access_token"]).status == 200


# ---- client assertions


def changed(**changes: Any) -> Callable[[Suite], dict[str, str]]:
    """Return a function that returns a client assertion with changes of its claims.

    Times are seconds from now, and ISSUER stands for the issuer.
    """

    def value(suite: Suite, given: Any) -> Any:
        if isinstance(given, list):
            return [value(suite, each) for each in given]
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
    "aud is an array of the issuer": changed(aud=["ISSUER"]),
    "aud is an array with the issuer": changed(aud=["ISSUER", "https://example.com"]),
    "exp 5 minutes ago": changed(exp=-300),
    "iat and nbf in more than 60 seconds": changed(iat=70, nbf=70, exp=300),
    "RS256": by_key("RS256", "first"),
    "another key": by_key("ES256", "second"),
    "alg none": unsigned,
}


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 f", "FAPI 2.0 Security Profile §5.3.2.1 h")
@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 d", "FAPI 2.0 Security Profile §5.3.2.1 m")
@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.1 c")
@pytest.mark.parametrize("endpoint", ["par", "token"])
@pytest.mark.parametrize("case", ASSERTIONS)
def test_bad_client_assertion_is_rejected(suite: Suite, case: str, endpoint: str) -> None:
    """ensure-invalid-client-assertions-fail ensure-client-assertion-in-token-endpoint
    ensure-client-assertion-with-exp-is-5-minutes-in-past-fails ensure-client-assertion-with-wrong-aud-fails
    ensure-client-assertion-with-no-sub-fails par-test-par-endpoint-url-as-audience-fails
    par-test-array-as-audience-fails par-test-token-endpoint-url-as-audience-fails
    par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails"""
    send = suite.push if endpoint == "par" else partial(suite.redeem, suite.authorize(), client_id=suite.client.id)
    answer = send(credentials=ASSERTIONS[case](suite))
    assert is_rejected(answer, "invalid_client", "invalid_request")
    assert send(credentials=suite.authentication()).status in (200, 201), "the rest of the request was valid"


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 m")
def test_clock_of_the_client_may_be_8_seconds_ahead(suite: Suite) -> None:
    """ensure-invalid-client-assertions-fail
    par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted"""
    assert suite.push(credentials=changed(iat=8, nbf=8)(suite)).status == 201


@pytest.mark.parametrize("endpoint", ["par", "token"])
def test_client_with_an_rsa_key_signs_with_ps256_alone(suite: Suite, endpoint: str) -> None:
    """ensure-signed-client-assertion-with-RS256-fails: the suite skips it for other keys."""
    rsa = key_pair("RS256", "rsa")
    client = suite.register(replace(rsa, alg="PS256"))
    send = partial(suite.push, client) if endpoint == "par" else partial(suite.redeem, suite.authorize(client), client)
    answer = send(credentials=suite.authentication(client, pair=rsa))
    assert is_rejected(answer, "invalid_client", "invalid_request")
    assert send().status in (200, 201)


def test_every_module_has_a_test() -> None:
    tests = [value for name, value in vars(sys.modules[__name__]).items() if name.startswith("test_")]
    named = {word.strip(".:") for test in tests for word in (test.__doc__ or "").split()}
    assert {*MODULES} <= named
    assert not {*DPOP_MODULES} & {*MODULES}
    text = (CHECKOUT / "docs" / "certification.md").read_text("utf-8")
    assert f"`tests/interop/test_fapi_plan.py` repeats {len(MODULES)} modules" in text
