"""The key ring: signs and checks JWTs, publishes the JWKS, makes and checks handles. Owns cryptography, PyJWT and KMS.

The ring is one record, sealed; it is made by whoever comes first, read once, and read again after ten minutes. A key
that we do not know makes us read it again at once, but no more than once in ten seconds.
"""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chalicelib import handles
from chalicelib.errors import InvalidToken
from chalicelib.handles import Handle, Kind
from chalicelib.models import SealedKeyRing
from chalicelib.settings import Settings, SettingsError
from chalicelib.store import Store

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

RING = "main"
READ_AGAIN_AFTER = 600
UNKNOWN_KEY_PAUSE = 10
SIGNING_ALGORITHMS = ("RS256",)
_NONCE_BYTES = 12


class Seal:
    """Closes and opens the key ring with AES-256-GCM.

    The key is the settings' `sealing_key`, or, in AWS, a data key that KMS wraps and that lies wrapped before the
    sealed text; KMS is told the stage as encryption context, so that one stage's ring never opens in another.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._context = {"signet-stage": settings.stage}

    @cached_property
    def _kms(self) -> "KMSClient":
        import boto3

        return boto3.client("kms", region_name=self._settings.region)

    def seal(self, plain: bytes) -> bytes:
        """Sealed bytes that only `unseal` of the same stage opens."""
        if self._settings.sealing_key:
            return self._encrypt(self._settings.sealing_key, plain)
        if not self._settings.kms_key_id:
            raise SettingsError("SIGNET_KMS_KEY_ID must be set: the KMS key that seals the key ring")
        made = self._kms.generate_data_key(
            KeyId=self._settings.kms_key_id, KeySpec="AES_256", EncryptionContext=self._context
        )
        wrapped = made["CiphertextBlob"]
        return len(wrapped).to_bytes(2, "big") + wrapped + self._encrypt(made["Plaintext"], plain)

    def unseal(self, sealed: bytes) -> bytes:
        """What was sealed. Raises SettingsError when it was sealed with another key."""
        from cryptography.exceptions import InvalidTag

        key = self._settings.sealing_key
        if not key:
            end = 2 + int.from_bytes(sealed[:2], "big")
            wrapped, sealed = sealed[2:end], sealed[end:]
            key = self._unwrap(wrapped)
        try:
            plain: bytes = self._aead(key).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._settings.stage.encode()
            )
        except InvalidTag as error:
            raise SettingsError("The key ring was sealed with another key than the one in force") from error
        return plain

    def _unwrap(self, wrapped: bytes) -> bytes:
        key_id, refusals = self._settings.kms_key_id or "", self._kms.exceptions
        try:
            made = self._kms.decrypt(KeyId=key_id, CiphertextBlob=wrapped, EncryptionContext=self._context)
        except (refusals.InvalidCiphertextException, refusals.IncorrectKeyException) as error:
            raise SettingsError("The key ring was sealed with another key than the one in force") from error
        return made["Plaintext"]

    def _encrypt(self, key: bytes, plain: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed: bytes = self._aead(key).encrypt(nonce, plain, self._settings.stage.encode())
        return nonce + sealed

    @staticmethod
    def _aead(key: bytes) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(key)


def thumbprint(jwk: Mapping[str, str]) -> str:
    """The SHA-256 thumbprint of an RSA key (RFC 7638): the name of a key, made of nothing but the key."""
    required = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(required.encode()).digest()).rstrip(b"=").decode()


def _public_jwk(private: Any) -> dict[str, str]:
    from jwt.algorithms import RSAAlgorithm

    public = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {name: public[name] for name in ("kty", "n", "e")}


@dataclass(frozen=True)
class SigningKey:
    """A key that signs JWTs. `private` is parsed once: parsing an RSA key costs a hundred times a signature."""

    kid: str
    alg: str
    private: Any = field(repr=False)

    @cached_property
    def jwk(self) -> dict[str, str]:
        """The public half as a JWK (RFC 7517)."""
        return {**_public_jwk(self.private), "kid": self.kid, "alg": self.alg, "use": "sig"}


@dataclass(frozen=True)
class _Contents:
    signing: tuple[SigningKey, ...]
    handles: dict[int, bytes] = field(repr=False)
    read_at: int


class KeyRing:
    """All keys of this server, in use."""

    def __init__(self, store: Store):
        self._store = store
        self._seal = Seal(store.settings)
        self._lock = threading.Lock()
        self._known: _Contents | None = None

    # ---- JWTs

    def sign(self, claims: dict[str, Any], typ: str) -> str:
        """A JWT with these claims (RFC 7519), signed by the current key. `typ` is the header's media type."""
        import jwt

        key = self._contents().signing[0]
        return jwt.encode(claims, key.private, algorithm=key.alg, headers={"kid": key.kid, "typ": typ})

    def verify(self, token: str, typ: str, audience: str) -> dict[str, Any]:
        """The claims of a JWT of ours.

        Raises InvalidToken unless it bears this `typ` and audience, our issuer and signature, and has not expired.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._signing_key(header.get("kid"))
            if key is None or header.get("typ") != typ or header.get("alg") != key.alg:
                raise InvalidToken("The access token is not one of ours.")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.private.public_key(),
                algorithms=[key.alg],
                audience=audience,
                issuer=self._store.settings.issuer,
                # Time is the store's, which tests can move: PyJWT would look at the clock.
                options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, UnicodeError) as error:
            raise InvalidToken("The access token is not one of ours.", detail=type(error).__name__) from error
        if claims["exp"] <= self._store.now():
            raise InvalidToken("The access token has expired.")
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517 section 5)."""
        return {"keys": [key.jwk for key in self._contents().signing]}

    # ---- handles

    def make_handle(self, kind: Kind, record_id: str, generation: int = 0, key_version: int | None = None) -> str:
        """A handle, made with the current key, or with the version that an earlier handle was made with."""
        secrets_ = self._contents().handles
        version = max(secrets_) if key_version is None else key_version
        return handles.make(kind, record_id, generation, version, secrets_[version])

    def read_handle(self, kind: Kind, text: str | None) -> Handle | None:
        """The handle in `text`, None unless it is one of ours and of this kind. Asks no database."""
        return handles.read(kind, text, self._handle_secret) if text else None

    def form_tag(self, subject: str) -> str:
        """The tag of a form that we show for this subject."""
        secrets_ = self._contents().handles
        return handles.form_tag(subject, secrets_[max(secrets_)])

    def form_tag_is_ours(self, subject: str, tag: str) -> bool:
        """Whether we showed a form with this tag for this subject. Compares in constant time."""
        shown = tag.encode("utf-8", "replace")
        candidates = (handles.form_tag(subject, secret).encode() for secret in self._contents().handles.values())
        return any(secrets.compare_digest(candidate, shown) for candidate in candidates)

    # ---- underneath

    def _signing_key(self, kid: object) -> SigningKey | None:
        for contents in self._now_and_read_again():
            for key in contents.signing:
                if key.kid == kid:
                    return key
        return None

    def _handle_secret(self, version: int) -> bytes | None:
        for contents in self._now_and_read_again():
            if version in contents.handles:
                return contents.handles[version]
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
        record = self._store.keys.get(RING)
        if record is None:
            sealed = self._seal.seal(_new_ring(self._store.now()))
            # Whoever comes second uses the ring of whoever came first.
            if not self._store.keys.insert(SealedKeyRing(RING, sealed)):
                record = self._store.keys.get(RING)
            record = record or SealedKeyRing(RING, sealed)
        return _parse(self._seal.unseal(record.sealed), self._store.now(), known)


def _new_ring(now: int) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kid = thumbprint(_public_jwk(private))
    return json.dumps(
        {
            "signing": [{"kid": kid, "alg": "RS256", "private": pem.decode(), "created_at": now}],
            "handles": [
                {"version": 1, "secret": base64.b64encode(secrets.token_bytes(32)).decode(), "created_at": now}
            ],
        }
    ).encode()


def _parse(plain: bytes, now: int, known: _Contents | None) -> _Contents:
    """The ring's contents. Keys that we know already are not parsed again."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    parsed = {key.kid: key for key in known.signing} if known else {}
    ring = json.loads(plain)
    signing = tuple(
        parsed.get(key["kid"])
        or SigningKey(key["kid"], key["alg"], load_pem_private_key(key["private"].encode(), password=None))
        for key in ring["signing"]
    )
    return _Contents(signing, {key["version"]: base64.b64decode(key["secret"]) for key in ring["handles"]}, now)
