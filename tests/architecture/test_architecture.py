"""The structure of the code: import order, owners of libraries, size limits, and the cost of importing `app`."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import app
from chalicelib import web

ROOT = Path(web.__file__).parent.parent
MAX_LINES = 300

# A package imports only packages to its right; inside a package there is no cycle.
ORDER = (
    *("app", "infra", "web", "endpoints", "schedules", "authorization", "grants", "users", "sessions"),
    *("authentication", "mail", "clients", "tokens", "server", "events", "keys", "builtin_clients", "storage"),
    *("aws", "pages", "settings", "http", "protocol"),
)
INFRA_ORDER = ("__main__", "aws", "operator", "local", "access", "schema")
# Files of these never import one another.
SEPARATE = ("endpoints", "grants")
# library -> the only packages that import it
OWNERS: dict[str, tuple[str, ...]] = {
    "chalice": ("web",),
    "jwt": ("keys",),
    "cryptography": ("keys",),
    "fido2": ("keys", "authentication"),
    "passlib": ("authentication",),
    "argon2": ("authentication",),
    "jinja2": ("pages",),
    "markupsafe": ("pages",),
    "pyotp": ("authentication",),
    "segno": ("pages",),
    "snapshot_restore_py": ("web",),  # part of Lambda's runtime
}
MAX_TOP_MODULES = 8
MAX_IMPORTS = 18
LISTS = ("app.py", "tables.py", "command_list.py")  # of all routes, tables, commands: they name everything
MAX_ARROWS = 160
MAX_LOOSE_TESTS = 3
FOR_TYPES_ONLY = {"_typeshed"}
LAZY = (
    *("boto3", "botocore.session", "jwt", "jinja2", "passlib", "argon2", "pyotp", "segno", "fido2", "cryptography"),
    *("moto", "yaml", "infra"),
)


def files(*folders: str) -> list[Path]:
    """Return the Python files below these folders; `app` is app.py."""
    paths = [ROOT / "app.py"] if "app" in folders else []
    for folder in folders:
        paths += sorted((ROOT / folder).rglob("*.py"))
    return paths


def module_of(path: Path) -> str:
    """Return the name of a module, such as `chalicelib.endpoints.code` or `app`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    """Return the name in ORDER of the package that a module belongs to."""
    first, *rest = module.split(".")
    return rest[0] if first == "chalicelib" and rest else first


MODULES = {module_of(path) for path in files("app", "chalicelib", "infra")}


@functools.cache
def imports(path: Path, *, everywhere: bool = True) -> tuple[str, ...]:
    """Return the modules that a file imports. Without `everywhere`: only those imported when the file itself is."""
    return tuple(_imports(path, everywhere))


def _imports(path: Path, everywhere: bool) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and isinstance(outer.test, ast.Name) and outer.test.id == "TYPE_CHECKING")
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if not everywhere and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module or ""


def project_imports(path: Path) -> Iterator[str]:
    """Yield the modules of the project that a file imports."""
    return (name for name in imports(path) if name in MODULES)


ALL = files("app", "chalicelib", "infra")
IDS = [module_of(path) for path in ALL]


def test_every_package_is_in_the_import_order() -> None:
    print("A package imports only packages to its right:\n    " + ", ".join(ORDER))
    units = {unit_of(module) for module in MODULES} - {"chalicelib"}
    assert units == set(ORDER)


def test_import_order_is_documented() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    block = next(part for part in text.split("\n\n") if part.startswith("    app, infra,"))
    assert tuple(block.replace("\n", " ").replace(" ", "").split(",")) == ORDER


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_imports_follow_the_order(path: Path) -> None:
    module = module_of(path)
    if module == "chalicelib":
        assert list(project_imports(path)) == []
        return
    unit = unit_of(module)
    for imported in project_imports(path):
        if imported != "chalicelib" and unit_of(imported) != unit:
            assert ORDER.index(unit) < ORDER.index(unit_of(imported)), f"{module} imports {imported}"


@pytest.mark.parametrize("path", files("infra"), ids=module_of)
def test_imports_within_infra_follow_its_order(path: Path) -> None:
    def place(module: str) -> int:
        return INFRA_ORDER.index(module.split(".")[1])

    module = module_of(path)
    for imported in project_imports(path):
        if module != "infra" and imported.startswith("infra."):
            assert place(module) <= place(imported), f"{module} imports {imported}"


def test_imports_have_no_cycles() -> None:
    # Between modules, not packages: app imports infra in a function only, and infra does not import app.
    graph = {module_of(path): set(project_imports(path)) for path in ALL}
    resolved: set[str] = set()
    while graph:
        next_modules = {module for module, imported in graph.items() if imported <= resolved | {module}}
        assert next_modules, f"a cycle among {sorted(graph)}"
        resolved |= next_modules
        graph = {module: imported for module, imported in graph.items() if module not in next_modules}


def test_endpoints_do_not_import_each_other_and_neither_do_grants() -> None:
    for folder in SEPARATE:
        for path in files(f"chalicelib/{folder}"):
            if path.name == "__init__.py":
                continue
            siblings = [name for name in project_imports(path) if unit_of(name) == folder]
            assert siblings == [], f"{module_of(path)} imports {siblings}"


