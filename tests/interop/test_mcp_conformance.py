"""The MCP conformance suite: its scenarios for authorization servers, with a public client."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.interop.programs import CONFORMANCE_FOLDER, not_installed, open_url
from tests.support.browser import Browser
from tests.support.ports import free_port
from tests.support.resource_servers import register_resource_server
from tests.support.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.programs]

MODULES = CONFORMANCE_FOLDER / "node_modules"
SUITE = MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
RESOURCE = "https://mcp.example.com/mcp"
SCENARIOS = {"authorization-server-metadata-endpoint", "authorization-code-grant"}


def node_22() -> str:
    """Return the path of the Node.js that is installed with the suite, which npm has for Linux, or skip the test."""
    programs = [*MODULES.glob("node-*/bin/node")]
    if not programs or not SUITE.exists():
        pytest.skip(not_installed("The MCP conformance suite"))
    return str(programs[0])


class Conformance:
    """A run of the suite against a site, with a client that listens on a port of its own."""

    def __init__(self, site: Site, folder: Path, *options: str):
        self.folder = folder
        self._process = subprocess.Popen(
            [node_22(), str(SUITE), "authorization", "--output-dir", str(folder), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        self.output = ""
        self.url = self._read_until(f"{site.settings.issuer}/oauth2/authorize?")

    def _read_until(self, start: str) -> str | None:
        """Return the line that starts so; None when the suite ends without it."""
        assert self._process.stdout
        for line in self._process.stdout:
            self.output += line
            if line.startswith(start):
                return line.strip()
        return None

    def finish(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Return the exit code of the suite, and its checks by their id."""
        self._read_until("never")
        files = self.folder.glob("**/checks.json")
        checks = {check["id"]: check for file in files for check in json.loads(file.read_text("utf-8"))}
        return self._process.wait(timeout=30), checks

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Conformance]]:
    """Return a function that starts the suite."""
    started: list[Conformance] = []

    def run(site: Site, *options: str) -> Conformance:
        started.append(Conformance(site, tmp_path, *options))
        return started[-1]

    yield run
    for each in started:
        each.close()


@pytest.mark.parametrize(("resource", "documents"), [(None, "off"), (RESOURCE, "off"), (None, "open")])
@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"])
def test_scenarios_for_authorization_servers_pass(
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    run: Callable[..., Conformance],
    version: str,
    resource: str | None,
    documents: str,
) -> None:
    site = site_with(client_documents=documents)
    browser = browsers(site)
    site.user("alice")
    port = free_port()
    client = site.client(public=True, redirect_uris=["http://127.0.0.1/callback"])
    options = ["--url", site.settings.issuer, "--client-id", client.id, "--port", str(port), "--spec-version", version]
    if resource:
        register_resource_server(site, resource)
        options += ["--resource", resource]
    suite = run(site, *options)
    assert suite.url, suite.output
    location = open_url(site, browser, suite.url).location
    assert location.startswith(f"http://127.0.0.1:{port}/callback?"), location
    with urlopen(location, timeout=30) as answer:
        assert answer.status == 200
    code, checks = suite.finish()
    expected = {
        "authorization-server-metadata": "SUCCESS",
        "authorization-server-metadata-cimd": "SUCCESS" if documents == "open" else "WARNING",
        "authorization-code-grant": "SUCCESS",
    }
    if version < "2025-11-25":
        del expected["authorization-server-metadata-cimd"]
    assert {name: check["status"] for name, check in checks.items()} == expected, suite.output
    assert code == 0, suite.output


def test_suite_fails_with_another_issuer(site: Site, run: Callable[..., Conformance]) -> None:
    """The verification in the test above works."""
    suite = run(site, "--url", f"{site.settings.issuer}/")
    code, checks = suite.finish()
    assert (code, checks["authorization-server-metadata"]["status"]) == (1, "FAILURE")


def test_suite_has_no_other_scenarios_for_authorization_servers() -> None:
    listed = subprocess.run(
        [node_22(), str(SUITE), "list", "--authorization"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert {line.split()[1] for line in listed.splitlines() if line.startswith("  - ")} == SCENARIOS
