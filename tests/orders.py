"""Every order in which several actions can reach DynamoDB.

Each call is atomic there, and nothing else is shared: the orders of the calls are all that can happen. So each action
has a thread, which stops on the wire before each of its calls until it is its turn; and the turns are given out in
every possible order, one after the other.

What nobody reads in these scenes needs no turn: its place in the order makes no difference.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from tests import faults
from tests.faults import Wire
from tests.threads import PATIENCE

Action = tuple[str, Callable[[], Any]]
UNREAD = {"events", "deliveries"}


@dataclass(frozen=True)
class Order:
    """One order: who called what, and what the actions returned, in the order in which they were given."""

    calls: tuple[str, ...]
    results: tuple[Any, ...]

    def __repr__(self) -> str:
        return " → ".join(self.calls)

    def results_of(self, name: str) -> list[Any]:
        """What the actions of this name returned."""
        return [result for given, result in self.results if given == name]

    def place(self, *beginnings: str) -> int:
        """The place of the first call that begins like this; the end if there is none."""
        places = (number for number, call in enumerate(self.calls) if call.startswith(beginnings))
        return next(places, len(self.calls))


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
        """Called on the wire: go on when it is our turn."""
        self.calls.append(call)
        self._waiting.put(self)
        assert self._turn.acquire(timeout=PATIENCE)

    def go(self) -> None:
        """Called by whoever gives the turns: to the next call, or to the end."""
        if self.is_alive():
            self._turn.release()
        else:
            self.start()
        assert self._waiting.get(timeout=PATIENCE) is self
        if self.error:
            raise self.error


def every_order(wire: Wire, scene: Callable[[], list[Action]]) -> Iterator[Order]:
    """Make the scene anew, and run its actions, for each order. Actions of one name are taken to be alike."""
    choices: list[tuple[int, int]] = []  # which was chosen, of how many
    while True:
        yield _run(wire, scene(), choices)
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return
        choices[-1] = choices[-1][0] + 1, choices[-1][1]


def _run(wire: Wire, actions: list[Action], choices: list[tuple[int, int]]) -> Order:
    """One order: that of `choices`, as far as they go; whatever is chosen after them is added."""
    waiting: SimpleQueue[_Actor] = SimpleQueue()
    actors = [_Actor(action, waiting) for action in actions]
    calls: list[str] = []
    made = 0

    def stop(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
        actor, tables = threading.current_thread(), _tables(request)
        if isinstance(actor, _Actor) and not UNREAD.issuperset(tables):
            actor.wait(f"{actor.name}: {faults.operation_of(request)} {' '.join(tables)}")
        return proceed()

    with wire._planned(lambda _number, _operation: (stop, 1)):
        for actor in actors:
            actor.go()
        while candidates := _different([actor for actor in actors if not actor.done]):
            if len(candidates) > 1:
                if made == len(choices):
                    choices.append((0, len(candidates)))
                assert choices[made][1] == len(candidates), "the scene is not the same each time"
                chosen = candidates[choices[made][0]]
                made += 1
            else:
                (chosen,) = candidates
            calls.append(chosen.calls[-1])
            chosen.go()
    return Order(tuple(calls), tuple((actor.name, actor.result) for actor in actors))


def _different(actors: list[_Actor]) -> list[_Actor]:
    """Of those of one name that have done nothing yet, one: they are alike, and so would be the orders."""
    fresh: set[str] = set()
    found = []
    for actor in actors:
        if len(actor.calls) > 1 or actor.name not in fresh:
            found.append(actor)
        if len(actor.calls) == 1:
            fresh.add(actor.name)
    return found


def _tables(request: AWSPreparedRequest) -> list[str]:
    """The kinds of records that a call is about."""
    asked = faults.asked(request)
    names = [asked["TableName"]] if "TableName" in asked else [*asked.get("RequestItems", {})]
    names += [step[verb]["TableName"] for step in asked.get("TransactItems", []) for verb in step]
    return list(dict.fromkeys(name.rpartition("-")[2] for name in names))
