"""A table, and what can be done with its records: a handful of verbs.

Everything spendable is spent by one conditional write whose condition states the whole proof. Each such write stores
a random `attempt`: botocore sends a write again when its answer was lost, and a refusal whose record bears our own
attempt is our success. DynamoDB deletes expired items late, so an expired record counts as absent in every verb.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from chalicelib.dynamodb import (
    Condition,
    DynamoDB,
    attr,
    expression,
    pack,
    possible_key,
    unpack,
    update_expression,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@dataclass(frozen=True)
class Refused(Generic[R]):
    """A conditional write that was refused, and the record as it was: None when it is absent or expired."""

    record: R | None


@dataclass(frozen=True)
class Step(Generic[R]):
    """One write that is still to be made: alone, or as part of a transaction. Table makes them."""

    table: "Table[R]"
    verb: str
    parameters: dict[str, Any]
    attempt: str | None = None


class Table(Generic[R]):
    """The table of one kind of record."""

    def __init__(self, dynamodb: DynamoDB, now: Callable[[], int], name: str, record: type[R], *key: str):
        self.dynamodb = dynamodb
        self.now = now
        self.name = name
        self.key = key
        self._record = record
        self._fields = {field.name for field in fields(record)}
        self._expires = "expires_at" in self._fields

    # ---- the verbs

    def insert(self, record: R) -> bool:
        """Store a new record; False, and nothing changed, when one with its key is there already."""
        return not isinstance(self._write(self.inserting(record)), Refused)

    def put(self, record: R) -> None:
        """Store a record, replacing what is there."""
        self.dynamodb.call("put_item", TableName=self.name, Item=self._pack(record))

    def get(self, *key: str) -> R | None:
        """The record, read consistently; None when it is absent, expired, or the key could not exist."""
        if not possible_key(key):
            return None
        wanted = {"TableName": self.name, "Key": self.pack_key(key), "ConsistentRead": True}
        return self.live(self.dynamodb.call("get_item", **wanted).get("Item"))

    def transition(
        self,
        key: tuple[str, ...],
        if_: Condition = None,
        set_: Mapping[str, Any] | None = None,
        remove: tuple[str, ...] = (),
    ) -> R | Refused[R]:
        """Change an existing, unexpired record if it fulfils `if_`: the new record, or Refused with the old one."""
        if not possible_key(key):
            return Refused(None)
        return self._write(self.changing(key, if_, set_, remove=remove))

    def take(self, key: tuple[str, ...], now: int) -> R | Refused[R]:
        """Spend a record, once and for all: the transition that sets `taken_at`."""
        return self.transition(key, attr("taken_at").not_exists(), {"taken_at": now})

    def delete(self, *key: str) -> None:
        """Remove a record if it is there."""
        if possible_key(key):
            self.dynamodb.call("delete_item", TableName=self.name, Key=self.pack_key(key))

    def find(self, field: str, value: str, index: str | None = None, *, newest: int | None = None) -> Iterator[R]:
        """All records whose `field` (of the key, or of an index) has this value. An index lags behind the table.

        `newest`: only so many, backwards by the second part of the key.
        """
        if not possible_key((value,)):
            return
        backwards = {"ScanIndexForward": False, "Limit": newest} if newest else {}
        found = self._pages(
            "query",
            **backwards,
            **({"IndexName": index} if index else {"ConsistentRead": True}),
            KeyConditionExpression="#f = :v",
            ExpressionAttributeNames={"#f": field},
            ExpressionAttributeValues=pack({":v": value}),
        )
        yield from islice(found, newest)

    def scan(self) -> Iterator[R]:
        """All records, in no order: for the operator's command."""
        yield from self._pages("scan", ConsistentRead=True)

    # ---- the same as parts of a transaction

    def inserting(self, record: R) -> "Step[R]":
        """The step that inserts a record."""
        attempt = secrets.token_hex(8)
        item = {**self._pack(record), "attempt": {"S": attempt}}
        names = {"#key": self.key[0]}
        condition = "attribute_not_exists(#key)"
        values: dict[str, Any] = {}
        if self._expires:
            condition += " OR #expires <= :now"
            names["#expires"] = "expires_at"
            values = {"ExpressionAttributeValues": pack({":now": self.now()})}
        return Step(
            self,
            "Put",
            {"Item": item, "ConditionExpression": condition, "ExpressionAttributeNames": names, **values},
            attempt,
        )

    def changing(
        self,
        key: tuple[str, ...],
        if_: Condition = None,
        set_: Mapping[str, Any] | None = None,
        add: Mapping[str, Any] | None = None,
        remove: tuple[str, ...] = (),
        *,
        create: bool = False,
    ) -> "Step[R]":
        """The step that changes a record. `add` adds members to sets, and to numbers; `create` makes a record that is
        absent.
        """
        attempt = secrets.token_hex(8)
        text, names, values = update_expression({**(set_ or {}), "attempt": attempt}, add or {}, remove)
        parameters: dict[str, Any] = {"Key": self.pack_key(key), "UpdateExpression": text}
        if not create:
            parameters["ConditionExpression"], more_names, more_values = self._condition(if_)
            names, values = names | more_names, values | more_values
        parameters["ExpressionAttributeNames"] = names
        parameters["ExpressionAttributeValues"] = pack(values)
        return Step(self, "Update", parameters, attempt)

    def checking(self, key: tuple[str, ...], if_: Condition = None) -> "Step[R]":
        """The step that changes nothing, and refuses the transaction unless the record exists and fulfils `if_`."""
        text, names, values = self._condition(if_)
        parameters = {"Key": self.pack_key(key), "ConditionExpression": text, "ExpressionAttributeNames": names}
        if values:
            parameters["ExpressionAttributeValues"] = pack(values)
        return Step(self, "ConditionCheck", parameters, None)

    def rewriting(self, before: R, after: R) -> "Step[R]":
        """The step that makes a record `after` of what it was when it was read, if it still is `before`.

        Only what differs is written. A field that the stored record has not got has its default.
        """
        condition: Condition = None
        for field in fields(before):
            if field.name in self.key:
                continue
            value, stored = getattr(before, field.name), attr(field.name)
            one = stored.eq(value)
            if value is None or value == frozenset():  # neither is ever stored
                one = stored.not_exists()
            elif value in (field.default, field.default_factory is not MISSING and field.default_factory()):
                one |= stored.not_exists()
            condition = one if condition is None else condition & one
        changed = {name: getattr(after, name) for name in self._fields if getattr(after, name) != getattr(before, name)}
        gone = tuple(name for name, value in changed.items() if value is None or value == frozenset())
        set_ = {name: value for name, value in changed.items() if name not in gone}
        return self.changing(tuple(getattr(before, part) for part in self.key), condition, set_, remove=gone)

    def deleting(self, key: tuple[str, ...], if_: Condition = None) -> "Step[R]":
        """The step that removes a record, and refuses the transaction unless it exists and fulfils `if_`."""
        return replace(self.checking(key, if_), verb="Delete")

    # ---- underneath

    def _write(self, step: "Step[R]") -> R | Refused[R]:
        insert = step.verb == "Put"
        operation, values = ("put_item", "NONE") if insert else ("update_item", "ALL_NEW")
        wanted = {"ReturnValues": values, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            answer = self.dynamodb.call(operation, TableName=self.name, **step.parameters, **wanted)
        except self.dynamodb.client.exceptions.ConditionalCheckFailedException as refused:
            return self.refusal(step, refused.response.get("Item"))
        return self._unpack(step.parameters["Item"] if insert else answer["Attributes"])

    def refusal(self, step: "Step[R]", item: Any) -> R | Refused[R]:
        """Our own success, if the record bears our attempt; else what the record was."""
        if item and step.attempt is not None and item.get("attempt") == {"S": step.attempt}:
            return self._unpack(item)
        return Refused(self.live(item))

    def live(self, item: Mapping[str, Any] | None) -> R | None:
        """The record in a DynamoDB item, None when there is none or it has expired."""
        if not item:
            return None
        if self._expires and int(item["expires_at"]["N"]) <= self.now():
            return None
        return self._unpack(item)

    def _condition(self, if_: Condition) -> tuple[str, dict[str, str], dict[str, Any]]:
        condition = attr(self.key[0]).exists()
        if self._expires:
            condition &= attr("expires_at").gt(self.now())
        return expression(condition if if_ is None else condition & if_)

    def _pages(self, operation: str, **parameters: Any) -> Iterator[R]:
        while True:
            answer = self.dynamodb.call(operation, TableName=self.name, **parameters)
            for item in answer["Items"]:
                if record := self.live(item):
                    yield record
            if "LastEvaluatedKey" not in answer:
                return
            parameters["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def pack_key(self, key: tuple[str, ...]) -> dict[str, Any]:
        """A key as DynamoDB takes it."""
        return pack(dict(zip(self.key, key, strict=True)))

    def _pack(self, record: R) -> dict[str, Any]:
        return pack({name: getattr(record, name) for name in self._fields})

    def _unpack(self, item: Mapping[str, Any]) -> R:
        return self._record(**unpack({name: value for name, value in item.items() if name in self._fields}))
