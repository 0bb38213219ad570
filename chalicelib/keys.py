"""The key ring: signs and checks JWTs, publishes the JWKS, makes and checks handles.

The ring is one record, sealed; it is made by whoever comes first, read once, and read again after ten minutes. A key
that we do not know makes us read it again at once, but no more than once in ten seconds.
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

from chalicelib import handles, signing
from chalicelib.dynamodb import attr
from chalicelib.errors import InvalidToken, TemporarilyUnavailable, UnknownKey
from chalicelib.handles import Handle, Kind, base64url
from chalicelib.models import SealedKeyRing
from chalicelib.seal import Seal
from chalicelib.signing import SigningKey
from chalicelib.store import Store
from chalicelib.table import Refused

K = TypeVar("K", str, int)
RING = "main"
READ_AGAIN_AFTER = 600
UNKNOWN_KEY_PAUSE = 10
_TRIES = 5


@dataclass(frozen=True)
class _Contents:
    signing: tuple[SigningKey, ...]
    handles: dict[int, tuple[bytes, int]] = field(repr=False)  # by version: the secret, and since when it is used
    pairwise: bytes = field(repr=False)
    read_at: int


class KeyRing:
    """All keys of this server, in use."""

    def __init__(self, store: Store):
        self._store = store
        self._seal = Seal(store.settings, lambda: store.dynamodb.session)
        self._lock = threading.Lock()
        self._known: _Contents | None = None

    # ---- JWTs

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What a client may have its tokens signed with."""
        return signing.algorithms(self._store.settings)

    def sign(self, claims: dict[str, Any], typ: str, alg: str = signing.ALGORITHMS[0]) -> str:
        """A JWT with these claims (RFC 7519), signed by the current key for `alg`. `typ` is the header's media type."""
        keys = {key.kid: key for key in self._contents().signing if key.alg == alg}
        return keys[self._current({kid: key.used_from for kid, key in keys.items()})].jwt(claims, typ)

    def verify(
        self, token: str, typ: str, issuer: str, audience: str | None = None, *, expired: bool = False
    ) -> dict[str, Any]:
        """The claims of a JWT of ours.

        Raises InvalidToken unless it bears this `typ`, this issuer, a signature of ours and, where one is named, this
        audience, and has not expired; UnknownKey if it names no key of ours. `expired`: it may have.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._signing_key(header.get("kid"))
            if key is None and header.get("typ") == typ and header.get("alg") in self.algorithms:
                raise UnknownKey("The token is not one of ours.")
            if key is None or header.get("typ") != typ or header.get("alg") != key.alg:
                raise InvalidToken("The token is not one of ours.")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[key.alg],
                audience=audience,
                issuer=issuer,
                # Time is the store's, which tests can move: PyJWT would look at the clock.
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_aud": audience is not None,
                    "require": ["exp", "iat", "iss", "aud", "sub"],
                },
            )
        except (jwt.PyJWTError, UnicodeError) as error:
            raise InvalidToken("The token is not one of ours.", detail=type(error).__name__) from error
        if claims["exp"] <= self._store.now() and not expired:
            raise InvalidToken("The token has expired.")
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517 section 5).

        By algorithm, RS256 first: there are verifiers (python-jose) that try them in turn, and stop at the first of
        another type.
        """
        keys = sorted(self._contents().signing, key=lambda key: signing.ALGORITHMS.index(key.alg))
        return {"keys": [key.jwk for key in keys]}

    # ---- handles

    def make_handle(self, kind: Kind, record_id: str, generation: int = 0, key_version: int | None = None) -> str:
        """A handle, made with the current key, or with the version that an earlier handle was made with."""
        version = self._current_version() if key_version is None else key_version
        return handles.make(kind, record_id, generation, version, self._contents().handles[version][0])

    def read_handle(self, kind: Kind, text: str | None) -> Handle | None:
        """The handle in `text`, None unless it is one of ours and of this kind. Asks no database."""
        return handles.read(kind, text, self._handle_secret) if text else None

    def form_tag(self, subject: str) -> str:
        """The tag of a form that we show for this subject."""
        return handles.form_tag(subject, self._contents().handles[self._current_version()][0])

    def form_tag_is_ours(self, subject: str, tag: str) -> bool:
        """Whether we showed a form with this tag for this subject. Compares in constant time."""
        shown = tag.encode("utf-8", "replace")
        candidates = (handles.form_tag(subject, secret).encode() for secret, _ in self._contents().handles.values())
        return any(secrets.compare_digest(candidate, shown) for candidate in candidates)

    # ---- people

    def pairwise(self, sector: str, sub: str) -> str:
        """The identifier of a person for all clients of one sector, a host name (OpenID Connect Core section 8.1).

        It is keyed, so that nobody else can tell whose it is, with a secret that no rotation replaces.
        """
        said = f"{sector} {sub}".encode()  # there is no space in a host name
        return base64url(hmac.digest(self._contents().pairwise, said, hashlib.sha256))

    # ---- the ring itself

    def read_document(self) -> tuple[dict[str, Any], int]:
        """The ring as it lies in the table, unsealed, and its version. For `rotation`: it holds every secret."""
        self._contents()
        record = self._store.keys.get(RING)
        if record is None:
            raise TemporarilyUnavailable(detail="the key ring has gone")
        document: dict[str, Any] = json.loads(self._seal.unseal(record.sealed))
        return document, record.version

    def replace_document(self, document: dict[str, Any], version: int) -> bool:
        """Put another ring in the place of that version; False when somebody else has been quicker."""
        done = self._replace(document, version)
        self._known = None
        return done

    def new_pair(self, alg: str) -> dict[str, Any]:
        """A new key pair as it stands in the ring: made here, or what the alias in KMS names."""
        settings, now = self._store.settings, self._store.now()
        if settings.signing == "kms":
            return signing.kms_entry(alg, self._seal.kms, f"alias/signet-{settings.stage}-{alg.lower()}", now)
        return signing.new_entry(alg, now)

    # ---- underneath

    def _current_version(self) -> int:
        return self._current({version: start for version, (_, start) in self._contents().handles.items()})

    def _current(self, starts: dict[K, int]) -> K:
        """Of keys and the times they are used from, the newest in use. Our clock may be behind that of the maker."""
        now = self._store.now()
        in_use = [key for key, start in starts.items() if start <= now]
        return max(in_use, key=starts.__getitem__) if in_use else min(starts, key=starts.__getitem__)

    def _signing_key(self, kid: object) -> SigningKey | None:
        for contents in self._now_and_read_again():
            for key in contents.signing:
                if key.kid == kid:
                    return key
        return None

    def _handle_secret(self, version: int) -> bytes | None:
        for contents in self._now_and_read_again():
            if version in contents.handles:
                return contents.handles[version][0]
        return None

    def _now_and_read_again(self) -> Iterator[_Contents]:
        """The ring as we know it, then, if somebody goes on asking, as it is in the table now."""
        known = self._contents()
        yield known
        if self._store.now() - known.read_at >= UNKNOWN_KEY_PAUSE:
            yield self._contents(at_most_old=UNKNOWN_KEY_PAUSE)

    def _contents(self, at_most_old: int = READ_AGAIN_AFTER) -> _Contents:
        known = self._known
        if known and self._store.now() - known.read_at < at_most_old:
            return known
        with self._lock:
            if self._known is known or self._known is None:
                self._known = self._read(known)
            return self._known

    def _read(self, known: _Contents | None) -> _Contents:
        ring = self._whole()
        # Keys that we know already are not parsed again: that costs a hundred times a signature.
        parsed = {key.kid: key for key in known.signing} if known else {}
        keys = tuple(parsed.get(key["kid"]) or signing.parse(key, lambda: self._seal.kms) for key in ring["signing"])
        made = {key["version"]: (base64.b64decode(key["secret"]), signing.used_from(key)) for key in ring["handles"]}
        return _Contents(keys, made, base64.b64decode(ring["pairwise"]), self._store.now())

    def _whole(self) -> dict[str, Any]:
        """The ring in the table, unsealed. What it lacks is added: it may have been made by an earlier version."""
        for _ in range(_TRIES):
            record = self._store.keys.get(RING)
            if record is None:
                sealed = self._seal.seal(self._new_ring())
                # Whoever comes second uses the ring of whoever came first.
                if not self._store.keys.insert(SealedKeyRing(RING, sealed)):
                    record = self._store.keys.get(RING)
                record = record or SealedKeyRing(RING, sealed)
            ring: dict[str, Any] = json.loads(self._seal.unseal(record.sealed))
            if self._is_whole(ring) or self._replace(self._completed(ring), record.version):
                return ring
        raise TemporarilyUnavailable(detail="the key ring is being changed")

    def _is_whole(self, ring: dict[str, Any]) -> bool:
        return "pairwise" in ring and not self._missing(ring)

    def _missing(self, ring: dict[str, Any]) -> list[str]:
        known = {key["alg"] for key in ring["signing"]}
        return [alg for alg in self.algorithms if alg not in known]

    def _completed(self, ring: dict[str, Any]) -> dict[str, Any]:
        ring["signing"] += [self.new_pair(alg) for alg in self._missing(ring)]
        ring.setdefault("pairwise", handles.new_secret())
        return ring

    def _new_ring(self) -> bytes:
        secret = {"version": 1, "secret": handles.new_secret(), "created_at": self._store.now()}
        return json.dumps(self._completed({"signing": [], "handles": [secret]})).encode()

    def _replace(self, document: dict[str, Any], version: int) -> bool:
        changed = {"sealed": self._seal.seal(json.dumps(document).encode()), "version": version + 1}
        done = self._store.keys.transition((RING,), attr("version").eq(version), changed)
        return not isinstance(done, Refused)
