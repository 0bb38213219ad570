"""The operator at a terminal: runs `python -m infra …` in this process, on the tables of the tests."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from infra.__main__ import main
from tests.site import STAGE

Operate = Callable[..., "Printed"]


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
