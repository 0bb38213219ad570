"""`pytest --specs`: which tests hold which clause, from their `spec` marks. Runs nothing."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--specs", action="store_true", help="print clause → tests, and run nothing")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print the table instead of running the tests."""
    if not session.config.getoption("--specs"):
        return None
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter):
        reporter.ensure_newline()
        for line in table(session.items):
            reporter.write_line(line)
    return True


def table(items: list[pytest.Item]) -> list[str]:
    """The lines: each clause, then its tests; clauses in the order of their numbers."""
    found: dict[str, set[str]] = {}
    for item in items:
        for mark in item.iter_markers("spec"):
            for clause in mark.args:
                # The cases of one parametrised test are one test.
                found.setdefault(clause, set()).add(item.nodeid.partition("[")[0])
    lines: list[str] = []
    for clause in sorted(found, key=_order):
        lines += [clause, *(f"    {test}" for test in sorted(found[clause]))]
    return lines


def _order(clause: str) -> list[tuple[int, str]]:
    """RFC 6749 before RFC 10000, §4.2 before §4.10."""
    words = clause.replace("§", " § ").replace(".", " . ").split()
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words]
