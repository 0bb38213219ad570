"""Convert the users of a Cognito user pool to user records. They need new passwords: Cognito does not export any."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.protocol.records import User
from infra.operator.transfer.foreign_claims import CLAIMS, derived_sub, with_values

# How the names of federated users begin, for files without the status of the users.
_SOCIAL = ("facebook_", "google_", "loginwithamazon_", "signinwithapple_")
_LISTED, _EXTRA = "", ","  # no attribute has such a name


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the users in the CSV of an import job (header of `get-csv-header`), or in the JSON of `list-users`."""
    text = path.read_text("utf-8-sig")
    if text.lstrip().startswith(("{", "[")):
        document = json.loads(text)
        users = document["Users"] if isinstance(document, dict) else document
        for number, user in enumerate(users, 1):
            attributes = {pair["Name"]: pair.get("Value", "") for pair in user.get("Attributes", ())}
            yield f"entry {number}", {**attributes, _LISTED: user}
        return
    header, *rows = re.split("\r\n|\n|\r", text)
    names = _fields(header)
    if "cognito:username" not in names:
        raise ValueError("the column cognito:username is missing")
    for number, row in enumerate(rows, 2):
        if row.strip():
            fields = _fields(row)
            extra = {_EXTRA: len(fields) - len(names)} if len(fields) > len(names) else {}
            yield f"line {number}", {name: value for name, value in zip(names, fields, strict=False) if value} | extra


def _fields(line: str) -> list[str]:
    r"""Return the fields of a line: `\,` is a comma, quotation marks are ordinary characters, spaces are trimmed."""
    return [field.replace("\\,", ",").strip() for field in re.split(r"(?<!\\),", line)]


def convert(entry: dict[str, Any], now: int, left_behind: Counter[str]) -> User:
    """Convert a user, who needs a new password. Raises KeyError or ValueError when it cannot be converted."""
    listed: dict[str, Any] = entry.pop(_LISTED, {})
    if extra := entry.pop(_EXTRA, 0):
        raise ValueError(f"it has {extra} more fields than the header; a comma in a value is written as \\,")
    entry = with_values(entry)
    name = listed.get("Username") or entry.pop("cognito:username")
    sub = entry.pop("sub", "") or derived_sub("cognito", name)
    if name == sub:  # users of this pool sign in with their email or phone number, and the username is random
        name = entry.get("email") or entry.get("phone_number") or name
    if entry.pop("preferred_username", name) != name:
        left_behind["preferred_username"] += 1
    if entry.pop("cognito:mfa_enabled", "").lower() == "true" or listed.get("MFAOptions"):
        left_behind["second factor"] += 1
    claims: dict[str, Any] = {}
    for claim, value in entry.items():
        if claim in CLAIMS:
            claims[claim] = _claim(claim, value)
        else:
            left_behind[claim] += 1
    return User(
        sub=sub,
        username=name,
        password_hash="",
        claims=claims,
        password_change_required=True,
        created_at=_seconds(listed.get("UserCreateDate")) or now,
        disabled_at=now if listed.get("Enabled") is False else None,
    )


def is_federated(entry: dict[str, Any]) -> bool:
    """Return whether a user signs in at another provider. Cognito lets such a user have the email of a native one."""
    listed: dict[str, Any] = entry.get(_LISTED, {})
    if status := listed.get("UserStatus"):
        return bool(status == "EXTERNAL_PROVIDER")
    return str(listed.get("Username") or entry.get("cognito:username", "")).lower().startswith(_SOCIAL)


def _claim(name: str, value: str) -> Any:
    if name.endswith("_verified"):
        return value.lower() == "true"
    if name == "updated_at":
        return int(float(value))
    if name == "birthdate" and re.fullmatch(r"\d{2}/\d{2}/\d{4}", value):  # of a CSV; a listed one has ISO 8601
        return datetime.strptime(value, "%m/%d/%Y").date().isoformat()  # noqa: DTZ007  a date has no time zone
    return {"formatted": value} if name == "address" else value


def _seconds(time: Any) -> int:
    """Return a time of the AWS CLI, ISO 8601 or seconds, as seconds."""
    if isinstance(time, str):
        return int(datetime.fromisoformat(time).timestamp())
    return int(time or 0)
