"""The requirements: pinned, with hashes that pip checks, and the command that rewrites the hashes."""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path
from typing import Any

import packaging.requirements
import pytest
from packaging.utils import canonicalize_name

from infra.aws import advisories, libraries, package
from infra.local.state import CHECKOUT
from infra.operator.commands import CommandError
from tests.tools.requirement_hashes import Requirement, RequirementError, file_version, parse, render, update

PRODUCTION = CHECKOUT / "requirements.txt"
OPERATION = CHECKOUT / "infra" / "requirements.txt"
DEVELOPMENT = CHECKOUT / "tests" / "requirements.txt"
FILES = (PRODUCTION, OPERATION, DEVELOPMENT)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = [("x86_64", "linux", "Linux"), ("aarch64", "linux", "Linux"), ("arm64", "darwin", "Darwin")]
FIRST, SECOND = "1" * 64, "2" * 64
APP = "from chalice import Chalice\napp = Chalice(app_name='x')\napp.route('/')(dict)\n"


def requirements(file: Path) -> list[Requirement]:
    return [line for line in parse(file.read_text("utf-8")) if isinstance(line, Requirement)]


def all_requirements() -> list[Requirement]:
    return [requirement for file in FILES for requirement in requirements(file)]


def test_every_requirement_is_pinned() -> None:
    for file in FILES:
        assert requirements(file)
        for requirement in requirements(file):
            assert re.fullmatch(r"[0-9]+(\.[0-9]+)*(\.post[0-9]+)?", requirement.version), requirement.pin


def test_every_requirement_has_hashes() -> None:
    for requirement in all_requirements():
        assert requirement.hashes, requirement.pin
        assert list(requirement.hashes) == sorted(set(requirement.hashes)), requirement.pin


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("machine", "platform", "system"), MACHINES)
def test_every_dependency_is_pinned_on_each_platform(machine: str, platform: str, system: str, python: str) -> None:
    """Otherwise pip refuses to install, or would accept a file without a hash."""
    environment = {
        "platform_machine": machine, "sys_platform": platform, "platform_system": system, "os_name": "posix",
        "python_version": python, "python_full_version": f"{python}.0",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    pins = {each.project: each for each in all_requirements()}
    for pin in pins.values():
        extras = pin.extras.strip("[]").split(",")
        for line in distribution(pin.name).requires or ():
            dependency = packaging.requirements.Requirement(line)
            marker = dependency.marker
            if marker and not any(marker.evaluate(environment | {"extra": extra}) for extra in extras):
                continue
            pinned = pins.get(canonicalize_name(dependency.name))
            assert pinned, f"{pin.pin} needs {line}"
            assert dependency.specifier.contains(pinned.version), f"{pin.pin} needs {line}, not {pinned.pin}"


def test_no_requirement_is_in_two_files() -> None:
    projects = [requirement.project for requirement in all_requirements()]
    assert len(projects) == len(set(projects))


def test_operating_needs_nothing_that_only_tests_need() -> None:
    """The environment of `make run`, the operator and the container is complete without tests/requirements.txt."""
    pins = {each.project: each for each in (*requirements(PRODUCTION), *requirements(OPERATION))}
    for pin in pins.values():
        for line in distribution(pin.name).requires or ():
            dependency = packaging.requirements.Requirement(line)
            extras = ["", *pin.extras.strip("[]").split(",")]
            if not dependency.marker or any(dependency.marker.evaluate({"extra": extra}) for extra in extras):
                assert canonicalize_name(dependency.name) in pins, f"{pin.pin} needs {line}"
    imported = {
        name.partition(".")[0]
        for file in (CHECKOUT / "infra").rglob("*.py")
        for name in re.findall(r"^ *(?:import|from) ([a-z_0-9.]+)", file.read_text("utf-8"), re.MULTILINE)
    }
    provided = {
        module for module, names in packages_distributions().items() if {*map(canonicalize_name, names)} & {*pins}
    }
    stubs = {"types_boto3_dynamodb", "types_boto3_kms"}  # imported for type checkers only
    ours = {"app", "chalicelib", "infra"}
    assert imported & {*packages_distributions()} - stubs - ours <= provided


def test_installed_versions_are_the_pinned_ones() -> None:
    for requirement in all_requirements():
        assert version(requirement.name) == requirement.version, requirement.pin


@pytest.mark.parametrize("file", FILES, ids=["production", "operation", "development"])
def test_requirements_file_is_in_the_form_that_the_command_writes(file: Path) -> None:
    text = file.read_text("utf-8")
    assert render(parse(text)) == text


def test_update_replaces_hashes_and_keeps_comments() -> None:
    text = f"# Why.\nPyJWT[crypto]==2.0 \\\n    --hash=sha256:{FIRST}\n\n# More.\ncffi==1.0\n"
    hashes = {"pyjwt": (SECOND,), "cffi": (FIRST, SECOND)}
    assert update(text, lambda requirement: hashes[requirement.project]) == (
        f"# Why.\nPyJWT[crypto]==2.0 \\\n    --hash=sha256:{SECOND}\n\n"
        f"# More.\ncffi==1.0 \\\n    --hash=sha256:{FIRST} \\\n    --hash=sha256:{SECOND}\n"
    )


@pytest.mark.parametrize(
    "line", ["cffi", "cffi>=1.0", "cffi==1.*", "cffi==1.0 ; python_version < '3.12'", "cffi==1.0 --hash=md5:00", "-r x"]
)
def test_parse_rejects_what_is_not_a_pin_with_sha256_hashes(line: str) -> None:
    with pytest.raises(RequirementError):
        list(parse(line))


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("cffi-2.1.1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "2.1.1"),
        ("argon2_cffi_bindings-26.2.0.tar.gz", "26.2.0"),
        ("argon2-cffi-25.1.0.zip", "25.1.0"),
        ("cffi-2.1.1.win32-py2.7.exe", None),
    ],
)
def test_version_of_a_file_in_the_index(filename: str, expected: str | None) -> None:
    assert file_version(filename) == expected


