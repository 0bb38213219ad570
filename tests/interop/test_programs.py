"""docs/quickstarts/README.md lists the programs of other projects that `make interop` installs, with their versions."""

import json
import re
from pathlib import Path

import pytest

from infra.local.state import CHECKOUT
from tests.interop import apache
from tests.interop.programs import CONFORMANCE_FOLDER, FOLDER, NODE_FOLDER


def test_documented_programs_have_the_versions_that_are_installed() -> None:
    text = (CHECKOUT / "docs" / "quickstarts" / "README.md").read_text("utf-8")
    table = text.partition("## Other programs")[2].partition("\n## ")[0]
    documented = [
        re.findall(r"\d+\.\d+\.\d+", versions) for versions in re.findall(r"^\| .*? \| (\d.*?) \|", table, re.MULTILINE)
    ]
    python, (sdk,), (client,), (express,), (proxy,), (oauth4webapi,), (mod_oauth2,), (idpyoidc,) = documented
    requirements = [FOLDER / "mcp_python" / f"requirements-{version}.txt" for version in (1, 2)]
    assert all(
        f"\nmcp=={version} " in file.read_text("utf-8") for version, file in zip(python, requirements, strict=True)
    )
    packages = json.loads((NODE_FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    assert {
        "@modelcontextprotocol/sdk": sdk,
        "@modelcontextprotocol/client": client,
        "express-openid-connect": express,
        "oauth4webapi": oauth4webapi,
    }.items() <= packages.items()
    assert f"oauth2_proxy=v{proxy}\n" in (FOLDER / "install.sh").read_text("utf-8")
    assert mod_oauth2 == apache.VERSION
    assert f"\nidpyoidc=={idpyoidc} " in (FOLDER / "idpyoidc_client" / "requirements.txt").read_text("utf-8")


def test_documented_conformance_suite_is_the_one_that_is_installed() -> None:
    text = (CHECKOUT / "docs" / "certification.md").read_text("utf-8")
    dependencies = json.loads((CONFORMANCE_FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    assert f"version {dependencies['@modelcontextprotocol/conformance']}" in text


@pytest.mark.parametrize("folder", [NODE_FOLDER, CONFORMANCE_FOLDER], ids=lambda folder: folder.name)
def test_lock_file_has_the_packages_that_the_tests_name(folder: Path) -> None:
    package = json.loads((folder / "package.json").read_text("utf-8"))
    lock = json.loads((folder / "package-lock.json").read_text("utf-8"))["packages"]
    for kind in ("dependencies", "optionalDependencies"):
        assert lock[""].get(kind) == package.get(kind)
    assert all("integrity" in package for name, package in lock.items() if name)
    assert not any("resolved" in package for package in lock.values()), "no names of registries"
