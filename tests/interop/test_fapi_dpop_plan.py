"""The modules about DPoP of the OpenID Foundation's plan FAPI 2.0 Security Profile Final, and its flow with DPoP.

The suite sends a new proof with each request. Each docstring names its modules, as in `test_fapi_plan`.
"""

import sys
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.keys.signing import thumbprint
from infra.local.state import CHECKOUT
from tests.interop.fapi_suite import KEY, OTHER, PAR, TOKEN, Suite, is_rejected
from tests.interop.test_fapi_plan import DPOP_MODULES
from tests.support.assertions import key_pair
from tests.support.browser import Answer, Browser
from tests.support.proofs import USERINFO, make_proof, public_jwk, userinfo, with_token
from tests.support.site import Registered, Site

JKT, OTHER_JKT = (thumbprint(public_jwk(pair)) for pair in (KEY, OTHER))


@pytest.fixture
def suite(site: Site, browser: Browser) -> Suite:
    return Suite(site, browser)


def code_of(suite: Suite, client: Registered | None = None, headers: dict[str, str] | None = None, **more: Any) -> str:
    """Push a request that is accepted, and answer it; return the code."""
    answer = suite.push(client, headers=headers, **more)
    assert answer.status == 201, answer.body
    return suite.answer(suite.open(answer.json["request_uri"], client), client=client)["code"]


def is_accepted(suite: Suite, answer: Answer) -> bool:
    """Return whether a token response has an access token that UserInfo accepts with a proof."""
    assert (answer.status, answer.json["token_type"]) == (200, "DPoP"), answer.body
    return userinfo(suite.browser, answer.json["access_token"], pair=KEY).status == 200


@pytest.mark.parametrize("at_par", [True, False], ids=["proof at PAR", "no proof at PAR"])
def test_both_clients_complete_the_flow(suite: Suite, at_par: bool) -> None:
    """ensure-dpopproof-at-par-endpoint-binding-success, and happy-flow"""
    for client in (suite.client, suite.second):
        code = code_of(suite, client, suite.proof(PAR) if at_par else None)
        assert is_accepted(suite, suite.redeem(code, client, headers=suite.proof()))


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 l")
def test_code_is_bound_by_dpop_jkt(suite: Suite) -> None:
    """ensure-dpop-auth-code-binding-success"""
    assert is_accepted(suite, suite.redeem(code_of(suite, dpop_jkt=JKT), headers=suite.proof()))


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 d", "FAPI 2.0 Security Profile §5.3.2.1 e")
def test_token_is_not_issued_without_a_proof(suite: Suite) -> None:
    """ensure-holder-of-key-required"""
    code = code_of(suite)
    assert is_rejected(suite.redeem(code, headers={}), "invalid_dpop_proof", "invalid_request", "invalid_grant")
    assert is_accepted(suite, suite.redeem(code, headers=suite.proof()))


def test_proof_may_have_nbf_and_exp(suite: Suite) -> None:
    """check-dpop-proof-nbf-exp"""
    now = suite.site.clock.time
    times: dict[str, Any] = {"nbf": now, "exp": now + 300}
    tokens = suite.redeem(code_of(suite, headers=suite.proof(PAR, **times)), headers=suite.proof(**times)).json
    assert userinfo(suite.browser, tokens["access_token"], pair=KEY, **times).status == 200


@pytest.mark.parametrize("seconds", [-10, 10])
def test_clock_of_the_client_may_differ_by_10_seconds(suite: Suite, seconds: int) -> None:
    """ensure-dpopproof-with-iat-10seconds-before-succeeds ensure-dpopproof-with-iat-10seconds-after-succeeds"""
    iat = suite.site.clock.time + seconds
    code = code_of(suite, headers=suite.proof(PAR, iat=iat))
    tokens = suite.redeem(code, headers=suite.proof(iat=iat)).json
    assert userinfo(suite.browser, tokens["access_token"], pair=KEY, iat=iat).status == 200


def test_pushed_request_with_two_keys_is_rejected(suite: Suite) -> None:
    """ensure-mismatched-dpop-jkt-fails"""
    answer = suite.push(headers=suite.proof(PAR), dpop_jkt=OTHER_JKT)
    assert is_rejected(answer, "invalid_dpop_proof", "invalid_request")


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 l")
def test_code_is_rejected_with_another_key(suite: Suite) -> None:
    """ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt
    ensure-token-endpoint-fails-with-mismatched-dpop-jkt"""
    for code in (code_of(suite, headers=suite.proof(PAR)), code_of(suite, dpop_jkt=JKT)):
        answer = suite.redeem(code, headers=suite.proof(pair=OTHER))
        assert is_rejected(answer, "invalid_dpop_proof", "invalid_grant", "invalid_request")


def test_refresh_needs_a_proof_and_may_have_another_key(suite: Suite) -> None:
    """With DPoP, refresh-token"""
    code = code_of(suite, headers=suite.proof(PAR), scope="openid offline_access", prompt="consent")
    form = {
        "grant_type": "refresh_token",
        "refresh_token": suite.redeem(code, headers=suite.proof()).json["refresh_token"],
    }
    assert is_rejected(suite.token(suite.second, headers=suite.proof(), **form), "invalid_grant")
    assert is_rejected(suite.token(headers={}, **form), "invalid_dpop_proof")
    answer = suite.token(headers=suite.proof(pair=OTHER), **form)
    assert userinfo(suite.browser, answer.json["access_token"], pair=OTHER).status == 200


