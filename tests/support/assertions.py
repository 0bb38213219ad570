"""Clients that authenticate by private_key_jwt: their keys and their assertions."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from chalicelib.clients.assertions import TYPE
from chalicelib.protocol.handles import base64url, new_id
from tests.support.site import Registered, Site


@dataclass(frozen=True)
class KeyPair:
    """A key pair of a client."""

    alg: str
    kid: str
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        return _jwk(self.alg, self.private.public_key()) | {"kid": self.kid, "use": "sig"}

    @property
    def private_jwk(self) -> dict[str, Any]:
        """The whole key as a JWK, which must not be registered."""
        return _jwk(self.alg, self.private) | {"kid": self.kid}

    @property
    def jwks(self) -> dict[str, Any]:
        """A JWK Set with the public key only."""
        return {"keys": [self.jwk]}


def _jwk(alg: str, key: Any) -> dict[str, Any]:
    jwk = get_default_algorithms()[alg].to_jwk(key, as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"}


@functools.cache
def key_pair(alg: str = "ES256", kid: str = "key-1") -> KeyPair:
    """Return a key pair, the same one for the same arguments."""
    if alg == "EdDSA":
        return KeyPair(alg, kid, ed25519.Ed25519PrivateKey.generate())
    if alg == "ES256":
        return KeyPair(alg, kid, ec.generate_private_key(ec.SECP256R1()))
    return KeyPair(alg, kid, rsa.generate_private_key(public_exponent=65537, key_size=2048))


def key_client(site: Site, pair: KeyPair | None = None, **members: Any) -> Registered:
    """Register a client that authenticates by private_key_jwt alone."""
    given: dict[str, Any] = {"jwks": (pair or key_pair()).jwks, "token_endpoint_auth_methods": ("private_key_jwt",)}
    return site.client(**(given | members))


def claims_of_assertion(site: Site, client_id: str, **changes: Any) -> dict[str, Any]:
    """Return the claims of a valid assertion with changes; one of None is left out."""
    now = site.clock.time
    given: dict[str, Any] = {"iss": client_id, "sub": client_id, "aud": site.settings.issuer, "jti": new_id()}
    given |= {"iat": now, "exp": now + 60}
    return {name: value for name, value in (given | changes).items() if value is not None}


def make_assertion(
    site: Site, client_id: str, pair: KeyPair | None = None, headers: dict[str, Any] | None = None, **changes: Any
) -> str:
    """Return a signed assertion, valid unless the headers or changes of its claims say otherwise."""
    pair = pair or key_pair()
    claims = claims_of_assertion(site, client_id, **changes)
    assertion = jwt.encode(claims, pair.private, pair.alg, {"kid": pair.kid, **(headers or {})})
    site.secrets.add(assertion)
    return assertion


def with_assertion(assertion: str) -> dict[str, str]:
    """Return the parameters by which a client authenticates with an assertion."""
    return {"client_assertion_type": TYPE, "client_assertion": assertion}


def signed(site: Site, client: Registered, **changes: Any) -> dict[str, str]:
    """Return the parameters by which a client authenticates with a new assertion."""
    return with_assertion(make_assertion(site, client.id, **changes))


def resolve_claims(site: Site, client: Registered, claims: dict[str, Any]) -> dict[str, Any]:
    """Return claims whose times count from now, and where ISSUER, TOKEN and CLIENT are values."""
    names = {"ISSUER": site.settings.issuer, "TOKEN": f"{site.settings.issuer}/oauth2/token", "CLIENT": client.id}

    def resolved(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [resolved("", each) for each in value]
        if name in ("exp", "iat", "nbf") and isinstance(value, int | float) and not isinstance(value, bool):
            return site.clock.time + value
        return names.get(value, value) if isinstance(value, str) else value

    return {name: resolved(name, value) for name, value in claims.items()}


def as_json(value: Any) -> bytes:
    """Return a value as the JSON of a part of a JWT."""
    return json.dumps(value, separators=(",", ":")).encode()


def sign(pair: KeyPair, header: Any, claims: Any) -> str:
    """Return a JWT with this header and these claims, which need not be valid, or the JSON of them."""
    parts = [part if isinstance(part, bytes) else as_json(part) for part in (header, claims)]
    text = ".".join(base64url(part) for part in parts)
    signature = jwt.get_algorithm_by_name(pair.alg).sign(text.encode(), pair.private)
    return f"{text}.{base64url(signature)}"
