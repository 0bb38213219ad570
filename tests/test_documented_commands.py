"""The README and docs/ are true: every `python -m infra …` in their code blocks is run, in the order of the document.

The blocks run in bash as they stand. Where they say `.venv/bin/python` a short script passes the command to a process
that waits for it, one for each stage: its local data, empty for a stage in AWS, stands for the data of that stage.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import pytest

from infra.__main__ import command
from infra.state import CHECKOUT

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
# What needs an AWS account, or does not end; and the tests that run it elsewhere.
EXCEPTIONS = {
    "deploy --stage prod": "tests/test_ministack.py",
    "destroy --stage prod": "tests/test_ministack.py",
    "destroy --stage prod --with-data": "tests/test_ministack.py",
    "data --stage dev": "tests/test_operator_commands.py",
    "doctor --stage dev URL": "tests/test_doctor.py",
}
# What else a block with such a command calls: nothing of it is looked at here.
OTHER_PROGRAMS = ("aws", "make", ".venv/bin/chalice")

# Runs commands, each when it is asked over a socket, beside the embedded database that `make run` would serve.
WORKER = """
import contextlib, functools, io, json, os, socket, sys
import botocore.session
from chalicelib.settings import Settings
from infra import embedded
from infra.__main__ import main
# What boto3 reads of its own files for each command, it reads once here.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
if sys.argv[1] == "local":
    embedded.start(Settings(embedded=True))
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1] + ".sock")
    server.listen()
    print("ready", flush=True)
    while True:
        caller, _ = server.accept()
        with caller, caller.makefile("rw") as wire:
            asked = json.loads(wire.readline())
            sys.argv = ["infra", *asked["arguments"]]
            sys.stdin = io.TextIOWrapper(io.BytesIO(asked["stdin"].encode()))
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main()
            wire.write(json.dumps([code, out.getvalue(), err.getvalue()]) + "\\n")
            wire.flush()
