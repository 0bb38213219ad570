"""How fast passwords may be guessed: from a known browser, from a known network, and from anywhere else."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from passlib.hash import argon2

from chalicelib import events
from chalicelib.authentication import password as sign_in
from chalicelib.authentication import passwords
from chalicelib.authentication.throttle import Account, Counted, Throttle, unlock
from chalicelib.aws.messages import Request, Response
from chalicelib.http.addresses import network_of
from chalicelib.keys.stored_ring import RING
from chalicelib.protocol.attempts import Attempts
from chalicelib.protocol.durations import DAY, HOUR, MINUTE, YEAR
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.identifiers import sign_in_identifiers, username_identifier
from chalicelib.protocol.records import Identifier, User
from chalicelib.users.password_change import change_password
from tests.support.browser import Answer, Browser, basic
from tests.support.faults import Proceed, Wire, refusal
from tests.support.gateways import BrowserAt
from tests.support.site import PASSWORD, Registered, Site, dump_tables, tables
from tests.support.threads import run_concurrently

WRONG = "not this one"
NEW_PASSWORD = "another pass phrase"
# Addresses of three networks. All others of these tests are in other networks, too.
ADDRESS, OTHER_ADDRESS, THIRD_ADDRESS = "5.1.1.1", "5.1.2.1", "5.1.3.1"
PRIVATE_ADDRESS = "10.1.1.1"
LIMIT = 5
SAME_ORIGIN, CROSS_SITE = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}
LOGIN = "https://login.example.com"
LOGIN_SETTINGS = {"login_url": f"{LOGIN}/sign-in", "login_origins": (LOGIN,)}
WINDOWS = ("hour_failures", "day_failures")
OpenBrowser = Callable[[str], BrowserAt]


@pytest.fixture
def browser_at(site: Site) -> OpenBrowser:
    """Create a browser with an IP address."""
    return partial(BrowserAt, site)


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


@pytest.fixture
def client(site: Site, user: User) -> Registered:
    """A trusted client, with the user alice."""
    return site.client(trusted=True, direct_sign_in=True)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every password that is verified, without hashing it: these tests count verifications."""
    seen: list[str] = []

    def verify(password: str, password_hash: str | None, _failure_cost: int) -> bool:
        seen.append(password)
        return password_hash is not None and password == PASSWORD

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "verify", verify)
        yield seen


def send_passwords(browser: Browser, client: Registered, *sent: str, username: str = "alice") -> list[Answer]:
    """Send passwords one after the other from one page, and return the pages that follow."""
    page = browser.authorize(client, prompt="login")
    return [browser.submit(page, username=username, password=password) for password in sent]


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def fail(browser: Browser, client: Registered, times: int, username: str = "alice") -> None:
    """Send so many wrong passwords, which are all checked."""
    assert statuses(send_passwords(browser, client, *[WRONG] * times, username=username)) == [400] * times


def send_directly(
    browser: Browser, client: Registered, *sent: str, username: str = "alice", headers: dict[str, str] = SAME_ORIGIN
) -> list[int]:
    """Send passwords by HTTP Basic, each in one request; return the statuses: 401 for a wrong password."""
    credentials = [basic(username, password) for password in sent]
    return statuses([browser.authorize(client, "/oauth2/code", headers={**headers, **each}) for each in credentials])


def throttle_of(browser: BrowserAt, username: str = "alice", browser_id: str | None = None) -> Throttle:
    """Return the throttle of a sign-in, for a test of what several requests leave."""
    server, name = browser.site.server, username_identifier(username)
    identifier = server.store.identifiers.get(name)
    account = Account(identifier.sub if identifier else name, is_user=identifier is not None)
    return Throttle(server, account, browser.address, browser_id, from_browser=browser_id is not None)


def insert_failures(browser: BrowserAt, times: int, username: str = "alice") -> None:
    """Store what so many wrong passwords from an unknown browser and network leave, without sending them all."""
    throttle, attempts = throttle_of(browser, username), browser.site.server.store.attempts
    throttle.count(browser.site.server.store.read_all(throttle.lookups), None)
    for lookup in throttle.lookups[:3]:  # of the account, of the account and network, of the address
        record = attempts.get(*lookup.key)
        assert record
        counted = {name: number for name in WINDOWS if (number := getattr(record, name))}
        attempts.put(replace(record, **{name: number + times - 1 for name, number in counted.items()}))


def is_throttled(browser: Browser, client: Registered, username: str = "alice") -> bool:
    """Return whether the right password is rejected by HTTP Basic; if not, it is a success."""
    (status,) = send_directly(browser, client, PASSWORD, username=username)
    assert status in (302, 429)
    return status == 429


def wait_of(browser: Browser, client: Registered) -> int:
    """Return for how long a rejected attempt must wait."""
    (answer,) = send_passwords(browser, client, PASSWORD)
    assert answer.status == 429
    return int(answer.header("retry-after") or 0)


def sign_in_at(browser_at: OpenBrowser, client: Registered, address: str = ADDRESS) -> BrowserAt:
    """Return a browser that has signed in, at an address."""
    browser = browser_at(address)
    assert statuses(send_passwords(browser, client, PASSWORD)) == [303]
    return browser


def fail_from_networks(browser_at: OpenBrowser, client: Registered, numbers: range) -> list[int]:
    """Send one wrong password from each of these networks; return the statuses: 401 if it was checked."""
    return [send_directly(browser_at(f"5.2.{number}.1"), client, WRONG)[0] for number in numbers]


def records(site: Site) -> dict[str, Attempts]:
    return {record.attempts_id: record for record in site.server.store.attempts.scan()}


def test_inserted_failures_are_those_that_wrong_passwords_leave(
    site: Site, browser_at: OpenBrowser, client: Registered
) -> None:
    for name in ("alice", "nobody"):
        left = []
        for leave in (partial(fail, client=client), insert_failures):
            leave(browser_at(ADDRESS), times=3, username=name)
            left.append(records(site))
            for attempts_id in left[-1]:
                site.server.store.attempts.delete(attempts_id)
        assert left[0] == left[1]
        assert len(left[0]) == 3


# ---- an unknown network: five failures in an hour, fifteen in a day


@pytest.mark.spec("RFC 6585 §4")
@pytest.mark.spec("RFC 6749 §10.10 d")
def test_five_wrong_passwords_in_an_hour_are_checked(
    site: Site, browser_at: OpenBrowser, client: Registered, checked: list[str]
) -> None:
    answers = send_passwords(browser_at(ADDRESS), client, *[WRONG] * LIMIT, WRONG, PASSWORD)
    assert statuses(answers) == [400] * LIMIT + [429] * 2
    assert checked == [WRONG] * LIMIT
    assert answers[-1].header("retry-after") == str(HOUR)
    assert answers[-1].header("cache-control") == "no-store"
    assert answers[-1].form.fields["username"] == "alice", "the form can be sent again"
    # Another browser in the same network does not get more.
    site.clock.advance(HOUR - 1)
    assert wait_of(browser_at("5.1.1.254"), client) == 1
    site.clock.advance(1)
    assert not is_throttled(browser_at("5.1.1.254"), client)


def test_window_begins_with_its_first_failure(site: Site, browser_at: OpenBrowser, client: Registered) -> None:
    fail(browser_at(ADDRESS), client, 1)
    site.clock.advance(40 * MINUTE)
    fail(browser_at(ADDRESS), client, LIMIT - 1)
    assert wait_of(browser_at(ADDRESS), client) == 20 * MINUTE
    site.clock.advance(20 * MINUTE)
    fail(browser_at(ADDRESS), client, LIMIT)
    assert wait_of(browser_at(ADDRESS), client) == HOUR


def test_fifteen_wrong_passwords_in_a_day_are_checked(site: Site, browser_at: OpenBrowser, client: Registered) -> None:
    for _ in range(2):
        insert_failures(browser_at(ADDRESS), LIMIT)
        site.clock.advance(HOUR)
    fail(browser_at(ADDRESS), client, LIMIT)
    site.clock.advance(HOUR)
    assert wait_of(browser_at(ADDRESS), client) == DAY - 3 * HOUR
    assert not is_throttled(browser_at(OTHER_ADDRESS), client)
    site.clock.advance(DAY - 3 * HOUR - 1)
    assert wait_of(browser_at(ADDRESS), client) == 1
    site.clock.advance(1)
    assert not is_throttled(browser_at(ADDRESS), client)


