"""No library is imported before it is needed: a fresh interpreter answers one request, and is asked what it has loaded.

DynamoDB and KMS are in another process, so that what moto imports is not counted.
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

from infra.state import CHECKOUT
from tests.bench import flow
from tests.bench.services import services

PASSWORDS = {"argon2", "passlib"}
ALL = {"boto3", "botocore", "cryptography", "jinja2", "jwt", *PASSWORDS}
# By kind of request: what it does without.
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
ASK = """
import json, sys
import app
event = json.load(sys.stdin)
status = app.http_handler(event, None)["statusCode"] if event else None
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
HOOKED = """
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
SEED = "from tests import test_imports; test_imports.print_events()"


class _Reached(Exception):
    """The request that was wanted."""


def print_events() -> None:
    """One event of each kind, ready to be sent to the services of this environment."""
    from tests.bench.endpoints import Bench

    with contextlib.redirect_stdout(io.StringIO()):
        bench = Bench()
        events = {name: _unsent(bench, name) for name in NOT_NEEDED}
    print(json.dumps(events))


def _unsent(bench: Any, name: str) -> flow.Event:
    """The first event of this kind in a visit that ends before it is sent."""
    found: list[flow.Event] = []

    def send(kind: str, event: flow.Event) -> dict[str, Any]:
        if kind == name:
            found.append(event)
            raise _Reached
        answer: dict[str, Any] = bench.handle(event)
        return answer

    with contextlib.suppress(_Reached):
        bench.visit(send)
    return found[0]


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
    """What the program says first, and the libraries that it has loaded."""
    said, modules = json.loads(_run(program, environment, event).stderr.splitlines()[-1])
    return said, ALL & set(modules)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with services() as found:
        yield {"PATH": os.environ["PATH"], **found}


@pytest.fixture(scope="module")
def events(environment: dict[str, str]) -> dict[str, flow.Event]:
    found: dict[str, flow.Event] = json.loads(_run(SEED, environment).stdout)
    return found


def test_importing_the_application_imports_no_library_but_chalice(environment: dict[str, str]) -> None:
    assert _loaded(ASK, environment, None) == (None, set())


@pytest.mark.parametrize("kind", NOT_NEEDED)
def test_a_request_imports_only_the_libraries_that_it_needs(
    kind: str, environment: dict[str, str], events: dict[str, flow.Event]
) -> None:
    status, libraries = _loaded(ASK, environment, events[kind])
    assert status is not None
    assert status < 400
    assert libraries & NOT_NEEDED[kind] == set()


def test_a_snapshot_holds_every_library_and_no_connection(environment: dict[str, str]) -> None:
    hooks_after, libraries = _loaded(HOOKED, environment, None)
    assert hooks_after == 1
    assert libraries == ALL
