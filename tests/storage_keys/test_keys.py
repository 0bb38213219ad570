"""The key ring: encryption, creation on first use, caching for ten minutes."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import jwt
import pytest
from botocore.exceptions import ClientError

from chalicelib.keys import signing
from chalicelib.keys.envelope import Seal
from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.errors import InvalidToken
from chalicelib.protocol.records import SealedKeyRing
from chalicelib.settings import Settings, SettingsError
from tests.support.site import Site, dump_tables

PLAIN = b'{"signing": [], "handles": []}'
LOCAL = Settings(stage="test", region="us-east-1", sealing_key=b"k" * 32)

# ---- sealed with a key


def test_sealing_twice_gives_different_ciphertexts_of_the_same_plaintext() -> None:
    first, second = Seal(LOCAL).seal(PLAIN), Seal(LOCAL).seal(PLAIN)
    assert first != second
    assert PLAIN not in first
    assert Seal(LOCAL).unseal(first) == Seal(LOCAL).unseal(second) == PLAIN


@pytest.mark.parametrize("other", [{"sealing_key": b"x" * 32}, {"stage": "prod"}])
def test_unsealing_with_another_key_or_stage_fails(other: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="another key"):
        Seal(replace(LOCAL, **other)).unseal(Seal(LOCAL).seal(PLAIN))


def test_unsealing_changed_ciphertext_fails() -> None:
    sealed = Seal(LOCAL).seal(PLAIN)
    for index in range(len(sealed)):
        wrong = bytearray(sealed)
        wrong[index] ^= 1
        with pytest.raises(SettingsError):
            Seal(LOCAL).unseal(bytes(wrong))


# ---- sealed with KMS


@pytest.fixture(scope="module")
def in_aws(_moto: None) -> Settings:
    import boto3

    kms = boto3.client("kms", region_name="us-east-1")
    key_id = kms.create_key(Description="seals the ring")["KeyMetadata"]["KeyId"]
    return Settings(stage="test", region="us-east-1", kms_key_id=key_id)


@pytest.fixture(scope="module")
def another_key(_moto: None) -> str:
    import boto3

    kms = boto3.client("kms", region_name="us-east-1")
    return str(kms.create_key(Description="another")["KeyMetadata"]["KeyId"])


def test_sealing_twice_with_kms_gives_different_ciphertexts_of_the_same_plaintext(in_aws: Settings) -> None:
    first, second = Seal(in_aws).seal(PLAIN), Seal(in_aws).seal(PLAIN)
    assert first != second
    assert PLAIN not in first
    assert Seal(in_aws).unseal(first) == Seal(in_aws).unseal(second) == PLAIN


def test_sealing_and_unsealing_call_kms_once_each_with_the_stage(
    in_aws: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = Seal(in_aws)
    calls: list[tuple[str, dict[str, str]]] = []
    for name in ("generate_data_key", "decrypt"):
        real = getattr(seal.kms, name)

        def call(_name: str = name, _real: Any = real, **parameters: Any) -> Any:
            calls.append((_name, parameters["EncryptionContext"]))
            return _real(**parameters)

        monkeypatch.setattr(seal.kms, name, call)
    seal.unseal(seal.seal(PLAIN))
    context = {"signet-stage": "test"}
    assert calls == [("generate_data_key", context), ("decrypt", context)]


def test_unsealing_with_kms_in_another_stage_fails(in_aws: Settings) -> None:
    sealed = Seal(in_aws).seal(PLAIN)
    with pytest.raises(SettingsError, match="another key"):
        Seal(replace(in_aws, stage="prod")).unseal(sealed)


def test_unsealing_with_another_kms_key_fails(in_aws: Settings, another_key: str) -> None:
    sealed = Seal(in_aws).seal(PLAIN)
    # AWS raises IncorrectKeyException, moto AccessDeniedException.
    with pytest.raises((SettingsError, ClientError)):
        Seal(replace(in_aws, kms_key_id=another_key)).unseal(sealed)


def test_unsealing_with_kms_fails_for_a_local_key_and_the_reverse(in_aws: Settings) -> None:
    with pytest.raises(SettingsError, match="another key"):
        Seal(in_aws).unseal(Seal(LOCAL).seal(PLAIN))
    with pytest.raises(SettingsError, match="another key"):
        Seal(LOCAL).unseal(Seal(in_aws).seal(PLAIN))


def test_unsealing_changed_ciphertext_with_kms_fails(in_aws: Settings) -> None:
    sealed = bytearray(Seal(in_aws).seal(PLAIN))
    sealed[-1] ^= 1
    with pytest.raises(SettingsError):
        Seal(in_aws).unseal(bytes(sealed))


# ---- the ring


def test_concurrent_threads_use_the_same_new_ring(site_without_ring: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    # Generating an RSA key takes a tenth of a second. Rings still differ by their handle secrets.
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    monkeypatch.setattr(rsa, "generate_private_key", lambda **_: key)
    created: list[int] = []
    new_document = KeyRing._new_document

    def count(ring: KeyRing) -> bytes:
        created.append(1)
        return new_document(ring)

    monkeypatch.setattr(KeyRing, "_new_document", count)
    start = Barrier(100)
    processes = [KeyRing(site_without_ring.server.store) for _ in range(10)]

    def request(number: int) -> str:
        start.wait()
        return processes[number % 10].make_handle("code", "x")

    with ThreadPoolExecutor(100) as pool:
        results = set(pool.map(request, range(100)))
    assert len(results) == 1
    assert 1 <= len(created) <= 10  # each process creates at most one, with any number of threads
    assert len(list(site_without_ring.server.store.keys.scan())) == 1


def test_concurrent_first_requests_create_one_ring(site_without_ring: Site, site_with: Callable[..., Site]) -> None:
    processes = [site_with(issuer=site_without_ring.settings.issuer) for _ in range(4)]
    event = {"httpMethod": "GET", "path": "/oauth2/jwks", "headers": {}, "requestContext": {"stage": "$default"}}
    start = Barrier(100)

    def request(number: int) -> tuple[int, str]:
        start.wait()
        answer = processes[number % 4].http_handler(event, None)
        return answer["statusCode"], answer["body"]

    with ThreadPoolExecutor(100) as pool:
        [(status, published)] = set(pool.map(request, range(100)))
    assert status == 200
    assert len(json.loads(published)["keys"]) == len(signing.ALGORITHMS)
    [record] = site_without_ring.server.store.keys.scan()
    assert record.version == 1


def test_new_ring_is_stored_encrypted(site_without_ring: Site) -> None:
    ring = KeyRing(site_without_ring.server.store)
    assert ring.read_handle("code", ring.make_handle("code", "x"))
    [record] = site_without_ring.server.store.keys.scan()
    contents = json.loads(Seal(site_without_ring.settings).unseal(record.sealed))
    assert "PRIVATE KEY" in contents["signing"][0]["private"]
    for private in (contents["signing"][0]["private"], contents["handles"][0]["secret"], "PRIVATE KEY"):
        assert private not in dump_tables()
        assert private.encode() not in record.sealed
    assert contents["signing"][0]["private"] not in repr(ring._load().signing[0])
    assert contents["handles"][0]["secret"] not in repr(ring._load())


def test_ring_is_cached_for_ten_minutes(site: Site) -> None:
    dynamodb = site.server.store.dynamodb
    ring = KeyRing(site.server.store)
    counts = []
    for seconds in (0, 0, 599, 1, 0, 599, 1):
        site.clock.advance(seconds)
        dynamodb.take_counts()
        ring.jwks()
        ring.read_handle("code", ring.make_handle("code", "x"))
        ring.sign({}, "JWT")
        counts.append(dynamodb.take_counts()[0])
    assert counts == [1, 0, 0, 1, 0, 0, 1]


def test_parsed_keys_are_reused_when_the_ring_is_read_again(site: Site) -> None:
    ring = KeyRing(site.server.store)
    before = ring._load()
    site.clock.advance(600)
    after = ring._load()
    assert after is not before
    assert after.signing[0] is before.signing[0]


@pytest.mark.spec("RFC 7517 §5")
def test_key_added_by_another_process_is_published_and_trusted_after_a_reread(site: Site) -> None:
    store, seal = site.server.store, Seal(site.settings)
    ring = KeyRing(store)
    record = store.keys.get("main")
    assert record
    contents = json.loads(seal.unseal(record.sealed))
    added = signing.new_entry("RS256", site.clock.time) | {"used_from": site.clock.time + 3600}
    contents["signing"].append(added)
    first, *rest = (key["kid"] for key in contents["signing"])
    assert {key["kid"] for key in ring.jwks()["keys"]} == {first, *rest[:-1]}
    token = _signed_by(added, site)
    store.keys.put(SealedKeyRing("main", seal.seal(json.dumps(contents).encode())))
    try:
        with pytest.raises(InvalidToken):
            ring.verify(token, "at+jwt", site.settings.issuer)
        site.clock.advance(10)
        store.dynamodb.take_counts()
        assert ring.verify(token, "at+jwt", site.settings.issuer)["sub"] == "alice"
        assert store.dynamodb.take_counts()[0] == 1
        assert {key["kid"] for key in ring.jwks()["keys"]} == {first, *rest}
        # The first key still signs.
        assert jwt.get_unverified_header(ring.sign({}, "JWT"))["kid"] == first
    finally:
        store.keys.put(record)


def _signed_by(key: dict[str, str], site: Site) -> str:
    issuer, now = site.settings.issuer, site.clock.time
    claims = {"iss": issuer, "aud": issuer, "sub": "alice", "iat": now, "exp": now + 600}
    return jwt.encode(claims, key["private"], "RS256", headers={"kid": key["kid"], "typ": "at+jwt"})


def test_unknown_kid_rereads_the_ring_at_most_once_in_ten_seconds(site: Site) -> None:
    ring = KeyRing(site.server.store)
    unknown = signing.new_entry("RS256", 0)
    token = _signed_by(unknown, site)
    dynamodb, counts = site.server.store.dynamodb, []
    ring.jwks()
    for seconds in (0, 10, 0, 9, 1):
        site.clock.advance(seconds)
        dynamodb.take_counts()
        with pytest.raises(InvalidToken):
            ring.verify(token, "at+jwt", site.settings.issuer)
        counts.append(dynamodb.take_counts()[0])
    assert counts == [0, 1, 0, 0, 1]


def test_ring_sealed_with_another_key_raises_a_settings_error_and_is_not_replaced(site: Site) -> None:
    store = site.server.store
    record = store.keys.get("main")
    assert record
    store.keys.put(SealedKeyRing("main", Seal(replace(LOCAL, sealing_key=b"x" * 32)).seal(PLAIN)))
    try:
        with pytest.raises(SettingsError, match="another key"):
            KeyRing(store).jwks()
        stored = store.keys.get("main")
        assert stored
        assert stored.sealed != record.sealed  # it is not replaced
    finally:
        store.keys.put(record)


def test_token_is_signed_with_rs256_and_has_the_kid_of_its_key(site: Site) -> None:
    ring = KeyRing(site.server.store)
    header = jwt.get_unverified_header(ring.sign({"sub": "alice"}, "at+jwt"))
    published = ring.jwks()["keys"][0]
    assert header == {"alg": "RS256", "kid": published["kid"], "typ": "at+jwt"}
    modulus = base64.urlsafe_b64decode(published["n"] + "==")
    assert len(modulus) == 256
