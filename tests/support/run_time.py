"""The time that a run of the schedule reads, to decide whether it may start another attempt."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from chalicelib.sessions import backchannel_logout
from chalicelib.storage import due


def let_runs_read(monkeypatch: pytest.MonkeyPatch, monotonic: Callable[[], float]) -> None:
    """Let a run of the back-channel logout read its time in seconds from `monotonic`."""
    for module in (backchannel_logout, due):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