def write_wheel(folder: Path, machine: str) -> str:
    """Write a wheel of `demo` for a machine; return its SHA-256."""
    file = folder / f"demo-1.0-py3-none-manylinux2014_{machine}.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("demo.py", f"machine = '{machine}'\n")
        wheel.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        wheel.writestr(
            "demo-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-{machine}\n"
        )
        wheel.writestr("demo-1.0.dist-info/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small application, and pip without a network."""
    folder = tmp_path / "checkout"
    (folder / "chalicelib").mkdir(parents=True)
    (folder / ".chalice").mkdir()
    (folder / ".chalice" / "config.json").write_text(json.dumps({"version": "2.0", "app_name": "x", "stages": {}}))
    (folder / "app.py").write_text(APP)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return folder


@pytest.mark.parametrize(("architecture", "machine"), [("arm64", "aarch64"), ("x86_64", "x86_64")])
def test_package_checks_the_hashes_of_wheels_of_every_architecture(
    architecture: str, machine: str, checkout: Path, tmp_path: Path
) -> None:
    """On any machine: chalice alone downloads the wheels of another architecture without hashes."""
    hashes = {name: write_wheel(tmp_path, name) for name in ("aarch64", "x86_64")}
    wrong = hashes | {machine: FIRST}
    pin = "demo==1.0 --hash=sha256:{aarch64} --hash=sha256:{x86_64}"
    (checkout / "requirements.txt").write_text(pin.format(**wrong))
    with pytest.raises(CommandError, match=r"does not match its hash in requirements\.txt"):
        package.build("prod", tmp_path / "out", architecture, checkout)
    (checkout / "requirements.txt").write_text(pin.format(**hashes))
    built = package.build("prod", tmp_path / "out", architecture, checkout)
    with zipfile.ZipFile(built.zip) as archive:
        assert machine.encode() in archive.read("demo.pyc")


def test_package_leaves_no_download_to_chalice(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """chalice gets the libraries in vendor/, no requirements, and a pip without an index."""
    (checkout / "requirements.txt").write_text(f"demo==1.0 --hash=sha256:{write_wheel(tmp_path, 'x86_64')}")
    projects, run = [], subprocess.run

    def record(command: list[str], **options: Any) -> Any:
        if "package" in command:
            project = Path(options["cwd"])
            environment = {name: value for name, value in options["env"].items() if name.startswith("PIP_")}
            vendored = sorted(path.name for path in (project / "vendor").iterdir())
            projects.append(((project / "requirements.txt").read_text(), vendored, environment["PIP_NO_INDEX"]))
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", record)
    monkeypatch.delenv("PIP_NO_INDEX")
    package.build("prod", tmp_path / "out", "x86_64", checkout)
    assert projects == [("", ["demo-1.0.dist-info", "demo.py"], "1")]


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("demo==1.0", "Hashes are required .* demo==1.0 --hash"),
        (f"other==1.0 --hash=sha256:{FIRST}", "No matching distribution found for other"),
        (f"source==1.0 --hash=sha256:{FIRST}", "No matching distribution found for source"),
    ],
    ids=["no hash", "not in the index", "no wheel"],
)
def test_package_rejects_a_library_without_hash_or_wheel(
    requirement: str, reason: str, checkout: Path, tmp_path: Path
) -> None:
    write_wheel(tmp_path, "x86_64")
    (tmp_path / "source-1.0.tar.gz").write_bytes(b"")
    (checkout / "requirements.txt").write_text(requirement)
    with pytest.raises(CommandError, match=f"cannot be downloaded: .*{reason}"):
        package.build("prod", tmp_path / "out", "x86_64", checkout)


