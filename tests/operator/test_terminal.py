"""Output on the operator's terminal: aligned, without control characters, colours and a pager only on a terminal."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from infra.local.state import CHECKOUT
from infra.operator.terminal import display_width, print_json, print_record, print_table, time_text, visible
from tests.support.operator import TERMINAL_CONTROL_CHARACTERS, RunCommand, command_runner
from tests.support.site import Site

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "eight-bit escape": "\x9b2J",
    "delete": "\x7f",
    "line feed": "a\r\nb\tc",
    "right to left": "\u202egnp.exe\u202c",
    "isolates": "\u2066x\u2069 \u200f\u061c",
    "separators": "a\u2028b\u2029c",
    "invisible": "a\u200bb\ufeffc\u00add",
    "tags": "\U000e0041",
    "surrogate": "\ud800",
}
HARMLESS = ["Zoë", "写真 プリント", "👩\u200d👩\u200d👧", "نامه\u200cای", "{{7*7}} ${7*7} <b>", "Ж", "e\u0301"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_control_characters_are_escaped(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"a{HOSTILE[kind]}b"
    shown = visible(text)
    assert not TERMINAL_CONTROL_CHARACTERS.search(shown)
    assert shown.encode("unicode_escape").decode() != ""
    assert re.sub(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})", lambda m: chr(int(m[1] or m[2], 16)), shown) == text
    print_record({"name": text, "list": (text,), "object": {"member": text}}, False)
    print_table(("HEAD",), [(text,)], "")
    assert not TERMINAL_CONTROL_CHARACTERS.search(capsys.readouterr().out)
    print_json([{"name": text}])
    out = capsys.readouterr().out
    assert not TERMINAL_CONTROL_CHARACTERS.search(out)
    assert json.loads(out) == [{"name": text}], "the value is the same"


@pytest.mark.parametrize("text", HARMLESS)
def test_other_characters_are_printed_unchanged(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert visible(text) == text
    print_json(text)
    assert capsys.readouterr().out == json.dumps(text, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("写真", 4), ("ｱ", 1), ("Ａ", 2), ("e\u0301", 1), ("👍", 2), ("ن\u200cا", 2)],
)
def test_display_width_is_the_number_of_terminal_columns(text: str, width: int) -> None:
    assert display_width(text) == width


def test_columns_of_a_table_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "KIND"), [("写真", "x"), ("e\u0301cole", "x"), ("plain", "x"), ("\u202e", "x")], "")
    lines = capsys.readouterr().out.splitlines()
    assert {display_width(line[: line.rindex("x")]) for line in lines[1:]} == {
        display_width(lines[0][: lines[0].index("KIND")])
    }


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    assert time_text(0) == "1970-01-01 00:00:00+00:00"
    for beyond in (10**14, -(10**14), 10**30):
        assert time_text(beyond) == str(beyond)


def test_an_empty_table_says_so_and_a_record_leaves_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME",), [], "There is none.")
    print_record({"name": "x", "uris": ("a", "b"), "none": (), "created_at": 0, "on": True}, False)
    assert capsys.readouterr().out.splitlines() == [
        "There is none.",
        "name        x",
        "uris        a",
        "            b",
        "created_at  1970-01-01 00:00:00+00:00",
        "on          yes",
    ]


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_error_that_repeats_an_argument_is_one_line_without_control_characters(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    run_command: RunCommand = command_runner(monkeypatch, capsys)
    argument = f"x{HOSTILE[kind]}"
    for arguments in (
        (argument,),
        ("client", "show", argument),
        ("client", "list", f"--{argument}"),
        ("client", "create", argument),
    ):
        result = run_command(*arguments)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert not TERMINAL_CONTROL_CHARACTERS.search(result.err)


# ---- a terminal


class Terminal:
    """A command running on a pseudo-terminal of 24 lines."""

    def __init__(self, state: Path, *arguments: str, **environ: str):
        self.shown = ""
        self._master, slave = pty.openpty()
        given = {"PATH": os.environ["PATH"], "HOME": str(state), "XDG_STATE_HOME": str(state), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra", *arguments],
            cwd=CHECKOUT,
            env=given | {"LINES": "24", "COLUMNS": "200"} | environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def read(self, until: str = "") -> str:
        """Return the output up to its end, or until it contains this text."""
        end = time.monotonic() + 60
        while time.monotonic() < end and not (until and until in self.shown):
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._master, 10000).decode()
                except OSError:  # the process has ended
                    break
        assert until in self.shown, self.shown
        return self.shown

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        self.read()
        os.close(self._master)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("state")
    terminal = Terminal(
        folder, "client", "create", "--id", "demo", "--name", "Demo", "--redirect-uri", "https://a.example/"
    )
    assert terminal.end() == 0
    return folder


@pytest.fixture
def run_on_terminal(state: Path) -> Iterator[Callable[..., Terminal]]:
    """Return a function that runs a command on a terminal."""
    opened: list[Terminal] = []

    def open_(*arguments: str, **environ: str) -> Terminal:
        opened.append(Terminal(state, *arguments, **environ))
        return opened[-1]

    yield open_
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()


def test_colours_are_used_on_a_terminal_unless_no_color_is_set(run_on_terminal: Callable[..., Terminal]) -> None:
    coloured, plain = run_on_terminal("client", "list"), run_on_terminal("client", "list", NO_COLOR="1")
    assert (coloured.end(), plain.end()) == (0, 0)
    assert "\x1b[1mCLIENT_ID" in coloured.shown
    assert "\x1b" not in plain.shown
    assert re.sub(r"\x1b\[\d*m", "", coloured.shown) == plain.shown


def test_the_answer_no_changes_nothing(run_on_terminal: Callable[..., Terminal]) -> None:
    terminal = run_on_terminal("client", "delete", "demo")
    terminal.read("Remove Demo (demo) with all its grants and consents? [y/N]")
    terminal.type("n\n")
    assert terminal.end() == 1
    assert "Nothing has been changed" in terminal.shown
    assert run_on_terminal("client", "show", "demo").end() == 0


def test_the_confirmation_names_a_stage_in_aws(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    questions: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", lambda question, **_: questions.append(question))
    site.user()
    assert command_runner(monkeypatch, capsys)("user", "disable", "alice").code == 0
    assert questions == ["Stage test: Disable alice and end all their sessions and grants?"]


def test_an_interruption_of_the_confirmation_changes_nothing(run_on_terminal: Callable[..., Terminal]) -> None:
    terminal = run_on_terminal("client", "delete", "demo")
    terminal.read("[y/N]")
    terminal.type("\x04")
    assert terminal.end() == 1
    assert "Traceback" not in terminal.shown
    assert run_on_terminal("client", "show", "demo").end() == 0


def test_a_password_is_entered_twice_and_not_shown(run_on_terminal: Callable[..., Terminal]) -> None:
    terminal = run_on_terminal("user", "create", "--username", "bob", "--password-stdin")
    terminal.read("Password: ")
    terminal.type("a long password\n")
    terminal.read("Repeat for confirmation: ")
    terminal.type("a long password\n")
    assert terminal.end() == 0
    assert "a long password" not in terminal.shown


def test_a_list_longer_than_the_screen_is_shown_by_the_pager(
    run_on_terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho the pager has it\ncat\n")
    pager.chmod(0o755)
    short = run_on_terminal("settings", LINES="90", PAGER=str(pager))
    long = run_on_terminal("settings", LINES="10", PAGER=str(pager))
    assert (short.end(), long.end()) == (0, 0)
    assert "the pager has it" not in short.shown
    assert "the pager has it" in long.shown
    assert "SIGNET_REQUEST_LIFETIME" in long.shown


def test_characters_that_the_terminal_cannot_encode_are_escaped(state: Path) -> None:
    def run(*arguments: str) -> Any:
        given = {"PATH": os.environ["PATH"], "HOME": str(state), "XDG_STATE_HOME": str(state)}
        return subprocess.run(
            [sys.executable, "-m", "infra", *arguments],
            cwd=CHECKOUT,
            env=given | {"PYTHONIOENCODING": "iso-8859-1"},
            capture_output=True,
            timeout=60,
        )

    assert run("scope", "set", "photos.read", "写真").returncode == 0
    listed = run("scope", "list")
    assert (listed.returncode, listed.stderr) == (0, b"")
    assert b"\\u5199\\u771f" in listed.stdout