def test_every_route_has_an_endpoint() -> None:
    """Their modules are imported by the first request."""
    for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES):
        module, _, name = route.endpoint.__qualname__.rpartition(".")
        assert module in MODULES
        assert callable(getattr(import_module(module), name)), route.path


def test_structure_stays_within_its_limits() -> None:
    top = [path.stem for path in (ROOT / "chalicelib").glob("*.py") if path.name != "__init__.py"]
    assert len(top) <= MAX_TOP_MODULES, sorted(top)
    for path in ALL:
        imported = set(project_imports(path))
        assert len(imported) <= MAX_IMPORTS or path.name in LISTS, f"{module_of(path)} imports {len(imported)}"
    arrows = {(unit_of(module_of(path)), unit_of(name)) for path in ALL for name in project_imports(path)}
    assert len({(left, right) for left, right in arrows if left != right}) <= MAX_ARROWS
    loose = [path.name for path in (ROOT / "tests").glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= MAX_LOOSE_TESTS, sorted(loose)


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_private_names_stay_in_their_package(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("chalicelib", "infra"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                owner = whole if whole in MODULES else node.module or ""
                if unit_of(owner) != unit_of(module_of(path)):
                    assert not alias.name.startswith("_") or alias.name.startswith("__"), f"line {node.lineno}: {whole}"
                if whole in MODULES:
                    modules.add(alias.asname or alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert not node.attr.startswith("_"), f"line {node.lineno}: {node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", files("app", "chalicelib"), ids=module_of)
def test_each_library_has_one_owner(path: Path) -> None:
    for imported in imports(path):
        library = imported.partition(".")[0]
        if library in OWNERS:
            assert unit_of(module_of(path)) in OWNERS[library], f"{module_of(path)} imports {imported}"
        else:
            without_owner = sys.stdlib_module_names | FOR_TYPES_ONLY | {"chalicelib", "infra"}
            assert library in without_owner, f"{library} has no owner in OWNERS"


@pytest.mark.parametrize("path", files("app", "chalicelib"), ids=module_of)
def test_only_settings_reads_environment_variables(path: Path) -> None:
    if module_of(path) == "chalicelib.settings":
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "getenv", "environb"), f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "os", f"line {node.lineno}"


@pytest.mark.parametrize("path", files("app", "chalicelib"), ids=module_of)
def test_the_deployed_code_does_not_import_infra(path: Path) -> None:
    assert [name for name in imports(path, everywhere=False) if name.partition(".")[0] == "infra"] == []
    if module_of(path) != "app":
        assert [name for name in imports(path) if name.partition(".")[0] == "infra"] == []


def test_no_file_is_longer_than_the_limit() -> None:
    suffixes = {".py", ".html", ".css", ".sh", ".json"}
    for folder in ("chalicelib", "infra"):
        for path in [ROOT / "app.py", *sorted((ROOT / folder).rglob("*"))]:
            if path.suffix in suffixes:
                lines = len(path.read_text("utf-8").splitlines())
                assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines"


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "the module itself"

    def check(body: list[ast.stmt]) -> None:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name[0] == "_":
                continue
            # An overload is documented by its implementation, a setter by its property.
            marks = node.decorator_list
            if not any(isinstance(mark, ast.Attribute) or ast.unparse(mark) == "overload" for mark in marks):
                assert ast.get_docstring(node), f"{node.name}, line {node.lineno}"
            if isinstance(node, ast.ClassDef):
                check(node.body)

    check(tree.body)


def test_the_package_has_no_library_that_the_lambda_runtime_provides() -> None:
    text = (ROOT / "requirements.txt").read_text("utf-8").lower()
    assert not re.search(r"^(boto3|botocore|chalice|moto)\b", text, re.MULTILINE)


def test_app_can_be_imported_without_environment_connections_and_large_libraries() -> None:
    """`chalice package` imports app.py, which must not read settings or open connections."""
    program = f"""
import os, socket, sys
sys.path.insert(0, {str(ROOT)!r})

def refuse(*_):
    raise AssertionError("app must not do this when it is imported")

def read(environ, name, read=os._Environ.__getitem__):
    caller = sys._getframe(1)
    while caller.f_globals["__name__"] in ("os", "collections.abc"):
        caller = caller.f_back
    module = caller.f_globals["__name__"]  # Chalice reads some itself
    assert module != "app" and not module.startswith("chalicelib"), f"{{module}} reads {{name}}"
    return read(environ, name)

os._Environ.__getitem__ = read
socket.socket.connect = refuse
import app
print(app.app.app_name)
print(*sorted(name for name in {LAZY!r} if name in sys.modules))
try:
    app.Settings.from_environ()
except AssertionError as reads:
    print(reads)  # the guard works
"""
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-c", program], env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    name, loaded, guard = done.stdout.splitlines()
    assert name == "signet"
    assert loaded == ""
    assert guard.startswith("chalicelib.settings reads")
