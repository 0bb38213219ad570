"""The OpenID Foundation's plan FAPI 2.0 Message Signing Final: signed authorization requests and responses (JAR, JARM).

It has the modules of `test_fapi_plan` too; those are repeated here whose request or response is another one. Each
docstring names its modules, without the prefix of the plan.
"""

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any
from urllib.parse import quote_plus

import jwt
import pytest

from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import MESSAGE_SIGNING
from infra.local.state import CHECKOUT
from tests.interop.fapi_suite import PAR, Suite, is_rejected
from tests.support.assertions import KeyPair, key_pair
from tests.support.browser import VERIFIER, Answer, Browser, basic
from tests.support.grants import update_client
from tests.support.resource_servers import register_resource_server
from tests.support.site import Registered, Site

pytestmark = pytest.mark.skipif(
    "require_signed_request_object" not in {field.name for field in fields(Client)},
    reason="There are no signed authorization requests.",
)

MODULES = (
    "ensure-request-object-with-multiple-aud-succeeds",
    "ensure-request-object-with-nbf-8-seconds-in-the-future-is-accepted",
    "ensure-request-object-without-exp-fails",
    "ensure-request-object-without-nbf-fails",
    "ensure-expired-request-object-fails",
    "ensure-request-object-with-bad-aud-fails",
    "ensure-request-object-with-exp-over-60-fails",
    "ensure-request-object-with-nbf-over-60-fails",
    "ensure-signed-request-object-with-RS256-fails",
    "ensure-request-object-signature-algorithm-is-not-none",
    "ensure-request-object-with-invalid-signature-fails",
    "ensure-matching-key-in-authorization-request",
    "ensure-unsigned-request-at-par-endpoint-fails",
    "par-authorization-request-containing-request_uri",
)


class SigningSuite(Suite):
    """The suite, which signs its requests and verifies the signature of the responses."""

    profile = MESSAGE_SIGNING

    def request_object(
        self,
        client: Registered,
        parameters: dict[str, Any],
        pair: KeyPair | None = None,
        alg: str | None = None,
        **changes: Any,
    ) -> str:
        """Return a request object with these parameters and changes of its other claims; one of None is left out."""
        now, pair = self.site.clock.time, pair or self.keys[client.id]
        claims = {"iss": client.id, "aud": self.site.settings.issuer, "nbf": now, "exp": now + 300} | changes
        payload = parameters | {name: value for name, value in claims.items() if value is not None}
        headers = {"kid": self.keys[client.id].kid, "typ": "oauth-authz-req+jwt"}
        return jwt.encode(payload, "" if alg == "none" else pair.private, alg or pair.alg, headers)

    def parameters(self, client: Registered, **changes: Any) -> dict[str, Any]:
        return super().parameters(client, **({"response_mode": "jwt"} | changes))

    def push(
        self,
        client: Registered | None = None,
        /,
        credentials: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        signing: dict[str, Any] | None = None,
        outside: dict[str, str] | None = None,
        **changes: Any,
    ) -> Answer:
        """Push a request object. `signing`: what is changed of it; `outside`: parameters beside it."""
        client = client or self.client
        signed = self.request_object(client, self.parameters(client, **changes), **(signing or {}))
        form = {"client_id": client.id, "request": signed, **(outside or {})}
        if credentials is None:
            credentials = self.authentication(client)
        answer = self.browser.post(PAR, form | credentials, headers)
        if answer.status == 201:
            self.site.secrets.add(answer.json["request_uri"].rpartition(":")[2])
        return answer

    def verified(self, answer: Answer, client: Registered) -> dict[str, str]:
        assert {*answer.answer} == {"response"}
        keys = jwt.PyJWKSet.from_dict(self.browser.get("/oauth2/jwks").json)
        response = answer.answer["response"]
        claims: dict[str, Any] = jwt.decode(
            response,
            keys[jwt.get_unverified_header(response)["kid"]],
            algorithms=["PS256", "ES256", "EdDSA"],
            issuer=self.site.settings.issuer,
            audience=client.id,
            options={"require": ["exp", "iss", "aud"]},
        )
        self.site.secrets.update(filter(None, [response, claims.get("code")]))
        return {name: value for name, value in claims.items() if name not in ("aud", "exp")}


