"""`make prove`: every clause of every condition of a write is needed, for a test goes red without it.

The state machine of `chalicelib` is its conditions. This finds their clauses in the source (operands of `&` and `|` of
`attr(…)` conditions, conditions of one clause, and those written as DynamoDB's own text), removes one at a time in a
copy of the project, runs the tests that concern the file, and expects red. A new clause is found by itself.

    make prove                                  all
    make prove ARGS=grants/refresh_token.py     those whose place or text has this in it
    make prove ARGS='revoked_at --why'          with what the tests said
    make prove ARGS=--list                      what there is, nothing is run
    make prove ARGS=--all                       a clause that survives has to face every test there is

An operand is removed by putting in its place what is always true, an alternative by what never is. Tests that are red
on the source as it is prove nothing, and are left out. Exit status: 0 when every clause was missed, 1 when one was not.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parent.parent
SOURCES = ("chalicelib", "infra")
NOT_COPIED = (".git", ".venv", "node_modules", "dist", ".hypothesis", "__pycache__", ".*_cache")
LONGEST = 600
AT_ONCE = 2

# What to run for a file, after the tests of single clauses, and before those of the same name and GENERAL.
TESTS: dict[str, tuple[str, ...]] = {
    "chalicelib/access.py": ("account",),
    "chalicelib/authorization.py": ("races", "login_application"),
    "chalicelib/ending.py": ("logout", "operator_users"),
    "chalicelib/endpoints/authorize.py": ("waiting_request",),
    "chalicelib/grants/authorization_code.py": ("token", "revoke", "resources", "faults"),
    "chalicelib/grants/refresh_token.py": ("token", "revoke", "resources", "faults"),
    "chalicelib/keys.py": ("rotation",),
    "chalicelib/registration.py": ("operator_clients",),
    "chalicelib/sessions.py": ("change_password", "code", "logout"),
    "chalicelib/sign_in.py": ("code", "passwords", "signing"),
    "chalicelib/table.py": ("store", "operator_users"),
    "chalicelib/users.py": ("operator_users", "account"),
}
GENERAL = ("races", "interleavings", "grant_model")

# What boto3 makes a condition from an attribute with.
METHODS = {
    "attribute_type",
    "begins_with",
    "between",
    "contains",
    "eq",
    "exists",
    "gt",
    "gte",
    "is_in",
    "lt",
    "lte",
    "ne",
    "not_exists",
}
# The same in DynamoDB's own words.
_TERM = re.compile(r"attribute_(?:not_)?exists\([^()\s]+\)|#[\w{}.]+ (?:=|<>|<=?|>=?) :[\w{}]+")


@dataclass(frozen=True)
class Clause:
    """A clause, where it stands (`start` and `end` in bytes), and what removes it."""

    path: str
    line: int
    start: int
    end: int
    text: str
    instead: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    def removed(self, source: bytes) -> bytes:
        """The source without it."""
        return source[: self.start] + self.instead.encode() + source[self.end :]


@dataclass(frozen=True)
class Verdict:
    """What came of the removal of a clause: the test that went red, or None, and what the run said."""

    clause: Clause
    test: str | None
    said: str
    seconds: float


# ---- finding


def all_clauses(root: Path = ROOT) -> list[Clause]:
    """Every clause of the project."""
    return [
        clause
        for folder in SOURCES
        for path in sorted((root / folder).rglob("*.py"))
        for clause in clauses(path.read_bytes(), path.relative_to(root).as_posix())
    ]


def clauses(source: bytes, path: str = "") -> list[Clause]:
    """The clauses of one file, in order."""
    return sorted(_Finder(source, path).found(), key=lambda clause: (clause.start, clause.end))


class _Finder:
    def __init__(self, source: bytes, path: str):
        self._source, self._path = source, path
        self._tree = ast.parse(source)
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._names = {name for name, _ in named_attributes(self._tree)}

    def found(self) -> Iterator[Clause]:
        yield from self._below(self._tree)
        yield from self._texts()

    def _below(self, node: ast.AST) -> Iterator[Clause]:
        """The clauses of all conditions inside a node that is none itself."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and self._is_condition(child):
                alternative = isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr)
                yield from [self._clause(child, never=True)] if alternative else self._operands(child)
            else:
                yield from self._below(child)

    def _operands(self, node: ast.expr) -> Iterator[Clause]:
        match node:
            case ast.BinOp(op=ast.BitAnd()):
                parts = [node.left, node.right]
            case ast.IfExp():
                parts = [node.body, node.orelse]
            case ast.BinOp(op=ast.BitOr()):
                yield self._clause(node)
                yield from (self._clause(part, never=True) for part in _alternatives(node))
                return
            case _:
                yield self._clause(node)
                return
        for part in parts:
            yield from self._operands(part) if self._is_condition(part) else self._below(part)

    def _is_condition(self, node: ast.expr) -> bool:
        match node:
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                return self._is_condition(node.left) or self._is_condition(node.right)
            case ast.UnaryOp(op=ast.Invert()):
                return self._is_condition(node.operand)
            case ast.IfExp():
                return self._is_condition(node.body) or self._is_condition(node.orelse)
        return self._attribute(node) is not None

    def _attribute(self, node: ast.AST) -> ast.expr | None:
        """The `attr(…)`, or the name that stands for one, that a condition is made from."""
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in METHODS:
                match value:
                    case ast.Call(func=ast.Attribute(value=measured, attr="size")):
                        value = measured
                known = isinstance(value, ast.Name) and value.id in self._names
                return value if known or is_attr(value) else None
        return None

    def _clause(self, node: ast.expr, *, never: bool = False) -> Clause:
        start, end = self._span(node)
        (attribute, *_) = filter(None, map(self._attribute, ast.walk(node)))
        first, last = self._span(attribute)
        name = self._source[first:last].decode()
        instead = f"({name}.exists() {'&' if never else '|'} {name}.not_exists())"
        return self._made(node.lineno, start, end, instead)

    def _texts(self) -> Iterator[Clause]:
        """The terms of conditions that are written as text."""
        # A docstring is none, and a key condition says which records are asked for.
        others = {
            id(inner)
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "KeyConditionExpression")
            for inner in (node, *([node.value] if isinstance(node.value, ast.Constant | ast.JoinedStr) else []))
        }
        for node in ast.walk(self._tree):
            whole = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
            if not whole or id(node) in others:
                continue
            assert isinstance(node, ast.expr)
            others |= {id(inner) for inner in ast.walk(node)}  # the parts of an f-string have no place of their own
            start, end = self._span(node)
            text = self._source[start:end].decode()
            for term in _TERM.finditer(text):
                before = len(text[: term.start()].encode())
                alternative = text[: term.start()].endswith(" OR ")
                instead = f"({term[0]} {'AND' if alternative else 'OR'} NOT {term[0]})"
                line = node.lineno + text[: term.start()].count("\n")
                yield self._made(line, start + before, start + before + len(term[0].encode()), instead)

    def _made(self, line: int, start: int, end: int, instead: str) -> Clause:
        return Clause(self._path, line, start, end, " ".join(self._source[start:end].decode().split()), instead)

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset


