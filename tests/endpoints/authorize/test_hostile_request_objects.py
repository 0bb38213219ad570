"""Request objects that are malformed or forged: each is rejected, at both endpoints, and nothing is stored."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.authorization.request_object import MAX_LENGTH
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.handles import base64url, from_base64url
from tests.endpoints.authorize.conftest import asks_to_sign_in
from tests.endpoints.par.conftest import PAR
from tests.support.assertions import KeyPair, as_json, key_pair, resolve_claims, sign
from tests.support.browser import Browser, basic
from tests.support.grants import update_client
from tests.support.request_objects import TYPE, authorize_signed, claims_of_request, request_object
from tests.support.site import Registered, Site

pytestmark = pytest.mark.spec("RFC 9101 §6.2 c", "RFC 9101 §10.2", "RFC 9101 §4 a", "RFC 9101 §4 c")
Make = Callable[[Site, Registered], str]
HEADER = {"alg": "ES256", "kid": "key-1", "typ": TYPE}
ATTACKER = key_pair("ES256", "attacker")
RSA = key_pair("RS256", "rsa")
INVALID, REQUEST = "invalid_request_object", "invalid_request"


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return site.client(jwks={"keys": [key_pair().jwk, RSA.jwk]})


def header(pair: Any = None, **changes: Any) -> Make:
    """Return what makes an object with another header, signed by the key of the client, or by another one."""
    changed = {name: value for name, value in (HEADER | changes).items() if value != "ABSENT"}
    return lambda site, client: sign(pair or key_pair(), changed, claims_of_request(site, client))


def claims(**changes: Any) -> Make:
    """Return what makes an object with other claims: NULL is null, and times count from now."""

    def make(site: Site, client: Registered) -> str:
        given = claims_of_request(site, client, **resolve_claims(site, client, changes))
        return sign(key_pair(), HEADER, {name: None if value == "NULL" else value for name, value in given.items()})

    return make


def raw(make: Callable[[bytes], bytes]) -> Make:
    """Return what makes an object whose claims are the bytes that a function makes of the right ones."""
    return lambda site, client: sign(key_pair(), HEADER, make(as_json(claims_of_request(site, client))))


def text(make: Callable[[str], str]) -> Make:
    """Return what changes the text of a valid object."""
    return lambda site, client: make(request_object(site, client))


def part(number: int, make: Callable[[str], str]) -> Make:
    """Return what changes one part of a valid object."""

    def changed(whole: str) -> str:
        parts = whole.split(".")
        parts[number] = make(parts[number])
        return ".".join(parts)

    return text(changed)


def symmetric(secret: Callable[[Registered], bytes]) -> Make:
    """Return what signs with a secret that an attacker knows, or that both sides know."""

    def make(site: Site, client: Registered) -> str:
        signed = ".".join(
            base64url(as_json(each)) for each in (HEADER | {"alg": "HS256"}, claims_of_request(site, client))
        )
        return f"{signed}.{base64url(hmac.digest(secret(client), signed.encode(), hashlib.sha256))}"

    return make


def _pem(_client: Registered) -> bytes:
    encoding = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = key_pair().private.public_key().public_bytes(*encoding)
    return pem


def _last_bits(encoded: str) -> str:
    """Return another spelling of the same bytes: the last bits of the last character have no meaning."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return encoded[:-1] + alphabet[alphabet.index(encoded[-1]) ^ 1]


def _der(encoded: str) -> str:
    octets = from_base64url(encoded)
    return base64url(encode_dss_signature(int.from_bytes(octets[:32]), int.from_bytes(octets[32:])))


def _nested(site: Site, client: Registered) -> str:
    return sign(key_pair(), HEADER | {"cty": "JWT"}, request_object(site, client).encode())


