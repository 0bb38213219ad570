"""The ground the tests stand on: one moto, one running server, both emptied between tests."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto import mock_aws

from infra.embedded import create_tables, cure_chalice_local, lock_moto
from tests.browser import Browser
from tests.site import STAGE, Site

pytest_plugins = ["tests.specs"]
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


@pytest.fixture(scope="session")
def _moto() -> Iterator[None]:
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    cure_chalice_local()
    with mock_aws():
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks back at the whole run comes last."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
