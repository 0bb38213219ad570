"""docs/performance.md: its units are those of the requests, and each limit of AWS names its page."""

import re

import pytest

from infra.local.state import CHECKOUT
from tests.bench import cost, flow, load
from tests.bench.endpoints import Endpoint

README = (CHECKOUT / "README.md").read_text("utf-8")
PAGE = (CHECKOUT / "docs" / "performance.md").read_text("utf-8")
# The requests of each flow, by their names in the README.
FLOWS = {
    "complete flows in a second": (
        "sign-in page",
        "sign-in (argon2id), first time in this browser",
        "consent page",
        "consent, authorization code",
        "code exchange",
        "refresh",
        "UserInfo",
    ),
    "flows of users who return in a second": (
        "authorization, with session and remembered consent",
        "code exchange, grant of a session",
        "refresh, grant of a session",
        "UserInfo, grant of a session",
    ),
}


def table(text: str, head: str) -> dict[str, list[str]]:
    """Return the rows of the table with this first head: first cell -> other cells."""
    (rows,) = re.findall(rf"^\| {re.escape(head)} \|.*\n\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows.splitlines()]
    return {first: rest for first, *rest in cells}


@pytest.mark.parametrize("what", FLOWS)
def test_units_of_a_load_are_those_of_its_requests(what: str) -> None:
    measured, rows = table(README, "one request, warm"), table(PAGE, what)
    steps = [measured[name] for name in FLOWS[what]]
    reads, writes = (sum(float(step[column]) for step in steps) for column in (-2, -1))
    for title, each in (
        ("HTTP API and Lambda, requests", len(steps)),
        ("DynamoDB, read units", reads),
        ("DynamoDB, write units", writes),
        ("KMS, requests with `Signing=kms`", cost.SIGNATURES),
    ):
        assert rows[title] == [f"{rate * each:,.0f}" for rate in load.RATES], title


def test_every_limit_of_aws_names_its_page() -> None:
    limits = table(PAGE, "limit")
    own = [name for name in limits if "https://docs.aws.amazon.com/" not in name]
    assert own == ["`ThrottlingRateLimit`, `ThrottlingBurstLimit` of the server"]
    assert len(limits) > 5


@pytest.mark.parametrize("name", sorted(file.name for file in (CHECKOUT / "docs").glob("*.md")))
def test_every_document_is_linked_in_the_readme(name: str) -> None:
    assert f"(docs/{name}" in README


def test_load_model_counts_redirects_and_waits_for_dynamodb() -> None:
    endpoints = {
        flow.SIGN_IN: Endpoint([10.0], calls=3, reads=2, writes=5, table_writes={"attempts": 5}),
        flow.SIGN_IN + flow.REDIRECTED: Endpoint([2.0], calls=1, reads=1),
        flow.REFRESH: Endpoint([1000.0], calls=9),
    }
    result = load.of_flow(endpoints, (flow.SIGN_IN,), cost.FULL_CPU // 2)
    half = cost.FULL_CPU / (cost.FULL_CPU // 2)
    assert result["requests"] == 2
    assert result["ms"] == pytest.approx((10 + 2) * half + 4 * cost.LATENCY)
    assert result["table_writes"] == {"attempts": 5}
    ten, thousand, _ = result["rates"]
    assert (ten["requests"], ten["reads"], ten["writes"]) == (20, 30, 50)
    # Lambda accepts ten requests per second for each unit: more than the busy environments need.
    assert thousand["concurrency"] == 200 > thousand["busy"] == pytest.approx(result["ms"])


def test_long_requests_need_as_much_concurrency_as_busy_environments() -> None:
    endpoints = {flow.REFRESH: Endpoint([1000.0])}
    _, thousand, _ = load.of_flow(endpoints, (flow.REFRESH,), cost.FULL_CPU)["rates"]
    assert thousand["concurrency"] == thousand["busy"] == 1000
