"""Public keys of passkeys (COSE, RFC 9053), and the signatures that they verify. Owns fido2, with `authentication`."""

from collections.abc import Mapping
from typing import Any

from chalicelib.protocol.passkey import ALGORITHMS

RSA_BYTES = (256, 512)  # of the modulus
_ED25519, _P256 = 6, 1  # curves (RFC 9053 section 7.1)
_SHAPES: dict[int, tuple[int, int | None]] = {-8: (1, _ED25519), -7: (2, _P256), -257: (3, None)}  # key type, curve


def algorithm_of(key: Mapping[int, Any]) -> int | None:
    """Return the COSE algorithm of a key; None unless it is one of ALGORITHMS, and the key is a usable one for it."""
    alg = key.get(3)
    if alg not in ALGORITHMS:
        return None
    key_type, curve = _SHAPES[alg]
    if key.get(1) != key_type or (curve is not None and key.get(-1) != curve):
        return None
    if curve is None and not _is_rsa(key.get(-1), key.get(-2)):
        return None
    from cryptography.exceptions import InvalidSignature
    from fido2.cose import CoseKey

    try:
        CoseKey.parse(key).verify(b"", b"")
    except InvalidSignature:
        return int(alg)  # the key could be read
    except (ValueError, TypeError, KeyError):
        return None
    return None


def verifies(encoded_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the key, a stored COSE key, has made this signature."""
    from cryptography.exceptions import InvalidSignature
    from fido2 import cbor
    from fido2.cose import CoseKey

    key: Any = cbor.decode(encoded_key)
    try:
        CoseKey.parse(key).verify(message, signature)
    except InvalidSignature:
        return False
    return True


def _is_rsa(modulus: object, exponent: object) -> bool:
    low, high = RSA_BYTES
    sized = isinstance(modulus, bytes) and low <= len(modulus.lstrip(b"\0")) <= high
    return sized and isinstance(exponent, bytes) and 1 <= len(exponent) <= 4
