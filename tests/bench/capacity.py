"""Compute the DynamoDB request units of a request, because moto does not return real ones.

DynamoDB's rules: a consistent read takes one unit per 4 KB of an item, even a missing one, or of all items of a query;
another read takes half of that. A write takes one unit per 1 KB of the item before or after it, whichever is larger,
and twice that in a transaction. Condition checks are counted as such writes, an upper bound, because AWS does not
document them. An index takes one unit per 1 KB of what it projects when that changes: once for a new, changed or
deleted entry, twice when the key of the entry changes, and never for an item without that key. Items are read before
and after each call.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any
from unittest import mock

from chalicelib.aws.client import Client
from infra import schema

_TRANSACTION = 2
_PAGES = ("Query", "Scan")
Item = Mapping[str, Any]


@dataclass(frozen=True)
class _Index:
    """An index: its key and what it projects, None for all attributes."""

    key: tuple[str, ...]
    projected: frozenset[str] | None

    def entry(self, item: Item) -> dict[str, Any]:
        """Return the entry of an item, empty when it lacks the key."""
        if not all(name in item for name in self.key):
            return {}
        return {name: value for name, value in item.items() if self.projected is None or name in self.projected}

    def units(self, before: Item, after: Item) -> int:
        """Return the units of a write."""
        old, new = self.entry(before), self.entry(after)
        if old == new:
            return 0
        if old and new and all(old[name] == new[name] for name in self.key):
            return max(_write_units(old), _write_units(new))
        return sum(_write_units(entry) for entry in (old, new) if entry)


@dataclass
class _Call:
    """A call, and its items before and after it. A query has only those that it returns, as `after`."""

    operation: str
    parameters: dict[str, Any]
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)


class Meter:
    """Meters the calls of a client. `reads` and `writes` are on-demand request units.

    `table_writes`: the write units by kind of record, with those of the indexes of the table.
    """

    def __init__(self, client: Client):
        self.reads = self.writes = 0.0
        self.table_writes: Counter[str] = Counter()
        self._client = client
        self._calls: list[_Call] = []
        self._keys, self._indexes = _schema()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count the calls in this block."""
        self.reads = self.writes = 0.0
        self.table_writes = Counter()
        self._calls.clear()
        with mock.patch.object(self._client, "call", self._call):
            yield
        for call in self._calls:
            self._charge(call)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        call = _Call(operation, parameters)
        call.before = call.after = self._items(call)
        self._calls.append(call)
        answer = Client.call(self._client, operation, **parameters)
        call.after = answer.get("Items", []) if operation in _PAGES else self._items(call)
        return answer

    def _items(self, call: _Call) -> list[Item]:
        """Return the present items of a call, empty for a missing one."""
        return [
            Client.call(self._client, "GetItem", TableName=table, Key=dict(key), ConsistentRead=True).get("Item", {})
            for table, key, _ in self._steps(call)
        ]

    def _steps(self, call: _Call) -> list[tuple[str, Item, str]]:
        """Return the table, key and verb of each item that a call reads or writes."""
        parameters = call.parameters
        match call.operation:
            case "GetItem":
                return [(parameters["TableName"], parameters["Key"], "Get")]
            case "BatchGetItem":
                tables = parameters["RequestItems"].items()
                return [(table, key, "Get") for table, members in tables for key in members["Keys"]]
            case "PutItem" | "UpdateItem" | "DeleteItem":
                return [(parameters["TableName"], self._key(parameters), "Write")]
            case "TransactWriteItems":
                steps = [step for item in parameters["TransactItems"] for step in item.items()]
                return [(step["TableName"], self._key(step), verb) for verb, step in steps]
            case operation if operation in _PAGES:
                return []
        raise ValueError(f"The units of {call.operation} are not implemented")

    def _key(self, step: Mapping[str, Any]) -> Item:
        return step.get("Key") or {name: step["Item"][name] for name in self._keys[_kind(step["TableName"])]}

    def _charge(self, call: _Call) -> None:
        if call.operation in _PAGES:
            units = max(1, ceil(sum(map(item_size, call.after)) / 4096))
            self.reads += units if call.parameters.get("ConsistentRead") else units / 2
            return
        factor = _TRANSACTION if call.operation == "TransactWriteItems" else 1
        for (table, _, verb), before, after in zip(self._steps(call), call.before, call.after, strict=True):
            if verb == "Get":
                self.reads += max(1, ceil(item_size(after) / 4096))
            else:
                units = max(_write_units(before), _write_units(after)) * factor
                units += sum(index.units(before, after) for index in self._indexes[_kind(table)])
                self.writes += units
                self.table_writes[_kind(table)] += units


def item_size(item: Item) -> int:
    """Return the size of an item in bytes, as DynamoDB counts it: names and values."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(typed: Mapping[str, Any]) -> int:
    [(kind, value)] = typed.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            return (len(value) + 1) // 2 + 1
        case "B":
            return len(b64decode(value))
        case "SS":
            return sum(len(member.encode()) for member in value)
        case "L":
            return 3 + sum(1 + _size(member) for member in value)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(member) for name, member in value.items())
    return 1


def _write_units(item: Item) -> int:
    return max(1, ceil(item_size(item) / 1024))


def _kind(table: str) -> str:
    return table.rpartition("-")[2]


def _schema() -> tuple[dict[str, list[str]], dict[str, list[_Index]]]:
    """Return the names of the key attributes and the indexes, by kind of record."""
    keys, indexes = {}, {}
    for name, properties in schema.tables("any").items():
        keys[_kind(name)] = [part["AttributeName"] for part in properties["KeySchema"]]
        indexes[_kind(name)] = [
            _index(index, keys[_kind(name)]) for index in properties.get("GlobalSecondaryIndexes", [])
        ]
    return keys, indexes


def _index(index: Mapping[str, Any], table_key: list[str]) -> _Index:
    key = tuple(part["AttributeName"] for part in index["KeySchema"])
    if index["Projection"]["ProjectionType"] == "ALL":
        return _Index(key, None)
    return _Index(key, frozenset({*key, *table_key, *index["Projection"].get("NonKeyAttributes", [])}))
