"""Run the operator's commands in this process, on the tables of the tests."""

import json
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.storage.store import Store
from infra.__main__ import main
from tests.support.site import STAGE, Site

RunCommand = Callable[..., "CommandResult"]
# Control and formatting characters that could change what a terminal shows.
TERMINAL_CONTROL_CHARACTERS = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def output_json(result: CommandResult) -> Any:
    """Return the JSON output of a command that has succeeded."""
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def command_runner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str = STAGE
) -> RunCommand:
    """Return a function that runs commands for a stage."""

    def run_command(*arguments: object) -> CommandResult:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["infra", "--stage", stage, *map(str, arguments)])
        code = main()
        return CommandResult(code, *capsys.readouterr())

    return run_command


def use_site_store(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands use the store of the site: the settings of the environment do not have the key of its key ring."""
    for module in ("infra.operator.keys", "infra.aws.restore"):
        monkeypatch.setattr(f"{module}.open_store", lambda _stage: nullcontext(site.server.store))


@pytest.fixture
def with_keys(site: Site, restore_key_ring: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands use the key ring of the site, and restore it afterwards."""
    use_site_store(site, monkeypatch)


@pytest.fixture
def run_command(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """A function that runs a command for the stage of the tests: `run_command("client", "list", "--json")`."""
    return command_runner(monkeypatch, capsys)


@pytest.fixture
def store(site: Site) -> Store:
    """The tables that the commands use."""
    return site.server.store
