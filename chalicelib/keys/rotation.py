"""Key rotation: a key is published before it is used, and kept until everything that it signed has expired."""

from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

from chalicelib.keys import signing
from chalicelib.keys.cache import LIFETIME
from chalicelib.keys.ring import JWKS_LIFETIME, KeyRing
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.handles import new_secret
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.protocol.values import dataclass
from chalicelib.settings import LIMITS, Settings

# Long enough for verifiers that cache the JWKS for hours.
PUBLISHED_BEFORE_USE = DAY
# For a compromised key: a process may serve its old copy of the ring until it is a minute old, and a verifier that
# follows `Cache-Control` may use what it got from that copy for another minute.
SHORTEST_WAIT = LIFETIME + JWKS_LIFETIME
LONGEST_LINK = 7 * DAY  # of the links in mails, except for those that restore a deleted account
_TRIES = 5
T = TypeVar("T")


class RotationRefused(Exception):
    """The ring was not changed; the text says why, for the operator."""


@dataclass(frozen=True)
class RingKey:
    """A key of the ring, without its secret.

    `state`: `next` before it is used, then `current`, then `kept`. `ends_at`: when everything that a `kept` key signed
    has expired.
    """

    name: str
    alg: str
    state: str
    created_at: int
    used_from: int
    ends_at: int | None


def list_keys(ring: KeyRing, settings: Settings, now: int) -> list[RingKey]:
    """Return all keys of the ring, newest first."""
    document, _ = ring.read_document()
    return _overview(document, settings, now)


def rotate(ring: KeyRing, now: int, wait: int = PUBLISHED_BEFORE_USE) -> None:
    """Add a key pair for each algorithm, a secret for handles and one for data, used from `wait` seconds on.

    The secrets for data are never removed, because records stay sealed with them until they are written again.

    With `SHORTEST_WAIT`, for a compromised key, verifiers that cache the JWKS for longer than it allows reject new
    tokens for a while. Raises RotationRefused when the keys of the last rotation are not used yet, except with a `wait`
    of at most that, or when the aliases in KMS still point to the same keys.
    """

    def add(document: dict[str, Any]) -> bool:
        waiting = [key for kind in ("signing", "handles") for key in document[kind] if signing.used_from(key) > now]
        if waiting and wait > SHORTEST_WAIT:
            raise RotationRefused("The keys of the last rotation are not in use yet.")
        present = {key["kid"] for key in document["signing"]}
        pairs = [{**ring.new_key_pair(alg), "used_from": now + wait} for alg in ring.algorithms]
        if present & {pair["kid"] for pair in pairs}:
            raise RotationRefused("The aliases in KMS still point to keys of the ring. Point them to new keys first.")
        handle_version = _free_version({key["version"] for key in document["handles"]})
        secret = {"version": handle_version, "secret": new_secret(), "created_at": now, "used_from": now + wait}
        document["signing"] += pairs
        document["handles"].append(secret)
        data_version = _free_version({key["version"] for key in document["data"]})
        document["data"].append({**secret, "version": data_version, "secret": new_secret()})
        return True

    _change(ring, add)


def is_due(ring: KeyRing, settings: Settings, now: int) -> bool:
    """Return whether the newest signing key of an algorithm has reached the age that the settings allow."""
    document, _ = ring.read_document()
    newest = [max(key["created_at"] for key in document["signing"] if key["alg"] == alg) for alg in ring.algorithms]
    oldest: int = min(newest)
    return settings.key_rotation_days > 0 and now - oldest >= settings.key_rotation_days * DAY


def retire(ring: KeyRing, settings: Settings, now: int, kid: str | None = None) -> list[str]:
    """Remove the keys that nothing valid needs, or the signing key `kid` in any case. Return the removed names.

    Raises RotationRefused when `kid` is unknown, or is the only key in use of its algorithm.
    """

    def remove(document: dict[str, Any]) -> list[str]:
        overview = _overview(document, settings, now)
        if kid is None:
            retired = [key.name for key in overview if key.ends_at is not None and key.ends_at <= now]
        else:
            retired = [_require_replaceable(overview, kid, now)]
        document["signing"] = [key for key in document["signing"] if key["kid"] not in retired]
        document["handles"] = [key for key in document["handles"] if _handle_name(key) not in retired]
        return retired

    return _change(ring, remove)


def retire_handles(ring: KeyRing, now: int) -> list[str]:
    """Replace all secrets of handles by a new one in one write, and return the names of the removed ones.

    Every handle becomes invalid: codes, refresh tokens, cookies and forms. Pairwise subjects stay the same, because
    they have a secret of their own. Raises RotationRefused when other processes keep changing the ring.
    """
    return _change(ring, lambda document: _replace_handles(document, now))


