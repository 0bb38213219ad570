"""What has become of every clause in `tests/clauses`: the page docs/conformance.md, and what is wrong with the data."""

from collections import Counter
from collections.abc import Iterable

from tests.clauses import ELSEWHERE, SPECIFICATIONS
from tests.clauses.clause import Clause, Specification

HELD, NOT_HELD, NOT_APPLICABLE = "held", "not held", "not applicable"
HEAD = """# Conformance

Each MUST and SHOULD for an authorization server, in our words, and the tests that hold it. A clause counts as held when
at least one test says so by its mark. Nobody writes this page: `make test ARGS=--conformance` prints it from the marks
and from `tests/clauses`, `make test ARGS=--conformance=docs/conformance.md` writes it, and a test compares the two.

What a specification asks of clients and of other resource servers is left out. The wording is ours and short; what
counts is the text of the specification.
"""


def state(clause: Clause, tests: Iterable[str]) -> str:
    """What has become of a clause that these tests are marked with."""
    if clause.not_applicable:
        return NOT_APPLICABLE
    return HELD if tests and not clause.not_held else NOT_HELD


def problems(found: dict[str, set[str]]) -> list[str]:
    """What is wrong, a line each: marks that name nothing, and clauses with no test and no reason, or with both."""
    known = {specification.id_of(clause) for specification in SPECIFICATIONS for clause in specification.clauses}
    sections = {section for specification in SPECIFICATIONS for section in specification.sections}
    wrong = [
        f"{mark}: no such clause in tests/clauses. It marks {', '.join(sorted(found[mark]))}"
        for mark in sorted(found)
        if mark not in known | sections and not _is_elsewhere(mark)
    ]
    for specification in SPECIFICATIONS:
        for clause in specification.clauses:
            name = specification.id_of(clause)
            reason = clause.not_held or clause.not_applicable
            tests = ", ".join(sorted(found.get(name, ())))
            if tests and reason:
                wrong.append(f"{name}: held by {tests}, so drop the reason: {reason}")
            elif not tests and not reason:
                wrong.append(f"{name}: no test holds it ({clause.what}), and there is no reason for that")
    return wrong


def _is_elsewhere(mark: str) -> bool:
    return mark.partition(" §")[0] in ELSEWHERE or mark.partition(" ")[0] in ELSEWHERE


def page(found: dict[str, set[str]]) -> str:
    """The page, in Markdown."""
    counts = {specification.name: _count(specification, found) for specification in SPECIFICATIONS}
    columns = [HELD, NOT_HELD, NOT_APPLICABLE]
    lines = [
        HEAD,
        f"| specification | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
        *(_row(name, counts[name], columns) for name in counts),
        _row("together", sum(counts.values(), Counter()), columns),
    ]
    for specification in SPECIFICATIONS:
        lines += ["", f"## {_title(specification)}", "", "| clause | level | what | held by |", "|---|---|---|---|"]
        lines += [_line(specification, clause, found) for clause in specification.clauses]
    return "\n".join(lines) + "\n"


def _count(specification: Specification, found: dict[str, set[str]]) -> Counter[str]:
    return Counter(state(clause, found.get(specification.id_of(clause), ())) for clause in specification.clauses)


def _row(name: str, count: Counter[str], columns: list[str]) -> str:
    return f"| {name} | " + " | ".join(str(count[column]) for column in columns) + " |"


def _title(specification: Specification) -> str:
    title = specification.title
    return title if title.startswith(specification.name) else f"{specification.name}: {title}"


def _line(specification: Specification, clause: Clause, found: dict[str, set[str]]) -> str:
    tests = sorted(found.get(specification.id_of(clause), ()))
    became = state(clause, tests)
    if became == HELD:
        held_by = "<br>".join([*(f"`{test.removeprefix('tests/')}`" for test in tests), *filter(None, [clause.note])])
    else:
        held_by = f"**{became}**: {clause.not_applicable or clause.not_held}"
    cells = (f"§{clause.section}", clause.level, clause.what, held_by)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
