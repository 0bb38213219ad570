"""Bound the memory and the time of moto, which was made for short tests: the embedded database runs for days.

moto lists every object that it ever made, copies whole tables for each step of a transaction, and measures an item
again for each of its attributes. None of this decides an answer of DynamoDB.
"""

import functools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_Key = tuple[Any, Any]  # hash key and range key, which is None in a table without one


def forget_instances() -> None:
    """Empty the lists of all objects that moto has made, which only its dashboard reads."""
    from moto.core.model_instances import model_data

    for model in model_data["dynamodb"].values():
        model.instances_tracked.clear()


def drop_empty_partitions(table: Any) -> None:
    """Delete the partitions without items. moto adds one for each key that is read, and deletes none."""
    if table.has_range_key:
        for hash_key in [key for key, partition in table.items.items() if not partition]:
            del table.items[hash_key]


@contextmanager
def without_size_check() -> Iterator[None]:
    """Skip the check of an item's size in the block, for items that were stored before."""
    from moto.dynamodb.models.dynamo_type import LimitedSizeDict

    checked = LimitedSizeDict.__setitem__
    LimitedSizeDict.__setitem__ = dict.__setitem__
    try:
        yield
    finally:
        LimitedSizeDict.__setitem__ = checked


@functools.cache
def bound_transactions() -> None:
    """Make a transaction see, and so copy, only the items that it names. Idempotent."""
    from moto.dynamodb.models import DynamoDBBackend

    transact = DynamoDBBackend.transact_write_items

    @functools.wraps(transact)
    def transact_write_items(backend: Any, transact_items: list[dict[str, Any]]) -> None:
        with ExitStack() as stack:
            for name, keys in _named_keys(backend, transact_items).items():
                stack.enter_context(_only(backend, name, keys))
            transact(backend, transact_items)

    DynamoDBBackend.transact_write_items = transact_write_items


def _named_keys(backend: Any, steps: list[dict[str, Any]]) -> dict[str, set[_Key]]:
    """Return the keys that a transaction names by table. Steps that moto will reject have none."""
    from moto.dynamodb.models.dynamo_type import DynamoType

    keys: defaultdict[str, set[_Key]] = defaultdict(set)
    for write in (write for step in steps for write in step.values()):
        table, item = backend.tables.get(write.get("TableName")), write.get("Item") or write.get("Key") or {}
        if table is not None:
            values = [DynamoType(item[name]) for name in table.table_key_attrs if name in item]
            named = {(values[0], (*values, None)[1])} if len(values) == len(table.table_key_attrs) else set()
            keys[table.name] |= named
    return keys


@contextmanager
def _only(backend: Any, name: str, keys: set[_Key]) -> Iterator[None]:
    """Leave a table only the items with these keys within the block, which may replace the table by its copy."""
    table = backend.tables[name]
    items, table.items = table.items, defaultdict(dict)
    for key in keys:
        _move(table, items, table.items, key)
    try:
        yield
    finally:
        changed = backend.tables[name].items
        for key in keys:
            _move(table, changed, items, key)
        backend.tables[name], table.items = table, items


def _move(table: Any, source: Any, target: Any, key: _Key) -> None:
    """Give `target` the item of `source` with this key, or none."""
    hash_key, range_key = key
    if not table.has_range_key:
        source, target, range_key = {None: source}, {None: target}, hash_key
        hash_key = None
    item = source.get(hash_key, {}).get(range_key)
    if item is not None:
        target[hash_key][range_key] = item
    elif hash_key in target:
        target[hash_key].pop(range_key, None)
