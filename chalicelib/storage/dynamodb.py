"""DynamoDB's API: one client with short timeouts, a count of calls and capacity units, and expressions.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html.

Throttling, failures and lost connections raise TemporarilyUnavailable. Other errors are defects of this server, and
stay AwsError.
"""

import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

from chalicelib.aws.client import Account, AwsError, Client
from chalicelib.aws.connections import Connections
from chalicelib.aws.credentials import Credentials
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.settings import Settings

Expression = tuple[str, dict[str, str], dict[str, Any]]  # text, names and (unpacked) values of its placeholders
TRIES = 6
READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_KEY_BYTES = (2048, 1024)  # DynamoDB's limits for a partition key and a sort key
_LOCAL = Credentials("local", "local")
_LOCAL_TIMEOUT = 30.0  # seconds; an emulator shares the processors of its callers


class ReadOnlyError(Exception):
    """A write that was not made, because the thread may only read."""


class DynamoDB:
    """DynamoDB's API, with a count of the calls of each thread."""

    def __init__(self, settings: Settings, account: Account):
        self._settings = settings
        self._account = account
        self._counts = threading.local()
        self._mode = threading.local()

    @cached_property
    def client(self) -> Client:
        """The client, created on first use."""
        endpoint = self._settings.dynamodb_endpoint
        if not endpoint:
            return self._account.client("dynamodb")
        # A local endpoint needs some credentials, and must never receive the real ones.
        send = Connections(_LOCAL_TIMEOUT).send
        return Client("dynamodb", self._settings.region or "us-east-1", endpoint, lambda _renew: _LOCAL, send)

    def take_counts(self) -> tuple[int, float]:
        """Return how many calls this thread has made since it last asked, and their capacity units. Resets both."""
        calls, capacity = getattr(self._counts, "calls", 0), getattr(self._counts, "capacity", 0.0)
        self._counts.calls, self._counts.capacity = 0, 0.0
        return calls, capacity

    def _count(self, calls: int, capacity: float) -> None:
        counts = self._counts.__dict__
        counts["calls"] = counts.get("calls", 0) + calls
        counts["capacity"] = counts.get("capacity", 0.0) + capacity

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let no call of this thread write: a write raises ReadOnlyError, and nothing is sent."""
        self._mode.read_only = True
        try:
            yield
        finally:
            self._mode.read_only = False

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one call, such as `GetItem`. Raises TemporarilyUnavailable when DynamoDB throttles or fails.

        Raises AwsError for other errors, also when a condition is not fulfilled.
        """
        if operation not in READS and getattr(self._mode, "read_only", False):
            raise ReadOnlyError(operation)
        for tries in range(TRIES):
            self._count(1, 0.0)
            try:
                answer = self.client.call(operation, ReturnConsumedCapacity="TOTAL", **parameters)
            except AwsError as error:
                if not _is_conflict(error):
                    raise
                # Another transaction holds one of the items, for a few milliseconds.
                time.sleep(0.01 * 2**tries * (0.5 + secrets.randbelow(1000) / 1000))
            else:
                self._count(0, _capacity(answer.get("ConsumedCapacity")))
                return answer
        raise TemporarilyUnavailable(detail=f"dynamodb {operation}: conflict with other transactions")


def _capacity(consumed: Any) -> float:
    """Return the capacity units of one call. DynamoDB gives a list of them for a call on several tables."""
    parts = consumed if isinstance(consumed, list) else [consumed or {}]
    return sum(float(part.get("CapacityUnits", 0)) for part in parts)


def _is_conflict(error: AwsError) -> bool:
    """Return whether a write conflicted with a transaction, or a transaction was throttled, and no condition failed."""
    if error.code != "TransactionCanceledException":
        return error.code == "TransactionConflictException"
    reasons = {reason.get("Code") for reason in error.answer.get("CancellationReasons", [])}
    temporary = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
    return "ConditionalCheckFailed" not in reasons and bool(temporary & reasons)


def is_possible_key(key: tuple[str, ...]) -> bool:
    """Return whether DynamoDB accepts such a key: not empty, not too long, and valid Unicode."""
    return all(
        part and not _SURROGATE.search(part) and len(part.encode()) <= limit
        for part, limit in zip(key, _KEY_BYTES, strict=False)
    )


# ---- expressions


class _Name(NamedTuple):
    attribute: str


class _Value(NamedTuple):
    value: Any


_Part = str | _Name | _Value


