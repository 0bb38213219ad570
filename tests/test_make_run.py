"""`make run` and plain `chalice local`, as a newcomer starts them."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import chalice.local
import pytest

from infra.embedded import cure_chalice_local
from infra.state import CHECKOUT

CHALICE = str(Path(sys.executable).with_name("chalice"))
COMMANDS = {
    "make run": [sys.executable, "-m", "infra", "serve"],
    "chalice local": [sys.executable, CHALICE, "local", "--no-autoreload"],
}


class Program:
    """A server that has been started, and what it has printed until it served."""

    def __init__(self, arguments: list[str], port: int, state: Path):
        self.port = port
        self.process = subprocess.Popen(
            [*arguments, "--port", str(port)],
            cwd=CHECKOUT,
            env=environment(state),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell has what it starts in the background ignore Ctrl-C, and whatever that starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert self.process.stdout
        self.printed = ""
        while "Serving on" not in self.printed:
            line = self.process.stdout.readline()
            assert line, self.printed
            self.printed += line

    def get(self, path: str) -> int:
        """The status that this path is answered with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """The exit code, and what was printed since."""
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


def test_it_serves_and_says_what_to_do_next(program: Program) -> None:
    address = f"http://127.0.0.1:{program.port}"
    for text in (address, "alice, password wonderland", "demo, secret demo-secret", "curl ", "admin, password "):
        assert text in program.printed
    assert program.get("/healthz") == 200
    (url,) = re.findall(rf"open in a browser +{address}(/\S+)", program.printed)
    assert program.get(url) == 200
    (url,) = re.findall(rf"curl {address}(/\S+)", program.printed)
    assert program.get(url) == 200
    assert program.get("/playgroud") == 404, "our own answer, not the gateway's"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly(tmp_path: Path, how: signal.Signals) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    assert program.get("/healthz") == 200
    code, rest = program.end(how)
    assert code == 0
    assert "Traceback" not in rest
    assert "changed" not in rest


def test_chalices_local_server_is_cured() -> None:
    cure_chalice_local()
    # Without it each request on a kept connection waits 44 ms, and the sixth caller at once is turned away.
    assert chalice.local.ChaliceRequestHandler.disable_nagle_algorithm
    assert chalice.local.ThreadedHTTPServer.request_queue_size == 128


@pytest.mark.parametrize("name", COMMANDS)
def test_a_busy_port_is_one_line(tmp_path: Path, name: str) -> None:
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


def test_starting_over_is_refused_while_another_server_runs(tmp_path: Path) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    again = [*COMMANDS["make run"], "--fresh", "--port", str(free_port())]
    done = subprocess.run(again, cwd=CHECKOUT, env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is running" in done.stderr
    program.end(signal.SIGTERM)
    anew = Program(again[:-2], free_port(), tmp_path)
    assert "admin, password" in anew.printed
    anew.end(signal.SIGTERM)


def venv(checkout: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Let a checkout that has no .venv make one with this Python."""
    for name in ("infra/venv.sh", "requirements.txt", "tests/requirements.txt"):
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
def test_an_unsuitable_python_is_one_line(tmp_path: Path, version: str, enough: int, line: str) -> None:
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
