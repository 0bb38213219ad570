"""`make run` and plain `chalice local` as processes, `make help`, and the creation of .venv."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import chalice.local
import pytest

from chalicelib import __version__
from infra.local.http_server import fix_chalice_local
from infra.local.state import CHECKOUT
from tests.support.local_server import COMMANDS, Program, environment
from tests.support.ports import free_port


@pytest.fixture(params=COMMANDS)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    program = Program(COMMANDS[request.param], free_port(), tmp_path)
    yield program
    if program.process.returncode is None:
        program.end(signal.SIGKILL)


def test_server_starts_and_prints_the_next_steps(program: Program) -> None:
    address = f"http://localhost:{program.port}"
    for text in (
        address,
        "alice, password down-the-rabbit-hole",
        "demo, secret demo-secret",
        "curl ",
        "admin, password ",
        "its address bar has the code",
    ):
        assert text in program.printed
    assert program.get("/healthz") == 200
    (url,) = re.findall(rf"open in a browser +{address}(/\S+)", program.printed)
    page = program.answer(url)
    assert page.status == 200
    cookie = page.getheader("Set-Cookie")
    assert cookie
    assert cookie.startswith(f"signet-browser-{program.port}="), "browsers share cookies between the ports of a host"
    (url,) = re.findall(rf"curl {address}(/\S+)", program.printed)
    assert program.get(url) == 200
    assert program.get("/playgroud") == 404, "the application responds, not the emulated gateway"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_server_without_a_traceback(tmp_path: Path, how: signal.Signals) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    assert program.get("/healthz") == 200
    assert program.get("/unknown") == 404
    with socket.create_connection(("127.0.0.1", program.port)) as unfinished:
        unfinished.sendall(b"POST /oauth2/token HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        started = time.monotonic()
        code, rest = program.end(how)
    assert time.monotonic() - started < 2
    assert code == 0
    assert [line[0] for line in rest.splitlines() if line] == ["{", "{"], "one line for each request"


def test_misspelled_setting_is_named_at_the_start(tmp_path: Path) -> None:
    program = Program(["env", "SIGNET_SIGNUP=on", *COMMANDS["make run"]], free_port(), tmp_path)
    program.end(signal.SIGTERM)
    assert "SIGNET_SIGNUP is not a setting. Did you mean 'SIGNET_SIGN_UP'?" in program.printed


def test_browser_at_127_0_0_1_is_sent_to_the_address_that_the_server_prints(program: Program) -> None:
    address = f"http://localhost:{program.port}"
    with closing(http.client.HTTPConnection("127.0.0.1", program.port, timeout=30)) as connection:
        connection.request("GET", "/account", headers={"Accept": "text/html,*/*;q=0.8"})
        assert connection.getresponse().getheader("Location") == f"{address}/account"
    assert f"  Signet               {address}\n" in program.printed


def test_last_line_has_the_address_and_how_to_stop(tmp_path: Path) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    program.end(signal.SIGTERM)
    assert program.printed.endswith(f"Serving on http://localhost:{program.port}. Press Ctrl-C to stop.\n")


def test_port_that_is_no_number_is_named() -> None:
    done = subprocess.run(
        [*COMMANDS["make run"], "--port", "abc"], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (2, "Invalid value for '--port': 'abc' is not a valid whole number.\n")


def test_empty_issuer_is_the_address_of_the_server(tmp_path: Path) -> None:
    program = Program(["env", "SIGNET_ISSUER=", *COMMANDS["make run"]], free_port(), tmp_path)
    program.end(signal.SIGTERM)
    assert f"http://localhost:{program.port}/playground" in program.printed


def test_server_listens_on_loopback_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    with pytest.raises(ConnectionRefusedError):
        program.get("/healthz", "127.0.0.2")
    program.end(signal.SIGTERM)
    assert "others may reach this server" not in program.printed
    program = Program([*COMMANDS["make run"], "--host", "0.0.0.0"], free_port(), tmp_path)
    assert program.get("/healthz", "127.0.0.2") == 200
    program.end(signal.SIGTERM)
    assert "others may reach this server" in program.printed


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


REQUIREMENTS = ("requirements.txt", "infra/requirements.txt", "tests/requirements.txt")


def venv(checkout: Path, python: str, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run infra/venv.sh in a checkout, with this Python for a new .venv. `path`: a folder that is searched first."""
    for name in ("infra/venv.sh", "infra/signet.sh", *REQUIREMENTS):
        (checkout / name).parent.mkdir(exist_ok=True, parents=True)
        (checkout / name).write_bytes((CHECKOUT / name).read_bytes())
    environ = {"PATH": f"{path}:{os.environ['PATH']}".strip(":"), "PYTHON": python}
    return subprocess.run(
        ["sh", "infra/venv.sh", *arguments], cwd=checkout, env=environ, capture_output=True, text=True, timeout=60
    )


PYTHON_STUB = """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo created >>installed ;;
    "-m pip") shift 3 && echo "$*" >>installed
        for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do
            echo "Collecting library-$number==1.0 (from -r requirements.txt (line $number))"
        done
        test ! -e broken && echo "Installing collected packages: library-1" ;;
    "-c "*realpath*) echo "{version}.0 in {home}" ;;
    "-c "*print*) echo {version} ;;
esac
"""
OPTIONS = "--no-input --disable-pip-version-check --progress-bar off --require-hashes"


