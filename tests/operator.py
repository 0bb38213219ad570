"""The operator at a terminal: runs `python -m infra …` in this process, on the tables of the tests."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from infra.__main__ import main
from tests.site import STAGE

Operate = Callable[..., "Printed"]
# What does something to a terminal.
HARM = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Printed:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


def operator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str = STAGE) -> Operate:
    """Runs commands for a stage."""

    def operate(*arguments: object) -> Printed:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["infra", "--stage", stage, *map(str, arguments)])
        code = main()
        return Printed(code, *capsys.readouterr())

    return operate
