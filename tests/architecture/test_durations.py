"""The recorded durations of test files, and the order that follows from them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.tools import durations

NAMESPACE = cast(Any, SimpleNamespace)


def test_every_recorded_file_exists() -> None:
    assert [name for name in durations.read() if not (durations.ROOT / name).exists()] == []


def test_recorder_adds_up_a_file_keeps_others_and_drops_short_and_deleted_ones(tmp_path: Path) -> None:
    file = tmp_path / "durations.json"
    file.write_text('{"tests/test_deleted.py": 9.0, "tests/documents/test_readme.py": 2.0}')
    recorder = durations.Recorder(file)
    for name, seconds in [("test_story", 0.75), ("test_story", 0.5), ("test_aidbox", 0.9)]:
        recorder.pytest_runtest_logreport(
            NAMESPACE(nodeid=f"tests/documents/{name}.py::test_x[a::b]", duration=seconds)
        )
    recorder.pytest_sessionfinish()
    assert durations.read(file) == {"tests/documents/test_readme.py": 2.0, "tests/documents/test_story.py": 1.2}


class Item:
    """A test item with a path and a mark."""

    def __init__(self, name: str, mark: str = ""):
        self.path = durations.ROOT / "tests" / f"{name}.py"
        self.mark = mark

    def get_closest_marker(self, name: str) -> bool:
        return name == self.mark


def select(monkeypatch: pytest.MonkeyPatch, items: list[Item], *, quick: bool) -> list[str]:
    recorded = {"tests/rules/b.py": durations.QUICK_LIMIT, "tests/rules/c.py": durations.QUICK_LIMIT + 0.1}
    monkeypatch.setattr(durations, "read", lambda: recorded)
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config = SimpleNamespace(getoption=lambda name: quick and name == "--quick", hook=hook)
    durations.pytest_collection_modifyitems(cast(Any, config), cast(Any, items))
    return [item.path.stem for item in items]


@pytest.mark.parametrize(("worker", "order"), [(None, ["a", "b", "c"]), ("gw0", ["c", "b", "a"])])
def test_slowest_file_is_first_in_a_parallel_run_only(
    monkeypatch: pytest.MonkeyPatch, worker: str | None, order: list[str]
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    assert select(monkeypatch, [Item(f"rules/{name}") for name in "abc"], quick=False) == order


def test_quick_does_not_import_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "read", lambda: {"tests/rules/b.py": durations.QUICK_LIMIT + 0.1})
    tests = durations.ROOT / "tests"
    for quick in (True, False):
        config = cast(Any, SimpleNamespace(getoption=lambda name, quick=quick: quick and name == "--quick"))
        ignored = [
            path
            for path in ("rules", "rules/a.py", "rules/b.py", "browser", "browser/d.py", "conftest.py", ".")
            if durations.pytest_ignore_collect(tests / path, config)
        ]
        assert ignored == (["rules/b.py", "browser", "browser/d.py"] if quick else [])


def test_quick_leaves_out_slow_files_marks_and_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    items = [Item("rules/a"), Item("rules/b"), Item("rules/c"), Item("browser/d"), Item("deployment/e")]
    items += [Item("rules/f", "browser"), Item("rules/g", "slow"), Item("rules/h", "spec")]
    assert select(monkeypatch, items, quick=True) == ["a", "b", "h"]
