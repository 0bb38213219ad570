"""`make prove`: mutation tests for the conditions of DynamoDB writes, and for the rules that end grants.

The conditions of `chalicelib` implement its state machine. This finds their clauses in the source (operands of `&` and
`|` between `attr(…)` conditions, single conditions, names of fields that must be unchanged, and terms of condition
strings), removes one at a time in a copy of the project, and runs the tests of that file. At least one of them must
fail. New clauses are found automatically. In the functions of RULES, also the conditions of `if` and `return`, and
those of elements, in `all`, `any` and comprehensions.

    make prove                                  all clauses
    make prove ARGS=grants/refresh_token.py     clauses whose place or text contains this
    make prove ARGS='revoked_at --why'          also print the failures
    make prove ARGS=--list                      only list the clauses
    make prove ARGS=--all                       run all tests for a clause that survives

An operand of `&` or `and` is replaced by a condition that is always true, an operand of `|` or `or` by one that is
never true, and so is the condition of an `if`. Tests that fail on the unchanged source are left out. Exit status: 0 if
every removal made a test fail, else 1.
"""

import argparse
import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[2]
SOURCES = ("chalicelib", "infra")
NOT_COPIED = (".git", ".venv", "node_modules", "dist", ".hypothesis", "__pycache__", ".*_cache")
TIMEOUT = 600  # seconds for the tests of one clause
PROCESSES = 2

# Tests of all endpoints together, which run for every file.
GENERAL = ("races", "interleavings", "grant_model", "endings")
# Test files of importing modules are added until there are so many.
ENOUGH = 10

# The methods of an attribute that make a condition from an attribute.
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
EVERY = ("*",)
# file -> functions whose Python conditions are clauses too
RULES: dict[str, tuple[str, ...]] = {
    "chalicelib/authentication/passkeys.py": EVERY,
    "chalicelib/authentication/proofs.py": EVERY,
    "chalicelib/authorization/request_object.py": EVERY,
    "chalicelib/clients/assertions.py": EVERY,
    "chalicelib/clients/document_content.py": EVERY,
    "chalicelib/clients/tls_authentication.py": EVERY,
    "chalicelib/clients/tls_metadata.py": EVERY,
    "chalicelib/http/mutual_tls.py": EVERY,
    "chalicelib/protocol/authorization_details.py": EVERY,
    "chalicelib/protocol/fapi.py": EVERY,
    "chalicelib/protocol/grant.py": ("ends_with_session", "has_user", "depends_on_session"),
    "chalicelib/protocol/records.py": ("empty", "valid_for", "is_valid_for"),
    "chalicelib/protocol/validity.py": ("why_ended", "why_entry_ended", "_in_valid_session"),
    "chalicelib/sessions/backchannel_logout.py": ("_must_be_told",),
    "chalicelib/sessions/browser_sessions.py": ("read_browser", "_is_valid"),
    "chalicelib/sessions/lifetime.py": ("extend",),
    "chalicelib/sessions/validity.py": ("read_state", "require_valid", "_may_be_torn"),
    "chalicelib/tokens/dpop.py": EVERY,
    "chalicelib/tokens/mutual_tls.py": EVERY,
}
# A condition that is always true, where no attribute is named.
_ATTRIBUTE = "__import__('chalicelib.storage.dynamodb', fromlist=['attr']).attr('attempt')"
_ALWAYS = f"(lambda name: name.exists() | name.not_exists())({_ATTRIBUTE})"
_BOOLEANS = ("bool", "TypeGuard[str]")
# A term of a condition string.
_TERM = re.compile(r"attribute_(?:not_)?exists\([^()\s]+\)|#[\w{}.]+ (?:=|<>|<=?|>=?) :[\w{}]+")


@dataclass(frozen=True)
class Clause:
    """A clause of a condition: its place (`start` and `end` in bytes), and the text that replaces it to remove it."""

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
        """Return the source without this clause."""
        return source[: self.start] + self.instead.encode() + source[self.end :]


@dataclass(frozen=True)
class Verdict:
    """The result of removing a clause: the test that failed, or None, and the output of the run."""

    clause: Clause
    test: str | None
    output: str
    seconds: float


# ---- finding


