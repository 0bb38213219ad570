"""A fixed amount of work. Times are also reported as multiples of it, because the speed of a machine varies.

Imports only `time`, because a new interpreter runs it after its own measurements.
"""

import time


def calibrate() -> float:
    """Return the CPU time of a fixed loop in milliseconds: about 2 ms on a machine of 2025."""
    started = time.process_time()
    table: dict[int, str] = {}
    for i in range(8_000):
        table[i % 97] = f"{i}.{len(table)}"
    "".join(table.values())
    return (time.process_time() - started) * 1000
