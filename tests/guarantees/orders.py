"""Every order in which the DynamoDB calls of concurrent actions can be executed.

Each call is atomic, and actions share nothing else, so the orders of the calls are all possible interleavings. Each
action runs in a thread that stops before each call until it is scheduled. Of orders that differ only in calls that do
not affect each other, because no item of the one is written by the other, one is run. Calls to tables that the actions
do not read are not scheduled.

A BatchGetItem is no snapshot: with `torn`, the items of each table are read by a call that is scheduled separately.
"""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

from chalicelib.aws.messages import Request, Response
from tests.support import faults
from tests.support.faults import Wire
from tests.support.site import tables
from tests.support.threads import TIMEOUT

Action = tuple[str, Callable[[], Any]]
UNREAD = frozenset({"events", "deliveries"})
# The table and the key of an item; "" for all keys.
Item = tuple[str, str]
_BATCH = "BatchGetItem"


@dataclass(frozen=True)
class Order:
    """One order: the calls with their actions, and the results of the actions in the order of the actions."""

    calls: tuple[str, ...]
    results: tuple[Any, ...]

    def __repr__(self) -> str:
        return " → ".join(self.calls)

    def results_of(self, name: str) -> list[Any]:
        """Return the results of the actions with this name."""
        return [result for actor_name, result in self.results if actor_name == name]


# Which call of which action: the number of the action, and that of the part if the call is torn.
Choice = tuple[int, int]


class _Call(NamedTuple):
    """A call, or the part of a torn one with this number, and the items that it reads and writes."""

    text: str
    reads: frozenset[Item]
    writes: frozenset[Item]
    part: int = 0

    def commutes_with(self, other: "_Call") -> bool:
        """Return whether the order of two calls makes no difference."""
        return not (
            _overlap(self.writes, other.writes)
            or _overlap(self.writes, other.reads)
            or _overlap(self.reads, other.writes)
        )


def _overlap(items: frozenset[Item], other_items: frozenset[Item]) -> bool:
    return any(
        table == other_table and (key == other_key or "" in (key, other_key))
        for table, key in items
        for other_table, other_key in other_items
    )


class _Actor(threading.Thread):
    """An action that stops before each call. `pending`: the parts of its next call that are not executed yet."""

    def __init__(self, number: int, action: Action, waiting: "SimpleQueue[_Actor]"):
        super().__init__(name=action[0], daemon=True)
        self.number = number
        self._action, self._waiting = action[1], waiting
        self._turn: SimpleQueue[_Call] = SimpleQueue()
        self.pending: list[_Call] = []
        self.executed = 0  # calls
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._action()
        except BaseException as error:
            self.error = error
        self.pending = []
        self._waiting.put(self)

    def wait(self, calls: list[_Call]) -> _Call:
        """Wait, in the thread of the action, until one of these calls is scheduled, and return it."""
        self.pending = calls
        self._waiting.put(self)
        call = self._turn.get(timeout=TIMEOUT)
        self.executed += len(calls) == 1
        return call

    def run_to_next_call(self, scheduled: _Call | None = None) -> None:
        """Let the action run to its next call or to its end, from the scheduling thread. Raises the action's error."""
        if scheduled:
            self._turn.put(scheduled)
        else:
            self.start()
        assert self._waiting.get(timeout=TIMEOUT) is self
        if self.error:
            raise self.error


@dataclass
class _State:
    """A state in which the next call was chosen: by `chosen`, and before by `tried`; `backtrack` are to be tried.

    `asleep`: choices that lead to orders which have been run from an earlier state.
    """

    possible: list[Choice]
    asleep: frozenset[Choice]
    chosen: Choice
    tried: set[Choice]
    backtrack: list[Choice]

    def choose_next(self) -> bool:
        """Choose the next call that is to be tried; return whether there is one."""
        self.tried.add(self.chosen)
        remaining = [choice for choice in self.backtrack if choice not in self.tried | self.asleep]
        self.chosen = (remaining or [self.chosen])[0]
        return bool(remaining)


class _Event(NamedTuple):
    """An executed call. `step`: the number of the call in its action, the same for all parts of a torn call."""

    choice: Choice
    call: _Call
    step: int

    def is_followed_by(self, later: "_Event") -> bool:
        """Return whether these two calls can only be executed in this order, or the order makes a difference."""
        if self.choice[0] == later.choice[0]:
            return self.step < later.step
        return not self.call.commutes_with(later.call)


def every_order(wire: Wire, scene: Callable[[], list[Action]], *, torn: bool = False) -> Iterator[Order]:
    """Set up the scene and run its actions once for each order.

    After each run, the calls that affect each other are executed in the reverse order too (dynamic partial-order
    reduction: Flanagan and Godefroid, POPL 2005).
    """
    states: list[_State] = []
    while True:
        run = _Run(wire, scene(), states, torn=torn)
        order = run.run()
        if not run.redundant:
            yield order
        while states and not states[-1].choose_next():
            states.pop()
        if not states:
            return


