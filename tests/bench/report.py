"""Format the figures as Markdown, for the terminal and the README."""

from collections.abc import Iterable, Sequence
from typing import Any

MARKS = ("import", "discovery", "token")
_BILLED_UNITS = {
    "lambda_gb_second": "Lambda, GB-seconds",
    "lambda_request": "Lambda, requests",
    "http_api_request": "HTTP API, requests",
    "dynamodb_read_unit": "DynamoDB, read units",
    "dynamodb_write_unit": "DynamoDB, write units",
    "log_gb": "CloudWatch Logs, GB",
}


def markdown(figures: dict[str, Any]) -> str:
    """Return the whole report. `figures` is the document of `--json`."""
    machine = figures["machine"]
    parts = [
        f"Measured on {figures['date']}: Python {machine['python']}, {machine['processors']} × {machine['processor']} "
        f"({machine['architecture']}); calibration loop {figures['calibration_ms']:.2f} ms. "
        "In brackets: multiples of that loop, measured at the same time.",
        _endpoints(figures["endpoints"]),
        _exchange(figures["exchange"]),
    ]
    if "cold" in figures:
        parts += [_cold(figures["cold"]), _imports(figures["imports"])]
    return "\n\n".join([*parts, _cost(figures["cost"])])


def _endpoints(rows: dict[str, Any]) -> str:
    return _table(
        ("One request, warm", "CPU ms", "DynamoDB calls", "read units", "write units"),
        (
            (name, _ms(row["cpu_ms"], row["ratio"]), row["calls"], f"{row['reads']:g}", f"{row['writes']:g}")
            for name, row in rows.items()
        ),
    )


def _exchange(row: dict[str, float]) -> str:
    return (
        f"A code exchange takes {row['cpu_ms']:.2f} ms, {row['ratio']:.2f} times its minimum work, one UpdateItem and "
        f"one BatchGetItem of boto3 and two RS256 signatures ({row['bare_ms']:.2f} ms). The target is below "
        f"{row['aim']}."
    )


def _cold(cold: dict[str, Any]) -> str:
    table = _table(
        ("Cold start, CPU ms", "import", "first discovery", "first token", "wall clock", "peak MB"),
        (
            (
                name,
                *(_ms(row[mark]["cpu_ms"], row[mark]["ratio"]) if mark in row else "" for mark in MARKS),
                f"{max(row[mark]['wall_ms'] for mark in MARKS if mark in row):.0f}",
                f"{row['peak_mb']:.0f}",
            )
            for name, row in cold["starts"].items()
        ),
    )
    return (
        f"{table}\n\nThe cold import of the application, with bytecode, takes {cold['ratio']:.2f} of a naive one "
        f"(chalice, jwt, passlib, jinja2 and a boto3 resource); with its DynamoDB and KMS clients, keys and a first "
        f"token {cold['token_ratio']:.2f}. The target is below {cold['aim']} for the import."
    )


def _imports(rows: Iterable[dict[str, Any]]) -> str:
    return _table(
        ("Imported for the first token", "modules", "ms under -X importtime"),
        ((row["name"], row["modules"], f"{row['ms']:.0f}") for row in rows),
    )


def _cost(cost: dict[str, Any]) -> str:
    tables = [
        _table((f"A million {kind} flows", "amount", cost["currency"]), _cost_rows(cost[kind]))
        for kind in ("complete", "returning")
    ]
    assumptions = " ".join(cost["assumptions"])
    explanation = (
        f"List prices of {cost['region']} on {cost['date']}. {assumptions} Signing in KMS adds "
        f"{cost['signing_in_kms']:.2f}; the key costs {cost['key_month']:.2f} a month."
    )
    return "\n\n".join([*tables, explanation])


def _cost_rows(parts: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = [(_BILLED_UNITS[name], _amount(part["amount"]), f"{part['price']:.2f}") for name, part in parts.items()]
    return [*rows, ("Total", "", f"{sum(part['price'] for part in parts.values()):.2f}")]


def _ms(milliseconds: float, ratio: float) -> str:
    return f"{milliseconds:.2f} ({ratio:.2f})" if milliseconds < 100 else f"{milliseconds:.0f} ({ratio:.0f})"


def _amount(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
