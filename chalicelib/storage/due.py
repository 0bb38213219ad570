"""What an index lists as due, worked off by several threads until a time has passed."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def work_off(
    due: Iterator[T], attempt: Callable[[T], None], *, threads: int, until: float, prepare: Callable[[], None]
) -> None:
    """Attempt each entry once, in the order of `due`, and start none after `until` (of `time.monotonic`).

    `prepare` is called first, if there is any. An entry that fails does not keep the others waiting: the first error is
    raised once all threads have finished.
    """
    first = next(due, None)
    if first is None:
        return
    prepare()
    waiting, lock = [first], threading.Lock()

    def following() -> T | None:
        with lock:  # the next page is read by one thread
            return waiting.pop() if waiting else next(due, None)

    def work() -> None:
        failure: Exception | None = None
        while time.monotonic() < until and (entry := following()) is not None:
            try:
                attempt(entry)
            except Exception as error:
                failure = failure or error
        if failure:
            raise failure

    with ThreadPoolExecutor(threads) as pool:
        workers = [pool.submit(work) for _ in range(threads)]
    for worker in workers:
        worker.result()
