"""docs/conformance.md is what the marks and the list of clauses say, and neither of them can say nonsense."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests import conformance, specs
from tests.clauses import ELSEWHERE, SPECIFICATIONS
from tests.clauses.clause import Clause, Specification

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "conformance.md"
LEVELS = {"MUST", "MUST NOT", "REQUIRED", "SHOULD", "SHOULD NOT", "RECOMMENDED", "NOT RECOMMENDED"}
EVERY = [(specification, clause) for specification in SPECIFICATIONS for clause in specification.clauses]
EXAMPLE = Specification(
    "RFC 1",
    "An Example",
    (
        Clause("1 a", "MUST", "This is held."),
        Clause("1 b", "SHOULD", "This | is not.", not_held="It would be too easy."),
        Clause("2", "MUST NOT", "This means somebody else.", not_applicable="There is nobody else."),
    ),
)


def test_the_page_is_what_the_marks_say(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    printed, session = tmp_path / "conformance.md", request.session
    asked = session.config.getoption("keyword") or session.config.getoption("markexpr")
    if not asked and {item.path for item in session.items} >= set((ROOT / "tests").glob("test_*.py")):
        # A run of all tests has all the marks. To find them again in another process would take six seconds.
        config: Any = SimpleNamespace(getoption={"--conformance": str(printed)}.get)
        specs.pytest_runtestloop(cast(pytest.Session, SimpleNamespace(items=session.items, config=config)))
    else:
        arguments = ["-q", "-p", "no:cacheprovider", f"--conformance={printed}"]
        done = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode in (0, 5), done.stdout + done.stderr  # 5: no test ran
        assert printed.exists(), done.stdout + done.stderr
    same = PAGE.exists() and PAGE.read_text("utf-8") == printed.read_text("utf-8")
    # Not shown as a difference of long tables, which nobody could read.
    assert same, "docs/conformance.md is old. Write it anew: make test ARGS=--conformance=docs/conformance.md"


# ---- the list of clauses


def test_a_clause_has_one_name_and_no_name_is_that_of_others() -> None:
    names = Counter(specification.id_of(clause) for specification, clause in EVERY)
    assert [name for name, times in names.items() if times > 1] == []
    for specification, clause in EVERY:
        section, _, letter = clause.section.partition(" ")
        assert re.fullmatch(r"[0-9]+(\.[0-9]+)*", section), clause
        assert re.fullmatch("[a-z]{0,2}", letter), clause
        alone = [other for other in specification.clauses if other.section.partition(" ")[0] == section]
        assert letter or len(alone) == 1, f"{specification.id_of(clause)}: which of them?"
    assert not {specification.name for specification in SPECIFICATIONS} & set(ELSEWHERE)


@pytest.mark.parametrize("specification", SPECIFICATIONS, ids=lambda specification: specification.name)
def test_a_clause_has_a_level_a_sentence_and_one_reason_at_most(specification: Specification) -> None:
    for clause in specification.clauses:
        assert clause.level in LEVELS, clause
        for text in filter(None, (clause.what, clause.not_held, clause.not_applicable, clause.note)):
            assert re.fullmatch(r"\S.*[.)]", text), clause
            assert "\n" not in text, clause
        assert not (clause.not_held and clause.not_applicable), clause


# ---- what comes of marks


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small specification instead of all the real ones."""
    monkeypatch.setattr(conformance, "SPECIFICATIONS", (EXAMPLE,))
    monkeypatch.setattr(conformance, "ELSEWHERE", ("RFC 2",))


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("marks", "wrong"),
    [
        (["RFC 1 §1 a"], []),
        (["RFC 1 §1 a", "RFC 1 §1", "RFC 2 §77"], []),  # a whole section, and a specification without a table
        (["RFC 1 §1 a", "RFC 1 §1 c"], ["RFC 1 §1 c: no such clause"]),
        (["RFC 1 §1 a", "RFC 1 §3"], ["RFC 1 §3: no such clause"]),
        (["RFC 1 §1 a", "RFC 3 §1"], ["RFC 3 §1: no such clause"]),
        (["RFC 1 §1"], ["RFC 1 §1 a: no test holds it"]),
        (["RFC 1 §1 a", "RFC 1 §1 b"], ["RFC 1 §1 b: held by test_x.py::test_y, so drop the reason"]),
        (["RFC 1 §1 a", "RFC 1 §2"], ["RFC 1 §2: held by test_x.py::test_y, so drop the reason"]),
    ],
)
def test_what_is_wrong_is_said(marks: list[str], wrong: list[str]) -> None:
    problems = conformance.problems({mark: {"test_x.py::test_y"} for mark in marks})
    assert len(problems) == len(wrong)
    for problem, start in zip(problems, wrong, strict=True):
        assert problem.startswith(start)


@pytest.mark.usefixtures("example")
def test_the_page_counts_the_clauses_and_names_their_tests() -> None:
    page = conformance.page({"RFC 1 §1 a": {"tests/test_x.py::test_y", "tests/test_x.py::test_a"}})
    assert page.endswith("""
| specification | held | not held | not applicable |
|---|---:|---:|---:|
| RFC 1 | 1 | 1 | 1 |
| together | 1 | 1 | 1 |

## RFC 1: An Example

| clause | level | what | held by |
|---|---|---|---|
| §1 a | MUST | This is held. | `test_x.py::test_a`<br>`test_x.py::test_y` |
| §1 b | SHOULD | This \\| is not. | **not held**: It would be too easy. |
| §2 | MUST NOT | This means somebody else. | **not applicable**: There is nobody else. |
""")
