"""How fast passwords may be guessed, so that other people cannot lock a user out of a known browser or network.

An attempt is counted before its password is checked, by one transaction whose conditions have all limits, so that
parallel attempts get no further than attempts one after the other. A success takes its count back. An attempt beyond a
limit is neither counted nor checked: the right password is rejected too, or guessing would go on.

Where an attempt comes from decides what limits it (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"):

1. A known browser, which the account has signed in with before: its own failures in a row, and nothing else.
2. A known network, from which the account has signed in before: its failures for this account in an hour and in a day.
3. Anywhere else: the failures of the network for this account in an hour and in a day, those of the address for all
   accounts in an hour, and those of the account from everywhere in a day. Beyond the last limit, some more attempts are
   reserved for networks that have no failure for this account.

A browser and a network are known while they hold a copy of the user's `password_generation`: a new password forgets
them all. An account is a user, under all their names; a name that no user has is counted in the same way.

The keys of the records are keyed digests: a copy of the table tells no account, address or browser.
"""

import secrets
from dataclasses import replace
from typing import Any

from chalicelib.authentication.failure_counts import DAILY, HOURLY, Count, Counter
from chalicelib.http.addresses import is_global, network_of
from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.attempts import Attempts
from chalicelib.protocol.durations import DAY, HOUR, in_words
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Records, Store
from chalicelib.storage.table import Lookup, Write

# Each lost race means that another attempt was counted, and a few of them reach a limit.
_RACES = 20
_RETRY_AFTER = 30
_UNLOCK_BITS = 48


