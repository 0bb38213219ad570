"""The key ring: signs and verifies JWTs, publishes the JWKS, creates and verifies handles.

Its keys are cached for a minute (`cache`). An unknown key version or `kid` makes the ring be read again, but at most
once in ten seconds.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from chalicelib.keys import signing
from chalicelib.keys.cache import KeyCache, Keys
from chalicelib.keys.envelope import decrypt, encrypt
from chalicelib.keys.signing import SigningKey
from chalicelib.keys.stored_ring import StoredRing
from chalicelib.protocol import handles
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import InvalidToken, TemporarilyUnavailable, UnknownKey
from chalicelib.protocol.handles import Handle, Kind, base64url, from_base64url
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.storage.store import Store

K = TypeVar("K", str, int)
UNKNOWN_KEY_PAUSE = 10
JWKS_LIFETIME = MINUTE  # how long verifiers and caches may use a JWKS that was sent


class KeyRing:
    """All keys of this server."""

    def __init__(self, store: Store):
        self._store = store
        self._stored = StoredRing(store)
        self._cache = KeyCache(self._stored)

    # ---- JWTs

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms that a client may choose for its tokens."""
        return self._stored.algorithms

    def sign(self, claims: dict[str, Any], typ: str, alg: str = signing.ALGORITHMS[0]) -> str:
        """Return a JWT with these claims (RFC 7519) and header `typ`, signed by the current key for `alg`."""
        keys = {key.kid: key for key in self._cache.load().signing if key.alg == alg}
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
        """Return the public keys as a JWK Set (RFC 7517 section 5), which may be cached for `JWKS_LIFETIME`.

        Sorted by algorithm, RS256 first: some verifiers (python-jose) try the keys in turn and stop at the first of
        another type.
        """
        keys = sorted(self._cache.load().signing, key=lambda key: signing.ALGORITHMS.index(key.alg))
        return {"keys": [key.jwk for key in keys]}

    # ---- handles

    def make_handle(self, kind: Kind, record_id: str, generation: int = 0, key_version: int | None = None) -> str:
        """Return a handle. `key_version`: the version of its secret, by default the current one.

        Raises TemporarilyUnavailable when the secret of `key_version` has been retired.
        """
        keys = self._cache.load()
        version = self._current_version(keys.handles) if key_version is None else key_version
        if version not in keys.handles:
            raise TemporarilyUnavailable(detail=f"the secret handles-{version} was retired during this request")
        return handles.make(kind, record_id, generation, version, keys.handles[version][0])

    def read_handle(self, kind: Kind, text: str | None) -> Handle | None:
        """Return the handle in `text`, or None unless it is valid and of this kind. The record is not read."""
        return handles.read(kind, text, self._handle_secret) if text else None

    def form_tag(self, subject: str) -> str:
        """Return the CSRF tag of a form for this subject."""
        keys = self._cache.load()
        return handles.form_tag(subject, keys.handles[self._current_version(keys.handles)][0])

    def is_valid_form_tag(self, subject: str, tag: str) -> bool:
        """Return whether this is the tag of a form for this subject. Compares in constant time."""
        received = tag.encode("utf-8", "replace")
        expected = (handles.form_tag(subject, secret).encode() for secret, _ in self._cache.load().handles.values())
        return any(secrets.compare_digest(candidate, received) for candidate in expected)

    # ---- texts that only this server reads

    def seal(self, text: str, purpose: str) -> str:
        """Return the text encrypted, base64url, for `unseal` with the same purpose."""
        keys = self._cache.load()
        version = self._current_version(keys.handles)
        sealed = encrypt(_sealing_key(keys.handles[version][0]), text.encode(), purpose.encode())
        return base64url(version.to_bytes(1, "big") + sealed)

    def unseal(self, text: str, purpose: str) -> str | None:
        """Return the text that was encrypted for this purpose, or None when there is none in `text`."""
        from cryptography.exceptions import InvalidTag

        try:
            sealed = from_base64url(text)
            secret = self._handle_secret(sealed[0])
            return decrypt(_sealing_key(secret), sealed[1:], purpose.encode()).decode() if secret else None
        except (InvalidTag, IndexError, ValueError):  # ValueError: no base64, or too short
            return None

    # ---- data in records, which outlasts the rotation of the keys

    def seal_data(self, plain: bytes, purpose: str) -> bytes:
        """Return bytes encrypted for a record, which `unseal_data` with the same purpose decrypts in this stage."""
        data = self._cache.load().data
        version = self._current_version(data)
        sealed = encrypt(_sealing_key(data[version][0]), plain, self._associated_data(purpose))
        return version.to_bytes(1, "big") + sealed

    def unseal_data(self, sealed: bytes, purpose: str) -> bytes | None:
        """Return what was encrypted for this purpose, also with an older key; None if it was not, or not in this stage.

        Raises TemporarilyUnavailable when the ring must be read again and cannot be.
        """
        from cryptography.exceptions import InvalidTag

        for keys in self._load_until_fresh():
            if sealed[:1] and sealed[0] in keys.data:
                try:
                    return decrypt(_sealing_key(keys.data[sealed[0]][0]), sealed[1:], self._associated_data(purpose))
                except (InvalidTag, ValueError):  # ValueError: too short
                    return None
        return None

    def is_sealed_with_current_key(self, sealed: bytes) -> bool:
        """Return whether `seal_data` would use the same key now, so that the record need not be sealed again."""
        return sealed[0] == self._current_version(self._cache.load().data)

    # ---- subjects

    def pairwise_subject(self, sector: str, sub: str) -> str:
        """Return the identifier of a user for all clients of a sector, a host name (OpenID Connect Core section 8.1).

        It is an HMAC, so that clients cannot compute or compare it, with a secret that is never rotated.
        """
        message = f"{sector} {sub}".encode()  # a host name contains no space
        return base64url(hmac.digest(self._cache.load().pairwise, message, hashlib.sha256))

    def digest(self, purpose: str, *parts: str) -> str:
        """Return a key for a record that must not tell its parts, of which only the last may contain a NUL.

        It is an HMAC with the secret of the pairwise subjects, and never equal to one: no host name starts with a NUL.
        """
        message = "\0".join(("", purpose, *parts)).encode("utf-8", "surrogatepass")
        return base64url(hmac.digest(self._cache.load().pairwise, message, hashlib.sha256))

    # ---- the stored ring

    def exists(self) -> bool:
        """Return whether the stage has a ring. For the operator's command."""
        return self._stored.exists()

    def create(self) -> bool:
        """Create the ring. Return False, and change nothing, when there is one.

        Only the operator's command and a local server may call this: in a stage that has lost its ring, a new one ends
        every session and grant, and changes every pairwise subject.
        """
        return self._stored.create()

    def restore(self, record: SealedKeyRing, change: Callable[[dict[str, Any]], object] | None = None) -> bool:
        """Store a ring from a backup, after `change` if given. Return False, and change nothing, when there is a ring.

        Raises SettingsError when it was encrypted with another key, in another stage, or for another version.
        """
        return self._stored.restore(record, change)

    def forget_cached_keys(self) -> None:
        """Drop the cached keys, so that the next use reads the ring again."""
        self._cache.forget()

    def read_document(self) -> tuple[dict[str, Any], int]:
        """Return the decrypted ring, which contains every secret, and its version. For `rotation`.

        Raises KeyRingMissing.
        """
        document, record = self._stored.open(self._stored.read())
        return document, record.version

    def replace_document(self, document: dict[str, Any], version: int) -> bool:
        """Replace that version of the ring. Return False when another process has replaced it before."""
        replacement = self._stored.replace(document, version)
        self.forget_cached_keys()
        return replacement is not None

    def new_key_pair(self, alg: str) -> dict[str, Any]:
        """Return the ring's entry for a new key pair: generated, or the key that the alias in KMS points to."""
        return self._stored.new_key_pair(alg)

    # ---- internals

    def _associated_data(self, purpose: str) -> bytes:
        return f"{self._store.settings.stage} {purpose}".encode()

    def _current_version(self, secrets: dict[int, tuple[bytes, int]]) -> int:
        return self._select_current({version: start for version, (_, start) in secrets.items()})

    def _select_current(self, starts: dict[K, int]) -> K:
        """Return the newest key in use, or the oldest when all start later: this clock may be behind."""
        now = self._store.now()
        in_use = [key for key, start in reversed(starts.items()) if start <= now]  # of the same second, the later one
        return max(in_use, key=starts.__getitem__) if in_use else min(starts, key=starts.__getitem__)

    def _signing_key(self, kid: object) -> SigningKey | None:
        for keys in self._load_until_fresh():
            for key in keys.signing:
                if key.kid == kid:
                    return key
        return None

    def _handle_secret(self, version: int) -> bytes | None:
        for keys in self._load_until_fresh():
            if version in keys.handles:
                return keys.handles[version][0]
        return None

    def _load_until_fresh(self) -> Iterator[Keys]:
        """Yield the cached keys, and then those in the table unless they were read a few seconds ago.

        Raises TemporarilyUnavailable when the table cannot be read: an unknown key may be a new one.
        """
        keys = self._cache.load()
        yield keys
        if self._cache.age(keys) >= UNKNOWN_KEY_PAUSE:
            yield self._cache.read_again(keys)


def _sealing_key(handle_secret: bytes) -> bytes:
    """Return the 32 bytes that encrypt texts, which say nothing about the secret of the handles."""
    return hmac.digest(handle_secret, b"signet seal", hashlib.sha256)