HOSTILE: dict[str, tuple[Make, str]] = {
    # ---- algorithms
    "alg None": (header(alg="None"), INVALID),
    "alg nOnE": (header(alg="nOnE"), INVALID),
    "alg empty": (header(alg=""), INVALID),
    "no alg": (header(alg="ABSENT"), INVALID),
    "alg a list": (header(alg=["ES256"]), INVALID),
    "alg an object": (header(alg={"ES256": 1}), INVALID),
    "alg a number": (header(alg=256), INVALID),
    "alg null": (header(alg=None), INVALID),
    "alg es256": (header(alg="es256"), INVALID),
    "alg ES384": (header(alg="ES384"), INVALID),
    "alg ES256K": (header(alg="ES256K"), INVALID),
    "alg RS1": (header(RSA, kid="rsa", alg="RS1"), INVALID),
    "alg RS512": (header(RSA, kid="rsa", alg="RS512"), INVALID),
    "alg of another type than the key": (header(alg="RS256"), INVALID),
    "alg EdDSA with an EC key": (header(alg="EdDSA"), INVALID),
    "HS256 with the public key as PEM": (symmetric(_pem), INVALID),
    "HS256 with the public key as JWK": (symmetric(lambda _: as_json(key_pair().jwk)), INVALID),
    "HS256 with the client secret": (symmetric(lambda client: (client.secret or "").encode()), INVALID),
    "HS256 with an empty secret": (symmetric(lambda _: b""), INVALID),
    # ---- headers
    "crit": (header(crit=["exp"], exp=1), INVALID),
    "crit empty": (header(crit=[]), INVALID),
    "b64 false": (header(b64=False, crit=["b64"]), INVALID),
    "b64 without crit": (header(b64=False), INVALID),
    "b64 true": (header(b64=True), INVALID),
    "jwk of the attacker": (header(ATTACKER, jwk=ATTACKER.jwk), INVALID),
    "jwk of the attacker, its kid": (header(ATTACKER, kid="attacker", jwk=ATTACKER.jwk), INVALID),
    "jwk of the attacker, no kid": (header(ATTACKER, kid="ABSENT", jwk=ATTACKER.jwk), INVALID),
    "jwk with the private key": (header(ATTACKER, jwk=ATTACKER.private_jwk), INVALID),
    "jku of the attacker": (header(ATTACKER, jku="https://evil.example/jwks"), INVALID),
    "x5u of the attacker": (header(ATTACKER, x5u="https://evil.example/cert.pem"), INVALID),
    "x5c of the attacker": (header(ATTACKER, x5c=["MIIB"]), INVALID),
    "x5t of the attacker": (header(ATTACKER, **{"x5t#S256": "x" * 43}), INVALID),
    "kid unknown": (header(kid="key-2"), INVALID),
    "kid empty": (header(kid=""), INVALID),
    "kid a path": (header(kid="../../../../dev/null"), INVALID),
    "kid a query": (header(kid="' OR 1=1 --"), INVALID),
    "kid a number": (header(kid=1), INVALID),
    "kid a list": (header(kid=["key-1"]), INVALID),
    "kid an object": (header(kid={"kid": "key-1"}), INVALID),
    "kid of another key": (header(kid="rsa"), INVALID),
    "kid a lone surrogate": (header(kid="\ud800"), INVALID),
    "typ of a proof": (header(typ="dpop+jwt"), INVALID),
    "typ of an access token": (header(typ="at+jwt"), INVALID),
    "typ of an assertion": (header(typ="client-authentication+jwt"), INVALID),
    "typ of a logout token": (header(typ="logout+jwt"), INVALID),
    "typ a number": (header(typ=1), INVALID),
    "typ null": (header(typ=None), INVALID),
    "typ empty": (header(typ=""), INVALID),
    "a repeated alg": (
        lambda site, client: sign(
            key_pair(), b'{"alg":"none","kid":"key-1","alg":"ES256"}', claims_of_request(site, client)
        ),
        INVALID,
    ),
    "a header that is a list": (
        lambda site, client: sign(key_pair(), [HEADER], claims_of_request(site, client)),
        INVALID,
    ),
    "a header that is no JSON": (lambda site, client: sign(key_pair(), b"{", claims_of_request(site, client)), INVALID),
    # ---- encodings
    "empty parts": (text(lambda _: ".."), INVALID),
    "no dots": (text(lambda whole: whole.replace(".", "")), INVALID),
    "two parts": (text(lambda whole: whole.rpartition(".")[0]), INVALID),
    "four parts": (text(lambda whole: whole + ".AAAA"), INVALID),
    "encrypted": (lambda _site, _client: "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AA.AA.AA.AA", INVALID),
    "JSON serialization": (
        lambda site, client: json.dumps(
            dict(zip(("protected", "payload", "signature"), request_object(site, client).split("."), strict=True))
        ),
        INVALID,
    ),
    "a nested JWT": (_nested, INVALID),
    "no claims": (part(1, lambda _: ""), INVALID),
    "padding": (part(1, lambda each: each + "="), INVALID),
    "standard base64": (part(2, lambda each: base64.b64encode(from_base64url(each)).decode() + "+/"), INVALID),
    "a space": (text(lambda whole: f" {whole}"), INVALID),
    "a space inside": (text(lambda whole: whole.replace(".", ". ", 1)), INVALID),
    "another spelling of the signature": (part(2, _last_bits), INVALID),
    "other digits": (text(lambda whole: whole.replace(".", "\uff0e")), INVALID),
    "too long": (text(lambda whole: "A" * (MAX_LENGTH - 64 * 40) + whole), INVALID),
    # ---- signatures
    "no signature": (part(2, lambda _: ""), INVALID),
    "half a signature": (part(2, lambda each: each[:43]), INVALID),
    "a signature of zeros": (part(2, lambda _: base64url(bytes(64))), INVALID),
    "a signature in DER": (part(2, _der), INVALID),
    "a longer signature": (part(2, lambda each: base64url(from_base64url(each) + b"\0")), INVALID),
    "a signature of something else": (
        lambda site, client: (
            request_object(site, client, state="a").rpartition(".")[0]
            + "."
            + request_object(site, client, state="b").rpartition(".")[2]
        ),
        INVALID,
    ),
    "another key": (lambda site, client: request_object(site, client, ATTACKER, {"kid": "key-1"}), INVALID),
    "another key, its own kid": (lambda site, client: request_object(site, client, ATTACKER), INVALID),
    # ---- JSON
    "claims a list": (raw(lambda whole: b"[" + whole + b"]"), INVALID),
    "claims null": (raw(lambda _: b"null"), INVALID),
    "claims a text": (raw(lambda _: b'"x"'), INVALID),
    "claims cut off": (raw(lambda whole: whole[:-1]), INVALID),
    "claims and more": (raw(lambda whole: whole + b"{}"), INVALID),
    "claims no UTF-8": (raw(lambda whole: whole.replace(b"af0ifjsldkj", b"\xff\xfe")), INVALID),
    "claims with a mark of byte order": (raw(lambda whole: b"\xef\xbb\xbf" + whole), INVALID),
    "claims in UTF-16": (raw(lambda whole: whole.decode().encode("utf-16")), INVALID),
    "claims nested deeply": (raw(lambda whole: whole[:-1] + b',"claims":' + b"[" * 9000 + b"]" * 9000 + b"}"), INVALID),
    "a repeated redirect_uri": (raw(lambda whole: b'{"redirect_uri":"https://evil.example/",' + whole[1:]), INVALID),
    "a repeated client_id": (raw(lambda whole: b'{"client_id":"x",' + whole[1:]), INVALID),
    "a repeated unknown member": (raw(lambda whole: b'{"x":1,"x":2,' + whole[1:]), INVALID),
    "exp NaN": (raw(lambda whole: whole.replace(b'"exp":', b'"exp":NaN,"_":')), INVALID),
    "exp Infinity": (raw(lambda whole: whole.replace(b'"exp":', b'"exp":Infinity,"_":')), INVALID),
    "exp 1e999": (raw(lambda whole: whole.replace(b'"exp":', b'"exp":1e999,"_":')), INVALID),
    "exp of 5,000 digits": (raw(lambda whole: whole.replace(b'"exp":', b'"exp":' + b"9" * 5000 + b',"_":')), INVALID),
    # ---- who sent it, and for whom
    "no iss": (claims(iss=None), INVALID),
    "iss another client": (claims(iss="other"), INVALID),
    "iss a list": (claims(iss=["CLIENT"]), INVALID),
    "no client_id": (claims(client_id=None), INVALID),
    "client_id another client": (claims(client_id="other"), INVALID),
    "client_id a list": (claims(client_id=["CLIENT"]), INVALID),
    "no aud": (claims(aud=None), INVALID),
    "aud another server": (claims(aud="https://other.example.com"), INVALID),
    "aud with a slash": (claims(aud="http://127.0.0.1/"), INVALID),
    "aud the token endpoint": (claims(aud="TOKEN"), INVALID),
    "aud an empty list": (claims(aud=[]), INVALID),
    "aud a list without the issuer": (claims(aud=["TOKEN", "https://other.example.com"]), INVALID),
    "aud a list with a number": (claims(aud=["ISSUER", 1]), INVALID),
    "aud a list in a list": (claims(aud=[["ISSUER"]]), INVALID),
    "aud an object": (claims(aud={"ISSUER": 1}), INVALID),
    "sub the client": (claims(sub="CLIENT"), INVALID),
    "request inside": (claims(request="e30.e30.e30"), INVALID),
    "request inside, empty": (claims(request=""), INVALID),
    "request_uri inside": (claims(request_uri="https://client.example.com/request.jwt"), INVALID),
    "request_uri of a pushed request inside": (claims(request_uri="urn:ietf:params:oauth:request_uri:req_x"), INVALID),
    # ---- times
    "no exp": (claims(exp=None), INVALID),
    "exp null": (claims(exp="NULL"), INVALID),
    "exp a text": (claims(exp="9999999999"), INVALID),
    "exp true": (claims(exp=True), INVALID),
    "exp a list": (claims(exp=[60]), INVALID),
    "exp in the past": (claims(exp=-60), INVALID),
    "exp negative": (claims(exp=-(2**40)), INVALID),
    "exp far ahead": (claims(exp=3661, nbf=None, iat=None), INVALID),
    "exp huge": (claims(exp=2**60), INVALID),
    "nbf a text": (claims(nbf="0"), INVALID),
    "nbf null": (claims(nbf="NULL"), INVALID),
    "nbf in the future": (claims(nbf=61), INVALID),
    "nbf more than an hour ago": (claims(nbf=-3661, exp=60), INVALID),
    "an hour and a second from nbf to exp": (claims(nbf=-10, exp=3591), INVALID),
    "iat in the future": (claims(iat=61), INVALID),
    "iat false": (claims(iat=False), INVALID),
    # ---- parameters of the wrong type or value
    "state a number": (claims(state=1), INVALID),
    "state null": (claims(state="NULL"), INVALID),
    "scope a list": (claims(scope=["openid"]), INVALID),
    "nonce an object": (claims(nonce={"a": 1}), INVALID),
    "prompt true": (claims(prompt=True), INVALID),
    "code_challenge a number": (claims(code_challenge=1), INVALID),
    "max_age a fraction": (claims(max_age=1.5), INVALID),
    "max_age true": (claims(max_age=True), INVALID),
    "max_age huge": (claims(max_age=10**30), REQUEST),
    "max_age negative": (claims(max_age=-1), REQUEST),
    "claims a number": (claims(claims=1), INVALID),
    "claims a list of members": (claims(claims=[]), REQUEST),
    "resource a list of numbers": (claims(resource=[1]), INVALID),
    "resource an object": (claims(resource={}), INVALID),
    "nonce a lone surrogate": (claims(nonce="\ud800"), REQUEST),
    "state a lone surrogate": (claims(state="\ud800"), REQUEST),
    "nonce with a line break": (claims(nonce="a\r\nb"), REQUEST),
    "state too long": (claims(state="s" * 9000), REQUEST),
    "plain PKCE": (claims(code_challenge_method="plain"), REQUEST),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_request_object_is_rejected(site: Site, browser: Browser, client: Registered, case: str) -> None:
    make, error = HOSTILE[case]
    sent = make(site, client)
    answer = authorize_signed(browser, client, sent) if len(sent) < 50000 else None
    if answer:
        assert answer.location.startswith("https://client.example.com/cb?"), case
        assert (answer.answer["error"], "code" in answer.answer) == (error, False), answer.answer
    form = {"client_id": client.id, "request": sent}
    for path, headers in ((PAR, basic(client.id, client.secret or "")), ("/oauth2/authorize", {})):
        posted = browser.post(path, form, headers)
        answered = posted.json if path == PAR else posted.answer
        assert answered["error"] == error, (path, answered)
    assert not list(site.server.store.requests.scan())


def test_table_is_long_enough_and_its_base_is_valid(site: Site, browser: Browser, client: Registered) -> None:
    assert len(HOSTILE) >= 40
    for make in (header(), claims(), header(RSA, kid="rsa", alg="RS256"), raw(bytes), text(str)):
        assert asks_to_sign_in(authorize_signed(browser, client, make(site, client)))


def test_unsigned_object_is_invalid_where_it_is_pushed(site: Site, browser: Browser, client: Registered) -> None:
    for unsigned in (
        jwt.encode(claims_of_request(site, client), "", "none"),
        sign(key_pair(), HEADER | {"alg": "none"}, claims_of_request(site, client)),
    ):
        answer = browser.post(PAR, {"client_id": client.id, "request": unsigned}, basic(client.id, client.secret or ""))
        assert (answer.status, answer.json["error"]) == (400, INVALID)
        assert authorize_signed(browser, client, unsigned).answer["error"] == "request_not_supported"
    assert not list(site.server.store.requests.scan())


def test_object_that_is_repeated_is_rejected(site: Site, browser: Browser, client: Registered) -> None:
    first, second = request_object(site, client), request_object(site, client)
    answer = browser.get("/oauth2/authorize", client_id=client.id, request=[first, second])
    assert answer.answer["error"] == REQUEST


def test_object_of_one_client_is_not_that_of_another_with_the_same_key(
    site: Site, browser: Browser, client: Registered
) -> None:
    other = site.client(jwks=key_pair().jwks)
    for sent in (
        request_object(site, client),
        request_object(site, client, client_id=other.id),
        request_object(site, client, iss=other.id),
    ):
        assert authorize_signed(browser, other, sent).answer["error"] == INVALID
    assert asks_to_sign_in(authorize_signed(browser, other, request_object(site, other)))


def test_assertion_with_the_parameters_of_a_request_is_not_a_request(
    site: Site, browser: Browser, client: Registered
) -> None:
    parameters = claims_of_request(site, client, sub=client.id)
    sent = sign(key_pair(), {"alg": "ES256", "kid": "key-1"}, parameters)
    assert authorize_signed(browser, client, sent).answer["error"] == INVALID


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_object_with_one_changed_character_is_rejected(
    site: Site, browser: Browser, client: Registered, data: st.DataObject
) -> None:
    whole = request_object(site, client)
    place = data.draw(st.integers(0, len(whole) - 1))
    character = data.draw(st.sampled_from("ABCyz019-_.").filter(lambda each: each != whole[place]))
    answer = authorize_signed(browser, client, whole[:place] + character + whole[place + 1 :])
    assert answer.status == 400 or answer.answer["error"] in (INVALID, "request_not_supported")


@pytest.mark.parametrize("key", ["small", "other curve", "off the curve", "private"])
def test_key_that_cannot_be_registered_verifies_nothing(
    site: Site, browser: Browser, client: Registered, key: str
) -> None:
    """Such a key is refused at registration. If a record has it anyway, nothing that it signs is accepted."""
    small = KeyPair("RS256", "weak", rsa.generate_private_key(public_exponent=65537, key_size=1024))
    curve = KeyPair("ES256", "weak", ec.generate_private_key(ec.SECP256R1()))
    other = {"kty": "EC", "crv": "secp256k1", "kid": "weak", "x": curve.jwk["x"], "y": curve.jwk["y"]}
    jwk, pair = {
        "small": (small.jwk, small),
        "other curve": (other, curve),
        "off the curve": (curve.jwk | {"y": base64url(bytes(32))}, curve),
        "private": (curve.private_jwk, curve),
    }[key]
    with pytest.raises(InvalidClientMetadata, match="jwks"):
        site.client(jwks={"keys": [jwk]})
    if key in ("other curve", "off the curve"):
        update_client(site, client, jwks={"keys": (jwk,)})
        assert authorize_signed(browser, client, request_object(site, client, pair)).answer["error"] == INVALID
