"""The key ring: sealed, made once whoever comes first, read again after ten minutes."""

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

from chalicelib import signing
from chalicelib.errors import InvalidToken
from chalicelib.keys import KeyRing
from chalicelib.models import SealedKeyRing
from chalicelib.seal import Seal
from chalicelib.settings import Settings, SettingsError
from tests.site import Site, dump

PLAIN = b'{"signing": [], "handles": []}'
LOCAL = Settings(stage="test", region="us-east-1", sealing_key=b"k" * 32)

# ---- sealed with a key


def test_what_was_sealed_can_be_unsealed_and_looks_different_each_time() -> None:
    one, two = Seal(LOCAL).seal(PLAIN), Seal(LOCAL).seal(PLAIN)
    assert one != two
    assert PLAIN not in one
    assert Seal(LOCAL).unseal(one) == Seal(LOCAL).unseal(two) == PLAIN


@pytest.mark.parametrize("other", [{"sealing_key": b"x" * 32}, {"stage": "prod"}])
def test_another_key_or_stage_opens_nothing(other: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="another key"):
        Seal(replace(LOCAL, **other)).unseal(Seal(LOCAL).seal(PLAIN))


def test_every_sealed_byte_counts() -> None:
    sealed = Seal(LOCAL).seal(PLAIN)
    for place in range(len(sealed)):
        wrong = bytearray(sealed)
        wrong[place] ^= 1
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


def test_kms_seals_and_unseals(in_aws: Settings) -> None:
    one, two = Seal(in_aws).seal(PLAIN), Seal(in_aws).seal(PLAIN)
    assert one != two
    assert PLAIN not in one
    assert Seal(in_aws).unseal(one) == Seal(in_aws).unseal(two) == PLAIN