def is_attr(node: ast.AST) -> bool:
    """Whether this is `attr(…)`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attr"


def named_attributes(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The names that stand for an attribute, with what they stand for: `disabled = attr("disabled_at")`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name) and is_attr(value))


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    else:
        yield node


# ---- trying


def copy_project(to: Path) -> Path:
    """A copy of the project, in which source may be changed."""
    shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    return to


def tests_for(path: str) -> tuple[str, ...]:
    """The test files that concern a source file."""
    names = dict.fromkeys(("conditions", *TESTS.get(path, ()), Path(path).stem, *GENERAL))
    return tuple(f"tests/test_{name}.py" for name in names if (ROOT / f"tests/test_{name}.py").exists())


def without(clause: Clause, project: Path, tests: tuple[str, ...]) -> Verdict:
    """Remove a clause from a copy of the project, run tests there, and put it back."""
    started = time.monotonic()
    file = project / clause.path
    source = file.read_bytes()
    file.write_bytes(clause.removed(source))
    try:
        status, said = run(project, "-x", *tests)
    finally:
        file.write_bytes(source)
    red = failed(said) if status == 1 else []
    return Verdict(clause, red[0] if red else None, said, time.monotonic() - started)


def run(project: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest in a copy: its exit status (-1: it hung), and what it said."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *arguments]
    # Shrinking an example takes long, and adds nothing to its being red.
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "prove", "COLUMNS": "400", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired as hung:
        return -1, str(hung)
    return done.returncode, done.stdout + done.stderr


def failed(said: str) -> list[str]:
    """The tests that pytest calls failed: neither broken fixtures nor files that cannot be imported are among them."""
    return re.findall(r"^FAILED (tests/\S+?::.+?)(?: - .*)?$", said, re.MULTILINE)


def prove(wanted: list[Clause], *, every_test: bool, why: bool) -> int:
    """Remove the clauses, print what came of it: the exit status."""
    survived = 0
    with (
        tempfile.TemporaryDirectory(prefix="prove-") as folder,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        copies: Queue[Path] = Queue()
        for number in range(AT_ONCE):
            copies.put(copy_project(Path(folder, str(number))))
        left_out: list[str] = []

        def as_it_is(tests: tuple[str, ...]) -> list[str]:
            project = copies.get()
            try:
                return failed(run(project, *tests)[1])
            finally:
                copies.put(project)

        def attempt(clause: Clause) -> Verdict:
            project = copies.get()
            try:
                verdict = without(clause, project, (*left_out, *tests_for(clause.path)))
                return without(clause, project, (*left_out, "tests")) if every_test and not verdict.test else verdict
            finally:
                copies.put(project)

        files = sorted({file for clause in wanted for file in tests_for(clause.path)})
        parts = [tuple(files[number::AT_ONCE]) for number in range(AT_ONCE)]
        for red in pool.map(as_it_is, filter(None, parts)):
            left_out += [f"--deselect={test}" for test in red]
        print(*(f"left out, red as it is: {test.partition('=')[2]}" for test in left_out), sep="\n", flush=True)
        for verdict in pool.map(attempt, wanted):
            print(f"{'red' if verdict.test else 'SURVIVED'}  {verdict.clause.place}  {verdict.clause.text}")
            print(f"     {verdict.test or _last_line(verdict.said)} ({verdict.seconds:.1f} s)", flush=True)
            if why and verdict.test:
                print(*(f"     {line}" for line in verdict.said.splitlines() if line[:2] == "E "), sep="\n")
            survived += verdict.test is None
    print(f"{len(wanted) - survived} of {len(wanted)} clauses are missed when they are removed.")
    return 1 if survived else 0


def _last_line(said: str) -> str:
    return said.strip().rpartition("\n")[2]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make prove", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("some", nargs="*", help="a part of the place or of the text of the clauses that are meant")
    parser.add_argument("--list", action="store_true", help="only print the clauses")
    parser.add_argument("--all", action="store_true", help="run every test before saying that a clause survived")
    parser.add_argument("--why", action="store_true", help="print what the tests said")
    given = parser.parse_args(arguments)
    wanted = [clause for clause in all_clauses() if all(part in f"{clause.place} {clause.text}" for part in given.some)]
    if given.list:
        print(*(f"{clause.place}  {clause.text}" for clause in wanted), sep="\n")
    if not wanted:
        print("There is no such clause.")
        return 2
    return 0 if given.list else prove(wanted, every_test=given.all, why=given.why)


if __name__ == "__main__":
    sys.exit(main())