def all_clauses(root: Path = ROOT) -> list[Clause]:
    """Return every clause of the project."""
    return [
        clause
        for folder in SOURCES
        for path in sorted((root / folder).rglob("*.py"))
        for clause in clauses(path.read_bytes(), path.relative_to(root).as_posix())
    ]


def clauses(source: bytes, path: str = "") -> list[Clause]:
    """Return the clauses of one file, in their order."""
    return sorted(_Finder(source, path).find(), key=lambda clause: (clause.start, clause.end))


class _Finder:
    def __init__(self, source: bytes, path: str):
        self._source, self._path = source, path
        self._tree = ast.parse(source)
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._names = {name for name, _ in named_attributes(self._tree)}

    def find(self) -> Iterator[Clause]:
        yield from self._below(self._tree)
        yield from self._texts()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "unchanged":
                yield from self._fields(node)
            if isinstance(node, ast.FunctionDef) and has_rules(self._path, node.name):
                yield from self._rules(node)

    def _fields(self, call: ast.Call) -> Iterator[Clause]:
        """Yield the fields that `Table.unchanged` compares: names, and the names in a variable."""
        names: list[tuple[ast.expr, str, str]] = []
        for argument in call.args[1:]:
            match argument:
                case ast.Constant(value=str(name)):
                    names.append((argument, name, "''"))
                case ast.Starred(value=ast.Name(id=variable)):
                    remaining = "*(name for name in {} if name != {!r})"
                    names += [(argument, name, remaining.format(variable, name)) for name in self._strings(variable)]
        for argument, name, instead in names:
            place, instead = (call, _ALWAYS) if len(names) == 1 else (argument, instead)
            clause = self._clause_at(argument.lineno, *self._span(place), instead)
            yield replace(clause, text=f"unchanged {name}")

    def _strings(self, variable: str) -> list[str]:
        """Return the strings of a tuple that is assigned to a variable."""
        return [
            element.value
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
            if any(isinstance(target, ast.Name) and target.id == variable for target in node.targets)
            for element in ast.walk(node.value)
            if isinstance(element, ast.Constant) and isinstance(element.value, str)
        ]

    def _rules(self, function: ast.FunctionDef) -> Iterator[Clause]:
        """Yield the conditions of a function: of `if` and `return`, those with a name, and those of elements."""
        for node in _inside(function):
            match node:
                case ast.comprehension(ifs=conditions):
                    for condition in conditions:
                        yield from self._rule_operands(condition, single="True")
                case ast.Call(func=ast.Name(id="all" | "any" as name), args=[ast.GeneratorExp(elt=element)]):
                    yield from self._rule_operands(element, single="True" if name == "all" else "False")
                case ast.If(test=ast.BoolOp(op=ast.And()) as test):
                    yield self._rule(test, "False")
                    yield from self._rule_operands(test)
                case ast.If(test=test):
                    yield from self._rule_operands(test, single="False")
                case ast.Assign(value=ast.BoolOp() as value):
                    yield from self._rule_operands(value)
                case ast.Assign(value=ast.Compare() as value):  # it may be used in both ways
                    yield self._rule(value, "True")
                    yield self._rule(value, "False")
                case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                    boolean = function.returns is not None and ast.unparse(function.returns) in _BOOLEANS
                    yield from self._rule_operands(value, single="True") if boolean else ()

    def _rule_operands(self, node: ast.expr, single: str = "") -> Iterator[Clause]:
        if isinstance(node, ast.BoolOp):
            for operand in node.values:
                yield from self._rule_operands(operand, "True" if isinstance(node.op, ast.And) else "False")
        else:
            yield self._rule(node, single)

    def _rule(self, node: ast.expr, instead: str) -> Clause:
        return self._clause_at(node.lineno, *self._span(node), instead)

    def _below(self, node: ast.AST) -> Iterator[Clause]:
        """Yield the clauses of all conditions inside a node that is not a condition itself."""
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
                parts = [part for part in _alternatives(node) if self._is_condition(part)]
                yield from (self._clause(part, never=True) for part in parts)
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
        """Return the `attr(…)` of a condition, or the name of a variable that has one."""
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in METHODS:
                match value:
                    case ast.Call(func=ast.Attribute(value=measured, attr="size")):
                        value = measured
                named = isinstance(value, ast.Name) and value.id in self._names
                return value if named or is_attr(value) else None
        return None

    def _clause(self, node: ast.expr, *, never: bool = False) -> Clause:
        start, end = self._span(node)
        (attribute, *_) = filter(None, map(self._attribute, ast.walk(node)))
        first, last = self._span(attribute)
        name = self._source[first:last].decode()
        instead = f"({name}.exists() {'&' if never else '|'} {name}.not_exists())"
        return self._clause_at(node.lineno, start, end, instead)

    def _texts(self) -> Iterator[Clause]:
        """Yield the terms of condition strings."""
        # Docstrings are not conditions, and a key condition selects the records of a query.
        excluded = {
            id(inner)
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "KeyConditionExpression")
            for inner in (node, *([node.value] if isinstance(node.value, ast.Constant | ast.JoinedStr) else []))
        }
        for node in ast.walk(self._tree):
            whole = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
            if not whole or id(node) in excluded:
                continue
            assert isinstance(node, ast.expr)
            excluded |= {id(inner) for inner in ast.walk(node)}  # the parts of an f-string have no position
            start, end = self._span(node)
            text = self._source[start:end].decode()
            for term in _TERM.finditer(text):
                before = len(text[: term.start()].encode())
                alternative = text[: term.start()].endswith(" OR ")
                instead = f"({term[0]} {'AND' if alternative else 'OR'} NOT {term[0]})"
                line = node.lineno + text[: term.start()].count("\n")
                yield self._clause_at(line, start + before, start + before + len(term[0].encode()), instead)

    def _clause_at(self, line: int, start: int, end: int, instead: str) -> Clause:
        return Clause(self._path, line, start, end, " ".join(self._source[start:end].decode().split()), instead)

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset


