"""How fast passwords may be guessed: after some failures in a row, the next attempts wait, each twice as long.

An attempt is counted before its password is checked, by one conditional write, so that parallel attempts get no
further than attempts one after the other; a successful sign-in takes its count back. An attempt during a wait is
neither counted nor checked: the right password is rejected too, or guessing would go on.

In a browser that the account has signed in with before, only that browser's failures count, so that other people
cannot lock the user out (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"; the browser's cookie is the
device cookie). From any other browser an attempt counts three times: for this account from this address, for the
address whatever the account, and for the account whatever the address. Usernames that do not exist count as accounts.

Stored are only digests of usernames, addresses and browsers.
"""

import hashlib
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from chalicelib.protocol.durations import DAY, HOUR, MINUTE, YEAR
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.records import Attempts
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Records, Store
from chalicelib.storage.table import Lookup, Table, Write

FIRST_WAIT = 30
MAX_WAIT = 15 * MINUTE
# NIST SP 800-63B section 3.2.2: the most failures in a row for one account, wherever they come from.
MAX_PER_ACCOUNT = 100
# Each lost race means that another attempt was counted, and a few of them make everyone wait.
_RACES = 20


class TooManyAttempts(Exception):
    """No attempt is possible now. `retry_after`: in how many seconds the next one is."""

    def __init__(self, retry_after: int):
        super().__init__(f"no attempt for {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class _Counter:
    """A count of failures, of which `limit` need not wait.

    It expires `lasts` seconds after the last failure; if it is `shared` by many users, after the first one, or the
    mistakes of a large office would add up for ever.
    """

    attempts_id: str
    limit: int
    lasts: int
    shared: bool = False

    def wait(self, record: Attempts | None, now: int) -> int:
        """Return for how many seconds no attempt is possible."""
        reached = record is not None and record.failures >= self.limit
        return max(0, record.blocked_until - now) if record and reached else 0

    def after(self, record: Attempts | None, now: int) -> Attempts:
        """Return the record with one more attempt."""
        failures = record.failures + 1 if record else 1
        beyond = failures - self.limit
        wait = min(FIRST_WAIT * 2 ** min(beyond, 10), MAX_WAIT) if beyond >= 0 else 0
        forgotten_at = now + wait + (0 if self.shared and record else self.lasts)
        expires_at = record.expires_at if record else 0
        return Attempts(self.attempts_id, max(forgotten_at, expires_at), failures, now + wait if wait else 0)

    def counting(self, table: Table[Attempts], record: Attempts | None, now: int) -> Write[Attempts]:
        """Return the write that counts one more attempt. It is refused when `record` is out of date."""
        after = self.after(record, now)
        if record is None:
            return table.inserting(after)
        if not after.blocked_until:
            fewer = attr("failures").lt(self.limit - 1)
            return table.changing((self.attempts_id,), fewer, {"expires_at": after.expires_at}, {"failures": 1})
        changed = {name: getattr(after, name) for name in ("failures", "blocked_until", "expires_at")}
        same = attr("failures").eq(record.failures) & ~attr("blocked_until").gt(now)
        return table.changing((self.attempts_id,), same, changed)

    def taking_back(self, table: Table[Attempts], record: Attempts | None, now: int) -> Write[Attempts]:
        """Return the write for a success: the count starts again or, if it is `shared`, becomes one less."""
        after = self.after(record, now)
        changes: dict[str, Any] = {"expires_at": after.expires_at}
        if not self.shared:
            reset = {**changes, "failures": 0, "blocked_until": 0}
            return table.changing((self.attempts_id,), None, reset, create=True)
        if after.blocked_until:
            changes["blocked_until"] = record.blocked_until if record else 0
        return table.changing((self.attempts_id,), None, changes, {"failures": -1}, create=True)


class Throttle:
    """The counters of one attempt to sign in.

    `account`: the identifier of the username that was typed. `browser_id`: None for a browser without our cookie.
    `from_browser`: whether that browser is known to have sent the attempt.
    """

    def __init__(
        self, store: Store, account: str, source_ip: str, browser_id: str | None, *, from_browser: bool = True
    ):
        few, many = store.settings.sign_in_attempts, store.settings.sign_in_attempts_per_address
        network = network_of(source_ip)
        self._store, self._from_browser = store, from_browser
        self._of_browser = _Counter(_digest("browser", browser_id, account), few, YEAR) if browser_id else None
        self._of_unknown_browsers = (
            _Counter(_digest("account and address", network, account), few, HOUR),
            _Counter(_digest("address", network), many, HOUR, shared=True),
            _Counter(_digest("account", account), MAX_PER_ACCOUNT, DAY, shared=True),
        )

    @property
    def lookups(self) -> tuple[Lookup[Attempts], ...]:
        """The records that `count` needs."""
        return tuple(map(self._lookup, filter(None, (self._of_browser, *self._of_unknown_browsers))))

    def _lookup(self, counter: _Counter) -> Lookup[Attempts]:
        return self._store.attempts.lookup(counter.attempts_id)

    def count(self, records: Records, *also: Write[Any]) -> "Counted":
        """Count an attempt before it is made, in one transaction with the writes `also`.

        `records` were read for `lookups`. Raises TooManyAttempts.
        """
        now, table = self._store.now(), self._store.attempts
        counters: tuple[_Counter, ...] = self._of_unknown_browsers
        if self._of_browser and records.get(self._lookup(self._of_browser)):
            counters = (self._of_browser,)
        counts = {counter: records.get(self._lookup(counter)) for counter in counters}
        for _ in range(_RACES):
            if wait := max(counter.wait(record, now) for counter, record in counts.items()):
                raise TooManyAttempts(wait)
            writes = {counter: counter.counting(table, record, now) for counter, record in counts.items()}
            refused = self._store.transact(*writes.values(), *also)
            if refused is None:
                browser = self._of_browser if self._from_browser else None
                return Counted(self._store, tuple(counts.items()), browser, now)
            # Another attempt was faster. The refusal has the record as that one left it.
            counts |= {counter: refusal.record for counter, write in writes.items() if (refusal := refused.of(write))}
        raise TooManyAttempts(FIRST_WAIT)

    def remembering(self) -> list[Write[Any]]:
        """Return the writes that remember the browser, for a success that was counted in another one."""
        table, now = self._store.attempts, self._store.now()
        return [self._of_browser.taking_back(table, None, now)] if self._of_browser else []


@dataclass(frozen=True)
class Counted:
    """An attempt that was counted, so that its password may be checked."""

    store: Store
    counters: tuple[tuple[_Counter, Attempts | None], ...]
    browser: _Counter | None
    at: int

    def taking_back(self) -> list[Write[Any]]:
        """Return the writes for the transaction that signs the user in.

        They take the count back, and remember the browser that sent the attempt.
        """
        table = self.store.attempts
        counters = dict(self.counters)
        if self.browser:
            counters.setdefault(self.browser, None)
        return [counter.taking_back(table, record, self.at) for counter, record in counters.items()]


def network_of(source_ip: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 of an IPv6 address, which one customer has."""
    try:
        address = ip_address(source_ip)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ip_network((int(address), 64), strict=False))
    return str(address)


def _digest(kind: str, *parts: str) -> str:
    text = "\0".join((kind, *parts))
    return base64url(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
