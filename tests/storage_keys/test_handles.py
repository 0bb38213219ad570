"""Handles: only those of this server are accepted, each for one kind and in one spelling."""

import base64
import itertools
import json
from typing import get_args

import pytest

from chalicelib.keys import ring as keys
from chalicelib.keys.envelope import Seal
from chalicelib.protocol import handles
from chalicelib.protocol.handles import Handle, Kind
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from tests.support.site import Site

KINDS: tuple[Kind, ...] = get_args(Kind)
SECRET = b"s" * 32
ID = "SplxlOBeZQQYbYS6WxSbIA"


def read(kind: Kind, text: str) -> Handle | None:
    return handles.read(kind, text, {1: SECRET}.get)


def create(kind: Kind = "code", record_id: str = ID, generation: int = 0, version: int = 1) -> str:
    return handles.make(kind, record_id, generation, version, SECRET)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("record_id", [ID, "x", "a.b", "x" * 300, "sub.session"])
@pytest.mark.parametrize("generation", [0, 1, 2**32 - 1])
def test_handle_is_read_as_it_was_created(kind: Kind, record_id: str, generation: int) -> None:
    handle = create(kind, record_id, generation)
    assert read(kind, handle) == Handle(kind, record_id, generation, 1)
    assert handle == create(kind, record_id, generation)  # deterministic, so that no handle has to be stored
    assert handle.isascii()
    assert handle.replace("-", "").replace("_", "").isalnum()


@pytest.mark.spec("RFC 9700 §4.3")
@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(KINDS, 2)))
def test_handle_is_valid_for_its_own_kind_only(kind: Kind, other: Kind) -> None:
    handle = create(kind)
    assert read(other, handle) is None
    assert read(other, handle.replace(f"{kind}_", f"{other}_", 1)) is None
    assert read(other, f"{other}_{handle}") is None


