"""People from elsewhere: Cognito's user export and Keycloak's realm, as records of ours.

What has no place here (roles, groups, custom attributes, second factors) is counted, so that the operator knows. A
`sub` is kept wherever the file has one: the applications know people by it.
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

from chalicelib import claims, passwords
from chalicelib.models import User
from infra.transfer.lines import Entry, frozen

# Makes a person of ours of one of theirs.
Maker = Callable[[dict[str, Any], int, Counter[str]], User]
# What checking a password may cost at most: a hash that asks for more could stop the server.
MOST_ROUNDS = 2_000_000
MOST_MEMORY = 128 * 1024  # KiB
MOST_PASSES = 100
CLAIMS = {claim for _, names in claims.SCOPES.values() for claim in names} - {"sub", "preferred_username"}
# Keycloak's attributes, by the names that its built-in mappers use.
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
class People:
    """The people in a file of another server. `left_behind` counts, by name, what they had and cannot have here."""

    path: Path
    now: int
    left_behind: Counter[str] = field(default_factory=Counter)

    def read(self, format_: str) -> list[Entry]:
        """Each person in the file.

        Raises ValueError when the file is not of this format.
        """
        try:
            entries = list(_READERS[format_](self.path))
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError) as error:
            raise ValueError(f"it is no user export of {format_.capitalize()} ({error})") from error
        return [self._entry(place, _MAKERS[format_], entry) for place, entry in entries if entry is not None]

    def _entry(self, place: str, make: Maker, entry: dict[str, Any]) -> Entry:
        try:
            user = make(entry, self.now, self.left_behind)
        except KeyError as error:
            return Entry(place, problem=f"{error.args[0]} is missing")
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            return Entry(place, problem=f"it cannot be understood ({error})")
        return Entry(place, replace(user, claims=frozen(user.claims)))


# ---- Cognito


def _cognito(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The CSV of an import job (its header is from `get-csv-header`), or the JSON of `list-users`."""
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
    """Cognito gives no password to anybody, so everybody needs a new one."""
    listed: dict[str, Any] = entry.pop("", {})
    name = listed.get("Username") or entry.pop("cognito:username")
    sub = entry.pop("sub", "") or _derived_sub("cognito", name)
    if name == sub:  # a pool where people sign in with their e-mail address: the name is a random one
        name = entry.get("preferred_username") or entry.get("email") or name
    entry.pop("preferred_username", None)
    if (entry.pop("cognito:mfa_enabled", "") or "").lower() == "true" or listed.get("MFAOptions"):
        left_behind["second factor"] += 1
    known: dict[str, Any] = {}
    for claim, value in entry.items():
        if claim not in CLAIMS:
            left_behind[claim] += 1
        elif claim.endswith("_verified"):
            known[claim] = value.lower() == "true"
        elif claim == "updated_at":
            known[claim] = int(float(value))
        else:
            known[claim] = {"formatted": value} if claim == "address" else value
    return User(
        sub=sub,
        username=name,
        password_hash="",
        claims=known,
        password_change_required=True,
        created_at=_seconds(listed.get("UserCreateDate")) or now,
        disabled_at=now if listed.get("Enabled") is False else None,
    )


def _seconds(moment: Any) -> int:
    """The CLI writes times in ISO 8601, or as seconds."""
    if isinstance(moment, str):
        return int(datetime.fromisoformat(moment).timestamp())
    return int(moment or 0)


# ---- Keycloak


