"""The laws of the storage over real connections: the own client with three emulators of DynamoDB.

The embedded database, which is moto over HTTP; ministack, which checks signatures; and AWS's own DynamoDB Local.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.aws.client import Account
from chalicelib.protocol.records import User
from chalicelib.settings import Settings
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused
from infra.access import dynamodb_client
from infra.local.database import Database
from infra.local.embedded import lock_moto
from tests.bench.dynamodb_local import create_tables, dynamodb_local
from tests.interop.programs import installed
from tests.storage_keys.test_store import EXAMPLES, key_of
from tests.support.emulator import REGION, Emulator
from tests.support.site import Site
from tests.support.threads import run_concurrently

USER = User("u-1", "alice", "", {})


@pytest.fixture(scope="module")
def dynamodb_local_endpoint() -> Iterator[str]:
    """DynamoDB Local, where `make interop` has installed it."""
    with dynamodb_local(Path(installed("dynamodb-local", "DynamoDB Local")), "other") as endpoint:
        yield endpoint


@contextmanager
def embedded_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    site: Site = request.getfixturevalue("site")
    database = Database(request.getfixturevalue("tmp_path") / "items", "test", lock_moto())
    yield Store(replace(site.settings, dynamodb_endpoint=f"http://127.0.0.1:{database.port}"), site.clock)
    database.close()


@contextmanager
def ministack_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    emulator: Emulator = request.getfixturevalue("emulator")
    stage = f"laws-{secrets.token_hex(4)}"
    create_tables(emulator.client("dynamodb"), stage)
    yield Store(Settings(stage=stage, region=REGION), account=Account(REGION, lambda: emulator.environment))


@contextmanager
def dynamodb_local_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    endpoint, stage = request.getfixturevalue("dynamodb_local_endpoint"), f"laws-{secrets.token_hex(4)}"
    settings = Settings(stage=stage, region=REGION, dynamodb_endpoint=endpoint)
    create_tables(dynamodb_client(settings), stage)
    yield Store(settings)


@pytest.fixture(
    params=[
        pytest.param(embedded_store, id="moto"),
        pytest.param(ministack_store, id="ministack"),
        pytest.param(dynamodb_local_store, id="DynamoDB Local", marks=pytest.mark.programs),
    ]
)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Empty tables, through a port."""
    with request.param(request) as store:
        yield store


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
