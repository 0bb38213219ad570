"""Generate docs/conformance.md from `tests/specifications/clauses` and the spec marks, and find mistakes in them."""

from collections import Counter
from collections.abc import Iterable

from tests.specifications.clauses import ELSEWHERE, SPECIFICATIONS
from tests.specifications.clauses.clause import Clause, Specification

HELD, NOT_HELD, NOT_APPLICABLE = "held", "not held", "not applicable"
HEAD = """# Conformance

Each MUST and SHOULD for an authorization server, summarised, with the tests that cover it. A clause is held if at least
one test has a mark with its name. This page is generated from the marks and from `tests/specifications/clauses` by
`make test ARGS=--conformance=docs/conformance.md`, and a test checks that it is up to date.

Requirements for clients and for other resource servers are left out. The summaries are short; the text of the
specification is what counts.
"""


def state(clause: Clause, tests: Iterable[str]) -> str:
    """Return the state of a clause that these tests are marked with."""
    if clause.not_applicable:
        return NOT_APPLICABLE
    return HELD if tests and not clause.not_held else NOT_HELD


def problems(marks: dict[str, set[str]]) -> list[str]:
    """Return the mistakes: marks without a clause, and clauses without a test and a reason, or with both."""
    clause_ids = {specification.id_of(clause) for specification in SPECIFICATIONS for clause in specification.clauses}
    sections = {section for specification in SPECIFICATIONS for section in specification.sections}
    mistakes = [
        f"{mark}: no such clause in tests/specifications/clauses. It marks {', '.join(sorted(marks[mark]))}"
        for mark in sorted(marks)
        if mark not in clause_ids | sections and not _is_elsewhere(mark)
    ]
    for specification in SPECIFICATIONS:
        for clause in specification.clauses:
            name = specification.id_of(clause)
            reason = clause.not_held or clause.not_applicable
            tests = ", ".join(sorted(marks.get(name, ())))
            if tests and reason:
                mistakes.append(f"{name}: {tests} covers it; remove the reason: {reason}")
            elif not tests and not reason:
                mistakes.append(f"{name}: no test covers it ({clause.what}), and no reason is given")
    return mistakes


def _is_elsewhere(mark: str) -> bool:
    return mark.partition(" §")[0] in ELSEWHERE or mark.partition(" ")[0] in ELSEWHERE


def page(marks: dict[str, set[str]]) -> str:
    """Return the page in Markdown."""
    counts = {specification.name: _count(specification, marks) for specification in SPECIFICATIONS}
    columns = [HELD, NOT_HELD, NOT_APPLICABLE]
    lines = [
        HEAD,
        f"| specification | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
        *(_row(name, counts[name], columns) for name in counts),
        _row("total", sum(counts.values(), Counter()), columns),
    ]
    for specification in SPECIFICATIONS:
        lines += ["", f"## {_title(specification)}", "", "| clause | level | summary | tests |", "|---|---|---|---|"]
        lines += [_line(specification, clause, marks) for clause in specification.clauses]
    return "\n".join(lines) + "\n"


def _count(specification: Specification, marks: dict[str, set[str]]) -> Counter[str]:
    return Counter(state(clause, marks.get(specification.id_of(clause), ())) for clause in specification.clauses)


def _row(name: str, count: Counter[str], columns: list[str]) -> str:
    return f"| {name} | " + " | ".join(str(count[column]) for column in columns) + " |"


def _title(specification: Specification) -> str:
    title = specification.title
    return title if title.startswith(specification.name) else f"{specification.name}: {title}"


def _line(specification: Specification, clause: Clause, marks: dict[str, set[str]]) -> str:
    tests = sorted(marks.get(specification.id_of(clause), ()))
    clause_state = state(clause, tests)
    if clause_state == HELD:
        coverage = "<br>".join([*(f"`{test.removeprefix('tests/')}`" for test in tests), *filter(None, [clause.note])])
    else:
        coverage = f"**{clause_state}**: {clause.not_applicable or clause.not_held}"
    cells = (f"§{clause.section}", clause.level, clause.what, coverage)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
