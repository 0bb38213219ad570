"""Compute the DynamoDB request units of a request, because moto does not return real ones.

DynamoDB's rules: a consistent read takes one unit per 4 KB of an item, even a missing one; a write takes one unit per
1 KB, and twice that in a transaction. Condition checks are counted as such writes, an upper bound, because AWS does not
document them. Each index takes the same units once more. Items are measured after the request, by another client.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

import yaml

from infra.local.embedded import SCHEMA

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_TRANSACTION = 2


class Meter:
    """Meters the calls of `client` and reads items with `reader`. `reads` and `writes` are on-demand request units."""

    def __init__(self, client: "DynamoDBClient", reader: "DynamoDBClient"):
        self.reads = self.writes = 0.0
        self._client = client
        self._reader = reader
        self._calls: list[tuple[str, dict[str, Any]]] = []
        self._keys, self._indexes = _schema()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count the calls in this block."""
        self.reads = self.writes = 0.0
        self._calls.clear()
        events = self._client.meta.events
        events.register("before-parameter-build.dynamodb", self._record, unique_id="bench")
        try:
            yield
        finally:
            events.unregister("before-parameter-build.dynamodb", unique_id="bench")
        for operation, parameters in self._calls:
            self._count(operation, parameters)

    def _record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self._calls.append((model.name, dict(params)))

    def _count(self, operation: str, parameters: Mapping[str, Any]) -> None:
        match operation:
            case "GetItem":
                self._read(parameters["TableName"], parameters["Key"])
            case "BatchGetItem":
                for table, keys_and_attributes in parameters["RequestItems"].items():
                    for key in keys_and_attributes["Keys"]:
                        self._read(table, key)
            case "PutItem" | "UpdateItem" | "DeleteItem":
                self._write(parameters, 1)
            case "TransactWriteItems":
                for item in parameters["TransactItems"]:
                    [(verb, step)] = item.items()
                    self._write(step, _TRANSACTION, changes=verb != "ConditionCheck")
            case _:
                raise ValueError(f"The units of {operation} are not implemented")

    def _read(self, table: str, key: Mapping[str, Any]) -> None:
        self.reads += max(1, ceil(self._size(table, key) / 4096))

    def _write(self, step: Mapping[str, Any], factor: int, *, changes: bool = True) -> None:
        table = step["TableName"]
        kind = table.rpartition("-")[2]
        key = step.get("Key") or {name: step["Item"][name] for name in self._keys[kind]}
        units = max(1, ceil(self._size(table, key) / 1024))
        self.writes += units * factor
        if changes:
            self.writes += units * self._indexes[kind]

    def _size(self, table: str, key: Mapping[str, Any]) -> int:
        return item_size(self._reader.get_item(TableName=table, Key=dict(key)).get("Item", {}))


def item_size(item: Mapping[str, Any]) -> int:
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
            return len(value)
        case "SS":
            return sum(len(member.encode()) for member in value)
        case "L":
            return 3 + sum(1 + _size(member) for member in value)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(member) for name, member in value.items())
    return 1


def _schema() -> tuple[dict[str, list[str]], dict[str, int]]:
    """Return the names of the key attributes and the number of indexes, by kind of record."""
    keys, indexes = {}, {}
    for resource in yaml.safe_load(SCHEMA.read_text())["Resources"].values():
        if resource["Type"] == "AWS::DynamoDB::Table":
            properties = resource["Properties"]
            kind = properties["TableName"]["Fn::Sub"].rpartition("-")[2]
            keys[kind] = [part["AttributeName"] for part in properties["KeySchema"]]
            table_indexes = properties.get("GlobalSecondaryIndexes", [])
            # An index with fewer attributes would be written less often.
            assert all(index["Projection"]["ProjectionType"] == "ALL" for index in table_indexes), kind
            indexes[kind] = len(table_indexes)
    return keys, indexes
