"""Sign-ins that nearly all come from one address, such as that of a proxy, are noticed by an event."""

import json
from typing import Any

import pytest

from chalicelib import events
from chalicelib.authentication.sign_in_addresses import note_sign_in
from chalicelib.events import log as event_log
from chalicelib.http.messages import Request
from chalicelib.protocol.durations import HOUR
from tests.support.gateways import BrowserAt
from tests.support.site import Site

PROXY, ELSEWHERE = "203.0.113.7", "198.51.100.9"


def sign_in(site: Site, number: int, address: str = PROXY) -> bool:
    """Sign one of ten users in at an address; return whether the event is recorded."""
    http = Request("POST", "/oauth2/code", source_ip=address)
    note_sign_in(site.server, http, f"user {number % 10}")
    return [event["event"] for event in http.events] == [events.SIGN_INS_FROM_ONE_ADDRESS]


def test_eighteenth_sign_in_from_one_address_by_ten_users_is_logged_with_the_address(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Failed sign-ins do not count, and neither does what else needs the password."""

    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == event_log.log.name]
        return [line for line in lines if line.get("event") == events.SIGN_INS_FROM_ONE_ADDRESS]

    client = site.client(trusted=True)
    names = [site.user(f"user{number}").username for number in range(10)]
    with caplog.at_level("INFO", event_log.log.name):
        for number, name in enumerate([*names, *names[:8]]):
            assert logged() == [], number
            browser = BrowserAt(site, PROXY)
            page = browser.authorize(client)
            assert number or browser.sign_in(page, name, "not this one").status == 400
            assert browser.sign_in(page, name).status == 303
        (record,) = logged()
    assert record["source_ip"] == PROXY
    assert record.keys() <= {"level", "event", "request_id", "stage", "endpoint", "source_ip", "client_id"}


def test_sign_ins_of_nine_users_from_one_address_have_no_event(site: Site) -> None:
    assert not any(sign_in(site, number % 9) for number in range(40))
    assert sign_in(site, 9)


def test_three_of_the_last_twenty_from_elsewhere_are_enough(site: Site) -> None:
    assert not any(sign_in(site, number, ELSEWHERE if number in (0, 7, 13) else PROXY) for number in range(20))
    assert sign_in(site, 0), "the oldest one from elsewhere is forgotten"


def test_sign_in_from_elsewhere_notes_nothing(site: Site) -> None:
    """The event has the address of its request."""
    assert not any(sign_in(site, number) for number in range(17))
    assert not sign_in(site, 0, ELSEWHERE)
    assert sign_in(site, 1)
    site.clock.advance(HOUR)
    assert not sign_in(site, 2, ELSEWHERE)


def test_event_is_logged_once_an_hour(site: Site) -> None:
    assert sum(sign_in(site, number) for number in range(30)) == 1
    site.clock.advance(HOUR - 1)
    assert not sign_in(site, 0)
    site.clock.advance(1)
    assert sign_in(site, 1)
    assert not sign_in(site, 2)


def test_process_remembers_no_address_and_no_user(site: Site) -> None:
    sign_in(site, 0)
    memory = repr(site.server.process_memory)
    assert "recent" in memory
    assert PROXY not in memory
    assert "user 0" not in memory
