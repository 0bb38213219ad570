"""How fast somebody may try passwords: wrong ones in a row make the next tries wait, each twice as long as the last.

A try is counted before its password is looked at, by one conditional write, so that no number of tries at the same
moment gets further than one after the other; whoever signs in takes the count back. A try while others have to wait is
neither counted nor looked at: the right password is refused as well, or guessing would go on.

In a browser that the account has signed in with before, only that browser's wrong passwords count, so that nobody else
can lock the owner out (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"; the browser's cookie is the
device cookie). From any other browser a try counts three times: for this account from this address, for the address
whatever the account, and for the account whatever the address. Names that nobody has count like those of accounts.

What is stored are digests of names, addresses and browsers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from chalicelib.dynamodb import attr
from chalicelib.handles import base64url
from chalicelib.models import Attempts
from chalicelib.store import Store
from chalicelib.table import Step, Table

FIRST_WAIT = 30
LONGEST_WAIT = 15 * 60
# NIST SP 800-63B section 3.2.2: the most failures in a row that one account may see, wherever they come from.
MOST_PER_ACCOUNT = 100
_HOUR = 60 * 60
_DAY = 24 * _HOUR
_YEAR = 365 * _DAY
# Each lost race means that another try was counted, and a handful of them makes everybody wait.
_RACES = 20


class TooManyAttempts(Exception):
    """No try now. `retry_after`: in how many seconds there may be one."""

    def __init__(self, retry_after: int):
        super().__init__(f"no try for {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class _Counter:
    """`limit` tries need not wait for one another. What they are counted by is forgotten `lasts` seconds after the last
    one; if it is `shared` by many people, after the first one, or the mistakes of a large office would add up for ever.
    """

    attempts_id: str
    limit: int
    lasts: int
    shared: bool = False

    def wait(self, record: Attempts | None, now: int) -> int:
        """For how many seconds there may be no try."""
        waiting = record is not None and record.failures >= self.limit
        return max(0, record.blocked_until - now) if record and waiting else 0

    def after(self, record: Attempts | None, now: int) -> Attempts:
        """The record when one more try has been counted."""
        failures = record.failures + 1 if record else 1
        beyond = failures - self.limit
        wait = min(FIRST_WAIT * 2 ** min(beyond, 10), LONGEST_WAIT) if beyond >= 0 else 0
        forgotten = now + wait + (0 if self.shared and record else self.lasts)
        known_until = record.expires_at if record else 0
        return Attempts(self.attempts_id, max(forgotten, known_until), failures, now + wait if wait else 0)

    def counting(self, table: Table[Attempts], record: Attempts | None, now: int) -> Step[Attempts]:
        """The step that counts one more try; refused when `record` does not tell any more what that means."""
        after = self.after(record, now)
        if record is None:
            return table.inserting(after)
        if not after.blocked_until:
            fewer = attr("failures").lt(self.limit - 1)
            return table.changing((self.attempts_id,), fewer, {"expires_at": after.expires_at}, {"failures": 1})
        changed = {name: getattr(after, name) for name in ("failures", "blocked_until", "expires_at")}
        same = attr("failures").eq(record.failures) & ~attr("blocked_until").gt(now)
        return table.changing((self.attempts_id,), same, changed)

    def taking_back(self, table: Table[Attempts], record: Attempts | None, now: int) -> Step[Attempts]:
        """The step after a success: the count starts anew, or, if it is `shared`, is one less."""
        after = self.after(record, now)
        known: dict[str, Any] = {"expires_at": after.expires_at}
        if not self.shared:
            return table.changing((self.attempts_id,), None, {**known, "failures": 0, "blocked_until": 0}, create=True)
        if after.blocked_until:
            known["blocked_until"] = record.blocked_until if record else 0
        return table.changing((self.attempts_id,), None, known, {"failures": -1}, create=True)


class Throttle:
    """What counts when somebody tries to sign in. `account`: the name that was typed, as it is looked up.

    `browser_id`: None for a browser that has no cookie of ours. `here`: whether it is that browser that tries.
    """

    def __init__(self, store: Store, account: str, source_ip: str, browser_id: str | None, *, here: bool = True):
        few, many = store.settings.sign_in_attempts, store.settings.sign_in_attempts_per_address
        network = network_of(source_ip)
        self._store, self._here = store, here
        self._known_browser = _Counter(_digest("browser", browser_id, account), few, _YEAR) if browser_id else None
        self._elsewhere = (
            _Counter(_digest("account and address", network, account), few, _HOUR),
            _Counter(_digest("address", network), many, _HOUR, shared=True),
            _Counter(_digest("account", account), MOST_PER_ACCOUNT, _DAY, shared=True),
        )

    @property
    def wanted(self) -> tuple[tuple[Table[Any], tuple[str, ...]], ...]:
        """The records that `count` needs, for `Store.read`."""
        counters = filter(None, (self._known_browser, *self._elsewhere))
        return tuple((self._store.attempts, (counter.attempts_id,)) for counter in counters)

    def count(self, found: Sequence[Attempts | None], *also: Step[Any]) -> "Counted":
        """Count a try, before it is made: one write, in one transaction with the steps `also`.

        `found` is what was read for `wanted`. Raises TooManyAttempts.
        """
        now, table = self._store.now(), self._store.attempts
        counters: tuple[_Counter, ...] = self._elsewhere
        records = list(found)
        if self._known_browser:
            known, *records = records
            if known:
                counters, records = (self._known_browser,), [known]
        for _ in range(_RACES):
            pairs = tuple(zip(counters, records, strict=True))
            if wait := max(counter.wait(record, now) for counter, record in pairs):
                raise TooManyAttempts(wait)
            steps = [counter.counting(table, record, now) for counter, record in pairs]
            refused = self._store.transact(*steps, *also)
            if refused is None:
                return Counted(self._store, pairs, self._known_browser if self._here else None, now)
            # Somebody else was quicker. What they have left is in the refusal.
            own = refused[: len(pairs)]
            records = [refusal.record if refusal else record for refusal, record in zip(own, records, strict=True)]
        raise TooManyAttempts(FIRST_WAIT)

    def knowing(self) -> list[Step[Any]]:
        """The steps after which the browser is known: for a success whose browser was not known when it was counted."""
        table, now = self._store.attempts, self._store.now()
        return [self._known_browser.taking_back(table, None, now)] if self._known_browser else []


@dataclass(frozen=True)
class Counted:
    """A try that was counted and may be made now."""

    store: Store
    counters: tuple[tuple[_Counter, Attempts | None], ...]
    browser: _Counter | None
    at: int

    def taking_back(self) -> list[Step[Any]]:
        """The steps for the transaction that signs the person in: it was no wrong password, and the browser that tried
        is known from then on.
        """
        table = self.store.attempts
        counters = dict(self.counters)
        if self.browser:
            counters.setdefault(self.browser, None)
        return [counter.taking_back(table, record, self.at) for counter, record in counters.items()]


def network_of(source_ip: str) -> str:
    """Who counts as one address: an IPv4 address, or the /64 that an IPv6 address lies in, which one customer has."""
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
