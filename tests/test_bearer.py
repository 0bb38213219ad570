"""What is shown to UserInfo, the server's protected resource, and is no access token for it (RFC 6750)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chalicelib import rotation
from chalicelib.handles import base64url
from chalicelib.signing import ALGORITHMS
from tests.browser import Answer, Browser, basic
from tests.shortcut import code_of
from tests.site import Registered, Site
from tests.test_introspection import API, api
from tests.test_userinfo import refused

pytestmark = pytest.mark.spec("RFC 6750 §3.1")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass
class Ground:
    """A client that has been given everything there is, and its tokens."""

    site: Site
    browser: Browser
    client: Registered
    tokens: dict[str, Any]

    @property
    def token(self) -> str:
        return str(self.tokens["access_token"])

    @property
    def claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(self.token, options={"verify_signature": False})
        return claims

    @property
    def header(self) -> dict[str, Any]:
        return jwt.get_unverified_header(self.token)

    def signed(self, typ: str = "at+jwt", alg: str = "RS256", **changed: Any) -> str:
        """A JWT of our own making, like the access token but for these claims; None leaves one out."""
        present = {name: value for name, value in (self.claims | changed).items() if value is not None}
        return self.site.server.keys.sign(present, typ, alg)


@pytest.fixture
def ground(site: Site, browser: Browser) -> Ground:
    client = site.client()
    return Ground(site, browser, client, browser.redeem(client, code_of(site, client, site.user())).json)


# ---- what is no access token, or none for us

Make = Callable[[Ground], str]


def _part(members: Any) -> str:
    return base64url(json.dumps(members).encode())


def _by_hand(ground: Ground, **header: Any) -> str:
    return f"{_part(ground.header | header)}.{_part(ground.claims)}."


def _with_public_key_as_secret(form: Callable[[Any, dict[str, Any]], bytes]) -> Make:
    """HS256 with the public key that checks the token, in one of its forms, as the secret."""

    def make(ground: Ground) -> str:
        jwk = next(k for k in ground.site.server.keys.jwks()["keys"] if k["kid"] == ground.header["kid"])
        signed = f"{_part(ground.header | {'alg': 'HS256'})}.{_part(ground.claims)}"
        secret = form(jwt.PyJWK(jwk).key, jwk)
        return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    return make


def _pem(public: Any, _jwk: dict[str, Any]) -> bytes:
    return bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _der(public: Any, _jwk: dict[str, Any]) -> bytes:
    return bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _jwk(_public: Any, jwk: dict[str, Any]) -> bytes:
    return json.dumps(jwk).encode()


def _modulus(_public: Any, jwk: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64decode(jwk["n"] + "==")


def _logout_token(ground: Ground) -> str:
    return ground.signed(
        "logout+jwt", aud=ground.client.id, events={LOGOUT_EVENT: {}}, client_id=None, scope=None, grant_id=None
    )


def _signed_userinfo(ground: Ground) -> str:
    members = {"iss": ground.claims["iss"], "aud": ground.client.id, "sub": ground.claims["sub"]}
    return ground.site.server.keys.sign(members, "JWT")


def _expired(ground: Ground, seconds: int) -> str:
    ground.site.clock.advance(600 + seconds)
    return ground.token


def _for_an_api_alone(ground: Ground) -> str:
    api(ground.site)
    code = code_of(ground.site, ground.client, scope=frozenset({"email"}), resource=frozenset({API}))
    return str(ground.browser.redeem(ground.client, code).json["access_token"])


NO_TOKENS: dict[str, Make] = {
    "an ID token": lambda g: str(g.tokens["id_token"]),
    "a refresh token": lambda g: str(g.tokens["refresh_token"]),
    "a code": lambda g: code_of(g.site, g.client),
    "a logout token": _logout_token,
    "a logout token that says all an access token says": lambda g: g.signed("logout+jwt", events={LOGOUT_EVENT: {}}),
    "an ID token that says all an access token says": lambda g: g.signed("JWT"),
    "a signed answer of this endpoint": _signed_userinfo,
    "a client's secret": lambda g: g.client.secret or "",
    "a token for another audience": lambda g: g.signed(aud="https://api.example.com"),
    "a token for several others": lambda g: g.signed(aud=["https://api.example.com", g.client.id]),
    "a token for an API alone": _for_an_api_alone,
    "a token for an audience that starts as we do": lambda g: g.signed(aud=g.site.settings.issuer + ".evil.example"),
    "a token for no audience": lambda g: g.signed(aud=None),
    "a token for an empty list of audiences": lambda g: g.signed(aud=[]),
    "one that expires this second": lambda g: _expired(g, 0),
    "one that expired a second ago": lambda g: _expired(g, 1),
    "alg none": lambda g: _by_hand(g, alg="none"),
    "alg None": lambda g: _by_hand(g, alg="None"),
    "alg none, without a kid": lambda g: f"{_part({'alg': 'none', 'typ': 'at+jwt'})}.{_part(g.claims)}.",
    "HS256 with the public key in PEM": _with_public_key_as_secret(_pem),
    "HS256 with the public key in DER": _with_public_key_as_secret(_der),
    "HS256 with the public key as JWK": _with_public_key_as_secret(_jwk),
    "HS256 with the modulus": _with_public_key_as_secret(_modulus),
}


@pytest.mark.spec("RFC 9068 §4 c", "RFC 9068 §4 e", "RFC 9068 §4 f", "RFC 9068 §4 h", "RFC 9068 §4 i", "RFC 8725 §3.11")
@pytest.mark.parametrize("what", NO_TOKENS)
def test_it_is_no_access_token_for_us(ground: Ground, what: str) -> None:
    assert ground.browser.userinfo(ground.token).status == 200  # what is right, before
    refused(ground.browser.userinfo(NO_TOKENS[what](ground)), 401, "invalid_token")


@pytest.mark.spec("RFC 6749 §1.4")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_token_that_is_right_opens_it_whatever_signed_it(ground: Ground, alg: str) -> None:
    assert ground.browser.userinfo(ground.signed(alg=alg)).status == 200
    issuer = ground.site.settings.issuer
    assert ground.browser.userinfo(ground.signed(alg=alg, aud=[API, issuer])).status == 200


def test_a_token_counts_to_its_last_second(ground: Ground) -> None:
    ground.site.clock.advance(599)
    assert ground.browser.userinfo(ground.token).status == 200


@pytest.mark.spec("RFC 9068 §4 g")
def test_a_token_of_a_retired_key_opens_nothing_at_once(ground: Ground) -> None:
    site, kid = ground.site, str(ground.header["kid"])
    kept = site.server.store.keys.get("main")
    assert kept
    try:
        rotation.rotate(site.server.keys, site.server.now(), wait=0)
        assert ground.browser.userinfo(ground.token).status == 200  # the key is kept, until it is retired
        assert rotation.retire(site.server.keys, site.settings, site.server.now(), kid) == [kid]
        refused(ground.browser.userinfo(ground.token), 401, "invalid_token")
        credentials = basic(ground.client.id, ground.client.secret or "")
        asked = ground.browser.post("/oauth2/introspect", {"token": ground.token}, credentials)
        assert asked.json == {"active": False}
        refreshed = ground.browser.refresh(ground.client, ground.tokens["refresh_token"]).json
        assert ground.browser.userinfo(refreshed["access_token"]).status == 200
    finally:
        site.server.store.keys.put(kept)
        site.server.keys._known = None


# ---- how it is shown


def _twice(ground: Ground) -> Answer:
    both = urlencode([("access_token", ground.token)] * 2)
    return ground.browser.request("POST", "/oauth2/userinfo", both, FORM)


WAYS: dict[str, tuple[Callable[[Ground], Answer], int, str | None]] = {
    "in the query": (lambda g: g.browser.get("/oauth2/userinfo", access_token=g.token), 400, "invalid_request"),
    "in the query of a POST": (
        lambda g: g.browser.post(f"/oauth2/userinfo?access_token={g.token}", {}),
        400,
        "invalid_request",
    ),
    "in the header and in the query": (
        lambda g: g.browser.get("/oauth2/userinfo", {"Authorization": f"Bearer {g.token}"}, access_token=g.token),
        400,
        "invalid_request",
    ),
    "in the header and in the body": (
        lambda g: g.browser.post("/oauth2/userinfo", {"access_token": g.token}, {"Authorization": f"Bearer {g.token}"}),
        400,
        "invalid_request",
    ),
    "two different ones, in header and body": (
        lambda g: g.browser.post(
            "/oauth2/userinfo", {"access_token": g.signed()}, {"Authorization": f"Bearer {g.token}"}
        ),
        400,
        "invalid_request",
    ),
    "twice in the body": (_twice, 400, "invalid_request"),
    "two in one header": (
        lambda g: g.browser.get("/oauth2/userinfo", {"Authorization": f"Bearer {g.token} {g.token}"}),
        401,
        "invalid_token",
    ),
    "two separated by a comma": (
        lambda g: g.browser.get("/oauth2/userinfo", {"Authorization": f"Bearer {g.token}, Bearer {g.token}"}),
        401,
        "invalid_token",
    ),
    "as the password of HTTP Basic": (
        lambda g: g.browser.get("/oauth2/userinfo", basic(g.client.id, g.token)),
        401,
        None,
    ),
    "as a cookie": (lambda g: g.browser.get("/oauth2/userinfo", {"Cookie": f"access_token={g.token}"}), 401, None),
    "not at all, with the client's credentials": (
        lambda g: g.browser.get("/oauth2/userinfo", basic(g.client.id, g.client.secret or "")),
        401,
        None,
    ),
}


@pytest.mark.spec("RFC 6750 §2", "RFC 6750 §2.3")
@pytest.mark.parametrize("way", WAYS)
def test_it_must_not_be_shown(ground: Ground, way: str) -> None:
    send, status, error = WAYS[way]
    refused(send(ground), status, error)


# ---- it opens nothing but what it is for


@pytest.mark.parametrize("name", ["access_token", "id_token", "refresh_token"])
def test_no_token_is_a_credential_of_its_client(ground: Ground, name: str) -> None:
    for path in ("/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"):
        bearer = {"Authorization": f"Bearer {ground.tokens[name]}"}
        form = {"grant_type": "refresh_token", "refresh_token": "x", "token": "x"}
        assert ground.browser.post(path, form, bearer).json["error"] == "invalid_client"
        assert ground.browser.post(path, form, basic(ground.client.id, ground.tokens[name])).status == 401


@pytest.mark.parametrize("name", ["access_token", "id_token"])
def test_a_jwt_is_neither_code_nor_refresh_token(ground: Ground, name: str) -> None:
    assert ground.browser.redeem(ground.client, ground.tokens[name]).json["error"] == "invalid_grant"
    assert ground.browser.refresh(ground.client, ground.tokens[name]).json["error"] == "invalid_grant"
