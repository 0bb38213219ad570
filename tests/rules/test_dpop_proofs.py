"""DPoP proofs: examples of the RFCs, what each check refuses, and that whatever is changed in a proof is noticed."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.warnings import InsecureKeyLengthWarning

from chalicelib.http.messages import Request
from chalicelib.keys.client_keys import read_public_key
from chalicelib.keys.signing import thumbprint
from chalicelib.protocol.client import Client
from chalicelib.protocol.dpop import MAX_LENGTH, access_token_hash, is_same_address
from chalicelib.protocol.errors import InvalidDpopProof, OAuthError
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.tokens.dpop import ALGORITHMS, verify_proof
from tests.endpoints.par.conftest import push
from tests.support.assertions import KeyPair, as_json, key_pair, sign
from tests.support.browser import Answer, Browser
from tests.support.grants import create_code
from tests.support.proofs import (
    PAR,
    TOKEN,
    USERINFO,
    claims_of_proof,
    header_of_proof,
    make_proof,
    public_jwk,
    with_proof,
)
from tests.support.site import Site, dump_tables

# RFC 9449 section 4.2
RFC_PROOF = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
    "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19."
    "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0"
    "IjoxNTYyMjYyNjE2fQ."
    "2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
RFC_JKT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"  # RFC 9449 section 6.1
RFC_TIME = 1562262616
CLIENT = Client("client", "Client", ())


@pytest.mark.spec("RFC 9449 §4.3 a", "RFC 9449 §6.1")
def test_example_of_rfc_9449_is_verified(site: Site) -> None:
    server = replace(site.server.at("https://server.example.com"), now=lambda: RFC_TIME)
    http = Request("POST", "/token", headers={"dpop": RFC_PROOF})
    assert verify_proof(server, http, CLIENT).jkt == RFC_JKT
    with pytest.raises(InvalidDpopProof):
        verify_proof(replace(server, now=lambda: RFC_TIME + 61), http, CLIENT)


@pytest.mark.spec("RFC 9449 §4.2")
def test_example_of_an_access_token_hash() -> None:
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"  # RFC 9449 section 7.1
    assert access_token_hash(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


@pytest.mark.spec("RFC 7638 §3.1")
def test_example_of_a_thumbprint_whatever_other_members_the_key_has() -> None:
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    key = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "x": "AA", "crv": "P-256"}
    assert thumbprint(read_public_key(key)) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("alg", ALGORITHMS)
@pytest.mark.spec("RFC 9449 §4.3 a")
def test_every_listed_algorithm_is_accepted(site: Site, browser: Browser, alg: str) -> None:
    assert browser.get("/.well-known/openid-configuration").json["dpop_signing_alg_values_supported"] == [*ALGORITHMS]
    pair = key_pair("EdDSA" if alg == "Ed25519" else alg)
    client = site.client()
    proof = make_proof(site, pair=pair, header={"alg": alg})
    answer = browser.redeem(client, create_code(site, client), headers={"DPoP": proof})
    assert (answer.status, answer.json["token_type"]) == (200, "DPoP")


@pytest.mark.parametrize(
    ("htu", "same"),
    [
        ("https://login.example.com/oauth2/token", True),
        ("HTTPS://LOGIN.example.com:443/oauth2/token?a=b#c", True),
        ("https://login.example.com/oauth2/%74oken", True),
        ("https://login.example.com/oauth2/token#?", True),
        ("https://login.example.com/oauth2/Token", False),
        ("https://login.example.com/oauth2/token/", False),
        ("https://login.example.com/api/oauth2/token", False),
        ("https://login.example.com:8443/oauth2/token", False),
        ("http://login.example.com/oauth2/token", False),
        ("https://user@login.example.com/oauth2/token", False),
        ("https://login.example.com@attacker.example/oauth2/token", False),
        ("https://login.example.com/oauth2/x/../token", False),
        ("https://login.example.com/oauth2%2Ftoken", False),
        ("//login.example.com/oauth2/token", False),
        ("/oauth2/token", False),
        (" https://login.example.com/oauth2/token", False),
        ("https://login.example.com/oauth2/token\n", False),
        ("", False),
    ],
)
@pytest.mark.spec("RFC 9449 §4.3 b", "RFC 9449 §4.3 f")
def test_addresses_are_compared_after_normalization(htu: str, same: bool) -> None:
    assert is_same_address(htu, "https://login.example.com/oauth2/token") is same


def test_address_below_a_base_path_is_that_of_the_issuer(site_with: Callable[..., Site]) -> None:
    """A custom domain and a stage leave their path in the event; the htu is that of the configured issuer."""
    site = site_with(issuer="https://login.example.com/api")
    for htu, accepted in (("https://login.example.com/api", True), ("https://login.example.com", False)):
        http = Request("POST", TOKEN, headers={"dpop": make_proof(site, htu=htu + TOKEN)})
        if accepted:
            verify_proof(site.server, http, CLIENT)
        else:
            with pytest.raises(InvalidDpopProof):
                verify_proof(site.server, http, CLIENT)


# ---- hostile proofs


@dataclass
class Target:
    """The request that a proof is for. `more`: further claims that it needs."""

    site: Site
    path: str
    method: str
    more: dict[str, str]

    def proof(self, header: dict[str, Any] | None = None, pair: KeyPair | None = None, **changes: Any) -> str:
        """Return a proof for it with changes of its header and claims."""
        return make_proof(self.site, self.path, self.method, pair, header, **(self.more | changes))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of such a proof."""
        return claims_of_proof(self.site, self.path, self.method, **(self.more | changes))


