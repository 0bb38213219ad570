"""Keys that sign JWTs: made, kept in the ring or in KMS, published as JWKs. Owns PyJWT.

A private key lies in the sealed ring, or never leaves KMS: then the ring holds its public half, and KMS signs each
token.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from chalicelib.dynamodb import unavailable
from chalicelib.handles import base64url
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

# The first is every client's default: what API Gateway's and the load balancer's own authorizers accept.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
# The members of a JWK that make an RSA, EC or Ed25519 key what it is (RFC 7638 section 3.2, RFC 8037 section 2)
REQUIRED = ("crv", "e", "kty", "n", "x", "y")
LONGEST_RAW = 4096
# Each algorithm needs a key of its own (RFC 8725 section 3.1), which in KMS costs by the month; and KMS signs with
# Ed25519 no more than 4,096 bytes.
KMS_ALGORITHMS = {"RS256": "RSASSA_PKCS1_V1_5_SHA_256", "ES256": "ECDSA_SHA_256"}


def algorithms(settings: Settings) -> tuple[str, ...]:
    """What a client may choose among: all, or what the keys in KMS can do."""
    return ALGORITHMS if settings.signing == "ring" else tuple(KMS_ALGORITHMS)


def half_hash(alg: str, value: str) -> str:
    """`at_hash` and `c_hash` (OpenID Connect Core sections 3.1.3.6 and 3.3.2.11): half a hash, base64url.

    The hash is that of the ID token's `alg`: SHA-256, but for Ed25519, which has SHA-512 in it (RFC 8032 section 5.1).
    """
    digest = hashlib.new("sha512" if alg == "EdDSA" else "sha256", value.encode()).digest()
    return base64url(digest[: len(digest) // 2])


@dataclass(frozen=True)
class SigningKey:
    """A key pair of ours. `sign` gives the JWS signature of some bytes (RFC 7518 section 3); `used_from` is a time."""

    kid: str
    alg: str
    public: Any = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False)
    used_from: int = 0

    @cached_property
    def jwk(self) -> dict[str, str]:
        """The public half as a JWK (RFC 7517 section 4)."""
        return public_jwk(self.alg, self.public) | {"kid": self.kid, "alg": self.alg, "use": "sig"}

    def jwt(self, claims: dict[str, Any], typ: str) -> str:
        """A signed JWT (RFC 7519, RFC 7515 section 7.1). `typ` is the header's media type."""
        header = {"alg": self.alg, "kid": self.kid, "typ": typ}
        signing_input = ".".join(
            base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)
        )
        return f"{signing_input}.{base64url(self.sign(signing_input.encode()))}"


def public_jwk(alg: str, public: Any) -> dict[str, str]:
    """The members of a public key that make it what it is, and no others (RFC 7638 section 3.2)."""
    jwk = _algorithm(alg).to_jwk(public, as_dict=True)
    return {name: jwk[name] for name in REQUIRED if name in jwk}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """The SHA-256 thumbprint of a public key (RFC 7638 section 3): the `kid` of our keys."""
    members = {name: jwk[name] for name in REQUIRED if name in jwk}
    required = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(required.encode()).digest())


def new_entry(alg: str, now: int) -> dict[str, Any]:
    """A new key pair as it stands in the ring, private half and all."""
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


def kms_entry(alg: str, kms: "KMSClient", key_id: str, now: int) -> dict[str, Any]:
    """A key pair of KMS as it stands in the ring: its ARN and its public half. One call."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    with unavailable("kms"):
        found = kms.get_public_key(KeyId=key_id)
    kid = thumbprint(public_jwk(alg, load_der_public_key(found["PublicKey"])))
    public = base64.b64encode(found["PublicKey"]).decode()
    return {"kid": kid, "alg": alg, "kms_key_id": found["KeyId"], "public": public, "created_at": now}


def used_from(entry: dict[str, Any]) -> int:
    """Since when a key of the ring is used; the first ones since they were made."""
    moment: int = entry.get("used_from", entry["created_at"])
    return moment


def parse(entry: dict[str, Any], kms: Callable[[], "KMSClient"]) -> SigningKey:
    """The key of a ring's entry, ready for use. `kms` gives the client, if the entry needs one."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

    alg, start = entry["alg"], used_from(entry)
    if "private" in entry:
        private: Any = load_pem_private_key(
            entry["private"].encode(),
            password=None,
            # Testing both primes takes 40 ms of a cold start, and is for keys of other people: this one is our own,
            # and comes out of the seal, which is authenticated, as it went in.
            unsafe_skip_rsa_key_validation=True,
        )
        return SigningKey(
            entry["kid"], alg, private.public_key(), lambda data: _algorithm(alg).sign(data, private), start
        )
    public = load_der_public_key(base64.b64decode(entry["public"]))
    return SigningKey(entry["kid"], alg, public, lambda data: _kms_sign(kms(), entry["kms_key_id"], alg, data), start)


def _kms_sign(kms: "KMSClient", key_id: str, alg: str, data: bytes) -> bytes:
    raw = len(data) <= LONGEST_RAW
    with unavailable("kms"):
        signature = kms.sign(
            KeyId=key_id,
            Message=data if raw else hashlib.sha256(data).digest(),
            MessageType="RAW" if raw else "DIGEST",
            SigningAlgorithm=KMS_ALGORITHMS[alg],  # type: ignore[arg-type]
        )["Signature"]
    if alg != "ES256":
        return signature
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
    from jwt.utils import der_to_raw_signature

    # JWS has the two numbers side by side (RFC 7518 section 3.4), KMS gives them in DER.
    return der_to_raw_signature(signature, SECP256R1())


@cache
def _algorithm(alg: str) -> Any:
    from jwt.algorithms import get_default_algorithms

    return get_default_algorithms()[alg]
