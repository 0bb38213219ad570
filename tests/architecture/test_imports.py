"""Libraries are imported only when they are needed: a new interpreter answers one request and lists its modules.

DynamoDB and KMS run in another process, because moto imports most of the libraries.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from infra.local.state import CHECKOUT
from tests.bench import flow
from tests.bench.services import services

pytestmark = pytest.mark.slow

PASSWORDS = {"argon2", "passlib"}
ALL = {"boto3", "botocore", "cryptography", "jinja2", "jwt", *PASSWORDS}
# kind of request -> the libraries that it must not import
NOT_NEEDED = {
    "health": ALL,
    "style sheet": ALL,
    flow.DISCOVERY: ALL,
    "home": ALL - {"jinja2"},
    "jwks": {"jinja2", *PASSWORDS},
    flow.SIGN_IN_PAGE: {"jwt", *PASSWORDS},
    flow.CONSENT: {"jinja2", "jwt", *PASSWORDS},
    flow.EXCHANGE: {"jinja2", *PASSWORDS},
    flow.REFRESH: {"jinja2", *PASSWORDS},
    "revoke": {"jinja2", "jwt", *PASSWORDS},
    flow.USERINFO: {"jinja2", *PASSWORDS},
}
HANDLE = """
import json, sys
import app
event = json.load(sys.stdin)
status = app.http_handler(event, None)["statusCode"] if event else None
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
SNAPSHOT = """
import json, sys, types
hooks = types.ModuleType("snapshot_restore_py")
before, after = [], []
hooks.register_before_snapshot, hooks.register_after_restore = before.append, after.append
sys.modules[hooks.__name__] = hooks
import app
for hook in before:
    hook()
json.load(sys.stdin)
print(json.dumps([len(after), sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
PRINT_EVENTS = "from tests.architecture import test_imports; test_imports.print_events()"


class _Reached(Exception):
    """Ends a visit at the request whose event is needed."""


def print_events() -> None:
    """Print one event of each kind, which can be sent to a server on the services of this environment."""
    from tests.bench.endpoints import Bench

    with contextlib.redirect_stdout(io.StringIO()):
        bench = Bench()
        events = {name: _unsent(bench, name) for name in NOT_NEEDED}
    print(json.dumps(events))


def _unsent(bench: Any, name: str) -> flow.Event:
    """Return the first event of this kind in a visit, without sending it."""
    captured: list[flow.Event] = []

    def send(kind: str, event: flow.Event) -> dict[str, Any]:
        if kind == name:
            captured.append(event)
            raise _Reached
        answer: dict[str, Any] = bench.handle(event)
        return answer

    with contextlib.suppress(_Reached):
        bench.visit(send)
    return captured[0]


def _run(program: str, environment: dict[str, str], stdin: Any = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env=environment,
        input=json.dumps(stdin),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def _loaded(program: str, environment: dict[str, str], event: flow.Event | None) -> tuple[int | None, set[str]]:
    """Run a program; return its first value and the libraries that it has imported."""
    value, modules = json.loads(_run(program, environment, event).stderr.splitlines()[-1])
    return value, ALL & set(modules)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with services() as variables:
        yield {"PATH": os.environ["PATH"], **variables}


@pytest.fixture(scope="module")
def events(environment: dict[str, str]) -> dict[str, flow.Event]:
    events: dict[str, flow.Event] = json.loads(_run(PRINT_EVENTS, environment).stdout)
    return events


def test_app_imports_no_library_except_chalice(environment: dict[str, str]) -> None:
    assert _loaded(HANDLE, environment, None) == (None, set())


@pytest.mark.parametrize("kind", NOT_NEEDED)
def test_a_request_imports_only_the_libraries_that_it_needs(
    kind: str, environment: dict[str, str], events: dict[str, flow.Event]
) -> None:
    status, libraries = _loaded(HANDLE, environment, events[kind])
    assert status is not None
    assert status < 400
    assert libraries & NOT_NEEDED[kind] == set()


def test_snapshot_has_every_library_loaded_and_registers_one_restore_hook(environment: dict[str, str]) -> None:
    hooks_after, libraries = _loaded(SNAPSHOT, environment, None)
    assert hooks_after == 1
    assert libraries == ALL
