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
# Only for signing in: with a password, a code, or a passkey.
SIGN_IN = {"fido2", "pyotp", "segno", *PASSWORDS}
# What only the operator's commands need: no request and no snapshot may load it.
NEVER = {"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"}
ALL = {"cryptography", "gettext", "jinja2", "jwt", *SIGN_IN}
# kind of request -> the libraries that it must not import
NOT_NEEDED = {
    "health": ALL,
    "style sheet": ALL,
    flow.DISCOVERY: ALL,
    "home": ALL - {"jinja2"},
    "jwks": {"gettext", "jinja2", *SIGN_IN},
    flow.SIGN_IN_PAGE: {"gettext", "jwt", *SIGN_IN},
    flow.CONSENT: {"gettext", "jinja2", "jwt", *SIGN_IN},
    flow.EXCHANGE: {"gettext", "jinja2", "jwt", *SIGN_IN},
    flow.REFRESH: {"gettext", "jinja2", "jwt", *SIGN_IN},
    "revoke": {"gettext", "jinja2", "jwt", *SIGN_IN},
    flow.USERINFO: {"gettext", "jinja2", *SIGN_IN},
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
RESTORED = """
import json, os, socket, sys
import app
from chalicelib import web

def refuse(*_):
    raise AssertionError("a snapshot must not contain this")

def read(environ, name, read=os._Environ.__getitem__):
    caller = sys._getframe(1)
    while caller.f_globals["__name__"] in ("os", "collections.abc", "_collections_abc"):
        caller = caller.f_back
    assert not caller.f_globals["__name__"].startswith("chalicelib"), name
    return read(environ, name)

real = socket.socket.connect, os._Environ.__getitem__
socket.socket.connect, os._Environ.__getitem__ = refuse, read
web.preload()
socket.socket.connect, os._Environ.__getitem__ = real
before = set(sys.modules)
status = app.http_handler(json.load(sys.stdin), None)["statusCode"]
print(json.dumps([status, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""
PRINT_EVENTS = "from tests.architecture import test_imports; test_imports.print_events()"


class _Reached(Exception):
    """Ends a visit at the request whose event is needed."""


def print_events() -> None:
    """Print two sets of events of each kind, which can be sent to a server on the services of this environment."""
    from tests.bench.endpoints import Bench

    with contextlib.redirect_stdout(io.StringIO()):
        bench = Bench()
        events = [{name: _unsent(bench, name) for name in NOT_NEEDED} for _ in range(2)]
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
    assert NEVER & set(modules) == set()
    return value, ALL & set(modules)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with services() as variables:
        yield {"PATH": os.environ["PATH"], **variables}


@pytest.fixture(scope="module")
def all_events(environment: dict[str, str]) -> list[dict[str, flow.Event]]:
    """Two sets of events: a code and a refresh token are used only once."""
    events: list[dict[str, flow.Event]] = json.loads(_run(PRINT_EVENTS, environment).stdout)
    return events


@pytest.fixture(scope="module")
def events(all_events: list[dict[str, flow.Event]]) -> dict[str, flow.Event]:
    return all_events[0]


@pytest.fixture(scope="module")
def more_events(all_events: list[dict[str, flow.Event]]) -> dict[str, flow.Event]:
    return all_events[1]


def test_app_imports_no_library_except_chalice(environment: dict[str, str]) -> None:
    assert _loaded(HANDLE, environment, None) == (None, set())


@pytest.mark.parametrize("kind", NOT_NEEDED)
def test_a_request_imports_only_the_libraries_that_it_needs_and_never_boto3(
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


@pytest.mark.parametrize("kind", NOT_NEEDED)
def test_snapshot_has_no_connection_and_no_setting_and_a_request_after_it_imports_nothing(
    kind: str, environment: dict[str, str], more_events: dict[str, flow.Event]
) -> None:
    status, modules = json.loads(_run(RESTORED, environment, more_events[kind]).stderr.splitlines()[-1])
    assert status < 400
    assert modules == []