def test_handle_with_a_flipped_bit_is_rejected() -> None:
    body = bytearray(base64.urlsafe_b64decode(create().removeprefix("code_") + "=="))
    for bit in range(len(body) * 8):
        wrong = bytearray(body)
        wrong[bit // 8] ^= 1 << bit % 8
        assert read("code", "code_" + base64.urlsafe_b64encode(wrong).rstrip(b"=").decode()) is None, bit


def test_handle_with_a_changed_character_is_rejected() -> None:
    valid = create()
    assert read("code", valid)
    for index, character in itertools.product(range(len(valid)), "Aa0-_.=+/ é\0\n"):
        wrong = valid[:index] + character + valid[index + 1 :]
        assert wrong == valid or read("code", wrong) is None, (index, character)


@pytest.mark.parametrize("generation", range(6))
def test_other_spellings_of_a_handle_are_rejected(generation: int) -> None:
    # Ids of each length modulo 3, so that base64 ends in every possible way.
    for record_id in ("abc", "abcd", "abcde", ID):
        encoded = create(record_id=record_id, generation=generation).removeprefix("code_")
        standard = encoded.replace("-", "+").replace("_", "/")
        spellings = [
            *(encoded + end for end in ("=", "==", "===", "\n", " ", "A", "AA", "%", "\0")),
            *(" " + encoded, "\n" + encoded, encoded[:9] + "\n" + encoded[9:], encoded[:-1], encoded[1:]),
            *(encoded[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
        ]
        for spelling in {*spellings, standard} - {encoded}:
            assert read("code", f"code_{spelling}") is None, spelling
        for prefix in ("CODE_", "Code_", " code_", "code-", "code", ""):
            assert read("code", prefix + encoded) is None


@pytest.mark.parametrize("text", ["", "code_", "code_A", "code_AAAA", "code_" + "A" * 600, "code_é", "code_\ud800"])
def test_handle_that_is_too_short_too_long_or_not_base64_is_rejected(text: str) -> None:
    assert read("code", text) is None


def test_handle_with_another_secret_or_key_version_is_rejected() -> None:
    assert handles.read("code", handles.make("code", ID, 0, 1, b"t" * 32), {1: SECRET}.get) is None
    assert handles.read("code", handles.make("code", ID, 0, 2, SECRET), {1: SECRET}.get) is None
    assert handles.read("code", create(), {1: SECRET, 2: b"t" * 32}.get)


def test_record_ids_are_128_random_bits() -> None:
    ids = {handles.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(base64.urlsafe_b64decode(record_id + "==")) == 16 for record_id in ids)


# ---- the ring, which has the secrets


def ring_of(site: Site) -> tuple[keys.KeyRing, Seal]:
    """Return a separate ring that has read the table once, and the seal of the site."""
    ring = keys.KeyRing(site.server.store)
    ring.jwks()
    return ring, Seal(site.settings)


def count_calls(site: Site) -> int:
    """Return the number of DynamoDB count_calls since the last use of this function."""
    return site.server.store.dynamodb.take_counts()[0]


def test_invalid_handles_are_rejected_without_a_database_call(site: Site) -> None:
    ring, _ = ring_of(site)
    site.clock.advance(30)
    count_calls(site)
    valid = ring.make_handle("code", ID)
    forged = valid[:-1] + ("A" if valid[-1] != "A" else "B")
    for text in (None, "", "garbage", "code_", "code_AAAA", forged, valid.replace("code_", "rt_"), "x" * 5000):
        assert ring.read_handle("code", text) is None
    assert count_calls(site) == 0
    assert ring.read_handle("code", valid) == Handle("code", ID, 0, 1)
    assert count_calls(site) == 0


def test_unknown_key_version_rereads_the_ring_at_most_once_in_ten_seconds(site: Site) -> None:
    ring, _ = ring_of(site)
    unknown = handles.make("code", ID, 0, 77, SECRET)
    count_calls(site)
    for _ in range(5):
        assert ring.read_handle("code", unknown) is None
    assert count_calls(site) == 0  # the ring was read within the last ten seconds
    for _ in range(3):
        site.clock.advance(10)
        for _ in range(5):
            assert ring.read_handle("code", unknown) is None
        assert count_calls(site) == 1
    site.clock.advance(9)
    assert ring.read_handle("code", unknown) is None
    assert count_calls(site) == 0


def test_new_key_version_is_used_and_the_old_one_stays_valid(site: Site) -> None:
    ring, seal = ring_of(site)
    old = ring.make_handle("rt", ID, 3)
    record = site.server.store.keys.get("main")
    assert record
    contents = json.loads(seal.unseal(record.sealed, record.version))
    secret = base64.b64encode(b"n" * 32).decode()
    contents["handles"].append({"version": 2, "secret": secret, "created_at": site.clock.time})
    site.server.store.keys.put(SealedKeyRing("main", seal.seal(json.dumps(contents).encode(), 1)))

    new = handles.make("rt", ID, 3, 2, b"n" * 32)
    assert ring.read_handle("rt", new) is None  # within ten seconds of the last read
    site.clock.advance(10)
    assert ring.read_handle("rt", new) == Handle("rt", ID, 3, 2)
    assert ring.read_handle("rt", old) == Handle("rt", ID, 3, 1)
    assert ring.make_handle("rt", ID, 3) == new  # the newest version, unless another is requested
    assert ring.make_handle("rt", ID, 3, key_version=1) == old
    site.server.store.keys.put(record)


def test_form_tag_is_valid_for_its_subject_only(site: Site) -> None:
    ring, _ = ring_of(site)
    tag = ring.form_tag("SIGN_IN request browser")
    assert ring.is_valid_form_tag("SIGN_IN request browser", tag)
    for subject, shown in [
        ("SIGN_IN request other", tag),
        ("CONSENT request browser", tag),
        ("SIGN_IN request browser", tag[:-1]),
        ("SIGN_IN request browser", tag + "="),
        ("SIGN_IN request browser", tag.swapcase()),
        ("SIGN_IN request browser", ""),
        ("SIGN_IN request browser", "é"),
        ("SIGN_IN request browser", "\ud800"),
    ]:
        assert not ring.is_valid_form_tag(subject, shown)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.1 f", "RFC 9126 §2.2 a", "RFC 9126 §7.1")
@pytest.mark.spec("RFC 6749 §10.10 a", "RFC 6749 §10.10 b", "RFC 6749 §10.10 c", "RFC 6750 §5.2 a")
@pytest.mark.parametrize("kind", KINDS)
def test_handle_has_128_random_bits_and_a_tag_of_128_bits(site: Site, kind: Kind) -> None:
    new_handles = [site.server.keys.make_handle(kind, handles.new_id(), 1) for _ in range(200)]
    bodies = [base64.urlsafe_b64decode(handle.removeprefix(f"{kind}_") + "==") for handle in new_handles]
    tags, ids = ({body[5:21] for body in bodies}, {base64.urlsafe_b64decode(body[21:] + b"==") for body in bodies})
    for values in (tags, ids):
        assert {len(value) for value in values} == {16}
        assert len(values) == 200
        numbers = [int.from_bytes(value, "big") for value in values]
        for bit in range(128):  # each bit is 0 in some values and 1 in others
            assert 40 < sum(number >> bit & 1 for number in numbers) < 160