def test_rejected_attempt_says_when_the_next_is_possible_and_what_helps(
    site_with: Callable[..., Site], client: Registered
) -> None:
    site = site_with(support_url="https://help.example.com/", sign_in_attempts=1, sign_in_attempts_per_day=2)
    shown = []
    for wait in (0, HOUR - 100, 99, 1):
        site.clock.advance(wait)
        shown.append(send_passwords(BrowserAt(site, ADDRESS), client, WRONG)[0])
    shown.append(send_passwords(BrowserAt(site, ADDRESS), client, WRONG)[0])
    assert statuses(shown) == [400, 429, 429, 400, 429]
    for page, text in zip((shown[1], shown[2], shown[4]), ("100 seconds", "2 seconds", "23 hours"), strict=True):
        problem = re.search(r'<p class="problem"[^>]*>(.*?)</p>', page.body)
        assert problem
        assert f"Please try again in {text}, or now in a browser or on a network that you have" in problem[1]
        assert '<a href="https://help.example.com/" ' in problem[1]
    problem = re.search(r'<p class="problem"[^>]*>(.*?)</p>', shown[0].body)
    assert problem
    assert "help.example.com" not in problem[1], "a wrong password needs no support"


def test_success_is_not_counted_and_earlier_failures_are(browser_at: OpenBrowser, client: Registered) -> None:
    """In a network that is never known."""
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT - 1)
    for _ in range(2):
        assert not is_throttled(browser_at(PRIVATE_ADDRESS), client)
    fail(browser_at(PRIVATE_ADDRESS), client, 1)
    assert is_throttled(browser_at(PRIVATE_ADDRESS), client)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("5.1.1.1", "5.1.1.254", True),
        ("5.1.1.1", "5.1.2.1", False),
        ("2600:1:2:3::1", "2600:1:2:ffff::1", True),
        ("2600:1:2:3::1", "2600:1:3:3::1", False),
        ("::ffff:5.1.1.1", "5.1.1.2", True),
        ("", "not an address", True),
    ],
)
def test_unknown_networks_are_a_24_and_a_48(
    browser_at: OpenBrowser, client: Registered, first: str, second: str, same: bool
) -> None:
    insert_failures(browser_at(first), LIMIT)
    assert is_throttled(browser_at(second), client) == same


def test_forwarding_headers_do_not_change_the_address(browser_at: OpenBrowser, client: Registered) -> None:
    browser = browser_at(ADDRESS)
    insert_failures(browser, LIMIT)
    page = browser.authorize(client)
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip"):
        answer = browser.submit(page, {header: "5.9.9.9"}, username="alice", password=PASSWORD)
        assert answer.status == 429, header


@pytest.mark.parametrize(("attempts", "sent"), [(1, [400, 429]), (3, [400, 400, 400, 429])])
def test_number_of_attempts_is_a_setting(
    site_with: Callable[..., Site], client: Registered, attempts: int, sent: list[int]
) -> None:
    browser = BrowserAt(site_with(sign_in_attempts=attempts), ADDRESS)
    assert statuses(send_passwords(browser, client, *[WRONG] * len(sent))) == sent


# ---- one account under all its names, and names that no user has


@pytest.mark.parametrize("name", ["ALICE", "Alice", "\uff21lice"])
def test_all_forms_of_a_username_share_one_count(browser_at: OpenBrowser, client: Registered, name: str) -> None:
    insert_failures(browser_at(ADDRESS), LIMIT)
    assert is_throttled(browser_at(ADDRESS), client, name)


def test_all_names_of_a_user_share_their_counts(
    site: Site, browser_at: OpenBrowser, client: Registered, user: User
) -> None:
    """And what is known about them."""
    site.server.store.identifiers.insert(Identifier(username_identifier("alice@example.com"), user.sub))
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    assert is_throttled(browser_at(PRIVATE_ADDRESS), client, "alice@example.com")
    fail(owner, client, LIMIT - 1, "alice@example.com")
    fail(owner, client, 1)
    assert is_throttled(owner, client)


def test_name_of_a_user_and_the_same_sub_of_another_do_not_share_a_count(
    site: Site, browser_at: OpenBrowser, client: Registered, user: User
) -> None:
    """An imported user may have any string as sub, such as the name that another one types."""
    name = username_identifier("nobody")
    site.server.store.users.insert(replace(user, sub=name))
    site.server.store.identifiers.insert(Identifier(username_identifier("bob"), name))
    insert_failures(browser_at(ADDRESS), LIMIT, "nobody")
    assert not is_throttled(browser_at(ADDRESS), client, "bob")


