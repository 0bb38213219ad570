"""The OpenID Foundation's plan FAPI 2.0 Security Profile Final without OpenID Connect, and for machines.

`plain_oauth`: no request has the scope `openid`. `fapi_client_credentials_grant`: the clients have no users. The lists
say which modules these variants have. Each docstring names those whose request or response is another one than in
`test_fapi_plan` and `test_fapi_dpop_plan`. The resource is an API of the operator, as UserInfo needs `openid`.
"""

import sys
from functools import partial
from typing import Any

import jwt
import pytest

from chalicelib.keys.signing import thumbprint
from infra.local.state import CHECKOUT
from tests.interop.fapi_suite import HOME, KEY, OTHER, Suite, is_rejected
from tests.interop.test_fapi_plan import ASSERTIONS, DPOP_MODULES, MODULES, changed
from tests.support.assertions import KeyPair
from tests.support.browser import Answer, Browser
from tests.support.fapi import fapi_client
from tests.support.proofs import public_jwk
from tests.support.site import Registered, Site

# Modules that need OpenID Connect.
WITH_OPENID = (
    "ensure-authorization-request-without-nonce-success",
    "ensure-authorization-request-with-64-char-nonce-success",
    "ensure-authorization-request-with-long-nonce",
    "ensure-different-nonce-inside-and-outside-request-object",
    "ensure-other-scope-order-succeeds",
    "test-claims-parameter-identity-claims",
)
# Modules without an authorization request.
CLIENT_CREDENTIALS = (
    "discovery-end-point-verification",
    "happy-flow",
    "ensure-client-id-in-token-endpoint",
    "ensure-signed-client-assertion-with-RS256-fails",
    "ensure-client-assertion-in-token-endpoint",
    "ensure-client-assertion-with-exp-is-5-minutes-in-past-fails",
    "ensure-client-assertion-with-wrong-aud-fails",
    "ensure-client-assertion-with-no-sub-fails",
    "ensure-invalid-client-assertions-fail",
    "ensure-holder-of-key-required",
    "check-dpop-proof-nbf-exp",
    "ensure-dpopproof-with-iat-10seconds-before-succeeds",
    "ensure-dpopproof-with-iat-10seconds-after-succeeds",
)
# The same, but they test the API alone.
OF_THE_API = ("access-token-type-header-case-sensitivity", "dpop-negative-tests")
SCOPE = "photos.read"


class PlainSuite(Suite):
    """The suite without OpenID Connect."""

    def register(self, pair: KeyPair) -> Registered:
        client = fapi_client(self.site, pair, self.profile, redirect_uris=[HOME], scope=SCOPE)
        self.keys[client.id] = pair
        return client

    def parameters(self, client: Registered, **changes: Any) -> dict[str, Any]:
        return super().parameters(client, **({"scope": SCOPE, "nonce": None} | changes))

    def claims(self, token: str) -> dict[str, Any]:
        """Verify an access token as an API does; return its claims."""
        keys = jwt.PyJWKSet.from_dict(self.browser.get("/oauth2/jwks").json)
        key, issuer = keys[jwt.get_unverified_header(token)["kid"]], self.site.settings.issuer
        self.site.secrets.add(token)
        algorithms = ["PS256", "ES256", "EdDSA"]
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=algorithms, issuer=issuer, audience=issuer)
        return claims

    def is_active(self, token: str) -> bool:
        """Return whether introspection by the client says that its access token is active."""
        answer = self.browser.post("/oauth2/introspect", {"token": token} | self.authentication())
        assert answer.status == 200, answer.body
        return bool(answer.json["active"])


class MachineSuite(PlainSuite):
    """The suite with clients that have no users."""

    def register(self, pair: KeyPair) -> Registered:
        members: dict[str, Any] = {"grant_types": ["client_credentials"], "redirect_uris": [], "response_types": []}
        client = fapi_client(self.site, pair, self.profile, scope=SCOPE, **members)
        self.keys[client.id] = pair
        return client

    def request(self, client: Registered | None = None, /, **changes: Any) -> Answer:
        """Send a token request."""
        return self.token(client, **({"grant_type": "client_credentials", "scope": SCOPE} | changes))


@pytest.fixture
def suite(site: Site, browser: Browser) -> PlainSuite:
    return PlainSuite(site, browser)


@pytest.fixture
def machines(site: Site, browser: Browser) -> MachineSuite:
    return MachineSuite(site, browser)


# ---- plain_oauth


def test_clients_complete_the_flow_without_openid(suite: PlainSuite) -> None:
    """happy-flow: there is no ID token."""
    for client in (suite.client, suite.second):
        tokens = suite.flow(client)
        assert (tokens["scope"], "id_token" in tokens) == (SCOPE, False)
        claims = suite.claims(tokens["access_token"])
        assert (claims["client_id"], claims["scope"]) == (client.id, SCOPE)
        assert claims["cnf"] == {"jkt": thumbprint(public_jwk(KEY))}


def test_userinfo_is_no_resource_without_openid(suite: PlainSuite) -> None:
    """As docs/certification.md says."""
    answer = suite.resource(suite.flow()["access_token"])
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")


def test_nonce_without_openid_is_ignored(suite: PlainSuite) -> None:
    """happy-flow: no module of this variant depends on a nonce."""
    assert "id_token" not in suite.flow(nonce="n")


def test_user_rejects_a_request_without_openid(suite: PlainSuite) -> None:
    """user-rejects-authentication"""
    assert suite.answer(suite.open(suite.pushed()), "deny")["error"] == "access_denied"