# What a negative test changes in the proof for the resource: header, claims, whether it is accepted.
NEGATIVE: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "the same proof as for the token endpoint": ({}, {"htm": "POST", "htu": "TOKEN"}, False),
    "typ is JWT": ({"typ": "JWT"}, {}, False),
    "no typ": ({"typ": None}, {}, False),
    "alg none": ({"alg": "none"}, {}, False),
    "the private key": ({"jwk": KEY.private_jwk}, {}, False),
    "another public key": ({"jwk": public_jwk(OTHER)}, {}, False),
    "no jwk": ({"jwk": None}, {}, False),
    "no alg": ({"alg": None}, {}, False),
    "iat in an hour": ({}, {"iat": "IN AN HOUR"}, False),
    "iat an hour ago": ({}, {"iat": "AN HOUR AGO"}, False),
    "unknown members": ({"unknown": "a"}, {"unknown": "b"}, True),
    "no jti": ({}, {"jti": None}, False),
    "no htm": ({}, {"htm": None}, False),
    "another htm": ({}, {"htm": "PUT"}, False),
    "no htu": ({}, {"htu": None}, False),
    "another htu": ({}, {"htu": "https://www.other.example/"}, False),
    "no iat": ({}, {"iat": None}, False),
    "no ath": ({}, {"ath": None}, False),
    "another ath": ({}, {"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"}, False),
    "an htu with a query and a fragment": ({}, {"htu": "USERINFO?a=b#c"}, True),
    "an htu in capitals": ({}, {"htu": "CAPITALS"}, True),
}


@pytest.mark.spec(
    "FAPI 2.0 Security Profile §5.3.4 e", "FAPI 2.0 Security Profile §5.4.1 a", "FAPI 2.0 Security Profile §5.4.1 c"
)
@pytest.mark.parametrize("case", NEGATIVE)
def test_bad_proof_is_rejected_by_the_resource(suite: Suite, case: str) -> None:
    """dpop-negative-tests"""
    header, claims, accepted = NEGATIVE[case]
    token = suite.redeem(code_of(suite), headers=suite.proof()).json["access_token"]
    issuer = suite.site.settings.issuer
    capitals = (issuer + USERINFO).replace("http:", "HTTP:")
    now = suite.site.clock.time
    names: dict[str, Any] = {"IN AN HOUR": now + 3600, "AN HOUR AGO": now - 3600}
    names |= {"TOKEN": issuer + TOKEN, "USERINFO?a=b#c": f"{issuer}{USERINFO}?a=b#c", "CAPITALS": capitals}
    changes = {name: names.get(str(value), value) for name, value in claims.items()}
    answer = suite.browser.get(USERINFO, with_token(suite.site, token, pair=KEY, header=header, **changes))
    assert answer.status == (200 if accepted else 401), answer.body


def test_resource_needs_one_proof_and_the_scheme(suite: Suite) -> None:
    """dpop-negative-tests"""
    token = suite.redeem(code_of(suite)).json["access_token"]
    headers = with_token(suite.site, token, pair=KEY)
    changed = headers["DPoP"][:-8] + ("A" if headers["DPoP"][-8] != "A" else "B") + headers["DPoP"][-7:]
    for malformed in (changed, headers["DPoP"].rpartition(".")[0], "not a JWT"):
        assert suite.browser.get(USERINFO, headers | {"DPoP": malformed}).status == 401
    again = make_proof(suite.site, USERINFO, "GET", pair=KEY)
    assert suite.browser.get(USERINFO, headers | {"DPoP": f"{headers['DPoP']}, {again}"}).status == 401
    assert suite.browser.get(USERINFO, {"Authorization": headers["Authorization"]}).status == 401
    assert suite.browser.get(USERINFO, headers | {"Authorization": f"Bearer {token}"}).status == 401
    assert suite.browser.get(USERINFO, headers).status == 200


@pytest.mark.spec("RFC 9449 §11.1")
def test_resource_accepts_a_proof_again_while_it_is_new(suite: Suite) -> None:
    """dpop-negative-tests: the suite warns of the second request. UserInfo writes nothing, so it knows no proof."""
    token = suite.redeem(code_of(suite)).json["access_token"]
    headers = with_token(suite.site, token, pair=KEY)
    assert [suite.browser.get(USERINFO, headers).status for _ in range(2)] == [200, 200]
    suite.site.clock.advance(61)
    assert suite.browser.get(USERINFO, headers).status == 401


def test_proof_with_rs256_is_rejected_though_the_token_is_bound_to_its_key(suite: Suite) -> None:
    """dpop-negative-tests: the suite sends it if its key is an RSA key."""
    rsa = key_pair("RS256", "of the proofs")
    ps256 = replace(rsa, alg="PS256")
    token = suite.redeem(code_of(suite), headers=suite.proof(pair=ps256)).json["access_token"]
    assert suite.resource(token, pair=rsa).status == 401
    assert suite.resource(token, pair=ps256).status == 200


def test_every_module_has_a_test() -> None:
    tests = [value for name, value in vars(sys.modules[__name__]).items() if name.startswith("test_")]
    named = {word.strip(".:,") for test in tests for word in (test.__doc__ or "").split()}
    assert {*DPOP_MODULES} <= named
    text = (CHECKOUT / "docs" / "certification.md").read_text("utf-8")
    assert f"repeats {len(DPOP_MODULES)} modules that are about DPoP alone" in text
