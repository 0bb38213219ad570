"""What the operator's terminal shows: aligned, harmless, in colours and pages only where somebody looks."""

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

from infra.state import CHECKOUT
from infra.terminal import columns, print_json, print_table, show, time_text, visible
from tests.operator import HARM, Operate, operator
from tests.site import Site

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "eight-bit escape": "\x9b2J",
    "delete": "\x7f",
    "line feed": "a\r\nb\tc",
    "right to left": "\u202egnp.exe\u202c",
    "isolates": "\u2066x\u2069 \u200f\u061c",
    "separators": "a\u2028b\u2029c",
    "nothing to see": "a\u200bb\ufeffc\u00add",
    "tags": "\U000e0041",
    "surrogate": "\ud800",
}
HARMLESS = ["Zoë", "写真 プリント", "👩\u200d👩\u200d👧", "نامه\u200cای", "{{7*7}} ${7*7} <b>", "Ж", "e\u0301"]


@pytest.mark.parametrize("what", HOSTILE)
def test_what_would_do_something_to_a_terminal_is_shown_by_its_number(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"a{HOSTILE[what]}b"
    shown = visible(text)
    assert not HARM.search(shown)
    assert shown.encode("unicode_escape").decode() != ""
    assert re.sub(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})", lambda m: chr(int(m[1] or m[2], 16)), shown) == text
    show({"name": text, "list": (text,), "object": {"member": text}}, False)
    print_table(("HEAD",), [(text,)], "")
    assert not HARM.search(capsys.readouterr().out)
    print_json([{"name": text}])
    out = capsys.readouterr().out
    assert not HARM.search(out)
    assert json.loads(out) == [{"name": text}], "and it still means the same"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_is_shown_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert visible(text) == text
    print_json(text)
    assert capsys.readouterr().out == json.dumps(text, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("写真", 4), ("ｱ", 1), ("Ａ", 2), ("e\u0301", 1), ("👍", 2), ("ن\u200cا", 2)],
)
def test_the_columns_of_a_text_are_those_of_a_terminal(text: str, width: int) -> None:
    assert columns(text) == width


def test_columns_are_aligned_whatever_is_written_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "KIND"), [("写真", "x"), ("e\u0301cole", "x"), ("plain", "x"), ("\u202e", "x")], "")
    lines = capsys.readouterr().out.splitlines()
    assert {columns(line[: line.rindex("x")]) for line in lines[1:]} == {columns(lines[0][: lines[0].index("KIND")])}


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    assert time_text(0) == "1970-01-01 00:00:00+00:00"
    for beyond in (10**14, -(10**14), 10**30):
        assert time_text(beyond) == str(beyond)


def test_an_empty_table_says_so_and_a_record_leaves_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME",), [], "There is none.")
    show({"name": "x", "uris": ("a", "b"), "none": (), "created_at": 0, "on": True}, False)
    assert capsys.readouterr().out.splitlines() == [
        "There is none.",
        "name        x",
        "uris        a",
        "            b",
        "created_at  1970-01-01 00:00:00+00:00",
        "on          yes",
    ]


@pytest.mark.parametrize("what", HOSTILE)
def test_a_refusal_that_repeats_what_was_typed_is_one_harmless_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    operate: Operate = operator(monkeypatch, capsys)
    typed = f"x{HOSTILE[what]}"
    for arguments in (
        (typed,),
        ("client", "show", typed),
        ("client", "list", f"--{typed}"),
        ("client", "create", typed),
    ):
        printed = operate(*arguments)
        assert (printed.code, printed.out, printed.err.count("\n")) == (2, "", 1)
        assert not HARM.search(printed.err)


# ---- a terminal


class Terminal:
    """The operator's command at a terminal of 24 lines: a process on a pseudo-terminal."""

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
        """What is shown, to the end or until this comes."""
        end = time.monotonic() + 60
        while time.monotonic() < end and not (until and until in self.shown):
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._master, 10000).decode()
                except OSError:  # the process has ended, and all was read
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
    one = Terminal(folder, "client", "create", "--id", "demo", "--name", "Demo", "--redirect-uri", "https://a.example/")
    assert one.end() == 0
    return folder


@pytest.fixture
def at(state: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals."""
    opened: list[Terminal] = []

    def open_(*arguments: str, **environ: str) -> Terminal:
        opened.append(Terminal(state, *arguments, **environ))
        return opened[-1]

    yield open_
    for one in opened:
        one.process.kill()
        one.process.wait()


def test_colours_are_for_a_terminal_and_for_who_wants_them(at: Callable[..., Terminal]) -> None:
    coloured, plain = at("client", "list"), at("client", "list", NO_COLOR="1")
    assert (coloured.end(), plain.end()) == (0, 0)
    assert "\x1b[1mCLIENT_ID" in coloured.shown
    assert "\x1b" not in plain.shown
    assert re.sub(r"\x1b\[\d*m", "", coloured.shown) == plain.shown


def test_a_question_is_asked_at_a_terminal_and_no_is_an_answer(at: Callable[..., Terminal]) -> None:
    asked = at("client", "delete", "demo")
    asked.read("Remove Demo (demo), and all its grants and consents? [y/N]")
    asked.type("n\n")
    assert asked.end() == 1
    assert "Nothing has been changed" in asked.shown
    assert at("client", "show", "demo").end() == 0


def test_a_question_about_a_stage_in_aws_names_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", lambda question, **_: asked.append(question))
    site.user()
    assert operator(monkeypatch, capsys)("user", "disable", "alice").code == 0
    assert asked == ["Stage test: Disable alice, and end all their sessions and grants?"]


def test_an_interruption_at_the_question_changes_nothing(at: Callable[..., Terminal]) -> None:
    asked = at("client", "delete", "demo")
    asked.read("[y/N]")
    asked.type("\x04")
    assert asked.end() == 1
    assert "Traceback" not in asked.shown
    assert at("client", "show", "demo").end() == 0


def test_a_password_is_asked_for_twice_and_not_shown(at: Callable[..., Terminal]) -> None:
    asked = at("user", "create", "--username", "bob", "--password-stdin")
    asked.read("Password: ")
    asked.type("a long password\n")
    asked.read("Repeat for confirmation: ")
    asked.type("a long password\n")
    assert asked.end() == 0
    assert "a long password" not in asked.shown


def test_a_list_that_is_longer_than_the_screen_goes_through_the_pager(
    at: Callable[..., Terminal], tmp_path: Path
) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho the pager has it\ncat\n")
    pager.chmod(0o755)
    short = at("settings", LINES="60", PAGER=str(pager))
    long = at("settings", LINES="10", PAGER=str(pager))
    assert (short.end(), long.end()) == (0, 0)
    assert "the pager has it" not in short.shown
    assert "the pager has it" in long.shown
    assert "SIGNET_REQUEST_LIFETIME" in long.shown


def test_a_name_that_the_character_set_has_not_got_is_no_crash(state: Path) -> None:
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
