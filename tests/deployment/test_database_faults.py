"""The faults of the database that other tests use: indexes that lag, and a database that is killed after a write."""

import http.client
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from chalicelib.protocol.records import Consent, Identifier, Session
from chalicelib.storage.store import Store
from infra.local.faults import IndexLag, Killed
from infra.local.state import CHECKOUT
from tests.support.database_faults import KillAfter
from tests.support.site import Site

LAG = 5


def session(site: Site, name: str = "s-1") -> Session:
    return Session(name, "u-1", site.clock(), site.clock() + 3600)


def in_index(store: Store) -> list[Session]:
    return sorted(store.sessions.find("sub", "u-1", index="sub"), key=lambda each: each.session_id)


# ---- an index that lags


def test_index_shows_a_new_item_only_after_the_lag(site: Site, store: Store, index_lag: IndexLag) -> None:
    index_lag.seconds = LAG
    new = session(site)
    store.sessions.insert(new)
    site.clock.advance(LAG - 1)
    assert in_index(store) == []
    assert store.sessions.get(new.session_id) == new
    assert list(store.sessions.scan()) == [new]
    site.clock.advance(1)
    assert in_index(store) == [new]


def test_index_shows_the_versions_of_an_item_one_after_the_other(site: Site, store: Store, index_lag: IndexLag) -> None:
    first = session(site)
    store.sessions.put(first)
    index_lag.seconds = LAG
    versions = [replace(first, auth_time=number) for number in (1, 2)]
    for version in versions:
        site.clock.advance(2)
        store.sessions.transition((first.session_id,), None, {"auth_time": version.auth_time})
        assert store.sessions.get(first.session_id) == version
        assert in_index(store) == [first]
    for seconds, shown in ((2, first), (1, versions[0]), (1, versions[0]), (1, versions[1])):
        site.clock.advance(seconds)
        assert in_index(store) == [shown]


def test_index_shows_a_deleted_item_until_the_lag_has_passed(site: Site, store: Store, index_lag: IndexLag) -> None:
    deleted, left = session(site, "deleted"), session(site, "left")
    for each in (deleted, left):
        store.sessions.put(each)
    index_lag.seconds = LAG
    store.sessions.delete(deleted.session_id)
    assert in_index(store) == [deleted, left]
    assert store.sessions.get(deleted.session_id) is None
    site.clock.advance(LAG)
    assert in_index(store) == [left]


def test_index_lags_behind_the_writes_of_a_transaction_and_ignores_refused_ones(
    site: Site, store: Store, index_lag: IndexLag
) -> None:
    old, new = session(site, "old"), session(site, "new")
    store.sessions.put(old)
    index_lag.seconds = LAG
    assert store.transact(store.sessions.inserting(new), store.sessions.deleting(("old",))) is None
    assert store.transact(store.sessions.inserting(new), store.sessions.inserting(session(site, "refused")))
    assert not store.sessions.insert(new)
    assert in_index(store) == [old]
    site.clock.advance(LAG)
    assert in_index(store) == [new]


def test_query_of_a_table_does_not_lag(store: Store, index_lag: IndexLag) -> None:
    index_lag.seconds = LAG
    consent = Consent("u-1", "c-1", frozenset({"openid"}))
    store.consents.put(consent)
    assert list(store.consents.find("sub", "u-1")) == [consent]
    store.consents.delete("u-1", "c-1")
    assert list(store.consents.find("sub", "u-1")) == []


def test_index_does_not_lag_unless_a_test_sets_it(site: Site, store: Store, index_lag: IndexLag) -> None:
    store.sessions.put(session(site))
    assert in_index(store) == [session(site)]


# ---- a kill


