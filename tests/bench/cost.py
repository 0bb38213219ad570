"""What a million complete flows cost, from what was measured and from AWS's list prices.

A flow: sign-in page, sign-in, consent, code exchange, one refresh, userinfo.
"""

import json
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from infra.state import CHECKOUT
from tests.bench.endpoints import Endpoint
from tests.bench.flow import COMPLETE, REDIRECTED

PRICES = Path(__file__).with_name("prices.json")
MILLION = 1_000_000
FULL_CPU = 1769  # MB: what AWS gives a whole virtual processor for
LATENCY = 4.0  # ms that one DynamoDB call is waited for
SIGNATURES = 4  # an access token and an ID token, twice


def assumptions(memory: int) -> list[str]:
    """What the figures rest on, a sentence each."""
    return [
        f"The function has {memory} MB, hence {memory / FULL_CPU:.2f} of a processor as fast as this machine's.",
        f"A request lasts as long as its CPU time takes on that share, and {LATENCY:g} ms for each DynamoDB call.",
        "Left out: cold starts, failures, the free tier, storage, traffic out, Lambda's own log lines, and what is "
        "paid by the month (metrics, alarms).",
        "DynamoDB's units are computed from the sizes of the records, their indexes included.",
    ]


def memory_size() -> int:
    """The function's memory in MB, as it is deployed."""
    size: int = json.loads((CHECKOUT / ".chalice" / "config.json").read_text())["lambda_memory_size"]
    return size


def per_million(endpoints: Mapping[str, Endpoint], memory: int) -> dict[str, tuple[float, float]]:
    """By what is paid for: how much of it a million flows take, and its price."""
    flow = [step for name, step in endpoints.items() if name.partition(REDIRECTED)[0] in COMPLETE]
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
    known = prices()["prices"]
    return {name: (amount * MILLION, amount * MILLION * known[name]["price"]) for name, amount in amounts.items()}


def signing_in_kms() -> float:
    """What a million flows cost in addition where KMS signs each token."""
    price: float = prices()["prices"]["kms_request"]["price"]
    return SIGNATURES * MILLION * price


def prices() -> dict[str, Any]:
    """The list prices, with their date."""
    found: dict[str, Any] = json.loads(PRICES.read_text())
    return found
