"""`make prove` finds every clause, and detects whether a test fails without it."""

import ast
import functools
import itertools
import re
from pathlib import Path

import pytest

from chalicelib import web
from tests.tools import prove
from tests.tools.prove import Clause

ROOT = Path(web.__file__).parent.parent
all_clauses = functools.cache(prove.all_clauses)  # not while the tests are collected, because it takes seconds

# file -> attributes in its clauses
ATTRIBUTES = {
    "chalicelib/authentication/failure_counts.py": {"failures", "unlocked"},
    "chalicelib/authentication/password.py": {"password_hash"},
    "chalicelib/authentication/throttle.py": {"failures", "generation"},
    "chalicelib/authorization/external_login.py": {"asked_sub", "taken_at"},
    "chalicelib/authorization/grant.py": {
        "client_generation",
        "consents_generation",
        "ended_at",
        "generation",
        "grants_generation",
        "registration_id",
    },
    "chalicelib/authorization/external_redirect.py": {"taken_at"},
    "chalicelib/authorization/stored_request.py": {"browser_id", "taken_at"},
    "chalicelib/clients/registration.py": {"secret_hashes"},
    "chalicelib/endpoints/authorize.py": {"browser_id"},
    "chalicelib/endpoints/revoke.py": {"client_id"},
    "chalicelib/grants/authorization_code.py": {
        "client_id",
        "code_challenge",
        "code_expires_at",
        "generation",
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
    "chalicelib/keys/stored_ring.py": {"version"},
    "chalicelib/protocol/grant.py": {"client_id", "offline_access", "openid", "sub"},
    "chalicelib/protocol/records.py": {
        "claims",
        "consents_generation",
        "ended_at",
        "grants_generation",
        "registration_id",
        "scope",
        "sessions_generation",
    },
    "chalicelib/protocol/validity.py": {
        "active",
        "client_generation",
        "consent_generation",
        "depends_on_session",
        "direct_sign_in",
        "has_user",
        "registration_id",
        "session_stored",
        "sessions_generation",
        "user_generation",
    },
    "chalicelib/server.py": {"failures"},
    "chalicelib/sessions/backchannel_logout.py": {"backchannel_clients", "ended_at", "not_before"},
    "chalicelib/sessions/browser_sessions.py": {"disabled_at", "ended_at", "generation", "sessions_generation"},
    "chalicelib/sessions/connected_applications.py": {"generation"},
    "chalicelib/sessions/lifetime.py": {"active_until", "auth_time", "ended_at"},
    "chalicelib/sessions/revocation.py": {
        "backchannel_clients",
        "ended_at",
        "generation",
        "revoked_at",
        "sessions_generation",
    },
    "chalicelib/sessions/validity.py": {"consent_generation", "sessions_generation", "user_generation"},
    "chalicelib/storage/table.py": {"expires_at"},
    "chalicelib/authentication/proofs.py": {"browser_id", "nonce", "spent_at"},
    "chalicelib/users/accounts.py": {"claims", "username"},
    "chalicelib/users/deletion.py": {"deleted_at", "deletion_due_at", "sessions_generation"},
    "chalicelib/users/identifiers.py": {"sub"},
    "chalicelib/users/password_change.py": {"disabled_at", "grants_generation", "password_hash", "sessions_generation"},
    "chalicelib/tokens/resources.py": {"resource"},
}


def replacements(source: str) -> list[tuple[str, str]]:
    return [(clause.text, clause.instead) for clause in prove.clauses(source.encode())]


def always(name: str) -> str:
    """Return a condition that is always true."""
    return f'(attr("{name}").exists() | attr("{name}").not_exists())'


def never(name: str) -> str:
    """Return a condition that is never true."""
    return f'(attr("{name}").exists() & attr("{name}").not_exists())'


@pytest.mark.parametrize("path", ATTRIBUTES)
def test_clauses_of_a_file_are_found(path: str) -> None:
    texts = [clause.text for clause in all_clauses() if clause.path == path]
    for name in ATTRIBUTES[path]:
        assert any(re.search(rf"\b{name}\b", text) for text in texts), name


def test_every_condition_of_the_project_is_found() -> None:
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


def test_source_without_a_clause_is_valid_and_different() -> None:
    assert len({(clause.path, clause.start, clause.end, clause.instead) for clause in all_clauses()}) == len(
        all_clauses()
    )
    for path, clauses in itertools.groupby(all_clauses(), lambda clause: clause.path):
        source = (ROOT / path).read_bytes()
        unchanged = ast.dump(ast.parse(source))
        for clause in clauses:
            assert ast.dump(ast.parse(clause.removed(source))) != unchanged, clause


def test_every_operand_is_a_clause() -> None:
    a, b, c = (f'attr("{name}").exists()' for name in "abc")
    assert replacements(f"x = {a}") == [(a, always("a"))]
    assert replacements(f"f({a} & ~({b}))") == [(a, always("a")), (f"~({b})", always("b"))]
    assert replacements(f"x = {a} if y else {b}") == [(a, always("a")), (b, always("b"))]
    assert replacements('x = attr("a").size().eq(1)') == [('attr("a").size().eq(1)', always("a"))]
    assert replacements(f"x = y & {a}") == [(a, always("a"))]
    assert replacements(f"x &= {a}") == [(a, always("a"))]
    assert replacements(f"x |= {a}") == [(a, never("a"))]
    assert replacements(f"f(and_, ({c} for n in m), {b})") == [(c, always("c")), (b, always("b"))]
    assert replacements(f"x = ({a} | {b}) & {c}") == [
        (a, never("a")),
        (f"{a} | {b}", always("a")),
        (b, never("b")),
        (c, always("c")),
    ]


def test_variable_with_an_attribute_is_found() -> None:
    assert replacements('x, y = 1, attr("y")\nz = y.exists()') == [("y.exists()", "(y.exists() | y.not_exists())")]
    assert replacements('x = attr("x")\ny = x.gt(1) & z.gt(1)') == [("x.gt(1)", "(x.exists() | x.not_exists())")]


def test_operators_on_other_values_are_not_conditions() -> None:
    assert replacements('x = a & b | c; y = a.exists(); z = f"{a} = {b}"') == []


def test_names_of_fields_that_must_be_unchanged_are_found() -> None:
    """Also those in a variable. A condition needs one at least."""
    text = 'copies = ("b", "c")\nx = t.unchanged(r, "a", *copies)\ny = t.unchanged(r, "d")'
    of_text = prove.clauses(text.encode())
    assert [clause.text for clause in of_text] == [f"unchanged {name}" for name in ("a", "b", "c", "d")]
    removed = [clause.removed(text.encode()).decode() for clause in of_text]
    assert "t.unchanged(r, '', *copies)" in removed[0]
    assert "t.unchanged(r, \"a\", *(name for name in copies if name != 'b'))" in removed[1]
    assert "t.unchanged(r, \"a\", *(name for name in copies if name != 'c'))" in removed[2]
    condition = eval(removed[3].rpartition("y = ")[2])
    assert " OR " in condition.expression()[0]


def test_conditions_of_rules_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
def rule(a, b) -> bool:
    if a or b:
        return False
    if a and b.c == 1:
        return True
    if not a:
        return False
    d = a is None and b
    e = a == b
    return a.b or d

def other(a) -> bool:
    return a
"""
    monkeypatch.setattr(prove, "RULES", {"x.py": ("rule",)})
    assert prove.clauses(text.encode()) == []
    assert [(clause.line, clause.text, clause.instead) for clause in prove.clauses(text.encode(), "x.py")] == [
        (3, "a", "False"),
        (3, "b", "False"),
        (5, "a", "True"),
        (5, "a and b.c == 1", "False"),
        (5, "b.c == 1", "True"),
        (7, "not a", "False"),
        (9, "a is None", "True"),
        (9, "b", "True"),
        (10, "a == b", "True"),
        (10, "a == b", "False"),
        (11, "a.b", "False"),
        (11, "d", "False"),
    ]


def test_conditions_of_elements_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
def rule(a) -> list:
    b = [each for each in a if each and not each.x]
    c = not all(each or each.y for each in a) or any(each.z for each in b)
    d = {len(each) for each in a}

    def inner(b) -> bool:
        return b.c
    return f"{any(each for each in a)}"
"""
    monkeypatch.setattr(prove, "RULES", {"x.py": prove.EVERY})
    assert [(clause.line, clause.text, clause.instead) for clause in prove.clauses(text.encode(), "x.py")] == [
        (3, "each", "True"),
        (3, "not each.x", "True"),
        (4, "not all(each or each.y for each in a)", "False"),
        (4, "each", "False"),
        (4, "each.y", "False"),
        (4, "any(each.z for each in b)", "False"),
        (4, "each.z", "False"),
        (8, "b.c", "True"),
    ]


def test_every_rule_exists() -> None:
    for path, names in prove.RULES.items():
        tree = ast.parse((ROOT / path).read_bytes())
        assert {*names} - {*prove.EVERY} <= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_terms_of_condition_strings_are_found() -> None:
    text = '''"""#a = :a"""
x = "é" "attribute_not_exists(#k)"
x += " OR #e <= :n"
f(KeyConditionExpression="#a = :a")
'''
    assert replacements(text) == [
        ("attribute_not_exists(#k)", "(attribute_not_exists(#k) OR NOT attribute_not_exists(#k))"),
        ("#e <= :n", "(#e <= :n AND NOT #e <= :n)"),
    ]
    (first, second) = prove.clauses(text.encode())
    assert [first.line, second.line] == [2, 3]
    assert b'+= " OR (#e <= :n AND NOT #e <= :n)"' in second.removed(text.encode())


def test_tests_of_a_file_are_those_of_its_name_those_that_import_it_and_those_of_its_importers() -> None:
    general = tuple(f"tests/guarantees/test_{name}.py" for name in prove.GENERAL)
    revocation = prove.tests_for("chalicelib/endpoints/revoke.py")
    assert revocation[0] == "tests/endpoints/revoke/test_revoke.py"
    assert {*revocation} == {"tests/endpoints/revoke/test_revoke.py", *general}
    codes = prove.tests_for("chalicelib/grants/authorization_code.py")
    assert codes[0] == "tests/endpoints/token/test_authorization_code.py"
    assert {"tests/endpoints/token/test_refresh_token.py", *general} <= {*codes}
    assert "tests/operator/test_operator_users.py" in prove.tests_for("chalicelib/users/accounts.py")


def test_file_whose_fixture_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no failed test, and ends the run before the other files."""
    outputs = [
        "ERROR tests/a.py::test_x - KeyError: 'z'\n1 error",
        "FAILED tests/b.py::test_y[1] - assert 1 == 2\n1 failed",
    ]
    runs: list[tuple[str, ...]] = []

    def run(_project: Path, *arguments: str) -> tuple[int, str]:
        runs.append(arguments)
        return 1, outputs[len(runs) - 1]

    monkeypatch.setattr(prove, "run", run)
    (tmp_path / "x.py").write_text("x")
    verdict = prove.without(Clause("x.py", 1, 0, 1, "x", "y"), tmp_path, ("tests/a.py", "tests/b.py", "tests"))
    assert verdict.test == "tests/b.py::test_y[1]"
    assert runs == [("-x", "tests/a.py", "tests/b.py", "tests"), ("-x", "--ignore=tests/a.py", "tests/b.py", "tests")]
    assert (tmp_path / "x.py").read_text() == "x"


def test_every_file_with_a_clause_has_tests_of_its_own() -> None:
    general = {f"test_{name}.py" for name in prove.GENERAL}
    for path in sorted({clause.path for clause in all_clauses()}):
        assert {Path(test).name for test in prove.tests_for(path)} - general, path


@pytest.mark.slow
def test_test_fails_without_the_clause_and_the_source_is_restored(tmp_path: Path) -> None:
    in_file = (clause for clause in all_clauses() if clause.path == "chalicelib/endpoints/revoke.py")
    clause = next(clause for clause in in_file if "client_id" in clause.text)
    project = prove.copy_project(tmp_path / "copy")
    source = (project / clause.path).read_bytes()
    test = "tests/endpoints/revoke/test_revoke.py::test_token_of_another_client_is_rejected_and_stays_valid"
    verdict = prove.without(clause, project, (test,))
    assert verdict.test is not None
    assert verdict.test.startswith(test)
    # The source is restored. A change without effect is not detected.
    assert (project / clause.path).read_bytes() == source
    no_change = Clause(clause.path, clause.line, clause.start, clause.start, clause.text, "")
    assert prove.without(no_change, project, (test,)).test is None
