"""Clients, users, consents and scopes as lines of JSON, and back: what `python -m infra export` and `import` speak."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from chalicelib.models import Client, Consent, Scope, User
from infra.terminal import json_text

VERSION = 1
Record = Client | User | Consent | Scope
KINDS: dict[type[Record], str] = {Client: "client", User: "user", Consent: "consent", Scope: "scope"}
_CLASSES = {kind: record for record, kind in KINDS.items()}
# The fields that hold credentials: written only when the operator asks for them.
_CREDENTIALS = {"client": "secret_hashes", "user": "password_hash"}


@dataclass(frozen=True)
class Entry:
    """A record in a file, or the `problem` with it."""

    place: str
    record: Record | None = None
    problem: str = ""


# ---- records as lines


def header(stage: str, now: int, hashes: bool) -> str:
    """The first line."""
    return _line({"kind": "signet", "version": VERSION, "stage": stage, "exported_at": now, "hashes": hashes})


def end(count: int) -> str:
    """The last line: without it the file is not whole."""
    return _line({"kind": "end", "records": count})


def line_of(record: Record, hashes: bool) -> str:
    """A record; with the hashes of its password or secrets only if `hashes`."""
    kind = KINDS[type(record)]
    hidden = None if hashes else _CREDENTIALS.get(kind)
    members = {field.name: getattr(record, field.name) for field in fields(record) if field.name != hidden}
    return _line({"kind": kind, **{name: value for name, value in members.items() if value is not None}})


def _line(members: Mapping[str, Any]) -> str:
    return json_text(members, separators=(",", ":"))


# ---- lines as records


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """What the lines of a file say. Raises ValueError when it is no file of ours, or of a later version."""
    count, ended = 0, False
    for number, line in enumerate(lines, 1):
        try:
            members = json.loads(line, parse_float=_refuse_fraction)
        except (ValueError, RecursionError) as error:
            if number == 1:
                raise ValueError("it does not start with a line of JSON") from error
            count += 1
            said = f"it is not JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)
            yield Entry(f"line {number}", problem=said)
            continue
        kind = members.pop("kind", None) if isinstance(members, dict) else None
        if number == 1:
            if kind != "signet" or members.get("version") != VERSION:
                raise ValueError(f"its first line does not say that it is an export of version {VERSION}")
        elif kind == "end":
            ended = True
            if members.get("records") != count:
                yield Entry(f"line {number}", problem=f"it counts {members.get('records')} records, not {count}")
        else:
            count += 1
            yield _entry(f"line {number}", kind, members)
    if not ended:
        yield Entry("the end", problem="the last line is missing: the export was cut off. Make another one")


def _refuse_fraction(text: str) -> Any:
    raise ValueError(f"{text} is no whole number")


def _entry(place: str, kind: Any, members: Any) -> Entry:
    record = _CLASSES.get(kind) if isinstance(kind, str) else None
    if record is None:
        return Entry(place, problem=f"its kind is {kind!r}, not one of: {', '.join(_CLASSES)}")
    if kind == "user" and not members.get("password_hash"):
        members |= {"password_hash": "", "password_change_required": True}
    try:
        return Entry(place, _built(record, members))
    except (ValueError, TypeError, RecursionError) as error:
        return Entry(place, problem=str(error))


def _built(record: type[Any], members: dict[str, Any]) -> Record:
    hints = get_type_hints(record)
    if unknown := sorted(set(members) - set(hints)):
        raise ValueError(f"{unknown[0]} is no member of a {KINDS[record]}")
    values = {name: _converted(name, hints[name], value) for name, value in members.items()}
    required = [field.name for field in fields(record) if field.default is MISSING and field.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{missing[0]} is missing")
    made: Record = record(**values)
    return made


def _converted(name: str, hint: Any, value: Any) -> Any:
    """JSON's value as the field's own type. Raises ValueError when it cannot be that."""
    for choice in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        origin = get_origin(choice) or choice
        if origin in (tuple, frozenset):
            if isinstance(value, list) and all(isinstance(member, str) for member in value):
                return origin(value)
        elif origin is dict:
            if isinstance(value, dict):
                return {key: frozen(member) for key, member in value.items()}
        elif origin is NoneType:
            if value is None:
                return None
        elif isinstance(value, origin) and not (origin is int and isinstance(value, bool)):
            return value
    raise ValueError(f"{name} cannot be {json.dumps(value)[:60]}")


def frozen(value: Any) -> Any:
    """Lists as tuples, however deep: what the store gives back."""
    if isinstance(value, list | tuple):
        return tuple(frozen(member) for member in value)
    return {key: frozen(member) for key, member in value.items()} if isinstance(value, dict) else value
