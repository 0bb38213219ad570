"""docs/conformance.md is generated from the spec marks and the list of clauses, and both are checked."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.specifications.clauses import ELSEWHERE, SPECIFICATIONS
from tests.specifications.clauses.clause import Clause, Specification
from tests.tools import conformance, specs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
LEVELS = {"MUST", "MUST NOT", "REQUIRED", "SHOULD", "SHOULD NOT", "RECOMMENDED", "NOT RECOMMENDED"}
EVERY = [(specification, clause) for specification in SPECIFICATIONS for clause in specification.clauses]
EXAMPLE = Specification(
    "RFC 1",
    "An Example",
    (
        Clause("1 a", "MUST", "A test covers this."),
        Clause("1 b", "SHOULD", "No test | covers this.", not_held="It is not implemented."),
        Clause("2", "MUST NOT", "This is about clients.", not_applicable="This is a server."),
    ),
)


def test_page_is_up_to_date(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    page, session = tmp_path / "conformance.md", request.session
    selected = session.config.getoption("keyword") or session.config.getoption("markexpr")
    files = {path for path in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in path.parts}
    if not selected and {item.path for item in session.items} >= files:
        # A run of all tests has all the marks. Collecting them in another process takes six seconds.
        config: Any = SimpleNamespace(getoption={"--conformance": str(page)}.get)
        specs.pytest_runtestloop(cast(pytest.Session, SimpleNamespace(items=session.items, config=config)))
    else:
        arguments = ["-q", "-p", "no:cacheprovider", f"--conformance={page}"]
        done = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode in (0, 5), done.stdout + done.stderr  # 5: no test ran
        assert page.exists(), done.stdout + done.stderr
    up_to_date = PAGE.exists() and PAGE.read_text("utf-8") == page.read_text("utf-8")
    # The difference of the long tables would be unreadable.
    assert up_to_date, "docs/conformance.md is out of date. Run: make test ARGS=--conformance=docs/conformance.md"


# ---- the list of clauses


def test_names_of_clauses_are_unique() -> None:
    names = Counter(specification.id_of(clause) for specification, clause in EVERY)
    assert [name for name, times in names.items() if times > 1] == []
    for specification, clause in EVERY:
        section, _, letter = clause.section.partition(" ")
        assert re.fullmatch(r"[0-9]+(\.[0-9]+)*", section), clause
        assert re.fullmatch("[a-z]{0,2}", letter), clause
        alone = [other for other in specification.clauses if other.section.partition(" ")[0] == section]
        assert letter or len(alone) == 1, f"{specification.id_of(clause)} needs a letter"
    assert not {specification.name for specification in SPECIFICATIONS} & set(ELSEWHERE)


@pytest.mark.parametrize("specification", SPECIFICATIONS, ids=lambda specification: specification.name)
def test_clause_has_a_level_a_sentence_and_at_most_one_reason(specification: Specification) -> None:
    for clause in specification.clauses:
        assert clause.level in LEVELS, clause
        for text in filter(None, (clause.what, clause.not_held, clause.not_applicable, clause.note)):
            assert re.fullmatch(r"\S.*[.)]", text), clause
            assert "\n" not in text, clause
        assert not (clause.not_held and clause.not_applicable), clause


# ---- marks


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the specifications by one small example."""
    monkeypatch.setattr(conformance, "SPECIFICATIONS", (EXAMPLE,))
    monkeypatch.setattr(conformance, "ELSEWHERE", ("RFC 2",))


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (["RFC 1 §1 a"], []),
        (["RFC 1 §1 a", "RFC 1 §1", "RFC 2 §77"], []),  # a whole section, and a specification without a table
        (["RFC 1 §1 a", "RFC 1 §1 c"], ["RFC 1 §1 c: no such clause"]),
        (["RFC 1 §1 a", "RFC 1 §3"], ["RFC 1 §3: no such clause"]),
        (["RFC 1 §1 a", "RFC 3 §1"], ["RFC 3 §1: no such clause"]),
        (["RFC 1 §1"], ["RFC 1 §1 a: no test covers it"]),
        (["RFC 1 §1 a", "RFC 1 §1 b"], ["RFC 1 §1 b: test_x.py::test_y covers it; remove the reason"]),
        (["RFC 1 §1 a", "RFC 1 §2"], ["RFC 1 §2: test_x.py::test_y covers it; remove the reason"]),
    ],
)
def test_problems_are_reported(marks: list[str], expected: list[str]) -> None:
    problems = conformance.problems({mark: {"test_x.py::test_y"} for mark in marks})
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(start)


@pytest.mark.usefixtures("example")
def test_page_counts_the_clauses_and_names_their_tests() -> None:
    page = conformance.page({"RFC 1 §1 a": {"tests/test_x.py::test_y", "tests/test_x.py::test_a"}})
    assert page.endswith("""
| specification | held | not held | not applicable |
|---|---:|---:|---:|
| RFC 1 | 1 | 1 | 1 |
| total | 1 | 1 | 1 |

## RFC 1: An Example

| clause | level | summary | tests |
|---|---|---|---|
| §1 a | MUST | A test covers this. | `test_x.py::test_a`<br>`test_x.py::test_y` |
| §1 b | SHOULD | No test \\| covers this. | **not held**: It is not implemented. |
| §2 | MUST NOT | This is about clients. | **not applicable**: This is a server. |
""")