class Condition:
    """A condition. `a & b`, `a | b` and `~a` combine conditions."""

    def __init__(self, *parts: _Part):
        self._parts = parts

    def expression(self) -> Expression:
        """Return the condition for DynamoDB."""
        names: dict[str, str] = {}
        values: dict[str, Any] = {}
        texts = []
        for part in self._parts:
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, _Name):
                texts.append(_path(part.attribute, "#n", names))
            else:
                texts.append(f":v{len(values)}")
                values[texts[-1]] = part.value
        return "".join(texts), names, values

    def __and__(self, other: "Condition") -> "Condition":
        return Condition("(", *self._parts, " AND ", *other._parts, ")")

    def __or__(self, other: "Condition") -> "Condition":
        return Condition("(", *self._parts, " OR ", *other._parts, ")")

    def __invert__(self) -> "Condition":
        return Condition("(NOT ", *self._parts, ")")


class _Operand:
    """What a condition compares: an attribute, or its size."""

    def __init__(self, *parts: _Part):
        self.parts = parts

    def _compare(self, operator: str, value: Any) -> Condition:
        return Condition(*self.parts, operator, *_parts_of(value))

    def eq(self, value: Any) -> Condition:
        """Return the condition that it is equal to a value."""
        return self._compare(" = ", value)

    def lt(self, value: Any) -> Condition:
        """Return the condition that it is less than a value."""
        return self._compare(" < ", value)

    def lte(self, value: Any) -> Condition:
        """Return the condition that it is at most a value."""
        return self._compare(" <= ", value)

    def gt(self, value: Any) -> Condition:
        """Return the condition that it is greater than a value."""
        return self._compare(" > ", value)

    def gte(self, value: Any) -> Condition:
        """Return the condition that it is at least a value."""
        return self._compare(" >= ", value)

    def between(self, low: Any, high: Any) -> Condition:
        """Return the condition that it is at least `low` and at most `high`."""
        return Condition(*self.parts, " BETWEEN ", *_parts_of(low), " AND ", *_parts_of(high))


class Attribute(_Operand):
    """An attribute to build a condition on."""

    def _function(self, name: str, *further: _Part) -> Condition:
        return Condition(f"{name}(", *self.parts, *further, ")")

    def exists(self) -> Condition:
        """Return the condition that it is stored."""
        return self._function("attribute_exists")

    def not_exists(self) -> Condition:
        """Return the condition that it is not stored."""
        return self._function("attribute_not_exists")

    def contains(self, value: Any) -> Condition:
        """Return the condition that it contains a value: a set or list a member, a text a part."""
        return self._function("contains", ", ", *_parts_of(value))

    def size(self) -> _Operand:
        """Return its size: the number of members or characters."""
        return _Operand("size(", *self.parts, ")")


def _parts_of(value: Any) -> tuple[_Part, ...]:
    return value.parts if isinstance(value, _Operand) else (_Value(value),)


def _path(attribute: str, prefix: str, names: dict[str, str]) -> str:
    """Return placeholders for an attribute, or for a member of a map: `rotated_at.3`. Adds them to `names`."""
    placeholders = []
    for name in attribute.split("."):
        placeholders.append(f"{prefix}{len(names)}")
        names[placeholders[-1]] = name
    return ".".join(placeholders)


def attr(name: str) -> Attribute:
    """Return an attribute to build a condition on: `attr("client_id").eq("x") & attr("revoked_at").not_exists()`."""
    return Attribute(_Name(name))


class FromSet(NamedTuple):
    """Members that an update deletes from a set."""

    members: frozenset[str]


def update_expression(set_: Mapping[str, Any], add: Mapping[str, Any], remove: tuple[str, ...]) -> Expression:
    """Return an update for DynamoDB. A field with a dot is a member of a map: `rotated_at.3`.

    `add`: what is added to numbers and sets; a value that is FromSet is deleted from its set.
    """
    deleted = {name: value.members for name, value in add.items() if isinstance(value, FromSet)}
    added = {name: value for name, value in add.items() if name not in deleted} if deleted else add
    names: dict[str, str] = {}
    values: dict[str, Any] = {}
    clauses = []
    for verb, operator, changes in (("SET", " = ", set_), ("ADD", " ", added), ("DELETE", " ", deleted)):
        parts = []
        for field, value in changes.items():
            placeholder = f":u{len(values)}"
            values[placeholder] = value
            parts.append(f"{_path(field, '#u', names)}{operator}{placeholder}")
        if parts:
            clauses.append(f"{verb} {', '.join(parts)}")
    if remove:
        clauses.append("REMOVE " + ", ".join([_path(field, "#u", names) for field in remove]))
    return " ".join(clauses), names, values
