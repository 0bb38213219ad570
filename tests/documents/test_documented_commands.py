"""Every `.venv/bin/signet …` in the code blocks of README.md and docs/ is run, in the order of the document.

The blocks run in bash unchanged. A short script in place of `.venv/bin/signet` passes each command to a waiting
process, one for each stage. Every stage has local data, which is empty for a stage in AWS.
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
from infra.local.state import CHECKOUT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
# The first words of commands that need an AWS account, and the tests that run them.
EXCEPTIONS = {
    "deploy --stage prod": "tests/deployment/test_ministack.py",
    "destroy --stage prod": "tests/deployment/test_ministack.py",
    "destroy --stage prod --with-data": "tests/deployment/test_ministack.py",
    "data --stage dev": "tests/operator/test_operator_commands.py",
    "doctor --stage dev URL": "tests/operator/test_doctor.py",
    "key restore signet-restored-keys --stage prod": "tests/operator/test_operator_keys.py",
    "key copy eu-west-1 --stage prod": "tests/operator/test_operator_keys.py",
    "restore --stage prod": "tests/deployment/test_restore.py",
    "doctor --stage prod": "tests/operator/test_doctor.py",
    "doctor --as claude": "tests/operator/test_doctor_as.py",
    "data --stage prod": "tests/deployment/test_restore.py",
    "truststore add authority.pem --stage prod": "tests/operator/test_certificate_commands.py",
    "truststore list --stage prod": "tests/operator/test_certificate_commands.py",
    "truststore sync --stage prod": "tests/operator/test_certificate_commands.py",
    "truststore remove": "tests/operator/test_certificate_commands.py",
}
COMMAND = ".venv/bin/signet "
# Other programs that are called in such a block; they are replaced by a script that does nothing.
OTHER_PROGRAMS = ("aws", "make", ".venv/bin/chalice")

# Runs the commands that arrive over a socket. The worker of `local` starts the embedded database, as `make run` does.
WORKER = """
import contextlib, functools, io, json, os, socket, sys
import botocore.session
from chalicelib.settings import Settings
from infra.local import embedded
from infra.__main__ import main
# boto3 reads its data files once, instead of once for each command.
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
            call = json.loads(wire.readline())
            sys.argv = ["signet", *call["arguments"]]
            sys.stdin = io.TextIOWrapper(io.BytesIO(call["stdin"].encode()))
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main()
            wire.write(json.dumps([code, out.getvalue(), err.getvalue()]) + "\\n")
            wire.flush()
