"""Faults that tests set in the embedded database and in moto: an index that lags, and a kill after a write.

Every call goes through `FAULTS.perform` (`infra.local.embedded.lock_moto`), under the lock.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

CallAction = Callable[[Any], Any]


class Killed(BaseException):
    """The database was killed. Not an Exception, so that no code under test handles it."""


class _Key(NamedTuple):
    """An item of moto. `range_key` is None in a table without sort key."""

    region: str
    table: str
    hash_key: Any
    range_key: Any


class IndexLag:
    """A lag of all indexes: a query of an index sees the tables as they were `seconds` ago.

    No lag by default. Only what is written while there is one is late. `now` is a clock in seconds.
    """

    def __init__(self) -> None:
        self.seconds: float = 0
        self.now: Callable[[], float] = time.monotonic
        self._replaced: list[tuple[float, _Key, Any]] = []

    def reset(self, now: Callable[[], float] = time.monotonic) -> None:
        """Remove the lag, and set the clock."""
        self.seconds, self.now = 0, now
        self._replaced.clear()

    def perform(self, handler: Any, call_action: CallAction) -> Any:
        """Perform a call of moto: a query of an index on the old items, any other one on the present items."""
        if not self.seconds:
            return call_action(handler)
        action, parameters = handler._get_action(), handler.params
        if action == "Query" and "IndexName" in parameters:
            with self._past(handler, parameters["TableName"]):
                return call_action(handler)
        keys = [_key(handler, table, item) for table, item in changed_items(action, parameters)]
        # moto changes an item in place.
        before = [(self.now(), key, copy.deepcopy(_get(handler, key))) for key in keys]
        answer = call_action(handler)
        if _succeeded(answer):
            self._replaced += before
        return answer

    @contextmanager
    def _past(self, handler: Any, table: str) -> Iterator[None]:
        """Give a table its old items within the block."""
        past: dict[_Key, Any] = {}
        for written_at, key, item in self._replaced:
            if (key.region, key.table) == (handler.region, table) and written_at > self.now() - self.seconds:
                past.setdefault(key, item)
        present = {key: _get(handler, key) for key in past}
        try:
            for key, item in past.items():
                _set(handler, key, item)
            yield
        finally:
            for key, item in present.items():
                _set(handler, key, item)


class Kill:
    """A kill after so many writes that change something. `happened`: whether a call was ended by it."""

    def __init__(self, writes: int):
        self.happened = False
        self._writes = writes

    def check(self) -> None:
        """Raise Killed when the database is dead."""
        if self._writes <= 0:
            self.happened = True
            raise Killed

    def count_write(self) -> None:
        """Count a write that was made. Raises Killed after the last one."""
        self._writes -= 1
        self.check()


class Faults:
    """The faults of the database of this process; none by default."""

    def __init__(self) -> None:
        self.index_lag = IndexLag()
        self.kill: Kill | None = None

    def perform(self, handler: Any, call_action: CallAction) -> Any:
        """Perform a call of moto, with the faults. Raises Killed."""
        if self.kill:
            self.kill.check()
        answer = self.index_lag.perform(handler, call_action)
        if self.kill and _succeeded(answer) and any(changed_items(handler._get_action(), handler.params)):
            self.kill.count_write()
        return answer

    @contextmanager
    def kill_after(self, writes: int) -> Iterator[Kill]:
        """Kill the database in this block after so many writes; it works again after the block.

        The last write is made, but not answered: its caller gets Killed, and so does every later call. Killed ends the
        block, not the caller of the block.
        """
        self.kill = kill = Kill(writes)
        try:
            yield kill
        except Killed:
            pass
        finally:
            self.kill = None


FAULTS = Faults()


def changed_items(action: str, parameters: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the table and at least the key of each item that a call of DynamoDB's API writes."""
    match action:
        case "PutItem" | "UpdateItem" | "DeleteItem":
            yield parameters["TableName"], parameters.get("Item") or parameters["Key"]
        case "TransactWriteItems":
            for step in parameters["TransactItems"]:
                for verb, write in step.items():
                    if verb != "ConditionCheck":
                        yield write["TableName"], write.get("Item") or write["Key"]
        case "BatchWriteItem":
            for table, steps in parameters["RequestItems"].items():
                for step in steps:
                    for write in step.values():
                        yield table, write.get("Item") or write["Key"]


def _succeeded(answer: Any) -> bool:
    return int(answer[0]) == 200


def _key(handler: Any, table_name: str, item: dict[str, Any]) -> _Key:
    from moto.dynamodb.models.dynamo_type import DynamoType

    table = handler.dynamodb_backend.get_table(table_name)
    keys = [DynamoType(item[name]) for name in table.table_key_attrs]
    return _Key(handler.region, table_name, keys[0], keys[1] if len(keys) == 2 else None)


def _get(handler: Any, key: _Key) -> Any:
    return handler.dynamodb_backend.get_table(key.table).get_item(key.hash_key, key.range_key)


def _set(handler: Any, key: _Key, item: Any) -> None:
    table = handler.dynamodb_backend.get_table(key.table)
    if item is None:
        table.delete_item(key.hash_key, key.range_key)
    elif key.range_key is None:
        table.items[key.hash_key] = item
    else:
        table.items[key.hash_key][key.range_key] = item
