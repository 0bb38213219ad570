"""Run functions concurrently."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
TIMEOUT = 60  # seconds


def run_concurrently(functions: Iterable[Callable[[], T]]) -> list[T]:
    """Start all functions at the same moment, each in its own thread, and return their results in order."""
    waiting = list(functions)
    barrier = threading.Barrier(len(waiting), timeout=TIMEOUT)

    def run(function: Callable[[], T]) -> T:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(waiting)) as pool:
        return list(pool.map(run, waiting, timeout=TIMEOUT))