def test_kms_is_asked_once_to_seal_and_once_to_unseal_and_told_the_stage(
    in_aws: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = Seal(in_aws)
    asked: list[tuple[str, dict[str, str]]] = []
    for name in ("generate_data_key", "decrypt"):
        real = getattr(seal.kms, name)

        def call(_name: str = name, _real: Any = real, **parameters: Any) -> Any:
            asked.append((_name, parameters["EncryptionContext"]))
            return _real(**parameters)

        monkeypatch.setattr(seal.kms, name, call)
    seal.unseal(seal.seal(PLAIN))
    context = {"signet-stage": "test"}
    assert asked == [("generate_data_key", context), ("decrypt", context)]


def test_kms_opens_nothing_for_another_stage(in_aws: Settings) -> None:
    sealed = Seal(in_aws).seal(PLAIN)
    with pytest.raises(SettingsError, match="another key"):
        Seal(replace(in_aws, stage="prod")).unseal(sealed)


def test_another_kms_key_opens_nothing(in_aws: Settings, another_key: str) -> None:
    sealed = Seal(in_aws).seal(PLAIN)
    # AWS says IncorrectKeyException, moto AccessDeniedException.
    with pytest.raises((SettingsError, ClientError)):
        Seal(replace(in_aws, kms_key_id=another_key)).unseal(sealed)


def test_what_one_way_sealed_the_other_does_not_open(in_aws: Settings) -> None:
    with pytest.raises(SettingsError, match="another key"):
        Seal(in_aws).unseal(Seal(LOCAL).seal(PLAIN))
    with pytest.raises(SettingsError, match="another key"):
        Seal(LOCAL).unseal(Seal(in_aws).seal(PLAIN))


def test_a_byte_changed_after_kms_sealed_it_is_noticed(in_aws: Settings) -> None:
    sealed = bytearray(Seal(in_aws).seal(PLAIN))
    sealed[-1] ^= 1
    with pytest.raises(SettingsError):
        Seal(in_aws).unseal(bytes(sealed))


# ---- the ring


def test_a_hundred_threads_that_need_the_ring_at_once_get_the_same_one(
    without_ring: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    # Making an RSA key takes a tenth of a second. Each ring has handle secrets of its own all the same.
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    monkeypatch.setattr(rsa, "generate_private_key", lambda **_: key)
    made: list[int] = []
    new_ring = KeyRing._new_ring

    def counting(ring: KeyRing) -> bytes:
        made.append(1)
        return new_ring(ring)

    monkeypatch.setattr(KeyRing, "_new_ring", counting)
    start = Barrier(100)
    processes = [KeyRing(without_ring.server.store) for _ in range(10)]

    def ask(number: int) -> str:
        start.wait()
        return processes[number % 10].make_handle("code", "x")

    with ThreadPoolExecutor(100) as pool:
        seen = set(pool.map(ask, range(100)))
    assert len(seen) == 1
    assert 1 <= len(made) <= 10  # one ring at most is made in a process, however many threads it has
    assert len(list(without_ring.server.store.keys.scan())) == 1


def test_a_hundred_first_requests_at_once_make_one_ring(without_ring: Site, site_with: Callable[..., Site]) -> None:
    processes = [site_with(issuer=without_ring.settings.issuer) for _ in range(4)]
    event = {"httpMethod": "GET", "path": "/oauth2/jwks", "headers": {}, "requestContext": {"stage": "$default"}}
    start = Barrier(100)

    def ask(number: int) -> tuple[int, str]:
        start.wait()
        answer = processes[number % 4].http_handler(event, None)
        return answer["statusCode"], answer["body"]

    with ThreadPoolExecutor(100) as pool:
        [(status, published)] = set(pool.map(ask, range(100)))
    assert status == 200
    assert len(json.loads(published)["keys"]) == len(signing.ALGORITHMS)
    [record] = without_ring.server.store.keys.scan()
    assert record.version == 1


def test_a_new_ring_is_sealed_in_the_table_and_signs(without_ring: Site) -> None:
    ring = KeyRing(without_ring.server.store)
    assert ring.read_handle("code", ring.make_handle("code", "x"))
    [record] = without_ring.server.store.keys.scan()
    contents = json.loads(Seal(without_ring.settings).unseal(record.sealed))
    assert "PRIVATE KEY" in contents["signing"][0]["private"]
    for private in (contents["signing"][0]["private"], contents["handles"][0]["secret"], "PRIVATE KEY"):
        assert private not in dump()
        assert private.encode() not in record.sealed
    assert contents["signing"][0]["private"] not in repr(ring._contents().signing[0])
    assert contents["handles"][0]["secret"] not in repr(ring._contents())


def test_the_ring_is_read_once_and_again_after_ten_minutes(site: Site) -> None:
    dynamodb = site.server.store.dynamodb
    ring = KeyRing(site.server.store)
    counts = []
    for seconds in (0, 0, 599, 1, 0, 599, 1):
        site.clock.advance(seconds)
        dynamodb.consumed()
        ring.jwks()
        ring.read_handle("code", ring.make_handle("code", "x"))
        ring.sign({}, "JWT")
        counts.append(dynamodb.consumed()[0])
    assert counts == [1, 0, 0, 1, 0, 0, 1]


def test_keys_that_are_known_are_not_parsed_again(site: Site) -> None:
    ring = KeyRing(site.server.store)
    before = ring._contents()
    site.clock.advance(600)
    after = ring._contents()
    assert after is not before
    assert after.signing[0] is before.signing[0]


@pytest.mark.spec("RFC 7517 §5")
def test_a_key_that_somebody_added_is_published_and_trusted_when_the_ring_is_read_again(site: Site) -> None:
    store, seal = site.server.store, Seal(site.settings)
    ring = KeyRing(store)
    record = store.keys.get("main")
    assert record
    contents = json.loads(seal.unseal(record.sealed))
    added = signing.new_entry("RS256", site.clock.time) | {"used_from": site.clock.time + 3600}
    contents["signing"].append(added)
    first, *others = (key["kid"] for key in contents["signing"])
    assert {key["kid"] for key in ring.jwks()["keys"]} == {first, *others[:-1]}
    token = _signed_by(added, site)
    store.keys.put(SealedKeyRing("main", seal.seal(json.dumps(contents).encode())))
    try:
        with pytest.raises(InvalidToken):
            ring.verify(token, "at+jwt", site.settings.issuer)
        site.clock.advance(10)
        store.dynamodb.consumed()
        assert ring.verify(token, "at+jwt", site.settings.issuer)["sub"] == "alice"
        assert store.dynamodb.consumed()[0] == 1
        assert {key["kid"] for key in ring.jwks()["keys"]} == {first, *others}
        # The first one signs.
        assert jwt.get_unverified_header(ring.sign({}, "JWT"))["kid"] == first
    finally:
        store.keys.put(record)


def _signed_by(key: dict[str, str], site: Site) -> str:
    issuer, now = site.settings.issuer, site.clock.time
    claims = {"iss": issuer, "aud": issuer, "sub": "alice", "iat": now, "exp": now + 600}
    return jwt.encode(claims, key["private"], "RS256", headers={"kid": key["kid"], "typ": "at+jwt"})


def test_an_unknown_kid_reads_the_ring_again_but_once_in_ten_seconds(site: Site) -> None:
    ring = KeyRing(site.server.store)
    unknown = signing.new_entry("RS256", 0)
    token = _signed_by(unknown, site)
    dynamodb, counts = site.server.store.dynamodb, []
    ring.jwks()
    for seconds in (0, 10, 0, 9, 1):
        site.clock.advance(seconds)
        dynamodb.consumed()
        with pytest.raises(InvalidToken):
            ring.verify(token, "at+jwt", site.settings.issuer)
        counts.append(dynamodb.consumed()[0])
    assert counts == [0, 1, 0, 0, 1]


def test_a_ring_that_another_key_sealed_stops_the_server_with_a_setting_error(site: Site) -> None:
    store = site.server.store
    record = store.keys.get("main")
    assert record
    store.keys.put(SealedKeyRing("main", Seal(replace(LOCAL, sealing_key=b"x" * 32)).seal(PLAIN)))
    try:
        with pytest.raises(SettingsError, match="another key"):
            KeyRing(store).jwks()
        kept = store.keys.get("main")
        assert kept
        assert kept.sealed != record.sealed  # and it is not replaced
    finally:
        store.keys.put(record)


def test_a_token_is_signed_with_rs256_and_names_its_key(site: Site) -> None:
    ring = KeyRing(site.server.store)
    header = jwt.get_unverified_header(ring.sign({"sub": "alice"}, "at+jwt"))
    published = ring.jwks()["keys"][0]
    assert header == {"alg": "RS256", "kid": published["kid"], "typ": "at+jwt"}
    modulus = base64.urlsafe_b64decode(published["n"] + "==")
    assert len(modulus) == 256
