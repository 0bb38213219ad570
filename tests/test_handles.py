"""Handles: `code_…`, `rt_…`, `req_…`, `sid_…`, `br_…`. Only ours are taken, each for one kind, in one spelling."""

import base64
import itertools
import json
from typing import get_args

import pytest

from chalicelib import handles, keys
from chalicelib.handles import Handle, Kind
from chalicelib.models import SealedKeyRing
from chalicelib.seal import Seal
from tests.site import Site

KINDS: tuple[Kind, ...] = get_args(Kind)
SECRET = b"s" * 32
ID = "SplxlOBeZQQYbYS6WxSbIA"


def read(kind: Kind, text: str) -> Handle | None:
    return handles.read(kind, text, {1: SECRET}.get)


def made(kind: Kind = "code", record_id: str = ID, generation: int = 0, version: int = 1) -> str:
    return handles.make(kind, record_id, generation, version, SECRET)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("record_id", [ID, "x", "a.b", "x" * 300, "sub.session"])
@pytest.mark.parametrize("generation", [0, 1, 2**32 - 1])
def test_what_was_made_can_be_read(kind: Kind, record_id: str, generation: int) -> None:
    handle = made(kind, record_id, generation)
    assert read(kind, handle) == Handle(kind, record_id, generation, 1)
    assert handle == made(kind, record_id, generation)  # the same again: nothing has to be stored
    assert handle.isascii()
    assert handle.replace("-", "").replace("_", "").isalnum()


@pytest.mark.spec("RFC 9700 §4.3")
@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(KINDS, 2)))
def test_a_handle_is_good_for_its_own_kind_only(kind: Kind, other: Kind) -> None:
    handle = made(kind)
    assert read(other, handle) is None
    assert read(other, handle.replace(f"{kind}_", f"{other}_", 1)) is None
    assert read(other, f"{other}_{handle}") is None


def test_every_bit_counts() -> None:
    body = bytearray(base64.urlsafe_b64decode(made().removeprefix("code_") + "=="))
    for place in range(len(body) * 8):
        wrong = bytearray(body)
        wrong[place // 8] ^= 1 << place % 8
        assert read("code", "code_" + base64.urlsafe_b64encode(wrong).rstrip(b"=").decode()) is None, place


def test_every_character_counts() -> None:
    right = made()
    assert read("code", right)
    for place, character in itertools.product(range(len(right)), "Aa0-_.=+/ é\0\n"):
        wrong = right[:place] + character + right[place + 1 :]
        assert wrong == right or read("code", wrong) is None, (place, character)


@pytest.mark.parametrize("generation", range(6))
def test_a_handle_has_one_spelling_only(generation: int) -> None:
    # Ids of each length, so that base64 ends in each way it can.
    for record_id in ("abc", "abcd", "abcde", ID):
        right = made(record_id=record_id, generation=generation)
        encoded = right.removeprefix("code_")
        standard = encoded.replace("-", "+").replace("_", "/")
        others = [
            *(encoded + end for end in ("=", "==", "===", "\n", " ", "A", "AA", "%", "\0")),
            *(" " + encoded, "\n" + encoded, encoded[:9] + "\n" + encoded[9:], encoded[:-1], encoded[1:]),
            *(encoded[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
        ]
        for other in {*others, standard} - {encoded}:
            assert read("code", f"code_{other}") is None, other
        for prefix in ("CODE_", "Code_", " code_", "code-", "code", ""):
            assert read("code", prefix + encoded) is None


@pytest.mark.parametrize("text", ["", "code_", "code_A", "code_AAAA", "code_" + "A" * 600, "code_é", "code_\ud800"])
def test_what_is_too_short_too_long_or_no_base64_is_refused(text: str) -> None:
    assert read("code", text) is None


def test_nobody_makes_a_handle_without_the_secret() -> None:
    assert handles.read("code", handles.make("code", ID, 0, 1, b"t" * 32), {1: SECRET}.get) is None
    assert handles.read("code", handles.make("code", ID, 0, 2, SECRET), {1: SECRET}.get) is None
    assert handles.read("code", made(), {1: SECRET, 2: b"t" * 32}.get)


def test_ids_are_128_random_bits() -> None:
    ids = {handles.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(base64.urlsafe_b64decode(one + "==")) == 16 for one in ids)


# ---- and the ring that holds the secrets


def ring_of(site: Site) -> tuple[keys.KeyRing, Seal]:
    """A ring of its own, that has read the table once."""
    ring = keys.KeyRing(site.server.store)
    ring.jwks()
    return ring, Seal(site.settings)


def calls(site: Site) -> int:
    """How many calls of DynamoDB there were since this was last asked."""
    return site.server.store.dynamodb.consumed()[0]


def test_garbage_and_forgeries_never_reach_the_database(site: Site) -> None:
    ring, _ = ring_of(site)
    site.clock.advance(60)
    calls(site)
    right = ring.make_handle("code", ID)
    forged = right[:-1] + ("A" if right[-1] != "A" else "B")
    for text in (None, "", "garbage", "code_", "code_AAAA", forged, right.replace("code_", "rt_"), "x" * 5000):
        assert ring.read_handle("code", text) is None
    assert calls(site) == 0
    assert ring.read_handle("code", right) == Handle("code", ID, 0, 1)
    assert calls(site) == 0


def test_an_unknown_key_version_reads_the_ring_again_but_once_in_ten_seconds(site: Site) -> None:
    ring, _ = ring_of(site)
    unknown = handles.make("code", ID, 0, 77, SECRET)
    calls(site)
    for _ in range(5):
        assert ring.read_handle("code", unknown) is None
    assert calls(site) == 0  # the ring has just been read
    for _ in range(3):
        site.clock.advance(10)
        for _ in range(5):
            assert ring.read_handle("code", unknown) is None
        assert calls(site) == 1
    site.clock.advance(9)
    assert ring.read_handle("code", unknown) is None
    assert calls(site) == 0


def test_a_new_key_version_is_taken_up_and_the_old_one_stays_good(site: Site) -> None:
    ring, seal = ring_of(site)
    old = ring.make_handle("rt", ID, 3)
    record = site.server.store.keys.get("main")
    assert record
    contents = json.loads(seal.unseal(record.sealed))
    secret = base64.b64encode(b"n" * 32).decode()
    contents["handles"].append({"version": 2, "secret": secret, "created_at": site.clock.time})
    site.server.store.keys.put(SealedKeyRing("main", seal.seal(json.dumps(contents).encode())))

    new = handles.make("rt", ID, 3, 2, b"n" * 32)
    assert ring.read_handle("rt", new) is None  # within ten seconds of the last reading
    site.clock.advance(10)
    assert ring.read_handle("rt", new) == Handle("rt", ID, 3, 2)
    assert ring.read_handle("rt", old) == Handle("rt", ID, 3, 1)
    assert ring.make_handle("rt", ID, 3) == new  # the newest makes, unless an older one is asked for
    assert ring.make_handle("rt", ID, 3, key_version=1) == old
    site.server.store.keys.put(record)


def test_a_form_tag_is_good_for_its_subject_only(site: Site) -> None:
    ring, _ = ring_of(site)
    tag = ring.form_tag("SIGN_IN request browser")
    assert ring.form_tag_is_ours("SIGN_IN request browser", tag)
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
        assert not ring.form_tag_is_ours(subject, shown)
