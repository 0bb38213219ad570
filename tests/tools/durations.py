"""A pytest plugin that uses the durations of test files, which are recorded in `tests/durations.json`.

A parallel run starts the slowest files first: xdist gives each process whole files, in the order of collection, and a
process that started a slow file last would make the others wait. `pytest --quick` leaves slow files out. `pytest
--record-durations` updates the file; record on a machine that does nothing else.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "durations.json"
# Files that take less time are left out: their order does not matter.
MIN_SECONDS = 1.0
# `--quick` leaves out files that take longer, the tests in these folders, and those with these marks.
QUICK_LIMIT = 1.0  # seconds
QUICK_FOLDERS = ("browser", "deployment")
QUICK_MARKS = ("browser", "slow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"update {FILE.name} with the times of this run")
    parser.addoption("--quick", action="store_true", help="leave out browser, deployment, and slow files and tests")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(), "record-durations")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the files that `--quick` leaves out."""
    if config.getoption("--quick") and collection_path.is_relative_to(ROOT / "tests"):
        return not is_quick_path(collection_path, read()) or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests with `--quick`. In a parallel run, sort the files, the slowest first."""
    durations = read()
    if config.getoption("--quick"):
        left_out = [item for item in items if not is_quick(item, durations)]
        items[:] = [item for item in items if is_quick(item, durations)]
        config.hook.pytest_deselected(items=left_out)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: -durations.get(_name(item.path), 0.0))


def is_quick(item: pytest.Item, durations: dict[str, float]) -> bool:
    """Return whether a test runs with `--quick`."""
    marked = any(item.get_closest_marker(mark) for mark in QUICK_MARKS)
    return not marked and is_quick_path(item.path, durations)


def is_quick_path(path: Path, durations: dict[str, float]) -> bool:
    """Return whether `--quick` collects a file or folder of tests."""
    in_folder = any(part in QUICK_FOLDERS for part in path.relative_to(ROOT).parts[1:2])
    return not in_folder and durations.get(_name(path), 0.0) <= QUICK_LIMIT


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


class Recorder:
    """Adds up the durations of the tests of each file, and writes them at the end."""

    def __init__(self, file: Path = FILE):
        self.file = file
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the duration of a test, of its setup or of its teardown."""
        self.seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write the durations, and keep those of files that were not run."""
        durations = read(self.file) | self.seconds
        kept = {name: round(seconds, 1) for name, seconds in durations.items() if (ROOT / name).exists()}
        slow = {name: kept[name] for name in sorted(kept) if kept[name] >= MIN_SECONDS}
        self.file.write_text(json.dumps(slow, indent=2) + "\n", "utf-8")


def read(file: Path = FILE) -> dict[str, float]:
    """Return the recorded seconds of each test file, or nothing when the file is missing."""
    durations: dict[str, float] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return durations
