"""What limits mails: the address, the caller, and the same calls whether limited or not."""

from collections.abc import Callable

import pytest

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.mail.limits import admit
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from chalicelib.protocol.errors import TemporarilyUnavailable, TooManyEmails
from tests.support import faults
from tests.support.faults import Wire
from tests.support.site import Site, dump_tables
from tests.support.threads import run_concurrently

Ask = Callable[..., bool]


@pytest.fixture
def ask(site: Site) -> Ask:
    """A function that asks for a mail to an address from an address, at the start of a day."""
    site.clock.time -= site.clock.time % DAY
    site.server.keys.forget_cached_keys()
    site.server.keys.jwks()  # cached from now on

    def ask_for(address: str = "alice@example.com", source_ip: str = "192.0.2.1") -> bool:
        try:
            return admit(site.server, http_of(source_ip), address)
        except TooManyEmails:
            return False

    return ask_for


def http_of(source_ip: str) -> Request:
    return Request(method="POST", path="/x", source_ip=source_ip)


def test_address_gets_three_mails_in_fifteen_minutes(site: Site, ask: Ask) -> None:
    assert [ask(source_ip=f"192.0.2.{number}") for number in range(5)] == [True] * 3 + [False] * 2
    assert ask("bob@example.com")
    site.clock.advance(15 * MINUTE - 1)
    assert not ask()
    site.clock.advance(1)
    assert ask()


def test_address_gets_ten_mails_in_a_day(site: Site, ask: Ask) -> None:
    admitted = 0
    for number in range(40):
        admitted += ask(source_ip=f"192.0.2.{number}")
        site.clock.advance(15 * MINUTE)
    assert admitted == 10
    site.clock.advance(DAY - 40 * 15 * MINUTE)
    assert ask()


@pytest.mark.parametrize(
    "addresses",
    [["192.0.2.1"], ["2001:db8:1:2::1", "2001:db8:1:2:3::9", "2001:db8:1:ff::1"]],
    ids=["IPv4", "an IPv6 /56"],
)
def test_caller_gets_twenty_mails_in_an_hour(site: Site, ask: Ask, addresses: list[str]) -> None:
    admitted = [ask(f"user{number}@example.com", addresses[number % len(addresses)]) for number in range(25)]
    assert admitted == [True] * 20 + [False] * 5
    assert ask("user30@example.com", "198.51.100.1")
    site.clock.advance(HOUR)
    assert ask("user31@example.com", addresses[0])


@pytest.mark.parametrize("address", ["alice@example.com", "nobody@example.com"])
def test_caller_beyond_the_limit_is_told_when_to_try_again_for_any_address(
    site: Site, ask: Ask, wire: Wire, address: str
) -> None:
    for number in range(20):
        assert ask(f"user{number}@example.com")
    site.clock.advance(10 * MINUTE)
    site.server.keys.jwks()
    before = dump_tables()
    with wire.counted() as calls, pytest.raises(TooManyEmails) as refused:
        admit(site.server, http_of("192.0.2.1"), address)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": str(50 * MINUTE)})
    assert calls == ["UpdateItem"]
    assert dump_tables() == before


def test_limit_of_an_address_is_told_to_no_caller(site: Site, ask: Ask) -> None:
    assert [admit(site.server, http_of("192.0.2.1"), "alice@example.com") for _ in range(5)] == [True] * 3 + [False] * 2


def test_mail_of_a_caller_beyond_the_limit_is_not_counted_for_its_address(site: Site, ask: Ask) -> None:
    for number in range(20):
        assert ask(f"user{number}@example.com")
    for _ in range(5):
        assert not ask()
    assert [ask(source_ip=f"198.51.100.{number}") for number in range(4)] == [True] * 3 + [False]


@pytest.mark.parametrize("addresses", [1, 2, 20])
def test_caller_is_told_after_twenty_mails_for_however_few_addresses(site: Site, ask: Ask, addresses: int) -> None:
    for number in range(20):
        admit(site.server, http_of("192.0.2.1"), f"user{number % addresses}@example.com")
    with pytest.raises(TooManyEmails):
        admit(site.server, http_of("192.0.2.1"), "user0@example.com")


def test_mail_costs_the_same_calls_whether_it_is_limited_or_not(site: Site, ask: Ask, wire: Wire) -> None:
    for _ in range(5):
        with wire.counted() as calls:
            ask()
        assert calls == ["UpdateItem", "TransactWriteItems"]


def test_limited_request_says_so_in_the_log_and_not_otherwise(site: Site, ask: Ask) -> None:
    for expected in (True, True, True, False):
        http = http_of("192.0.2.1")
        assert admit(site.server, http, "alice@example.com") is expected
        assert http.events == ([] if expected else [{"event": events.EMAIL_LIMITED}])


def test_thousand_requests_at_once_admit_three_mails(site: Site, ask: Ask) -> None:
    admitted: list[bool] = []
    with faults.no_pauses():
        for _ in range(20):
            run_concurrently(
                [lambda n=n: admitted.append(ask(source_ip=f"192.0.2.{n}")) for n in range(50)]  # type: ignore[misc]
            )
    assert (len(admitted), sum(admitted)) == (1000, 3)


def test_counters_contain_no_address(site: Site, ask: Ask) -> None:
    ask()
    assert len(list(site.server.store.mail_counts.scan())) == 3
    assert "alice" not in dump_tables()
    assert "192.0.2" not in dump_tables()


def test_counters_expire(site: Site, ask: Ask) -> None:
    ask()
    site.clock.advance(DAY + HOUR)
    assert list(site.server.store.mail_counts.scan()) == []


@pytest.mark.parametrize("operation", ["UpdateItem", "TransactWriteItems"])
def test_database_that_cannot_be_reached_admits_nothing(site: Site, ask: Ask, wire: Wire, operation: str) -> None:
    with wire.every(operation, faults.unreachable), pytest.raises(TemporarilyUnavailable):
        ask()