def has_rules(path: str, function: str) -> bool:
    """Return whether the Python conditions of a function are clauses."""
    names = RULES.get(path, ())
    return names == EVERY or function in names


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes in a function, without those of functions in it, and of f-strings, which have no position."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.JoinedStr):
            yield child
            yield from _inside(child)


def is_attr(node: ast.AST) -> bool:
    """Return whether this is a call `attr(…)`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attr"


def named_attributes(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the variables with an attribute, such as `disabled = attr("disabled_at")`, with their values."""
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


# ---- running


def copy_project(to: Path) -> Path:
    """Copy the project, so that its source can be changed, and return the copy."""
    shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    return to


def tests_for(path: str) -> tuple[str, ...]:
    """Return the test files for a source file, the most specific ones first, and then GENERAL.

    The tests of a module have its name or import it. Those of the modules that import it follow, up to the endpoints.
    """
    modules, importers, tests = _modules(), _importers(), _test_files()
    files: dict[str, None] = {}
    level, visited = [_module_of(Path(path))], {_module_of(Path(path))}
    while level and len(files) < ENOUGH:
        for module in level:
            files |= dict.fromkeys(test for test, imported in tests.items() if _is_test_of(module, test, imported))
        above = [
            importer
            for module in level
            if not module.startswith(("chalicelib.endpoints.", "infra."))
            for importer in sorted(importers[module])
            if importer in modules and importer not in visited
        ]
        level = list(dict.fromkeys(above))
        visited |= set(level)
    return tuple(files | dict.fromkeys(test for name in GENERAL for test in tests if Path(test).stem == f"test_{name}"))


def _is_test_of(module: str, test: str, imported: frozenset[str]) -> bool:
    stem, path = module.rpartition(".")[2], Path(test)
    of_endpoint = module.startswith("chalicelib.endpoints.") and path.parent.name == stem
    return of_endpoint or module in imported or f"_{stem}_" in f"{path.stem}_"


def _module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _modules() -> dict[str, Path]:
    return {_module_of(path.relative_to(ROOT)): path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")}


@functools.cache
def _importers() -> dict[str, set[str]]:
    """Return the modules that import each module."""
    importers: dict[str, set[str]] = {module: set() for module in _modules()}
    for module, path in _modules().items():
        for imported in _imports(path):
            importers[imported].add(module)
    return importers


@functools.cache
def _test_files() -> dict[str, frozenset[str]]:
    """Return the test files, except those in the browser, with the modules that they import."""
    paths = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name != "browser")
    return {path.relative_to(ROOT).as_posix(): _imports(path) for path in paths if "node_modules" not in path.parts}


