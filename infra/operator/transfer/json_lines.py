"""The export format: clients, their documents, users, passkeys, consents, scopes and resources as lines of JSON."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from chalicelib.protocol.authorization_type import AuthorizationType
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import BlockedHosts, ClientDocument
from chalicelib.protocol.custom_claims import freeze
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.records import Consent, User
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.second_factor import SECOND_FACTOR_FIELDS
from infra.operator.terminal import json_text

VERSION = 1
Record = Client | ClientDocument | BlockedHosts | User | Passkey | Consent | Scope | Resource | AuthorizationType
KINDS: dict[type[Record], str] = {
    Client: "client",
    ClientDocument: "document",
    BlockedHosts: "blocked_hosts",
    User: "user",
    Passkey: "passkey",
    Consent: "consent",
    Scope: "scope",
    Resource: "resource",
    AuthorizationType: "authorization_type",
}
_CLASSES = {kind: record for record, kind in KINDS.items()}
# The fields with credentials, which are only exported on request.
_CREDENTIALS = {
    "client": {"secret_hashes", "registration_token_hash", "previous_registration_token_hash"},
    "user": {"password_hash", *SECOND_FACTOR_FIELDS},
}
# The fields that say what has ended. They are only valid in this database: an import sets new ones.
_INTERNAL = frozenset(
    {
        *("registration_id", "generation", "client_generation", "document", "refreshing_until"),
        *("recovery_batch", "sessions_generation", "grants_generation", "consents_generation", "password_generation"),
        *("email_changes", "email_void_from", "email_void_until"),
    }
)


@dataclass(frozen=True)
class Entry:
    """A record in a file, or the `problem` with it."""

    place: str
    record: Record | None = None
    problem: str = ""


# ---- records as lines


def header_line(stage: str, now: int, hashes: bool) -> str:
    """Return the first line."""
    return _line({"kind": "signet", "version": VERSION, "stage": stage, "exported_at": now, "hashes": hashes})


def end_line(count: int) -> str:
    """Return the last line, which marks the file as complete."""
    return _line({"kind": "end", "records": count})


def record_line(record: Record, hashes: bool) -> str:
    """Return the line of a record, with the hashes of its password or secrets only if `hashes`."""
    kind = KINDS[type(record)]
    hidden = _INTERNAL | (set() if hashes else _CREDENTIALS.get(kind, set()))
    members = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in hidden}
    return _line({"kind": kind, **{name: _text(value) for name, value in members.items() if value is not None}})


def _text(value: Any) -> Any:
    """Return a member as JSON has it: bytes as base64."""
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _line(members: Mapping[str, Any]) -> str:
    return json_text(members, separators=(",", ":"))


# ---- lines as records


def parse_entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of a file's lines. Raises ValueError when it is not an export of this version."""
    count, ended = 0, False
    for number, line in enumerate(lines, 1):
        try:
            members = json.loads(line, parse_float=_reject_fraction)
        except (ValueError, RecursionError) as error:
            if number == 1:
                raise ValueError("its first line is not JSON") from error
            count += 1
            problem = f"it is not JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)
            yield Entry(f"line {number}", problem=problem)
            continue
        kind = members.pop("kind", None) if isinstance(members, dict) else None
        if number == 1:
            if kind != "signet" or members.get("version") != VERSION:
                raise ValueError(f"its first line is not the header of an export of version {VERSION}")
        elif kind == "end":
            ended = True
            if members.get("records") != count:
                yield Entry(
                    f"line {number}", problem=f"it names {members.get('records')} records, but there are {count}"
                )
        else:
            count += 1
            yield _entry(f"line {number}", kind, members)
    if not ended:
        yield Entry("the end", problem="the last line is missing: the export is incomplete. Export again")


def _reject_fraction(text: str) -> Any:
    raise ValueError(f"{text} is not an integer")


def _entry(place: str, kind: Any, members: Any) -> Entry:
    record = _CLASSES.get(kind) if isinstance(kind, str) else None
    if record is None:
        return Entry(place, problem=f"its kind is {kind!r}, not one of: {', '.join(_CLASSES)}")
    if kind == "user" and not members.get("password_hash"):
        members |= {"password_hash": "", "password_change_required": True}
    try:
        return Entry(place, _build(record, members))
    except (ValueError, TypeError, RecursionError) as error:
        return Entry(place, problem=str(error))


def _build(record: type[Any], members: dict[str, Any]) -> Record:
    hints = get_type_hints(record)
    if unknown := sorted(set(members) - set(hints)):
        raise ValueError(f"{unknown[0]} is not a member of a {KINDS[record]}")
    # The exports of version 0.1.0 contain `sessions_generation`.
    values = {name: _convert(name, hints[name], value) for name, value in members.items() if name not in _INTERNAL}
    required = [field.name for field in fields(record) if field.default is MISSING and field.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{missing[0]} is missing")
    built: Record = record(**values)
    return built


def _convert(name: str, hint: Any, value: Any) -> Any:
    """Convert a JSON value to the type of a field. Raises ValueError when it has another type."""
    for choice in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        origin = get_origin(choice) or choice
        if origin in (tuple, frozenset):
            if isinstance(value, list) and all(isinstance(member, str) for member in value):
                return origin(value)
        elif origin is dict:
            if isinstance(value, dict):
                return {key: freeze(member) for key, member in value.items()}
        elif origin is bytes:
            if isinstance(value, str):
                return b64decode(value, validate=True)
        elif origin is NoneType:
            if value is None:
                return None
        elif isinstance(value, origin) and not (origin is int and isinstance(value, bool)):
            return value
    raise ValueError(f"{name} cannot be {json.dumps(value)[:60]}")
