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
        f"Load average {figures['load_average'][0]:.1f}. In brackets: multiples of that loop, measured at the same "
        "time.",
        _targets(figures["targets"]),
        _endpoints(figures["endpoints"]),
        _exchange(figures["exchange"]),
    ]
    if "cold" in figures:
        parts += [_cold(figures["cold"]), _imports(figures["imports"])]
    growth = figures["growth"]
    parts += [
        _growth("records of each kind", growth["records"]),
        _growth("grants in the session", growth["grants"]),
        _units(figures["dynamodb_local"]),
        _cost(figures["cost"]),
        load_table("complete flows", figures["load"]["complete"]),
        load_table("flows of users who return", figures["load"]["returning"]),
    ]
    return "\n\n".join(parts)


def _targets(rows: Iterable[dict[str, Any]]) -> str:
    return _table(
        ("Target", "measured", "at most", ""),
        (
            (
                row["name"],
                f"{row['value']:.2f}",
                f"{row['target']:g}",
                "met" if row["value"] <= row["target"] else "**not met**",
            )
            for row in rows
        ),
    )


def _endpoints(rows: dict[str, Any]) -> str:
    return _table(
        ("One request, warm", "CPU ms", "with boto3", "DynamoDB calls", "read units", "write units"),
        (
            (
                name,
                _ms(row["cpu_ms"], row["ratio"]),
                f"{row['boto3_ms']:.2f}",
                row["calls"],
                f"{row['reads']:g}",
                f"{row['writes']:g}",
            )
            for name, row in rows.items()
        ),
    )


def _growth(what: str, rows: list[dict[str, Any]]) -> str:
    return _table(
        (f"CPU ms, calls, read and write units with {what}", *(f"{row['size']:,}" for row in rows)),
        (
            (
                name,
                *("{cpu_ms:.2f}, {calls}, {reads:g} and {writes:g}".format(**row["requests"][name]) for row in rows),
            )
            for name in rows[0]["requests"]
        ),
    )


def _units(figures: dict[str, Any]) -> str:
    if "skipped" in figures:
        return f"DynamoDB Local: skipped, {figures['skipped']}."
    table = _table(
        ("Capacity units of DynamoDB Local", "computed", "reported"),
        ((name, f"{row['computed']:g}", f"{row['reported']:g}") for name, row in figures["requests"].items()),
    )
    return (
        f"{table}\n\nDynamoDB Local counts no unit for a missing item, and four for each table and index that a "
        "transaction writes to, whatever it writes: compare the requests without either."
    )


def load_table(what: str, flow: dict[str, Any]) -> str:
    """Return what a number of flows in a second takes."""
    rows = {
        "requests": "HTTP API and Lambda, requests",
        "busy": "Lambda, environments that are busy at a time",
        "concurrency": "Lambda, the concurrency quota for this",
        "reads": "DynamoDB, read units",
        "writes": "DynamoDB, write units",
        "signatures": "KMS, requests with `Signing=kms`",
    }
    return _table(
        (f"{what[0].upper()}{what[1:]} in a second", *(f"{rate['rate']:,}" for rate in flow["rates"])),
        ((title, *(_count(rate[name]) for rate in flow["rates"])) for name, title in rows.items()),
    )


def _exchange(row: dict[str, float]) -> str:
    return (
        f"A code exchange takes {row['cpu_ms']:.2f} ms and a refresh {row['refresh_ms']:.2f} ms, {row['ratio']:.2f} "
        f"and {row['refresh_ratio']:.2f} times one UpdateItem of boto3 and two RS256 signatures "
        f"({row['bare_ms']:.2f} ms)."
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
        f"token {cold['token_ratio']:.2f}."
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


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
