"""The shape of the house: who may import whom, who owns which library, and what an import costs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib import web

ROOT = Path(web.__file__).parent.parent
LONGEST = 300

# Left may import right, never back; within a group imports are allowed, cycles are not.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("app", "infra"),
    ("web", "endpoints"),
    ("grants",),
    (
        "authorization",
        "authorization_request",
        "authentication_request",
        "claims_parameter",
        "response_modes",
        "interaction",
        "forms",
        "client_auth",
        "tokens",
        "sessions",
        "pkce",
        "redirect_uris",
        "registration",
        "client_metadata",
        "resources",
        "subjects",
        "users",
        "access",
        "ending",
        "deliveries",
        "schedules",
        "sign_in",
        "decision",
        "login_application",
    ),
    ("server",),
    ("keys", "rotation", "seal", "signing", "passwords", "throttle", "audit", "history", "own_clients", "claims"),
    ("store", "table", "dynamodb"),
    ("gateway", "backchannel", "pages", "handles", "settings"),
    ("models", "messages", "errors", "error_codes"),
)
# Files of these never import one another.
STRANGERS = ("endpoints", "grants")
# library -> the only modules that know it
OWNERS: dict[str, tuple[str, ...]] = {
    "chalice": ("web",),
    "boto3": ("dynamodb", "seal"),
    "botocore": ("dynamodb", "seal"),
    "jwt": ("keys", "signing"),
    "cryptography": ("seal", "signing"),
    "passlib": ("passwords",),
    "argon2": ("passwords",),
    "jinja2": ("pages",),
    "snapshot_restore_py": ("web",),  # part of Lambda's runtime
}
FOR_TYPES_ONLY = {"types_boto3_dynamodb", "types_boto3_kms", "_typeshed"}
LAZY = ("boto3", "botocore.session", "jwt", "jinja2", "passlib", "argon2", "cryptography", "moto", "yaml", "infra")


def files(*folders: str) -> list[Path]:
    """The Python files of the project: app.py, chalicelib, infra."""
    found = [ROOT / "app.py"] if "app" in folders else []
    for folder in folders:
        found += sorted((ROOT / folder).rglob("*.py"))
    return found


def module_of(path: Path) -> str:
    """`chalicelib.endpoints.code`, `app`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Its name in GROUPS."""
    first, *rest = module.split(".")
    return rest[0] if first == "chalicelib" and rest else first


MODULES = {module_of(path) for path in files("app", "chalicelib", "infra")}


def imports(path: Path, *, everywhere: bool = True) -> Iterator[str]:
    """The modules that a file imports; of our own the very module. Not `everywhere`: when it is imported itself."""
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


def our_imports(path: Path) -> Iterator[str]:
    return (name for name in imports(path) if name in MODULES)


ALL = files("app", "chalicelib", "infra")
IDS = [module_of(path) for path in ALL]


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_imports_go_from_left_to_right(path: Path) -> None:
    order = {part: number for number, group in enumerate(GROUPS) for part in group}
    module = module_of(path)
    if module == "chalicelib":
        assert list(our_imports(path)) == []
        return
    for imported in our_imports(path):
        assert order[part_of(module)] <= order[part_of(imported)], f"{module} imports {imported}"


def test_there_are_no_cycles() -> None:
    # app names infra in a function, which names nothing of app; a package's own parts are told apart.
    graph = {module_of(path): set(our_imports(path)) for path in ALL}
    free: set[str] = set()
    while graph:
        now_free = {module for module, needed in graph.items() if needed <= free | {module}}
        assert now_free, f"a cycle among {sorted(graph)}"
        free |= now_free
        graph = {module: needed for module, needed in graph.items() if module not in now_free}


def test_endpoints_never_import_each_other_nor_do_grants() -> None:
    for folder in STRANGERS:
        for path in files(f"chalicelib/{folder}"):
            if path.name == "__init__.py":
                continue
            siblings = [name for name in our_imports(path) if part_of(name) == folder]
            # The list of grant types is for the token endpoint and the metadata.
            assert siblings == [], f"{module_of(path)} imports {siblings}"


def test_every_module_has_its_place() -> None:
    parts = {part_of(module) for module in MODULES} - {"chalicelib"}
    assert parts == {part for group in GROUPS for part in group}


@pytest.mark.parametrize("path", files("app", "chalicelib"), ids=module_of)
def test_each_library_has_one_owner(path: Path) -> None:
    for imported in imports(path):
        library = imported.partition(".")[0]
        if library in OWNERS:
            assert part_of(module_of(path)) in OWNERS[library], f"{module_of(path)} imports {imported}"
        else:
            known = sys.stdlib_module_names | FOR_TYPES_ONLY | {"chalicelib", "infra"}
            assert library in known, f"nobody owns {library}"


@pytest.mark.parametrize("path", files("app", "chalicelib"), ids=module_of)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if module_of(path) == "chalicelib.settings":
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "getenv", "environb"), f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "os", f"line {node.lineno}"


@pytest.mark.parametrize("path", files("app", "chalicelib"), ids=module_of)
def test_what_goes_into_the_zip_imports_nothing_of_infra(path: Path) -> None:
    assert [name for name in imports(path, everywhere=False) if name.partition(".")[0] == "infra"] == []
    if module_of(path) != "app":
        assert [name for name in imports(path) if name.partition(".")[0] == "infra"] == []


def test_no_file_is_long() -> None:
    suffixes = {".py", ".html", ".css", ".sh", ".json"}
    for folder in ("chalicelib", "infra"):
        for path in [ROOT / "app.py", *sorted((ROOT / folder).rglob("*"))]:
            if path.suffix in suffixes:
                lines = len(path.read_text("utf-8").splitlines())
                assert lines <= LONGEST, f"{path.relative_to(ROOT)} has {lines} lines"


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_everything_public_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "the module itself"

    def look(body: list[ast.stmt]) -> None:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name[0] == "_":
                continue
            # An overload or a property's setter says it with the first of its kind.
            if not any(isinstance(mark, ast.Attribute) for mark in node.decorator_list):
                assert ast.get_docstring(node), f"{node.name}, line {node.lineno}"
            if isinstance(node, ast.ClassDef):
                look(node.body)

    look(tree.body)


def test_every_requirement_is_pinned() -> None:
    for name in ("requirements.txt", "tests/requirements.txt"):
        lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
        for line in filter(None, lines):
            assert re.fullmatch(r"[A-Za-z0-9-]+(\[[a-z0-9,]+\])?==[0-9][0-9.]*", line), f"{name}: {line}"


def test_lambda_gets_no_library_that_its_runtime_has() -> None:
    text = (ROOT / "requirements.txt").read_text("utf-8").lower()
    assert not re.search(r"^(boto3|botocore|chalice|moto)\b", text, re.MULTILINE)


def test_app_is_imported_with_an_empty_environment_and_loads_nothing_heavy() -> None:
    """`chalice package` imports app.py: no setting is read, nothing is made or connected."""
    program = f"""
import os, socket, sys
sys.path.insert(0, {str(ROOT)!r})

def refuse(*_):
    raise AssertionError("nothing of this is for import time")

def read(environ, name, read=os._Environ.__getitem__):
    caller = sys._getframe(1)
    while caller.f_globals["__name__"] in ("os", "collections.abc"):
        caller = caller.f_back
    module = caller.f_globals["__name__"]  # Chalice's own doings are not ours
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
