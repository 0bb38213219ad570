"""Which tests hold which clause, from their `spec` marks. Runs nothing.

`pytest --specs` prints clause → tests. `pytest --conformance` prints what has become of every clause in
`tests/clauses`, and `--conformance=docs/conformance.md` writes it there.
"""

from pathlib import Path

import pytest

from tests import conformance


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--specs", action="store_true", help="print clause → tests, and run nothing")
    parser.addoption(
        "--conformance",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print every clause with its tests, or write it into FILE, and run nothing",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print a table instead of running the tests."""
    goal: str | None = session.config.getoption("--conformance")
    if goal is None and not session.config.getoption("--specs"):
        return None
    found = marked(session.items)
    if goal is None:
        _print(session, table(found))
        return True
    if problems := conformance.problems(found):
        raise pytest.UsageError("\n".join(problems))
    page = conformance.page(found)
    if goal == "-":
        _print(session, page.splitlines())
    else:
        Path(goal).write_text(page, "utf-8")
    return True


def _print(session: pytest.Session, lines: list[str]) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter):
        reporter.ensure_newline()
        for line in lines:
            reporter.write_line(line)


def marked(items: list[pytest.Item]) -> dict[str, set[str]]:
    """What the tests' marks name, each with its tests."""
    found: dict[str, set[str]] = {}
    for item in items:
        for mark in item.iter_markers("spec"):
            for clause in mark.args:
                # The cases of one parametrised test are one test.
                found.setdefault(clause, set()).add(item.nodeid.partition("[")[0])
    return found


def table(found: dict[str, set[str]]) -> list[str]:
    """The lines: each clause, then its tests; clauses in the order of their numbers."""
    lines: list[str] = []
    for clause in sorted(found, key=_order):
        lines += [clause, *(f"    {test}" for test in sorted(found[clause]))]
    return lines


def _order(clause: str) -> list[tuple[int, str]]:
    """RFC 6749 before RFC 10000, §4.2 before §4.10."""
    words = clause.replace("§", " § ").replace(".", " . ").split()
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words]
