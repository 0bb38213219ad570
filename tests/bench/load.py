"""The load model: what one environment of the function serves, and what a number of sign-ins per second takes.

`docs/performance.md` explains it, and names the pages of AWS that the limits are from.
"""

from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any

from tests.bench.cost import FULL_CPU, LATENCY, SIGNATURES
from tests.bench.endpoints import Endpoint
from tests.bench.flow import REDIRECTED

RATES = (10, 1_000, 100_000)  # flows per second
REQUESTS = 10  # per second, that Lambda accepts for each unit of the concurrency quota


def steps_of(endpoints: Mapping[str, Endpoint], names: tuple[str, ...]) -> dict[str, Endpoint]:
    """Return the requests of a flow, with redirects within the server."""
    return {name: step for name, step in endpoints.items() if name.partition(REDIRECTED)[0] in names}


def milliseconds(step: Endpoint, memory: int) -> float:
    """Return how long a request occupies an environment."""
    return step.milliseconds * FULL_CPU / memory + step.calls * LATENCY


def of_flow(endpoints: Mapping[str, Endpoint], names: tuple[str, ...], memory: int) -> dict[str, Any]:
    """Return what one flow with these requests takes, and what RATES of them take in a second."""
    steps = steps_of(endpoints, names)
    occupied = sum(milliseconds(step, memory) for step in steps.values())
    reads, writes = sum(step.reads for step in steps.values()), sum(step.writes for step in steps.values())
    tables: Counter[str] = Counter()
    for step in steps.values():
        tables.update(step.table_writes)
    return {
        "requests": len(steps),
        "ms": occupied,
        "cpu_ms": sum(step.milliseconds for step in steps.values()),
        "reads": reads,
        "writes": writes,
        "table_writes": dict(tables),
        "per_environment": 1000 / occupied,
        "rates": [
            {
                "rate": rate,
                "requests": rate * len(steps),
                "busy": rate * occupied / 1000,
                "concurrency": ceil(max(rate * occupied / 1000, rate * len(steps) / REQUESTS)),
                "reads": rate * reads,
                "writes": rate * writes,
                "signatures": rate * SIGNATURES,
            }
            for rate in RATES
        ],
    }
