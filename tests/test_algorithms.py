"""What signs what: each client's own algorithms, keys for all of them in every ring, and published examples."""

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

from chalicelib import signing
from chalicelib.errors import InvalidClientMetadata, InvalidToken
from chalicelib.handles import base64url
from chalicelib.keys import KeyRing
from chalicelib.models import SealedKeyRing
from chalicelib.seal import Seal
from chalicelib.signing import ALGORITHMS, half_hash
from tests.browser import Browser
from tests.shortcut import change, code_of
from tests.site import Registered, Site, dump

CLAIMS = {"name": "Alice Liddell", "email": "alice@example.com"}


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text: str) -> int:
    return int.from_bytes(from_base64url(text), "big")


# ---- each client has its own


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client()


def tokens_of(site: Site, browser: Browser, client: Registered) -> dict[str, Any]:
    alice = next(site.server.store.users.scan(), None) or site.user(claims=CLAIMS)
    members: dict[str, Any] = browser.redeem(client, code_of(site, client, alice)).json
    return members


def alg_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["alg"])


@pytest.mark.spec("OpenID Connect Core §10.1", "RFC 9068 §2.1 c")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_an_algorithm_is_chosen_for_each_kind_of_token_by_itself(
    site: Site, browser: Browser, client: Registered, alg: str
) -> None:
    for what in ("id_token", "access_token"):
        change(site, client, **{f"{what}_signed_response_alg": alg})
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
def test_userinfo_is_signed_for_a_client_that_wants_it(
    site: Site, browser: Browser, client: Registered, alg: str
) -> None:
    change(site, client, userinfo_signed_response_alg=alg)
    tokens = tokens_of(site, browser, client)
    answer = browser.userinfo(tokens["access_token"])
    assert (answer.status, answer.header("content-type")) == (200, "application/jwt")
    assert answer.header("cache-control") == "no-store"
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json)[jwt.get_unverified_header(answer.body)["kid"]]
    claims = jwt.decode(answer.body, key, algorithms=[alg], audience=client.id, issuer=site.settings.issuer)
    known = jwt.decode(tokens["id_token"], options={"verify_signature": False})["sub"]
    assert claims == {
        "iss": site.settings.issuer,
        "aud": client.id,
        "sub": known,
        "preferred_username": "alice",
        **CLAIMS,
    }
    # It is no access token, nor an ID token.
    assert browser.userinfo(answer.body).status == 401


def test_an_error_of_userinfo_is_never_a_jwt(site: Site, browser: Browser, client: Registered) -> None:
    change(site, client, userinfo_signed_response_alg="RS256")
    token = browser.redeem(client, code_of(site, client, site.user(), scope=frozenset({"email"}))).json["access_token"]
    answer = browser.userinfo(token)
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")


@pytest.mark.spec("RFC 8725 §3.1")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_key_checks_tokens_of_its_own_algorithm_alone(site: Site, alg: str) -> None:
    keys, issuer, now = site.server.keys, site.settings.issuer, site.clock.time
    claims = {"iss": issuer, "aud": issuer, "sub": "alice", "iat": now, "exp": now + 60}
    assert keys.verify(keys.sign(claims, "at+jwt", alg), "at+jwt", issuer)["sub"] == "alice"
    entry = next(key for key in keys.read_document()[0]["signing"] if key["alg"] == alg)
    kin = {"RS256": "PS256", "PS256": "RS256", "ES256": None, "EdDSA": None}[alg]
    if kin:  # the same kind of key can do both
        other = jwt.encode(claims, entry["private"], kin, headers={"kid": entry["kid"], "typ": "at+jwt"})
        with pytest.raises(InvalidToken):
            keys.verify(other, "at+jwt", issuer)


@pytest.mark.parametrize("what", ["id_token", "access_token", "userinfo"])
@pytest.mark.parametrize("alg", ["none", "HS256", "RS384", "PS512", "ES384", "Ed25519", "rs256", ""])
def test_no_other_algorithm_can_be_registered(site: Site, what: str, alg: str) -> None:
    before = dump()
    with pytest.raises(InvalidClientMetadata, match=f"{what}_signed_response_alg must be one of: RS256, PS256, ES256,"):
        site.client(**{f"{what}_signed_response_alg": alg})
    assert dump() == before


@pytest.mark.parametrize("alg", ["PS256", "EdDSA"])
def test_where_kms_signs_only_its_own_algorithms_can_be_registered(site_with: Callable[..., Site], alg: str) -> None:
    site = site_with(signing="kms")
    for what in ("id_token", "access_token", "userinfo"):
        with pytest.raises(InvalidClientMetadata, match=r"must be one of: RS256, ES256$"):
            site.client(**{f"{what}_signed_response_alg": alg})
    assert site.client(id_token_signed_response_alg="ES256")


