"""Public keys of clients: JWK Sets (RFC 7517) are checked, and JWTs are verified with their keys."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from chalicelib.keys.signing import ALGORITHMS, REQUIRED
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.values import dataclass

# RFC 9864 section 2.2 renames EdDSA with this curve.
SAME = {"Ed25519": "EdDSA"}
ACCEPTED = (*ALGORITHMS, *SAME)
MAX_KEYS = 20
_MAX_KID = 256
# RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1, RFC 8037 section 2
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# key type and curve -> what its keys may sign with; each is an algorithm of this server too
_BY_TYPE = {("RSA", ""): ("RS256", "PS256"), ("EC", "P-256"): ("ES256",), ("OKP", "Ed25519"): ("EdDSA",)}
_RSA_BITS = (2048, 4096)  # a longer key takes long to verify with
_MAX_EXPONENT = 32  # bits


@dataclass(frozen=True)
class Jwt:
    """A JWT that was read, and is not verified yet."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]

    @property
    def alg(self) -> str:
        """The algorithm in its header, under the name that this server uses; "" if it is none of ACCEPTED."""
        alg = self.header.get("alg")
        return SAME.get(alg, alg) if alg in ACCEPTED else ""


def read_jwt(text: str) -> Jwt:
    """Return a JWT without verifying it. Raises ValueError when it is malformed, or has extensions (`crit`).

    Repeated members are malformed: two readers could see different ones.
    """
    parts = text.split(".")
    if len(parts) != 3:
        raise ValueError("it has no three parts")
    octets = [from_base64url(part) for part in parts]
    if [base64url(each) for each in octets] != parts:  # base64 ignores the last bits: accept only one spelling
        raise ValueError("it is not base64url")
    header, claims = map(_read_object, octets[:2])
    if "crit" in header or "b64" in header:
        raise ValueError("its header has extensions")
    return Jwt(text, header, claims)


def is_signed_by(jwt: Jwt, jwks: Mapping[str, Any]) -> bool:
    """Return whether one key of a JWK Set, as `read_jwks` returns it, has signed a JWT.

    The key is the one that the `kid` of its header names; without a `kid`, the only one for its algorithm.
    """
    kid = jwt.header.get("kid")
    fitting = [key for key in jwks["keys"] if kid in (None, key.get("kid")) and jwt.alg in _algorithms(key)]
    return len(fitting) == 1 and is_signed_by_key(jwt, fitting[0])


def is_signed_by_key(jwt: Jwt, key: Mapping[str, Any]) -> bool:
    """Return whether a key, as `read_jwks` returns it, has signed a JWT with an algorithm that fits it."""
    from jwt import PyJWK, PyJWS, PyJWTError
    from jwt.algorithms import get_default_algorithms

    if jwt.alg not in _algorithms(key):
        return False
    alg = jwt.header["alg"]
    verifier = PyJWS(algorithms=[jwt.alg])
    if alg != jwt.alg:
        verifier.register_algorithm(alg, get_default_algorithms()[jwt.alg])
    try:
        verifier.decode_complete(jwt.text, PyJWK(dict(key), algorithm=jwt.alg).key, algorithms=[alg])
    except (PyJWTError, ValueError):
        return False
    return True


def has_key_for(jwt: Jwt, jwks: Mapping[str, Any]) -> bool:
    """Return whether a JWK Set has a key with the `kid` of a JWT, or needs none."""
    kid = jwt.header.get("kid")
    return kid is None or any(key.get("kid") == kid for key in jwks["keys"])


def read_jwks(document: object) -> dict[str, Any]:
    """Return a JWK Set with only the keys that can verify a signature, and what is needed of them.

    Raises ValueError when it is no JWK Set, has a private or symmetric key, too many keys or none to use. Other keys,
    such as those for encryption, are ignored (RFC 7517 section 5).
    """
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, list | tuple) or not all(isinstance(key, Mapping) for key in keys):
        raise ValueError('it is no JWK Set: an object with an array "keys"')
    if len(keys) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    for key in keys:
        if key.get("kty") == "oct" or not _PRIVATE.isdisjoint(key):
            raise ValueError("it has a private or symmetric key, which must not leave the application")
    usable = tuple(_checked(key) for key in keys if _algorithms(key))
    if not usable:
        raise ValueError("it has no key for signatures with " + ", ".join(ALGORITHMS))
    # FAPI 2.0 Security Profile section 5.4.3: keys with one kid are told apart by what they may sign with.
    kids = [(key["kid"], alg) for key in usable if "kid" in key for alg in _algorithms(key)]
    if len(set(kids)) != len(kids):
        raise ValueError("two of its keys have the same kid")
    return {"keys": usable}


def read_public_key(jwk: object) -> dict[str, str]:
    """Return one key with what is needed of it, as `read_jwks` does. Raises ValueError as it does."""
    key: dict[str, str] = read_jwks({"keys": [jwk]})["keys"][0]
    return key


def read_json(text: str | bytes) -> object:
    """Return a JSON value. Raises ValueError when it is malformed, repeats a member, or has NaN or Infinity."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a member is repeated")
        return members

    def reject(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=reject)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _read_object(octets: bytes) -> dict[str, Any]:
    members = read_json(octets.decode("utf-8"))
    if not isinstance(members, dict):
        raise ValueError("its header or its claims are no object")
    return members


def _algorithms(key: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a key may sign with: nothing, if it has another purpose or type."""
    kty, crv, alg, operations = (key.get(name, "") for name in ("kty", "crv", "alg", "key_ops"))
    verifies = operations == "" or (isinstance(operations, list | tuple) and "verify" in operations)
    other_purpose = key.get("use", "sig") != "sig" or not verifies
    if not all(isinstance(member, str) for member in (kty, crv, alg)) or other_purpose:
        return ()
    by_type = _BY_TYPE.get((kty, "" if kty == "RSA" else crv), ())
    return tuple(each for each in by_type if SAME.get(alg, alg) in ("", each))


def _checked(key: Mapping[str, Any]) -> dict[str, str]:
    """Return the members of a key that are needed. Raises ValueError for one that is not valid, or too short."""
    from jwt import PyJWK, PyJWTError

    names = (*REQUIRED, *(name for name in ("kid", "alg") if name in key))
    members = {name: key[name] for name in names if name in key and not (name == "crv" and key["kty"] == "RSA")}
    if not all(isinstance(member, str) for member in members.values()) or len(members.get("kid", "")) > _MAX_KID:
        raise ValueError("a member of a key is no text, or too long")
    "".join(members.values()).encode()  # a lone surrogate is no text, and raises a ValueError
    if key["kty"] == "RSA":
        try:
            bits, exponent = (int.from_bytes(from_base64url(key[name])).bit_length() for name in ("n", "e"))
        except (KeyError, ValueError) as error:
            raise ValueError("an RSA key is not valid") from error
        if not _RSA_BITS[0] <= bits <= _RSA_BITS[1] or exponent > _MAX_EXPONENT:
            raise ValueError(f"an RSA key must have {_RSA_BITS[0]} to {_RSA_BITS[1]} bits, and a small exponent")
    try:
        PyJWK(members, algorithm=_algorithms(key)[0])
    except (PyJWTError, ValueError, TypeError) as error:
        raise ValueError(f"a key of type {key['kty']} is not valid") from error
    return members
