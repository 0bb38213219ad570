"""/oauth2/userinfo: a protected resource (RFC 6750, OpenID Connect Core section 5.3)."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from chalicelib.tokens import ACCESS_TOKEN_TYPE
from tests.browser import Answer, Browser
from tests.shortcut import change, code_of
from tests.site import Registered, Site

FORM = "application/x-www-form-urlencoded"
CLAIMS: dict[str, Any] = {
    "name": "Alice Liddell",
    "given_name": "Alice",
    "nickname": "",
    "email": "alice@example.com",
    "email_verified": False,
    "phone_number": "+1 (604) 555-1234",
    "address": {"locality": "Oxford", "country": "UK"},
    "updated_at": 1311280970,
    "shoe_size": "37",
}


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(scope="openid profile email address phone offline_access PRODUCTION")


@pytest.fixture
def access(site: Site, browser: Browser, client: Registered) -> Callable[..., str]:
    """Makes an access token for Alice with these scopes."""
    alice = site.user("alice", claims=CLAIMS)

    def make(scope: str = "openid") -> str:
        code = code_of(site, client, alice, scope=frozenset(scope.split()))
        token: str = browser.redeem(client, code).json["access_token"]
        return token

    return make


def refused(answer: Answer, status: int, error: str | None) -> None:
    """RFC 6750 section 3: the challenge tells what the body tells; who showed nothing is told nothing."""
    challenge = answer.header("www-authenticate") or ""
    assert challenge.startswith('Bearer realm="userinfo"'), answer
    assert (answer.status, answer.json.get("error")) == (status, error)
    assert (f'error="{error}"' in challenge) if error else ("error" not in challenge)
    assert answer.header("cache-control") == "no-store"
    assert "sub" not in answer.json


# ---- how the token is shown


@pytest.mark.spec("OpenID Connect Core §5.3 b", "OpenID Connect Core §5.3 c")
@pytest.mark.spec("RFC 6750 §2.1")
@pytest.mark.spec("OpenID Connect Core §5.3.1")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_may_be_in_the_header(browser: Browser, access: Callable[..., str], method: str, scheme: str) -> None:
    answer = browser.request(method, "/oauth2/userinfo", headers={"Authorization": f"{scheme} {access()}"})
    assert answer.status == 200
    assert answer.header("cache-control") == "no-store"
    assert set(answer.json) == {"sub"}


@pytest.mark.spec("RFC 6750 §2.2")
@pytest.mark.parametrize("media_type", [FORM, f"{FORM}; charset=utf-8", FORM.upper()])
def test_the_token_may_be_in_the_body_of_a_post(browser: Browser, access: Callable[..., str], media_type: str) -> None:
    body = urlencode({"access_token": access()})
    assert browser.request("POST", "/oauth2/userinfo", body, {"Content-Type": media_type}).status == 200


def test_a_body_of_another_kind_is_not_looked_at(browser: Browser, access: Callable[..., str]) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {access()}"}
    assert browser.request("POST", "/oauth2/userinfo", "{", headers).status == 200
    assert browser.request("GET", "/oauth2/userinfo", None, headers | {"Content-Type": FORM}).status == 200


@pytest.mark.spec("RFC 6750 §2.3 a", "RFC 6750 §3.1 a", "RFC 6750 §5.3 d")
@pytest.mark.spec("RFC 6750 §2.3")
@pytest.mark.spec("RFC 9700 §4.3.2")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("also", [True, False])
def test_the_token_must_not_be_in_the_query(
    browser: Browser, access: Callable[..., str], method: str, also: bool
) -> None:
    token = access()
    headers = {"Authorization": f"Bearer {token}"} if also else {}
    answer = browser.request(method, f"/oauth2/userinfo?access_token={token}", headers=headers)
    refused(answer, 400, "invalid_request")


@pytest.mark.spec("RFC 6750 §2")
def test_the_token_must_be_shown_in_one_way_only(browser: Browser, access: Callable[..., str]) -> None:
    token = access()
    headers = {"Content-Type": FORM, "Authorization": f"Bearer {token}"}
    answer = browser.request("POST", "/oauth2/userinfo", urlencode({"access_token": token}), headers)
    refused(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [b"access_token=a&access_token=a", b"access_token=%00", b"access_token=%ff", b"access_token=" + b"x" * 8193],
    ids=["twice", "NUL", "not UTF-8", "too long"],
)
def test_a_malformed_body_is_an_invalid_request(browser: Browser, site: Site, body: bytes) -> None:
    refused(browser.request("POST", "/oauth2/userinfo", body, {"Content-Type": FORM}), 400, "invalid_request")


@pytest.mark.spec("RFC 6750 §3.1 d")
@pytest.mark.spec("RFC 6750 §3.1")
@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("GET", {}, None),
        ("POST", {}, None),
        ("POST", {"Content-Type": FORM}, ""),
        ("POST", {"Content-Type": FORM}, "access_token="),
        ("POST", {"Content-Type": "application/json"}, '{"access_token": "x"}'),
        ("GET", {"Authorization": "Basic YTpi"}, None),
        ("GET", {"Authorization": "Token x"}, None),
    ],
)
def test_who_shows_no_token_is_told_no_error(
    browser: Browser, site: Site, method: str, headers: dict[str, str], body: str | None
) -> None:
    refused(browser.request(method, "/oauth2/userinfo", body, headers), 401, None)


# ---- which token


def _part(members: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


def _deep(characters: bytes) -> str:
    return base64.urlsafe_b64encode(characters).rstrip(b"=").decode()


GARBAGE = {
    "nothing": "",
    "a word": "garbage",
    "two words": "mF_9.B5f-4.1JqM mF_9.B5f-4.1JqM",
    "dots": "..",
    "many dots": "." * 50,
    "three parts": "a.b.c",
    "characters that are not ASCII": "\xe9.\xe9.\xe9",
    "a header that is no object": f"{_part([1])}.{_part({})}.AA",
    "a header that is empty": f"{_part({})}.{_part({})}.AA",
    "a header whose members have other types": f"{_part({'alg': ['RS256'], 'kid': {}, 'typ': 1})}.{_part({})}.AA",
    "a header whose kid is a number": f"{_part({'alg': 'RS256', 'kid': 1, 'typ': 'at+jwt'})}.{_part({})}.AA",
    "a header with crit": f"{_part({'alg': 'RS256', 'typ': 'at+jwt', 'crit': ['b64'], 'b64': False})}..AA",
    "a header nested deeply": f"{_deep(b'[' * 30_000)}.{_part({})}.AA",
    "a header of objects nested deeply": _deep(b'{"a":' * 5_000) + f".{_part({})}.AA",
    "a refresh token": "rt_AQAAAAE_Qktn1VlhbhyzJkOZHZeWV3JDaHkyTVdfZzFHLVRpaWF4VlhJQQ",
}


@pytest.mark.spec("RFC 6750 §3.1 b", "RFC 9068 §4 i")
@pytest.mark.spec("RFC 6750 §3.1")
@pytest.mark.parametrize("what", GARBAGE)
def test_what_is_no_token_is_an_invalid_token(browser: Browser, site: Site, what: str) -> None:
    refused(browser.userinfo(GARBAGE[what]), 401, "invalid_token")


Forge = Callable[[Site, dict[str, Any], dict[str, Any]], str]


def _signed(site: Site, claims: dict[str, Any], typ: str = ACCESS_TOKEN_TYPE) -> str:
    return site.server.keys.sign(claims, typ)


def _by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    return f"{_part(header)}.{_part(claims)}." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def _with_public_key_as_secret(site: Site, header: dict[str, Any], claims: dict[str, Any]) -> str:
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = jwt.PyJWK(site.server.keys.jwks()["keys"][0]).key
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part(header | {'alg': 'HS256'})}.{_part(claims)}"
    return f"{signed}." + _deep(hmac.digest(pem, signed.encode(), hashlib.sha256))


def _with_another_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(claims, key, "RS256", headers=header)


def _jwk_in_header(header: dict[str, Any], claims: dict[str, Any]) -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from jwt.algorithms import RSAAlgorithm

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwt.encode(claims, key, "RS256", headers=header | {"jwk": jwk})


FORGERIES: dict[str, Forge] = {
    "alg none": lambda s, h, c: _by_hand(h | {"alg": "none"}, c),
    "alg None, in capitals": lambda s, h, c: _by_hand(h | {"alg": "NONE"}, c),
    "alg none with a signature": lambda s, h, c: _by_hand(h | {"alg": "none"}, c, b"x" * 256),
    "HS256 with the public key": _with_public_key_as_secret,
    "another alg of the same key": lambda s, h, c: _by_hand(h | {"alg": "RS512"}, c, b"x" * 256),
    "no signature": lambda s, h, c: _by_hand(h, c),
    "a wrong signature": lambda s, h, c: _by_hand(h, c, b"x" * 256),
    "another key under our kid": lambda s, h, c: _with_another_key(h, c),
    "another key in the header": lambda s, h, c: _jwk_in_header(h, c),
    "an unknown kid": lambda s, h, c: _with_another_key(h | {"kid": "unknown"}, c),
    "a kid that is a path": lambda s, h, c: _with_another_key(h | {"kid": "../../dev/null"}, c),
    "no kid": lambda s, h, c: _with_another_key({"typ": h["typ"]}, c),
    "an ID token's typ": lambda s, h, c: _signed(s, c, "JWT"),
    "another issuer": lambda s, h, c: _signed(s, c | {"iss": "https://evil.example"}),
    "an issuer with a slash more": lambda s, h, c: _signed(s, c | {"iss": c["iss"] + "/"}),
    "no issuer": lambda s, h, c: _signed(s, {n: v for n, v in c.items() if n != "iss"}),
    "another audience": lambda s, h, c: _signed(s, c | {"aud": "https://api.example.com"}),
    "the client as audience": lambda s, h, c: _signed(s, c | {"aud": c["client_id"]}),
    "no audience": lambda s, h, c: _signed(s, {n: v for n, v in c.items() if n != "aud"}),
    "no expiry": lambda s, h, c: _signed(s, {n: v for n, v in c.items() if n != "exp"}),
    "expired": lambda s, h, c: _signed(s, c | {"exp": s.clock.time}),
    "another grant": lambda s, h, c: _signed(s, c | {"grant_id": "never"}),
    "another person": lambda s, h, c: _signed(s, c | {"sub": "never"}),
}


@pytest.mark.spec("RFC 6749 §7", "RFC 6749 §10.3 c", "RFC 9068 §2.1 a", "RFC 9068 §2.1 b", "RFC 9068 §4 c")
@pytest.mark.spec("RFC 9068 §4 d", "RFC 9068 §4 e", "RFC 9068 §4 f", "RFC 9068 §4 g", "RFC 9068 §4 h", "RFC 9068 §4 i")
@pytest.mark.spec("RFC 9700 §2.3 c")
@pytest.mark.spec("RFC 9068 §4")
@pytest.mark.spec("RFC 8725 §3")
@pytest.mark.parametrize("what", FORGERIES)
def test_a_token_that_is_not_right_in_every_part_is_refused(
    site: Site, browser: Browser, access: Callable[..., str], what: str
) -> None:
    token = access()
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    refused(browser.userinfo(FORGERIES[what](site, header, claims)), 401, "invalid_token")
    assert browser.userinfo(_signed(site, claims)).status == 200  # so that is all that was wrong


@pytest.mark.spec("RFC 6749 §10.3 c", "RFC 6750 §5.2 b")
def test_a_token_changed_in_any_place_is_refused(browser: Browser, access: Callable[..., str]) -> None:
    token = access()
    for place in range(0, len(token) - 1, 7):  # the last character has bits that mean nothing
        wrong = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert browser.userinfo(wrong).status == 401, place


@pytest.mark.spec("OpenID Connect Core §5.3.1")
def test_an_id_token_is_no_access_token(site: Site, browser: Browser, client: Registered) -> None:
    id_token = browser.redeem(client, code_of(site, client, site.user())).json["id_token"]
    refused(browser.userinfo(id_token), 401, "invalid_token")


@pytest.mark.spec("RFC 6749 §7", "RFC 6750 §5.2 i", "RFC 9068 §4 h")
def test_a_token_expires_to_the_second(site: Site, browser: Browser, access: Callable[..., str]) -> None:
    token = access()
    site.clock.advance(599)
    assert browser.userinfo(token).status == 200
    site.clock.advance(1)
    refused(browser.userinfo(token), 401, "invalid_token")


@pytest.mark.spec("RFC 7009 §2.1")
def test_a_revoked_grant_opens_nothing_at_once(
    site: Site, browser: Browser, client: Registered, access: Callable[..., str]
) -> None:
    token = access()
    assert browser.userinfo(token).status == 200
    grant_id = jwt.decode(token, options={"verify_signature": False})["grant_id"]
    site.server.store.grants.transition((grant_id,), None, {"revoked_at": site.clock.time})
    refused(browser.userinfo(token), 401, "invalid_token")


def test_a_disabled_or_deleted_user_opens_nothing(site: Site, browser: Browser, access: Callable[..., str]) -> None:
    token = access()
    sub = browser.userinfo(token).json["sub"]
    user = site.server.store.users.get(sub)
    assert user
    site.server.store.users.put(replace(user, disabled_at=1))
    refused(browser.userinfo(token), 401, "invalid_token")
    site.server.store.users.put(user)
    assert browser.userinfo(token).status == 200
    site.server.store.users.delete(sub)
    refused(browser.userinfo(token), 401, "invalid_token")


def test_a_disabled_or_deleted_client_opens_nothing_when_the_cached_record_is_old(
    site: Site, browser: Browser, client: Registered, access: Callable[..., str]
) -> None:
    token = access()
    change(site, client, disabled_at=1)
    refused(browser.userinfo(token), 401, "invalid_token")
    change(site, client)
    assert browser.userinfo(token).status == 200
    site.server.store.clients.delete(client.id)
    site.clock.advance(60)
    refused(browser.userinfo(token), 401, "invalid_token")


@pytest.mark.spec("RFC 6749 §7", "RFC 6750 §3.1 c", "RFC 9068 §4 j")
@pytest.mark.spec("RFC 6750 §3.1")
def test_without_openid_the_scope_does_not_suffice(browser: Browser, access: Callable[..., str]) -> None:
    answer = browser.userinfo(access("profile email"))
    refused(answer, 403, "insufficient_scope")
    assert 'scope="openid"' in (answer.header("www-authenticate") or "")


# ---- what it opens

PROFILE = {"name": "Alice Liddell", "given_name": "Alice", "preferred_username": "alice", "updated_at": 1311280970}
EMAIL = {"email": "alice@example.com", "email_verified": False}


@pytest.mark.spec("RFC 9068 §4 j", "OpenID Connect Core §5.3.2 d")
@pytest.mark.spec("OpenID Connect Core §5.4")
@pytest.mark.spec("OpenID Connect Core §5.3.2")
@pytest.mark.parametrize(
    ("scope", "claims"),
    [
        ("openid", {}),
        ("openid offline_access PRODUCTION", {}),
        ("openid profile", PROFILE),
        ("openid email", EMAIL),
        ("openid address", {"address": {"locality": "Oxford", "country": "UK"}}),
        ("openid phone", {"phone_number": "+1 (604) 555-1234"}),
        ("openid profile email", PROFILE | EMAIL),
    ],
)
def test_each_scope_releases_its_claims_and_no_other(
    browser: Browser, access: Callable[..., str], scope: str, claims: dict[str, Any]
) -> None:
    token = access(scope)
    sub = jwt.decode(token, options={"verify_signature": False})["sub"]
    assert browser.userinfo(token).json == {"sub": sub, **claims}


@pytest.mark.spec("OpenID Connect Core §5.3.2 b", "OpenID Connect Core §5.3.2 c", "OpenID Connect Core §13.3")
@pytest.mark.spec("OpenID Connect Core §5.3.2")
def test_a_claim_that_is_not_known_is_left_out(site: Site, browser: Browser, client: Registered) -> None:
    bob = site.user("bob", claims={"name": None, "family_name": "", "locale": "en"})
    scope = frozenset({"openid", "profile", "email", "phone", "address"})
    token = browser.redeem(client, code_of(site, client, bob, scope=scope)).json["access_token"]
    assert browser.userinfo(token).json == {"sub": bob.sub, "preferred_username": "bob", "locale": "en"}
