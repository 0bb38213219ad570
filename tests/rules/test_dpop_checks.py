"""The checks of DPoP proofs (RFC 9449 section 4.3), one at a time: each says what is wrong."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.dpop import MAX_AGE, MAX_AHEAD, MAX_JTI, MAX_LENGTH, NONCE_PERIOD, Proof, access_token_hash
from chalicelib.protocol.errors import InvalidDpopProof, UseDpopNonce
from chalicelib.tokens.dpop import read_proof, verify_proof
from tests.support.assertions import key_pair
from tests.support.proofs import TOKEN, make_proof
from tests.support.site import Site

CLIENT = Client("client", "Client", ())
ACCESS_TOKEN = "an access token"


def verify(site: Site, text: str, client: Client = CLIENT, token: str | None = None) -> Proof:
    return verify_proof(site.server, Request("POST", TOKEN, headers={"dpop": text}), client, token)


def claims(**changes: Any) -> Callable[[Site], str]:
    return lambda site: make_proof(site, **changes)


def times(**changes: int) -> Callable[[Site], str]:
    """Return what makes a proof whose times count from now."""

    def make(site: Site) -> str:
        resolved: dict[str, Any] = {name: site.clock.time + value for name, value in changes.items()}
        return make_proof(site, **resolved)

    return make


def header(**changes: Any) -> Callable[[Site], str]:
    return lambda site: make_proof(site, header=changes)


NO_JWT = "it is not a JWT without extensions"
KEY = "the jwk in its header must be a public key"
ONE_KEY = "its header may have a key in jwk only"
ALG = "its alg must be one of ES256"
JTI = "its jti must have 1 to 128 ASCII characters"
IAT = "it must have an iat, and times must be numbers"
AGE = "its iat must be at most"
EXPIRED = "it has expired, or is not valid yet"
REJECTED: dict[str, tuple[Callable[[Site], str], str]] = {
    "too long": (lambda site: make_proof(site) + "A" * MAX_LENGTH, "longer than 4096 characters"),
    "two headers": (lambda site: f"{make_proof(site)}, {make_proof(site)}", "there must be one DPoP header"),
    "a comma": (lambda site: f"{make_proof(site)},", "there must be one DPoP header"),
    "empty": (lambda _site: "", NO_JWT),
    "crit": (header(crit=["exp"]), NO_JWT),
    "another typ": (header(typ="jwt"), "its typ must be dpop+jwt"),
    "alg none": (header(alg="none"), ALG),
    "alg HS256": (header(alg="HS256"), ALG),
    "jku": (header(jku="https://a.example/jwks"), ONE_KEY),
    "x5c": (header(x5c=["MIIB"]), ONE_KEY),
    "x5t#S256": (header(**{"x5t#S256": "x"}), ONE_KEY),
    "no jwk": (header(jwk=None), KEY),
    "a private key": (header(jwk=key_pair().private_jwk), KEY),
    "no jti": (claims(jti=None), JTI),
    "an empty jti": (claims(jti=""), JTI),
    "a number as jti": (claims(jti=7), JTI),
    "a long jti": (claims(jti="j" * (MAX_JTI + 1)), JTI),
    "a jti beyond ASCII": (claims(jti="é"), JTI),
    "another method": (claims(htm="GET"), "its htm must be POST"),
    "no method": (claims(htm=None), "its htm must be POST"),
    "another address": (claims(htu="https://a.example/oauth2/token"), "its htu must be the address"),
    "a number as address": (claims(htu=1), "its htu must be the address"),
    "no iat": (claims(iat=None), IAT),
    "a text as iat": (claims(iat="1"), IAT),
    "iat true": (claims(iat=True), IAT),
    "exp true": (claims(exp=True), IAT),
    "a text as nbf": (claims(nbf="1"), IAT),
    "too old": (times(iat=-MAX_AGE - 1), AGE),
    "too far ahead": (times(iat=MAX_AHEAD + 1), AGE),
    "expired": (times(exp=-MAX_AHEAD - 1), EXPIRED),
    "not valid yet": (times(nbf=MAX_AHEAD + 1), EXPIRED),
    "another key": (
        lambda site: make_proof(site, pair=key_pair("ES256", "b"), header={"jwk": key_pair().jwk}),
        "the key in its header has not signed it",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
def test_error_says_what_is_wrong_with_a_proof(site: Site, case: str) -> None:
    make, problem = REJECTED[case]
    with pytest.raises(InvalidDpopProof, match=re.escape(problem)):
        verify(site, make(site))


@pytest.mark.parametrize(
    "make",
    [
        claims(jti="j" * MAX_JTI),
        times(iat=-MAX_AGE),
        times(iat=MAX_AHEAD),
        times(exp=-MAX_AHEAD),
        times(nbf=MAX_AHEAD),
        claims(ath="of no token"),
    ],
)
def test_limits_of_a_proof_are_accepted(site: Site, make: Callable[[Site], str]) -> None:
    assert verify(site, make(site)).jkt


def test_proof_for_an_access_token_has_its_hash(site: Site) -> None:
    for ath in (None, access_token_hash("another"), ACCESS_TOKEN):
        with pytest.raises(InvalidDpopProof, match="its ath must be"):
            verify(site, make_proof(site, ath=ath), token=ACCESS_TOKEN)
    assert verify(site, make_proof(site, ath=access_token_hash(ACCESS_TOKEN)), token=ACCESS_TOKEN).jkt


def test_proof_of_a_client_with_a_profile_has_an_algorithm_of_it(site: Site) -> None:
    text, bank = make_proof(site, pair=key_pair("RS256")), Client("client", "Client", (), profile="fapi2")
    assert verify(site, text).jkt
    with pytest.raises(InvalidDpopProof, match="PS256, ES256, EdDSA for this client"):
        verify(site, text, bank)


# ---- nonces


WITH_NONCE = Client("client", "Client", (), dpop_nonce_required=True)


def nonce_of(site: Site) -> str:
    """Return the nonce that the server gives to a proof without one."""
    http = Request("POST", TOKEN, headers={"dpop": make_proof(site)})
    with pytest.raises(UseDpopNonce):
        verify_proof(site.server, http, WITH_NONCE)
    (offered,) = http.answer_headers
    return offered["DPoP-Nonce"]


def test_nonce_is_of_this_period_or_the_last(site: Site) -> None:
    site.clock.advance(NONCE_PERIOD - site.clock.time % NONCE_PERIOD)  # a period begins
    nonce = nonce_of(site)
    assert verify(site, make_proof(site, nonce=nonce), WITH_NONCE).jkt
    site.clock.advance(2 * NONCE_PERIOD - 1)
    assert verify(site, make_proof(site, nonce=nonce), WITH_NONCE).jkt
    site.clock.advance(1)
    with pytest.raises(UseDpopNonce):
        verify(site, make_proof(site, nonce=nonce), WITH_NONCE)


@pytest.mark.parametrize("nonce", [1, "", "x", "0.AAAAAAAAAAAAAAAAAAAAAA", ["x"]])
def test_nonce_that_the_server_has_not_issued_is_refused_from_every_client(site: Site, nonce: Any) -> None:
    http = Request("POST", TOKEN, headers={"dpop": make_proof(site, nonce=nonce)})
    with pytest.raises(UseDpopNonce):
        verify_proof(site.server, http, CLIENT)
    assert [list(each) for each in http.answer_headers] == [["DPoP-Nonce"]]
    assert verify(site, make_proof(site, nonce=nonce_of(site))).jkt


def test_tag_of_another_period_is_no_nonce(site: Site) -> None:
    period, _, tag = nonce_of(site).partition(".")
    with pytest.raises(UseDpopNonce):
        verify(site, make_proof(site, nonce=f"{int(period) + 1}.{tag}"))


def test_only_a_client_that_must_send_a_nonce_is_always_given_one(site: Site) -> None:
    for required in (True, None):
        http = Request("POST", TOKEN, headers={"dpop": make_proof(site, nonce=nonce_of(site))})
        verify_proof(site.server, http, Client("client", "Client", (), dpop_nonce_required=required))
        assert len(http.answer_headers) == (1 if required else 0)


# ---- clients that must send a proof


def test_client_that_was_deleted_or_changed_is_not_taken_from_the_cache(site: Site) -> None:
    client, http = site.client(dpop_bound_access_tokens=True).record, Request("POST", TOKEN)
    for record in (client, None):
        if record is None:
            site.server.store.clients.delete(client.client_id)
        with pytest.raises(InvalidDpopProof, match="The DPoP header is missing"):
            read_proof(site.server, http, client)
    assert read_proof(site.server, http, CLIENT) is None
