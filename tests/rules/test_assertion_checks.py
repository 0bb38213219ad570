"""The checks of client assertions (RFC 7523), one at a time: each says what is wrong."""

import re
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.clients.assertions import (
    CLOCK_DIFFERENCE,
    MAX_CLIENT_ID,
    MAX_JTI,
    MAX_LIFETIME,
    TYPE,
    Assertion,
    check_times,
    find_problem,
    read_assertion,
)
from chalicelib.http.messages import Params
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClient, InvalidRequest
from tests.support.assertions import claims_of_assertion, key_pair, sign
from tests.support.site import Site

HEADER = {"alg": "ES256", "kid": "key-1"}
CLIENT = Client("client", "Client", (), jwks=key_pair().jwks, token_endpoint_auth_methods=("private_key_jwt",))


def make(site: Site, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return an assertion, in which ABSENT leaves a claim out, and NULL is null."""
    claims = claims_of_assertion(site, "client") | changes
    claims = {name: None if value == "NULL" else value for name, value in claims.items() if value != "ABSENT"}
    return sign(key_pair(), HEADER | (header or {}), claims)


def read(text: str, **beside: str) -> Assertion:
    form = Params({"client_assertion": text, "client_assertion_type": TYPE, **beside}.items())
    assertion = read_assertion(form)
    assert assertion
    return assertion


SIGNER, AUDIENCE = "The iss and the sub of the client_assertion", "must have one audience"
JTI, TIMES = "must have a jti of at most 256", "must have an exp, and times must be numbers"
PURPOSE = "a JWT for another purpose"
REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    "alg none": ({"header": {"alg": "none"}}, "algorithm that is not supported"),
    "alg HS256": ({"header": {"alg": "HS256"}}, "algorithm that is not supported"),
    "a request object": ({"header": {"typ": "oauth-authz-req+jwt"}}, PURPOSE),
    "a request object, with its prefix": ({"header": {"typ": "application/oauth-authz-req+jwt"}}, PURPOSE),
    "a proof": ({"header": {"typ": "dpop+jwt"}}, PURPOSE),
    "no sub": ({"sub": "ABSENT"}, SIGNER),
    "an empty client_id": ({"sub": "", "iss": ""}, SIGNER),
    "a number as client_id": ({"sub": 1, "iss": 1}, SIGNER),
    "a long client_id": ({"sub": "c" * (MAX_CLIENT_ID + 1), "iss": "c" * (MAX_CLIENT_ID + 1)}, SIGNER),
    "a client_id beyond ASCII": ({"sub": "é", "iss": "é"}, SIGNER),
    "another iss": ({"iss": "other"}, SIGNER),
    "no iss": ({"iss": "ABSENT"}, SIGNER),
    "no aud": ({"aud": "ABSENT"}, AUDIENCE),
    "two aud": ({"aud": ["a", "b"]}, AUDIENCE),
    "no aud in a list": ({"aud": []}, AUDIENCE),
    "a number as aud": ({"aud": 1}, AUDIENCE),
    "a number in a list as aud": ({"aud": [1]}, AUDIENCE),
    "no jti": ({"jti": "ABSENT"}, JTI),
    "an empty jti": ({"jti": ""}, JTI),
    "a number as jti": ({"jti": 1}, JTI),
    "a long jti": ({"jti": "j" * (MAX_JTI + 1)}, JTI),
    "no exp": ({"exp": "ABSENT"}, TIMES),
    "exp zero": ({"exp": 0}, TIMES),
    "exp negative": ({"exp": -1}, TIMES),
    "exp true": ({"exp": True}, TIMES),
    "exp huge": ({"exp": 2**53}, TIMES),
    "a text as exp": ({"exp": "1893456000"}, TIMES),
    "iat null": ({"iat": "NULL"}, TIMES),
    "nbf false": ({"nbf": False}, TIMES),
    "a text as nbf": ({"nbf": "1"}, TIMES),
}


@pytest.mark.parametrize("case", REJECTED)
def test_error_says_what_is_wrong_with_an_assertion(site: Site, case: str) -> None:
    changes, problem = REJECTED[case]
    with pytest.raises(InvalidClient, match=re.escape(problem)):
        read(make(site, **changes))


def test_client_id_beside_an_assertion_is_its_sub(site: Site) -> None:
    assert read(make(site), client_id="client").client_id == read(make(site)).client_id == "client"
    with pytest.raises(InvalidClient, match="is not the sub"):
        read(make(site), client_id="other")


@pytest.mark.parametrize("name", ["client_assertion", "client_assertion_type"])
def test_assertion_and_its_type_are_sent_together(name: str) -> None:
    assert read_assertion(Params()) is None
    with pytest.raises(InvalidRequest, match="together"):
        read_assertion(Params([(name, TYPE)]))


def test_assertion_of_another_type_is_refused(site: Site) -> None:
    with pytest.raises(InvalidClient, match="client_assertion_type must be"):
        read(make(site), client_assertion_type="urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
    with pytest.raises(InvalidClient, match="is not a JWT"):
        read("x.y.z")


def test_limits_of_an_assertion_are_accepted(site: Site) -> None:
    longest = "c" * MAX_CLIENT_ID
    assert read(make(site, sub=longest, iss=longest, jti="j" * MAX_JTI)).client_id == longest
    assert read(make(site, iat="ABSENT", aud=["a"])).audience == "a"
    assert read(make(site, exp=2**53 - 1)).expires_at == 2**53 - 1


@pytest.mark.parametrize(
    ("name", "seconds", "problem"),
    [
        ("exp", -CLOCK_DIFFERENCE, "has expired"),
        ("exp", MAX_LIFETIME + CLOCK_DIFFERENCE + 1, "more than an hour ahead"),
        ("iat", CLOCK_DIFFERENCE + 1, "not valid yet"),
        ("nbf", CLOCK_DIFFERENCE + 1, "not valid yet"),
    ],
)
def test_times_of_an_assertion_have_limits(site: Site, name: str, seconds: int, problem: str) -> None:
    def check(after: int) -> None:
        changes: dict[str, Any] = {name: site.clock.time + after}
        check_times(site.server, read(make(site, **changes)))

    with pytest.raises(InvalidClient, match=problem):
        check(seconds)
    check(seconds + (1 if seconds < 0 else -1))


# ---- which client has made it


def problem_of(site: Site, text: str, **changes: Any) -> str:
    server = replace(site.server, addresses={"token_endpoint": "/oauth2/token"})
    return find_problem(server, replace(CLIENT, **changes), read(text))


def test_log_says_why_an_assertion_does_not_authenticate(site: Site) -> None:
    issuer, endpoint = site.settings.issuer, f"{site.settings.issuer}/oauth2/token"
    assert problem_of(site, make(site)) == ""
    assert "not the issuer" in problem_of(site, make(site, aud=endpoint))
    assert problem_of(site, make(site, aud=endpoint), assertion_audience="token_endpoint") == ""
    assert problem_of(site, make(site, aud=issuer), assertion_audience="token_endpoint") == ""
    assert problem_of(site, make(site, aud=[issuer])) == ""
    assert "is an array" in problem_of(site, make(site, aud=[issuer]), profile="fapi2")
    rs256 = sign(key_pair("RS256", "key-1"), {"alg": "RS256"}, claims_of_assertion(site, "client"))
    keys = key_pair("RS256", "key-1").jwks
    assert problem_of(site, rs256, jwks=keys) == ""
    assert "FAPI 2.0 does not allow" in problem_of(site, rs256, jwks=keys, profile="fapi2")
    methods = {"token_endpoint_auth_methods": ("client_secret_basic",)}
    assert "not registered for private_key_jwt" in problem_of(site, make(site), **methods)
    assert "no key of the client" in problem_of(site, make(site), jwks=key_pair("ES256", "b").jwks)
