"""`python -m tests.bench`: measure, print the report, write the figures. `--help` lists the options."""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import cost, flow, load, report
from tests.bench.dynamodb_local import Skipped, dynamodb_local
from tests.bench.services import STAGE, services, services_with_copies

# The largest acceptable figures, by their names in the report: ratios, except for the memory.
TARGETS = {
    "code exchange / one boto3 UpdateItem and two RS256 signatures": 0.95,
    "refresh / one boto3 UpdateItem and two RS256 signatures": 0.95,
    "introspection / the same with boto3": 0.5,
    "cold import and first token / import of a simple application": 0.5,
    "first token after a snapshot / calibration loop": 8.4,  # 12 ms where the loop takes 1.43 ms
    "peak memory, MB": 50,
}


def main() -> None:
    """Measure and report. The application runs as in Lambda; DynamoDB and KMS run in another process."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions, to check that it works")
    parser.add_argument("--warm", action="store_true", help="skip the cold starts, which take a minute")
    parser.add_argument("--most-records", metavar="N", type=int, default=100_000, help="of each kind, for the growth")
    parser.add_argument(
        "--dynamodb-local",
        metavar="FOLDER",
        type=Path,
        help="also count the units of DynamoDB Local, from its jar here",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with services() as environment:
        os.environ.update(environment)
        figures = measure(environment, quick=arguments.quick, cold=not arguments.warm)
    _print_progress("growth")
    figures["growth"] = _growth(arguments.most_records, 1 if arguments.quick else 9)
    _print_progress("DynamoDB Local")
    figures["dynamodb_local"] = _units(arguments.dynamodb_local, figures["endpoints"])
    print(report.markdown(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(environment: dict[str, str], *, quick: bool, cold: bool) -> dict[str, Any]:
    """Return all figures."""
    from tests.bench.endpoints import Bench  # imports the application, which needs this environment

    bench = Bench()
    _print_progress("endpoints")
    endpoints, calibrations = bench.endpoints(5 if quick else 150)
    calibration = median(calibrations)
    _print_progress("code exchange")
    exchange = bench.exchange(20 if quick else 400)
    figures: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "load_average": os.getloadavg(),
        "calibration_ms": calibration,
        "endpoints": {
            name: {
                "cpu_ms": endpoint.milliseconds,
                "ratio": endpoint.milliseconds / calibration,
                "boto3_ms": endpoint.boto3_milliseconds,
                "calls": endpoint.calls,
                "reads": endpoint.reads,
                "writes": endpoint.writes,
                "log_bytes": endpoint.log_bytes,
            }
            for name, endpoint in endpoints.items()
        },
        "exchange": {
            "cpu_ms": exchange.exchange,
            "refresh_ms": exchange.refresh,
            "bare_ms": exchange.minimum,
            "ratio": exchange.exchange / exchange.minimum,
            "refresh_ratio": exchange.refresh / exchange.minimum,
        },
    }
    if cold:
        figures |= _cold(bench, environment, 3 if quick else 15)
    figures["targets"] = _targets(figures)
    memory = cost.memory_size()
    complete = cost.per_million(endpoints, flow.COMPLETE, memory)
    returning = cost.per_million(endpoints, flow.RETURNING, memory)
    price_list = cost.prices()
    figures["cost"] = {
        "date": price_list["date"],
        "region": price_list["region"],
        "currency": price_list["currency"],
        "complete": {name: {"amount": amount, "price": price} for name, (amount, price) in complete.items()},
        "returning": {name: {"amount": amount, "price": price} for name, (amount, price) in returning.items()},
        "signing_in_kms": cost.signing_in_kms(),
        "key_month": price_list["prices"]["kms_key_month"]["price"],
        "assumptions": cost.assumptions(memory),
    }
    figures["load"] = {
        "memory": memory,
        "sign_in_cpu_ms": endpoints[flow.SIGN_IN].milliseconds,
        "complete": load.of_flow(endpoints, flow.COMPLETE, memory),
        "returning": load.of_flow(endpoints, flow.RETURNING, memory),
        "key_ring_bytes": bench.key_ring_bytes(),
    }
    return figures


def _targets(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each figure that has a target and was measured."""
    introspection = figures["endpoints"][flow.INTROSPECTION]
    values = [
        figures["exchange"]["ratio"],
        figures["exchange"]["refresh_ratio"],
        introspection["cpu_ms"] / introspection["boto3_ms"],
    ]
    if "cold" in figures:
        from tests.bench import cold

        starts = figures["cold"]["starts"]
        restored = starts[cold.RESTORED]["token"]["ratio"]
        values += [
            figures["cold"]["token_ratio"],
            restored,
            max(starts[name]["peak_mb"] for name in (cold.APP, cold.RESTORED)),
        ]
    return [
        {"name": name, "value": value, "target": target}
        for (name, target), value in zip(TARGETS.items(), values, strict=False)
    ]