def test_refresh_token_without_openid_is_bound_to_its_client(suite: PlainSuite) -> None:
    """refresh-token"""
    tokens = suite.flow()
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert is_rejected(suite.token(suite.second, **form), "invalid_grant")
    assert is_rejected(suite.token(headers={}, **form), "invalid_dpop_proof", "invalid_request")
    answer = suite.token(**form)
    assert (answer.status, answer.json["refresh_token"], "id_token" in answer.json) == (
        200,
        form["refresh_token"],
        False,
    )
    assert suite.claims(answer.json["access_token"])["scope"] == SCOPE


def test_code_without_openid_is_used_once(suite: PlainSuite) -> None:
    """attempt-reuse-authorization-code-after-one-second: the access token is revoked."""
    code = suite.authorize()
    token = suite.redeem(code).json["access_token"]
    assert suite.is_active(token)
    suite.site.clock.advance(1)
    assert is_rejected(suite.redeem(code), "invalid_grant")
    assert not suite.is_active(token)


# ---- fapi_client_credentials_grant


def test_metadata_name_the_grant_type(machines: MachineSuite) -> None:
    """discovery-end-point-verification"""
    metadata = machines.browser.get("/.well-known/oauth-authorization-server").json
    assert "client_credentials" in metadata["grant_types_supported"]
    assert "private_key_jwt" in metadata["token_endpoint_auth_methods_supported"]
    for kind in ("dpop", "token_endpoint_auth"):
        assert {*metadata[f"{kind}_signing_alg_values_supported"]} & {"PS256", "ES256", "EdDSA"}, kind


def test_machines_get_bound_tokens(machines: MachineSuite) -> None:
    """happy-flow"""
    for client in (machines.client, machines.second):
        answer = machines.request(client)
        assert (answer.status, answer.header("cache-control")) == (200, "no-store"), answer.body
        assert {*answer.json} == {"access_token", "token_type", "expires_in", "scope"}
        assert (answer.json["token_type"], answer.json["scope"]) == ("DPoP", SCOPE)
        claims = machines.claims(answer.json["access_token"])
        assert (claims["client_id"], claims["cnf"]) == (client.id, {"jkt": thumbprint(public_jwk(KEY))})
        assert machines.request(client, scope=None).status == 200, "the scope may be omitted"


def test_machine_gets_no_token_without_a_proof(machines: MachineSuite) -> None:
    """ensure-holder-of-key-required"""
    assert is_rejected(machines.request(headers={}), "invalid_dpop_proof", "invalid_request", "invalid_grant")
    bad = machines.proof() | {"DPoP": machines.proof()["DPoP"] + ", " + machines.proof(pair=OTHER)["DPoP"]}
    assert is_rejected(machines.request(headers=bad), "invalid_dpop_proof")


def test_proof_of_a_machine_may_have_nbf_and_exp(machines: MachineSuite) -> None:
    """check-dpop-proof-nbf-exp"""
    now = machines.site.clock.time
    assert machines.request(headers=machines.proof(nbf=now, exp=now + 300)).status == 200


@pytest.mark.parametrize("seconds", [-10, 10])
def test_clock_of_a_machine_may_differ_by_10_seconds(machines: MachineSuite, seconds: int) -> None:
    """ensure-dpopproof-with-iat-10seconds-before-succeeds ensure-dpopproof-with-iat-10seconds-after-succeeds"""
    headers = machines.proof(iat=machines.site.clock.time + seconds)
    assert machines.request(headers=headers).status == 200


def test_client_id_of_a_machine_must_be_that_of_its_assertion(machines: MachineSuite) -> None:
    """ensure-client-id-in-token-endpoint"""
    answer = machines.request(client_id=machines.second.id)
    assert is_rejected(answer, "invalid_client", "invalid_request")


@pytest.mark.parametrize("case", ASSERTIONS)
def test_bad_assertion_of_a_machine_is_rejected(machines: MachineSuite, case: str) -> None:
    """ensure-client-assertion-in-token-endpoint ensure-client-assertion-with-exp-is-5-minutes-in-past-fails
    ensure-client-assertion-with-wrong-aud-fails ensure-client-assertion-with-no-sub-fails
    ensure-invalid-client-assertions-fail ensure-signed-client-assertion-with-RS256-fails"""
    send = partial(machines.request, client_id=machines.client.id)
    answer = send(credentials=ASSERTIONS[case](machines))
    assert is_rejected(answer, "invalid_client", "invalid_request")
    assert send(credentials=machines.authentication()).status == 200, "the rest of the request was valid"


def test_clock_of_a_machine_may_be_8_seconds_ahead_in_its_assertion(machines: MachineSuite) -> None:
    """ensure-invalid-client-assertions-fail"""
    assert machines.request(credentials=changed(iat=8, nbf=8)(machines)).status == 200


def test_machine_has_no_other_flow(machines: MachineSuite) -> None:
    assert is_rejected(machines.redeem("x"), "unauthorized_client", "invalid_grant")
    assert is_rejected(machines.push(), "unauthorized_client", "invalid_request")


# ---- the lists


def test_every_module_has_a_test() -> None:
    named = [
        {word.strip(".:") for word in (value.__doc__ or "").split()}
        for name, value in vars(sys.modules[__name__]).items()
        if name.startswith("test_")
    ]
    plan = {*MODULES, *DPOP_MODULES}
    assert {*WITH_OPENID, *CLIENT_CREDENTIALS, *OF_THE_API} <= plan
    assert {*CLIENT_CREDENTIALS} <= set().union(*named)
    assert set().union(*named).isdisjoint(WITH_OPENID)
    text = " ".join((CHECKOUT / "docs" / "certification.md").read_text("utf-8").split())
    assert f"{len(plan) - len(WITH_OPENID)} modules of `plain_oauth`" in text
    assert f"repeats {len(CLIENT_CREDENTIALS)} of the {len(CLIENT_CREDENTIALS) + len(OF_THE_API)} modules of" in text