def test_last_write_is_made_but_not_answered_and_nothing_is_executed_after_it(
    store: Store, kill_after: KillAfter
) -> None:
    identifiers = [Identifier(f"username:{number}", "u-1") for number in range(4)]
    with kill_after(2) as kill:
        assert store.identifiers.insert(identifiers[0])
        assert store.identifiers.get(identifiers[0].identifier)
        assert not store.identifiers.insert(identifiers[0])  # refused: it writes nothing
        with pytest.raises(Killed):
            store.transact(*(store.identifiers.inserting(each) for each in identifiers[1:3]))
        with pytest.raises(Killed):
            store.identifiers.get(identifiers[0].identifier)
        with pytest.raises(Killed):
            store.identifiers.insert(identifiers[3])
        assert kill.happened
    assert [bool(store.identifiers.get(each.identifier)) for each in identifiers] == [True, True, True, False]


def test_killed_work_ends_the_block_and_a_loop_can_kill_after_each_write(store: Store, kill_after: KillAfter) -> None:
    stored = []
    for writes in count(1):
        with kill_after(writes) as kill:
            for number in range(3):
                store.identifiers.put(Identifier(f"after {writes}:{number}", "u-1"))
            assert writes > 3
        stored.append(sum(each.identifier.startswith(f"after {writes}:") for each in store.identifiers.scan()))
        if not kill.happened:
            break
    assert stored == [1, 2, 3, 3]


def test_nothing_is_executed_after_a_kill_after_no_write(store: Store, kill_after: KillAfter) -> None:
    answers = []
    with kill_after(0) as kill:
        answers.append(store.identifiers.get("username:alice"))
    assert (answers, kill.happened) == ([], True)


def test_server_closes_the_connection_when_the_database_is_killed(site: Site, kill_after: KillAfter) -> None:
    client = site.client()
    with kill_after(0) as kill:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
        connection.request("GET", f"/oauth2/authorize?client_id={client.id}")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()
    assert kill.happened
    assert site.server.store.clients.get(client.id) == client.record


# ---- the embedded database

EMBEDDED = """
import sys, time
from pathlib import Path
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.records import Session
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.access import dynamodb_client
from infra.local.database import Database
from infra.local.embedded import create_tables, ignore_aws_configuration, lock_moto
from infra.local.faults import FAULTS, Kill

ignore_aws_configuration()
database = Database(Path(sys.argv[1]), "test", lock_moto())
store = Store(Settings(stage="local", region="us-east-1", dynamodb_endpoint=f"http://127.0.0.1:{database.port}"))
create_tables(dynamodb_client(store.settings), "local")
database.load()
sessions = [Session(name, "u-1", 0, 2**40) for name in ("first", "second", "third")]
names = lambda found: sorted(session.session_id for session in found)
if sys.argv[2] == "lag":
    FAULTS.index_lag.seconds = 3600
    store.sessions.put(sessions[0])
    print(names(store.sessions.find("sub", "u-1", index="sub")), names(store.sessions.scan()))
    FAULTS.index_lag.seconds = 0
    print(names(store.sessions.find("sub", "u-1", index="sub")))
else:
    FAULTS.kill = Kill(2)
    for session in sessions:
        try:
            store.sessions.put(session)
            print("answered")
        except TemporarilyUnavailable as error:
            print(error.detail)
database.close()
database = Database(Path(sys.argv[1]), "test", lock_moto())
FAULTS.kill = None
print(sorted(key for (key,) in database._items.execute("SELECT item_key FROM items")))
database.close()
"""


def embedded(tmp_path: Path, fault: str) -> list[str]:
    command = [sys.executable, "-c", EMBEDDED, str(tmp_path / "items"), fault]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow
def test_index_of_the_embedded_database_lags(tmp_path: Path) -> None:
    assert embedded(tmp_path, "lag") == ["[] ['first']", "['first']", """['{"session_id": {"S": "first"}}']"""]


@pytest.mark.slow
def test_killed_embedded_database_closes_connections_and_has_stored_exactly_the_writes_before(tmp_path: Path) -> None:
    *answers, stored = embedded(tmp_path, "kill")
    assert answers == ["answered", *["dynamodb PutItem: 127.0.0.1 has closed the connection (EOFError)"] * 2]
    assert stored == """['{"session_id": {"S": "first"}}', '{"session_id": {"S": "second"}}']"""
