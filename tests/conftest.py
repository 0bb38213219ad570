"""The fixtures that all tests share: moto and a running server, both emptied for each test."""

import functools
import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import botocore.session
import pytest
from moto import mock_aws

from chalicelib.authentication import passwords
from chalicelib.keys.stored_ring import RING
from infra import access
from infra.local.embedded import create_tables, lock_moto
from infra.local.http_server import fix_chalice_local
from tests.support import faults
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.leaks import all_secrets, find_leaks
from tests.support.moto_transport import moto_transport
from tests.support.packaging import run_folder
from tests.support.quick_moto import quick_moto
from tests.support.site import STAGE, Site

pytest_plugins = [
    "tests.tools.specs",
    "tests.tools.durations",
    "tests.support.chromium",
    "tests.support.operator",
    "tests.support.emulator",
    "tests.support.certificates",
    "tests.support.mailbox",
    "tests.support.database_faults",
]
LOGGED: list[str] = []
SECRETS: set[str] = set()


class _LogCollector(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.append(record.getMessage())


@pytest.fixture(scope="session", autouse=True)
def _log() -> Iterator[None]:
    """Collect every log record of the run; the last test searches them for secrets."""
    handler = _LogCollector()
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("signet").setLevel(logging.INFO)
    yield
    root.removeHandler(handler)
    # In a parallel run only one process has the test that searches them.
    assert not find_leaks("\n".join(LOGGED), all_secrets(SECRETS))


FULL_COST = passwords._context


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """Hash passwords with cheap parameters; the default ones, checked in tests/rules/test_passwords.py, take 20 ms."""
    cheap = FULL_COST().copy(argon2__memory_cost=8, argon2__time_cost=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_context", lambda: cheap)
        yield


@pytest.fixture
def full_cost_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with the server's own parameters."""
    monkeypatch.setattr(passwords, "_context", FULL_COST)


@pytest.fixture(scope="session", autouse=True)
def _cheap_sessions() -> Iterator[None]:
    """Share boto3 sessions between commands with the same AWS environment variables, and cache the files they read.

    A command creates one session, which takes 45 ms; the tests run many commands.
    """
    sessions: dict[frozenset[tuple[str, str]], Any] = {}
    new_session = access.new_session

    def shared() -> Any:
        names = {name for name in os.environ if name.startswith("AWS_")} - {"AWS_EXECUTION_ENV"}  # set by Chalice
        environment = frozenset((name, os.environ[name]) for name in names)
        if environment not in sessions:
            sessions[environment] = new_session()
        return sessions[environment]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        patch.setattr(access, "new_session", shared)
        yield


@pytest.fixture(scope="session")
def _moto() -> Iterator[None]:
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    fix_chalice_local()
    with mock_aws(), quick_moto(), moto_transport():
        lock_moto()
        import boto3

        create_tables(boto3.client("dynamodb"), STAGE)
        yield


@pytest.fixture(scope="session")
def _site(_moto: None) -> Iterator[Site]:
    site = Site()
    yield site
    SECRETS.update(site.secrets)
    site.close()


@pytest.fixture
def site(_site: Site) -> Site:
    """The running server, with empty tables."""
    _site.reset()
    SECRETS.update(_site.secrets)
    return _site


@pytest.fixture
def restore_key_ring(site: Site) -> Iterator[None]:
    """Restore the key ring, which all tests share, after a test that changes it."""
    ring = site.server.store.keys.get(RING)
    assert ring
    yield
    site.server.store.keys.put(ring)
    site.server.keys.forget_cached_keys()


@pytest.fixture
def site_without_ring(site: Site, restore_key_ring: None) -> Site:
    """The site without a key ring."""
    site.server.store.keys.delete(RING)
    return site


@pytest.fixture
def site_with(site: Site) -> Iterator[Callable[..., Site]]:
    """A function that starts another server on the same tables, with other settings."""
    sites: list[Site] = []

    def start(**settings: Any) -> Site:
        sites.append(Site(**settings))
        return sites[-1]

    yield start
    for other_site in sites:
        SECRETS.update(other_site.secrets)
        other_site.close()


@pytest.fixture
def playground_site(site_with: Callable[..., Site]) -> Site:
    """A server with the playground, and the user alice."""
    playground = site_with(playground=True)
    playground.user("alice", claims={"email": "alice@example.com"})
    return playground


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The calls between the server and moto: counts them and injects faults."""
    with faults.wire() as intercepted:
        yield intercepted


@pytest.fixture
def browsers(site: Site) -> Iterator[Callable[..., Browser]]:
    """A function that returns a new browser, for `site` or another one, or another tab of a browser.

    A tab has its own connection, and a copy of the cookies.
    """
    opened: list[Browser] = []

    def open_browser(at: Site | None = None, *, tab_of: Browser | None = None) -> Browser:
        browser = Browser(tab_of.site if tab_of else at or site)
        browser.cookies.update(tab_of.cookies if tab_of else {})
        opened.append(browser)
        return browser

    yield open_browser
    for browser in opened:
        browser.close()


@pytest.fixture
def browser(browsers: Callable[..., Browser]) -> Browser:
    """A browser without cookies."""
    return browsers()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the processes of a parallel run share the folder of the controller
        stack = ExitStack()
        stack.enter_context(run_folder())
        config.add_cleanup(stack.close)


def pytest_collection_finish() -> None:
    """Exclude the objects that exist now from garbage collection, which took a twentieth of the run's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests last that search what the whole run has logged."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