def _growth(most: int, repetitions: int) -> dict[str, Any]:
    """Return the costs by the number of records and of grants in a session, on services of their own."""
    from tests.bench import growth
    from tests.bench.endpoints import Bench

    with services_with_copies() as (environment, copy):
        os.environ.update(environment)
        bench = Bench()
        grants = growth.by_grants(bench, copy, growth.GRANTS, repetitions)
        records = growth.by_records(bench, copy, tuple(n for n in growth.RECORDS if n <= most), repetitions)
    return {"records": growth.figures(records), "grants": growth.figures(grants)}


def _units(folder: Path | None, rows: dict[str, Any]) -> dict[str, Any]:
    """Return the units that DynamoDB Local reports for each endpoint beside the computed ones, or why it does not."""
    from tests.bench.endpoints import Bench

    try:
        with services() as environment, dynamodb_local(folder, STAGE) as endpoint:
            os.environ.update(environment | {"SIGNET_DYNAMODB_ENDPOINT": endpoint})
            reported = Bench().reported_units()
    except Skipped as reason:
        return {"skipped": str(reason)}
    return {
        "requests": {
            name: {"computed": row["reads"] + row["writes"], "reported": reported[name]} for name, row in rows.items()
        }
    }


def _cold(bench: Any, environment: dict[str, str], repetitions: int) -> dict[str, Any]:
    from tests.bench import cold

    def events() -> dict[str, flow.Event]:
        return {cold.FIRST: flow.discovery(), cold.TOKEN: flow.code_exchange(bench.code(), bench.client)}

    _print_progress("package")
    with cold.trees() as trees:
        _print_progress("cold starts")
        starts = cold.starts(trees, environment, events, repetitions)
        imported = cold.imports(trees, environment, events)
    marks = {"import": cold.IMPORT, "discovery": cold.FIRST, "token": cold.TOKEN}
    rows: dict[str, Any] = {}
    for name, start in starts.items():
        calibration = median(start.calibrations)
        rows[name] = {
            short: {
                "cpu_ms": start.milliseconds(mark),
                "wall_ms": start.elapsed(mark),
                "ratio": start.milliseconds(mark) / calibration,
            }
            for short, mark in marks.items()
            if mark in start.cpu
        } | {"peak_mb": start.megabytes}
    naive = starts["naive"].milliseconds(cold.IMPORT)
    return {
        "cold": {
            "starts": rows,
            "ratio": starts["app"].milliseconds(cold.IMPORT) / naive,
            "token_ratio": starts["app"].milliseconds(cold.TOKEN) / naive,
        },
        "imports": [{"name": name, "modules": modules, "ms": ms} for name, modules, ms in imported],
    }


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    return {
        "python": platform.python_version(),
        "processor": names[0] if names else platform.processor() or "unknown processor",
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
    }


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _print_progress(what: str) -> None:
    print(f"measuring: {what} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
