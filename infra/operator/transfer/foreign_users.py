"""Users of other servers: convert Cognito's user export and Keycloak's realm to user records.

Data that Signet does not support (roles, groups, custom attributes, second factors) is counted and reported. The `sub`
is kept if the file has one, because applications identify users by it.
"""

import base64
import binascii
import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.authentication import passwords
from chalicelib.protocol import scopes
from chalicelib.protocol.records import User
from infra.operator.transfer.json_lines import Entry, freeze

# Converts a user of the other server.
Converter = Callable[[dict[str, Any], int, Counter[str]], User]
CLAIMS = set(scopes.CLAIMS) - {"sub", "preferred_username"}
# Keycloak's attributes, as named by its built-in mappers.
_KEYCLOAK_ATTRIBUTES = {
    "middleName": "middle_name",
    "phoneNumber": "phone_number",
    "phoneNumberVerified": "phone_number_verified",
    **{
        name: name
        for name in ("nickname", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale")
    },
}
_KEYCLOAK_ADDRESS = {
    "street": "street_address",
    "locality": "locality",
    "region": "region",
    "postal_code": "postal_code",
    "country": "country",
    "formatted": "formatted",
}
_DIGESTS = {"pbkdf2-sha512": "sha512", "pbkdf2-sha256": "sha256", "pbkdf2": "sha1"}


@dataclass
class ForeignUsers:
    """The users in a file of another server. `left_behind` counts their unsupported data by name."""

    path: Path
    now: int
    left_behind: Counter[str] = field(default_factory=Counter)

    def read(self, format_: str) -> list[Entry]:
        """Return an entry for each user in the file. Raises ValueError when it has another format."""
        try:
            entries = list(_READERS[format_](self.path))
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError) as error:
            raise ValueError(f"it is not a user export of {format_.capitalize()} ({error})") from error
        return [self._entry(place, _CONVERTERS[format_], entry) for place, entry in entries if entry is not None]

    def _entry(self, place: str, convert: Converter, entry: dict[str, Any]) -> Entry:
        try:
            user = convert(entry, self.now, self.left_behind)
        except KeyError as error:
            return Entry(place, problem=f"{error.args[0]} is missing")
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            return Entry(place, problem=f"it cannot be read ({error})")
        return Entry(place, replace(user, claims=freeze(user.claims)))


# ---- Cognito


def _cognito(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the users in the CSV of an import job (header of `get-csv-header`), or in the JSON of `list-users`."""
    text = path.read_text("utf-8-sig")
    if text.lstrip().startswith(("{", "[")):
        document = json.loads(text)
        users = document["Users"] if isinstance(document, dict) else document
        for number, user in enumerate(users, 1):
            attributes = {pair["Name"]: pair.get("Value", "") for pair in user.get("Attributes", ())}
            yield f"entry {number}", {**attributes, "": user}
        return
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    if "cognito:username" not in (reader.fieldnames or ()):
        raise ValueError("the column cognito:username is missing")
    for row in reader:
        yield f"line {reader.line_num}", {name: value for name, value in row.items() if name is not None and value}


def _cognito_user(entry: dict[str, Any], now: int, left_behind: Counter[str]) -> User:
    """Convert a user of Cognito, who needs a new password: Cognito does not export passwords."""
    listed: dict[str, Any] = entry.pop("", {})
    name = listed.get("Username") or entry.pop("cognito:username")
    sub = entry.pop("sub", "") or _derived_sub("cognito", name)
    if name == sub:  # users of this pool sign in with their email, and the username is random
        name = entry.get("preferred_username") or entry.get("email") or name
    entry.pop("preferred_username", None)
    if (entry.pop("cognito:mfa_enabled", "") or "").lower() == "true" or listed.get("MFAOptions"):
        left_behind["second factor"] += 1
    claims: dict[str, Any] = {}
    for claim, value in entry.items():
        if claim not in CLAIMS:
            left_behind[claim] += 1
        elif claim.endswith("_verified"):
            claims[claim] = value.lower() == "true"
        elif claim == "updated_at":
            claims[claim] = int(float(value))
        else:
            claims[claim] = {"formatted": value} if claim == "address" else value
    return User(
        sub=sub,
        username=name,
        password_hash="",
        claims=claims,
        password_change_required=True,
        created_at=_seconds(listed.get("UserCreateDate")) or now,
        disabled_at=now if listed.get("Enabled") is False else None,
    )


def _seconds(time: Any) -> int:
    """Return a time of the AWS CLI, ISO 8601 or seconds, as seconds."""
    if isinstance(time, str):
        return int(datetime.fromisoformat(time).timestamp())
    return int(time or 0)


# ---- Keycloak


def _keycloak(path: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the users in a realm's JSON, in a users file, or in a list of users."""
    document = json.loads(path.read_text("utf-8-sig"))
    users = document["users"] if isinstance(document, dict) else document
    for number, user in enumerate(users, 1):
        # Service accounts of clients are not users.
        yield f"entry {number}", None if user.get("serviceAccountClientId") else user


def _keycloak_user(entry: dict[str, Any], now: int, left_behind: Counter[str]) -> User:
    """Convert a user of Keycloak, who keeps the password if its hash can be checked."""
    claims: dict[str, Any] = {"email": entry.get("email"), "given_name": entry.get("firstName")}
    claims["family_name"] = entry.get("lastName")
    claims["name"] = " ".join(filter(None, (claims["given_name"], claims["family_name"])))
    claims["email_verified"] = bool(entry.get("emailVerified")) if claims["email"] else None
    address = {}
    for name, values in (entry.get("attributes") or {}).items():
        value = values[0] if isinstance(values, list) and values else values
        if name in _KEYCLOAK_ATTRIBUTES:
            claim = _KEYCLOAK_ATTRIBUTES[name]
            claims[claim] = value == "true" if claim.endswith("_verified") else value
        elif name in _KEYCLOAK_ADDRESS:
            address[_KEYCLOAK_ADDRESS[name]] = value
        else:
            left_behind[name] += 1
    claims["address"] = address
    password_hash, other_credentials = None, 0
    for credential in entry.get("credentials") or ():
        if credential.get("type") == "password":
            password_hash = convert_keycloak_hash(credential)
        else:
            other_credentials += 1
    left_behind["second factor"] += other_credentials
    for name in ("realmRoles", "clientRoles", "groups", "federatedIdentities"):
        left_behind[name] += bool(entry.get(name))
    return User(
        sub=entry.get("id") or _derived_sub("keycloak", entry["username"]),
        username=entry["username"],
        password_hash=password_hash or "",
        claims={claim: value for claim, value in claims.items() if value not in (None, "", {})},
        password_change_required=password_hash is None or "UPDATE_PASSWORD" in (entry.get("requiredActions") or ()),
        created_at=int(entry.get("createdTimestamp") or 0) // 1000 or now,
        disabled_at=None if entry.get("enabled", True) else now,
    )


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


def _derived_sub(origin: str, name: str) -> str:
    """Return a `sub` for a user without one in the file: the same each time that the file is read."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"{origin} {name}".encode()).digest()[:16]).rstrip(b"=").decode()


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any] | None]]]] = {
    "cognito": _cognito,
    "keycloak": _keycloak,
}
_CONVERTERS: dict[str, Converter] = {"cognito": _cognito_user, "keycloak": _keycloak_user}
