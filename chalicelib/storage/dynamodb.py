"""DynamoDB's API: one client with short timeouts, expressions, and the packing of values. Owns boto3.

Throttling, failures and lost connections raise TemporarilyUnavailable. Other errors are defects of this server, and
stay the exceptions that boto3 raises.
"""

import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from boto3 import Session
    from types_boto3_dynamodb import DynamoDBClient

# boto3's Attr(...) conditions, joined by `&` and `|`
Condition = Any
TRIES = 6
READS = frozenset({"get_item", "batch_get_item", "query", "scan"})
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_KEY_BYTES = (2048, 1024)  # DynamoDB's limits for a partition key and a sort key


class ReadOnlyError(Exception):
    """A write that was not made, because the thread may only read."""


class DynamoDB:
    """DynamoDB's API, with a count of the calls of each thread."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._counts = threading.local()
        self._mode = threading.local()

    @cached_property
    def session(self) -> "Session":
        """The session, also for other AWS clients: it loads what they share only once."""
        return new_session()

    @cached_property
    def client(self) -> "DynamoDBClient":
        """The client, created on first use."""
        from botocore.config import Config

        # A local endpoint needs some credentials, and must never receive the real ones.
        endpoint = self._settings.dynamodb_endpoint
        credentials = "local" if endpoint else None
        return self.session.client(
            "dynamodb",
            # Without a setting, the region is that of the operator's AWS profile.
            region_name=self._settings.region or ("us-east-1" if endpoint else None),
            endpoint_url=endpoint,
            aws_access_key_id=credentials,
            aws_secret_access_key=credentials,
            config=Config(
                connect_timeout=1,
                read_timeout=30 if endpoint else 2,  # an emulator shares the processors of its callers
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=64,
                # Saves a tenth of each call: DynamoDB validates the parameters too, and the default User-Agent is
                # long.
                parameter_validation=False,
                user_agent="signet",
            ),
        )

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

    def call(self, operation: str, **parameters: Any) -> Any:
        """Make one call. Raises TemporarilyUnavailable when DynamoDB throttles, fails or cannot be reached."""
        from botocore.exceptions import ClientError

        if operation not in READS and getattr(self._mode, "read_only", False):
            raise ReadOnlyError(operation)
        for tries in range(TRIES):
            self._count(1, 0.0)
            try:
                with translate_outages(f"dynamodb {operation}"):
                    answer = getattr(self.client, operation)(ReturnConsumedCapacity="TOTAL", **parameters)
            except ClientError as error:
                if not _is_conflict(error.response):
                    raise
                # Another transaction holds one of the items, for a few milliseconds.
                time.sleep(0.01 * 2**tries * (0.5 + secrets.randbelow(1000) / 1000))
            else:
                self._count(0, _capacity(answer.get("ConsumedCapacity")))
                return answer
        raise TemporarilyUnavailable(detail=f"dynamodb {operation}: conflict with other transactions")


def new_session() -> "Session":
    """Return a session with the credentials of the environment."""
    from boto3 import Session

    return Session()


@contextmanager
def translate_outages(operation: str) -> Iterator[None]:
    """Raise TemporarilyUnavailable for errors of an AWS service that throttles, fails or cannot be reached."""
    from botocore.exceptions import ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as NotConnected

    try:
        yield
    except (NotConnected, HTTPClientError) as error:
        raise TemporarilyUnavailable(detail=f"{operation}: {type(error).__name__}") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or "Throttl" in code or "LimitExceeded" in code or "ThroughputExceeded" in code:
            raise TemporarilyUnavailable(detail=f"{operation}: {code}") from error
        raise


def _capacity(consumed: Any) -> float:
    """Return the capacity units of one call. DynamoDB gives a list of them for a call on several tables."""
    parts = consumed if isinstance(consumed, list) else [consumed or {}]
    return sum(float(part.get("CapacityUnits", 0)) for part in parts)


def _is_conflict(response: Mapping[str, Any]) -> bool:
    """Return whether a write conflicted with a transaction, or a transaction was throttled, and no condition failed."""
    code = response.get("Error", {}).get("Code", "")
    if code != "TransactionCanceledException":
        return code in ("TransactionConflictException", "TransactionInProgressException")
    reasons = {reason.get("Code") for reason in response.get("CancellationReasons", [])}
    temporary = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
    return "ConditionalCheckFailed" not in reasons and bool(temporary & reasons)


def is_possible_key(key: tuple[str, ...]) -> bool:
    """Return whether DynamoDB accepts such a key: not empty, not too long, and valid Unicode."""
    return all(
        part and not _SURROGATE.search(part) and len(part.encode()) <= limit
        for part, limit in zip(key, _KEY_BYTES, strict=False)
    )


def attr(name: str) -> Any:
    """Return an attribute to build a condition on: `attr("client_id").eq("x") & attr("revoked_at").not_exists()`."""
    from boto3.dynamodb.conditions import Attr

    return Attr(name)


def condition_expression(condition: Condition) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return a condition for DynamoDB: its text, and the names and (unpacked) values of its placeholders."""
    from boto3.dynamodb.conditions import ConditionExpressionBuilder

    built = ConditionExpressionBuilder().build_expression(condition)
    return (
        built.condition_expression,
        dict(built.attribute_name_placeholders),
        dict(built.attribute_value_placeholders),
    )


def update_expression(
    set_: Mapping[str, Any], add: Mapping[str, Any], remove: tuple[str, ...]
) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return an update for DynamoDB: its text, and the names and (unpacked) values of its placeholders.

    A field with a dot is a member of a map: `rotated_at.3`.
    """
    fields = [*set_, *add, *remove]
    names = {f"#u{i}_{j}": part for i, field in enumerate(fields) for j, part in enumerate(field.split("."))}
    paths = iter(".".join(f"#u{i}_{j}" for j in range(field.count(".") + 1)) for i, field in enumerate(fields))
    values = {f":u{i}": value for i, value in enumerate([*set_.values(), *add.values()])}
    value = iter(values)
    clauses = {
        "SET": [f"{next(paths)} = {next(value)}" for _ in set_],
        "ADD": [f"{next(paths)} {next(value)}" for _ in add],
        "REMOVE": [next(paths) for _ in remove],
    }
    return " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts), names, values


def pack(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in DynamoDB's typed form. None and empty sets, which it cannot store, are left out."""
    from boto3.dynamodb.types import TypeSerializer

    serialize = TypeSerializer().serialize
    present = {name: value for name, value in values.items() if value is not None and value != frozenset()}
    return {name: serialize(_to_boto3(value)) for name, value in present.items()}


def unpack(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a DynamoDB item with Python's types: int, str, bool, bytes, frozenset, tuple, dict."""
    from boto3.dynamodb.types import TypeDeserializer

    deserialize = TypeDeserializer().deserialize
    return {name: _from_boto3(deserialize(value)) for name, value in item.items()}


def _to_boto3(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return set(value) if isinstance(value, frozenset) else value


def _from_boto3(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, set):
        return frozenset(value)
    if isinstance(value, list):
        return tuple(_from_boto3(member) for member in value)
    if isinstance(value, dict):
        return {name: _from_boto3(member) for name, member in value.items()}
    return bytes(value) if type(value).__name__ == "Binary" else value