def test_throttling_does_not_reveal_which_accounts_exist(
    site: Site, browser_at: OpenBrowser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []
    for number, username in enumerate(("alice", "nobody")):
        shown = []
        for _ in range(2):
            browser = browser_at(f"5.1.{number}.1")
            for answer in send_passwords(browser, client, *[WRONG] * (LIMIT + 2), username=username):
                words = re.sub(r' (?:value|action)="[^"]*"|[?&]v=\w+', "", answer.body)
                shown.append((answer.status, answer.header("retry-after"), words))
            site.clock.advance(HOUR)
        seen.append(shown)
    assert seen[0] == seen[1]
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    spent = [line["dynamodb_calls"] for line in lines if line.get("path") == "/oauth2/code" and "status" in line]
    assert len(spent) == 4 * (LIMIT + 2)
    assert spent[: len(spent) // 2] == spent[len(spent) // 2 :]


def test_unknown_username_never_matches_an_account_with_a_special_sub(
    site: Site, browser: Browser, client: Registered, user: User
) -> None:
    """An imported user may have any string as sub."""
    site.server.store.users.put(replace(user, sub="nobody"))
    assert statuses(send_passwords(browser, client, PASSWORD, username="bob")) == [400]


def test_overlong_username_is_not_normalized(
    browser: Browser, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normalizing 30,000 accents takes seconds, which is not throttled."""
    compared: list[str] = []

    def identifiers(username: str) -> tuple[str, ...]:
        compared.append(username)
        return sign_in_identifiers(username)

    monkeypatch.setattr(sign_in, "sign_in_identifiers", identifiers)
    names = ["a" + "\u0301\u0316" * 5000, "alice" + " " * 400, "\u0301" * 320]
    answers = [answer for name in names for answer in send_passwords(browser, client, PASSWORD, username=name)]
    assert statuses(answers) == [400, 400, 400]
    assert [len(name) for name in compared] == [0, 0, 320]


# ---- an address, for all accounts: fifty failures in an hour of the clock


def test_wrong_passwords_for_many_accounts_throttle_their_address_until_the_hour_of_the_clock_ends(
    site: Site, site_with: Callable[..., Site], client: Registered, checked: list[str]
) -> None:
    assert site.settings.sign_in_attempts_per_address == 50
    site = site_with(sign_in_attempts_per_address=6)
    browser_at = partial(BrowserAt, site)
    site.clock.time += HOUR - site.clock.time % HOUR + 1000
    owner = sign_in_at(browser_at, client)
    checked.clear()
    names = ["bob", *(f"user{number}" for number in range(7))]
    answers = [send_passwords(browser_at(ADDRESS), client, WRONG, username=name)[0] for name in names]
    assert statuses(answers) == [400] * 6 + [429] * 2
    assert len(checked) == 6
    assert answers[-1].header("retry-after") == str(HOUR - 1000)
    site.user("bob")
    assert is_throttled(browser_at(ADDRESS), client, "bob")
    assert not is_throttled(browser_at("5.1.1.2"), client, "bob"), "another address in the same network"
    assert not is_throttled(owner, client), "a known browser"
    assert not is_throttled(browser_at(ADDRESS), client), "a known network"
    site.clock.advance(HOUR - 1000 - 1)
    (answer,) = send_passwords(browser_at(ADDRESS), client, WRONG, username="carol")
    assert answer.header("retry-after") == "1"
    site.clock.advance(1)
    for name in names[:6]:
        fail(browser_at(ADDRESS), client, 1, name)


def test_successful_sign_ins_from_one_address_are_not_counted(
    site_with: Callable[..., Site], client: Registered, checked: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=2)
    for number in range(3):
        site.user(f"user{number}")
        assert not is_throttled(BrowserAt(site, ADDRESS), client, f"user{number}")
    assert send_directly(BrowserAt(site, ADDRESS), client, WRONG, WRONG, WRONG, username="bob") == [401, 401, 429]


def test_success_is_taken_back_from_the_hour_of_the_address_in_which_it_was_counted(
    site_with: Callable[..., Site], client: Registered, wire: Wire
) -> None:
    """Otherwise successes of own accounts, in flight at the end of an hour, would allow as many guesses in the next."""
    site = site_with(sign_in_attempts_per_address=2)
    browser_at = partial(BrowserAt, site)
    site.clock.time += HOUR - site.clock.time % HOUR
    fail(browser_at(ADDRESS), client, 1, "bob")
    site.clock.advance(HOUR - 1)

    def begin_the_next_hour() -> None:
        site.clock.advance(1)
        fail(browser_at(ADDRESS), client, 1, "bob")

    with wire.before("TransactWriteItems", begin_the_next_hour, skip=1):
        assert not is_throttled(browser_at(ADDRESS), client)
    assert send_directly(browser_at(ADDRESS), client, WRONG, WRONG, username="carol") == [401, 429]


def test_attempt_that_is_counted_after_its_hour_is_limited_by_that_hour_of_the_address(
    site_with: Callable[..., Site], client: Registered, wire: Wire, checked: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=1)
    site.clock.time += HOUR - site.clock.time % HOUR - 1
    insert_failures(BrowserAt(site, ADDRESS), 1, "bob")
    with wire.before("BatchGetItem", partial(site.clock.advance, 1)):
        assert send_directly(BrowserAt(site, ADDRESS), client, WRONG) == [429]
    assert checked == []


def test_successes_in_flight_at_the_end_of_an_hour_leave_no_negative_count_of_the_address(
    site: Site, browser_at: OpenBrowser
) -> None:
    own = [site.user(f"own{number}") for number in range(6)]
    site.clock.time += HOUR - site.clock.time % HOUR - 1

    def count(username: str) -> Counted:
        throttle = throttle_of(browser_at(ADDRESS), username)
        return throttle.count(site.server.store.read_all(throttle.lookups), None)

    def take_back(counted: Counted) -> None:
        assert site.server.store.transact(*counted.taking_back(0)) is None

    in_flight = [count(user.username) for user in own]
    before = address_of(site)
    assert before.hour_failures == len(own)
    site.clock.advance(1)
    actions: list[Callable[[], object]] = [partial(take_back, counted) for counted in in_flight]
    actions += [partial(count, f"victim{number}") for number in range(6)]
    run_concurrently(actions)
    assert address_of(site).hour_failures == 6
    after = site.server.store.attempts.get(before.attempts_id)
    assert after
    assert after.hour_failures == 0


def address_of(site: Site) -> Attempts:
    """Return the count of ADDRESS in this hour."""
    hour = site.clock.time - site.clock.time % HOUR
    record = site.server.store.attempts.get(site.server.keys.digest("address", ADDRESS, str(hour)))
    assert record
    return record


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("5.1.1.1", "5.1.1.2", False),
        ("2600:1:2:300::1", "2600:1:2:3ff:ffff::1", True),
        ("2600:1:2:300::1", "2600:1:2:400::1", False),
        ("::ffff:5.1.1.1", "5.1.1.1", True),
        ("", "not an address", True),
    ],
)
def test_address_is_one_ipv4_address_or_a_56(
    site_with: Callable[..., Site], client: Registered, first: str, second: str, same: bool
) -> None:
    site = site_with(sign_in_attempts_per_address=1)
    assert (network_of(first) == network_of(second)) == same
    fail(BrowserAt(site, first), client, 1, "bob")
    assert is_throttled(BrowserAt(site, second), client) == same


# ---- an account, from everywhere: a hundred failures in a day, and twenty from networks without one


def test_hundred_failures_are_counted_in_a_day_and_twenty_more_from_networks_without_one(
    site: Site, browser_at: OpenBrowser, client: Registered, checked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """So 40 networks keep a traveller on a new network out. None of them keeps a known browser or network out."""
    owner = sign_in_at(browser_at, client)
    checked.clear()
    for number in range(19):
        insert_failures(browser_at(f"5.2.{number}.1"), LIMIT)
    fail(browser_at("5.2.19.1"), client, LIMIT - 1)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 0
    fail(browser_at("5.2.19.1"), client, 1)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 1
    site.clock.advance(HOUR)
    assert fail_from_networks(browser_at, client, range(3)) == [429] * 3, "these networks have failed before"
    assert fail_from_networks(browser_at, client, range(20, 21)) == [401]
    for number in range(21, 39):
        insert_failures(browser_at(f"5.2.{number}.1"), 1)
    assert not is_throttled(browser_at(THIRD_ADDRESS), client), "a traveller, whose success is not counted"
    assert fail_from_networks(browser_at, client, range(39, 42)) == [401, 429, 429]
    assert fail_from_networks(browser_at, client, range(20, 23)) == [429] * 3, "one attempt each"
    assert checked == [WRONG] * (LIMIT + 1) + [PASSWORD, WRONG]
    assert wait_of(browser_at("5.9.2.1"), client) == DAY - HOUR, "another traveller"
    owner.address = OTHER_ADDRESS
    assert not is_throttled(owner, client), "the known browser, in an unknown network"
    assert not is_throttled(browser_at("5.1.1.99"), client), "an unknown browser, in the known network"
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 1
    site.clock.advance(DAY - HOUR)
    assert fail_from_networks(browser_at, client, range(3)) == [401] * 3


def test_day_of_an_account_is_fixed_so_nearly_twice_its_failures_are_possible_around_its_end(
    site_with: Callable[..., Site], client: Registered, checked: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_account=2, sign_in_attempts_reserved=1)
    browser_at = partial(BrowserAt, site)
    assert fail_from_networks(browser_at, client, range(1)) == [401]
    site.clock.advance(DAY - 1)
    assert fail_from_networks(browser_at, client, range(1, 4)) == [401, 401, 429]
    site.clock.advance(1)
    assert fail_from_networks(browser_at, client, range(4, 8)) == [401, 401, 401, 429]


def test_first_attempt_of_a_network_succeeds_beyond_the_limit_of_an_account(
    site_with: Callable[..., Site], client: Registered
) -> None:
    site = site_with(sign_in_attempts_per_account=2, sign_in_attempts_reserved=1)
    browser_at = partial(BrowserAt, site)
    fail(browser_at(ADDRESS), client, 2)
    for number in range(3):
        assert not is_throttled(browser_at(f"5.2.{number}.1"), client), "a success does not use up what is reserved"
    fail(browser_at("5.3.1.1"), client, 1)
    assert is_throttled(browser_at("5.3.2.1"), client)


def count_events(caplog: pytest.LogCaptureFixture, name: str) -> int:
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    return sum(line.get("event") == name for line in lines)


def test_attempts_beyond_the_limit_of_an_account_wait_for_its_network_or_its_day(
    site_with: Callable[..., Site], client: Registered
) -> None:
    """The record of the account begins earlier than that of the second network, and later than that of the first."""
    site = site_with(sign_in_attempts_per_account=2, sign_in_attempts_reserved=1)
    browser_at = partial(BrowserAt, site)
    fail(browser_at(ADDRESS), client, 1)
    site.clock.advance(10 * HOUR)
    fail(browser_at(OTHER_ADDRESS), client, 1)
    assert wait_of(browser_at(OTHER_ADDRESS), client) == 14 * HOUR
    assert wait_of(browser_at(ADDRESS), client) == 14 * HOUR
    fail(browser_at(THIRD_ADDRESS), client, 1)
    assert wait_of(browser_at("5.1.4.1"), client) == 14 * HOUR
    site.clock.advance(14 * HOUR)
    fail(browser_at("5.1.4.1"), client, 1)
    fail(browser_at("5.1.4.1"), client, 1)
    site.clock.advance(9 * HOUR)
    assert wait_of(browser_at("5.1.4.1"), client) == 15 * HOUR
    assert wait_of(browser_at(OTHER_ADDRESS), client) == HOUR, "its own day ends before that of the account"


def test_failures_of_known_browsers_and_networks_count_for_the_account(
    site_with: Callable[..., Site], client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    """But they are not limited by it."""
    site = site_with(sign_in_attempts_per_account=4, sign_in_attempts_reserved=0)
    browser_at = partial(BrowserAt, site)
    owner = sign_in_at(browser_at, client)
    fail(owner, client, 2)
    fail(browser_at(ADDRESS), client, 1)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 0
    fail(owner, client, 1)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 1
    assert is_throttled(browser_at(OTHER_ADDRESS), client)
    fail(owner, client, 1)
    fail(browser_at(ADDRESS), client, 1)
    assert not is_throttled(owner, client)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 1


def test_success_at_the_limit_of_an_account_is_not_reported_as_reaching_it(
    site_with: Callable[..., Site], client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    site = site_with(sign_in_attempts_per_account=2)
    browser_at = partial(BrowserAt, site)
    fail(browser_at(ADDRESS), client, 1)
    assert not is_throttled(browser_at(OTHER_ADDRESS), client)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 0
    fail(browser_at(THIRD_ADDRESS), client, 1)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 1


# ---- a known browser


def test_fifth_failure_in_a_row_makes_a_known_browser_unknown(
    browser_at: OpenBrowser, client: Registered, checked: list[str]
) -> None:
    """It then has what every unknown browser in its network has."""
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    for _ in range(2):
        fail(owner, client, LIMIT - 1)
        assert not is_throttled(owner, client), "a success ends the row"
    checked.clear()
    answers = send_passwords(owner, client, *[WRONG] * (2 * LIMIT + 2))
    assert statuses(answers) == [400] * 2 * LIMIT + [429] * 2
    assert len(checked) == 2 * LIMIT


def test_attack_from_the_same_address_does_not_keep_a_known_browser_out(
    browser_at: OpenBrowser, client: Registered
) -> None:
    owner = sign_in_at(browser_at, client)
    fail(browser_at(ADDRESS), client, LIMIT)
    assert is_throttled(browser_at(ADDRESS), client)
    assert not is_throttled(owner, client)
    assert is_throttled(browser_at(ADDRESS), client), "a success elsewhere does not help another browser"


def test_browser_is_known_for_ninety_days_after_a_success(
    site: Site, browser_at: OpenBrowser, client: Registered
) -> None:
    """A failure does not prolong this."""
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    site.clock.advance(60 * DAY)
    assert not is_throttled(owner, client)
    site.clock.advance(60 * DAY)
    fail(owner, client, 1)
    site.clock.advance(30 * DAY - 1)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    fail(owner, client, 1)
    site.clock.advance(1)
    assert is_throttled(owner, client)


def test_lifetimes_of_known_browsers_and_networks_are_settings(
    site_with: Callable[..., Site], client: Registered
) -> None:
    site = site_with(known_browser_lifetime=2 * DAY, known_network_lifetime=DAY)
    browser_at = partial(BrowserAt, site)
    owner = sign_in_at(browser_at, client)
    site.clock.advance(DAY)
    for _ in range(3):
        insert_failures(browser_at("5.1.1.9"), LIMIT)
        site.clock.advance(HOUR)
    assert is_throttled(browser_at("5.1.1.9"), client), "fifteen failures a day: the network is unknown"
    assert not is_throttled(owner, client)


def test_copied_browser_cookie_has_four_attempts_between_two_sign_ins_of_its_owner(
    browser_at: OpenBrowser, client: Registered
) -> None:
    """In all browsers that it is copied to. The fifth makes the browser unknown, also for the owner."""
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    for _ in range(2):
        for _ in range(2):
            fail(with_cookie_of(owner), client, 2)
        assert not is_throttled(owner, client)
    fail(with_cookie_of(owner), client, LIMIT)
    assert is_throttled(with_cookie_of(owner), client)
    assert is_throttled(owner, client)


def with_cookie_of(owner: BrowserAt) -> BrowserAt:
    """Return another browser, with a copy of the cookie that tells browsers apart."""
    browser = BrowserAt(owner.site, owner.address)
    browser.cookies = {"signet-browser": owner.cookies["signet-browser"]}
    return browser


def test_browser_cookie_is_sent_again_for_a_year_with_each_sign_in(
    site: Site, browser_at: OpenBrowser, client: Registered
) -> None:
    """So a browser that is used stays known. Its id stays the same."""
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    first = site.server.keys.read_handle("br", owner.cookies["signet-browser"])
    assert first
    for _ in range(2):
        site.clock.advance(80 * DAY)
        answer = owner.send(owner.authorize(client, prompt="login"), username="alice", password=PASSWORD)
        sent = [value for name, value in answer.headers if name.lower() == "set-cookie" and "signet-browser=" in value]
        assert len(sent) == 1
        assert f"Max-Age={YEAR}" in sent[0].split("; ")
        again = site.server.keys.read_handle("br", sent[0].partition("=")[2].partition(";")[0])
        assert again
        assert again.id == first.id
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    fail(owner, client, 1)


def test_browser_is_known_only_to_the_accounts_that_signed_in_with_it(
    site: Site, browser_at: OpenBrowser, client: Registered
) -> None:
    site.user("bob")
    shared = browser_at(PRIVATE_ADDRESS)
    assert statuses(send_passwords(shared, client, PASSWORD, username="bob")) == [303]
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    assert is_throttled(shared, client), "alice has not signed in with it"
    site.clock.advance(HOUR)
    assert not is_throttled(shared, client)
    for name in ("alice", "bob"):
        insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT, name)
        assert not is_throttled(shared, client, name), "both accounts"


@pytest.mark.parametrize("cookie", ["", "br_forged", "CUT"])
def test_forged_browser_cookie_is_ignored(browser_at: OpenBrowser, client: Registered, cookie: str) -> None:
    owner, forging_browser = sign_in_at(browser_at, client, PRIVATE_ADDRESS), browser_at(PRIVATE_ADDRESS)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    forging_browser.cookies = {"signet-browser": owner.cookies["signet-browser"][:-1] if cookie == "CUT" else cookie}
    assert is_throttled(forging_browser, client)


# ---- a known network: five failures in an hour, twenty in a day


def test_known_network_has_five_failures_in_an_hour_and_twenty_in_a_day(
    site: Site, browser_at: OpenBrowser, client: Registered, checked: list[str]
) -> None:
    sign_in_at(browser_at, client)
    for _ in range(4):
        assert send_directly(browser_at("5.1.1.9"), client, *[WRONG] * 6) == [401] * LIMIT + [429]
        assert wait_of(browser_at("5.1.1.9"), client) >= HOUR
        site.clock.advance(HOUR)
    assert len(checked) == 1 + 20
    assert wait_of(browser_at("5.1.1.9"), client) == DAY - 4 * HOUR
    site.clock.advance(DAY - 4 * HOUR)
    assert not is_throttled(browser_at("5.1.1.9"), client)


def test_success_in_a_known_network_is_not_counted(browser_at: OpenBrowser, client: Registered) -> None:
    sign_in_at(browser_at, client)
    fail(browser_at(ADDRESS), client, LIMIT - 1)
    for _ in range(2):
        assert not is_throttled(browser_at(ADDRESS), client)
    fail(browser_at(ADDRESS), client, 1)
    assert is_throttled(browser_at(ADDRESS), client)


def test_network_is_known_for_thirty_days_after_a_success(site_with: Callable[..., Site], client: Registered) -> None:
    """A failure does not prolong this."""
    site = site_with(sign_in_attempts_per_account=1, sign_in_attempts_reserved=0)
    browser_at = partial(BrowserAt, site)
    sign_in_at(browser_at, client)
    site.clock.advance(20 * DAY)
    sign_in_at(browser_at, client)
    site.clock.advance(28 * DAY)
    fail(browser_at(ADDRESS), client, 1)
    site.clock.advance(2 * DAY - 1)
    fail(browser_at(OTHER_ADDRESS), client, 1)
    fail(browser_at(ADDRESS), client, 1)
    site.clock.advance(1)
    assert is_throttled(browser_at(ADDRESS), client)


@pytest.mark.parametrize(
    ("address", "is_public"),
    [(address, True) for address in ("5.1.1.1", "100.128.0.1", "2600::1", "::ffff:5.1.1.1")]
    + [
        (address, False)
        for address in (
            *("10.1.1.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "100.64.0.1", "192.0.2.1"),
            *("0.0.0.0", "::1", "fd00::1", "fe80::1", "2001:db8::1", "::ffff:10.0.0.1", "", "not an address"),
        )
    ],
)
def test_network_is_remembered_only_with_a_public_address(
    browser_at: OpenBrowser, user: User, address: str, is_public: bool
) -> None:
    writes = throttle_of(browser_at(address)).remembering_network(user.password_generation)
    assert bool(writes) == is_public


@pytest.mark.parametrize("address", ["10.1.1.1", "100.64.0.1", "fd00::1", "not an address"])
def test_network_without_a_public_address_is_never_known(
    site_with: Callable[..., Site], client: Registered, address: str
) -> None:
    """Such addresses say that the server is behind a proxy, or they are those of other networks too."""
    site = site_with(sign_in_attempts_per_account=1, sign_in_attempts_reserved=0)
    browser_at = partial(BrowserAt, site)
    owner = sign_in_at(browser_at, client, address)
    insert_failures(browser_at(OTHER_ADDRESS), 1)
    assert is_throttled(browser_at(address), client)
    assert not is_throttled(owner, client), "the browser is"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("5.1.1.1", "5.1.1.254", True),
        ("5.1.1.1", "5.1.2.1", False),
        ("2600:1:2:3::1", "2600:1:2:3:ffff::1", True),
        ("2600:1:2:3::1", "2600:1:2:4::1", False),
        ("::ffff:5.1.1.1", "5.1.1.2", True),
    ],
)
def test_known_networks_are_a_24_and_a_64(
    site_with: Callable[..., Site], client: Registered, first: str, second: str, same: bool
) -> None:
    site = site_with(sign_in_attempts_per_account=1, sign_in_attempts_reserved=0)
    browser_at = partial(BrowserAt, site)
    sign_in_at(browser_at, client, first)
    fail(browser_at(OTHER_ADDRESS if first != OTHER_ADDRESS else ADDRESS), client, 1)
    assert is_throttled(browser_at(second), client) != same


def test_known_network_is_written_only_once_a_day(site: Site, browser_at: OpenBrowser, client: Registered) -> None:
    owner, before = sign_in_at(browser_at, client), []
    for wait in (DAY, 1):
        site.clock.advance(wait)
        before.append(known_network(site))
        assert not is_throttled(owner, client)
    assert before[1] == before[0]
    assert known_network(site).expires_at == site.clock.time + 30 * DAY


def known_network(site: Site) -> Attempts:
    """Return the record of the only known network."""
    (record,) = (
        each
        for each in records(site).values()
        if each.generation is not None and each.expires_at - site.clock.time <= 30 * DAY
    )
    return record


# ---- a new password


def test_sixty_browsers_with_a_phished_password_have_five_attempts_each_and_none_after_it_was_changed(
    site: Site, browser_at: OpenBrowser, client: Registered, user: User, checked: list[str]
) -> None:
    phished = [sign_in_at(browser_at, client, PRIVATE_ADDRESS), *(known_browser(site, user) for _ in range(59))]
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    checked.clear()
    for browser in (phished[0], phished[1], phished[-1]):
        assert send_directly(browser, client, *[WRONG] * (LIMIT + 1)) == [401] * LIMIT + [429]
    assert len(checked) == 3 * LIMIT
    change_password_of(site, user)
    checked.clear()
    assert {send_directly(browser, client, WRONG)[0] for browser in phished} == {429}
    assert checked == []


def known_browser(site: Site, user: User) -> BrowserAt:
    """Return a browser that is known to a user, without signing in."""
    browser, browser_id = BrowserAt(site, PRIVATE_ADDRESS), new_id()
    throttle = throttle_of(browser, user.username, browser_id)
    site.server.store.transact(*throttle.remembering_browser(user.password_generation))
    browser.cookies["signet-browser"] = site.server.keys.make_handle("br", browser_id)
    return browser


def change_password_of(site: Site, user: User, password: str = PASSWORD, *, must_be_replaced: bool = False) -> None:
    """Change the password of a user as the operator does, who can set the same one."""
    current = site.server.store.users.get(user.sub)
    assert current
    site.secrets.add(password)
    change_password(site.server.store, current, password, must_be_replaced=must_be_replaced)


@pytest.fixture
def one_failure(site_with: Callable[..., Site]) -> OpenBrowser:
    """Create a browser with an IP address, of a server where one failure keeps out what is not known."""
    return partial(BrowserAt, site_with(sign_in_attempts_per_account=1, sign_in_attempts_reserved=0))


def test_new_password_forgets_known_networks(
    site: Site, one_failure: OpenBrowser, client: Registered, user: User
) -> None:
    sign_in_at(one_failure, client)
    fail(one_failure(OTHER_ADDRESS), client, 1)
    assert not is_throttled(one_failure(ADDRESS), client)
    change_password_of(site, user)
    assert is_throttled(one_failure(ADDRESS), client)


def test_network_is_known_again_after_a_success_with_the_new_password(
    site: Site, one_failure: OpenBrowser, client: Registered, user: User
) -> None:
    sign_in_at(one_failure, client)
    change_password_of(site, user)
    sign_in_at(one_failure, client)
    fail(one_failure(OTHER_ADDRESS), client, 1)
    assert not is_throttled(one_failure(ADDRESS), client)


def test_guess_that_read_the_user_before_a_new_password_is_checked_against_the_old_one(
    site: Site, browser_at: OpenBrowser, client: Registered, user: User, wire: Wire
) -> None:
    """So a browser known by the old password tells nothing about the new one."""
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    page = owner.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", partial(change_password_of, site, user, NEW_PASSWORD)):
        assert owner.submit(page, username="alice", password=NEW_PASSWORD).status == 400
    assert statuses(send_passwords(owner, client, NEW_PASSWORD)) == [429]


def test_own_new_password_keeps_this_browser_and_network_known_and_forgets_others(
    one_failure: OpenBrowser, client: Registered, user: User
) -> None:
    owner, other = sign_in_at(one_failure, client), sign_in_at(one_failure, client, OTHER_ADDRESS)
    owner.site.secrets.add(NEW_PASSWORD)
    page = owner.get("/account/password")
    page.form.fields |= {"action": "change_password", "password": PASSWORD}
    assert owner.send(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).status == 303
    assert_others_are_unknown(one_failure, client, owner, other)


def test_required_new_password_keeps_this_browser_and_network_known_and_forgets_others(
    site: Site, one_failure: OpenBrowser, client: Registered, user: User
) -> None:
    other, owner = sign_in_at(one_failure, client, OTHER_ADDRESS), one_failure(ADDRESS)
    change_password_of(site, user, must_be_replaced=True)
    page = owner.sign_in(owner.authorize(client))
    owner.site.secrets.add(NEW_PASSWORD)
    assert owner.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).code
    assert_others_are_unknown(one_failure, client, owner, other)


def assert_others_are_unknown(one_failure: OpenBrowser, client: Registered, owner: BrowserAt, other: BrowserAt) -> None:
    """Assert that a browser and its network are known, and that neither another browser nor its network is."""
    fail(one_failure(THIRD_ADDRESS), client, 1)
    assert statuses(send_passwords(other, client, NEW_PASSWORD)) == [429]
    assert statuses(send_passwords(one_failure(other.address), client, NEW_PASSWORD)) == [429]
    fail(one_failure(owner.address), client, 1)
    owner.address = THIRD_ADDRESS
    fail(owner, client, 1)
    assert statuses(send_passwords(owner, client, NEW_PASSWORD)) == [303]


def sign_in_by_form(browser: Browser, client: Registered) -> Answer:
    return send_passwords(browser, client, PASSWORD)[0]


def sign_in_directly(browser: Browser, client: Registered) -> Answer:
    return browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))


def prove_the_password_directly(browser: Browser, client: Registered) -> Answer:
    """Send the right password with a request that then fails, because consent is required."""
    other = browser.site.client(direct_sign_in=True)
    return browser.authorize(other, "/oauth2/code", headers=basic("alice", PASSWORD), prompt="none")


def sign_in_externally(browser: Browser, client: Registered) -> Answer:
    return post_externally(browser, client, PASSWORD)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(
    ("sign_in_with_old", "settings"),
    [
        (sign_in_by_form, {}),
        (sign_in_directly, {}),
        (prove_the_password_directly, {}),
        (sign_in_externally, LOGIN_SETTINGS),
    ],
)
def test_success_of_the_old_password_during_a_change_makes_the_network_neither_unknown_nor_known(
    site: Site,
    browser_at: OpenBrowser,
    client: Registered,
    user: User,
    wire: Wire,
    site_with: Callable[..., Site],
    sign_in_with_old: Callable[[Browser, Registered], Answer],
    settings: dict[str, Any],
    is_known: bool,
) -> None:
    """The old password was checked before the change. `is_known`: the user signs in with the new one in between."""

    def change() -> None:
        change_password_of(site, user, NEW_PASSWORD)
        if is_known:
            assert statuses(send_passwords(browser_at("5.1.1.99"), client, NEW_PASSWORD)) == [303]

    with wire.before("TransactWriteItems", change, skip=1):
        answer = sign_in_with_old(BrowserAt(site_with(**settings), ADDRESS), client)
    assert "code=" not in (answer.header("location") or "")
    generations = [record.generation for record in records(site).values() if record.generation is not None]
    assert generations == [user.password_generation + 1] * (2 if is_known else 0), (
        "the network and the browser of the user"
    )


def test_new_hash_of_the_same_password_forgets_nothing(
    site: Site, browser_at: OpenBrowser, client: Registered, user: User
) -> None:
    weak_hash = argon2.using(type="ID", memory_cost=16, time_cost=1, parallelism=1).hash(PASSWORD)
    site.server.store.users.put(replace(user, password_hash=weak_hash))
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    current = site.server.store.users.get(user.sub)
    assert current
    assert current.password_hash != weak_hash
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    assert not is_throttled(owner, client)


def test_new_user_starts_with_a_random_password_generation(site: Site) -> None:
    """Otherwise a browser known to a deleted user would be known to a later one with the same `sub`."""
    generations = {site.user(name).password_generation for name in ("alice", "bob", "carol")}
    assert len(generations - {0, 1}) == 3


# ---- concurrency


def send_together(browsers: list[BrowserAt], client: Registered, *usernames: str) -> list[int]:
    """Send one wrong password from each browser at the same time; return the statuses in ascending order."""
    pages = [browser.authorize(client, prompt="login") for browser in browsers]
    names = usernames or ("alice",) * len(browsers)
    sent = zip(browsers, pages, names, strict=True)
    return sorted(
        statuses(
            run_concurrently(partial(each.submit, page, username=name, password=WRONG) for each, page, name in sent)
        )
    )


def test_concurrent_attempts_in_an_unknown_network_get_its_limit(
    browser_at: OpenBrowser, client: Registered, checked: list[str]
) -> None:
    assert send_together([browser_at(ADDRESS) for _ in range(12)], client) == [400] * LIMIT + [429] * (12 - LIMIT)
    assert len(checked) == LIMIT


def test_concurrent_attempts_in_a_known_network_get_its_limit(
    browser_at: OpenBrowser, client: Registered, checked: list[str]
) -> None:
    sign_in_at(browser_at, client)
    checked.clear()
    assert send_together([browser_at(ADDRESS) for _ in range(12)], client) == [400] * LIMIT + [429] * (12 - LIMIT)
    assert len(checked) == LIMIT


def test_concurrent_attempts_with_a_copied_browser_cookie_get_the_limit_of_a_browser(
    browser_at: OpenBrowser, client: Registered, checked: list[str]
) -> None:
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    checked.clear()
    attackers = [with_cookie_of(owner) for _ in range(12)]
    assert send_together(attackers, client) == [400] * LIMIT + [429] * (12 - LIMIT)
    assert len(checked) == LIMIT


def test_concurrent_attempts_for_different_accounts_get_the_limit_of_the_address(
    site_with: Callable[..., Site], client: Registered, checked: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=6)
    browsers = [BrowserAt(site, ADDRESS) for _ in range(12)]
    assert send_together(browsers, client, *(f"user{number}" for number in range(12))) == [400] * 6 + [429] * 6
    assert len(checked) == 6


def test_concurrent_attempts_from_different_networks_get_the_limit_of_the_account(
    site_with: Callable[..., Site], client: Registered, checked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """And one of them is reported as reaching it."""
    site = site_with(sign_in_attempts_per_account=5, sign_in_attempts_reserved=2)
    browsers = [BrowserAt(site, f"5.2.{number % 8}.1") for number in range(16)]
    assert send_together(browsers, client) == [400] * 7 + [429] * 9
    assert len(checked) == 7
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 1


def test_concurrent_attempts_of_a_network_get_one_of_those_that_are_reserved(
    site_with: Callable[..., Site], client: Registered, checked: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_account=1)
    fail(BrowserAt(site, ADDRESS), client, 1)
    assert send_together([BrowserAt(site, OTHER_ADDRESS) for _ in range(12)], client) == [400] + [429] * 11
    assert len(checked) == 2


def test_correct_password_among_concurrent_wrong_ones_signs_in_or_is_throttled(
    browser_at: OpenBrowser, client: Registered, checked: list[str]
) -> None:
    browsers = [browser_at(ADDRESS) for _ in range(12)]
    pages = [browser.authorize(client) for browser in browsers]
    sent = [PASSWORD if number == 6 else WRONG for number in range(12)]
    answers = run_concurrently(
        partial(browser.submit, page, username="alice", password=password)
        for browser, page, password in zip(browsers, pages, sent, strict=True)
    )
    assert answers[6].status in (303, 429)
    assert set(statuses(answers)) <= {303, 400, 429}
    # A success makes the network known, which has five attempts more.
    assert len(checked) <= 2 * LIMIT + 1


def test_attempt_during_a_successful_one_finds_it_counted_until_it_is_taken_back(
    site_with: Callable[..., Site], client: Registered, wire: Wire
) -> None:
    browser_at = partial(BrowserAt, site_with(sign_in_attempts=1))
    page, another = browser_at(PRIVATE_ADDRESS), browser_at(PRIVATE_ADDRESS)
    sent: list[Answer] = []
    with wire.before("TransactWriteItems", lambda: sent.extend(send_passwords(another, client, WRONG)), skip=1):
        assert not is_throttled(page, client)
    assert statuses(sent) == [429]
    fail(another, client, 1)


@pytest.mark.parametrize(
    ("sign_in_once", "settings"), [(prove_the_password_directly, {}), (sign_in_externally, LOGIN_SETTINGS)]
)
def test_success_is_taken_back_once_when_its_transaction_is_repeated(
    site_with: Callable[..., Site],
    client: Registered,
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
    sign_in_once: Callable[[Browser, Registered], Answer],
    settings: dict[str, Any],
) -> None:
    """Otherwise each repetition, of the user's own account, would allow one more guess from the address."""

    def make_and_say_in_progress(request: Request, proceed: Proceed) -> Response:
        proceed()
        return refusal(request, 400, "com.amazonaws.dynamodb.v20120810#TransactionInProgressException")

    site = site_with(**settings)
    with wire.fault_in("TransactWriteItems", make_and_say_in_progress, tries=1, skip=1):
        sign_in_once(BrowserAt(site, ADDRESS), client)
    assert wire.calls.count("TransactWriteItems") == 2
    assert {(record.hour_failures, record.day_failures) for record in records(site).values()} == {(0, 0)}
    assert count_events(caplog, events.SIGN_IN) == 1


# ---- another attempt is counted after the counts were read


def test_first_failures_that_overtake_each_other_are_both_counted(
    site_with: Callable[..., Site], client: Registered, wire: Wire
) -> None:
    browser_at = partial(BrowserAt, site_with(sign_in_attempts=2))
    with wire.before("TransactWriteItems", lambda: fail(browser_at(PRIVATE_ADDRESS), client, 1)):
        fail(browser_at(PRIVATE_ADDRESS), client, 1)
    assert is_throttled(browser_at(PRIVATE_ADDRESS), client)


@pytest.mark.parametrize(
    ("settings", "address", "username"),
    [
        ({"sign_in_attempts": 2}, "5.1.1.2", "alice"),
        ({"sign_in_attempts_per_day": 2}, "5.1.1.2", "alice"),
        ({"sign_in_attempts_per_address": 2}, ADDRESS, "bob"),
        ({"sign_in_attempts_per_account": 2, "sign_in_attempts_reserved": 0}, OTHER_ADDRESS, "alice"),
        ({"sign_in_attempts_per_account": 1, "sign_in_attempts_reserved": 1}, OTHER_ADDRESS, "alice"),
    ],
    ids=["hour", "day", "address", "account", "reserved"],
)
def test_attempt_that_is_overtaken_by_the_last_one_within_a_limit_is_rejected(
    site_with: Callable[..., Site],
    client: Registered,
    wire: Wire,
    settings: dict[str, int],
    address: str,
    username: str,
) -> None:
    browser_at = partial(BrowserAt, site_with(**settings))
    fail(browser_at(ADDRESS), client, 1)
    with wire.before("TransactWriteItems", lambda: fail(browser_at(address), client, 1, username)):
        (answer,) = send_passwords(browser_at(THIRD_ADDRESS if address == OTHER_ADDRESS else address), client, WRONG)
    assert answer.status == 429


def test_attempt_that_is_overtaken_by_the_fifth_failure_of_its_browser_is_one_of_an_unknown_browser(
    browser_at: OpenBrowser, client: Registered, wire: Wire
) -> None:
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    fail(owner, client, LIMIT - 1)
    with wire.before("TransactWriteItems", lambda: fail(with_cookie_of(owner), client, 1)):
        (answer,) = send_passwords(owner, client, WRONG)
    assert answer.status == 429


@pytest.mark.parametrize("address", [PRIVATE_ADDRESS, ADDRESS], ids=["browser", "network"])
def test_attempt_that_is_overtaken_by_a_sign_in_with_a_new_password_is_one_of_an_unknown_browser(
    one_failure: OpenBrowser, client: Registered, user: User, wire: Wire, address: str
) -> None:
    """Its user was read before, so it does not count for what is known now."""
    owner = sign_in_at(one_failure, client, address)
    fail(one_failure(OTHER_ADDRESS), client, 1)
    attacker = one_failure(address)
    if address == PRIVATE_ADDRESS:
        attacker.cookies = {"signet-browser": owner.cookies["signet-browser"]}

    def sign_in_with_new_password() -> None:
        change_password_of(owner.site, user, NEW_PASSWORD)
        unlock(owner.site.server.store, owner.site.server.keys, user.sub)
        assert statuses(send_passwords(owner, client, NEW_PASSWORD)) == [303]
        fail(one_failure(OTHER_ADDRESS), client, 1)

    with wire.before("TransactWriteItems", sign_in_with_new_password):
        (answer,) = send_passwords(attacker, client, WRONG)
    assert answer.status == 429


@pytest.mark.parametrize("is_known", [True, False])
def test_attempt_that_is_overtaken_by_a_success_at_the_limit_of_the_account_reaches_it(
    site_with: Callable[..., Site],
    client: Registered,
    user: User,
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
    is_known: bool,
) -> None:
    """The success was counted when the attempt read the count, and takes it back before the attempt is counted."""
    site = site_with(sign_in_attempts_per_account=2)
    store, browser_at = site.server.store, partial(BrowserAt, site)
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    fail(browser_at(OTHER_ADDRESS), client, 1)
    throttle = Throttle(site.server, Account(user.sub, is_user=True), THIRD_ADDRESS, None)
    success = throttle.count(store.read_all(throttle.lookups), user.password_generation)
    taking_back = success.taking_back(user.password_generation)
    with wire.before("TransactWriteItems", lambda: store.transact(*taking_back)):
        fail(owner if is_known else browser_at(ADDRESS), client, 1)
    assert count_events(caplog, events.SIGN_IN_LIMIT_REACHED) == 1


# ---- an attempt beyond a limit


@pytest.mark.parametrize(
    ("settings", "failures", "address", "username"),
    [
        ({}, LIMIT, "5.1.1.9", "alice"),
        ({"sign_in_attempts_per_address": 1}, 1, ADDRESS, "bob"),
        ({"sign_in_attempts_per_account": 1}, 1, ADDRESS, "alice"),
        ({"sign_in_attempts_per_account": 1, "sign_in_attempts_reserved": 0}, 1, OTHER_ADDRESS, "alice"),
    ],
    ids=["its network", "its address", "not the first of its network", "its account"],
)
def test_attempt_beyond_a_limit_writes_nothing_and_checks_no_password(
    site_with: Callable[..., Site],
    client: Registered,
    checked: list[str],
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, int],
    failures: int,
    address: str,
    username: str,
) -> None:
    site = site_with(**settings)
    insert_failures(BrowserAt(site, ADDRESS), failures)
    assert_nothing_is_written(site, client, checked, caplog, address, username)


def test_attempt_beyond_the_limit_of_a_known_network_writes_nothing_and_checks_no_password(
    site: Site, browser_at: OpenBrowser, client: Registered, checked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    sign_in_at(browser_at, client)
    fail(browser_at(ADDRESS), client, LIMIT)
    assert_nothing_is_written(site, client, checked, caplog, ADDRESS, "alice")


def assert_nothing_is_written(
    site: Site, client: Registered, checked: list[str], caplog: pytest.LogCaptureFixture, address: str, username: str
) -> None:
    """Assert that an attempt is rejected after two reads, whatever its password is."""
    browser = BrowserAt(site, address)
    page, before = browser.authorize(client), dump_tables()
    checked.clear()
    for password in (WRONG, PASSWORD):
        answer = browser.send(page, username=username, password=password)
        assert json.loads(caplog.records[-1].getMessage())["dynamodb_calls"] == 2
        assert browser.follow(answer).status == 429
    assert checked == []
    assert dump_tables() == before


# ---- unlocking an account


def test_unlocked_account_can_be_tried_from_everywhere_again(
    site_with: Callable[..., Site], client: Registered, user: User
) -> None:
    """Also in the networks that had too many failures, known or not, and more than once."""
    site = site_with(sign_in_attempts_per_account=12, sign_in_attempts_reserved=0)
    browser_at = partial(BrowserAt, site)
    sign_in_at(browser_at, client)
    for _ in range(2):
        fail(browser_at(ADDRESS), client, LIMIT)
        insert_failures(browser_at(OTHER_ADDRESS), LIMIT)
        insert_failures(browser_at(THIRD_ADDRESS), 2)
        assert all(is_throttled(browser_at(at), client) for at in (ADDRESS, OTHER_ADDRESS, THIRD_ADDRESS))
        unlock(site.server.store, site.server.keys, user.sub)
    fail(browser_at(ADDRESS), client, LIMIT)
    fail(browser_at(OTHER_ADDRESS), client, LIMIT)
    assert is_throttled(browser_at(ADDRESS), client)
    assert is_throttled(browser_at(OTHER_ADDRESS), client)


def test_unlocking_an_account_leaves_the_counts_of_others_and_of_addresses(
    site_with: Callable[..., Site], client: Registered, user: User
) -> None:
    site = site_with(sign_in_attempts_per_address=LIMIT + 1)
    browser_at = partial(BrowserAt, site)
    insert_failures(browser_at(ADDRESS), LIMIT, "bob")
    insert_failures(browser_at(ADDRESS), 1)
    unlock(site.server.store, site.server.keys, user.sub)
    assert is_throttled(browser_at(ADDRESS), client)
    assert is_throttled(browser_at("5.1.1.9"), client, "bob")


def test_unlocking_lasts_as_long_as_the_windows_that_it_ends(
    site_with: Callable[..., Site], client: Registered, user: User
) -> None:
    site = site_with(sign_in_attempts_per_day=LIMIT)
    browser_at = partial(BrowserAt, site)
    insert_failures(browser_at(ADDRESS), LIMIT)
    unlock(site.server.store, site.server.keys, user.sub)
    site.clock.advance(DAY - 1)
    fail(browser_at(ADDRESS), client, LIMIT)
    site.clock.advance(DAY - 1)
    assert is_throttled(browser_at(ADDRESS), client)


def test_attempt_during_which_its_account_is_unlocked_is_counted_afterwards(
    site_with: Callable[..., Site], client: Registered, user: User, wire: Wire
) -> None:
    site = site_with(sign_in_attempts=2)
    browser_at = partial(BrowserAt, site)
    fail(browser_at(ADDRESS), client, 1)
    with wire.before("TransactWriteItems", lambda: unlock(site.server.store, site.server.keys, user.sub)):
        fail(browser_at(ADDRESS), client, 1)
    fail(browser_at(ADDRESS), client, 1)
    assert is_throttled(browser_at(ADDRESS), client)


# ---- HTTP Basic, and the login application


def test_http_basic_shares_the_counts_of_the_form(site: Site, browser_at: OpenBrowser, client: Registered) -> None:
    browser = browser_at(ADDRESS)
    direct = partial(browser.authorize, client, "/oauth2/code")
    sent = [direct(headers=basic("alice", WRONG)) for _ in range(LIMIT)]
    assert statuses(sent) == [401] * LIMIT
    for password in (WRONG, PASSWORD):
        rejected = direct(headers=basic("alice", password))
        assert rejected.status == 429
        assert rejected.header("retry-after") == str(HOUR)
        assert rejected.header("www-authenticate") is None
        assert "too many attempts" in rejected.body
    assert direct(headers=basic("alice", PASSWORD), prompt="none").answer["error"] == "login_required"
    assert is_throttled(browser, client)
    assert direct(headers=basic("bob", WRONG)).status == 401
    site.clock.advance(HOUR)
    assert direct(headers=basic("alice", PASSWORD)).code
    sent = [direct(headers=basic("alice", WRONG)) for _ in range(LIMIT + 1)]
    assert statuses(sent) == [401] * LIMIT + [429], "the success was not counted"


@pytest.mark.parametrize("address", [PRIVATE_ADDRESS, ADDRESS], ids=["browser", "network"])
@pytest.mark.parametrize("origin", ["none", "cross-site", "same-site", None])
def test_http_basic_attempt_that_a_link_may_have_caused_does_not_count_for_the_known_browser_or_network(
    browser_at: OpenBrowser, client: Registered, origin: str | None, address: str
) -> None:
    """A redirect by another site, after an address that was typed in, has the origin "none" too."""
    owner = sign_in_at(browser_at, client, address)
    headers = {"Sec-Fetch-Site": origin} if origin else {}
    assert send_directly(owner, client, *[WRONG] * (LIMIT + 1), headers=headers) == [401] * LIMIT + [429]
    of_known = [record for record in records(owner.site).values() if record.generation is not None]
    assert of_known
    assert not any(record.failures or record.hour_failures or record.day_failures for record in of_known)
    assert not is_throttled(owner, client)


def test_http_basic_attempts_that_a_page_of_this_server_leads_to_count_for_the_known_browser(
    browser_at: OpenBrowser, client: Registered
) -> None:
    owner = sign_in_at(browser_at, client, PRIVATE_ADDRESS)
    insert_failures(browser_at(PRIVATE_ADDRESS), LIMIT)
    assert send_directly(owner, client, *[WRONG] * (LIMIT + 1)) == [401] * LIMIT + [429]
    assert is_throttled(owner, client)


def test_http_basic_success_that_a_link_may_have_caused_makes_only_the_network_known(
    site: Site, browser_at: OpenBrowser, client: Registered
) -> None:
    """The link may have the credentials of its author, who must not have more attempts in this browser."""
    owner = browser_at(ADDRESS)
    owner.authorize(client)
    assert send_directly(owner, client, PASSWORD, headers=CROSS_SITE) == [302]
    assert [record.expires_at - site.clock.time for record in records(site).values() if record.generation] == [30 * DAY]
    assert send_directly(owner, client, PASSWORD) == [302]
    assert len([record for record in records(site).values() if record.generation]) == 2


def test_correct_password_is_not_counted_when_the_request_fails(
    site: Site, browser_at: OpenBrowser, client: Registered
) -> None:
    """With prompt=none and no consent, no session is created, but the password was correct."""
    client_with_consent = site.client(direct_sign_in=True)
    browser = browser_at(PRIVATE_ADDRESS)
    for _ in range(LIMIT + 1):
        answer = browser.authorize(client_with_consent, "/oauth2/code", headers=basic("alice", PASSWORD), prompt="none")
        assert answer.answer["error"] == "consent_required"
    assert browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD)).code


@pytest.fixture
def site_with_login(site_with: Callable[..., Site]) -> Site:
    """A server with a login application."""
    return site_with(**LOGIN_SETTINGS)


def post_externally(browser: Browser, client: Registered, password: str) -> Answer:
    """Post a password from the login application: without the browser's cookies, for a request that it started."""
    query = dict(parse_qsl(urlsplit(browser.authorize(client, prompt="login").location).query))
    form = {"request_uri": query["request_uri"], "username": "alice", "password": password}
    return browser.post("/oauth2/code", form, {"Origin": LOGIN, "Sec-Fetch-Site": "cross-site", "Cookie": ""})


def test_attempts_of_the_login_application_do_not_count_for_the_known_browser_and_network(
    site: Site, site_with_login: Site, client: Registered
) -> None:
    """Its form may be posted in the browser of another user."""
    owner = BrowserAt(site_with_login, ADDRESS)
    assert owner.follow(post_externally(owner, client, PASSWORD)).code
    locations = [post_externally(owner, client, WRONG).location for _ in range(LIMIT + 1)]
    errors = [dict(parse_qsl(urlsplit(location).query))["error"] for location in locations]
    assert errors == ["wrong_credentials"] * LIMIT + ["too_many_attempts"]
    of_known = [record for record in records(site).values() if record.generation is not None]
    assert len(of_known) == 2
    assert not any(record.failures or record.hour_failures or record.day_failures for record in of_known)


def test_success_in_the_login_application_makes_the_network_known_and_then_the_browser(
    site: Site, site_with_login: Site, client: Registered
) -> None:
    """The browser once it has followed the redirect, with its own cookies."""
    owner = BrowserAt(site_with_login, ADDRESS)

    def lifetimes() -> list[int]:
        return sorted(record.expires_at - site.clock.time for record in records(site).values() if record.generation)

    posted = post_externally(owner, client, PASSWORD)
    assert lifetimes() == [30 * DAY]
    assert owner.follow(posted).code
    assert lifetimes() == [30 * DAY, 90 * DAY]


# ---- records


def test_attempts_are_logged_and_in_the_users_history(
    site: Site, browser_at: OpenBrowser, client: Registered, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    browser = browser_at(ADDRESS)
    send_passwords(browser, client, *[WRONG] * LIMIT, PASSWORD)
    send_passwords(browser, client, WRONG, username="nobody")
    site.clock.advance(HOUR)
    send_passwords(browser, client, PASSWORD)
    lines = [json.loads(record.getMessage()) for record in caplog.records if "signet" in record.name]
    logged = [(line["event"], line.get("sub")) for line in lines if line.get("event", "").startswith("sign_in")]
    failed = [(events.SIGN_IN_FAILED, user.sub)] * LIMIT
    assert logged == [
        *failed,
        (events.SIGN_IN_THROTTLED, user.sub),
        (events.SIGN_IN_FAILED, None),
        (events.SIGN_IN, user.sub),
    ]
    history = sorted(site.server.store.events.find("sub", user.sub), key=lambda event: event.created_at)
    sign_ins = [event for event in history if event.name.startswith("sign_in")]
    assert [event.name for event in sign_ins] == [events.SIGN_IN_FAILED] * LIMIT + [events.SIGN_IN]
    assert {(event.client_id, event.source_ip) for event in sign_ins} == {(client.id, ADDRESS)}
    assert {event.sub for event in site.server.store.events.scan()} == {user.sub}, "unknown usernames have no history"


def test_counts_tell_no_name_and_expire(site: Site, browser_at: OpenBrowser, client: Registered, user: User) -> None:
    fail(browser_at(ADDRESS), client, 1, "bob@example.com")
    fail(browser_at(ADDRESS), client, 1)
    sign_in_at(browser_at, client)
    lasts = sorted(record.expires_at - site.clock.time for record in records(site).values())
    # The address; two networks; two accounts; the network and the browser that are known.
    assert lasts == [HOUR, DAY, DAY, 2 * DAY, 2 * DAY, 30 * DAY, 90 * DAY]
    stored = str([item.to_json() for item in tables()[site.server.store.attempts.name].all_items()])
    for text in ("bob", "alice", user.sub, ADDRESS, "5.1.1"):
        assert text not in stored
    assert all(re.fullmatch(r"[\w-]{43}", attempts_id) for attempts_id in records(site))


def test_digest_depends_on_a_secret_and_is_never_a_pairwise_subject(site: Site, restore_key_ring: None) -> None:
    keys = site.server.keys
    digest = keys.digest("account", "user", "\ud800")
    assert digest != keys.digest("account", "user", "\ud801")
    assert keys.digest("account", "user", "b") != keys.digest("account", "userb")
    assert keys.pairwise_subject("a", "b") not in (keys.digest("a", "b"), keys.digest("a b"))
    site.server.store.keys.delete(RING)
    keys.create()
    keys.forget_cached_keys()
    assert digest != keys.digest("account", "user", "\ud800")
