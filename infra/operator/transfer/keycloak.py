"""Convert the users of a Keycloak realm to user records, with the passwords whose hashes can be verified."""

import base64
import binascii
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chalicelib.authentication import passwords
from chalicelib.protocol.records import User
from infra.operator.transfer.foreign_claims import derived_sub, with_values

# Keycloak's attributes, as named by its built-in mappers.
_ATTRIBUTES = {
    "middleName": "middle_name",
    "phoneNumber": "phone_number",
    "phoneNumberVerified": "phone_number_verified",
    **{
        name: name
        for name in ("nickname", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale")
    },
}
_ADDRESS = {
    "street": "street_address",
    "locality": "locality",
    "region": "region",
    "postal_code": "postal_code",
    "country": "country",
    "formatted": "formatted",
}
_DIGESTS = {"pbkdf2-sha512": "sha512", "pbkdf2-sha256": "sha256", "pbkdf2": "sha1"}


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the users in a realm's JSON, in a users file, or in a list of users."""
    document = json.loads(path.read_text("utf-8-sig"))
    users = document["users"] if isinstance(document, dict) else document
    for number, user in enumerate(users, 1):
        if not user.get("serviceAccountClientId"):  # the account of a client is no user
            yield f"entry {number}", user


def convert(entry: dict[str, Any], now: int, left_behind: Counter[str]) -> User:
    """Convert a user of Keycloak, who keeps the password if its hash can be checked."""
    claims: dict[str, Any] = {"email": entry.get("email"), "given_name": entry.get("firstName")}
    claims["family_name"] = entry.get("lastName")
    claims["name"] = " ".join(filter(None, (claims["given_name"], claims["family_name"])))
    claims["email_verified"] = bool(entry.get("emailVerified")) if claims["email"] else None
    address = {}
    for name, values in (entry.get("attributes") or {}).items():
        value, *more = values if isinstance(values, list) and values else [values]
        if more and name in {**_ATTRIBUTES, **_ADDRESS}:
            left_behind[f"further values of {name}"] += len(more)
        if name in _ATTRIBUTES:
            claim = _ATTRIBUTES[name]
            claims[claim] = value == "true" if claim.endswith("_verified") else value
        elif name in _ADDRESS:
            address[_ADDRESS[name]] = value
        else:
            left_behind[name] += 1
    claims["address"] = with_values(address)
    password_hash, other_credentials = None, 0
    for credential in entry.get("credentials") or ():
        if credential.get("type") == "password":
            password_hash = convert_keycloak_hash(credential)
        else:
            other_credentials += 1
    left_behind["second factor"] += other_credentials
    for name in ("realmRoles", "clientRoles", "federatedIdentities"):
        left_behind[name] += bool(entry.get(name))
    return User(
        sub=entry.get("id") or derived_sub("keycloak", entry["username"]),
        username=entry["username"],
        password_hash=password_hash or "",
        claims=with_values(claims),
        groups=frozenset(map(group_name, entry.get("groups") or ())),
        password_change_required=password_hash is None or "UPDATE_PASSWORD" in (entry.get("requiredActions") or ()),
        created_at=int(entry.get("createdTimestamp") or 0) // 1000 or now,
        disabled_at=None if entry.get("enabled", True) else now,
    )


def group_name(path: str) -> str:
    """Return the name of a group by its path in Keycloak: `/a/b` is `a/b`, and a group of the first level its name.

    So two groups of the same name under different parents stay two. Raises ValueError for what is no path.
    """
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError(f"{path!r} is not the path of a group")
    return path.removeprefix("/")


def convert_keycloak_hash(credential: dict[str, Any]) -> str | None:
    """Return the hash of a credential in the format of `passwords.verify`, or None if unsupported.

    Keycloak 4 and later store JSON texts in `secretData` and `credentialData`; older versions store plain members.
    """
    try:
        secret = json.loads(credential["secretData"]) if "secretData" in credential else credential
        data = json.loads(credential["credentialData"]) if "credentialData" in credential else credential
        salt = base64.b64decode(secret["salt"], validate=True)
        checksum = base64.b64decode(secret.get("value") or secret["hashedSaltedValue"], validate=True)
        rounds, algorithm = int(data["hashIterations"]), data.get("algorithm", "pbkdf2")
        parameters = {name: values[0] for name, values in (data.get("additionalParameters") or {}).items()}
        if algorithm == "argon2":
            password_hash = _argon2(rounds, parameters, salt, checksum)
        else:
            password_hash = _pbkdf2(algorithm, rounds, salt, checksum)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, binascii.Error):
        return None
    return password_hash if password_hash and passwords.is_supported_hash(password_hash) else None


def _pbkdf2(algorithm: str, rounds: int, salt: bytes, checksum: bytes) -> str | None:
    digest = _DIGESTS.get(algorithm)
    size = hashlib.new(digest).digest_size if digest else 0
    if not digest or len(checksum) < size:
        return None
    # Keycloak derives 64 bytes with any digest, but passlib compares one block. Blocks are independent of each other
    # (RFC 8018 section 5.2), so the first is enough.
    name = "pbkdf2" if digest == "sha1" else f"pbkdf2-{digest}"
    encoded = "$".join(_base64(part).replace("+", ".") for part in (salt, checksum[:size]))
    return f"${name}${rounds}${encoded}"


def _argon2(passes: int, parameters: dict[str, str], salt: bytes, checksum: bytes) -> str | None:
    version = {"1.3": 19, "1.0": 16}[parameters.get("version", "1.3")]
    memory, lanes = int(parameters["memory"]), int(parameters["parallelism"])
    kind = parameters.get("type", "id")
    if kind not in ("id", "i", "d"):
        return None
    encoded = f"{_base64(salt)}${_base64(checksum)}"
    return f"$argon2{kind}$v={version}$m={memory},t={passes},p={lanes}${encoded}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()
