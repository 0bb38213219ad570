"""The ground the tests stand on: one moto, one running server, both emptied between tests."""

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

from chalicelib import dynamodb, passwords
from chalicelib.keys import RING
from infra.embedded import create_tables, cure_chalice_local, lock_moto
from tests import faults
from tests.browser import Browser
from tests.faults import Wire
from tests.leaks import all_secrets, leaks
from tests.packaging import run_folder
from tests.quick_moto import quick_moto
from tests.site import STAGE, Site

pytest_plugins = ["tests.specs", "tests.windows", "tests.operator"]
LOGGED: list[str] = []
SECRETS: set[str] = set()


class _Everything(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        LOGGED.append(record.getMessage())


@pytest.fixture(scope="session", autouse=True)
def _log() -> Iterator[None]:
    """Every log record of the run is kept: the last test looks for secrets in them."""
    handler = _Everything()
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("signet").setLevel(logging.INFO)
    yield
    root.removeHandler(handler)
    # In each process of a run by several: its last test may be another than the one that looks back at everything.
    assert not leaks("\n".join(LOGGED), all_secrets(SECRETS))


DEAR_PASSWORDS = passwords._context


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """A hash costs 20 ms by intention. tests/test_passwords.py holds its parameters, and pays it."""
    cheap = DEAR_PASSWORDS().copy(argon2__memory_cost=8, argon2__time_cost=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_context", lambda: cheap)
        yield


@pytest.fixture
def dear_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes with the parameters of the server, for tests of what they are."""
    monkeypatch.setattr(passwords, "_context", DEAR_PASSWORDS)


@pytest.fixture(scope="session", autouse=True)
def _cheap_sessions() -> Iterator[None]:
    """A server makes one boto3 session in its life, for 45 ms: what a session reads from boto3's own files is read once
    here, and servers under the same environment share one.
    """
    made: dict[frozenset[tuple[str, str]], Any] = {}
    dear = dynamodb.new_session

    def shared() -> Any:
        named = {name for name in os.environ if name.startswith("AWS_")} - {"AWS_EXECUTION_ENV"}  # Chalice writes there
        environment = frozenset((name, os.environ[name]) for name in named)
        if environment not in made:
            made[environment] = dear()
        return made[environment]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        patch.setattr(dynamodb, "new_session", shared)
        yield


@pytest.fixture(scope="session")
def _moto() -> Iterator[None]:
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    cure_chalice_local()
    with mock_aws(), quick_moto():
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
    """The running server, empty."""
    _site.empty()
    SECRETS.update(_site.secrets)
    return _site


@pytest.fixture
def ring_comes_back(site: Site) -> Iterator[None]:
    """For a test that changes the key ring, which all tests share."""
    kept = site.server.store.keys.get(RING)
    assert kept
    yield
    site.server.store.keys.put(kept)
    site.server.keys._known = None


@pytest.fixture
def without_ring(site: Site, ring_comes_back: None) -> Site:
    """A site whose table has no ring."""
    site.server.store.keys.delete(RING)
    return site


@pytest.fixture
def site_with(site: Site) -> Iterator[Callable[..., Site]]:
    """Makes a server of its own, on the same tables, with other settings."""
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        made.append(Site(**settings))
        return made[-1]

    yield make
    for another in made:
        SECRETS.update(another.secrets)
        another.close()


@pytest.fixture
def with_playground(site_with: Callable[..., Site]) -> Site:
    """A server with a playground, and a person on it."""
    made = site_with(playground=True)
    made.user("alice", claims={"email": "alice@example.com"})
    return made


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Between botocore and moto, where calls are counted and faults happen."""
    with faults.wire() as stands:
        yield stands


@pytest.fixture
def browsers(site: Site) -> Iterator[Callable[..., Browser]]:
    """Makes browsers."""
    made: list[Browser] = []

    def make(at: Site | None = None) -> Browser:
        made.append(Browser(at or site))
        return made[-1]

    yield make
    for browser in made:
        browser.close()


@pytest.fixture
def browser(browsers: Callable[..., Browser]) -> Browser:
    """A browser that has never been here."""
    return browsers()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # else one process of several, which shares the folder of the first
        stack = ExitStack()
        stack.enter_context(run_folder())
        config.add_cleanup(stack.close)


def pytest_collection_finish() -> None:
    """What is there now stays to the end: a twentieth of the run's time went into looking through it for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


# What takes longest, by file. A process that began with one of them at the end would keep the others waiting.
LONGEST = """
ministack look browser infra package faults store account_browser documented_commands throttle
interleavings templates logout_browser login_application_browser logout terminal doctor_inside
playground_browser make_run schedules grant_model imports prove secrets
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks back at the whole run comes last; in each of several processes, what takes longest comes first."""
    longest = LONGEST.split() if "PYTEST_XDIST_WORKER" in os.environ else []
    place = {f"test_{name}": number for number, name in enumerate(longest)}
    items.sort(key=lambda item: (item.get_closest_marker("last") is not None, place.get(item.path.stem, len(place))))
