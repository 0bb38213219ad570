"""The growth of the table: limits of registrations, and clients that expire when they are not used."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from chalicelib.clients.client_lifetime import LIFETIME, UNUSED_LIFETIME
from chalicelib.clients.registration_limits import COUNTERS, SAME_PER_MINUTE, count_open
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from chalicelib.protocol.errors import TooManyRegistrations
from tests.endpoints.register.conftest import as_client, manage, record, register, registered
from tests.support import faults
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.site import Site

Browsers = Callable[..., Browser]
LIMIT = 5


@pytest.fixture
def limited_site(site_with: Callable[..., Site]) -> Site:
    site = site_with(client_registration="open", registrations_per_address=LIMIT)
    start_hour(site)
    site.server.keys.jwks()
    return site


@pytest.fixture
def app(limited_site: Site, browsers: Browsers) -> Browser:
    return browsers(limited_site)


def start_hour(site: Site) -> None:
    """Advance the clock to the start of an hour."""
    site.clock.advance(HOUR - site.clock() % HOUR)


def count(site: Site) -> int:
    return len(list(site.server.store.clients.scan()))


def test_registration_makes_two_writes(app: Browser, wire: Wire) -> None:
    with wire.counted() as calls:
        registered(app)
    assert calls == ["UpdateItem", "PutItem"]


def test_address_at_its_limit_waits_until_the_next_hour(limited_site: Site, app: Browser, wire: Wire) -> None:
    limited_site.clock.advance(HOUR - 100)
    for number in range(LIMIT):
        registered(app, client_name=f"Application {number}")
    answer = register(app, client_name="One more")
    assert (answer.status, answer.json["error"]) == (429, "temporarily_unavailable")
    assert answer.header("retry-after") == "100"
    with wire.counted() as calls:
        assert register(app, client_name="Another").status == 429
    assert calls == [], "the process remembers it"
    assert count(limited_site) == LIMIT
    limited_site.clock.advance(100)
    registered(app, client_name="One more")


@pytest.mark.spec("RFC 7591 §5 j")
def test_clients_that_look_the_same_are_limited_in_a_minute(open_site: Site, browsers: Browsers) -> None:
    start_hour(open_site)
    app = browsers(open_site)
    for _ in range(SAME_PER_MINUTE):
        registered(app)
    answer = register(app)
    assert (answer.status, answer.header("retry-after")) == (429, "60")
    registered(app, software_id="another")
    open_site.clock.advance(MINUTE)
    registered(app)


def test_ten_thousand_registrations_in_a_minute_store_no_more_than_the_limit(limited_site: Site, app: Browser) -> None:
    for number in range(2 * LIMIT):
        register(app, client_name=f"Application {number}")
    server = limited_site.server
    for number in range(10_000):
        with pytest.raises(TooManyRegistrations):
            count_open(server, "127.0.0.1", str(number))
    assert count(limited_site) == LIMIT
    assert len(list(server.store.registration_counts.scan())) == 1


def test_all_networks_together_are_limited_and_only_for_an_hour(limited_site: Site) -> None:
    server = limited_site.server

    def count_accepted(networks: int) -> int:
        accepted = 0
        for number in range(networks):
            try:
                count_open(server, f"10.{number // 256}.{number % 256}.1", "x")
            except TooManyRegistrations:
                continue
            accepted += 1
        return accepted

    # More than all counters together take.
    accepted = count_accepted(COUNTERS * LIMIT * 2)
    assert accepted <= COUNTERS * LIMIT
    assert len(list(server.store.registration_counts.scan())) <= COUNTERS
    limited_site.clock.advance(HOUR)
    assert count_accepted(100) >= 95, "the next hour is free for every network"


def test_number_of_clients_is_bounded(limited_site: Site, app: Browser) -> None:
    """A model of 400 days of an attack: the live clients are those of the last 30 days, and those in use."""
    chance, used = random.Random(14), 0
    limited_site.user()
    expected: dict[str, int] = {}
    for _ in range(60):
        limited_site.clock.advance(chance.choice((HOUR, DAY, 9 * DAY)))
        for number in range(LIMIT + 2):
            answer = register(app, client_name=f"{number}")
            if answer.status == 201:
                expected[answer.json["client_id"]] = limited_site.clock() + UNUSED_LIFETIME
                if chance.random() < 0.05:
                    app.tokens(as_client(limited_site, answer.json))
                    expected[answer.json["client_id"]] = limited_site.clock() + LIFETIME
                    used += 1
        alive = {client_id for client_id, end in expected.items() if end > limited_site.clock()}
        assert {client.client_id for client in limited_site.server.store.clients.scan()} == alive
    assert used
    assert len(alive) < len(expected)


def test_client_expires_thirty_days_after_its_registration(limited_site: Site, app: Browser) -> None:
    members = registered(app)
    client = as_client(limited_site, members)
    limited_site.clock.advance(UNUSED_LIFETIME - 1)
    assert app.authorize(client).status == 200
    limited_site.clock.advance(61)
    assert app.authorize(client).status == 400
    assert manage(app, "GET", members).status == 401


def test_client_in_use_expires_400_days_after_its_last_use(limited_site: Site, app: Browser, wire: Wire) -> None:
    limited_site.user()
    members = registered(app)
    client = as_client(limited_site, members)
    tokens = app.tokens(client, scope="openid offline_access")
    assert record(limited_site, members).expires_at == limited_site.clock() + LIFETIME
    limited_site.clock.advance(DAY - 1)
    with wire.counted() as calls:
        tokens = app.refresh(client, tokens["refresh_token"]).json
    same_day = len([call for call in calls if call == "UpdateItem"])
    limited_site.clock.advance(1)
    for writes in (1, 0):
        with wire.counted() as calls:
            tokens = app.refresh(client, tokens["refresh_token"]).json
        assert len([call for call in calls if call == "UpdateItem"]) == same_day + writes
    assert record(limited_site, members).expires_at == limited_site.clock() + LIFETIME


def test_client_extended_by_another_process_is_not_written_again(limited_site: Site, app: Browser, wire: Wire) -> None:
    limited_site.user()
    members = registered(app)
    client = as_client(limited_site, members)
    code, second = app.code(client), app.code(client)
    current = replace(record(limited_site, members), expires_at=limited_site.clock() + LIFETIME + 5)
    limited_site.server.store.clients.put(current)
    assert app.redeem(client, code).status == 200
    with wire.counted() as calls:
        assert app.redeem(client, second).status == 200
    assert calls.count("UpdateItem") == 1, "only the code"
    assert record(limited_site, members) == current


@pytest.mark.parametrize("other_process_extends", [False, True])
def test_extension_does_not_cache_a_client_that_was_disabled(
    limited_site: Site, app: Browser, other_process_extends: bool
) -> None:
    limited_site.user()
    client = as_client(limited_site, registered(app))
    code = app.code(client)
    current = limited_site.server.store.clients.get(client.id)
    assert current
    assert current.expires_at
    changed = replace(current, disabled_at=limited_site.clock(), expires_at=current.expires_at + other_process_extends)
    limited_site.server.store.clients.put(changed)
    limited_site.clock.advance(MINUTE - 1)
    assert app.redeem(client, code).status == 200, "it is cached for a minute"
    limited_site.clock.advance(1)
    assert app.authorize(client).status == 400


def test_tokens_are_issued_when_the_client_cannot_be_extended(limited_site: Site, app: Browser, wire: Wire) -> None:
    limited_site.user()
    members = registered(app)
    client = as_client(limited_site, members)
    code = app.code(client)
    with wire.fault_in("UpdateItem", faults.throttled, skip=1):
        assert app.redeem(client, code).status == 200
    assert (
        record(limited_site, members).expires_at == record(limited_site, members).client_id_issued_at + UNUSED_LIFETIME
    )


def test_client_of_the_operator_never_expires(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    browser.tokens(client)
    site.clock.advance(3 * LIFETIME)
    assert site.server.store.clients.get(client.id) == client.record
