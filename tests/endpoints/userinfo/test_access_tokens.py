"""Access tokens that /oauth2/userinfo, a protected resource, rejects (RFC 6750, RFC 9068 section 4)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from chalicelib.keys import rotation
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.handles import base64url
from tests.endpoints.userinfo.conftest import Setup, assert_rejected
from tests.support.browser import Answer, Browser, basic
from tests.support.grants import create_code, update_client
from tests.support.resource_servers import API, register_resource_server
from tests.support.site import Site

pytestmark = pytest.mark.spec("RFC 6750 §3.1")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


# ---- tokens that are no access token for UserInfo


def encode(members: Any) -> str:
    """Return JSON in base64url, as a part of a JWT."""
    return base64url(json.dumps(members).encode())


MALFORMED_TOKENS = {
    "an empty token": "",
    "a word": "garbage",
    "two words": "mF_9.B5f-4.1JqM mF_9.B5f-4.1JqM",
    "dots": "..",
    "many dots": "." * 50,
    "three parts": "a.b.c",
    "characters that are not ASCII": "\xe9.\xe9.\xe9",
    "a header that is no object": f"{encode([1])}.{encode({})}.AA",
    "a header that is empty": f"{encode({})}.{encode({})}.AA",
    "a header whose members have other types": f"{encode({'alg': ['RS256'], 'kid': {}, 'typ': 1})}.{encode({})}.AA",
    "a header whose kid is a number": f"{encode({'alg': 'RS256', 'kid': 1, 'typ': 'at+jwt'})}.{encode({})}.AA",
    "a header with crit": f"{encode({'alg': 'RS256', 'typ': 'at+jwt', 'crit': ['b64'], 'b64': False})}..AA",
    "a header nested deeply": f"{base64url(b'[' * 30_000)}.{encode({})}.AA",
    "a header of objects nested deeply": base64url(b'{"a":' * 5_000) + f".{encode({})}.AA",
    "a refresh token": "rt_AQAAAAE_Qktn1VlhbhyzJkOZHZeWV3JDaHkyTVdfZzFHLVRpaWF4VlhJQQ",
}


@pytest.mark.spec("RFC 6750 §3.1 b", "RFC 9068 §4 i")
@pytest.mark.parametrize("what", MALFORMED_TOKENS)
def test_malformed_token_is_rejected(browser: Browser, site: Site, what: str) -> None:
    assert_rejected(browser.userinfo(MALFORMED_TOKENS[what]), 401, "invalid_token")


MakeToken = Callable[[Setup], str]


def unsigned(setup: Setup, signature: bytes = b"", **header: Any) -> str:
    """Return the access token with a changed header and without a valid signature."""
    return f"{encode(setup.header | header)}.{encode(setup.claims)}.{base64url(signature)}"


def signed_by_another_key(setup: Setup, **header: Any) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(setup.claims, key, "RS256", headers=setup.header | header)


def signed_by_another_key_without_kid(setup: Setup) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(setup.claims, key, "RS256", headers={"typ": setup.header["typ"]})


def signed_by_a_key_in_the_header(setup: Setup) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwt.encode(setup.claims, key, "RS256", headers=setup.header | {"jwk": jwk})


def with_public_key_as_secret(serialize: Callable[[Any, dict[str, Any]], bytes]) -> MakeToken:
    """Return a maker of HS256 tokens whose secret is the public key that checks the access token (RFC 8725)."""

    def make(setup: Setup) -> str:
        jwk = next(key for key in setup.site.server.keys.jwks()["keys"] if key["kid"] == setup.header["kid"])
        signed = f"{encode(setup.header | {'alg': 'HS256'})}.{encode(setup.claims)}"
        secret = serialize(jwt.PyJWK(jwk).key, jwk)
        return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    return make


def pem(public_key: Any, _jwk: dict[str, Any]) -> bytes:
    return bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def der(public_key: Any, _jwk: dict[str, Any]) -> bytes:
    return bytes(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def json_of(_public_key: Any, jwk: dict[str, Any]) -> bytes:
    return json.dumps(jwk).encode()


def modulus(_public_key: Any, jwk: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64decode(jwk["n"] + "==")


def logout_token(setup: Setup) -> str:
    return setup.sign(
        "logout+jwt", aud=setup.client.id, events={LOGOUT_EVENT: {}}, client_id=None, scope=None, grant_id=None
    )


def signed_userinfo(setup: Setup) -> str:
    claims = {"iss": setup.claims["iss"], "aud": setup.client.id, "sub": setup.claims["sub"]}
    return setup.site.server.keys.sign(claims, "JWT")


def expired_a_second_ago(setup: Setup) -> str:
    setup.site.clock.advance(601)
    return setup.access_token


def token_for_an_api(setup: Setup) -> str:
    register_resource_server(setup.site)
    code = create_code(setup.site, setup.client, scope=frozenset({"email"}), resource=frozenset({API}))
    return str(setup.browser.redeem(setup.client, code).json["access_token"])


INVALID_TOKENS: dict[str, MakeToken] = {
    # other credentials of this server
    "an ID token": lambda s: str(s.tokens["id_token"]),
    "an ID token with the claims of an access token": lambda s: s.sign("JWT"),
    "a refresh token": lambda s: str(s.tokens["refresh_token"]),
    "an authorization code": lambda s: create_code(s.site, s.client),
    "a logout token": logout_token,
    "a logout token with the claims of an access token": lambda s: s.sign("logout+jwt", events={LOGOUT_EVENT: {}}),
    "a signed UserInfo response": signed_userinfo,
    "a client secret": lambda s: s.client.secret or "",
    # claims
    "another issuer": lambda s: s.sign(iss="https://evil.example"),
    "an issuer with a trailing slash": lambda s: s.sign(iss=s.claims["iss"] + "/"),
    "no issuer": lambda s: s.sign(iss=None),
    "another audience": lambda s: s.sign(aud="https://api.example.com"),
    "several other audiences": lambda s: s.sign(aud=["https://api.example.com", s.client.id]),
    "an API as audience": token_for_an_api,
    "the client as audience": lambda s: s.sign(aud=s.client.id),
    "an audience that starts with the issuer": lambda s: s.sign(aud=s.site.settings.issuer + ".evil.example"),
    "no audience": lambda s: s.sign(aud=None),
    "an empty list of audiences": lambda s: s.sign(aud=[]),
    "no expiry": lambda s: s.sign(exp=None),
    "expiry in this second": lambda s: s.sign(exp=s.site.clock.time),
    "expiry a second ago": expired_a_second_ago,
    "another grant": lambda s: s.sign(grant_id="never"),
    "another user": lambda s: s.sign(sub="never"),
    # signatures
    "alg none": lambda s: unsigned(s, alg="none"),
    "alg None": lambda s: unsigned(s, alg="None"),
    "alg NONE": lambda s: unsigned(s, alg="NONE"),
    "alg none with a signature": lambda s: unsigned(s, b"x" * 256, alg="none"),
    "alg none without a kid": lambda s: f"{encode({'alg': 'none', 'typ': 'at+jwt'})}.{encode(s.claims)}.",
    "HS256 with the public key in PEM": with_public_key_as_secret(pem),
    "HS256 with the public key in DER": with_public_key_as_secret(der),
    "HS256 with the public key as JWK": with_public_key_as_secret(json_of),
    "HS256 with the modulus": with_public_key_as_secret(modulus),
    "another alg of the same key": lambda s: unsigned(s, b"x" * 256, alg="RS512"),
    "no signature": lambda s: unsigned(s),
    "a wrong signature": lambda s: unsigned(s, b"x" * 256),
    "another key with the server's kid": lambda s: signed_by_another_key(s),
    "another key in the header": signed_by_a_key_in_the_header,
    "an unknown kid": lambda s: signed_by_another_key(s, kid="unknown"),
    "a kid that is a path": lambda s: signed_by_another_key(s, kid="../../dev/null"),
    "no kid": signed_by_another_key_without_kid,
}


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.1 a", "FAPI 2.0 Security Profile §5.4.1 c")
@pytest.mark.spec("RFC 6749 §7", "RFC 6749 §10.3 c", "RFC 9700 §2.3 c", "OpenID Connect Core §5.3.1")
@pytest.mark.spec("RFC 9068 §2.1 a", "RFC 9068 §2.1 b", "RFC 9068 §4", "RFC 9068 §4 c", "RFC 9068 §4 d")
@pytest.mark.spec("RFC 9068 §4 e", "RFC 9068 §4 f", "RFC 9068 §4 g", "RFC 9068 §4 h", "RFC 9068 §4 i")
@pytest.mark.spec("RFC 8725 §3", "RFC 8725 §3.11")
@pytest.mark.parametrize("what", INVALID_TOKENS)
def test_token_with_one_invalid_part_is_rejected(setup: Setup, what: str) -> None:
    now = setup.site.clock.time
    assert setup.browser.userinfo(setup.access_token).status == 200
    assert_rejected(setup.browser.userinfo(INVALID_TOKENS[what](setup)), 401, "invalid_token")
    setup.site.clock.time = now
    assert setup.browser.userinfo(setup.sign()).status == 200  # so only that part was wrong


@pytest.mark.spec("RFC 6749 §1.4")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_token_signed_with_any_algorithm_is_accepted(setup: Setup, alg: str) -> None:
    assert setup.browser.userinfo(setup.sign(alg=alg)).status == 200
    issuer = setup.site.settings.issuer
    assert setup.browser.userinfo(setup.sign(alg=alg, aud=[API, issuer])).status == 200


@pytest.mark.spec("RFC 6749 §10.3 c", "RFC 6750 §5.2 b")
def test_token_changed_at_any_position_is_rejected(setup: Setup) -> None:
    token = setup.access_token
    for position in range(0, len(token) - 1, 7):  # the last character has unused bits
        replacement = "A" if token[position] != "A" else "B"
        changed = token[:position] + replacement + token[position + 1 :]
        assert setup.browser.userinfo(changed).status == 401, position


# ---- tokens that are no longer valid


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.4 c")
@pytest.mark.spec("RFC 6749 §7", "RFC 6750 §5.2 i", "RFC 9068 §4 h")
def test_token_expires_to_the_second(setup: Setup) -> None:
    setup.site.clock.advance(599)
    assert setup.browser.userinfo(setup.access_token).status == 200
    setup.site.clock.advance(1)
    assert_rejected(setup.browser.userinfo(setup.access_token), 401, "invalid_token")


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.4 c")
@pytest.mark.spec("RFC 7009 §2.1")
def test_token_of_a_revoked_grant_is_rejected_immediately(setup: Setup) -> None:
    assert setup.browser.userinfo(setup.access_token).status == 200
    revoked = {"revoked_at": setup.site.clock.time}
    setup.site.server.store.grants.transition((setup.claims["grant_id"],), None, revoked)
    assert_rejected(setup.browser.userinfo(setup.access_token), 401, "invalid_token")


def test_token_of_a_disabled_or_deleted_user_is_rejected(setup: Setup) -> None:
    users, user = setup.site.server.store.users, setup.user
    users.put(replace(user, disabled_at=1))
    assert_rejected(setup.browser.userinfo(setup.access_token), 401, "invalid_token")
    users.put(user)
    assert setup.browser.userinfo(setup.access_token).status == 200
    users.delete(user.sub)
    assert_rejected(setup.browser.userinfo(setup.access_token), 401, "invalid_token")


def test_token_of_a_disabled_or_deleted_client_is_rejected_once_the_cached_record_expires(setup: Setup) -> None:
    site = setup.site
    update_client(site, setup.client, disabled_at=1)
    assert_rejected(setup.browser.userinfo(setup.access_token), 401, "invalid_token")
    update_client(site, setup.client)
    assert setup.browser.userinfo(setup.access_token).status == 200
    site.server.store.clients.delete(setup.client.id)
    site.clock.advance(60)
    assert_rejected(setup.browser.userinfo(setup.access_token), 401, "invalid_token")


@pytest.mark.usefixtures("restore_key_ring")
@pytest.mark.spec("RFC 9068 §4 g")
def test_token_of_a_retired_key_is_rejected_immediately(setup: Setup) -> None:
    site, kid = setup.site, str(setup.header["kid"])
    rotation.rotate(site.server.keys, site.server.now(), wait=0)
    assert setup.browser.userinfo(setup.access_token).status == 200  # the old key is valid until it is retired
    assert rotation.retire(site.server.keys, site.settings, site.server.now(), kid) == [kid]
    assert_rejected(setup.browser.userinfo(setup.access_token), 401, "invalid_token")
    credentials = basic(setup.client.id, setup.client.secret or "")
    answer = setup.browser.post("/oauth2/introspect", {"token": setup.access_token}, credentials)
    assert answer.json == {"active": False}
    refreshed = setup.browser.refresh(setup.client, setup.tokens["refresh_token"]).json
    assert setup.browser.userinfo(refreshed["access_token"]).status == 200


# ---- requests that present a token wrongly


def bearer(setup: Setup) -> dict[str, str]:
    return {"Authorization": f"Bearer {setup.access_token}"}


def send_twice_in_the_body(setup: Setup) -> Answer:
    body = urlencode([("access_token", setup.access_token)] * 2)
    return setup.browser.request("POST", "/oauth2/userinfo", body, FORM)


WRONG_WAYS: dict[str, tuple[Callable[[Setup], Answer], int, str | None]] = {
    "in the query": (
        lambda s: s.browser.get("/oauth2/userinfo", access_token=s.access_token),
        400,
        "invalid_request",
    ),
    "in the query of a POST": (
        lambda s: s.browser.post(f"/oauth2/userinfo?access_token={s.access_token}", {}),
        400,
        "invalid_request",
    ),
    "in the query of a POST without a body": (
        lambda s: s.browser.request("POST", f"/oauth2/userinfo?access_token={s.access_token}"),
        400,
        "invalid_request",
    ),
    "in the header and in the query": (
        lambda s: s.browser.get("/oauth2/userinfo", bearer(s), access_token=s.access_token),
        400,
        "invalid_request",
    ),
    "in the header and in the query of a POST": (
        lambda s: s.browser.request("POST", f"/oauth2/userinfo?access_token={s.access_token}", headers=bearer(s)),
        400,
        "invalid_request",
    ),
    "in the header and in the body": (
        lambda s: s.browser.post("/oauth2/userinfo", {"access_token": s.access_token}, bearer(s)),
        400,
        "invalid_request",
    ),
    "two different ones, in header and body": (
        lambda s: s.browser.post("/oauth2/userinfo", {"access_token": s.sign()}, bearer(s)),
        400,
        "invalid_request",
    ),
    "twice in the body": (send_twice_in_the_body, 400, "invalid_request"),
    "two in one header": (
        lambda s: s.browser.get("/oauth2/userinfo", {"Authorization": f"Bearer {s.access_token} {s.access_token}"}),
        401,
        "invalid_token",
    ),
    "two separated by a comma": (
        lambda s: s.browser.get(
            "/oauth2/userinfo", {"Authorization": f"Bearer {s.access_token}, Bearer {s.access_token}"}
        ),
        401,
        "invalid_token",
    ),
    "as the password of HTTP Basic": (
        lambda s: s.browser.get("/oauth2/userinfo", basic(s.client.id, s.access_token)),
        401,
        None,
    ),
    "as a cookie": (
        lambda s: s.browser.get("/oauth2/userinfo", {"Cookie": f"access_token={s.access_token}"}),
        401,
        None,
    ),
    "the client's credentials instead": (
        lambda s: s.browser.get("/oauth2/userinfo", basic(s.client.id, s.client.secret or "")),
        401,
        None,
    ),
}


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.4 b")
@pytest.mark.spec("RFC 6750 §2", "RFC 6750 §2.3", "RFC 6750 §2.3 a", "RFC 6750 §3.1 a", "RFC 6750 §5.3 d")
@pytest.mark.spec("RFC 9700 §4.3.2")
@pytest.mark.parametrize("way", WRONG_WAYS)
def test_token_presented_in_a_wrong_way_is_rejected(setup: Setup, way: str) -> None:
    send, status, error = WRONG_WAYS[way]
    assert_rejected(send(setup), status, error)


@pytest.mark.parametrize(
    "body",
    [b"access_token=%00", b"access_token=%ff", b"access_token=" + b"x" * 8193],
    ids=["NUL", "not UTF-8", "too long"],
)
def test_malformed_body_is_rejected(browser: Browser, site: Site, body: bytes) -> None:
    assert_rejected(browser.request("POST", "/oauth2/userinfo", body, FORM), 400, "invalid_request")


@pytest.mark.spec("RFC 6750 §3.1 d")
@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("GET", {}, None),
        ("POST", {}, None),
        ("POST", FORM, ""),
        ("POST", FORM, "access_token="),
        ("POST", {"Content-Type": "application/json"}, '{"access_token": "x"}'),
        ("GET", {"Authorization": "Basic YTpi"}, None),
        ("GET", {"Authorization": "Token x"}, None),
    ],
)
def test_challenge_without_a_token_has_no_error_code(
    browser: Browser, site: Site, method: str, headers: dict[str, str], body: str | None
) -> None:
    assert_rejected(browser.request(method, "/oauth2/userinfo", body, headers), 401, None)


# ---- tokens at other endpoints


@pytest.mark.parametrize("name", ["access_token", "id_token", "refresh_token"])
def test_tokens_do_not_authenticate_their_client(setup: Setup, name: str) -> None:
    for path in ("/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"):
        headers = {"Authorization": f"Bearer {setup.tokens[name]}"}
        form = {"grant_type": "refresh_token", "refresh_token": "x", "token": "x"}
        assert setup.browser.post(path, form, headers).json["error"] == "invalid_client"
        assert setup.browser.post(path, form, basic(setup.client.id, setup.tokens[name])).status == 401


@pytest.mark.parametrize("name", ["access_token", "id_token"])
def test_jwt_is_rejected_as_code_and_as_refresh_token(setup: Setup, name: str) -> None:
    assert setup.browser.redeem(setup.client, setup.tokens[name]).json["error"] == "invalid_grant"
    assert setup.browser.refresh(setup.client, setup.tokens[name]).json["error"] == "invalid_grant"