def _imports(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return frozenset(names & _modules().keys())


def without(clause: Clause, project: Path, tests: tuple[str, ...]) -> Verdict:
    """Remove a clause from a copy of the project, run tests there, and restore it.

    A file whose fixture fails is left out: that is no failed test, and would end the run.
    """
    started = time.monotonic()
    file = project / clause.path
    source = file.read_bytes()
    file.write_bytes(clause.removed(source))
    left_out: set[str] = set()
    try:
        status, output = run(project, "-x", *tests)
        while status == 1 and not failed(output) and (files := {*files_with_errors(output)} - left_out):
            left_out |= files
            tests = tuple(test for test in tests if test.partition("::")[0] not in left_out)
            if not tests:
                break
            # pytest ignores no file that is an argument.
            status, output = run(project, "-x", *(f"--ignore={file}" for file in sorted(left_out)), *tests)
    finally:
        file.write_bytes(source)
    failures = failed(output) if status == 1 else []
    return Verdict(clause, failures[0] if failures else None, output, time.monotonic() - started)


def run(project: Path, *arguments: str) -> tuple[int, str]:
    """Run pytest in a copy; return its exit status (-1 after a timeout) and its output."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *arguments]
    # Hypothesis must not shrink examples, which takes long: one failure is enough.
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "prove", "COLUMNS": "400", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        return -1, str(error)
    return done.returncode, done.stdout + done.stderr


def failed(output: str) -> list[str]:
    """Return the failed tests in pytest's output, without errors of fixtures and imports."""
    return re.findall(r"^FAILED (tests/\S+?::.+?)(?: - .*)?$", output, re.MULTILINE)


def files_with_errors(output: str) -> list[str]:
    """Return the test files with an error of a fixture."""
    return re.findall(r"^ERROR (tests/\S+?\.py)::", output, re.MULTILINE)


def prove(selected: list[Clause], *, every_test: bool, why: bool) -> int:
    """Remove the clauses one at a time, print the results, and return the exit status."""
    survived = 0
    with (
        tempfile.TemporaryDirectory(prefix="prove-") as folder,
        ThreadPoolExecutor(PROCESSES) as pool,
    ):
        copies: Queue[Path] = Queue()
        for number in range(PROCESSES):
            copies.put(copy_project(Path(folder, str(number))))
        left_out: list[str] = []

        def run_unchanged(tests: tuple[str, ...]) -> list[str]:
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

        files = sorted({file for clause in selected for file in tests_for(clause.path)})
        parts = [tuple(files[number::PROCESSES]) for number in range(PROCESSES)]
        for failures in pool.map(run_unchanged, filter(None, parts)):
            left_out += [f"--deselect={test}" for test in failures]
        print(
            *(f"left out, fails without a change: {test.partition('=')[2]}" for test in left_out), sep="\n", flush=True
        )
        for verdict in pool.map(attempt, selected):
            print(f"{'fails' if verdict.test else 'SURVIVED'}  {verdict.clause.place}  {verdict.clause.text}")
            print(f"     {verdict.test or _last_line(verdict.output)} ({verdict.seconds:.1f} s)", flush=True)
            if why and verdict.test:
                print(*(f"     {line}" for line in verdict.output.splitlines() if line[:2] == "E "), sep="\n")
            survived += verdict.test is None
    print(f"A test fails without {len(selected) - survived} of {len(selected)} clauses.")
    return 1 if survived else 0


def _last_line(output: str) -> str:
    return output.strip().rpartition("\n")[2]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make prove", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("some", nargs="*", help="a part of the place or of the text of the clauses to remove")
    parser.add_argument("--list", action="store_true", help="only list the clauses")
    parser.add_argument("--all", action="store_true", help="run all tests for a clause that survives")
    parser.add_argument("--why", action="store_true", help="print the failures")
    options = parser.parse_args(arguments)
    selected = [
        clause for clause in all_clauses() if all(part in f"{clause.place} {clause.text}" for part in options.some)
    ]
    if options.list:
        print(*(f"{clause.place}  {clause.text}" for clause in selected), sep="\n")
    if not selected:
        print("No clause matches.")
        return 2
    return 0 if options.list else prove(selected, every_test=options.all, why=options.why)


if __name__ == "__main__":
    sys.exit(main())
