"""A fixed piece of work. Each time is given as a multiple of it too, because the speed of a machine drifts.

Imports nothing but `time`: a fresh interpreter runs it after its own measurements.
"""

import time


def calibrate() -> float:
    """The CPU time, in milliseconds, of a loop that is always the same: about 2 ms on a machine of 2025."""
    started = time.process_time()
    table: dict[int, str] = {}
    for i in range(8_000):
        table[i % 97] = f"{i}.{len(table)}"
    "".join(table.values())
    return (time.process_time() - started) * 1000
