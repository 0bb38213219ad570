"""The laws of the storage over real connections: the own client with the embedded database, which is moto over HTTP."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.records import User
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused
from infra.local.database import Database
from infra.local.embedded import lock_moto
from tests.storage_keys.test_store import EXAMPLES, key_of
from tests.support.site import Site
from tests.support.threads import run_concurrently

USER = User("u-1", "alice", "", {})


@pytest.fixture
def store(site: Site, tmp_path: Path) -> Iterator[Store]:
    """The tables of the site, through a port."""
    database = Database(tmp_path / "items", "test", lock_moto())
    yield Store(replace(site.settings, dynamodb_endpoint=f"http://127.0.0.1:{database.port}"), site.clock)
    database.close()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_record_comes_back(store: Store, kind: str) -> None:
    table: Any = getattr(store, kind)
    record: Any = EXAMPLES[kind][0]
    if hasattr(record, "expires_at"):
        record = replace(record, expires_at=store.now() + 60)
    assert table.insert(record)
    assert table.get(*key_of(table, record)) == record
    assert not table.insert(record)
    assert record in list(table.scan())
    table.delete(*key_of(table, record))
    assert table.get(*key_of(table, record)) is None


def test_refused_transition_returns_the_stored_record(store: Store) -> None:
    store.users.put(USER)
    assert store.users.transition(("u-1",), attr("username").eq("bob"), {"admin": True}) == Refused(USER)
    changed = store.users.transition(("u-1",), attr("username").eq("alice"), {"admin": True})
    assert changed == replace(USER, admin=True)
    assert store.users.transition(("u-2",), None, {"admin": True}) == Refused(None)


def test_transaction_makes_all_writes_or_none(store: Store) -> None:
    store.users.put(USER)
    bob, again = replace(USER, sub="u-2", username="bob"), store.users.inserting(USER)
    refusals = store.transact(store.users.inserting(bob), again)
    assert refusals is not None
    assert refusals.of(again) == Refused(USER)
    assert store.users.get("u-2") is None
    assert store.transact(store.users.inserting(bob), store.users.checking(("u-1",))) is None
    assert store.read(store.users.lookup("u-1"), store.users.lookup("u-2")) == (USER, bob)


def test_all_pages_of_a_scan_are_read(store: Store) -> None:
    for number in range(20):
        store.users.put(replace(USER, sub=f"u-{number}", claims={"bio": "x" * 100_000}))
    store.dynamodb.take_counts()
    assert len(list(store.users.scan())) == 20
    assert store.dynamodb.take_counts()[0] > 1


def test_one_of_many_competing_writes_wins(store: Store) -> None:
    store.users.put(USER)

    def take() -> bool:
        outcome = store.users.transition(("u-1",), attr("disabled_at").not_exists(), {"disabled_at": 1})
        return not isinstance(outcome, Refused)

    assert sum(run_concurrently([take] * 8)) == 1
