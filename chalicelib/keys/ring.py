"""The key ring: signs and verifies JWTs, publishes the JWKS, creates and verifies handles.

The ring is one encrypted record, created on first use. It is cached for ten minutes; an unknown key version or `kid`
makes it be read again, but at most once in ten seconds.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chalicelib.keys import signing
from chalicelib.keys.envelope import Seal
from chalicelib.keys.signing import SigningKey
from chalicelib.protocol import handles
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import InvalidToken, TemporarilyUnavailable, UnknownKey
from chalicelib.protocol.handles import Handle, Kind, base64url
from chalicelib.protocol.records import SealedKeyRing
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused

K = TypeVar("K", str, int)
RING = "main"
CACHE_LIFETIME = 10 * MINUTE
UNKNOWN_KEY_PAUSE = 10
_TRIES = 5


@dataclass(frozen=True)
class _Contents:
    """The parsed keys. `handles`: version -> the secret, and the time from which it is used."""

    signing: tuple[SigningKey, ...]
    handles: dict[int, tuple[bytes, int]] = field(repr=False)
    pairwise: bytes = field(repr=False)
    read_at: int


class KeyRing:
    """All keys of this server."""

    def __init__(self, store: Store):
        self._store = store
        self._seal = Seal(store.settings, lambda: store.dynamodb.session)
        self._lock = threading.Lock()
        self._cached: _Contents | None = None

    # ---- JWTs

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms that a client may choose for its tokens."""
        return signing.algorithms(self._store.settings)

    def sign(self, claims: dict[str, Any], typ: str, alg: str = signing.ALGORITHMS[0]) -> str:
        """Return a JWT with these claims (RFC 7519) and header `typ`, signed by the current key for `alg`."""
        keys = {key.kid: key for key in self._load().signing if key.alg == alg}
        return keys[self._select_current({kid: key.used_from for kid, key in keys.items()})].jwt(claims, typ)

    def verify(
        self, token: str, typ: str, issuer: str, audience: str | None = None, *, expired: bool = False
    ) -> dict[str, Any]:
        """Return the claims of a JWT that this server issued.

        Raises UnknownKey when its `kid` is not in the ring, and InvalidToken unless it has this `typ`, this issuer, a
        valid signature, this `audience` (when given), and has not expired. `expired`: accept an expired one.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._signing_key(header.get("kid"))
            if key is None and header.get("typ") == typ and header.get("alg") in self.algorithms:
                raise UnknownKey("The token was not issued by this server.")
            if key is None or header.get("typ") != typ or header.get("alg") != key.alg:
                raise InvalidToken("The token was not issued by this server.")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[key.alg],
                audience=audience,
                issuer=issuer,
                # Expiry is checked below by the server's clock: PyJWT would use the system's.
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_aud": audience is not None,
                    "require": ["exp", "iat", "iss", "aud", "sub"],
                },
            )
        except (jwt.PyJWTError, UnicodeError) as error:
            raise InvalidToken("The token was not issued by this server.", detail=type(error).__name__) from error
        if claims["exp"] <= self._store.now() and not expired:
            raise InvalidToken("The token has expired.")
        return claims

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWK Set (RFC 7517 section 5).

        Sorted by algorithm, RS256 first: some verifiers (python-jose) try the keys in turn and stop at the first of
        another type.
        """
        keys = sorted(self._load().signing, key=lambda key: signing.ALGORITHMS.index(key.alg))
        return {"keys": [key.jwk for key in keys]}

    # ---- handles

    def make_handle(self, kind: Kind, record_id: str, generation: int = 0, key_version: int | None = None) -> str:
        """Return a handle. `key_version`: the version of its secret, by default the current one."""
        version = self._current_version() if key_version is None else key_version
        return handles.make(kind, record_id, generation, version, self._load().handles[version][0])

    def read_handle(self, kind: Kind, text: str | None) -> Handle | None:
        """Return the handle in `text`, or None unless it is valid and of this kind. The record is not read."""
        return handles.read(kind, text, self._handle_secret) if text else None

    def form_tag(self, subject: str) -> str:
        """Return the CSRF tag of a form for this subject."""
        return handles.form_tag(subject, self._load().handles[self._current_version()][0])

    def is_valid_form_tag(self, subject: str, tag: str) -> bool:
        """Return whether this is the tag of a form for this subject. Compares in constant time."""
        received = tag.encode("utf-8", "replace")
        expected = (handles.form_tag(subject, secret).encode() for secret, _ in self._load().handles.values())
        return any(secrets.compare_digest(candidate, received) for candidate in expected)

    # ---- subjects

    def pairwise_subject(self, sector: str, sub: str) -> str:
        """Return the identifier of a user for all clients of a sector, a host name (OpenID Connect Core section 8.1).

        It is an HMAC, so that clients cannot compute or compare it, with a secret that is never rotated.
        """
        message = f"{sector} {sub}".encode()  # a host name contains no space
        return base64url(hmac.digest(self._load().pairwise, message, hashlib.sha256))

    # ---- the stored document

    def forget_cached_keys(self) -> None:
        """Drop the cached keys, so that the next use reads the ring again."""
        self._cached = None

    def read_document(self) -> tuple[dict[str, Any], int]:
        """Return the decrypted ring, which contains every secret, and its version. For `rotation`."""
        self._load()
        record = self._store.keys.get(RING)
        if record is None:
            raise TemporarilyUnavailable(detail="the key ring is missing")
        document: dict[str, Any] = json.loads(self._seal.unseal(record.sealed))
        return document, record.version

    def replace_document(self, document: dict[str, Any], version: int) -> bool:
        """Replace that version of the ring. Return False when another process has replaced it before."""
        replaced = self._replace(document, version)
        self.forget_cached_keys()
        return replaced

    def new_key_pair(self, alg: str) -> dict[str, Any]:
        """Return the ring's entry for a new key pair: generated, or the key that the alias in KMS points to."""
        settings, now = self._store.settings, self._store.now()
        if settings.signing == "kms":
            return signing.kms_entry(alg, self._seal.kms, f"alias/signet-{settings.stage}-{alg.lower()}", now)
        return signing.new_entry(alg, now)

    # ---- internals

    def _current_version(self) -> int:
        return self._select_current({version: start for version, (_, start) in self._load().handles.items()})

    def _select_current(self, starts: dict[K, int]) -> K:
        """Return the newest key in use, or the oldest when all start later: this clock may be behind."""
        now = self._store.now()
        in_use = [key for key, start in starts.items() if start <= now]
        return max(in_use, key=starts.__getitem__) if in_use else min(starts, key=starts.__getitem__)

    def _signing_key(self, kid: object) -> SigningKey | None:
        for contents in self._load_until_fresh():
            for key in contents.signing:
                if key.kid == kid:
                    return key
        return None

    def _handle_secret(self, version: int) -> bytes | None:
        for contents in self._load_until_fresh():
            if version in contents.handles:
                return contents.handles[version][0]
        return None

    def _load_until_fresh(self) -> Iterator[_Contents]:
        """Yield the cached keys, and then those in the table unless they were read a few seconds ago."""
        contents = self._load()
        yield contents
        if self._store.now() - contents.read_at >= UNKNOWN_KEY_PAUSE:
            yield self._load(max_age=UNKNOWN_KEY_PAUSE)

    def _load(self, max_age: int = CACHE_LIFETIME) -> _Contents:
        """Return the keys, read again when the cached ones are `max_age` seconds old. One thread reads at a time."""
        cached = self._cached
        if cached and self._store.now() - cached.read_at < max_age:
            return cached
        with self._lock:
            if self._cached is cached or self._cached is None:
                self._cached = self._read(cached)
            return self._cached

    def _read(self, previous: _Contents | None) -> _Contents:
        ring = self._read_complete_document()
        # Parsing a key costs a hundred times a signature: keep the keys that are parsed already.
        parsed = {key.kid: key for key in previous.signing} if previous else {}
        keys = tuple(parsed.get(key["kid"]) or signing.parse(key, lambda: self._seal.kms) for key in ring["signing"])
        handle_secrets = {
            key["version"]: (base64.b64decode(key["secret"]), signing.used_from(key)) for key in ring["handles"]
        }
        return _Contents(keys, handle_secrets, base64.b64decode(ring["pairwise"]), self._store.now())

    def _read_complete_document(self) -> dict[str, Any]:
        """Return the decrypted ring, created on first use. Keys that an older version of Signet lacked are added."""
        for _ in range(_TRIES):
            record = self._store.keys.get(RING)
            if record is None:
                sealed = self._seal.seal(self._new_document())
                # Of two processes that create a ring, the second uses the ring of the first.
                if not self._store.keys.insert(SealedKeyRing(RING, sealed)):
                    record = self._store.keys.get(RING)
                record = record or SealedKeyRing(RING, sealed)
            ring: dict[str, Any] = json.loads(self._seal.unseal(record.sealed))
            if self._is_complete(ring) or self._replace(self._complete(ring), record.version):
                return ring
        raise TemporarilyUnavailable(detail="the key ring is being changed by another process")

    def _is_complete(self, ring: dict[str, Any]) -> bool:
        return "pairwise" in ring and not self._missing_algorithms(ring)

    def _missing_algorithms(self, ring: dict[str, Any]) -> list[str]:
        present = {key["alg"] for key in ring["signing"]}
        return [alg for alg in self.algorithms if alg not in present]

    def _complete(self, ring: dict[str, Any]) -> dict[str, Any]:
        ring["signing"] += [self.new_key_pair(alg) for alg in self._missing_algorithms(ring)]
        ring.setdefault("pairwise", handles.new_secret())
        return ring

    def _new_document(self) -> bytes:
        secret = {"version": 1, "secret": handles.new_secret(), "created_at": self._store.now()}
        return json.dumps(self._complete({"signing": [], "handles": [secret]})).encode()

    def _replace(self, document: dict[str, Any], version: int) -> bool:
        changes = {"sealed": self._seal.seal(json.dumps(document).encode()), "version": version + 1}
        outcome = self._store.keys.transition((RING,), attr("version").eq(version), changes)
        return not isinstance(outcome, Refused)