def restore_with_new_handles(ring: KeyRing, record: SealedKeyRing, now: int) -> bool:
    """Store a ring from a backup with a new secret of handles, in one write: no earlier handle is valid with it.

    Return False, and change nothing, when there is a ring. Raises SettingsError when this stage cannot decrypt it.
    """
    return ring.restore(record, lambda document: _replace_handles(document, now))


def copy(ring: KeyRing, target: KeyRing) -> None:
    """Replace the ring `target` by the keys of `ring`, encrypted with the key of the target.

    Raises RotationRefused when the signing keys are in KMS, which they never leave, or when other processes keep
    changing the target.
    """
    document, _ = ring.read_document()
    if any("kms_key_id" in key for key in document["signing"]):
        raise RotationRefused("The signing keys are in KMS, and cannot be copied.")

    def replace(current: dict[str, Any]) -> bool:
        current.clear()
        current.update(document)
        return True

    _change(target, replace)


def reseal(ring: KeyRing) -> None:
    """Encrypt the ring again, in the current format and with a new data key. The keys stay the same.

    Raises RotationRefused when other processes keep changing the ring.
    """
    _change(ring, lambda _document: True)


def _change(ring: KeyRing, change: Callable[[dict[str, Any]], T]) -> T:
    """Change the decrypted ring by a function, and return what it returns. Nothing is written if that is empty.

    After a lost race it is called again, with the current ring. Raises RotationRefused when every race is lost.
    """
    for _ in range(_TRIES):
        document, version = ring.read_document()
        changed = change(document)
        if not changed or ring.replace_document(document, version):
            return changed
    raise RotationRefused("Another process is changing the key ring. Try again.")


def _replace_handles(document: dict[str, Any], now: int) -> list[str]:
    """Replace the secrets of handles in a decrypted ring by a new one. Return the names of the replaced ones."""
    replaced = document["handles"]
    # A version that no process knows, so that a handle of the new secret makes each of them read the ring.
    handle_version = _free_version({key["version"] for key in replaced})
    document["handles"] = [{"version": handle_version, "secret": new_secret(), "created_at": now}]
    return [_handle_name(key) for key in replaced]


def _free_version(used: set[int]) -> int:
    """Return the version of the next handle secret. It is one byte in a handle, so that old versions are reused."""
    for version in chain(range(max(used) + 1, 256), range(1, 256)):
        if version not in used:
            return version
    raise RotationRefused("There is no version left for a handle secret: all 255 are still needed.")


def _require_replaceable(overview: list[RingKey], kid: str, now: int) -> str:
    """Return `kid`. Raises RotationRefused when it is unknown, or no other key of its algorithm is in use."""
    retiring = next((key for key in overview if key.name == kid and key.alg in signing.ALGORITHMS), None)
    if retiring is None:
        raise RotationRefused(f"There is no signing key {kid} in the ring.")
    remaining = [key.used_from for key in overview if key.alg == retiring.alg and key.name != kid]
    if any(start <= now for start in remaining):
        return kid
    if remaining and min(remaining) <= now + SHORTEST_WAIT:
        left = min(remaining) - now
        raise RotationRefused(f"The key that replaces it is used in {left} seconds. Retire this one then.")
    raise RotationRefused("This is the only key in use of its algorithm. Run `signet key rotate --now` first.")


def _overview(document: dict[str, Any], settings: Settings, now: int) -> list[RingKey]:
    # Access tokens live at most as long as a registration allows, handles as long as refresh tokens and sessions.
    token = LIMITS["access_token_lifetime"][1]
    link = max(LONGEST_LINK, settings.deletion_grace_days * DAY)
    handle = max(settings.refresh_token_absolute_lifetime, settings.session_absolute_lifetime, link)
    overview: list[RingKey] = []
    families = [(alg, [key for key in document["signing"] if key["alg"] == alg], token) for alg in signing.ALGORITHMS]
    for alg, keys, max_lifetime in [*families, ("HS256", document["handles"], handle)]:
        replaced_at: int | None = None  # when the next newer key came into use
        for key in sorted(keys, key=signing.used_from, reverse=True):
            start = signing.used_from(key)
            state = "next" if start > now else "current" if replaced_at is None else "kept"
            end = None if replaced_at is None else replaced_at + max_lifetime
            overview.append(RingKey(key.get("kid") or _handle_name(key), alg, state, key["created_at"], start, end))
            replaced_at = start if start <= now else replaced_at
    return overview


def _handle_name(key: dict[str, Any]) -> str:
    return f"handles-{key['version']}" if "version" in key else ""
