"""What the embedded database keeps and copies: items, and nothing of the calls that were made."""

import gc
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from moto.dynamodb.models.dynamo_type import Item
from moto.dynamodb.models.table import Table

from chalicelib.aws.client import AwsError
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.local.moto_memory import drop_empty_partitions
from tests.support.browser import Browser
from tests.support.site import Site, tables


class Flows:
    """Flows of a signed-in user who always allows the client."""

    def __init__(self, site: Site, browser: Browser):
        self.site, self.browser = site, browser
        self.restart()

    def restart(self) -> None:
        """Delete all records, and sign in."""
        self.site.reset()
        self.site.user("alice")
        self.client = self.site.client()
        self.browser.cookies.clear()
        self.browser.tokens(self.client, decision="allow_always")

    def run(self, count: int) -> None:
        for _ in range(count):
            code = self.browser.code(self.client)
            assert self.browser.redeem(self.client, code).status == 200
            assert self.browser.redeem(self.client, code).status == 400, "its transaction is rolled back"


@pytest.fixture
def flows(site: Site, browser: Browser) -> Iterator[Flows]:
    """Without a log, because pytest keeps the records."""
    logging.disable()
    yield Flows(site, browser)
    logging.disable(logging.NOTSET)


def stored() -> int:
    """Return the number of tables and stored items."""
    return sum(1 + len(table.all_items()) for table in tables().values())


def existing() -> int:
    """Return the number of tables and items in memory."""
    gc.collect()
    return sum(isinstance(each, (Item, Table)) for each in gc.get_objects())


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.slow
def test_nothing_but_the_items_stays_in_memory(flows: Flows) -> None:
    flows.run(50)
    unstored = existing() - stored()
    flows.restart()
    after_50 = objects()
    flows.run(450)
    assert stored() > 450, "each flow stores a grant"
    assert existing() - stored() == unstored
    flows.restart()
    assert objects() - after_50 < 450, "no object stays for each flow"


def test_flow_copies_as_many_items_when_there_are_more_grants(flows: Flows, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: Counter[str] = Counter()
    copy = Item.__deepcopy__

    def counted(item: Any, memo: Any) -> Any:
        copies["now"] += 1
        return copy(item, memo)

    monkeypatch.setattr(Item, "__deepcopy__", counted)
    numbers = []
    for _ in range(2):
        copies.clear()
        flows.run(1)
        numbers.append(copies["now"])
        flows.run(10)
    assert numbers[0] == numbers[1] > 0


def test_partition_of_a_missing_item_is_deleted(site: Site) -> None:
    store = site.server.store
    assert store.consents.get("nobody", "client") is None
    table = tables()[store.consents.name]
    drop_empty_partitions(table)
    assert not table.items


def test_busy_emulator_has_more_time_than_dynamodb() -> None:
    timeouts = []
    for endpoint in (None, "http://127.0.0.1:8001"):
        client: Any = Store(Settings(region="us-east-1", dynamodb_endpoint=endpoint)).dynamodb.client
        timeouts.append(client._send.__self__._read_timeout)
    assert timeouts == [2, 30], "otherwise fifty people get 503 from the local server"


@pytest.mark.parametrize("failing", [True, False])
def test_transaction_sees_only_the_items_that_it_names(site: Site, failing: bool) -> None:
    """In a table with partitions, and in one without."""
    store = site.server.store
    client = store.dynamodb.client
    consents, users = store.consents.name, store.users.name
    for sub in ("a", "b"):
        client.call("PutItem", TableName=users, Item={"sub": {"S": sub}, "count": {"N": "1"}})
        for other in ("x", "y", "z"):
            key = {"sub": {"S": sub}, "client_id": {"S": other}}
            client.call("PutItem", TableName=consents, Item=key | {"count": {"N": "1"}})
    before = {name: contents(name) for name in (consents, users)}
    count = {"UpdateExpression": "SET #c = :two", "ExpressionAttributeNames": {"#c": "count"}}
    two = {"ExpressionAttributeValues": {":two": {"N": "2"}}}
    condition = {"ConditionExpression": "attribute_exists(#c)" if failing else "attribute_not_exists(#c)"}
    x, y, new = ({"sub": {"S": "a"}, "client_id": {"S": name}} for name in ("x", "y", "new"))
    steps: list[Any] = [
        {"Update": {"TableName": users, "Key": {"sub": {"S": "a"}}, **count, **two}},
        {"Update": {"TableName": consents, "Key": x, **count, **two}},
        {"Delete": {"TableName": consents, "Key": y}},
        {"Put": {"TableName": consents, "Item": new, "ExpressionAttributeNames": {"#c": "client_id"}, **condition}},
    ]
    if failing:
        with pytest.raises(AwsError.named("TransactionCanceledException")):
            client.call("TransactWriteItems", TransactItems=steps)
        assert {name: contents(name) for name in (consents, users)} == before
        return
    client.call("TransactWriteItems", TransactItems=steps)
    assert contents(users) == {"a": 2, "b": 1}
    assert contents(consents) == {"a new": None, "a x": 2, "a z": 1, "b x": 1, "b y": 1, "b z": 1}


def contents(name: str) -> dict[str, int | None]:
    """Return the key of each item of a table, and its count."""
    items = [item.to_json()["Attributes"] for item in tables()[name].all_items()]
    return {
        " ".join(item[key]["S"] for key in ("sub", "client_id") if key in item): int(item["count"]["N"])
        if "count" in item
        else None
        for item in items
    }