def test_wheel_is_unpacked_without_its_scripts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "demo.whl", "w") as wheel:
        for name in ("demo.py", "demo-1.0.data/purelib/pure.py", "demo-1.0.data/platlib/a/b.py"):
            wheel.writestr(name, name)
        wheel.writestr("demo-1.0.data/scripts/demo", "#!python")
        wheel.writestr("demo-1.0.data/headers/demo.h", "")
    names = libraries.unpack(tmp_path / "demo.whl", tmp_path / "vendor")
    files = [path.relative_to(tmp_path / "vendor") for path in (tmp_path / "vendor").rglob("*") if path.is_file()]
    assert sorted(map(str, files)) == sorted(names) == ["a/b.py", "demo.py", "pure.py"]


@pytest.mark.parametrize(
    ("version", "newest"), [((3, 11), "manylinux_2_26_aarch64"), ((3, 12), "manylinux_2_34_aarch64")]
)
def test_wheels_may_need_no_newer_glibc_than_lambda_has(
    version: tuple[int, int], newest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def record(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", record)
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    libraries.download(tmp_path / "requirements.txt", tmp_path, "arm64")
    (command,) = commands
    platforms = [command[index + 1] for index, option in enumerate(command) if option == "--platform"]
    assert (platforms[0], platforms[-1]) == (newest, "manylinux2014_aarch64")
    assert command[command.index("--python-version") + 1] == ".".join(map(str, version))


# ---- known vulnerabilities


ADVISORY = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": ["CVE-1"], "description": "x"}
CHECKED: dict[str, Any] = {"name": "demo", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (2.0)"}


@pytest.mark.parametrize(
    ("dependencies", "printed", "code"),
    [
        ([CHECKED], "Known vulnerabilities: none\n", 0),
        (
            [CHECKED | {"vulns": [ADVISORY, ADVISORY | {"id": "PYSEC-2", "fix_versions": []}]}, UNKNOWN],
            "Known vulnerabilities:\n  demo 1.0: PYSEC-1, fixed in 1.1\n  demo 1.0: PYSEC-2\n  odd: not checked\n",
            1,
        ),
        ([UNKNOWN], "Known vulnerabilities: skipped: no advisory service\n", 0),
        (None, "Known vulnerabilities: skipped: no advisory service\n", 0),
    ],
    ids=["none", "found", "unknown to the service", "no answer"],
)
def test_known_vulnerabilities_are_listed_or_skipped_without_an_advisory_service(
    dependencies: list[dict[str, Any]] | None,
    printed: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = "" if dependencies is None else json.dumps({"dependencies": dependencies, "fixes": []})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, output, "ERROR:…"))
    monkeypatch.setattr(sys, "argv", ["advisories", str(PRODUCTION)])
    assert advisories.main() == code
    assert capsys.readouterr().out == printed


def test_known_vulnerabilities_are_skipped_when_the_service_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the port "discard", where nothing listens
    done = subprocess.run(
        [sys.executable, "-m", "infra.aws.advisories", str(PRODUCTION)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "Known vulnerabilities: skipped: no advisory service\n",
        "",
    )
