"""Client authentication by private_key_jwt: assertions of RFC 7523, for the issuer, used once."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jwt
import pytest

from chalicelib.clients.assertions import TYPE
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.handles import base64url
from tests.support import faults
from tests.support.assertions import (
    KeyPair,
    as_json,
    claims_of_assertion,
    key_client,
    key_pair,
    make_assertion,
    resolve_claims,
    sign,
    signed,
    with_assertion,
)
from tests.support.browser import VERIFIER, Answer, Browser, basic
from tests.support.faults import Wire
from tests.support.grants import create_code, update_client
from tests.support.site import Registered, Site, dump_tables
from tests.support.threads import run_concurrently

pytestmark = pytest.mark.spec("RFC 7523 §2.2", "RFC 7523 §3")
SERVICE: dict[str, Any] = {
    "redirect_uris": (),
    "grant_types": ("client_credentials",),
    "response_types": (),
    "scope": "photos.read",
}


@pytest.fixture
def client(site: Site) -> Registered:
    return key_client(site, **SERVICE)


def authenticate(browser: Browser, parameters: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    """Send a token request of a client for itself."""
    return browser.post("/oauth2/token", {"grant_type": "client_credentials", **parameters}, headers)


def is_rejected(answer: Answer, error: str = "invalid_client") -> bool:
    return (answer.status, answer.json["error"]) == (401 if error == "invalid_client" else 400, error)


# ---- what is accepted


@pytest.mark.spec("RFC 9700 §2.5 b")
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
def test_client_authenticates_with_each_algorithm(site: Site, browser: Browser, alg: str) -> None:
    pair = key_pair(alg)
    client = key_client(site, pair, **SERVICE)
    assert client.secret is None
    assert authenticate(browser, signed(site, client, pair=pair)).status == 200


@pytest.mark.parametrize("with_client_id", [True, False])
def test_client_redeems_a_code_and_refreshes(site: Site, browser: Browser, with_client_id: bool) -> None:
    client = key_client(site)
    named = {"client_id": client.id} if with_client_id else {}
    form = {"grant_type": "authorization_code", "code": create_code(site, client), "code_verifier": VERIFIER}
    form |= {"redirect_uri": client.record.redirect_uris[0], **named}
    tokens = browser.post("/oauth2/token", form | signed(site, client)).json
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], **named}
    assert browser.post("/oauth2/token", form).status == 401
    assert browser.post("/oauth2/token", form | signed(site, client)).status == 200


def test_client_authenticates_at_introspection_and_revocation(site: Site, browser: Browser, client: Registered) -> None:
    token = authenticate(browser, signed(site, client)).json["access_token"]
    answer = browser.post("/oauth2/introspect", {"token": token, **signed(site, client)})
    assert answer.json["active"] is True
    assert browser.post("/oauth2/revoke", {"token": token, **signed(site, client)}).status == 200
    answer = browser.post("/oauth2/introspect", {"token": token, **signed(site, client)})
    assert answer.json == {"active": False}


ACCEPTED: dict[str, dict[str, Any]] = {
    "aud is an array of one": {"aud": ["ISSUER"]},
    "typ of rfc7523bis": {"headers": {"typ": "client-authentication+jwt"}},
    "no iat": {"iat": None},
    "iat by a clock that is ahead": {"iat": 60},
    "nbf by a clock that is ahead": {"nbf": 60},
    "exp in an hour, by a clock that is ahead": {"exp": 3660},
    "exp by a clock that is late": {"exp": -59},
    "a fraction of a second": {"exp": 59.5},
    "jti is no Unicode": {"jti": "\ud800"},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_assertion_is_accepted(site: Site, browser: Browser, client: Registered, case: str) -> None:
    answer = authenticate(browser, with_assertion(make_changed(site, client, ACCEPTED[case])))
    assert answer.status == 200, answer.body


def make_changed(site: Site, client: Registered, changes: dict[str, Any]) -> str:
    """Return an assertion with changes, whose times count from now, and where ISSUER, TOKEN and CLIENT are values."""
    claims = {name: value for name, value in changes.items() if name != "headers"}
    given = resolve_claims(site, client, claims)
    header = {"alg": "ES256", "kid": "key-1", **changes.get("headers", {})}
    assertion = sign(key_pair(), header, claims_of_assertion(site, client.id, **given))
    site.secrets.add(assertion)
    return assertion


# ---- what is rejected


REJECTED: dict[str, dict[str, Any]] = {
    "aud is the token endpoint": {"aud": "TOKEN"},
    "aud is another server": {"aud": "https://other.example.com"},
    "aud is the issuer with a slash": {"aud": "https://127.0.0.1/"},
    "aud are the issuer and another server": {"aud": ["ISSUER", "https://other.example.com"]},
    "aud is the issuer twice": {"aud": ["ISSUER", "ISSUER"]},
    "aud is an empty array": {"aud": []},
    "aud is a number": {"aud": 1},
    "aud is an array in an array": {"aud": [["ISSUER"]]},
    "no aud": {"aud": None},
    "expired": {"exp": -60},
    "exp is too far ahead": {"exp": 3661},
    "exp is far ahead": {"exp": 10**9},
    "exp is text": {"exp": "1893456000"},
    "exp is true": {"exp": True},
    "no exp": {"exp": None},
    "iat is in the future": {"iat": 61},
    "iat is text": {"iat": "now"},
    "nbf is in the future": {"nbf": 61},
    "no jti": {"jti": None},
    "jti is empty": {"jti": ""},
    "jti is a number": {"jti": 7},
    "jti is long": {"jti": "j" * 257},
    "no iss": {"iss": None},
    "iss is another one": {"iss": "other"},
    "no sub": {"sub": None},
    "sub is another one": {"sub": "other"},
    "iss and sub are the issuer": {"iss": "ISSUER", "sub": "ISSUER"},
    "sub is an array": {"sub": ["CLIENT"]},
    "iss and sub are no Unicode": {"iss": "\ud800", "sub": "\ud800"},
    "iss and sub are NUL": {"iss": "\0", "sub": "\0"},
    "aud is no Unicode": {"aud": "\ud800"},
    "kid is no Unicode": {"headers": {"kid": "\ud800"}},
    "nbf is null": {"nbf": []},
    "kid is unknown": {"headers": {"kid": "another"}},
    "kid is a number": {"headers": {"kid": 1}},
    "kid is an array": {"headers": {"kid": ["key-1"]}},
    "an extension": {"headers": {"crit": ["exp"], "exp": 1}},
    "b64": {"headers": {"b64": True}},
}


@pytest.mark.spec("OpenID Connect Core §9 a", "OpenID Connect Core §9 c")
@pytest.mark.parametrize("case", REJECTED)
def test_assertion_is_rejected(site: Site, browser: Browser, client: Registered, case: str) -> None:
    answer = authenticate(browser, with_assertion(make_changed(site, client, REJECTED[case])))
    assert is_rejected(answer), answer.body
    assert not list(site.server.store.spent_assertions.scan()), "nothing is written for it"


def unsigned(site: Site, client: Registered) -> str:
    return jwt.encode(claims_of_assertion(site, client.id), None, "none")  # type: ignore[arg-type]


def symmetric(site: Site, client: Registered) -> str:
    """Return an assertion whose key is the public key, as a verifier without an algorithm of its own would take it."""
    header, claims = {"alg": "HS256", "kid": "key-1"}, claims_of_assertion(site, client.id)
    text = ".".join(base64url(as_json(part)) for part in (header, claims))
    tag = hmac.digest(json.dumps(client.record.jwks).encode(), text.encode(), hashlib.sha256)
    return f"{text}.{base64url(tag)}"


def of_another_key(site: Site, client: Registered) -> str:
    other = KeyPair("ES256", "key-1", key_pair("ES256", "other").private)
    return make_assertion(site, client.id, other)


def with_key_in_header(site: Site, client: Registered) -> str:
    other = key_pair("ES256", "other")
    return make_assertion(site, client.id, other, headers={"jwk": other.jwk, "jku": "https://evil.example/jwks"})


def of_another_algorithm(site: Site, client: Registered) -> str:
    header = {"alg": "RS256", "kid": "key-1"}
    return sign(key_pair(), header, claims_of_assertion(site, client.id))


def with_repeated_member(site: Site, client: Registered, *, part: str) -> str:
    header, claims = as_json({"alg": "ES256", "kid": "key-1"}), as_json(claims_of_assertion(site, client.id))
    if part == "header":
        header = header[:-1] + b',"alg":"ES256"}'
    else:
        claims = claims[:-1] + b',"sub":"' + client.id.encode() + b'"}'
    return sign(key_pair(), header, claims)


def with_infinity(site: Site, client: Registered) -> str:
    claims = as_json(claims_of_assertion(site, client.id, exp=None))
    return sign(key_pair(), {"alg": "ES256"}, claims[:-1] + b',"exp":Infinity}')


def with_huge_number(site: Site, client: Registered, *, number: bytes) -> str:
    claims = as_json(claims_of_assertion(site, client.id, exp=None))
    return sign(key_pair(), {"alg": "ES256"}, claims[:-1] + b',"exp":' + number + b"}")


def nested(_site: Site, _client: Registered) -> str:
    return sign(key_pair(), {"alg": "ES256"}, b"[" * 3000)


def padded(site: Site, client: Registered) -> str:
    return make_assertion(site, client.id) + "=="


def cut(site: Site, client: Registered) -> str:
    return make_assertion(site, client.id).rpartition(".")[0]


def as_jwe(site: Site, client: Registered) -> str:
    return make_assertion(site, client.id) + ".e30.e30"


MALFORMED: dict[str, Callable[[Site, Registered], str]] = {
    "alg none": unsigned,
    "a symmetric algorithm": symmetric,
    "signed by another key": of_another_key,
    "its own key in the header": with_key_in_header,
    "an algorithm of another key type": of_another_algorithm,
    "a repeated member in the header": partial(with_repeated_member, part="header"),
    "a repeated member in the claims": partial(with_repeated_member, part="claims"),
    "exp is infinite": with_infinity,
    "exp is huge": partial(with_huge_number, number=b"1e400"),
    "exp has 5,000 digits": partial(with_huge_number, number=b"9" * 5000),
    "nested": nested,
    "padded": padded,
    "without a signature": cut,
    "five parts": as_jwe,
    "no JWT": lambda _site, _client: "assertion",
    "not ASCII": lambda _site, _client: "é.é.é",
    "claims are an array": lambda _site, _client: sign(key_pair(), {"alg": "ES256"}, b"[]"),
    "alg is a list": lambda _site, _client: sign(key_pair(), {"alg": ["ES256"]}, {}),
    "claims are not UTF-8": lambda _site, _client: sign(key_pair(), {"alg": "ES256"}, b'{"\xff":1}'),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_or_forged_assertion_is_rejected(site: Site, browser: Browser, client: Registered, case: str) -> None:
    assertion = MALFORMED[case](site, client)
    answer = authenticate(browser, with_assertion(assertion))
    assert is_rejected(answer), answer.body
    assert not list(site.server.store.spent_assertions.scan())


def test_assertion_of_another_client_is_rejected(site: Site, browser: Browser, client: Registered) -> None:
    pair = key_pair("ES256", "other")
    other = key_client(site, pair, **SERVICE)
    assert is_rejected(authenticate(browser, signed(site, client, pair=pair))), "its key is not this client's"
    answer = authenticate(browser, {"client_id": client.id, **signed(site, other, pair=pair)})
    assert is_rejected(answer), "the client_id is another one"
    assert is_rejected(authenticate(browser, with_assertion(make_assertion(site, "unknown", pair))))


def test_long_assertion_is_rejected(site: Site, browser: Browser, client: Registered) -> None:
    answer = authenticate(browser, signed(site, client, filler="x" * 8192))
    assert is_rejected(answer, "invalid_request")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_assertion_type": None}, "invalid_request"),
        ({"client_assertion": None}, "invalid_request"),
        ({"client_assertion_type": TYPE.replace("jwt-bearer", "saml2-bearer")}, "invalid_client"),
    ],
)
def test_assertion_needs_its_type(
    site: Site, browser: Browser, client: Registered, changes: dict[str, Any], error: str
) -> None:
    parameters = {"client_id": client.id, **signed(site, client)} | changes
    answer = authenticate(browser, {name: value for name, value in parameters.items() if value is not None})
    assert is_rejected(answer, error)


@pytest.mark.spec("RFC 6749 §2.3")
def test_assertion_beside_a_secret_is_rejected(site: Site, browser: Browser) -> None:
    methods = ("private_key_jwt", "client_secret_basic", "client_secret_post")
    client = key_client(site, token_endpoint_auth_methods=methods, **SERVICE)
    assert client.secret
    in_body = {"client_id": client.id, "client_secret": client.secret}
    assert is_rejected(authenticate(browser, signed(site, client) | in_body), "invalid_request")
    header = basic(client.id, client.secret)
    assert is_rejected(authenticate(browser, signed(site, client), header), "invalid_request")
    assert [authenticate(browser, each).status for each in (signed(site, client), in_body)] == [200, 200]


@pytest.mark.parametrize("methods", [("client_secret_basic",), ("none",)])
def test_client_with_keys_must_be_registered_for_the_method(
    site: Site, browser: Browser, methods: tuple[str, ...]
) -> None:
    client = key_client(site, token_endpoint_auth_methods=methods)
    answer = browser.post("/oauth2/revoke", {"token": "x", **signed(site, client)})
    assert is_rejected(answer)


def test_client_with_a_private_key_has_no_other_method(site: Site, browser: Browser, client: Registered) -> None:
    for secret in ("", "secret"):
        assert is_rejected(authenticate(browser, {"client_id": client.id, "client_secret": secret}))
        assert is_rejected(authenticate(browser, {}, basic(client.id, secret)))


# ---- used once


@pytest.mark.spec("RFC 7523 §3", "OpenID Connect Core §9 b")
def test_assertion_is_used_once(site: Site, browser: Browser, client: Registered) -> None:
    first = signed(site, client)
    assert authenticate(browser, first).status == 200
    assert is_rejected(authenticate(browser, first))
    assert is_rejected(browser.post("/oauth2/revoke", {"token": "x", **first}))
    again = signed(site, client, jti="the same")
    assert authenticate(browser, again).status == 200
    assert is_rejected(authenticate(browser, signed(site, client, jti="the same", exp=site.clock.time + 90)))


def test_two_clients_may_use_the_same_jti(site: Site, browser: Browser, client: Registered) -> None:
    other = key_client(site, **SERVICE)
    for each in (client, other):
        assert authenticate(browser, signed(site, each, jti="the same")).status == 200


@pytest.mark.parametrize("lifetime", [60, 3660])
def test_assertion_is_remembered_until_no_clock_accepts_it(
    site: Site, browser: Browser, client: Registered, lifetime: int
) -> None:
    parameters = signed(site, client, exp=site.clock.time + lifetime)
    assert authenticate(browser, parameters).status == 200
    (record,) = site.server.store.spent_assertions.scan()
    assert record.expires_at == site.clock.time + lifetime + 120
    site.clock.advance(lifetime + 59)
    assert is_rejected(authenticate(browser, parameters))
    assert "was used before" in site_log(site, browser, parameters)
    site.clock.advance(1)
    assert "has expired" in authenticate(browser, parameters).json["error_description"]


def site_log(site: Site, browser: Browser, parameters: dict[str, Any]) -> str:
    """Return why an assertion is rejected, as the log has it."""
    from tests.conftest import LOGGED

    authenticate(browser, parameters)
    return LOGGED[-1]


def test_of_two_requests_with_one_assertion_one_succeeds(
    site: Site, browsers: Callable[..., Browser], client: Registered
) -> None:
    parameters = signed(site, client)
    answers = run_concurrently([partial(authenticate, browsers(), parameters) for _ in range(4)])
    assert sorted(answer.status for answer in answers) == [200, 401, 401, 401]


def test_assertion_is_accepted_only_once_it_is_recorded(
    site: Site, browser: Browser, client: Registered, wire: Wire
) -> None:
    assert authenticate(browser, signed(site, client)).status == 200  # the client is cached
    with wire.fault(0, faults.unreachable):
        assert authenticate(browser, signed(site, client)).status == 503
    with wire.fault(0, faults.answer_lost, 1):
        assert authenticate(browser, signed(site, client)).status == 200, "the write is sent again"
    assert len(list(site.server.store.spent_assertions.scan())) == 2
    assert len(list(site.server.store.grants.scan())) == 2


def test_tables_do_not_tell_who_has_used_an_assertion(site: Site, browser: Browser, client: Registered) -> None:
    assert authenticate(browser, signed(site, client, jti="a jti that was used")).status == 200
    (record,) = site.server.store.spent_assertions.scan()
    assert record.attempts_id.startswith("assertion.")
    assert client.id not in record.attempts_id
    assert "a jti that was used" not in dump_tables()


def test_private_key_jwt_costs_one_write_more(site: Site, browser: Browser, client: Registered, wire: Wire) -> None:
    other = site.client(**SERVICE)
    for each, credentials in ((client, {}), (other, basic(other.id, other.secret or ""))):
        authenticate(browser, signed(site, each) if each is client else {}, credentials)  # the client is cached
    with wire.counted() as by_secret:
        assert authenticate(browser, {}, basic(other.id, other.secret or "")).status == 200
    parameters = signed(site, client)
    with wire.counted() as by_key:
        assert authenticate(browser, parameters).status == 200
    assert sorted(by_key) == sorted([*by_secret, "PutItem"])
    forged = with_assertion(of_another_key(site, client))
    with wire.counted() as rejected:
        assert is_rejected(authenticate(browser, forged))
    assert rejected == ["GetItem"], "the client is read again, and nothing is written"


# ---- the opt-out of the audience


def test_client_may_name_the_token_endpoint_if_its_record_says_so(site: Site, browser: Browser) -> None:
    client = key_client(site, assertion_audience="token_endpoint", **SERVICE)
    address = f"{site.settings.issuer}/oauth2/token"
    for audience in (address, [address], site.settings.issuer):
        assert authenticate(browser, signed(site, client, aud=audience)).status == 200
    for audience in (f"{site.settings.issuer}/oauth2/revoke", address + "/", [address, site.settings.issuer]):
        assert is_rejected(authenticate(browser, signed(site, client, aud=audience)))


# ---- keys


def test_new_key_is_accepted_beside_the_old_one_and_then_alone(site: Site, browser: Browser) -> None:
    old, new = key_pair(), key_pair("EdDSA", "key-2")
    client = key_client(site, old, **SERVICE)
    update_client(site, client, jwks={"keys": [old.jwk, new.jwk]})
    for pair in (old, new):
        assert authenticate(browser, signed(site, client, pair=pair)).status == 200
    update_client(site, client, jwks=new.jwks)
    assert is_rejected(authenticate(browser, signed(site, client, pair=old)))
    assert authenticate(browser, signed(site, client, pair=new)).status == 200


def test_new_key_is_accepted_at_once_although_the_client_is_cached(site: Site, browser: Browser) -> None:
    client = key_client(site, **SERVICE)
    assert authenticate(browser, signed(site, client)).status == 200
    new = key_pair("ES256", "key-2")
    site.server.store.clients.put(replace(client.record, jwks={"keys": (new.jwk,)}))
    assert authenticate(browser, signed(site, client, pair=new)).status == 200


def test_without_a_kid_the_only_key_for_the_algorithm_is_used(site: Site, browser: Browser) -> None:
    first, other = key_pair(), key_pair("EdDSA", "key-2")
    client = key_client(site, jwks={"keys": [first.jwk, other.jwk]}, **SERVICE)
    claims = claims_of_assertion(site, client.id)
    without = sign(first, {"alg": "ES256"}, claims)
    site.secrets.add(without)
    assert authenticate(browser, with_assertion(without)).status == 200
    update_client(site, client, jwks={"keys": [first.jwk, key_pair("ES256", "key-3").jwk]})
    without = sign(first, {"alg": "ES256"}, claims | {"jti": "another"})
    site.secrets.add(without)
    assert is_rejected(authenticate(browser, with_assertion(without))), "there are two"


@pytest.mark.spec("RFC 9864 §2.2")
@pytest.mark.parametrize("registered", ["EdDSA", "Ed25519", None])
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_both_names_of_an_ed25519_signature_are_accepted(
    site: Site, browser: Browser, registered: str | None, alg: str
) -> None:
    pair = key_pair("EdDSA")
    client = key_client(site, jwks={"keys": [pair.jwk | ({"alg": registered} if registered else {})]}, **SERVICE)
    assertion = sign(pair, {"alg": alg, "kid": pair.kid}, claims_of_assertion(site, client.id))
    site.secrets.add(assertion)
    assert authenticate(browser, with_assertion(assertion)).status == 200
    forged = sign(key_pair("EdDSA", "other"), {"alg": alg, "kid": pair.kid}, claims_of_assertion(site, client.id))
    assert is_rejected(authenticate(browser, with_assertion(forged)))


def test_key_for_one_algorithm_verifies_no_other(site: Site, browser: Browser) -> None:
    pair = key_pair("RS256")
    client = key_client(site, jwks={"keys": [pair.jwk | {"alg": "PS256"}]}, **SERVICE)
    assert is_rejected(authenticate(browser, signed(site, client, pair=pair)))
    assert authenticate(browser, signed(site, client, pair=KeyPair("PS256", pair.kid, pair.private))).status == 200


UNUSABLE: dict[str, Callable[[], Any]] = {
    "a private RSA key": lambda: {"keys": [key_pair("RS256").private_jwk]},
    "a private EC key": lambda: {"keys": [key_pair().private_jwk]},
    "a private Ed25519 key": lambda: {"keys": [key_pair("EdDSA").private_jwk]},
    "a private key beside a public one": lambda: {"keys": [key_pair().jwk, key_pair("EdDSA").private_jwk]},
    "a symmetric key": lambda: {"keys": [key_pair().jwk, {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}]},
    "a symmetric key without a value": lambda: {"keys": [{"kty": "oct"}]},
    "no keys": lambda: {"keys": []},
    "no set": lambda: key_pair().jwk,
    "a list": lambda: [key_pair().jwk],
    "a key that is no object": lambda: {"keys": ["key"]},
    "only a key for encryption": lambda: {"keys": [key_pair().jwk | {"use": "enc"}]},
    "only a key to wrap keys": lambda: {"keys": [key_pair().jwk | {"key_ops": ["wrapKey"]}]},
    "only another curve": lambda: {"keys": [{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}]},
    "only another type": lambda: {"keys": [{"kty": ["RSA"]}]},
    "a point that is not on the curve": lambda: {"keys": [key_pair().jwk | {"x": key_pair().jwk["y"]}]},
    "a short RSA key": lambda: {"keys": [{"kty": "RSA", "e": "AQAB", "n": base64url(b"\xff" * 128)}]},
    "a long RSA key": lambda: {"keys": [{"kty": "RSA", "e": "AQAB", "n": base64url(b"\xff" * 1024)}]},
    "a large exponent": lambda: {"keys": [key_pair("RS256").jwk | {"e": base64url(b"\xff" * 200)}]},
    "no modulus": lambda: {"keys": [{"kty": "RSA", "e": "AQAB"}]},
    "two keys with one kid": lambda: {"keys": [key_pair().jwk, key_pair(kid="key-2").jwk | {"kid": "key-1"}]},
    "two keys with one kid and algorithm": lambda: {
        "keys": [key_pair("RS256").jwk, key_pair("RS256", "key-2").jwk | {"kid": "key-1", "alg": "PS256"}]
    },
    "21 keys": lambda: {"keys": [key_pair().jwk | {"kid": str(number)} for number in range(21)]},
    "a kid that is no text": lambda: {"keys": [key_pair().jwk | {"kid": 1}]},
    "a long kid": lambda: {"keys": [key_pair().jwk | {"kid": "k" * 257}]},
}


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.1 d", "FAPI 2.0 Security Profile §5.4.1 e")
@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_keys_cannot_be_registered(site: Site, case: str) -> None:
    with pytest.raises(InvalidClientMetadata, match=r"^invalid_client_metadata: The jwks cannot be registered"):
        key_client(site, jwks=UNUSABLE[case]())
    assert not list(site.server.store.clients.scan())


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.3")
def test_keys_with_one_kid_are_told_apart_by_their_algorithms(site: Site, browser: Browser) -> None:
    pairs = [key_pair(alg) for alg in ("ES256", "EdDSA", "RS256")]
    assert len({pair.kid for pair in pairs}) == 1
    client = key_client(site, jwks={"keys": [pair.jwk for pair in pairs]}, **SERVICE)
    for pair in pairs:
        assert authenticate(browser, signed(site, client, pair=pair)).status == 200
    other = key_pair("EdDSA", "another")
    assert authenticate(browser, signed(site, client, pair=other, headers={"kid": pairs[0].kid})).status == 401


def test_only_what_is_needed_of_a_key_is_stored(site: Site) -> None:
    pair = key_pair()
    encryption = key_pair("RS256", "enc").jwk | {"use": "enc"}
    client = key_client(site, jwks={"keys": [pair.jwk | {"x5c": ["MIIB"], "nested": {"n": 1.5}}, encryption]})
    stored = site.server.store.clients.get(client.id)
    assert stored
    assert stored == client.record
    assert stored.jwks == {"keys": ({name: pair.jwk[name] for name in ("crv", "kty", "x", "y", "kid")},)}


def test_private_key_jwt_needs_keys(site: Site) -> None:
    with pytest.raises(InvalidClientMetadata, match="needs public keys"):
        key_client(site, jwks=None)
    with pytest.raises(InvalidClientMetadata, match="assertion_audience"):
        key_client(site, assertion_audience="anyone")
