"""The request units that `tests.bench.capacity` computes, by DynamoDB's rules for items and indexes."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import Session
from chalicelib.storage.store import Store
from tests.bench.capacity import Meter
from tests.support.site import Site

NOW = 1_800_000_000
GRANT = Grant(
    grant_id="g-1",
    client_id="c-1",
    sub="u-1",
    redirect_uri_sent=False,
    auth_time=NOW,
    created_at=NOW,
    code_expires_at=NOW + 60,
    expires_at=NOW + 600,
    ends_at=NOW + 6000,
)
OF_CLIENT = replace(GRANT, grant_id="g-2", sub=None)
LARGE = replace(GRANT, grant_id="g-3", nonce="n" * 3500)  # four units, and one in the index
SESSION = Session("s-1", "u-1", NOW, NOW + 600)


@pytest.fixture
def store(site: Site) -> Store:
    site.clock.time = NOW
    for grant in (GRANT, OF_CLIENT, LARGE):
        site.server.store.grants.put(grant)
    site.server.store.sessions.put(SESSION)
    return site.server.store


def change(grant: Grant, **changes: object) -> Callable[[Store], object]:
    return lambda store: store.grants.transition((grant.grant_id,), None, changes)


def in_transaction(store: Store) -> None:
    revoking = store.grants.changing(("g-1",), None, {"revoked_at": NOW})
    inserting = store.grants.inserting(replace(GRANT, grant_id="g-4"))
    assert store.transact(revoking, inserting, store.sessions.checking(("s-1",))) is None


@pytest.mark.parametrize(
    ("write", "units"),
    [
        pytest.param(lambda store: store.grants.insert(replace(GRANT, grant_id="g-4")), 1 + 1, id="insert"),
        pytest.param(
            lambda store: store.grants.insert(replace(OF_CLIENT, grant_id="g-4")), 1, id="insert without the key"
        ),
        pytest.param(lambda store: store.grants.insert(GRANT), 1, id="refused insert"),
        pytest.param(lambda store: store.grants.put(GRANT), 1, id="put of the same"),
        pytest.param(lambda store: store.grants.put(replace(GRANT, nonce=None, scope=frozenset("a"))), 2, id="put"),
        pytest.param(change(GRANT, revoked_at=NOW), 1, id="update of an attribute that is not projected"),
        pytest.param(change(GRANT, ends_at=NOW), 1 + 1, id="update of a projected attribute"),
        pytest.param(change(GRANT, sub="u-2"), 1 + 2, id="update of the key of the index"),
        pytest.param(change(OF_CLIENT, ends_at=NOW), 1, id="update without the key of the index"),
        pytest.param(change(OF_CLIENT, sub="u-1"), 1 + 1, id="update that adds the key of the index"),
        pytest.param(change(LARGE, ends_at=NOW), 4 + 1, id="update of a large item"),
        pytest.param(change(LARGE, nonce="n"), 4, id="update that makes an item smaller"),
        pytest.param(lambda store: store.grants.delete("g-1"), 1 + 1, id="delete"),
        pytest.param(lambda store: store.grants.delete("g-2"), 1, id="delete without the key of the index"),
        pytest.param(lambda store: store.grants.delete("missing"), 1, id="delete of nothing"),
        pytest.param(
            lambda store: store.sessions.transition(("s-1",), None, {"expires_at": NOW + 900}),
            1 + 1,
            id="update with an index of all attributes",
        ),
        pytest.param(in_transaction, 2 + (2 + 1) + 2, id="transaction"),
    ],
)
def test_write_takes_units_for_the_item_and_for_changed_entries_of_its_index(
    site: Site, store: Store, write: Callable[[Store], object], units: int
) -> None:
    meter = Meter(store.dynamodb.client)
    with meter.listening():
        write(store)
    assert (meter.writes, meter.reads) == (units, 0)


@pytest.mark.parametrize(
    ("read", "units"),
    [
        pytest.param(lambda store: store.grants.get("g-1"), 1, id="item"),
        pytest.param(lambda store: store.grants.get("missing"), 1, id="missing item"),
        pytest.param(lambda store: store.read(store.grants.lookup("g-1"), store.sessions.lookup("s-1")), 2, id="batch"),
        pytest.param(lambda store: list(store.grants.scan()), 2, id="consistent page of more than 4 KB"),
        pytest.param(lambda store: list(store.grant_entries.find("sub", "u-1", index="user")), 0.5, id="index"),
    ],
)
def test_read_takes_units_for_the_items_and_half_from_an_index(
    store: Store, read: Callable[[Store], object], units: float
) -> None:
    meter = Meter(store.dynamodb.client)
    with meter.listening():
        read(store)
    assert (meter.writes, meter.reads) == (0, units)
