"""Many at once."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60


def at_once(actions: Iterable[Callable[[], T]]) -> list[T]:
    """Start all actions at the same moment, each in a thread of its own; what they return, in order."""
    waiting = list(actions)
    barrier = threading.Barrier(len(waiting), timeout=PATIENCE)

    def run(action: Callable[[], T]) -> T:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(waiting)) as pool:
        return list(pool.map(run, waiting, timeout=PATIENCE))