@pytest.fixture
def suite(site: Site, browser: Browser) -> SigningSuite:
    return SigningSuite(site, browser)


@pytest.mark.parametrize("scope", ["openid", "openid profile email"])
def test_both_clients_complete_the_flow(suite: SigningSuite, scope: str) -> None:
    """happy-flow"""
    for client in (suite.client, suite.second):
        tokens = suite.flow(client, scope=scope)
        assert suite.id_token(tokens)["aud"] == client.id
        assert suite.resource(tokens["access_token"]).json["sub"] == suite.id_token(tokens)["sub"]


def test_metadata_meets_the_requirements(suite: SigningSuite) -> None:
    """discovery-end-point-verification"""
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert metadata["request_parameter_supported"] is True
    for kind in ("request_object", "authorization"):
        assert {*metadata[f"{kind}_signing_alg_values_supported"]} & {"PS256", "ES256", "EdDSA"}, kind
    assert "jwt" in metadata["response_modes_supported"]


@pytest.mark.spec("FAPI 2.0 Message Signing §5.4.1")
def test_error_is_signed_too(suite: SigningSuite) -> None:
    """user-rejects-authentication"""
    page = suite.open(suite.pushed())
    assert suite.answer(page, "deny")["error"] == "access_denied"


@pytest.mark.parametrize("state", [None, "inside"])
def test_parameters_beside_the_request_object_are_ignored(suite: SigningSuite, state: str | None) -> None:
    """ensure-different-nonce-inside-and-outside-request-object state-only-outside-request-object-not-used
    ensure-different-state-inside-and-outside-request-object"""
    answer = suite.push(outside={"state": "outside", "nonce": "outside"}, state=state)
    assert answer.status == 201, answer.body
    code = suite.answer(suite.open(answer.json["request_uri"]))["code"]
    suite.id_token(suite.redeem(code).json)


@pytest.mark.spec("FAPI 2.0 Message Signing §5.3.1 a", "RFC 9126 §2.3 b")
def test_request_that_is_not_signed_is_rejected(suite: SigningSuite) -> None:
    """ensure-unsigned-request-at-par-endpoint-fails"""
    answer = Suite.push(suite, suite.client)
    assert is_rejected(answer, "invalid_request")


ACCEPTED: dict[str, Callable[[SigningSuite], dict[str, Any]]] = {
    "several audiences": lambda suite: {"aud": [suite.site.settings.issuer, "https://other.example.com"]},
    "nbf in 8 seconds": lambda suite: {"nbf": suite.site.clock.time + 8},
}


@pytest.mark.spec("FAPI 2.0 Message Signing §5.3.1 b", "FAPI 2.0 Message Signing §5.3.1 e")
@pytest.mark.parametrize("case", ACCEPTED)
def test_request_object_is_accepted(suite: SigningSuite, case: str) -> None:
    """ensure-request-object-with-multiple-aud-succeeds
    ensure-request-object-with-nbf-8-seconds-in-the-future-is-accepted"""
    assert suite.push(signing=ACCEPTED[case](suite)).status == 201


HOUR = 3600
REJECTED: dict[str, Callable[[SigningSuite], dict[str, Any]]] = {
    "no exp": lambda _: {"exp": None},
    "no nbf": lambda _: {"nbf": None},
    "expired": lambda suite: {"nbf": suite.site.clock.time - 600, "exp": suite.site.clock.time - 300},
    "another audience": lambda _: {"aud": "https://other.example.com"},
    "exp 70 minutes after nbf": lambda suite: {"exp": suite.site.clock.time + HOUR + 600},
    "nbf 70 minutes ago": lambda suite: {"nbf": suite.site.clock.time - HOUR - 600},
    "alg none": lambda _: {"alg": "none"},
    "the key of the other client": lambda suite: {"pair": suite.keys[suite.second.id]},
    "the client_id of the other client": lambda suite: {"client_id": suite.second.id},
    "a request_uri in it": lambda _: {"request_uri": "urn:ietf:params:oauth:request_uri:abc"},
}