class _Run:
    """The order that begins with the choices of `states`; later states are appended to it.

    `redundant`: another order with the same effect was run.
    """

    def __init__(self, wire: Wire, actions: list[Action], states: list[_State], *, torn: bool):
        waiting: SimpleQueue[_Actor] = SimpleQueue()
        self._actors = [_Actor(number, action, waiting) for number, action in enumerate(actions)]
        self._wire, self._states, self._torn = wire, states, torn
        self._events: list[_Event] = []
        self.redundant = False

    def run(self) -> Order:
        """Run all actions to their end, and find out which other choices must be tried."""
        asleep: frozenset[Choice] = frozenset()
        with self._wire._planned(lambda _number, _operation: (self._stop_before_call, 1)):
            for actor in self._actors:
                actor.run_to_next_call()
            while pending := {(actor.number, call.part): call for actor in self._actors for call in actor.pending}:
                choice = self._choose(list(pending), asleep)
                call, actor = pending[choice], self._actors[choice[0]]
                self._events.append(_Event(choice, call, actor.executed))
                if not self.redundant:
                    state = self._states[len(self._events) - 1]
                    asleep = frozenset(
                        other for other in state.asleep | state.tried if pending[other].commutes_with(call)
                    )
                actor.run_to_next_call(call)
        self._reverse_races()
        results = tuple((actor.name, actor.result) for actor in self._actors)
        return Order(tuple(event.call.text for event in self._events), results)

    def _choose(self, possible: list[Choice], asleep: frozenset[Choice]) -> Choice:
        number = len(self._events)
        if number < len(self._states):
            assert self._states[number].possible == possible, "the scene is not deterministic"
            return self._states[number].chosen
        awake = [choice for choice in possible if choice not in asleep]
        self.redundant = self.redundant or not awake
        if self.redundant:
            return possible[0]
        self._states.append(_State(possible, asleep, awake[0], set(), [awake[0]]))
        return awake[0]

    def _reverse_races(self) -> None:
        """Add the choices that execute two calls in the reverse order, where the order makes a difference."""
        events = self._events[: len(self._states)]
        before: list[set[int]] = []  # of each event: the earlier ones that must be executed before it
        for number, event in enumerate(events):
            direct = [earlier for earlier in range(number) if events[earlier].is_followed_by(event)]
            before.append({*direct, *(each for earlier in direct for each in before[earlier])})
            for earlier in direct:
                is_race = event.choice[0] != events[earlier].choice[0]
                if is_race and not any(earlier in before[between] for between in before[number]):
                    self._add_choice(earlier, number, events, before)

    def _add_choice(self, earlier: int, later: int, events: list[_Event], before: list[set[int]]) -> None:
        """Have the later of two events, or one that leads to it, executed where the earlier one was executed."""
        state = self._states[earlier]
        leading = [events[number].choice for number in range(earlier, later + 1) if number in before[later] | {later}]
        choices = [choice for choice in state.possible if choice in leading and choice != events[earlier].choice]
        if not set(choices) & set(state.backtrack):
            state.backtrack += choices[:1] or state.possible

    def _stop_before_call(self, request: Request, proceed: faults.Proceed) -> Response:
        actor = threading.current_thread()
        if not isinstance(actor, _Actor):
            return proceed()
        if self._torn and faults.operation_of(request) == _BATCH:
            return _read_torn(actor, request, proceed)
        call = _call(actor, request)
        if call.reads or call.writes:
            actor.wait([call])
        return proceed()


# ---- calls


def _call(actor: _Actor, request: Request) -> _Call:
    operation, parameters = faults.operation_of(request), faults.parameters_of(request)
    reads: set[Item] = set()
    writes: set[Item] = set()
    if operation == _BATCH:
        for name, batch in parameters["RequestItems"].items():
            reads |= {_item(name, key) for key in batch["Keys"]}
    elif operation == "TransactWriteItems":
        for verb, write in (each for step in parameters["TransactItems"] for each in step.items()):
            (reads if verb == "ConditionCheck" else writes).add(_written_item(write))
    elif operation in ("PutItem", "UpdateItem", "DeleteItem"):
        writes = {_written_item(parameters)}
    else:  # Query and Scan have no key
        reads = {_item(parameters["TableName"], parameters.get("Key"))}
    scheduled = {table for table, _ in reads | writes} - UNREAD
    text = f"{actor.name}: {operation} {' '.join(sorted(scheduled))}"
    return _Call(
        text,
        frozenset(item for item in reads if item[0] in scheduled),
        frozenset(item for item in writes if item[0] in scheduled),
    )


def _written_item(write: dict[str, Any]) -> Item:
    name = write["TableName"]
    key = write.get("Key") or {part: write["Item"][part] for part in tables()[name].table_key_attrs}
    return _item(name, key)


def _item(table_name: str, key: dict[str, Any] | None) -> Item:
    return table_name.rpartition("-")[2], json.dumps(key, sort_keys=True) if key else ""


def _read_torn(actor: _Actor, request: Request, proceed: faults.Proceed) -> Response:
    """Answer a BatchGetItem by a call for each table, in any order."""
    body, batches = request.body, faults.parameters_of(request)["RequestItems"]
    parts: dict[_Call, dict[str, Any]] = {}
    for number, name in enumerate(batches):
        request.body = json.dumps({"RequestItems": {name: batches[name]}}).encode()
        parts[_call(actor, request)._replace(part=number)] = {name: batches[name]}
    responses: dict[str, Any] = {}
    pending = list(parts)
    while pending:
        part = actor.wait(pending)
        pending = [call for call in pending if call is not part]
        request.body = json.dumps({"RequestItems": parts[part]}).encode()
        answer = proceed()
        assert answer.status == 200
        responses |= json.loads(answer.body)["Responses"]
    request.body = body
    return faults.answer(request, json.dumps({"Responses": responses, "UnprocessedKeys": {}}))
