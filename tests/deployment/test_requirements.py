"""The requirements: pinned, with hashes that pip checks, and the command that rewrites the hashes."""

import hashlib
import json
import re
import subprocess
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from infra.aws import package
from infra.local.state import CHECKOUT
from infra.operator.commands import CommandError
from tests.tools.requirement_hashes import Requirement, RequirementError, file_version, parse, render, update

PRODUCTION = CHECKOUT / "requirements.txt"
DEVELOPMENT = CHECKOUT / "tests" / "requirements.txt"
FIRST, SECOND = "1" * 64, "2" * 64
APP = "from chalice import Chalice\napp = Chalice(app_name='x')\napp.route('/')(dict)\n"


def requirements(file: Path) -> list[Requirement]:
    return [line for line in parse(file.read_text("utf-8")) if isinstance(line, Requirement)]


def test_every_requirement_is_pinned() -> None:
    for file in (PRODUCTION, DEVELOPMENT):
        assert requirements(file)
        for requirement in requirements(file):
            assert re.fullmatch(r"[0-9]+(\.[0-9]+)*", requirement.version), requirement.pin


def test_every_production_requirement_has_hashes() -> None:
    for requirement in requirements(PRODUCTION):
        assert requirement.hashes, requirement.pin
        assert list(requirement.hashes) == sorted(set(requirement.hashes)), requirement.pin


def test_no_requirement_is_in_both_files() -> None:
    production, development = ({each.project for each in requirements(file)} for file in (PRODUCTION, DEVELOPMENT))
    assert not production & development


def test_installed_versions_are_the_pinned_ones() -> None:
    for requirement in (*requirements(PRODUCTION), *requirements(DEVELOPMENT)):
        assert version(requirement.name) == requirement.version, requirement.pin


def test_requirements_file_is_in_the_form_that_the_command_writes() -> None:
    text = PRODUCTION.read_text("utf-8")
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


def test_constraints_of_venv_are_the_pins_of_production() -> None:
    script = (CHECKOUT / "infra" / "venv.sh").read_text("utf-8")
    (function,) = re.findall(r"^constraints\(\) \{\n.*?^\}$", script, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["sh", "-c", f"{function}\nconstraints"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{each.name}=={each.version}" for each in requirements(PRODUCTION)]


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
    with pytest.raises(CommandError, match="does not match its hash"):
        package.build("prod", tmp_path / "out", architecture, checkout)
    (checkout / "requirements.txt").write_text(pin.format(**hashes))
    built = package.build("prod", tmp_path / "out", architecture, checkout)
    with zipfile.ZipFile(built.zip) as archive:
        assert archive.read("demo.py").decode() == f"machine = '{machine}'\n"


def test_package_rejects_a_requirement_without_hash(checkout: Path, tmp_path: Path) -> None:
    write_wheel(tmp_path, "x86_64")
    (checkout / "requirements.txt").write_text("demo==1.0\n")
    with pytest.raises(CommandError, match="chalice package failed"):
        package.build("prod", tmp_path / "out", "x86_64", checkout)