@pytest.mark.spec(
    "FAPI 2.0 Message Signing §5.3.1 a", "FAPI 2.0 Message Signing §5.3.1 b", "FAPI 2.0 Message Signing §5.3.1 c"
)
@pytest.mark.spec("FAPI 2.0 Message Signing §5.3.1 d", "RFC 9126 §3 b")
@pytest.mark.parametrize("case", REJECTED)
def test_bad_request_object_is_rejected(suite: SigningSuite, case: str) -> None:
    """ensure-request-object-without-exp-fails ensure-request-object-without-nbf-fails
    ensure-expired-request-object-fails ensure-request-object-with-bad-aud-fails
    ensure-request-object-with-exp-over-60-fails ensure-request-object-with-nbf-over-60-fails
    ensure-request-object-signature-algorithm-is-not-none ensure-matching-key-in-authorization-request
    par-authorization-request-containing-request_uri"""
    assert is_rejected(suite.push(signing=REJECTED[case](suite)), "invalid_request_object")
    assert suite.push().status == 201, "the rest of the request was valid"


@pytest.mark.spec("RFC 9126 §3 a")
def test_request_object_with_another_signature_is_rejected(suite: SigningSuite) -> None:
    """ensure-request-object-with-invalid-signature-fails"""
    signed = suite.request_object(suite.client, suite.parameters(suite.client))
    changed = signed[:-8] + ("A" if signed[-8] != "A" else "B") + signed[-7:]
    form = {"client_id": suite.client.id, "request": changed} | suite.authentication()
    assert is_rejected(suite.browser.post(PAR, form), "invalid_request_object")


def test_client_with_an_rsa_key_signs_with_ps256_alone(suite: SigningSuite) -> None:
    """ensure-signed-request-object-with-RS256-fails: the suite skips it for other keys."""
    rsa = key_pair("RS256", "rsa")
    client = suite.register(replace(rsa, alg="PS256"))
    assert is_rejected(suite.push(client, signing={"pair": rsa}), "invalid_request_object")
    assert suite.push(client).status == 201


@pytest.mark.spec("FAPI 2.0 Message Signing §5.5.1")
def test_introspection_response_is_signed_for_an_api_that_asks_for_it(suite: SigningSuite) -> None:
    """The plan has no module for it."""
    api = register_resource_server(suite.site)
    update_client(suite.site, api, introspection_signed_response_alg="ES256")
    client = suite.client
    token = suite.redeem(suite.authorize(resource=api.id), resource=api.id).json["access_token"]
    accept = {"Accept": "application/token-introspection+jwt"} | basic(quote_plus(api.id), api.secret or "")
    answer = suite.browser.post("/oauth2/introspect", {"token": token}, accept)
    keys = jwt.PyJWKSet.from_dict(suite.browser.get("/oauth2/jwks").json)
    key = keys[jwt.get_unverified_header(answer.body)["kid"]]
    claims = jwt.decode(answer.body, key, ["ES256"], audience=api.id, issuer=suite.site.settings.issuer)
    assert (answer.status, answer.header("content-type")) == (200, accept["Accept"])
    assert (claims["token_introspection"]["active"], claims["token_introspection"]["client_id"]) == (True, client.id)


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no redirect_uri": ({"redirect_uri": None}, "invalid_request invalid_request_object"),
    "code id_token": ({"response_type": "code id_token"}, "unauthorized_client unsupported_response_type"),
    "token": ({"response_type": "token"}, "unsupported_response_type"),
    "no PKCE": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "plain PKCE": ({"code_challenge": VERIFIER, "code_challenge_method": "plain"}, "invalid_request"),
    "a plain response": ({"response_mode": None}, "invalid_request"),
}


@pytest.mark.spec("FAPI 2.0 Message Signing §5.4.1")
@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_request_in_a_request_object_is_rejected(suite: SigningSuite, case: str) -> None:
    """ensure-request-object-without-redirect-uri-fails ensure-response-type-code-idtoken-fails
    ensure-response-type-token-fails par-ensure-pkce-required par-plain-pkce-rejected"""
    changes, errors = BAD_REQUESTS[case]
    assert is_rejected(suite.push(**changes), *errors.split())


def test_every_module_has_a_test() -> None:
    tests = [value for name, value in vars(sys.modules[__name__]).items() if name.startswith("test_")]
    named = {word.strip(".:") for test in tests for word in (test.__doc__ or "").split()}
    assert {*MODULES} <= named
    text = (CHECKOUT / "docs" / "certification.md").read_text("utf-8")
    assert f"`tests/interop/test_fapi_message_signing_plan.py` repeats the {len(MODULES)} modules" in text
