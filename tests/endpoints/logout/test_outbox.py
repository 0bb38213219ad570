"""The outbox of back-channel logout: its index, entries of an earlier version, and runs with many deliveries."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.aws.messages import Request, Response
from chalicelib.http import outbound
from chalicelib.protocol.durations import DAY, MINUTE
from chalicelib.protocol.records import OUTBOX, Delivery
from chalicelib.sessions import backchannel_logout
from chalicelib.sessions.backchannel_logout import ADOPT_EVERY, START_WITHIN
from chalicelib.storage.table import Refused
from infra.local.faults import IndexLag
from tests.endpoints.logout.conftest import Browsers, Receivers, log_out, outbox_of, register_client
from tests.support import faults
from tests.support.faults import Wire
from tests.support.receivers import Behaviour, silence, status
from tests.support.run_time import let_runs_read
from tests.support.site import Registered, Site

CONFIG = Path(__file__).parents[3] / ".chalice" / "config.json"
MANY = 10_000


def delivery(site: Site, name: str, client: Registered, **members: Any) -> Delivery:
    now = site.clock()
    record = Delivery(name, "alice", now, now + DAY, f"alice.{name}", frozenset({client.id}), not_before=now)
    return replace(record, **({"outbox": OUTBOX} | members))


# ---- the index


def test_run_reads_only_what_is_due(op: Site, receivers: Receivers, wire: Wire) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    for number in range(20):
        op.server.store.deliveries.put(delivery(op, f"later-{number}", client, not_before=op.clock() + MINUTE))
    op.server.store.deliveries.put(delivery(op, "due", client))
    op.run("deliver")
    assert len(receiver.tokens) == 1
    read: list[int] = []

    def record_count(_request: Request, proceed: faults.Proceed) -> Response:
        response = proceed()
        read.append(json.loads(response.body)["Count"])
        return response

    with wire.every("Query", record_count):
        op.run("deliver")
    assert (wire.calls, read) == (["Query"], [0])


def test_delivery_that_the_index_still_shows_as_due_is_not_sent_again(
    op: Site, receivers: Receivers, index_lag: IndexLag
) -> None:
    receiver = receivers(status(500))
    client = register_client(op, receiver)
    op.server.store.deliveries.put(delivery(op, "due", client))
    index_lag.reset(op.clock)
    index_lag.seconds = 5
    op.run("deliver")
    (claimed,) = op.server.store.deliveries.find("outbox", OUTBOX, index="due")
    assert claimed.tries == 0, "the index lags"
    op.run("deliver")
    assert len(receiver.requests) == 1


def test_failure_to_read_the_next_page_of_the_index_does_not_lose_the_first(
    op: Site, receivers: Receivers, wire: Wire
) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    for name in "abc":
        op.server.store.deliveries.put(delivery(op, name, client))
    pages = 0

    def answer_in_pages(request: Request, proceed: faults.Proceed) -> Response:
        nonlocal pages
        pages += 1
        if pages > 1:
            return faults.throttled(request, proceed)
        content = json.loads(proceed().body)
        last = {name: content["Items"][1][name] for name in ("delivery_id", "outbox", "not_before")}
        return faults.answer(request, json.dumps({"Items": content["Items"][:2], "Count": 2, "LastEvaluatedKey": last}))

    with wire.every("Query", answer_in_pages):
        op.run("deliver")
    assert len(receiver.tokens) == 2
    op.run("deliver")
    assert len(receiver.tokens) == 3
    assert outbox_of(op) == []


# ---- entries of the version before, which are in no index


def test_delivery_of_the_version_before_is_sent_by_the_first_run_of_a_process(op: Site, receivers: Receivers) -> None:
    receiver = receivers(status(500))
    op.server.store.deliveries.put(delivery(op, "old", register_client(op, receiver), outbox=None))
    op.run("deliver")
    assert len(receiver.requests) == 1
    op.clock.advance(backchannel_logout.FIRST_PAUSE)
    op.run("deliver")
    assert len(receiver.requests) == 2, "it is in the index now"


def test_delivery_that_the_version_before_writes_during_the_upgrade_is_sent_after_a_quarter_of_an_hour(
    op: Site, receivers: Receivers, wire: Wire
) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    op.run("deliver")
    op.server.store.deliveries.put(delivery(op, "old", client, outbox=None))
    op.clock.advance(ADOPT_EVERY - 1)
    with wire.counted() as calls:
        op.run("deliver")
    assert calls == ["Query"]
    op.clock.advance(1)
    op.run("deliver")
    assert len(receiver.tokens) == 1
    assert outbox_of(op) == []


def test_search_for_deliveries_of_the_version_before_is_repeated_when_it_was_interrupted(
    op: Site, receivers: Receivers, wire: Wire
) -> None:
    receiver = receivers()
    op.server.store.deliveries.put(delivery(op, "old", register_client(op, receiver), outbox=None))
    with wire.fault_in("UpdateItem", faults.unreachable):
        op.run("deliver")
    assert receiver.tokens == []
    op.run("deliver")
    assert len(receiver.tokens) == 1


def test_sign_out_by_code_of_the_version_before_keeps_a_delivery_in_the_index(
    op: Site, browsers: Browsers, receivers: Receivers
) -> None:
    """After a rollback, that code moves the time of the next attempt, and knows nothing of the index."""
    receiver, browser = receivers(), browsers(op)
    client = register_client(op, receiver)
    log_out(browser, id_token_hint=browser.tokens(client)["id_token"])
    (waiting,) = outbox_of(op)
    op.run("deliver")
    op.server.store.deliveries.put(waiting)
    later = {"not_before": op.clock() + MINUTE, "tries": 1}
    op.server.store.deliveries.transition((waiting.delivery_id,), None, later)
    op.run("deliver")
    assert len(receiver.tokens) == 1
    op.clock.advance(MINUTE)
    op.run("deliver")
    assert len(receiver.tokens) == 2


# ---- many deliveries


class ManyDeliveries:
    """The table of deliveries in memory, and a clock by which requests to clients take time, in MAX_PARALLEL threads.

    `sent`: the clients that were called, by the numbers of the runs. `hanging`: the clients that do not answer.
    """

    def __init__(self, op: Site, deliveries: list[Delivery]):
        self._op, self._lock = op, threading.Lock()
        self.records = {each.delivery_id: each for each in deliveries}
        self.elapsed = 0.0
        self.sent: list[list[str]] = []
        self.hanging: set[str] = set()

    # ---- the table

    def find(self, _field: str, _value: str, **_: Any) -> Iterator[Delivery]:
        due = [record for record in self.records.values() if record.not_before <= self._op.clock()]
        yield from sorted(due, key=lambda record: record.not_before)

    def scan(self) -> Iterator[Delivery]:
        yield from ()

    def transition(self, key: tuple[str], _if: Any, changes: Mapping[str, Any]) -> Delivery | Refused[Delivery]:
        with self._lock:
            record = self.records[key[0]]
            if "not_before" in changes and record.not_before > self._op.clock():
                return Refused(record)
            self.records[key[0]] = replace(record, **changes)
            return self.records[key[0]]

    def delete(self, key: str) -> None:
        del self.records[key]

    # ---- the clients

    def post(self, url: str, *_: Any) -> int:
        name = url.rpartition("/")[2]
        with self._lock:
            self.sent[-1].append(name)
            self.elapsed += (outbound.SECONDS if name in self.hanging else 0.1) / backchannel_logout.MAX_PARALLEL
        if name in self.hanging:
            raise outbound.NoResponse("no response")
        return 200

    def run(self) -> float:
        """Run the schedule, and return the seconds that it took. The next run is a minute later."""
        started = self.elapsed
        self.sent.append([])
        self._op.run("deliver")
        self._op.clock.advance(MINUTE)
        return self.elapsed - started


@pytest.fixture
def many(op: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], ManyDeliveries]:
    """Return a function that fills the outbox with a delivery for each of these clients."""

    def fill(clients: list[str]) -> ManyDeliveries:
        uri = "https://client.example.com/"
        registered = {
            name: op.client(client_id=name, backchannel_logout_uri=f"{uri}{name}") for name in sorted({*clients})
        }
        outbox = ManyDeliveries(op, [delivery(op, f"d-{n}", registered[name]) for n, name in enumerate(clients)])
        monkeypatch.setattr(op.server.store, "deliveries", outbox)
        monkeypatch.setattr(outbound, "post", outbox.post)
        let_runs_read(monkeypatch, lambda: outbox.elapsed)
        monkeypatch.setattr(backchannel_logout, "logout_token", lambda *_: "token")
        return outbox

    return fill


def time_of_the_function() -> int:
    seconds: int = json.loads(CONFIG.read_text())["lambda_timeout"]
    return seconds


def test_last_attempt_of_a_run_ends_within_the_time_of_the_function() -> None:
    assert time_of_the_function() > START_WITHIN + outbound.SECONDS


def test_ten_thousand_deliveries_are_worked_off_in_runs_within_the_time_of_the_function(
    many: Callable[[list[str]], ManyDeliveries],
) -> None:
    outbox = many(["shop"] * MANY)
    runs = [outbox.run() for _ in range(11)]
    assert max(runs) < START_WITHIN + 1
    assert sum(len(sent) for sent in outbox.sent) == MANY
    assert outbox.records == {}


def test_clients_that_do_not_answer_delay_the_others_by_few_runs(
    many: Callable[[list[str]], ManyDeliveries],
) -> None:
    down = [f"down-{number}" for number in range(50)]
    outbox = many([*(down * (MANY // 50 - 20)), *(["shop"] * 1000)])
    outbox.hanging = {*down}
    for _ in range(4):
        assert outbox.run() < START_WITHIN + outbound.SECONDS
    assert sum(sent.count("shop") for sent in outbox.sent) == 1000


@pytest.mark.parametrize(("behave", "calls"), [(silence, [0, 7]), (status(500), [0, 1, 3, 7])])
def test_client_that_does_not_answer_in_time_is_not_called_again_for_five_minutes(
    op: Site, receivers: Receivers, behave: Behaviour, calls: list[int]
) -> None:
    receiver = receivers(behave)
    op.server.store.deliveries.put(delivery(op, "due", register_client(op, receiver)))
    minutes: list[int] = []
    for minute in range(12):
        before = len(receiver.requests)
        op.run("deliver")
        minutes += [minute] * (len(receiver.requests) - before)
        op.clock.advance(MINUTE)
    assert minutes == calls
