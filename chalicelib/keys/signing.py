"""Keys that sign JWTs: generated, stored in the ring or in KMS, published as JWKs.

A private key is stored in the encrypted ring, or never leaves KMS: then the ring contains its public half, and KMS
signs each token.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import cache, cached_property, lru_cache
from typing import Any

from chalicelib.aws.client import Client
from chalicelib.protocol.compact_json import to_json
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.values import dataclass
from chalicelib.settings import Settings

# The first is the default of every client: the authorizers of API Gateway and of load balancers accept only RS256.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
# The members of a JWK that define an RSA, EC or Ed25519 key (RFC 7638 section 3.2, RFC 8037 section 2)
REQUIRED = ("crv", "e", "kty", "n", "x", "y")
_REQUIRED_OF_TYPE = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
MAX_RAW_MESSAGE = 4096  # bytes that KMS hashes itself
# Two algorithms only: each needs its own key (RFC 8725 section 3.1), which KMS bills by the month, and KMS signs at
# most 4,096 bytes with Ed25519.
KMS_ALGORITHMS = {"RS256": "RSASSA_PKCS1_V1_5_SHA_256", "ES256": "ECDSA_SHA_256"}


def algorithms(settings: Settings) -> tuple[str, ...]:
    """Return the algorithms that a client may choose: all, or those of the keys in KMS."""
    return ALGORITHMS if settings.signing == "ring" else tuple(KMS_ALGORITHMS)


def half_hash(alg: str, value: str) -> str:
    """Return `at_hash` or `c_hash`: half a hash, base64url (OpenID Connect Core sections 3.1.3.6 and 3.3.2.11).

    The hash function is that of the ID token's `alg`: SHA-256, or SHA-512 for Ed25519 (RFC 8032 section 5.1).
    """
    digest = hashlib.new("sha512" if alg == "EdDSA" else "sha256", value.encode()).digest()
    return base64url(digest[: len(digest) // 2])


@dataclass(frozen=True)
class SigningKey:
    """A key pair. `sign` returns the JWS signature of its argument (RFC 7518 section 3); `used_from` is a time."""

    kid: str
    alg: str
    public: Any = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False)
    used_from: int = 0

    @cached_property
    def jwk(self) -> dict[str, str]:
        """The public half as a JWK (RFC 7517 section 4)."""
        return public_jwk(self.alg, self.public) | {"kid": self.kid, "alg": self.alg, "use": "sig"}

    def jwt(self, claims: dict[str, Any], typ: str, *, with_key: bool = False) -> str:
        """Return a signed JWT (RFC 7519, RFC 7515 section 7.1). `typ` is the media type in its header.

        `with_key`: the header has the public key instead of its `kid`.
        """
        if with_key:
            header = _encoded({"alg": self.alg, "jwk": public_jwk(self.alg, self.public), "typ": typ})
        else:
            header = _encoded_header(self.alg, self.kid, typ)
        signing_input = f"{header}.{_encoded(claims)}"
        return f"{signing_input}.{base64url(self.sign(signing_input.encode()))}"


def _encoded(part: dict[str, Any]) -> str:
    return base64url(to_json(part).encode())


@lru_cache(64)
def _encoded_header(alg: str, kid: str, typ: str) -> str:
    return _encoded({"alg": alg, "kid": kid, "typ": typ})


def public_jwk(alg: str, public: Any) -> dict[str, str]:
    """Return a public key as a JWK that has only its required members (RFC 7638 section 3.2)."""
    jwk = _algorithm(alg).to_jwk(public, as_dict=True)
    return {name: jwk[name] for name in REQUIRED if name in jwk}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a public key (RFC 7638 section 3), which is its `kid`."""
    members = {name: jwk[name] for name in _REQUIRED_OF_TYPE[jwk["kty"]]}
    required = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(required.encode()).digest())


def new_entry(alg: str, now: int) -> dict[str, Any]:
    """Return the ring's entry for a new key pair, with the private key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    private: Any
    if alg == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    elif alg == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kid = thumbprint(public_jwk(alg, private.public_key()))
    return {"kid": kid, "alg": alg, "private": pem.decode(), "created_at": now}


def generate(alg: str) -> SigningKey:
    """Return a new key pair that is stored nowhere, for a client's proofs."""

    def no_kms() -> Client:
        raise LookupError("the key is not in KMS")

    return parse(new_entry(alg, 0), no_kms)


def kms_entry(alg: str, kms: Client, key_id: str, now: int) -> dict[str, Any]:
    """Return the ring's entry for a key pair in KMS: its ARN and its public key. Makes one call."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    answer = kms.call("GetPublicKey", KeyId=key_id)
    kid = thumbprint(public_jwk(alg, load_der_public_key(base64.b64decode(answer["PublicKey"]))))
    return {"kid": kid, "alg": alg, "kms_key_id": answer["KeyId"], "public": answer["PublicKey"], "created_at": now}


def used_from(entry: dict[str, Any]) -> int:
    """Return the time from which a key of the ring is used: for the first keys, their creation."""
    time: int = entry.get("used_from", entry["created_at"])
    return time


def parse(entry: dict[str, Any], kms: Callable[[], Client]) -> SigningKey:
    """Return the key of a ring's entry. `kms` returns the KMS client, for an entry that needs it."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

    alg, start = entry["alg"], used_from(entry)
    if "private" in entry:
        private: Any = load_pem_private_key(
            entry["private"].encode(),
            password=None,
            # The check of both primes would add 40 ms to a cold start. It is not needed: the key was generated here,
            # and its encryption is authenticated.
            unsafe_skip_rsa_key_validation=True,
        )
        return SigningKey(entry["kid"], alg, private.public_key(), lambda data: _sign(alg, private, data), start)
    public = load_der_public_key(base64.b64decode(entry["public"]))
    return SigningKey(entry["kid"], alg, public, lambda data: _kms_sign(kms(), entry["kms_key_id"], alg, data), start)


def _kms_sign(kms: Client, key_id: str, alg: str, data: bytes) -> bytes:
    raw = len(data) <= MAX_RAW_MESSAGE
    answer = kms.call(
        "Sign",
        KeyId=key_id,
        Message=base64.b64encode(data if raw else hashlib.sha256(data).digest()).decode(),
        MessageType="RAW" if raw else "DIGEST",
        SigningAlgorithm=KMS_ALGORITHMS[alg],
    )
    signature = base64.b64decode(answer["Signature"])
    return _side_by_side(signature) if alg == "ES256" else signature


def _sign(alg: str, private: Any, data: bytes) -> bytes:
    """Return a signature as JWS has it (RFC 7518 section 3, RFC 8037 section 3.1).

    Without PyJWT, which loads certificates, HTTP and email first: a third of the time to the first token.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.hashes import SHA256

    signature: bytes
    match alg:
        case "RS256":
            signature = private.sign(data, padding.PKCS1v15(), SHA256())
        case "PS256":
            pss = padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size)
            signature = private.sign(data, pss, SHA256())
        case "ES256":
            signature = _side_by_side(private.sign(data, ec.ECDSA(SHA256())))
        case _:
            signature = private.sign(data)
    return signature


def _side_by_side(signature: bytes) -> bytes:
    """Return the two numbers of an ECDSA signature side by side (RFC 7518 section 3.4) instead of in DER."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(signature))


def preload() -> None:
    """Import what signs, before a snapshot."""
    _algorithm("RS256")


@cache
def _algorithm(alg: str) -> Any:
    from jwt.algorithms import get_default_algorithms

    return get_default_algorithms()[alg]
