"""Fixtures for the faults of the database: indexes that lag, and a database that is killed after a write."""

import socketserver
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any
from unittest import mock

import pytest

from infra.local.faults import FAULTS, IndexLag, Kill, Killed
from tests.support.site import Site

KillAfter = Callable[[int], AbstractContextManager[Kill]]


@pytest.fixture
def index_lag(site: Site) -> Iterator[IndexLag]:
    """The lag of all indexes, by the clock of `site`: none until the test sets `index_lag.seconds`."""
    FAULTS.index_lag.reset(site.clock)
    yield FAULTS.index_lag
    FAULTS.index_lag.reset()


@pytest.fixture
def kill_after() -> Iterator[KillAfter]:
    """A context manager that kills the database: `with kill_after(1) as kill: disable(…)`; see `Faults.kill_after`.

    Code called in the block is ended by Killed, which also ends the block. The server's connections are closed.
    """
    process_request_thread = socketserver.ThreadingMixIn.process_request_thread

    def serve_until_killed(*arguments: Any) -> None:
        with suppress(Killed):  # the connection has been closed
            process_request_thread(*arguments)

    with mock.patch.object(socketserver.ThreadingMixIn, "process_request_thread", serve_until_killed):
        yield FAULTS.kill_after