"""

# `.venv/bin/python`: passes `-m infra …` on, to the worker of its stage.
PYTHON = """#!{python} -SE
import json, socket, sys
arguments = sys.argv[1:]
assert arguments[:2] == ["-m", "infra"], arguments
arguments = arguments[2:]
with open("calls", "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if " ".join(arguments) in {exceptions!r}:
    sys.exit(0)
stage = "local"
if "--stage" in arguments:
    at = arguments.index("--stage")
    stage = arguments[at + 1]
    del arguments[at : at + 2]
stdin = "" if sys.stdin.isatty() or "--password-stdin" not in arguments else sys.stdin.read()
with socket.socket(socket.AF_UNIX) as wire:
    wire.connect(stage + ".sock")
    file = wire.makefile("rw")
    file.write(json.dumps({{"arguments": arguments, "stdin": stdin}}) + "\\n")
    file.flush()
    code, out, err = json.loads(file.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


def blocks(document: str) -> list[str]:
    """The code blocks that have a command of ours."""
    text = (ROOT / document).read_text("utf-8")
    return [block for block in re.findall(r"```(?:sh|bash|shell)\n(.*?)```", text, re.DOTALL) if "-m infra" in block]


@contextmanager
def worker(stage: str, folder: Path) -> Iterator[None]:
    environ = environment(folder) | {"XDG_STATE_HOME": str(folder / stage), "PYTHONPATH": str(CHECKOUT)}
    arguments = [sys.executable, "-c", WORKER, stage]
    with subprocess.Popen(arguments, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line == "ready\n":
                break
        try:
            yield
        finally:
            process.kill()


def environment(folder: Path) -> dict[str, str]:
    """What bash and all below it see."""
    path = f"{folder / 'programs'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "local"), "NO_COLOR": "1"}


def executable(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


def run(document: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """What bash says of a document's blocks, and the commands of ours that they called."""
    script = "\n".join(blocks(document))
    executable(folder / ".venv/bin/python", PYTHON.format(python=sys.executable, exceptions=tuple(EXCEPTIONS)))
    for program in OTHER_PROGRAMS:
        executable(folder / (program if "/" in program else f"programs/{program}"), "#!/bin/sh\n")
    trap = """trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR"""
    with ExitStack() as stack:
        for stage in {"local", *re.findall(r"--stage (\w+)", script)}:
            stack.enter_context(worker(stage, folder))
        done = subprocess.run(
            ["bash", "-c", f"set -eEu -o pipefail\n{trap}\n{script}"],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    calls = folder / "calls"
    return done, [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


called: dict[str, list[list[str]]] = {}


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if blocks(document)])
def test_every_command_of_a_document_does_what_it_is_for(document: str, tmp_path: Path) -> None:
    done, called[document] = run(document, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    written = sum(len(re.findall(r"python -m infra", block)) for block in blocks(document))
    assert len(called[document]) == written


def test_a_command_that_is_wrong_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ".venv/bin/python -m infra client list\n.venv/bin/python -m infra client shw demo\nexit 0\n"
    monkeypatch.setattr(sys.modules[__name__], "blocks", lambda _: [wrong])
    done, calls = run("README.md", tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'show'?" in done.stderr
    assert "line 4" in done.stderr
    assert calls == [["client", "list"], ["client", "shw", "demo"]]


def test_what_is_excepted_is_documented_and_tested_elsewhere() -> None:
    written = "\n".join(block for document in DOCUMENTS for block in blocks(document))
    for words, file in EXCEPTIONS.items():
        assert re.search(rf"-m infra {re.escape(words)}(?:\s|$)", written), words
        assert f'"{words.split()[0]}"' in (ROOT / file).read_text("utf-8"), file


def leaves(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from leaves(one, *before, name)
        else:
            yield (*before, name)


def leaf(words: tuple[str, ...]) -> click.Command:
    found: click.Command = command
    for word in words:
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


def test_every_command_has_its_example_in_the_documents() -> None:
    if not called:
        pytest.skip("the documents have not been run")
    # `make run` is how a document says `serve`.
    missing = set(leaves(command)) - {("serve",)}
    for arguments in (arguments for calls in called.values() for arguments in calls):
        words = shlex.split(re.sub(r"--stage \S+ ?", "", shlex.join(arguments)))
        missing -= {tuple(words[:1]), tuple(words[:2])}
    assert not missing


@pytest.mark.parametrize("words", sorted(leaves(command)), ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_can_be_typed(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = leaf(words)
    examples = re.findall(r"^  python -m infra (.*)$", one.epilog or "", re.MULTILINE)
    assert examples
    assert one.help
    ran: list[str] = []
    monkeypatch.setattr(one, "callback", lambda *_, **__: ran.append(""))
    monkeypatch.chdir(tmp_path)
    for file in ("backup.jsonl", "realm.json"):
        (tmp_path / file).touch()
    for example in examples:
        command.main(shlex.split(example, comments=True), prog_name="infra", standalone_mode=False)
    assert len(ran) == len(examples)


def test_the_table_of_options_is_what_create_and_update_take() -> None:
    text = (ROOT / "docs/operator.md").read_text("utf-8")
    cells = re.findall(r"^\| (`--.+?) \|", text, re.MULTILINE)
    listed = {option for cell in cells for option in re.findall(r"`(--[a-z-]+)`", cell)}
    create, update = (
        {name for one in leaf(("client", verb)).params for name in (*one.opts, *one.secondary_opts) if name[:2] == "--"}
        for verb in ("create", "update")
    )
    assert listed <= create & update
    # The opposite of a flag is not listed, nor what the text around the table tells.
    flags = {name for name in create if name.startswith("--no-") or f"--no-{name[2:]}" in create}
    assert create - listed - flags == {"--id", "--json"}
    assert set(re.findall(r"`(--(?:add|remove|unset)[a-z-]*)`", text)) == update - create