Make = Callable[[Target], str]


def claims(**changes: Any) -> Make:
    """Return a function that makes a proof with these changes of its claims."""
    return lambda at: at.proof(**changes)


def times(**changes: Any) -> Make:
    """Return a function that makes a proof with times in seconds from now."""
    return lambda at: at.proof(**{name: at.site.clock.time + seconds for name, seconds in changes.items()})


def header(**changes: Any) -> Make:
    """Return a function that makes a proof with these changes of its header."""
    return lambda at: at.proof(header=changes)


def jwk(**changes: Any) -> Make:
    """Return a function that makes a proof whose key has these changes."""
    key = {name: value for name, value in (public_jwk(key_pair()) | changes).items() if value is not None}
    return header(jwk=key)


def parts(change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Make:
    """Return a function that makes a proof with another text of its header and claims, which its key signs."""
    return lambda at: sign(key_pair(), *change(as_json(header_of_proof()), as_json(at.claims())))


def text(change: Callable[[str], str]) -> Make:
    """Return a function that changes the text of a valid proof."""
    return lambda at: change(at.proof())


def raw(part: Callable[[Site], Any], name: str) -> Make:
    """Return a function that makes a proof with a claim whose JSON is given."""
    return lambda at: sign(
        key_pair(),
        header_of_proof(),
        as_json(at.claims(**{name: "VALUE"})).replace(b'"VALUE"', part(at.site)),
    )


def by(pair: KeyPair, **changes: Any) -> Make:
    """Return a function that makes a proof by another key."""
    return lambda at: at.proof(pair=pair, header=changes)


def symmetric(at: Target) -> str:
    with pytest.warns(InsecureKeyLengthWarning):
        return jwt.encode(
            at.claims(),
            "secret",
            "HS256",
            {"typ": "dpop+jwt", "jwk": {"kty": "oct", "k": base64url(b"secret")}},
        )


def p384() -> Make:
    numbers = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    x, y = (base64url(number.to_bytes(48, "big")) for number in (numbers.x, numbers.y))
    return header(alg="ES384", jwk={"kty": "EC", "crv": "P-384", "x": x, "y": y})


OTHER = key_pair("ES256", "another")
SMALL = KeyPair("RS256", "small", rsa.generate_private_key(public_exponent=65537, key_size=1024))
RSA = key_pair("RS256")
HOSTILE: dict[str, Make] = {
    "empty": lambda _: "",
    "no JWT": lambda _: "proof",
    "two parts": text(lambda proof: proof.rpartition(".")[0]),
    "four parts": text(lambda proof: proof + ".AA"),
    "five parts": text(lambda proof: proof + ".AA.AA"),
    "padding": text(lambda proof: proof + "="),
    "another spelling of the base64url": text(lambda proof: proof[:-1] + chr(ord(proof[-1]) + 1)),
    "a scheme": text(lambda proof: f"DPoP {proof}"),
    "two header fields": text(lambda proof: f"{proof}, {proof}"),
    "two header fields without a space": text(lambda proof: f"{proof},{proof}"),
    "an empty second header field": text(lambda proof: f"{proof}, "),
    "too long": claims(padding="x" * MAX_LENGTH),
    "alg none": header(alg="none"),
    "alg none, no signature": text(
        lambda proof: base64url(as_json(header_of_proof(alg="none"))) + "." + proof.split(".")[1] + "."
    ),
    "alg missing": header(alg=None),
    "alg is a list": header(alg=["ES256"]),
    "alg in small letters": header(alg="es256"),
    "symmetric": symmetric,
    "public key as a secret": header(alg="HS256"),
    "another alg than the key's": header(alg="RS256"),
    "PS256 for a key that is for RS256": by(key_pair("PS256"), jwk=public_jwk(key_pair("PS256")) | {"alg": "RS256"}),
    "ES384": p384(),
    "typ missing": header(typ=None),
    "typ JWT": header(typ="JWT"),
    "typ of a client assertion": header(typ="client-authentication+jwt"),
    "typ as a media type": header(typ="application/dpop+jwt"),
    "crit": header(crit=["exp"], exp=1),
    "an empty crit": header(crit=[]),
    "b64": header(b64=False, crit=["b64"]),
    "jku": header(jku="https://attacker.example/jwks"),
    "x5u": header(x5u="https://attacker.example/certificate"),
    "x5c": header(x5c=["MIIB"]),
    "jwk missing": header(jwk=None),
    "jwk is text": header(jwk=json.dumps(public_jwk(key_pair()))),
    "jwk is a list": header(jwk=[public_jwk(key_pair())]),
    "jwk is empty": header(jwk={}),
    "jwk is a set": header(jwk={"keys": [public_jwk(key_pair())]}),
    "another key": header(jwk=public_jwk(OTHER)),
    "a private key": header(jwk=key_pair().private_jwk),
    "a private member": jwk(d="AA"),
    "a private member of another type": jwk(k="AA"),
    "an RSA private member": by(RSA, jwk=public_jwk(RSA) | {"p": "AA"}),
    "a symmetric key": header(jwk={"kty": "oct", "k": "AAAA"}),
    "a point that is not on the curve": jwk(y=public_jwk(OTHER)["y"]),
    "the point at infinity": jwk(x="A" * 43, y="A" * 43),
    "no y": jwk(y=None),
    "a short coordinate": jwk(x="AAAA"),
    "a coordinate that is a number": jwk(x=1),
    "another curve": jwk(crv="P-384"),
    "a curve of another type": jwk(crv="Ed25519"),
    "another type": jwk(kty="RSA"),
    "a type of another kind": jwk(kty=["EC"]),
    "a key for encryption": jwk(use="enc"),
    "a key that signs only": jwk(key_ops=["sign"]),
    "a lone surrogate in the key": jwk(kid="\ud800"),
    "a small RSA key": by(SMALL),
    "RSA with the exponent 1": by(RSA, jwk=public_jwk(RSA) | {"e": "AQ"}),
    "RSA with a large exponent": by(RSA, jwk=public_jwk(RSA) | {"e": "AQABAQABAQAB"}),
    "RSA without an exponent": by(RSA, jwk={"kty": "RSA", "n": public_jwk(RSA)["n"]}),
    "a large RSA key": by(RSA, jwk=public_jwk(RSA) | {"n": "_" * 1368}),
    "jti missing": claims(jti=None),
    "jti empty": claims(jti=""),
    "jti too long": claims(jti="j" * 129),
    "jti is a number": claims(jti=1),
    "jti is a list": claims(jti=["j"]),
    "a lone surrogate in the jti": claims(jti="\ud800"),
    "htm missing": claims(htm=None),
    "htm of another method": claims(htm="PUT"),
    "htm in small letters": lambda at: at.proof(htm=at.method.lower()),
    "htm is a list": lambda at: at.proof(htm=[at.method]),
    "htu missing": claims(htu=None),
    "htu of another endpoint": lambda at: at.proof(htu=at.site.settings.issuer),
    "htu is a path": lambda at: at.proof(htu=at.path),
    "htu of another server": lambda at: at.proof(htu=f"https://as.example{at.path}"),
    "htu without a scheme": lambda at: at.proof(htu=at.site.settings.issuer.partition(":")[2] + at.path),
    "htu with a stage": lambda at: at.proof(htu=f"{at.site.settings.issuer}/api{at.path}"),
    "htu is a list": lambda at: at.proof(htu=[at.site.settings.issuer + at.path]),
    "a lone surrogate in the htu": lambda at: at.proof(htu=at.site.settings.issuer + at.path + "\ud800"),
    "iat missing": claims(iat=None),
    "iat is text": lambda at: at.proof(iat=str(at.site.clock.time)),
    "iat is true": claims(iat=True),
    "iat is negative": claims(iat=-1),
    "iat is a list": claims(iat=[]),
    "iat too old": times(iat=-61),
    "iat just too old": times(iat=-60.001),
    "iat too far ahead": times(iat=11),
    "iat in milliseconds": lambda at: at.proof(iat=at.site.clock.time * 1000),
    "iat is 1e999": raw(lambda _: b"1e999", "iat"),
    "iat is NaN": raw(lambda _: b"NaN", "iat"),
    "iat is Infinity": raw(lambda _: b"Infinity", "iat"),
    "iat has 2,000 digits": raw(lambda _: b"1" * 2000, "iat"),
    "expired": times(exp=-11),
    "not valid yet": times(nbf=11),
    "exp is text": claims(exp="soon"),
    "exp is 1e999, nbf is -1e999, iat is -1e999": raw(lambda _: b'-1e999,"exp":1e999,"nbf":-1e999', "iat"),
    "iat twice": raw(lambda site: f'0,"iat":{site.clock.time}'.encode(), "iat"),
    "jwk twice": parts(lambda head, body: (head[:-1] + b',"jwk":{}}', body)),
    "header is a list": parts(lambda head, body: (b"[" + head + b"]", body)),
    "claims are a list": parts(lambda head, body: (head, b"[" + body + b"]")),
    "claims are null": parts(lambda head, _: (head, b"null")),
    "no JSON": parts(lambda head, body: (head, body[:-1])),
    "not UTF-8": parts(lambda head, body: (head, body[:-1] + b',"x":"\xff"}')),
    "a byte order mark": parts(lambda head, body: (head, b"\xef\xbb\xbf" + body)),
    "nested deeply": parts(lambda head, body: (head, body[:-1] + b',"x":' + b"[" * 1200 + b"]" * 1200 + b"}")),
    "a wrong signature": text(lambda proof: proof[:-12] + "AAAAAAAAAAAA"),
    "an empty signature": text(lambda proof: proof.rpartition(".")[0] + "."),
    "a signature of zeros": text(lambda proof: proof.rpartition(".")[0] + "." + "A" * 86),
    "a signature in DER": text(lambda proof: proof.rpartition(".")[0] + ".MEUCIQ"),
}
NONCES: dict[str, Any] = {
    "forged": "1.AAAAAAAAAAAAAAAAAAAAAA",
    "empty": "",
    "a number": 1,
    "a list": ["1"],
    "a lone surrogate": "\ud800",
    "long": "9" * 500,
    "digits of another script": "\u0661.AAAAAAAAAAAAAAAAAAAAAA",
}


def assert_refused(browser: Browser, endpoint: str, make: Make, error: str) -> None:
    """Assert that a proof is refused with an error, that nothing is changed, and that a valid proof is accepted."""
    site, client = browser.site, browser.site.client()
    target = Target(site, endpoint, "GET" if endpoint == USERINFO else "POST", {})
    code = create_code(site, client, site.user())
    token = ""
    if endpoint == USERINFO:
        token = browser.redeem(client, code, headers=with_proof(site)).json["access_token"]
        target.more = {"ath": access_token_hash(token)}

    def send(proof: str) -> Answer:
        if endpoint == USERINFO:
            return browser.get(USERINFO, {"Authorization": f"DPoP {token}", "DPoP": proof})
        headers = {"DPoP": proof}
        return browser.redeem(client, code, headers=headers) if endpoint == TOKEN else push(browser, client, headers)

    before, challenge = dump_tables(), f'error="{error}"'
    answer = send(make(target))
    assert (answer.status, answer.json["error"]) == (401 if endpoint == USERINFO else 400, error), answer.body
    assert dump_tables() == before
    assert (answer.header("dpop-nonce") is not None) == (error == "use_dpop_nonce")
    if endpoint == USERINFO:
        assert (answer.header("www-authenticate") or "").startswith('DPoP algs="ES256 ')
        assert challenge in (answer.header("www-authenticate") or "")
    assert send(target.proof()).status in (200, 201), "the rest of the request was valid"


@pytest.mark.parametrize("endpoint", [TOKEN, PAR, USERINFO])
@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.spec(
    "RFC 9449 §4.3 a",
    "RFC 9449 §4.3 b",
    "RFC 9449 §4.3 e",
    "RFC 9449 §4.3 g",
    "RFC 9449 §5 d",
    "RFC 9449 §11.1",
    "RFC 9449 §11.5",
    "RFC 9449 §11.6 a",
    "RFC 9449 §11.6 b",
    "RFC 9449 §10.1 a",
)
def test_hostile_proof_is_refused(browser: Browser, case: str, endpoint: str) -> None:
    assert_refused(browser, endpoint, HOSTILE[case], "invalid_dpop_proof")


@pytest.mark.parametrize("endpoint", [TOKEN, PAR, USERINFO])
@pytest.mark.parametrize("case", NONCES)
@pytest.mark.spec("RFC 9449 §4.3 d", "RFC 9449 §8 a", "RFC 9449 §8 c", "RFC 9449 §9")
def test_nonce_of_another_server_is_refused(browser: Browser, case: str, endpoint: str) -> None:
    assert_refused(browser, endpoint, claims(nonce=NONCES[case]), "use_dpop_nonce")


def test_hostile_proofs_are_many() -> None:
    assert len(HOSTILE) + len(NONCES) > 100


# ---- whatever is changed


def outcome(site: Site, proof: str, method: str = "POST") -> str:
    """Return the error that a proof is refused with; empty if it is accepted."""
    try:
        verify_proof(site.server, Request(method, TOKEN, headers={"dpop": proof}), CLIENT)
    except OAuthError as error:
        return error.error
    return ""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, 10**6), octet=st.integers(1, 255), alg=st.sampled_from(("ES256", "EdDSA", "RS256", "PS256"))
)
def test_every_changed_octet_is_noticed(site: Site, place: int, octet: int, alg: str) -> None:
    proof = make_proof(site, pair=key_pair(alg))
    assert outcome(site, proof) == ""
    lengths = [len(from_base64url(part)) for part in proof.split(".")]
    place %= sum(lengths)
    changed = []
    for part in map(from_base64url, proof.split(".")):
        octets = bytearray(part)
        if 0 <= place < len(octets):
            octets[place] ^= octet
        place -= len(octets)
        changed.append(base64url(bytes(octets)))
    assert outcome(site, ".".join(changed)) in ("invalid_dpop_proof", "use_dpop_nonce")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), character=st.characters(codec="latin-1"))
