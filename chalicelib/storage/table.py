"""A table, its operations, and its writes as parts of a transaction.

Everything that can be used once is used by one conditional write, whose condition has all the checks. Each write stores
a random `attempt`: the client retries a write whose answer was lost, and if the retry is refused and the record has our
own attempt, the write succeeded. DynamoDB deletes expired items late, so an expired record is treated as absent.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import reduce
from itertools import islice
from operator import and_
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from chalicelib.aws.client import AwsError
from chalicelib.protocol.values import dataclass
from chalicelib.storage.attribute_values import pack, unpack
from chalicelib.storage.dynamodb import Condition, DynamoDB, attr, is_possible_key, update_expression

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@dataclass(frozen=True)
class Refused(Generic[R]):
    """A conditional write that was refused, with the stored record; None when it is absent or expired."""

    record: R | None


class Lookup(NamedTuple, Generic[R]):
    """A record to read: its table and its key."""

    table: "Table[R]"
    key: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Write(Generic[R]):
    """A write to be made, alone or as part of a transaction. Created by Table.

    `on_success` is called once the write has succeeded.
    """

    table: "Table[R]"
    verb: str
    parameters: dict[str, Any]
    attempt: str | None = None
    on_success: Callable[[], None] | None = None

    def succeed(self) -> None:
        """Call `on_success`, if there is one."""
        if self.on_success:
            self.on_success()


class Refusals(tuple[Refused[Any] | None, ...]):
    """Why a transaction was refused: for each write its refusal, or None if its condition was fulfilled."""

    writes: tuple[Write[Any], ...]

    @classmethod
    def of_writes(cls, writes: Sequence[Write[Any]], refused: Iterable[Refused[Any] | None]) -> "Refusals":
        """Return the refusals of these writes, in their order."""
        refusals = cls(refused)
        refusals.writes = tuple(writes)
        return refusals

    def of(self, write: Write[R]) -> Refused[R] | None:
        """Return the refusal of a write, or None if it was not refused or is not part of the transaction."""
        return next((refused for each, refused in zip(self.writes, self, strict=True) if each is write), None)

    @property
    def first(self) -> Refused[Any]:
        """The first refusal."""
        return next(refused for refused in self if refused)


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
        self._may_expire = any(
            field.name == "expires_at" and field.default is None for field in fields(record)
        )  # or not

    # ---- operations

    def insert(self, record: R) -> bool:
        """Store a new record. Return False, and change nothing, when there is one with its key."""
        return not isinstance(self.write(self.inserting(record)), Refused)

    def put(self, record: R) -> None:
        """Store a record, and replace the one with its key."""
        self.dynamodb.call("PutItem", TableName=self.name, Item=self._pack(record))

    def lookup(self, *key: str) -> Lookup[R]:
        """Return the lookup of a record, for `Store.read`."""
        return Lookup(self, key)

    def get(self, *key: str) -> R | None:
        """Return the record, read consistently; None when it is absent, expired, or the key is impossible."""
        if not is_possible_key(key):
            return None
        answer = self.dynamodb.call("GetItem", TableName=self.name, Key=self.pack_key(key), ConsistentRead=True)
        return self.live(answer.get("Item"))

    def transition(
        self,
        key: tuple[str, ...],
        if_: Condition | None = None,
        set_: Mapping[str, Any] | None = None,
        remove: tuple[str, ...] = (),
    ) -> R | Refused[R]:
        """Change an unexpired record if it fulfils `if_`; return the new record, or Refused with the stored one."""
        if not is_possible_key(key):
            return Refused(None)
        return self.write(self.changing(key, if_, set_, remove=remove))

    def delete(self, *key: str) -> None:
        """Delete a record, if there is one."""
        if is_possible_key(key):
            self.dynamodb.call("DeleteItem", TableName=self.name, Key=self.pack_key(key))

    def find(
        self, field: str, value: str, index: str | None = None, *, range_: Condition | None = None, newest: int = 0
    ) -> Iterator[R]:
        """Yield the records whose `field` (of the key, or of an index) has this value. An index lags behind the table.

        `range_`: a condition on the sort key. `newest`: if not 0, at most so many, in descending order of the sort key.
        """
        if not is_possible_key((value,)):
            return
        equal = attr(field).eq(value)
        text, names, values = (equal if range_ is None else equal & range_).expression()
        records = self._read_pages(
            "Query",
            **({"ScanIndexForward": False, "Limit": newest} if newest else {}),
            **({"IndexName": index} if index else {"ConsistentRead": True}),
            KeyConditionExpression=text,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=pack(values),
        )
        yield from islice(records, newest or None)

    def scan(self) -> Iterator[R]:
        """Yield all records, in no order."""
        yield from self._read_pages("Scan", ConsistentRead=True)

    # ---- writes, for a transaction

    def inserting(self, record: R) -> "Write[R]":
        """Return the write that inserts a record."""
        attempt = secrets.token_hex(8)
        item = {**self._pack(record), "attempt": {"S": attempt}}
        names = {"#key": self.key[0]}
        condition = "attribute_not_exists(#key)"
        values: dict[str, Any] = {}
        if self._expires:
            condition += " OR #expires <= :now"
            names["#expires"] = "expires_at"
            values = {"ExpressionAttributeValues": pack({":now": self.now()})}
        return Write(
            self,
            "Put",
            {"Item": item, "ConditionExpression": condition, "ExpressionAttributeNames": names, **values},
            attempt,
        )

    def changing(
        self,
        key: tuple[str, ...],
        if_: Condition | None = None,
        set_: Mapping[str, Any] | None = None,
        add: Mapping[str, Any] | None = None,
        remove: tuple[str, ...] = (),
        *,
        create: bool = False,
    ) -> "Write[R]":
        """Return the write that changes a record.

        `add` adds to sets and numbers; `create` creates the record if it is absent.
        """
        attempt = secrets.token_hex(8)
        text, names, values = update_expression({**(set_ or {}), "attempt": attempt}, add or {}, remove)
        parameters: dict[str, Any] = {"Key": self.pack_key(key), "UpdateExpression": text}
        if not create or if_ is not None:
            parameters["ConditionExpression"], more_names, more_values = self._condition(if_, or_absent=create)
            names, values = names | more_names, values | more_values
        parameters["ExpressionAttributeNames"] = names
        parameters["ExpressionAttributeValues"] = pack(values)
        return Write(self, "Update", parameters, attempt)

    def checking(self, key: tuple[str, ...], if_: Condition | None = None, *, absent: bool = False) -> "Write[R]":
        """Return a check that refuses the transaction unless the record exists and fulfils `if_`, or is `absent`."""
        text, names, values = attr(self.key[0]).not_exists().expression() if absent else self._condition(if_)
        parameters = {"Key": self.pack_key(key), "ConditionExpression": text, "ExpressionAttributeNames": names}
        if values:
            parameters["ExpressionAttributeValues"] = pack(values)
        return Write(self, "ConditionCheck", parameters, None)

    def unchanged(self, record: R, *names: str) -> Condition:
        """Return the condition that these fields are as in the record. A field that is not stored has its default."""
        conditions = []
        for field in (field for field in fields(record) if field.name in names):
            value, stored = getattr(record, field.name), attr(field.name)
            same = stored.eq(value)
            if value is None or value == frozenset():  # neither is stored
                same = stored.not_exists()
            elif value in (field.default, field.default_factory is not MISSING and field.default_factory()):
                same |= stored.not_exists()
            conditions.append(same)
        return reduce(and_, conditions)

    def rewriting(self, before: R, after: R) -> "Write[R]":
        """Return the write that changes a record from `before` to `after`, and is refused if it is no longer `before`.

        Only the changed fields are written.
        """
        condition = self.unchanged(before, *(field.name for field in fields(before) if field.name not in self.key))
        changed = {name: getattr(after, name) for name in self._fields if getattr(after, name) != getattr(before, name)}
        remove = tuple(name for name, value in changed.items() if value is None or value == frozenset())
        set_ = {name: value for name, value in changed.items() if name not in remove}
        return self.changing(tuple(getattr(before, part) for part in self.key), condition, set_, remove=remove)

    def deleting(self, key: tuple[str, ...], if_: Condition | None = None) -> "Write[R]":
        """Return the write that deletes a record. It is refused unless the record exists and fulfils `if_`."""
        return replace(self.checking(key, if_), verb="Delete")

    # ---- helpers

    def write(self, write: "Write[R]") -> R | Refused[R]:
        """Make a single write; return the new record, or Refused with the stored one. Raises TemporarilyUnavailable."""
        insert = write.verb == "Put"
        operation, values = ("PutItem", "NONE") if insert else ("UpdateItem", "ALL_NEW")
        returned = {"ReturnValues": values, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            answer = self.dynamodb.call(operation, TableName=self.name, **write.parameters, **returned)
        except AwsError.named("ConditionalCheckFailedException") as refused:
            outcome = self.refusal(write, refused.answer.get("Item"))
            if not isinstance(outcome, Refused):
                write.succeed()
            return outcome
        write.succeed()
        return self._unpack(write.parameters["Item"] if insert else answer["Attributes"])

    def refusal(self, write: "Write[R]", item: Any) -> R | Refused[R]:
        """Return what a refused write means: success if the stored item has its attempt, else Refused."""
        if item and write.attempt is not None and item.get("attempt") == {"S": write.attempt}:
            return self._unpack(item)
        return Refused(self.live(item))

    def live(self, item: Mapping[str, Any] | None) -> R | None:
        """Return the record in a DynamoDB item; None when there is none or it has expired."""
        if not item:
            return None
        may_expire = "expires_at" in item if self._may_expire else self._expires
        if may_expire and int(item["expires_at"]["N"]) <= self.now():
            return None
        return self._unpack(item)

    def _condition(
        self, if_: Condition | None, *, or_absent: bool = False
    ) -> tuple[str, dict[str, str], dict[str, Any]]:
        condition = attr(self.key[0]).exists()
        if self._expires:
            unexpired = attr("expires_at").gt(self.now())
            condition &= (unexpired | attr("expires_at").not_exists()) if self._may_expire else unexpired
        condition = condition if if_ is None else condition & if_
        return (attr(self.key[0]).not_exists() | condition if or_absent else condition).expression()

    def _read_pages(self, operation: str, **parameters: Any) -> Iterator[R]:
        while True:
            answer = self.dynamodb.call(operation, TableName=self.name, **parameters)
            for item in answer["Items"]:
                if record := self.live(item):
                    yield record
            if "LastEvaluatedKey" not in answer:
                return
            parameters["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def pack_key(self, key: tuple[str, ...]) -> dict[str, Any]:
        """Return a key in DynamoDB's typed form."""
        return pack(dict(zip(self.key, key, strict=True)))

    def _pack(self, record: R) -> dict[str, Any]:
        return pack({name: getattr(record, name) for name in self._fields})

    def _unpack(self, item: Mapping[str, Any]) -> R:
        return self._record(**unpack({name: value for name, value in item.items() if name in self._fields}))
