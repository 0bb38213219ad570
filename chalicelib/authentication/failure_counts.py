"""Failed sign-ins, counted in windows of time by conditional writes.

A window begins with its first failure and has a fixed length, so that failures do not add up for longer.
"""

from collections.abc import Mapping
from typing import Any

from chalicelib.protocol.attempts import Attempts
from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.values import dataclass
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.table import Table, Write


@dataclass(frozen=True)
class Window:
    """A kind of window: its fields in Attempts, and its length in seconds."""

    started: str
    failures: str
    lasts: int


HOURLY = Window("hour_started", "hour_failures", HOUR)
DAILY = Window("day_started", "day_failures", DAY)


@dataclass(frozen=True)
class Counter:
    """A record that counts failures, and how many each of its windows may have; None for any number.

    It is kept for `lasts` seconds after its last failure; after its last success, if failures must not prolong it.
    `begins_at`: when its only window begins, if `attempts_id` says so: a failure is then taken back from the window in
    which it was counted.
    """

    attempts_id: str
    limits: tuple[tuple[Window, int | None], ...]
    lasts: int
    prolonged_by_failures: bool = True
    begins_at: int | None = None

    def taking_back(self, table: Table[Attempts], now: int, set_: Mapping[str, Any] | None = None) -> Write[Attempts]:
        """Return the write that takes one failure back, and sets the fields `set_`."""
        changes = {"expires_at": now + self.lasts, **(set_ or {})}
        one_less = {window.failures: -1 for window, _ in self.limits}
        return table.changing((self.attempts_id,), None, changes, one_less, create=True)


@dataclass(frozen=True)
class Count:
    """What the record of a counter says now, and a further condition for counting one more failure.

    With another `unlocked` than the account's, the windows of the record have ended.
    """

    counter: Counter
    record: Attempts | None
    now: int
    unlocked: int = 0
    condition: Condition | None = None

    def ends_in(self, window: Window) -> int:
        """Return for how many seconds a window is still open."""
        if self.record is None or self.record.unlocked != self.unlocked:
            return 0
        started: int = getattr(self.record, window.started)
        at_least = 0 if self.counter.begins_at is None else 1
        return max(at_least, started + window.lasts - self.now)

    def failures(self, window: Window) -> int:
        """Return the failures in a window that is open."""
        return getattr(self.record, window.failures) if self.ends_in(window) else 0

    @property
    def wait(self) -> int:
        """For how many seconds no attempt is possible."""
        full = (window for window, limit in self.counter.limits if limit and self.failures(window) >= limit)
        return max(map(self.ends_in, full), default=0)

    def counting(self, table: Table[Attempts]) -> Write[Attempts]:
        """Return the write that counts one more failure.

        It is refused when the record is out of date, or another failure has reached a limit.
        """
        counter, record = self.counter, self.record
        expires_at = self.now + counter.lasts
        windows = [window for window, _ in counter.limits]
        if record is None:
            begins_at = self.now if counter.begins_at is None else counter.begins_at
            begun = {window.started: begins_at for window in windows} | {window.failures: 1 for window in windows}
            return table.inserting(Attempts(counter.attempts_id, expires_at, unlocked=self.unlocked, **begun))
        changes: dict[str, Any] = {"expires_at": expires_at} if counter.prolonged_by_failures else {}
        same = table.unchanged(record, "unlocked", *(window.started for window in windows))
        added: dict[str, int] = {}
        for window, limit in counter.limits:
            if not self.ends_in(window):
                changes |= {window.started: self.now, window.failures: 1, "unlocked": self.unlocked}
                continue
            added[window.failures] = 1
            if limit:
                same &= attr(window.failures).lt(limit)
        if self.condition is not None:
            same &= self.condition
        return table.changing((counter.attempts_id,), same, changes, added)
