"""`python -m tests.bench [--quick] [--json FILE] [--warm]`: measure, print the report, write the figures."""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import cost, flow, report
from tests.bench.services import services

EXCHANGE_TARGET, IMPORT_TARGET = 1.5, 0.8


def main() -> None:
    """Measure and report. The application runs as in Lambda; DynamoDB and KMS run in another process."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions, to check that it works")
    parser.add_argument("--warm", action="store_true", help="skip the cold starts, which take a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with services() as environment:
        os.environ.update(environment)
        figures = measure(environment, quick=arguments.quick, cold=not arguments.warm)
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
    exchange_ms, minimum_ms = bench.exchange(20 if quick else 400)
    figures: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "calibration_ms": calibration,
        "endpoints": {
            name: {
                "cpu_ms": endpoint.milliseconds,
                "ratio": endpoint.milliseconds / calibration,
                "calls": endpoint.calls,
                "reads": endpoint.reads,
                "writes": endpoint.writes,
                "log_bytes": endpoint.log_bytes,
            }
            for name, endpoint in endpoints.items()
        },
        "exchange": {
            "cpu_ms": exchange_ms,
            "bare_ms": minimum_ms,
            "ratio": exchange_ms / minimum_ms,
            "aim": EXCHANGE_TARGET,
        },
    }
    if cold:
        figures |= _cold(bench, environment, 3 if quick else 15)
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
    return figures


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
            "aim": IMPORT_TARGET,
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
