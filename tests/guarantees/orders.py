"""Every order in which the DynamoDB calls of concurrent actions can be executed.

Each call is atomic, and actions share nothing else, so the orders of the calls are all possible interleavings. Each
action runs in a thread that stops before each call until it is scheduled, and every possible schedule is run once.
Calls to tables that the actions do not read are not scheduled, because their order makes no difference.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from tests.support import faults
from tests.support.faults import Wire
from tests.support.threads import TIMEOUT

Action = tuple[str, Callable[[], Any]]
UNREAD = {"events", "deliveries"}


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

    def index_of(self, *prefixes: str) -> int:
        """Return the index of the first call with one of these prefixes, or the number of calls."""
        indexes = (number for number, call in enumerate(self.calls) if call.startswith(prefixes))
        return next(indexes, len(self.calls))


class _Actor(threading.Thread):
    def __init__(self, action: Action, waiting: "SimpleQueue[_Actor]"):
        super().__init__(name=action[0], daemon=True)
        self._action, self._waiting = action[1], waiting
        self._turn = threading.Semaphore(0)
        self.calls: list[str] = []
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._action()
        except BaseException as error:
            self.error = error
        self.done = True
        self._waiting.put(self)

    def wait(self, call: str) -> None:
        """Wait, in the thread of the action, until the call is scheduled."""
        self.calls.append(call)
        self._waiting.put(self)
        assert self._turn.acquire(timeout=TIMEOUT)

    def run_to_next_call(self) -> None:
        """Let the action run to its next call or to its end, from the scheduling thread. Raises the action's error."""
        if self.is_alive():
            self._turn.release()
        else:
            self.start()
        assert self._waiting.get(timeout=TIMEOUT) is self
        if self.error:
            raise self.error


def every_order(wire: Wire, scene: Callable[[], list[Action]]) -> Iterator[Order]:
    """Set up the scene and run its actions once for each order. Actions with the same name must be identical."""
    choices: list[tuple[int, int]] = []  # the index of the choice, and the number of candidates
    while True:
        yield _run(wire, scene(), choices)
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return
        choices[-1] = choices[-1][0] + 1, choices[-1][1]


def _run(wire: Wire, actions: list[Action], choices: list[tuple[int, int]]) -> Order:
    """Run the order that begins with `choices`; later choices are appended to it."""
    waiting: SimpleQueue[_Actor] = SimpleQueue()
    actors = [_Actor(action, waiting) for action in actions]
    calls: list[str] = []
    position = 0

    def stop_before_call(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
        actor, tables = threading.current_thread(), _tables(request)
        if isinstance(actor, _Actor) and not UNREAD.issuperset(tables):
            actor.wait(f"{actor.name}: {faults.operation_of(request)} {' '.join(tables)}")
        return proceed()

    with wire._planned(lambda _number, _operation: (stop_before_call, 1)):
        for actor in actors:
            actor.run_to_next_call()
        while candidates := _distinct_actors([actor for actor in actors if not actor.done]):
            if len(candidates) > 1:
                if position == len(choices):
                    choices.append((0, len(candidates)))
                assert choices[position][1] == len(candidates), "the scene is not deterministic"
                chosen = candidates[choices[position][0]]
                position += 1
            else:
                (chosen,) = candidates
            calls.append(chosen.calls[-1])
            chosen.run_to_next_call()
    return Order(tuple(calls), tuple((actor.name, actor.result) for actor in actors))


def _distinct_actors(actors: list[_Actor]) -> list[_Actor]:
    """Return the actors without duplicates: of those with one name that have not started, only the first."""
    new_names: set[str] = set()
    distinct = []
    for actor in actors:
        if len(actor.calls) > 1 or actor.name not in new_names:
            distinct.append(actor)
        if len(actor.calls) == 1:
            new_names.add(actor.name)
    return distinct


def _tables(request: AWSPreparedRequest) -> list[str]:
    """Return the tables of a call, without the prefix of their names."""
    parameters = faults.parameters_of(request)
    names = [parameters["TableName"]] if "TableName" in parameters else [*parameters.get("RequestItems", {})]
    names += [step[verb]["TableName"] for step in parameters.get("TransactItems", []) for verb in step]
    return list(dict.fromkeys(name.rpartition("-")[2] for name in names))
