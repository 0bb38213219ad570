"""`make prove` finds every clause, and tells a clause that is missed from one that is not."""

import ast
from pathlib import Path

import pytest

from chalicelib import web
from tests import prove
from tests.prove import Clause

ROOT = Path(web.__file__).parent.parent
ALL = prove.all_clauses()

# file -> attributes that its conditions are about
KNOWN = {
    "chalicelib/authorization.py": {"ended_at", "generation", "taken_at"},
    "chalicelib/endpoints/authorize.py": {"browser_id"},
    "chalicelib/endpoints/revoke.py": {"client_id"},
    "chalicelib/grants/authorization_code.py": {
        "client_id",
        "code_challenge",
        "code_expires_at",
        "redeemed_at",
        "redirect_uri",
        "redirect_uri_sent",
        "revoked_at",
    },
    "chalicelib/grants/refresh_token.py": {
        "client_id",
        "ends_at",
        "generation",
        "redeemed_at",
        "revoked_at",
        "scope",
    },
    "chalicelib/keys.py": {"version"},
    "chalicelib/sessions.py": {"disabled_at", "ended_at", "generation", "password_hash", "sessions_generation"},
    "chalicelib/table.py": {"expires_at", "taken_at"},
}


def found(source: str) -> list[tuple[str, str]]:
    return [(clause.text, clause.instead) for clause in prove.clauses(source.encode())]


def always(name: str) -> str:
    return f'(attr("{name}").exists() | attr("{name}").not_exists())'


def never(name: str) -> str:
    return f'(attr("{name}").exists() & attr("{name}").not_exists())'


@pytest.mark.parametrize("path", KNOWN)
def test_the_clauses_of_a_file_are_found(path: str) -> None:
    texts = [clause.text for clause in ALL if clause.path == path]
    for name in KNOWN[path]:
        assert any(f'"{name}"' in text for text in texts), name


def test_nothing_that_makes_a_condition_is_overlooked() -> None:
    for folder in prove.SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_bytes()
            where = [(clause.start, clause.end) for clause in prove.clauses(source)]
            lines = source.splitlines(keepends=True)
            tree = ast.parse(source)
            named = {id(value) for _, value in prove.named_attributes(tree)}
            for node in ast.walk(tree):
                if prove.is_attr(node) and id(node) not in named:
                    assert isinstance(node, ast.Call)
                    at = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
                    assert any(start <= at < end for start, end in where), f"{path}:{node.lineno}"
            for function in (b"attribute_exists(", b"attribute_not_exists("):
                at = source.find(function)
                assert at < 0 or any(start <= at < end for start, end in where), f"{path}: {function.decode()}"


def test_every_removal_leaves_a_program() -> None:
    assert len({(clause.path, clause.start, clause.end, clause.instead) for clause in ALL}) == len(ALL)
    for clause in ALL:
        source = (ROOT / clause.path).read_bytes()
        assert ast.dump(ast.parse(clause.removed(source))) != ast.dump(ast.parse(source)), clause


def test_each_operand_is_a_clause() -> None:
    a, b, c = (f'attr("{name}").exists()' for name in "abc")
    assert found(f"x = {a}") == [(a, always("a"))]
    assert found(f"f({a} & ~({b}))") == [(a, always("a")), (f"~({b})", always("b"))]
    assert found(f"x = {a} if y else {b}") == [(a, always("a")), (b, always("b"))]
    assert found('x = attr("a").size().eq(1)') == [('attr("a").size().eq(1)', always("a"))]
    assert found(f"x = y & {a}") == [(a, always("a"))]
    assert found(f"x &= {a}") == [(a, always("a"))]
    assert found(f"x |= {a}") == [(a, never("a"))]
    assert found(f"f(and_, ({c} for n in m), {b})") == [(c, always("c")), (b, always("b"))]
    assert found(f"x = ({a} | {b}) & {c}") == [
        (a, never("a")),
        (f"{a} | {b}", always("a")),
        (b, never("b")),
        (c, always("c")),
    ]


def test_a_name_may_stand_for_an_attribute() -> None:
    assert found('x, y = 1, attr("y")\nz = y.exists()') == [("y.exists()", "(y.exists() | y.not_exists())")]
    assert found('x = attr("x")\ny = x.gt(1) & z.gt(1)') == [("x.gt(1)", "(x.exists() | x.not_exists())")]


def test_sets_and_numbers_are_no_conditions() -> None:
    assert found('x = a & b | c; y = a.exists(); z = f"{a} = {b}"') == []


def test_a_condition_may_be_text() -> None:
    text = '''"""#a = :a"""
x = "é" "attribute_not_exists(#k)"
x += " OR #e <= :n"
f(KeyConditionExpression="#a = :a")
'''
    assert found(text) == [
        ("attribute_not_exists(#k)", "(attribute_not_exists(#k) OR NOT attribute_not_exists(#k))"),
        ("#e <= :n", "(#e <= :n AND NOT #e <= :n)"),
    ]
    (first, second) = prove.clauses(text.encode())
    assert [first.line, second.line] == [2, 3]
    assert b'+= " OR (#e <= :n AND NOT #e <= :n)"' in second.removed(text.encode())


def test_the_tests_of_the_same_name_and_the_general_ones_are_run() -> None:
    assert prove.tests_for("chalicelib/endpoints/revoke.py") == (
        "tests/test_conditions.py",
        "tests/test_revoke.py",
        "tests/test_races.py",
        "tests/test_interleavings.py",
        "tests/test_grant_model.py",
    )
    for path, tests in prove.TESTS.items():
        assert (ROOT / path).exists(), path
        for name in tests:
            assert (ROOT / f"tests/test_{name}.py").exists(), name


def test_a_clause_that_is_removed_is_missed_by_a_test(tmp_path: Path) -> None:
    here = (clause for clause in ALL if clause.path == "chalicelib/endpoints/revoke.py")
    clause = next(clause for clause in here if "client_id" in clause.text)
    project = prove.copy_project(tmp_path / "copy")
    source = (project / clause.path).read_bytes()
    test = "tests/test_revoke.py::test_another_clients_token_is_left_alone"
    verdict = prove.without(clause, project, (test,))
    assert verdict.test is not None
    assert verdict.test.startswith(test)
    # Put back, and then another change that nobody can miss.
    assert (project / clause.path).read_bytes() == source
    harmless = Clause(clause.path, clause.line, clause.start, clause.start, clause.text, "")
    assert prove.without(harmless, project, (test,)).test is None
