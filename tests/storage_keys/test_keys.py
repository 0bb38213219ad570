"""The key ring: encryption, creation by the operator, caching for a minute."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chalicelib.aws.client import AwsError, Client
from chalicelib.keys import signing
from chalicelib.keys.envelope import Seal
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.stored_ring import KeyRingMissing
from chalicelib.protocol import handles
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import InvalidToken, TemporarilyUnavailable
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.settings import Settings, SettingsError
from tests.support import faults
from tests.support.faults import Wire
from tests.support.site import Site, dump_tables
from tests.support.threads import run_concurrently

PLAIN = b'{"signing": [], "handles": []}'
LOCAL = Settings(stage="test", region="us-east-1", sealing_key=b"k" * 32)

# ---- sealed with a key


def test_sealing_twice_gives_different_ciphertexts_of_the_same_plaintext() -> None:
    first, second = Seal(LOCAL).seal(PLAIN, 3), Seal(LOCAL).seal(PLAIN, 3)
    assert first != second
    assert PLAIN not in first
    assert Seal(LOCAL).unseal(first, 3) == Seal(LOCAL).unseal(second, 3) == PLAIN


@pytest.mark.parametrize("other", [{"sealing_key": b"x" * 32}, {"stage": "prod"}])
def test_unsealing_with_another_key_or_stage_fails(other: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="another key"):
        Seal(replace(LOCAL, **other)).unseal(Seal(LOCAL).seal(PLAIN, 1), 1)


def test_unsealing_changed_ciphertext_fails() -> None:
    sealed = Seal(LOCAL).seal(PLAIN, 1)
    for index in range(len(sealed)):
        wrong = bytearray(sealed)
        wrong[index] ^= 1
        with pytest.raises(SettingsError):
            Seal(LOCAL).unseal(bytes(wrong), 1)


def old_envelope(document: bytes, settings: Settings) -> bytes:
    """Return the envelope of Signet 0.1.0: the stage is the associated data, without the version."""
    nonce = b"n" * 12
    assert settings.sealing_key
    return nonce + AESGCM(settings.sealing_key).encrypt(nonce, document, settings.stage.encode())


def test_unsealing_for_another_version_fails() -> None:
    sealed = Seal(LOCAL).seal(PLAIN, 2)
    for version in (1, 3, 22):
        with pytest.raises(SettingsError, match="another version"):
            Seal(LOCAL).unseal(sealed, version)


def test_envelope_of_version_0_1_0_is_opened() -> None:
    assert Seal(LOCAL).unseal(old_envelope(PLAIN, LOCAL), 7) == PLAIN


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
    first, second = Seal(in_aws).seal(PLAIN, 3), Seal(in_aws).seal(PLAIN, 3)
    assert first != second
    assert PLAIN not in first
    assert Seal(in_aws).unseal(first, 3) == Seal(in_aws).unseal(second, 3) == PLAIN


def test_sealing_and_unsealing_call_kms_once_each_with_the_stage(
    in_aws: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = Seal(in_aws)
    calls: list[tuple[str, dict[str, str]]] = []

    def call(operation: str, **parameters: Any) -> Any:
        calls.append((operation, parameters["EncryptionContext"]))
        return Client.call(seal.kms, operation, **parameters)

    monkeypatch.setattr(seal.kms, "call", call)
    seal.unseal(seal.seal(PLAIN, 1), 1)
    context = {"signet-stage": "test"}
    assert calls == [("GenerateDataKey", context), ("Decrypt", context)]


def test_unsealing_with_kms_in_another_stage_fails(in_aws: Settings) -> None:
    sealed = Seal(in_aws).seal(PLAIN, 1)
    with pytest.raises(SettingsError, match="another key"):
        Seal(replace(in_aws, stage="prod")).unseal(sealed, 1)


def test_unsealing_with_another_kms_key_fails(in_aws: Settings, another_key: str) -> None:
    sealed = Seal(in_aws).seal(PLAIN, 1)
    # AWS raises IncorrectKeyException, moto AccessDeniedException.
    with pytest.raises((SettingsError, AwsError)):
        Seal(replace(in_aws, kms_key_id=another_key)).unseal(sealed, 1)


def test_unsealing_with_kms_fails_for_a_local_key_and_the_reverse(in_aws: Settings) -> None:
    with pytest.raises(SettingsError, match="another key"):
        Seal(in_aws).unseal(Seal(LOCAL).seal(PLAIN, 1), 1)
    with pytest.raises(SettingsError, match="another key"):
        Seal(LOCAL).unseal(Seal(in_aws).seal(PLAIN, 1), 1)


def test_unsealing_changed_ciphertext_with_kms_fails(in_aws: Settings) -> None:
    sealed = bytearray(Seal(in_aws).seal(PLAIN, 1))
    sealed[-1] ^= 1
    with pytest.raises(SettingsError):
        Seal(in_aws).unseal(bytes(sealed), 1)


# ---- the ring


def test_concurrent_processes_create_one_ring(site_without_ring: Site) -> None:
    rings = [KeyRing(site_without_ring.server.store) for _ in range(10)]
    assert run_concurrently(ring.create for ring in rings).count(True) == 1
    assert len({ring.make_handle("code", "x") for ring in rings}) == 1
    [record] = site_without_ring.server.store.keys.scan()
    assert record.version == 1
    assert not rings[0].create()
    assert list(site_without_ring.server.store.keys.scan()) == [record]


JWKS = {"httpMethod": "GET", "path": "/oauth2/jwks", "headers": {}, "requestContext": {"stage": "$default"}}


def test_requests_without_a_ring_are_unavailable_create_none_and_log_the_command(
    site_without_ring: Site, site_with: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    new_process = site_with(issuer=site_without_ring.settings.issuer)
    answers = run_concurrently(partial(new_process.http_handler, JWKS, None) for _ in range(20))
    assert {answer["statusCode"] for answer in answers} == {503}
    assert json.loads(answers[0]["body"])["error"] == "temporarily_unavailable"
    assert list(site_without_ring.server.store.keys.scan()) == []
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["level"], line["status"]) == ("ERROR", 503)
    assert "`signet key create --stage test`" in line["detail"]
    assert "signet" not in answers[0]["body"]


def test_vanished_ring_is_an_error_within_a_minute_until_it_is_restored(site_without_ring: Site) -> None:
    site, ring = site_without_ring, site_without_ring.server.keys
    handle = ring.make_handle("code", "x")  # from the copy
    site.clock.advance(60)
    for use in (ring.jwks, lambda: ring.sign({}, "JWT"), lambda: ring.read_handle("code", handle)):
        with pytest.raises(KeyRingMissing):
            use()
    site.clock.advance(30 * MINUTE)
    with pytest.raises(KeyRingMissing):
        ring.jwks()
    assert list(site.server.store.keys.scan()) == []
    assert ring.create()
    assert len(ring.jwks()["keys"]) == len(signing.ALGORITHMS)
    assert ring.read_handle("code", handle) is None


def test_unknown_handles_do_not_prolong_the_use_of_a_vanished_ring(site_without_ring: Site) -> None:
    site, ring = site_without_ring, site_without_ring.server.keys
    for _ in range(5):
        site.clock.advance(10)
        with pytest.raises(KeyRingMissing):
            ring.read_handle("code", handles.make("code", "x", 0, 77, b"s" * 32))
    site.clock.advance(10)
    with pytest.raises(KeyRingMissing):
        ring.jwks()


def test_new_ring_is_stored_encrypted(site_without_ring: Site) -> None:
    ring = KeyRing(site_without_ring.server.store)
    assert ring.create()
    assert ring.read_handle("code", ring.make_handle("code", "x"))
    [record] = site_without_ring.server.store.keys.scan()
    contents = json.loads(Seal(site_without_ring.settings).unseal(record.sealed, record.version))
    assert "PRIVATE KEY" in contents["signing"][0]["private"]
    for private in (contents["signing"][0]["private"], contents["handles"][0]["secret"], "PRIVATE KEY"):
        assert private not in dump_tables()
        assert private.encode() not in record.sealed
    assert contents["signing"][0]["private"] not in repr(ring._cache.load().signing[0])
    assert contents["handles"][0]["secret"] not in repr(ring._cache.load())


def test_ring_is_cached_for_less_than_a_minute(site: Site) -> None:
    dynamodb = site.server.store.dynamodb
    ring = KeyRing(site.server.store)
    counts = []
    for seconds in (0, 0, 49, 1, 0, 49, 1, 600):
        site.clock.advance(seconds)
        dynamodb.take_counts()
        ring.jwks()
        ring.read_handle("code", ring.make_handle("code", "x"))
        ring.sign({}, "JWT")
        counts.append(dynamodb.take_counts()[0])
    assert counts == [1, 0, 0, 1, 0, 0, 1, 1]


def test_keys_that_were_read_in_the_future_are_read_again(site: Site) -> None:
    ring = KeyRing(site.server.store)
    ring.jwks()
    site.clock.advance(-1)
    site.server.store.dynamodb.take_counts()
    ring.jwks()
    assert site.server.store.dynamodb.take_counts()[0] == 1


@dataclass
class SlowTable:
    """Makes reads of the ring wait until `release`; `reading` is set when one has begun."""

    ring: KeyRing
    reads: int = 0
    reading: Event = field(default_factory=Event)
    release: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._read = self.ring._stored.read

    def read(self) -> SealedKeyRing:
        self.reads += 1
        self.reading.set()
        assert self.release.wait(10)
        return self._read()


@pytest.fixture
def slow_table(site: Site, monkeypatch: pytest.MonkeyPatch) -> SlowTable:
    """A ring that has been read once, and whose further reads wait."""
    ring = KeyRing(site.server.store)
    ring.jwks()
    slow = SlowTable(ring)
    monkeypatch.setattr(ring._stored, "read", slow.read)
    return slow


def test_one_thread_reads_the_ring_while_others_use_the_copy(site: Site, slow_table: SlowTable) -> None:
    site.clock.advance(50)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(slow_table.ring.jwks)
        assert slow_table.reading.wait(10)
        assert slow_table.ring.jwks()["keys"]  # does not wait
        assert not reader.done()
        slow_table.release.set()
        assert reader.result() == slow_table.ring.jwks()
    assert slow_table.reads == 1


def test_copy_that_is_a_minute_old_is_not_used_while_another_thread_reads(site: Site, slow_table: SlowTable) -> None:
    site.clock.advance(60)
    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(slow_table.ring.jwks)
        assert slow_table.reading.wait(10)
        waiting = pool.submit(slow_table.ring.sign, {}, "JWT")
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        slow_table.release.set()
        assert reader.result()
        assert waiting.result()
    assert slow_table.reads == 1


# ---- the table or KMS is unreachable


def read_fails(wire: Wire) -> AbstractContextManager[None]:
    return wire.every("GetItem", faults.unreachable)


def test_known_ring_is_used_for_an_hour_while_the_table_is_unreachable(
    site: Site, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(site.server.store)
    published = ring.jwks()
    with read_fails(wire):
        for seconds in (60, 59 * MINUTE - 1):
            site.clock.advance(seconds)
            caplog.clear()
            assert ring.jwks() == published
            [record] = [record for record in caplog.records if record.name == "signet.requests"]
            line = json.loads(record.getMessage())
            assert (line["level"], line["stage"]) == ("ERROR", "test")
            assert "cannot be read (dynamodb GetItem: " in line["detail"]
            assert "the copy" in line["detail"].lower()
        site.clock.advance(1)
        with pytest.raises(TemporarilyUnavailable):
            ring.jwks()
    assert ring.jwks() == published


def test_unreachable_table_is_tried_once_in_ten_seconds(site: Site, wire: Wire) -> None:
    ring, counts = KeyRing(site.server.store), []
    ring.jwks()
    with read_fails(wire):
        for seconds in (60, 0, 9, 1):
            site.clock.advance(seconds)
            site.server.store.dynamodb.take_counts()
            ring.jwks()
            counts.append(site.server.store.dynamodb.take_counts()[0])
    assert counts == [1, 0, 0, 1]


def test_unknown_key_is_unavailable_while_the_table_is_unreachable(site: Site, wire: Wire) -> None:
    """It may be a new one: a refresh token that is called invalid would sign the user out."""
    ring, unknown = KeyRing(site.server.store), handles.make("rt", "x", 0, 77, b"s" * 32)
    ring.jwks()
    site.clock.advance(10)
    with read_fails(wire):
        for _ in range(2):
            with pytest.raises(TemporarilyUnavailable):
                ring.read_handle("rt", unknown)
        assert ring.read_handle("rt", ring.make_handle("rt", "x"))
    site.clock.advance(10)
    assert ring.read_handle("rt", unknown) is None


def test_without_a_copy_an_unreachable_table_is_an_error(site: Site, wire: Wire) -> None:
    with read_fails(wire), pytest.raises(TemporarilyUnavailable):
        KeyRing(site.server.store).jwks()


def test_parsed_keys_are_reused_when_the_ring_is_read_again(site: Site) -> None:
    ring = KeyRing(site.server.store)
    before = ring._cache.load()
    site.clock.advance(60)
    after = ring._cache.load()
    assert after is not before
    assert after.signing[0] is before.signing[0]
    ring.forget_cached_keys()
    assert ring._cache.load().signing[0] is before.signing[0]


@pytest.mark.spec("RFC 7517 §5")
def test_key_added_by_another_process_is_published_and_trusted_after_a_reread(site: Site) -> None:
    store, seal = site.server.store, Seal(site.settings)
    ring = KeyRing(store)
    record = store.keys.get("main")
    assert record
    contents = json.loads(seal.unseal(record.sealed, record.version))
    added = signing.new_entry("RS256", site.clock.time) | {"used_from": site.clock.time + 3600}
    contents["signing"].append(added)
    first, *rest = (key["kid"] for key in contents["signing"])
    assert {key["kid"] for key in ring.jwks()["keys"]} == {first, *rest[:-1]}
    token = _signed_by(added, site)
    store.keys.put(SealedKeyRing("main", seal.seal(json.dumps(contents).encode(), 1)))
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
    store.keys.put(SealedKeyRing("main", Seal(replace(LOCAL, sealing_key=b"x" * 32)).seal(PLAIN, 1)))
    try:
        with pytest.raises(SettingsError, match="another key"):
            KeyRing(store).jwks()
        stored = store.keys.get("main")
        assert stored
        assert stored.sealed != record.sealed  # it is not replaced
    finally:
        store.keys.put(record)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.2 b", "FAPI 2.0 Security Profile §5.4.1 d")
def test_token_is_signed_with_rs256_and_has_the_kid_of_its_key(site: Site) -> None:
    ring = KeyRing(site.server.store)
    header = jwt.get_unverified_header(ring.sign({"sub": "alice"}, "at+jwt"))
    published = ring.jwks()["keys"][0]
    assert header == {"alg": "RS256", "kid": published["kid"], "typ": "at+jwt"}
    modulus = base64.urlsafe_b64decode(published["n"] + "==")
    assert len(modulus) == 256
