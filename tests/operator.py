"""The operator at a terminal: runs `python -m infra …` in this process, on the tables of the tests."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.store import Store
from infra.__main__ import main
from tests.site import STAGE, Site

Operate = Callable[..., "Printed"]
# What does something to a terminal.
HARM = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Printed:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


def done(printed: Printed) -> Any:
    """The JSON of a command that has done what it should."""
    assert (printed.code, printed.err) == (0, "")
    return json.loads(printed.out)


def operator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str = STAGE) -> Operate:
    """Runs commands for a stage."""

    def operate(*arguments: object) -> Printed:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["infra", "--stage", stage, *map(str, arguments)])
        code = main()
        return Printed(code, *capsys.readouterr())

    return operate


@pytest.fixture
def operate(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Operate:
    """Runs commands for the stage of the tests."""
    return operator(monkeypatch, capsys)


@pytest.fixture
def store(site: Site) -> Store:
    """The tables that the commands work on."""
    return site.server.store