def test_every_changed_character_is_noticed(site: Site, place: int, character: str) -> None:
    proof = make_proof(site)
    place %= len(proof)
    if proof[place] != character:
        assert outcome(site, proof[:place] + character + proof[place + 1 :]) == "invalid_dpop_proof"


JSON = st.recursive(
    # Infinity and NaN are no JSON: the whole proof is malformed, as in HOSTILE.
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(("jti", "htm", "htu", "iat", "nonce", "exp", "nbf")), value=JSON)
def test_wrong_claim_never_causes_another_error(site: Site, name: str, value: Any) -> None:
    given_claims = claims_of_proof(site) | {name: value}
    error = outcome(site, sign(key_pair(), header_of_proof(), given_claims))
    if name in ("htm", "htu"):
        assert error == "invalid_dpop_proof"
    elif name == "nonce":
        assert error == ("" if value is None else "use_dpop_nonce")
    elif name == "jti":
        usable = isinstance(value, str) and value.isascii() and value != ""
        assert error == ("" if usable else "invalid_dpop_proof")
    elif name == "iat":
        now = site.clock.time
        number = isinstance(value, int | float) and not isinstance(value, bool)
        assert error == ("" if number and now - 60 <= value <= now + 10 else "invalid_dpop_proof")
    else:
        assert error in ("", "invalid_dpop_proof")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(("typ", "alg", "jwk", "kty", "crv", "x", "y")), value=JSON)
def test_wrong_header_never_causes_another_error(site: Site, name: str, value: Any) -> None:
    head = header_of_proof()
    if name in head:
        head[name] = value
    else:
        head["jwk"] |= {name: value}
    assert outcome(site, sign(key_pair(), head, claims_of_proof(site))) == "invalid_dpop_proof"
