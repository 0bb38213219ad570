"""`make run` and plain `chalice local` as processes, `make help`, and the creation of .venv."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import chalice.local
import pytest

from chalicelib import __version__
from infra.local.embedded import fix_chalice_local
from infra.local.state import CHECKOUT

CHALICE = str(Path(sys.executable).with_name("chalice"))
COMMANDS = {
    "make run": [sys.executable, "-m", "infra", "serve"],
    "chalice local": [sys.executable, CHALICE, "local", "--no-autoreload"],
}


class Program:
    """A running server, and its output until it was ready."""

    def __init__(self, arguments: list[str], port: int, state: Path):
        self.port = port
        self.process = subprocess.Popen(
            [*arguments, "--port", str(port)],
            cwd=CHECKOUT,
            env=environment(state),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell makes background processes and their children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert self.process.stdout
        self.printed = ""
        while "Serving on" not in self.printed:
            line = self.process.stdout.readline()
            assert line, self.printed
            self.printed += line

    def get(self, path: str) -> int:
        """Return the status of a GET request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """End the process by a signal. Return the exit code, and the output since the start."""
        self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest


def environment(state: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(state), "XDG_STATE_HOME": str(state)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(params=COMMANDS)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    program = Program(COMMANDS[request.param], free_port(), tmp_path)
    yield program
    if program.process.returncode is None:
        program.end(signal.SIGKILL)


def test_server_starts_and_prints_the_next_steps(program: Program) -> None:
    address = f"http://127.0.0.1:{program.port}"
    for text in (
        address,
        "alice, password down-the-rabbit-hole",
        "demo, secret demo-secret",
        "curl ",
        "admin, password ",
    ):
        assert text in program.printed
    assert program.get("/healthz") == 200
    (url,) = re.findall(rf"open in a browser +{address}(/\S+)", program.printed)
    assert program.get(url) == 200
    (url,) = re.findall(rf"curl {address}(/\S+)", program.printed)
    assert program.get(url) == 200
    assert program.get("/playgroud") == 404, "the application responds, not the emulated gateway"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_server_without_a_traceback(tmp_path: Path, how: signal.Signals) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    assert program.get("/healthz") == 200
    code, rest = program.end(how)
    assert code == 0
    assert "Traceback" not in rest
    assert "changed" not in rest


def test_chalice_local_server_is_fixed() -> None:
    fix_chalice_local()
    # Otherwise each request on a persistent connection waits 44 ms, and a sixth simultaneous caller is rejected.
    assert chalice.local.ChaliceRequestHandler.disable_nagle_algorithm
    assert chalice.local.ThreadedHTTPServer.request_queue_size == 128


@pytest.mark.parametrize("name", COMMANDS)
def test_port_in_use_is_reported_in_one_line(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = [*COMMANDS[name], "--port", str(port)]
        done = subprocess.run(
            arguments, cwd=CHECKOUT, env=environment(tmp_path), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"Port {port} is in use." in done.stderr
    assert f"{name} {'PORT=' if name == 'make run' else '--port '}" in done.stderr


def test_fresh_start_is_rejected_while_another_server_runs(tmp_path: Path) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    again = [*COMMANDS["make run"], "--fresh", "--port", str(free_port())]
    done = subprocess.run(again, cwd=CHECKOUT, env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is running" in done.stderr
    program.end(signal.SIGTERM)
    restarted = Program(again[:-2], free_port(), tmp_path)
    assert "admin, password" in restarted.printed
    restarted.end(signal.SIGTERM)


def test_make_help_lists_every_target() -> None:
    makefile = (CHECKOUT / "Makefile").read_text("utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    # The suite itself may run below make, which hands its flags on.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=CHECKOUT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    listed = [line.split()[:2] for line in done.stdout.splitlines()]
    assert sorted(listed) == sorted(["make", name] for name in targets[1].split())


def venv(checkout: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run infra/venv.sh in a checkout, with this Python for a new .venv."""
    for name in ("infra/venv.sh", "infra/signet.sh", "requirements.txt", "tests/requirements.txt"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_bytes((CHECKOUT / name).read_bytes())
    environ = {"PATH": os.environ["PATH"], "PYTHON": python}
    return subprocess.run(
        ["sh", "infra/venv.sh"], cwd=checkout, env=environ, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("version", "enough", "line"),
    [
        ("3.9", 1, "needs Python 3.11 or newer ({python} is 3.9)"),
        ("3.12", 0, "sudo apt install python3.12-venv"),
    ],
    ids=["too old", "no ensurepip"],
)
def test_unsuitable_python_is_reported_in_one_line(tmp_path: Path, version: str, enough: int, line: str) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$2" in *print*) echo {version} ;; *exit*) exit {enough} ;; *) exit 1 ;; esac\n'
    )
    python.chmod(0o755)
    done = venv(tmp_path, str(python))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert line.format(python=python) in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_signet_command_is_installed_into_an_existing_venv_and_works_in_any_directory(tmp_path: Path) -> None:
    checkout, elsewhere = tmp_path / "check out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in ("infra", "chalicelib"):
        shutil.copytree(CHECKOUT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    requirements = [CHECKOUT / "requirements.txt", CHECKOUT / "tests/requirements.txt"]
    stamp = subprocess.run(["cksum"], input=b"".join(file.read_bytes() for file in requirements), capture_output=True)
    (checkout / ".venv/requirements.cksum").write_bytes(stamp.stdout)
    signet = python.with_name("signet")
    for content in (None, "of an earlier version"):
        if content:
            signet.write_text(content)
        done = venv(checkout, "no-python")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert os.access(signet, os.X_OK)
    (elsewhere / "signet").symlink_to(signet)
    (elsewhere / "click.py").write_text("raise SystemExit('a module of the working directory was imported')")
    for program in (str(signet), "../check out/.venv/bin/signet", "./signet"):
        done = subprocess.run(
            [program, "--version"], cwd=elsewhere, env=environment(tmp_path), capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, f"signet {__version__}\n", "")