class TooManyAttempts(Exception):
    """No attempt is possible now. `retry_after`: in how many seconds the next one is."""

    def __init__(self, retry_after: int):
        super().__init__(f"no attempt for {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class Account:
    """What failures are counted for: the `sub` of a user, or a name that no user has."""

    name: str
    is_user: bool

    def digest(self, keys: KeyRing, purpose: str, *parts: str) -> str:
        """Return the key of a record of this account."""
        return keys.digest(purpose, *parts, "user" if self.is_user else "name", self.name)

    def counter(self, keys: KeyRing) -> Counter:
        """Return the counter of all failures.

        Its record has `unlocked`, so it must outlive the windows that hold a copy, which last a day.
        """
        return Counter(self.digest(keys, "account"), ((DAILY, None),), 2 * DAY)


class Throttle:
    """The counters of one attempt to sign in.

    `browser_id`: None for a browser without our cookie. `from_browser`: whether that browser is known to have sent the
    attempt. If not, neither the browser nor the network is known, and only the network is remembered at a success.
    """

    def __init__(
        self,
        server: AuthorizationServer,
        account: Account,
        source_ip: str,
        browser_id: str | None,
        *,
        from_browser: bool = True,
    ):
        settings, keys = server.settings, server.keys
        hourly = (HOURLY, settings.sign_in_attempts)
        self.store, self.settings, self._from_browser = server.store, settings, from_browser
        self._browser = account.digest(keys, "browser", browser_id) if browser_id and from_browser else None
        self._has_public_address = is_global(source_ip)
        self.network = Counter(
            account.digest(keys, "network", network_of(source_ip, 24, 64)),
            (hourly, (DAILY, settings.sign_in_attempts_per_day_known)),
            settings.known_network_lifetime,
            prolonged_by_failures=False,
        )
        self._account_and_network = Counter(
            account.digest(keys, "account and network", network_of(source_ip, 24, 48)),
            (hourly, (DAILY, settings.sign_in_attempts_per_day)),
            DAY,
        )
        # Of all accounts, so an attacker's own ones must not take back what they have not counted in this hour.
        begins_at = self.store.now() // HOUR * HOUR
        self._address = Counter(
            keys.digest("address", network_of(source_ip), str(begins_at)),
            ((HOURLY, settings.sign_in_attempts_per_address),),
            HOUR,
            begins_at=begins_at,
        )
        self._account = account.counter(keys)

    @property
    def lookups(self) -> tuple[Lookup[Attempts], ...]:
        """The records that `count` needs."""
        ids = [self._account.attempts_id, self._account_and_network.attempts_id, self._address.attempts_id]
        ids += [self.network.attempts_id] if self._has_public_address else []
        ids += [self._browser] if self._browser else []
        return tuple(map(self.store.attempts.lookup, ids))

    @property
    def lookups_of_browser(self) -> tuple[Lookup[Attempts], ...]:
        """The record that `is_known_browser` needs; none for a browser without an id."""
        return (self.store.attempts.lookup(self._browser),) if self._browser else ()

    def is_known_browser(self, records: Records, generation: int) -> bool:
        """Return whether the account has signed in with this browser before. `generation`: as for `count`.

        `records` were read for `lookups_of_browser`.
        """
        read = [records.get(lookup) for lookup in self.lookups_of_browser]
        return any(_is_current(record, generation) for record in read if record)

    def count(self, records: Records, generation: int | None, *also: Write[Any]) -> "Counted":
        """Count an attempt before it is made, in one transaction with the writes `also`.

        `records` were read for `lookups`. `generation`: the `password_generation` of the user, None without one. Raises
        TooManyAttempts.
        """
        read = {lookup.key[0]: records.get(lookup) for lookup in self.lookups}
        for _ in range(_RACES):
            counted, writes = self._counting(read, generation, self.store.now())
            refused = self.store.transact(*writes.values(), *also)
            if refused is None:
                return counted
            # Another attempt was faster. The refusal has the record as that one left it.
            refusals = {attempts_id: refused.of(write) for attempts_id, write in writes.items()}
            read |= {attempts_id: refusal.record for attempts_id, refusal in refusals.items() if refusal}
        raise TooManyAttempts(_RETRY_AFTER)

    def _counting(
        self, read: dict[str, Attempts | None], generation: int | None, now: int
    ) -> tuple["Counted", dict[str, Write[Attempts]]]:
        """Return the writes that count one more attempt, and what it is once they are made. Raises TooManyAttempts."""
        table, most = self.store.attempts, self.settings.sign_in_attempts_per_account
        of_account, of_network = read[self._account.attempts_id], read.get(self.network.attempts_id)
        unlocked = of_account.unlocked if of_account else 0
        account = Count(self._account, of_account, now, unlocked)
        total = account.failures(DAILY)
        writes: dict[str, Write[Attempts]] = {}
        counts: tuple[Count, ...] = ()
        beyond = attr(DAILY.failures).gte(most)
        if self._browser and self._knows_browser(read[self._browser], generation):
            few = attr("failures").lt(self.settings.sign_in_attempts) & attr("generation").eq(generation)
            writes[self._browser] = table.changing((self._browser,), few, add={"failures": 1})
        elif self._from_browser and of_network and _is_current(of_network, generation):
            same = attr("generation").eq(generation)
            counts = (Count(self.network, of_network, now, unlocked, same),)
            if wait := counts[0].wait:
                raise TooManyAttempts(wait)
        else:
            counts = self._counts_of_unknown(read, account)
            beyond = attr(DAILY.failures).between(most, most + self.settings.sign_in_attempts_reserved - 1)
        # The attempt that reaches the limit is counted alone, so that this is told once.
        alone = attr(DAILY.failures).lt(most - 1) if total < most - 1 else attr(DAILY.failures).eq(total)
        if account.ends_in(DAILY):
            account = replace(account, condition=alone if total < most else beyond)
        counts += (account,)
        counters, from_known_browser = tuple(count.counter for count in counts), bool(writes)
        writes |= {count.counter.attempts_id: count.counting(table) for count in counts}
        return Counted(self, counters, of_network, total + 1 == most, from_known_browser), writes

    def _counts_of_unknown(self, read: dict[str, Attempts | None], account: Count) -> tuple[Count, ...]:
        """Return the counts that limit an attempt from an unknown browser and network. Raises TooManyAttempts."""
        total, most = account.failures(DAILY), self.settings.sign_in_attempts_per_account
        network = replace(
            account, counter=self._account_and_network, record=read[self._account_and_network.attempts_id]
        )
        address = Count(self._address, read[self._address.attempts_id], account.now)
        wait = max(network.wait, address.wait)
        if total >= most + self.settings.sign_in_attempts_reserved:
            wait = max(wait, account.ends_in(DAILY))
        elif total >= most:
            if network.failures(DAILY):
                wait = max(wait, min(network.ends_in(DAILY), account.ends_in(DAILY)))
            hourly, _ = network.counter.limits
            network = replace(network, counter=replace(network.counter, limits=(hourly, (DAILY, 1))))
        if wait:
            raise TooManyAttempts(wait)
        return network, address

    def _knows_browser(self, record: Attempts | None, generation: int | None) -> bool:
        return bool(record and record.failures < self.settings.sign_in_attempts and _is_current(record, generation))

    def remembering_browser(self, generation: int) -> list[Write[Any]]:
        """Return the write that makes the browser known, with no failures."""
        expires_at = self.store.now() + self.settings.known_browser_lifetime
        values = {"failures": 0, "generation": generation, "expires_at": expires_at}
        return [self.store.attempts.changing((self._browser,), None, values, create=True)] if self._browser else []

    def remembering_network(self, generation: int, record: Attempts | None = None) -> list[Write[Any]]:
        """Return the write that makes the network known, unless it has a public address no longer.

        None if its record already says so, for about as long.
        """
        expires_at = self.store.now() + self.network.lasts
        is_new = record is None or record.generation != generation or record.expires_at < expires_at - DAY
        if not self._has_public_address or not is_new:
            return []
        values = {"generation": generation, "expires_at": expires_at}
        return [self.store.attempts.changing((self.network.attempts_id,), None, values, create=True)]


@dataclass(frozen=True)
class Counted:
    """An attempt that was counted, so that its password may be checked.

    `reaches_limit`: whether the account has had `sign_in_attempts_per_account` attempts in a day with this one.
    `from_known_browser`: whether it came from a known browser.
    """

    throttle: Throttle
    counters: tuple[Counter, ...]
    network: Attempts | None
    reaches_limit: bool
    from_known_browser: bool = False

    def taking_back(self, generation: int, *, remember: bool = True) -> list[Write[Any]]:
        """Return the writes for the transaction that signs the user in, whose `password_generation` is given.

        They take the count back, and make the browser and the network known. Without `remember`, because the sign-in is
        not complete, only a browser that is known already stays known.
        """
        throttle, network = self.throttle, self.throttle.network
        table, now = throttle.store.attempts, throttle.store.now()
        current = {"generation": generation}
        writes: list[Write[Any]] = [
            counter.taking_back(table, now, current if counter == network else None) for counter in self.counters
        ]
        if not remember:
            return writes + (throttle.remembering_browser(generation) if self.from_known_browser else [])
        if network not in self.counters:
            writes += throttle.remembering_network(generation, self.network)
        return writes + throttle.remembering_browser(generation)


def unlock(store: Store, keys: KeyRing, sub: str) -> None:
    """Let a user sign in from everywhere again, after too many failures for their account.

    The limit of an address, for all accounts, stays. Raises TemporarilyUnavailable.
    """
    counter = Account(sub, is_user=True).counter(keys)
    none = {DAILY.started: 0, DAILY.failures: 0, "unlocked": secrets.randbits(_UNLOCK_BITS)}
    changes = {**none, "expires_at": store.now() + counter.lasts}
    store.attempts.write(store.attempts.changing((counter.attempts_id,), None, changes, create=True))


def _is_current(record: Attempts, generation: int | None) -> bool:
    return generation is not None and record.generation == generation


def try_again_text(seconds: int) -> Text:
    """Return the sentence for a user who must wait before the next attempt."""
    return Text(
        "There were too many attempts. Please try again in %(time)s, or now in a browser or on a network that you have "
        "signed in from before.",
        time=in_words(max(seconds, 2)),
    )
