"""Programs of other projects, which `make interop` installs, and the user who signs in for them."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.local.state import CHECKOUT
from tests.support.browser import Answer, Browser
from tests.support.site import Site

FOLDER = Path(__file__).parent
NODE_FOLDER = FOLDER / "relying_party"
CONFORMANCE_FOLDER = FOLDER / "mcp_conformance"
INSTALLED = CHECKOUT / ".venv" / "programs"
STARTING = 60  # seconds


def not_installed(name: str) -> str:
    """Return the reason why a test is skipped."""
    return f"{name} is not installed: make interop"


def installed(path: str, name: str) -> str:
    """Return the path of a program below INSTALLED, or skip the test."""
    if not (INSTALLED / path).exists():
        pytest.skip(not_installed(name))
    return str(INSTALLED / path)


def node_with(*packages: str) -> str:
    """Return the path of Node, or skip the test if it or one of the npm packages is missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed.")
    for package in packages:
        if not (NODE_FOLDER / "node_modules" / package).exists():
            pytest.skip(not_installed(f"The npm package {package}"))
    return node


class Program:
    """A program that reads and writes lines of JSON, beginning with its task."""

    def __init__(self, arguments: list[str], folder: Path, task: dict[str, Any]):
        self._process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        self.send(task)

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout
        assert self._process.stderr
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read()
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        self._process.kill()
        self._process.wait()


class Server:
    """A program that listens on a port of 127.0.0.1."""

    def __init__(self, arguments: list[str], folder: Path, port: int, log: Path, **environ: str):
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                arguments, cwd=folder, env={"PATH": os.environ["PATH"], **environ}, stdout=file, stderr=file
            )
        deadline = time.monotonic() + STARTING
        while not is_listening(port):
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def close(self) -> None:
        self._process.terminate()  # so that it ends its own processes, as Apache has them
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def open_url(site: Site, browser: Browser, url: str, decision: str = "allow_once") -> Answer:
    """Open a URL that a program wants its user to open: sign in, decide, and return the authorization response."""
    assert url.startswith(f"{site.settings.issuer}/oauth2/authorize?"), url
    page = browser.follow(browser.request("GET", url))
    if "password" in page.form.fields:
        page = browser.sign_in(page)
    return browser.submit(page, decision=decision) if page.form.action else page


def parameters(url: str) -> dict[str, str]:
    """Return the parameters of a URL's query, none of which may be repeated."""
    values = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(each) == 1 for each in values.values()), url
    return {name: each[0] for name, each in values.items()}
