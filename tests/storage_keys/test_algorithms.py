"""Signing algorithms: chosen by the client, with a key for each in every ring, tested with published examples."""

import base64
import hashlib
import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import joserfc.jwt
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet

from chalicelib.keys import signing
from chalicelib.keys.envelope import Seal
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.signing import ALGORITHMS, half_hash
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidToken
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from tests.support.browser import Browser
from tests.support.grants import create_code, update_client
from tests.support.site import Registered, Site, dump_tables

CLAIMS = {"name": "Alice Liddell", "email": "alice@example.com"}


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text: str) -> int:
    return int.from_bytes(from_base64url(text), "big")


# ---- the algorithms of a client


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client()


def tokens_of(site: Site, browser: Browser, client: Registered) -> dict[str, Any]:
    alice = next(site.server.store.users.scan(), None) or site.user(claims=CLAIMS)
    members: dict[str, Any] = browser.redeem(client, create_code(site, client, alice)).json
    return members


def alg_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["alg"])


@pytest.mark.spec("OpenID Connect Core §10.1", "RFC 9068 §2.1 c")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_signing_algorithm_is_chosen_separately_for_each_kind_of_token(
    site: Site, browser: Browser, client: Registered, alg: str
) -> None:
    for what in ("id_token", "access_token"):
        update_client(site, client, **{f"{what}_signed_response_alg": alg})
        tokens = tokens_of(site, browser, client)
        assert {name: alg_of(tokens[name]) for name in ("id_token", "access_token")} == {
            "id_token": "RS256",
            "access_token": "RS256",
            what: alg,
        }
        assert browser.userinfo(tokens["access_token"]).header("content-type") == "application/json"
        refreshed = browser.refresh(client, tokens["refresh_token"]).json
        assert alg_of(refreshed[what]) == alg
        assert browser.userinfo(refreshed["access_token"]).status == 200


@pytest.mark.spec("OpenID Connect Core §5.3.2 h", "OpenID Connect Core §5.3.2 i", "OpenID Connect Core §5.3.2 j")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_userinfo_is_signed_for_a_client_with_a_userinfo_algorithm(
    site: Site, browser: Browser, client: Registered, alg: str
) -> None:
    update_client(site, client, userinfo_signed_response_alg=alg)
    tokens = tokens_of(site, browser, client)
    answer = browser.userinfo(tokens["access_token"])
    assert (answer.status, answer.header("content-type")) == (200, "application/jwt")
    assert answer.header("cache-control") == "no-store"
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json)[jwt.get_unverified_header(answer.body)["kid"]]
    claims = jwt.decode(answer.body, key, algorithms=[alg], audience=client.id, issuer=site.settings.issuer)
    sub = jwt.decode(tokens["id_token"], options={"verify_signature": False})["sub"]
    assert claims == {
        "iss": site.settings.issuer,
        "aud": client.id,
        "sub": sub,
        "preferred_username": "alice",
        **CLAIMS,
    }
    # It is not accepted as an access token.
    assert browser.userinfo(answer.body).status == 401


def test_userinfo_error_is_never_a_jwt(site: Site, browser: Browser, client: Registered) -> None:
    update_client(site, client, userinfo_signed_response_alg="RS256")
    token = browser.redeem(client, create_code(site, client, site.user(), scope=frozenset({"email"}))).json[
        "access_token"
    ]
    answer = browser.userinfo(token)
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")


@pytest.mark.spec("RFC 8725 §3.1")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_key_verifies_only_tokens_of_its_own_algorithm(site: Site, alg: str) -> None:
    keys, issuer, now = site.server.keys, site.settings.issuer, site.clock.time
    claims = {"iss": issuer, "aud": issuer, "sub": "alice", "iat": now, "exp": now + 60}
    assert keys.verify(keys.sign(claims, "at+jwt", alg), "at+jwt", issuer)["sub"] == "alice"
    entry = next(key for key in keys.read_document()[0]["signing"] if key["alg"] == alg)
    sibling = {"RS256": "PS256", "PS256": "RS256", "ES256": None, "EdDSA": None}[alg]
    if sibling:  # an RSA key can sign with both
        other = jwt.encode(claims, entry["private"], sibling, headers={"kid": entry["kid"], "typ": "at+jwt"})
        with pytest.raises(InvalidToken):
            keys.verify(other, "at+jwt", issuer)


