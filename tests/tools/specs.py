"""List the clauses of specifications with the tests that cover them, from the `spec` marks: a pytest plugin.

`pytest --specs` prints the clauses that are marked. `pytest --conformance` prints the page docs/conformance.md, and
`--conformance=docs/conformance.md` writes it. Both run no tests.
"""

from pathlib import Path

import pytest

from tests.tools import conformance


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--specs", action="store_true", help="print the marked clauses with their tests, and run nothing")
    parser.addoption(
        "--conformance",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print every clause with its tests, or write them to FILE, and run nothing",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print a table instead of running the tests."""
    target: str | None = session.config.getoption("--conformance")
    if target is None and not session.config.getoption("--specs"):
        return None
    marks = marked(session.items)
    if target is None:
        _print(session, table(marks))
        return True
    if problems := conformance.problems(marks):
        raise pytest.UsageError("\n".join(problems))
    page = conformance.page(marks)
    if target == "-":
        _print(session, page.splitlines())
    else:
        Path(target).write_text(page, "utf-8")
    return True


def _print(session: pytest.Session, lines: list[str]) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter):
        reporter.ensure_newline()
        for line in lines:
            reporter.write_line(line)


def marked(items: list[pytest.Item]) -> dict[str, set[str]]:
    """Return the clauses that the marks name, each with its tests."""
    marks: dict[str, set[str]] = {}
    for item in items:
        for mark in item.iter_markers("spec"):
            for clause in mark.args:
                # The cases of a parametrised test count as one test.
                marks.setdefault(clause, set()).add(item.nodeid.partition("[")[0])
    return marks


def table(marks: dict[str, set[str]]) -> list[str]:
    """Return the lines of the table: each clause, in the order of their numbers, followed by its tests."""
    lines: list[str] = []
    for clause in sorted(marks, key=_order):
        lines += [clause, *(f"    {test}" for test in sorted(marks[clause]))]
    return lines


def _order(clause: str) -> list[tuple[int, str]]:
    """Return a sort key that puts RFC 6749 before RFC 10000, and §4.2 before §4.10."""
    words = clause.replace("§", " § ").replace(".", " . ").split()
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words]