class Checkout:
    """A folder with infra/venv.sh, and stubs of Python that write what they install to a file."""

    def __init__(self, path: Path):
        self.path = path
        self.python = self.stub("3.12")

    def stub(self, version: str) -> str:
        home = self.path / f"home-{version}"
        home.mkdir(parents=True)
        python = home / f"python{version}"
        python.write_text(PYTHON_STUB.replace("{version}", version).replace("{home}", str(home)))
        python.chmod(0o755)
        return str(python)

    def installed(self) -> list[str]:
        """Return what was installed since the last call."""
        file = self.path / "installed"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line.removeprefix(OPTIONS) for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "check out")


RUN = " -r requirements.txt -r infra/requirements.txt"
TEST = f"{RUN} -r tests/requirements.txt"


def test_venv_has_what_running_needs_and_the_tests_add_the_rest(checkout: Checkout) -> None:
    """`--require-hashes` is part of OPTIONS."""
    assert venv(checkout.path, checkout.python).returncode == 0
    assert checkout.installed() == ["created", RUN]
    again = venv(checkout.path, checkout.python)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert venv(checkout.path, checkout.python, "test").returncode == 0
    assert checkout.installed() == [TEST]
    for arguments in ((), ("test",)):
        again = venv(checkout.path, checkout.python, *arguments)
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert checkout.installed() == []
    (checkout.path / ".venv/test.cksum").write_text("of other requirements")
    assert venv(checkout.path, checkout.python, "test").returncode == 0
    assert checkout.installed() == ["created", RUN, TEST], "libraries that are no longer listed do not stay"


def test_another_python_creates_the_venv_again_and_says_so(checkout: Checkout) -> None:
    venv(checkout.path, checkout.python, "test")
    checkout.installed()
    done = venv(checkout.path, checkout.stub("3.13"))
    assert ".venv has Python 3.12.0 in " in done.stderr
    assert "It is created again." in done.stderr
    assert "Creating .venv with Python 3.13." in done.stderr
    assert checkout.installed() == ["created", RUN]


@pytest.mark.parametrize("exists", [False, True])
def test_wrong_python_is_reported_with_those_that_were_found(checkout: Checkout, exists: bool) -> None:
    python = Path(checkout.python)
    python.with_name("python3").symlink_to(python)
    if exists:
        venv(checkout.path, checkout.python)
        checkout.installed()
    done = venv(checkout.path, "python3.99", path=str(python.parent))
    assert done.returncode == 1
    assert done.stderr.startswith("PYTHON=python3.99 does not run. Found: python3 (3.12), ")
    assert "python3.12 (3.12)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert checkout.installed() == []


def test_linked_venv_is_used_but_never_emptied(checkout: Checkout, tmp_path: Path) -> None:
    assert venv(checkout.path, checkout.python).returncode == 0
    checkout.installed()
    other = tmp_path / "other"
    (checkout.path / ".venv").rename(other)
    (checkout.path / ".venv").symlink_to(other)
    assert venv(checkout.path, checkout.python).returncode == 0
    (other / "run.cksum").unlink()
    done = venv(checkout.path, checkout.python)
    assert done.returncode == 1
    assert done.stderr == f".venv is a link to {other}, and is not up to date. Remove the link.\n"
    assert checkout.installed() == []


def test_progress_of_an_installation_is_shown(checkout: Checkout) -> None:
    pins = sum(file.read_text("utf-8").count("==") for file in (CHECKOUT / name for name in REQUIREMENTS[:2]))
    assert venv(checkout.path, checkout.python).stderr.splitlines() == [
        "Creating .venv with Python 3.12. This takes a minute, once.",
        f"  20 of {pins}: library-20",
        f"  21 of {pins}, unpacking",
    ]


def test_interrupted_installation_is_repeated(checkout: Checkout) -> None:
    (checkout.path / "broken").touch()
    done = venv(checkout.path, checkout.python)
    assert done.returncode == 1
    assert "Run make again to retry." in done.stderr
    (checkout.path / "broken").unlink()
    checkout.installed()
    assert venv(checkout.path, checkout.python).returncode == 0
    assert checkout.installed() == ["created", RUN]


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
    requirements = [CHECKOUT / name for name in REQUIREMENTS[:2]]
    stamp = subprocess.run(["cksum"], input=b"".join(file.read_bytes() for file in requirements), capture_output=True)
    (checkout / ".venv/run.cksum").write_bytes(stamp.stdout)
    signet = python.with_name("signet")
    for content in (None, "of an earlier version"):
        if content:
            signet.write_text(content)
        done = venv(checkout, "")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert os.access(signet, os.X_OK)
    (elsewhere / "signet").symlink_to(signet)
    (elsewhere / "click.py").write_text("raise SystemExit('a module of the working directory was imported')")
    for program in (str(signet), "../check out/.venv/bin/signet", "./signet"):
        done = subprocess.run(
            [program, "--version"], cwd=elsewhere, env=environment(tmp_path), capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, f"signet {__version__}\n", "")