"""

# Replaces `.venv/bin/signet`: passes the command to the worker of its stage.
SIGNET = """#!{python} -SE
import json, socket, sys
arguments = sys.argv[1:]
with open("calls", "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if " ".join(arguments).startswith({exceptions!r}):
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
    """Return the code blocks that call `.venv/bin/signet`."""
    text = (ROOT / document).read_text("utf-8")
    return [block for block in re.findall(r"```(?:sh|bash|shell)\n(.*?)```", text, re.DOTALL) if COMMAND in block]


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
    """Return the environment of bash and of the programs that it starts."""
    path = f"{folder / 'programs'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "local"), "NO_COLOR": "1"}


def executable(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


def run(document: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run a document's blocks in bash. Return the result, and the arguments of each call of signet."""
    script = "\n".join(blocks(document))
    executable(folder / ".venv/bin/signet", SIGNET.format(python=sys.executable, exceptions=tuple(EXCEPTIONS)))
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
def test_every_command_of_a_document_succeeds(document: str, tmp_path: Path) -> None:
    done, called[document] = run(document, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert len(called[document]) == sum(block.count(COMMAND) for block in blocks(document))


def test_a_wrong_command_in_a_document_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ".venv/bin/signet client list\n.venv/bin/signet client shw demo\nexit 0\n"
    monkeypatch.setattr(sys.modules[__name__], "blocks", lambda _: [wrong])
    done, calls = run("README.md", tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'show'?" in done.stderr
    assert "line 4" in done.stderr
    assert calls == [["client", "list"], ["client", "shw", "demo"]]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_code_blocks_call_the_command_by_its_installed_name(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    assert [block for block in re.findall(r"```.*?```", text, re.DOTALL) if "-m infra" in block] == []


def test_commands_that_are_not_run_here_are_documented_and_tested_elsewhere() -> None:
    written = "\n".join(block for document in DOCUMENTS for block in blocks(document))
    for words, file in EXCEPTIONS.items():
        assert re.search(rf"{re.escape(COMMAND + words)}(?:\s|$)", written), words
        assert f'"{words.split()[0]}"' in (ROOT / file).read_text("utf-8"), file


def leaves(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command that is not a group."""
    for name, subcommand in group.commands.items():
        if isinstance(subcommand, click.Group):
            yield from leaves(subcommand, *before, name)
        else:
            yield (*before, name)


def leaf(words: tuple[str, ...]) -> click.Command:
    result: click.Command = command
    for word in words:
        assert isinstance(result, click.Group)
        result = result.commands[word]
    return result


def test_commands_that_are_not_run_here_have_valid_options(monkeypatch: pytest.MonkeyPatch) -> None:
    if not called:
        pytest.skip("the documents have not been run")
    everything = [arguments for calls in called.values() for arguments in calls]
    not_run = [arguments for arguments in everything if " ".join(arguments).startswith(tuple(EXCEPTIONS))]
    accepted: list[str] = []
    for words in EXCEPTIONS:
        path = tuple(word for word in words.partition(" --")[0].split())[:2]
        monkeypatch.setattr(leaf(path), "callback", lambda *_, **__: accepted.append(""))
    for arguments in not_run:
        command.main(arguments, prog_name="signet", standalone_mode=False)
    assert len(accepted) == len(not_run) >= len(EXCEPTIONS)


def test_every_command_has_its_example_in_the_documents() -> None:
    if not called:
        pytest.skip("the documents have not been run")
    # Documents call `serve` as `make run`.
    missing = set(leaves(command)) - {("serve",)}
    for arguments in (arguments for calls in called.values() for arguments in calls):
        words = shlex.split(re.sub(r"--stage \S+ ?", "", shlex.join(arguments)))
        missing -= {tuple(words[:1]), tuple(words[:2]), tuple(words[:3])}
    assert not missing


@pytest.mark.parametrize("words", sorted(leaves(command)), ids=" ".join)
def test_the_examples_in_the_help_of_every_command_can_be_run(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subcommand = leaf(words)
    examples = re.findall(r"^  signet (.*)$", subcommand.epilog or "", re.MULTILINE)
    assert examples
    assert subcommand.help
    ran: list[str] = []
    monkeypatch.setattr(subcommand, "callback", lambda *_, **__: ran.append(""))
    monkeypatch.chdir(tmp_path)
    for file in ("backup.jsonl", "realm.json", "client.json"):
        (tmp_path / file).touch()
    for example in examples:
        command.main(shlex.split(example, comments=True), prog_name="signet", standalone_mode=False)
    assert len(ran) == len(examples)


def test_the_table_of_options_lists_the_options_of_create_and_update() -> None:
    text = (ROOT / "docs/operator.md").read_text("utf-8")
    cells = re.findall(r"^\| (`--.+?) \|", text, re.MULTILINE)
    listed = {option for cell in cells for option in re.findall(r"`(--[a-z-]+)`", cell)}
    create, update = (
        {
            name
            for option in leaf(("client", verb)).params
            for name in (*option.opts, *option.secondary_opts)
            if name[:2] == "--"
        }
        for verb in ("create", "update")
    )
    assert listed <= create & update
    # The opposite of a flag is not listed, nor the options that the text around the table describes.
    flags = {name for name in create if name.startswith("--no-") or f"--no-{name[2:]}" in create}
    assert create - listed - flags == {"--id", "--json", "--stage", "--verbose"}
    assert set(re.findall(r"`(--(?:add|remove|unset)[a-z-]*)`", text)) == update - create
