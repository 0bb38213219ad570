"""The cost of a million flows, from the measurements and AWS's list prices.

A complete flow: sign-in page, sign-in, consent, code exchange, one refresh, userinfo. That of a user who returns:
authorization with session and remembered consent, code exchange, one refresh, userinfo.
"""

import json
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from infra.local.state import CHECKOUT
from tests.bench.endpoints import Endpoint
from tests.bench.flow import REDIRECTED

PRICES = Path(__file__).with_name("prices.json")
MILLION = 1_000_000
FULL_CPU = 1769  # MB of memory with which Lambda provides one whole virtual processor
LATENCY = 4.0  # ms per DynamoDB call
SIGNATURES = 4  # an access token and an ID token, twice


def assumptions(memory: int) -> list[str]:
    """Return the assumptions behind the figures, one sentence each."""
    return [
        f"The function has {memory} MB, so {memory / FULL_CPU:.2f} of a processor as fast as this machine's.",
        f"A request takes its CPU time on that share, and {LATENCY:g} ms for each DynamoDB call.",
        "Not included: cold starts, failures, the free tier, storage, outgoing traffic, Lambda's own log lines, and "
        "monthly costs (metrics, alarms).",
        "DynamoDB units are computed from the sizes of the records, including their indexes.",
    ]


def memory_size() -> int:
    """Return the memory of the deployed function in MB."""
    size: int = json.loads((CHECKOUT / ".chalice" / "config.json").read_text())["lambda_memory_size"]
    return size


def per_million(
    endpoints: Mapping[str, Endpoint], steps: tuple[str, ...], memory: int
) -> dict[str, tuple[float, float]]:
    """Return the amount and the price of a million flows with these steps, by billed unit."""
    flow = [step for name, step in endpoints.items() if name.partition(REDIRECTED)[0] in steps]
    # Lambda counts whole milliseconds.
    duration = sum(ceil(step.milliseconds * FULL_CPU / memory + step.calls * LATENCY) for step in flow)
    amounts = {
        "lambda_gb_second": duration / 1000 * memory / 1024,
        "lambda_request": len(flow),
        "http_api_request": len(flow),
        "dynamodb_read_unit": sum(step.reads for step in flow),
        "dynamodb_write_unit": sum(step.writes for step in flow),
        "log_gb": sum(step.log_bytes for step in flow) / 1e9,
    }
    price_list = prices()["prices"]
    return {name: (amount * MILLION, amount * MILLION * price_list[name]["price"]) for name, amount in amounts.items()}


def signing_in_kms() -> float:
    """Return the additional price of a million flows when KMS signs each token."""
    price: float = prices()["prices"]["kms_request"]["price"]
    return SIGNATURES * MILLION * price


def prices() -> dict[str, Any]:
    """Return the list prices and their date."""
    document: dict[str, Any] = json.loads(PRICES.read_text())
    return document