@pytest.mark.parametrize("what", ["id_token", "access_token", "userinfo"])
@pytest.mark.parametrize("alg", ["none", "HS256", "RS384", "PS512", "ES384", "Ed25519", "rs256", ""])
def test_unsupported_algorithm_cannot_be_registered(site: Site, what: str, alg: str) -> None:
    before = dump_tables()
    with pytest.raises(InvalidClientMetadata, match=f"{what}_signed_response_alg must be one of: RS256, PS256, ES256,"):
        site.client(**{f"{what}_signed_response_alg": alg})
    assert dump_tables() == before


@pytest.mark.parametrize("alg", ["PS256", "EdDSA"])
def test_only_kms_algorithms_can_be_registered_when_kms_signs(site_with: Callable[..., Site], alg: str) -> None:
    site = site_with(signing="kms")
    for what in ("id_token", "access_token", "userinfo"):
        with pytest.raises(InvalidClientMetadata, match=r"must be one of: RS256, ES256$"):
            site.client(**{f"{what}_signed_response_alg": alg})
    assert site.client(id_token_signed_response_alg="ES256")


def test_metadata_lists_only_kms_algorithms_when_kms_signs(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    metadata = browsers(site_with(signing="kms")).get("/.well-known/openid-configuration").json
    for what in ("id_token", "userinfo"):
        assert metadata[f"{what}_signing_alg_values_supported"] == ["RS256", "ES256"]


# ---- at_hash and c_hash


@pytest.mark.spec("OpenID Connect Core §3.1.3.6")
@pytest.mark.spec("OpenID Connect Core §3.3.2.11 c")
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256"])
def test_half_hashes_match_the_examples_of_the_specification(alg: str) -> None:
    # OpenID Connect Core appendix A.3 (access token) and A.4 (code)
    assert half_hash(alg, "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y") == "77QmUPtjPfzWtF2AnpK9RQ"
    assert half_hash(alg, "Qcb0Orv1zh30vL1MPRsbm-diHiMwcLyZvn1arpZv-Jxf_11jnpEX3Tgfvk") == "LDktKdoQak3Pk0cnXxCltA"


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_at_hash_of_the_id_token_matches_the_access_token(
    site: Site, browser: Browser, client: Registered, alg: str
) -> None:
    update_client(site, client, id_token_signed_response_alg=alg)
    tokens = tokens_of(site, browser, client)
    at_hash = jwt.decode(tokens["id_token"], options={"verify_signature": False})["at_hash"]
    # Ed25519 has SHA-512 in it (RFC 8032 section 5.1).
    digest = (hashlib.sha512 if alg == "EdDSA" else hashlib.sha256)(tokens["access_token"].encode()).digest()
    assert from_base64url(at_hash) == digest[: len(digest) // 2]


# ---- published examples

PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RFC_7515_A_2 = {
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
    "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapH"
    "g665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRW"
    "yuXpoQ",
    "e": "AQAB",
    "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_G"
    "O-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2"
    "QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRu"
    "OopznQ",
    "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2"
    "KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_"
    "HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
}
RFC_7515_A_2_SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1"
    "dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzD"
    "wusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe7"
    "7Rw"
)


def parsed(alg: str, private: Any) -> signing.SigningKey:
    """Return the key of a ring's entry with this private key."""
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    entry = {"kid": "example", "alg": alg, "private": pem.decode(), "created_at": 0}
    return signing.parse(entry, lambda: pytest.fail("KMS must not be called"))


@pytest.mark.spec("RFC 7515 §A.2")
def test_rs256_signature_matches_the_rfc_example() -> None:
    n, e, d, p, q = (number(RFC_7515_A_2[name]) for name in ("n", "e", "d", "p", "q"))
    private = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(e, n)
    ).private_key()
    key = parsed("RS256", private)
    assert base64url(key.sign(f"eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}".encode())) == RFC_7515_A_2_SIGNATURE
    assert (key.jwk["n"], key.jwk["e"]) == (RFC_7515_A_2["n"], "AQAB")


