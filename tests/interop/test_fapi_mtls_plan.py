"""The OpenID Foundation's plan FAPI 2.0 Security Profile Final, with mutual TLS for authentication or bound tokens.

The modules whose requests are the same in these variants are in `test_fapi_plan`. Each docstring names its modules.
"""

from typing import Any

import pytest

from infra.operator.client_changes import with_profile
from tests.interop.fapi_suite import HOME, KEY, OTHER, Suite, is_rejected
from tests.support.assertions import KeyPair
from tests.support.browser import Answer, Browser
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.proofs import TOKEN, USERINFO, with_proof, with_token
from tests.support.site import Registered, Site

certificates: Any = pytest.importorskip("tests.support.client_certificates", reason="There is no mutual TLS.")

# client_auth_type, sender_constrain
VARIANTS = [("private_key_jwt", "mtls"), ("mtls", "mtls"), ("mtls", "dpop")]
NO_PROOF: dict[str, str] = {}


class CertificateSuite(Suite):
    """The suite, with a certificate for each of its clients, which it sends with every request of a client."""

    def __init__(self, site: Site, authentication: str, constraint: str):
        self.method, self.constraint = authentication, constraint
        self.certificates: dict[str, Any] = {}
        super().__init__(site, GatewayBrowser(site, HTTP_2))

    def register(self, pair: KeyPair) -> Registered:
        subject = f"CN={pair.kid},O=Example"
        given: dict[str, Any] = {"redirect_uris": [HOME], "profile": self.profile}
        given["scope"] = "openid profile email offline_access"
        if self.method == "mtls":
            given |= {"token_endpoint_auth_methods": ("tls_client_auth",), "tls_client_auth_subject_dn": subject}
        else:
            given["jwks"] = pair.jwks
        name = {"mtls": "tls_client_certificate_bound_access_tokens", "dpop": "dpop_bound_access_tokens"}
        given[name[self.constraint]] = True
        client = self.site.client(**with_profile(given, given))
        self.keys[client.id], self.certificates[client.id] = pair, certificates.of_authority(subject)
        return client

    def agent(self, client: Registered | None = None) -> Browser:
        agent: Browser = certificates.CertificateBrowser(self.site, self.certificates[(client or self.client).id])
        return agent

    def authentication(self, client: Registered | None = None, /, **changes: Any) -> dict[str, str]:
        client = client or self.client
        return {"client_id": client.id} if self.method == "mtls" else super().authentication(client, **changes)

    def proof(self, path: str = TOKEN, **changes: Any) -> dict[str, str]:
        if self.constraint != "dpop":
            return NO_PROOF
        given: dict[str, Any] = {"pair": KEY, "htu": f"https://{certificates.DOMAIN}{path}"}
        return with_proof(self.site, path, **(given | changes))

    def flow(self, client: Registered | None = None, /, **changes: Any) -> dict[str, Any]:
        answer = self.redeem(self.authorize(client, **changes), client)
        assert answer.status == 200, answer.body
        assert answer.json["token_type"] == {"mtls": "Bearer", "dpop": "DPoP"}[self.constraint]
        return answer.json

    def request_resource(self, token: str, client: Registered | None = None, pair: KeyPair = KEY) -> Answer:
        """Request UserInfo with what the access token is bound to."""
        headers = {"Authorization": f"Bearer {token}"}
        if self.constraint == "dpop":
            headers = with_token(self.site, token, pair=pair, htu=f"https://{certificates.DOMAIN}{USERINFO}")
        return self.agent(client).get(USERINFO, headers)


@pytest.fixture(params=VARIANTS, ids=" ".join)
def suite(request: pytest.FixtureRequest, site_with: Any) -> CertificateSuite:
    site = site_with(issuer=certificates.ISSUER, mtls_domain=certificates.DOMAIN)
    return CertificateSuite(site, *request.param)


def test_metadata_meets_the_requirements(suite: CertificateSuite) -> None:
    """discovery-end-point-verification"""
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert metadata["tls_client_certificate_bound_access_tokens"] is True
    assert "tls_client_auth" in metadata["token_endpoint_auth_methods_supported"]
    for name in ("token_endpoint", "pushed_authorization_request_endpoint", "userinfo_endpoint"):
        assert metadata["mtls_endpoint_aliases"][name].startswith(f"https://{certificates.DOMAIN}/")


def test_both_clients_complete_the_flow(suite: CertificateSuite) -> None:
    """happy-flow par-without-duplicate-parameters"""
    for client in (suite.client, suite.second):
        tokens = suite.flow(client)
        assert suite.id_token(tokens)["aud"] == client.id
        assert suite.request_resource(tokens["access_token"], client).json["sub"] == suite.id_token(tokens)["sub"]


def test_token_is_refused_at_the_resource_without_what_it_is_bound_to(suite: CertificateSuite) -> None:
    """happy-flow: the suite also uses the access token of one client with the certificate of the other."""
    token = suite.flow()["access_token"]
    if suite.constraint == "mtls":
        assert suite.request_resource(token, suite.second).status == 401
        assert suite.browser.get(USERINFO, {"Authorization": f"Bearer {token}"}).status == 401
    else:
        assert suite.request_resource(token, pair=OTHER).status == 401


def test_token_is_not_issued_without_its_binding(suite: CertificateSuite) -> None:
    """ensure-holder-of-key-required"""
    code = suite.authorize()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": HOME, "code_verifier": "v" * 43}
    if suite.constraint == "mtls":  # without a certificate, at the ordinary address
        answer = suite.browser.post(TOKEN, form | suite.authentication())
        assert is_rejected(answer, "invalid_client", "invalid_request", "invalid_grant")
    else:
        answer = suite.redeem(code, headers={})
        assert is_rejected(answer, "invalid_dpop_proof", "invalid_request", "invalid_grant")
    assert suite.redeem(code).status == 200


def test_code_and_refresh_token_are_bound_to_their_client(suite: CertificateSuite) -> None:
    """ensure-authorization-code-is-bound-to-client refresh-token"""
    code = suite.authorize(scope="openid offline_access", prompt="consent")
    assert is_rejected(suite.redeem(code, suite.second), "invalid_grant")
    refresh_token = suite.redeem(code).json["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    assert is_rejected(suite.token(suite.second, **form), "invalid_grant")
    answer = suite.browser.post(TOKEN, form | suite.authentication())  # without a certificate or a proof
    assert is_rejected(answer, "invalid_client", "invalid_request", "invalid_dpop_proof")
    answer = suite.token(**form)
    assert (answer.status, answer.json["refresh_token"]) == (200, refresh_token)
    assert suite.request_resource(answer.json["access_token"]).status == 200


def test_code_is_used_once(suite: CertificateSuite) -> None:
    """attempt-reuse-authorization-code-after-one-second"""
    code = suite.authorize()
    token = suite.redeem(code).json["access_token"]
    suite.site.clock.advance(1)
    assert is_rejected(suite.redeem(code), "invalid_grant")
    assert suite.request_resource(token).status == 401


def test_certificate_of_the_other_client_does_not_authenticate(suite: CertificateSuite) -> None:
    """ensure-client-id-in-token-endpoint"""
    if suite.method != "mtls":
        pytest.skip("This client authenticates by its key.")
    code = suite.authorize()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": HOME, "client_id": suite.client.id}
    answer = suite.agent(suite.second).post(TOKEN, form, suite.proof())
    assert is_rejected(answer, "invalid_client")
