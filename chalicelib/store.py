"""The tables, and what can be done with a record: a handful of verbs.

Everything spendable is spent by one conditional write whose condition states the whole proof. Each such write stores
a random `attempt`: botocore sends a write again when its answer was lost, and a refusal whose record bears our own
attempt is our success. DynamoDB deletes expired items late, so an expired record counts as absent in every verb.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from chalicelib.dynamodb import (
    TRIES,
    Condition,
    DynamoDB,
    attr,
    expression,
    pack,
    possible_key,
    unpack,
    update_expression,
)
from chalicelib.errors import TemporarilyUnavailable
from chalicelib.models import AuthorizationRequest, Client, Consent, Grant, Identifier, SealedKeyRing, Session, User
from chalicelib.settings import Settings

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

    def __init__(self, store: "Store", kind: str, record: type[R], *key: str):
        self.store = store
        self.name = f"signet-{store.settings.stage}-{kind}"
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
        self.store.dynamodb.call("put_item", TableName=self.name, Item=self._pack(record))

    def get(self, *key: str) -> R | None:
        """The record, read consistently; None when it is absent, expired, or the key could not exist."""
        record: R | None = self.store.read((self, key))[0]
        return record

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
            self.store.dynamodb.call("delete_item", TableName=self.name, Key=self._pack_key(key))

    def find(self, field: str, value: str, index: str | None = None) -> Iterator[R]:
        """All records whose `field` (of the key, or of an index) has this value. An index lags behind the table."""
        if not possible_key((value,)):
            return
        yield from self._pages(
            "query",
            **({"IndexName": index} if index else {"ConsistentRead": True}),
            KeyConditionExpression="#f = :v",
            ExpressionAttributeNames={"#f": field},
            ExpressionAttributeValues=pack({":v": value}),
        )

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
            values = {"ExpressionAttributeValues": pack({":now": self.store.now()})}
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
        """The step that changes a record. `add` adds members to sets; `create` makes the record when it is absent."""
        attempt = secrets.token_hex(8)
        text, names, values = update_expression({**(set_ or {}), "attempt": attempt}, add or {}, remove)
        parameters: dict[str, Any] = {"Key": self._pack_key(key), "UpdateExpression": text}
        if not create:
            parameters["ConditionExpression"], more_names, more_values = self._condition(if_)
            names, values = names | more_names, values | more_values
        parameters["ExpressionAttributeNames"] = names
        parameters["ExpressionAttributeValues"] = pack(values)
        return Step(self, "Update", parameters, attempt)

    def checking(self, key: tuple[str, ...], if_: Condition = None) -> "Step[R]":
        """The step that changes nothing, and refuses the transaction unless the record exists and fulfils `if_`."""
        text, names, values = self._condition(if_)
        parameters = {"Key": self._pack_key(key), "ConditionExpression": text, "ExpressionAttributeNames": names}
        if values:
            parameters["ExpressionAttributeValues"] = pack(values)
        return Step(self, "ConditionCheck", parameters, None)

    # ---- underneath

    def _write(self, step: "Step[R]") -> R | Refused[R]:
        insert = step.verb == "Put"
        operation, values = ("put_item", "NONE") if insert else ("update_item", "ALL_NEW")
        wanted = {"ReturnValues": values, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            answer = self.store.dynamodb.call(operation, TableName=self.name, **step.parameters, **wanted)
        except self.store.dynamodb.client.exceptions.ConditionalCheckFailedException as refusal:
            return self._refusal(step, refusal.response.get("Item"))
        return self._unpack(step.parameters["Item"] if insert else answer["Attributes"])

    def _refusal(self, step: "Step[R]", item: Any) -> R | Refused[R]:
        """Our own success, if the record bears our attempt; else what the record was."""
        if item and step.attempt is not None and item.get("attempt") == {"S": step.attempt}:
            return self._unpack(item)
        return Refused(self.live(item))

    def live(self, item: Mapping[str, Any] | None) -> R | None:
        """The record in a DynamoDB item, None when there is none or it has expired."""
        if not item:
            return None
        if self._expires and int(item["expires_at"]["N"]) <= self.store.now():
            return None
        return self._unpack(item)

    def _condition(self, if_: Condition) -> tuple[str, dict[str, str], dict[str, Any]]:
        condition = attr(self.key[0]).exists()
        if self._expires:
            condition &= attr("expires_at").gt(self.store.now())
        return expression(condition if if_ is None else condition & if_)

    def _pages(self, operation: str, **parameters: Any) -> Iterator[R]:
        while True:
            answer = self.store.dynamodb.call(operation, TableName=self.name, **parameters)
            for item in answer["Items"]:
                if record := self.live(item):
                    yield record
            if "LastEvaluatedKey" not in answer:
                return
            parameters["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _pack_key(self, key: tuple[str, ...]) -> dict[str, Any]:
        return pack(dict(zip(self.key, key, strict=True)))

    def _pack(self, record: R) -> dict[str, Any]:
        return pack({name: getattr(record, name) for name in self._fields})

    def _unpack(self, item: Mapping[str, Any]) -> R:
        return self._record(**unpack({name: value for name, value in item.items() if name in self._fields}))


class Store:
    """All tables. `now` gives the time in whole seconds."""

    def __init__(self, settings: Settings, now: Callable[[], int] = lambda: int(time.time())):
        self.settings = settings
        self.now = now
        self.dynamodb = DynamoDB(settings)
        self.clients = Table(self, "clients", Client, "client_id")
        self.users = Table(self, "users", User, "sub")
        self.identifiers = Table(self, "identifiers", Identifier, "identifier")
        self.consents = Table(self, "consents", Consent, "sub", "client_id")
        self.grants = Table(self, "grants", Grant, "grant_id")
        self.requests = Table(self, "requests", AuthorizationRequest, "request_id")
        self.sessions = Table(self, "sessions", Session, "session_id")
        self.keys = Table(self, "keys", SealedKeyRing, "ring")
        self.tables = tuple(table for table in vars(self).values() if isinstance(table, Table))

    def read(self, *wanted: tuple[Table[Any], tuple[str, ...]]) -> tuple[Any, ...]:
        """Several records in one consistent call, in the order asked for; None for one that is absent or expired."""
        possible = [(table, key) for table, key in wanted if possible_key(key)]
        found: dict[tuple[str, tuple[str, ...]], Any] = {}
        if len(possible) == 1:
            table, key = possible[0]
            answer = self.dynamodb.call("get_item", TableName=table.name, Key=table._pack_key(key), ConsistentRead=True)
            found[table.name, key] = table.live(answer.get("Item"))
        elif possible:
            pending: dict[str, Any] = {}
            for table, key in dict.fromkeys(possible):
                pending.setdefault(table.name, {"Keys": [], "ConsistentRead": True})["Keys"].append(
                    table._pack_key(key)
                )
            tables = {table.name: table for table, _ in possible}
            for _ in range(TRIES):
                answer = self.dynamodb.call("batch_get_item", RequestItems=pending)
                for name, items in answer["Responses"].items():
                    for item in items:
                        key = tuple(item[part]["S"] for part in tables[name].key)
                        found[name, key] = tables[name].live(item)
                pending = answer.get("UnprocessedKeys") or {}
                if not pending:
                    break
            else:
                raise TemporarilyUnavailable(detail="dynamodb batch_get_item: keys left unprocessed")
        return tuple(found.get((table.name, key)) for table, key in wanted)

    def transact(self, *steps: "Step[Any]") -> tuple[Refused[Any] | None, ...] | None:
        """All steps or none, in one call.

        None when they are done; else, per step, the Refused that stopped it, or None for a step that was fine.
        """
        items = [
            {
                step.verb: {
                    "TableName": step.table.name,
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    **step.parameters,
                }
            }
            for step in steps
        ]
        try:
            self.dynamodb.call("transact_write_items", TransactItems=items)
        except self.dynamodb.client.exceptions.TransactionCanceledException as cancelled:
            reasons = cancelled.response["CancellationReasons"]
            refusals: list[Refused[Any] | None] = []
            for step, reason in zip(steps, reasons, strict=True):
                if reason.get("Code") != "ConditionalCheckFailed":
                    refusals.append(None)
                    continue
                refusal = step.table._refusal(step, reason.get("Item"))
                if not isinstance(refusal, Refused):
                    return None  # the whole transaction is ours already: its first answer was lost
                refusals.append(refusal)
            if not any(refusals):
                raise
            return tuple(refusals)
        return None
