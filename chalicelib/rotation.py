"""Rotation of the key ring: a key is published before it is used, and kept until the last thing it made has ended."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

from chalicelib import signing
from chalicelib.handles import new_secret
from chalicelib.keys import KeyRing
from chalicelib.settings import LIMITS, Settings

# Longer than any process goes without reading the ring, and any verifier is told to keep our JWKS.
PUBLISHED_BEFORE_USE = 24 * 60 * 60
_DAY = 24 * 60 * 60
_TRIES = 5


class RotationRefused(Exception):
    """The ring stays as it is; the text says why, for the operator."""


@dataclass(frozen=True)
class RingKey:
    """One key of the ring, without its secret. `state`: `next` until it is used, `current`, or `kept` after it."""

    name: str
    alg: str
    state: str
    created_at: int
    used_from: int
    ends_at: int | None


def keys_of(ring: KeyRing, settings: Settings, now: int) -> list[RingKey]:
    """All keys of the ring, newest first. `ends_at`: when what a kept key made will have ended."""
    document, _ = ring.read_document()
    return _overview(document, settings, now)


def rotate(ring: KeyRing, now: int, wait: int = PUBLISHED_BEFORE_USE) -> None:
    """Add a key pair for each algorithm and a secret for handles, to be used in `wait` seconds.

    With 0 they are used at once: for keys that somebody else has seen. Raises RotationRefused when the last rotation
    is still waiting, or when KMS would sign with the same key again.
    """
    for _ in range(_TRIES):
        document, version = ring.read_document()
        waiting = [key for kind in ("signing", "handles") for key in document[kind] if signing.used_from(key) > now]
        if waiting and wait:
            raise RotationRefused("The keys of the last rotation are not in use yet.")
        known = {key["kid"] for key in document["signing"]}
        pairs = [{**ring.new_pair(alg), "used_from": now + wait} for alg in ring.algorithms]
        if known & {pair["kid"] for pair in pairs}:
            raise RotationRefused("The aliases in KMS still name the keys in the ring: let them name new ones first.")
        number = _free_number({key["version"] for key in document["handles"]})
        secret = {"version": number, "secret": new_secret(), "created_at": now, "used_from": now + wait}
        document["signing"] += pairs
        document["handles"].append(secret)
        if ring.replace_document(document, version):
            return
    raise RotationRefused("Somebody else is changing the ring.")


def is_due(ring: KeyRing, settings: Settings, now: int) -> bool:
    """Whether the newest signing key of an algorithm is as old as the operator lets keys get."""
    document, _ = ring.read_document()
    newest = [max(key["created_at"] for key in document["signing"] if key["alg"] == alg) for alg in ring.algorithms]
    oldest: int = min(newest)
    return settings.key_rotation_days > 0 and now - oldest >= settings.key_rotation_days * _DAY


def retire(ring: KeyRing, settings: Settings, now: int, kid: str | None = None) -> list[str]:
    """Remove what nothing alive depends on, or the signing key `kid` whatever depends on it: the names removed.

    Raises RotationRefused when `kid` is unknown, or the only one of its algorithm in use.
    """
    for _ in range(_TRIES):
        document, version = ring.read_document()
        overview = _overview(document, settings, now)
        if kid is None:
            gone = [key.name for key in overview if key.ends_at is not None and key.ends_at <= now]
        else:
            gone = [_dispensable(overview, kid, now)]
        if not gone:
            return []
        document["signing"] = [key for key in document["signing"] if key["kid"] not in gone]
        document["handles"] = [key for key in document["handles"] if _handle_name(key) not in gone]
        if ring.replace_document(document, version):
            return gone
    raise RotationRefused("Somebody else is changing the ring.")


def _free_number(used: set[int]) -> int:
    """The number of the next secret: a handle has one byte for it, so that those of long ago are given again."""
    for number in chain(range(max(used) + 1, 256), range(1, 256)):
        if number not in used:
            return number
    raise RotationRefused("There is no number left for a secret of handles: 255 are still needed.")


def _dispensable(overview: list[RingKey], kid: str, now: int) -> str:
    found = next((key for key in overview if key.name == kid and key.alg in signing.ALGORITHMS), None)
    if found is None:
        raise RotationRefused(f"There is no signing key {kid} in the ring.")
    if not [key for key in overview if key.alg == found.alg and key.name != kid and key.used_from <= now]:
        raise RotationRefused("It is the only key of its algorithm in use: rotate with --now first.")
    return kid


def _overview(document: dict[str, Any], settings: Settings, now: int) -> list[RingKey]:
    # Tokens live as long as a client's registration may say, handles as long as a refresh token in all.
    token, handle = LIMITS["access_token_lifetime"][1], settings.refresh_token_absolute_lifetime
    found: list[RingKey] = []
    families = [(alg, [key for key in document["signing"] if key["alg"] == alg], token) for alg in signing.ALGORITHMS]
    for alg, keys, longest in [*families, ("HS256", document["handles"], handle)]:
        ended: int | None = None  # when the next newer key took over
        for key in sorted(keys, key=signing.used_from, reverse=True):
            start = signing.used_from(key)
            state = "next" if start > now else "current" if ended is None else "kept"
            end = None if ended is None else ended + longest
            found.append(RingKey(key.get("kid") or _handle_name(key), alg, state, key["created_at"], start, end))
            ended = start if start <= now else ended
    return found


def _handle_name(key: dict[str, Any]) -> str:
    return f"handles-{key['version']}" if "version" in key else ""
