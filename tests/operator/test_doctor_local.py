"""The doctor on the data of a checkout: it finds the running server, and reports nothing that a trial does not need."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.state import CHECKOUT, StateFolder
from tests.support.local_server import COMMANDS, Program, environment
from tests.support.ports import free_port

pytestmark = pytest.mark.slow


def run(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra", *arguments],
        cwd=CHECKOUT,
        env=environment(state),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def findings(state: Path, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code of the doctor, and its findings by name."""
    done = run(state, "doctor", *arguments, "--json")
    return done.returncode, {finding["name"]: finding for finding in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def server(state: Path) -> Iterator[Program]:
    program = Program(COMMANDS["make run"], free_port(), state)
    yield program
    program.end(signal.SIGTERM)


def test_doctor_finds_the_running_server_and_no_problem_with_the_demo_data(server: Program, state: Path) -> None:
    code, checks = findings(state)
    assert {name: finding["detail"] for name, finding in checks.items() if finding["ok"] is False} == {}
    assert code == 0
    assert f"http://localhost:{server.port}" in checks["issuer"]["detail"]
    assert checks["clients"]["ok"]


def test_doctor_claims_no_backups_of_the_embedded_database(server: Program, state: Path) -> None:
    _, checks = findings(state)
    assert "backups" not in checks
    assert "backups" in checks["only in AWS"]["detail"]


def test_doctor_finds_another_server_of_the_checkout_when_the_last_one_has_ended(server: Program, state: Path) -> None:
    another = Program(COMMANDS["chalice local"], free_port(), state)
    assert f":{another.port}" in findings(state, "--outside")[1]["issuer"]["detail"]
    another.end(signal.SIGTERM)
    assert f":{server.port}" in findings(state, "--outside")[1]["issuer"]["detail"]


def test_link_that_makes_a_browser_known_leads_to_the_running_server(server: Program, state: Path) -> None:
    link = json.loads(run(state, "user", "let-in", "alice", "--json").stdout)["link"]
    assert link.startswith(f"http://localhost:{server.port}/")


def test_doctor_without_a_running_server_says_so(tmp_path: Path) -> None:
    code, checks = findings(tmp_path)
    assert code == 0
    reason = "no local server of this checkout responds"
    assert checks["outside"]["detail"] == f"Not checked from outside: no URL was given, and {reason}."
    done = run(tmp_path, "doctor", "--outside")
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr


def test_other_problems_of_the_demo_client_are_reported(server: Program, state: Path) -> None:
    options = ["--name", "Trial", "--redirect-uri", "https://trial.example.com/cb", "--id", "trial", "--no-pkce"]
    assert run(state, "client", "create", *options).returncode == 0
    _, checks = findings(state)
    assert "client trial" in checks
    assert run(state, "client", "update", "demo", "--direct-sign-in").returncode == 0
    assert "HTTP Basic" in findings(state)[1]["client demo"]["detail"]


def test_issuers_of_many_servers_are_bounded(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for port in (*range(9000, 9020), 9005):
        folder.announce(f"http://localhost:{port}")
    newest = [f"http://localhost:{port}" for port in (9005, *range(9019, 9010, -1))]
    assert folder.announced() == newest