def test_where_kms_signs_the_metadata_names_only_its_own_algorithms(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    metadata = browsers(site_with(signing="kms")).get("/.well-known/openid-configuration").json
    for what in ("id_token", "userinfo"):
        assert metadata[f"{what}_signing_alg_values_supported"] == ["RS256", "ES256"]


# ---- at_hash and c_hash


@pytest.mark.spec("OpenID Connect Core §3.1.3.6")
@pytest.mark.spec("OpenID Connect Core §3.3.2.11 c")
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256"])
def test_the_hashes_of_the_examples_are_those_of_the_specification(alg: str) -> None:
    # OpenID Connect Core appendix A.3 (access token) and A.4 (code)
    assert half_hash(alg, "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y") == "77QmUPtjPfzWtF2AnpK9RQ"
    assert half_hash(alg, "Qcb0Orv1zh30vL1MPRsbm-diHiMwcLyZvn1arpZv-Jxf_11jnpEX3Tgfvk") == "LDktKdoQak3Pk0cnXxCltA"


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_the_access_token_has_the_hash_that_the_id_token_tells(
    site: Site, browser: Browser, client: Registered, alg: str
) -> None:
    change(site, client, id_token_signed_response_alg=alg)
    tokens = tokens_of(site, browser, client)
    at_hash = jwt.decode(tokens["id_token"], options={"verify_signature": False})["at_hash"]
    # Ed25519 has SHA-512 in it (RFC 8032 section 5.1).
    digest = (hashlib.sha512 if alg == "EdDSA" else hashlib.sha256)(tokens["access_token"].encode()).digest()
    assert from_base64url(at_hash) == digest[: len(digest) // 2]


# ---- published examples, signed by our own keys' code

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
    """A private key as it comes out of the ring."""
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    entry = {"kid": "example", "alg": alg, "private": pem.decode(), "created_at": 0}
    return signing.parse(entry, lambda: pytest.fail("nobody asks KMS"))


@pytest.mark.spec("RFC 7515 §A.2")
def test_rs256_signs_the_example_as_the_rfc_does() -> None:
    n, e, d, p, q = (number(RFC_7515_A_2[name]) for name in ("n", "e", "d", "p", "q"))
    private = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(e, n)
    ).private_key()
    key = parsed("RS256", private)
    assert base64url(key.sign(f"eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}".encode())) == RFC_7515_A_2_SIGNATURE
    assert (key.jwk["n"], key.jwk["e"]) == (RFC_7515_A_2["n"], "AQAB")


@pytest.mark.spec("RFC 7515 §A.3")
def test_es256_has_the_key_of_the_example_and_its_signature_holds() -> None:
    key = parsed("ES256", ec.derive_private_key(number("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"), ec.SECP256R1()))
    assert {name: key.jwk[name] for name in ("kty", "crv", "x", "y")} == {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }
    signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    signed = f"eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}"
    for each in (signature, base64url(key.sign(signed.encode()))):
        assert jwt.get_algorithm_by_name("ES256").verify(signed.encode(), key.public, from_base64url(each))


@pytest.mark.spec("RFC 8037 §A.3", "RFC 8037 §A.4")
def test_eddsa_signs_the_example_as_the_rfc_does_under_the_same_thumbprint() -> None:
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
def test_ps256_has_a_salt_as_long_as_its_hash_as_another_library_finds() -> None:
    """No RFC has an example of it: its signatures are random."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    key = parsed("PS256", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    key.public.verify(key.sign(b"x"), b"x", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    token = key.jwt({"sub": "alice"}, "JWT")
    published: Any = {"keys": [key.jwk]}
    assert joserfc.jwt.decode(token, KeySet.import_key_set(published), ["PS256"]).claims["sub"] == "alice"


# ---- rings of before


def older(site: Site) -> tuple[dict[str, Any], str]:
    """A ring as an earlier version made it: RS256 and ES256, and no secret for pairwise subjects."""
    store, seal = site.server.store, Seal(site.settings)
    now = site.clock.time
    handles = [{"version": 1, "secret": base64.b64encode(b"s" * 32).decode(), "created_at": now}]
    ring: dict[str, Any] = {
        "signing": [signing.new_entry(alg, now) for alg in ("RS256", "ES256")],
        "handles": handles,
    }
    record = store.keys.get("main")
    assert record is None
    store.keys.put(SealedKeyRing("main", seal.seal(json.dumps(ring).encode())))
    return ring, ring["signing"][0]["kid"]


def test_a_ring_that_lacks_something_gets_it_without_anybodys_work(without_ring: Site) -> None:
    old, kid = older(without_ring)
    ring = KeyRing(without_ring.server.store)
    assert [key["alg"] for key in ring.jwks()["keys"]] == [*ALGORITHMS]
    document, version = ring.read_document()
    assert version == 2
    assert document["signing"][:2] == old["signing"]
    assert document["handles"] == old["handles"]
    assert jwt.get_unverified_header(ring.sign({}, "JWT"))["kid"] == kid
    for alg in ALGORITHMS:
        assert alg_of(ring.sign({}, "JWT", alg)) == alg
    # From then on it is whole, and is left alone.
    without_ring.clock.advance(600)
    ring.jwks()
    assert KeyRing(without_ring.server.store).jwks() == ring.jwks()
    assert ring.read_document() == (document, 2)


def test_of_all_processes_that_find_a_ring_of_before_one_completes_it(without_ring: Site) -> None:
    older(without_ring)
    rings = [KeyRing(without_ring.server.store) for _ in range(20)]
    start = Barrier(100)

    def ask(place: int) -> tuple[str, str]:
        start.wait()
        ring = rings[place % 20]
        return json.dumps(ring.jwks()), ring.pairwise("client.example.com", "alice")

    with ThreadPoolExecutor(100) as pool:
        assert len(set(pool.map(ask, range(100)))) == 1
    assert rings[0].read_document()[1] == 2


def test_each_library_reads_the_whole_key_set(site: Site, browser: Browser) -> None:
    published = browser.get("/oauth2/jwks").json
    assert len(jwt.PyJWKSet.from_dict(published).keys) == len(ALGORITHMS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # RFC 9864 has a new name for EdDSA
        assert len(KeySet.import_key_set(published).keys) == len(ALGORITHMS)  # type: ignore[arg-type]