def _keycloak(path: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """The realm's JSON with its users, a file of users, or a list of them."""
    document = json.loads(path.read_text("utf-8-sig"))
    users = document["users"] if isinstance(document, dict) else document
    for number, user in enumerate(users, 1):
        # The accounts of clients are no people.
        yield f"entry {number}", None if user.get("serviceAccountClientId") else user


def _keycloak_user(entry: dict[str, Any], now: int, left_behind: Counter[str]) -> User:
    known: dict[str, Any] = {"email": entry.get("email"), "given_name": entry.get("firstName")}
    known["family_name"] = entry.get("lastName")
    known["name"] = " ".join(filter(None, (known["given_name"], known["family_name"])))
    known["email_verified"] = bool(entry.get("emailVerified")) if known["email"] else None
    address = {}
    for name, values in (entry.get("attributes") or {}).items():
        value = values[0] if isinstance(values, list) and values else values
        if name in _KEYCLOAK_ATTRIBUTES:
            claim = _KEYCLOAK_ATTRIBUTES[name]
            known[claim] = value == "true" if claim.endswith("_verified") else value
        elif name in _KEYCLOAK_ADDRESS:
            address[_KEYCLOAK_ADDRESS[name]] = value
        else:
            left_behind[name] += 1
    known["address"] = address
    hashed, others = None, 0
    for credential in entry.get("credentials") or ():
        if credential.get("type") == "password":
            hashed = keycloak_hash(credential)
        else:
            others += 1
    left_behind["second factor"] += others
    for what in ("realmRoles", "clientRoles", "groups", "federatedIdentities"):
        left_behind[what] += bool(entry.get(what))
    return User(
        sub=entry.get("id") or _derived_sub("keycloak", entry["username"]),
        username=entry["username"],
        password_hash=hashed or "",
        claims={claim: value for claim, value in known.items() if value not in (None, "", {})},
        password_change_required=hashed is None or "UPDATE_PASSWORD" in (entry.get("requiredActions") or ()),
        created_at=int(entry.get("createdTimestamp") or 0) // 1000 or now,
        disabled_at=None if entry.get("enabled", True) else now,
    )


def keycloak_hash(credential: dict[str, Any]) -> str | None:
    """A password credential as a hash that `passwords.verify` takes; None when it cannot, or would cost too much.

    Keycloak 4 and later have JSON texts in `secretData` and `credentialData`; before, the members stood side by side.
    """
    try:
        secret = json.loads(credential["secretData"]) if "secretData" in credential else credential
        data = json.loads(credential["credentialData"]) if "credentialData" in credential else credential
        salt = base64.b64decode(secret["salt"], validate=True)
        checksum = base64.b64decode(secret.get("value") or secret["hashedSaltedValue"], validate=True)
        rounds, algorithm = int(data["hashIterations"]), data.get("algorithm", "pbkdf2")
        more = {name: values[0] for name, values in (data.get("additionalParameters") or {}).items()}
        found = _pbkdf2(algorithm, rounds, salt, checksum)
        if algorithm == "argon2":
            found = _argon2(rounds, more, salt, checksum)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, binascii.Error):
        return None
    return found if found and passwords.is_hash(found) else None


def _pbkdf2(algorithm: str, rounds: int, salt: bytes, checksum: bytes) -> str | None:
    digest = _DIGESTS.get(algorithm)
    size = hashlib.new(digest).digest_size if digest else 0
    if not digest or not 0 < rounds <= MOST_ROUNDS or len(checksum) < size:
        return None
    # Keycloak asks PBKDF2 for 64 bytes whatever the digest; each block stands alone (RFC 8018 section 5.2), and one
    # is what passlib compares.
    name = "pbkdf2" if digest == "sha1" else f"pbkdf2-{digest}"
    ends = "$".join(_base64(part).replace("+", ".") for part in (salt, checksum[:size]))
    return f"${name}${rounds}${ends}"


def _argon2(passes: int, more: dict[str, str], salt: bytes, checksum: bytes) -> str | None:
    version = {"1.3": 19, "1.0": 16}[more.get("version", "1.3")]
    memory, lanes = int(more["memory"]), int(more["parallelism"])
    if memory > MOST_MEMORY or passes > MOST_PASSES or more.get("type", "id") not in ("id", "i", "d"):
        return None
    ends = f"{_base64(salt)}${_base64(checksum)}"
    return f"$argon2{more.get('type', 'id')}$v={version}$m={memory},t={passes},p={lanes}${ends}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()


def _derived_sub(origin: str, name: str) -> str:
    """A `sub` for somebody whose file has none: the same each time that the file is read."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"{origin} {name}".encode()).digest()[:16]).rstrip(b"=").decode()


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any] | None]]]] = {
    "cognito": _cognito,
    "keycloak": _keycloak,
}
_MAKERS: dict[str, Maker] = {"cognito": _cognito_user, "keycloak": _keycloak_user}