@pytest.mark.spec("RFC 7515 §A.3")
def test_es256_key_matches_and_verifies_the_rfc_example() -> None:
    key = parsed("ES256", ec.derive_private_key(number("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"), ec.SECP256R1()))
    assert {name: key.jwk[name] for name in ("kty", "crv", "x", "y")} == {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }
    signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    signed = f"eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}"
    for candidate in (signature, base64url(key.sign(signed.encode()))):
        assert jwt.get_algorithm_by_name("ES256").verify(signed.encode(), key.public, from_base64url(candidate))


@pytest.mark.spec("RFC 8037 §A.3", "RFC 8037 §A.4")
def test_eddsa_signature_and_thumbprint_match_the_rfc_example() -> None:
    d = from_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    key = parsed("EdDSA", ed25519.Ed25519PrivateKey.from_private_bytes(d))
    assert {name: key.jwk[name] for name in ("kty", "crv", "x", "alg")} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "alg": "EdDSA",
    }
    assert "d" not in key.jwk
    assert signing.thumbprint(key.jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert base64url(key.sign(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc")) == (
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


@pytest.mark.spec("RFC 7518 §3.5")
def test_ps256_signature_has_a_salt_as_long_as_its_hash_and_verifies_with_joserfc() -> None:
    """No RFC has an example, because the signatures are random."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    key = parsed("PS256", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    key.public.verify(key.sign(b"x"), b"x", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    token = key.jwt({"sub": "alice"}, "JWT")
    published: Any = {"keys": [key.jwk]}
    assert joserfc.jwt.decode(token, KeySet.import_key_set(published), ["PS256"]).claims["sub"] == "alice"


# ---- rings of older versions


def insert_old_ring(site: Site) -> tuple[dict[str, Any], str]:
    """Insert a ring of an older version, with RS256 and ES256 and no secret for pairwise subjects.

    Return it with the kid of its RS256 key.
    """
    store, seal = site.server.store, Seal(site.settings)
    now = site.clock.time
    handles = [{"version": 1, "secret": base64.b64encode(b"s" * 32).decode(), "created_at": now}]
    ring: dict[str, Any] = {
        "signing": [signing.new_entry(alg, now) for alg in ("RS256", "ES256")],
        "handles": handles,
    }
    record = store.keys.get("main")
    assert record is None
    store.keys.put(SealedKeyRing("main", seal.seal(json.dumps(ring).encode(), 1)))
    return ring, ring["signing"][0]["kid"]


def test_ring_of_an_older_version_gets_the_missing_keys(site_without_ring: Site) -> None:
    old, kid = insert_old_ring(site_without_ring)
    ring = KeyRing(site_without_ring.server.store)
    assert [key["alg"] for key in ring.jwks()["keys"]] == [*ALGORITHMS]
    document, version = ring.read_document()
    assert version == 2
    assert document["signing"][:2] == old["signing"]
    assert document["handles"] == old["handles"]
    assert jwt.get_unverified_header(ring.sign({}, "JWT"))["kid"] == kid
    for alg in ALGORITHMS:
        assert alg_of(ring.sign({}, "JWT", alg)) == alg
    # The complete ring is not changed again.
    site_without_ring.clock.advance(60)
    ring.jwks()
    assert KeyRing(site_without_ring.server.store).jwks() == ring.jwks()
    assert ring.read_document() == (document, 2)


def test_one_of_concurrent_processes_completes_the_ring_of_an_older_version(site_without_ring: Site) -> None:
    insert_old_ring(site_without_ring)
    rings = [KeyRing(site_without_ring.server.store) for _ in range(20)]
    start = Barrier(100)

    def request(number: int) -> tuple[str, str]:
        start.wait()
        ring = rings[number % 20]
        return json.dumps(ring.jwks()), ring.pairwise_subject("client.example.com", "alice")

    with ThreadPoolExecutor(100) as pool:
        assert len(set(pool.map(request, range(100)))) == 1
    assert rings[0].read_document()[1] == 2


def test_pyjwt_and_joserfc_read_every_key_of_the_jwks(site: Site, browser: Browser) -> None:
    published = browser.get("/oauth2/jwks").json
    assert len(jwt.PyJWKSet.from_dict(published).keys) == len(ALGORITHMS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # RFC 9864 renames EdDSA
        assert len(KeySet.import_key_set(published).keys) == len(ALGORITHMS)  # type: ignore[arg-type]
