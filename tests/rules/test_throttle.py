"""Throttling of wrong passwords by account and by address, but not of browsers that have signed in before."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib import events
from chalicelib.authentication import password as sign_in
from chalicelib.authentication import passwords
from chalicelib.authentication.throttle import MAX_PER_ACCOUNT, MAX_WAIT, Throttle, TooManyAttempts, network_of
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.records import User
from chalicelib.storage.store import Records
from tests.support.browser import Answer, Browser, basic
from tests.support.gateways import GATEWAYS, GatewayBrowser
from tests.support.site import PASSWORD, Registered, Site, dump_tables
from tests.support.threads import run_concurrently

(HTTP_2,) = (front for front in GATEWAYS if front.name == "HTTP 2.0")
WRONG = "not this one"
ADDRESS, OTHER_ADDRESS = "192.0.2.1", "198.51.100.1"
LIMIT = 5
Browsers = Callable[..., Browser]


class _BrowserAt(GatewayBrowser):
    """A browser with its own IP address."""

    def __init__(self, site: Site, address: str):
        super().__init__(site, HTTP_2, self._at_address)
        self.address = address

    def _at_address(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        event["requestContext"]["http"]["sourceIp"] = self.address
        return self.site.http_handler(event, context)


@pytest.fixture
def browser_at(site: Site) -> Callable[[str], _BrowserAt]:
    """Create a browser with an IP address."""
    return partial(_BrowserAt, site)


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


@pytest.fixture
def client(site: Site, user: User) -> Registered:
    """A trusted client, with the user alice."""
    return site.client(trusted=True, direct_sign_in=True)


@pytest.fixture
def checked_passwords(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every password that is verified, without hashing it: these tests count verifications."""
    seen: list[str] = []

    def verify(password: str, password_hash: str | None, _failure_cost: int) -> bool:
        seen.append(password)
        return password_hash is not None and password == PASSWORD

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "verify", verify)
        yield seen


def send_passwords(
    browser: Browser, client: Registered, *sent: str, username: str = "alice", page: Answer | None = None
) -> list[Answer]:
    """Send passwords one after the other from one page."""
    page = page or browser.authorize(client, prompt="login")
    return [browser.send(page, username=username, password=password) for password in sent]


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def last_dynamodb_calls(caplog: pytest.LogCaptureFixture) -> int:
    """Return the number of round trips in the last log line."""
    number: int = json.loads(caplog.records[-1].getMessage())["dynamodb_calls"]
    return number


# ---- one account, one address


@pytest.mark.spec("RFC 6585 §4")
def test_attempt_after_five_wrong_passwords_is_rejected_with_the_waiting_time(
    browser: Browser, client: Registered, checked_passwords: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers = send_passwords(browser, client, *[WRONG] * LIMIT, WRONG)
    assert statuses(answers) == [400] * LIMIT + [429]
    rejected = answers[-1]
    assert rejected.header("retry-after") == "30"
    assert rejected.header("cache-control") == "no-store"
    assert "too many attempts. Please try again in 30 seconds" in rejected.body
    assert rejected.form.fields["username"] == "alice", "the form can be sent again"
    assert len(checked_passwords) == LIMIT
    assert last_dynamodb_calls(caplog) == 1, "a rejected attempt is cheap"


def test_correct_password_is_rejected_too_while_throttled(
    site: Site, browser: Browser, client: Registered, checked_passwords: list[str]
) -> None:
    page = browser.authorize(client)
    send_passwords(browser, client, *[WRONG] * LIMIT, page=page)
    wrong, right = send_passwords(browser, client, WRONG, PASSWORD, page=page)
    assert (wrong.status, wrong.body) == (right.status, right.body)
    assert not [header for header in right.headers if header not in wrong.headers and header[0] != "Date"]
    assert len(checked_passwords) == LIMIT
    site.clock.advance(29)
    assert send_passwords(browser, client, PASSWORD, page=page)[0].header("retry-after") == "1"
    site.clock.advance(1)
    assert browser.sign_in(page).code


def test_waiting_time_doubles_up_to_fifteen_minutes(site: Site, browser: Browser, client: Registered) -> None:
    send_passwords(browser, client, *[WRONG] * LIMIT)
    waits = []
    for _ in range(8):
        (rejected,) = send_passwords(browser, client, WRONG)
        assert rejected.status == 429
        waits.append(int(rejected.header("retry-after") or 0))
        site.clock.advance(waits[-1])
        assert statuses(send_passwords(browser, client, WRONG, WRONG)) == [400, 429], "only one attempt"
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert waits[-1] == MAX_WAIT


def test_successful_sign_in_resets_the_count(site: Site, browsers: Browsers, client: Registered) -> None:
    for _ in range(3):
        browser = browsers()
        page = browser.authorize(client)
        assert statuses(send_passwords(browser, client, *[WRONG] * (LIMIT - 1), page=page)) == [400] * (LIMIT - 1)
        assert browser.sign_in(page).code


def test_wrong_passwords_expire_after_an_hour(site: Site, browser: Browser, client: Registered) -> None:
    assert statuses(send_passwords(browser, client, *[WRONG] * (LIMIT - 1))) == [400] * (LIMIT - 1)
    site.clock.advance(3600)
    assert statuses(send_passwords(browser, client, *[WRONG] * LIMIT)) == [400] * LIMIT


def test_throttling_does_not_reveal_which_accounts_exist(
    site: Site, browser_at: Callable[[str], Browser], client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []
    for number, username in enumerate(("alice", "nobody")):
        browser = browser_at(f"192.0.2.{number}")
        shown = []
        for _ in range(2):
            for answer in send_passwords(browser, client, *[WRONG] * (LIMIT + 2), username=username):
                words = re.sub(r' value="[^"]*"|[?&]v=\w+', "", answer.body)
                shown.append((answer.status, answer.header("retry-after"), words))
            site.clock.advance(30)
        seen.append(shown)
    assert seen[0] == seen[1]
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    spent = [line["dynamodb_calls"] for line in lines if line.get("path") == "/oauth2/code" and "status" in line]
    assert spent[: len(spent) // 2] == spent[len(spent) // 2 :]


def test_unknown_username_never_matches_an_account_with_a_special_sub(
    site: Site, browser: Browser, client: Registered, user: User
) -> None:
    """An imported user may have any string as sub."""
    site.server.store.users.put(replace(user, sub="nobody"))
    assert statuses(send_passwords(browser, client, PASSWORD, username="bob")) == [400]


@pytest.mark.parametrize("name", ["ALICE", "Alice", "\uff21lice"])
def test_all_forms_of_a_username_share_one_count(browser: Browser, client: Registered, name: str) -> None:
    send_passwords(browser, client, *[WRONG] * LIMIT)
    assert statuses(send_passwords(browser, client, PASSWORD, username=name)) == [429]


def test_overlong_username_is_not_normalized(
    browser: Browser, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normalizing 30,000 accents takes seconds, which is not throttled."""
    compared: list[str] = []

    def identifier(username: str) -> str:
        compared.append(username)
        return username_identifier(username)

    monkeypatch.setattr(sign_in, "username_identifier", identifier)
    names = ["a" + "\u0301\u0316" * 5000, "alice" + " " * 400, "\u0301" * 320]
    answers = [answer for name in names for answer in send_passwords(browser, client, PASSWORD, username=name)]
    assert statuses(answers) == [400, 400, 400]
    assert [len(name) for name in compared] == [0, 0, 320]


@pytest.mark.parametrize(("attempts", "sent"), [(1, [400, 429]), (3, [400, 400, 400, 429])])
def test_number_of_attempts_is_a_setting(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered, attempts: int, sent: list[int]
) -> None:
    browser = browsers(site_with(sign_in_attempts=attempts))
    assert statuses(send_passwords(browser, client, *[WRONG] * len(sent))) == sent


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "not an address", True),
    ],
)
def test_addresses_are_counted_by_network(
    browser_at: Callable[[str], Browser], client: Registered, first: str, second: str, same: bool
) -> None:
    assert (network_of(first) == network_of(second)) == same
    send_passwords(browser_at(first), client, *[WRONG] * LIMIT)
    assert statuses(send_passwords(browser_at(second), client, PASSWORD)) == [429 if same else 303]


def test_forwarding_headers_do_not_change_the_address(browser: Browser, client: Registered) -> None:
    send_passwords(browser, client, *[WRONG] * LIMIT)
    page = browser.authorize(client)
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip"):
        answer = browser.send(page, {header: "203.0.113.9"}, username="alice", password=PASSWORD)
        assert answer.status == 429, header


# ---- browsers that have signed in before


def test_attack_from_other_addresses_does_not_lock_out_a_browser_that_has_signed_in_before(
    site: Site, browser_at: Callable[[str], _BrowserAt], client: Registered, checked_passwords: list[str]
) -> None:
    owner, new_browser = browser_at(ADDRESS), browser_at(ADDRESS)
    assert owner.sign_in(owner.authorize(client)).code
    del owner.cookies["signet-session"]  # the session has ended
    attacker = browser_at(OTHER_ADDRESS)
    page = attacker.authorize(client)
    for number in range(MAX_PER_ACCOUNT):
        attacker.address = f"198.51.100.{number}"
        send_passwords(attacker, client, WRONG, page=page)
    assert statuses(send_passwords(browser_at(OTHER_ADDRESS), client, WRONG)) == [429], (
        "a hundred addresses are throttled together"
    )
    assert statuses(send_passwords(new_browser, client, PASSWORD)) == [429]
    assert owner.sign_in(owner.authorize(client, prompt="login")).code
    site.clock.advance(364 * 24 * 3600)
    send_passwords(browser_at(ADDRESS), client, *[WRONG] * LIMIT)
    assert owner.sign_in(owner.authorize(client, prompt="login")).code, "for a year after the last sign-in"


def test_attack_from_the_same_address_does_not_lock_out_a_browser_that_has_signed_in_before(
    browser_at: Callable[[str], Browser], client: Registered
) -> None:
    owner, other_browser = browser_at(ADDRESS), browser_at(ADDRESS)
    assert owner.sign_in(owner.authorize(client)).code
    assert statuses(send_passwords(other_browser, client, *[WRONG] * LIMIT, PASSWORD))[-1] == 429
    assert owner.sign_in(owner.authorize(client, prompt="login")).code
    assert statuses(send_passwords(other_browser, client, PASSWORD)) == [429], "the other browser stays throttled"


def test_stolen_browser_cookie_is_throttled(
    site: Site, browser_at: Callable[[str], Browser], client: Registered, checked_passwords: list[str]
) -> None:
    owner = browser_at(ADDRESS)
    assert owner.sign_in(owner.authorize(client)).code
    checked_passwords.clear()
    attackers = [browser_at(f"198.51.100.{number}") for number in range(4)]
    sent = []
    for attacker in attackers:
        attacker.cookies = {"signet-browser": owner.cookies["signet-browser"]}
        sent += statuses(send_passwords(attacker, client, WRONG, WRONG))
    assert sent == [400] * LIMIT + [429] * 3
    assert len(checked_passwords) == LIMIT
    assert statuses(send_passwords(browser_at(OTHER_ADDRESS), client, PASSWORD)) == [303], (
        "no other browser is throttled"
    )


def test_browser_cookie_counts_only_for_accounts_that_signed_in_with_it(
    site: Site, browser_at: Callable[[str], Browser], client: Registered
) -> None:
    site.user("bob")
    shared = browser_at(ADDRESS)
    assert shared.sign_in(shared.authorize(client), "bob").code
    send_passwords(browser_at(ADDRESS), client, *[WRONG] * LIMIT)
    assert statuses(send_passwords(shared, client, PASSWORD)) == [429], "alice has not signed in with it"
    site.clock.advance(30)
    assert shared.sign_in(shared.authorize(client, prompt="login")).code
    for name in ("alice", "bob"):
        send_passwords(browser_at(ADDRESS), client, *[WRONG] * LIMIT, username=name)
        assert shared.sign_in(shared.authorize(client, prompt="login"), name).code, "both accounts"


@pytest.mark.parametrize("cookie", ["", "br_forged", "CUT"])
def test_forged_browser_cookie_is_ignored(
    browser_at: Callable[[str], Browser], client: Registered, cookie: str
) -> None:
    owner, forging_browser = browser_at(ADDRESS), browser_at(ADDRESS)
    assert owner.sign_in(owner.authorize(client)).code
    send_passwords(browser_at(ADDRESS), client, *[WRONG] * LIMIT)
    forging_browser.cookies = {"signet-browser": owner.cookies["signet-browser"][:-1] if cookie == "CUT" else cookie}
    assert statuses(send_passwords(forging_browser, client, PASSWORD)) == [429]


# ---- many accounts


def test_one_wrong_password_for_each_of_a_thousand_accounts_throttles_the_address(
    site: Site, browser_at: Callable[[str], Browser], client: Registered, checked_passwords: list[str]
) -> None:
    owner, browser = browser_at(ADDRESS), browser_at(ADDRESS)
    assert owner.sign_in(owner.authorize(client)).code
    checked_passwords.clear()
    page = browser.authorize(client)
    names = ["alice", "bob", *(f"user{number}" for number in range(998))]
    answers = [send_passwords(browser, client, WRONG, username=name, page=page)[0] for name in names]
    most = site.settings.sign_in_attempts_per_address
    assert statuses(answers) == [400] * most + [429] * (1000 - most)
    assert len(checked_passwords) == most
    assert statuses(send_passwords(browser_at(ADDRESS), client, PASSWORD)) == [429]
    assert statuses(send_passwords(browser_at(OTHER_ADDRESS), client, PASSWORD)) == [303]
    assert owner.sign_in(owner.authorize(client, prompt="login")).code
    site.clock.advance(3600)
    assert statuses(send_passwords(browser_at(ADDRESS), client, PASSWORD)) == [303]


@pytest.mark.spec("RFC 6749 §10.10 d")
def test_of_a_thousand_wrong_passwords_for_one_account_five_are_checked(
    browser_at: Callable[[str], Browser],
    client: Registered,
    checked_passwords: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING", "signet")
    answers = send_passwords(browser_at(ADDRESS), client, *[f"guess {number}" for number in range(1000)])
    assert statuses(answers) == [400] * LIMIT + [429] * (1000 - LIMIT)
    assert len(checked_passwords) == LIMIT


def test_successful_sign_ins_from_one_address_are_not_counted(
    site_with: Callable[..., Site], client: Registered, checked_passwords: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=2)
    for number in range(4):
        site.user(f"user{number}")
        browser = _BrowserAt(site, ADDRESS)
        page = browser.authorize(client)
        assert browser.sign_in(page, f"user{number}").code
    assert statuses(send_passwords(_BrowserAt(site, ADDRESS), client, WRONG, WRONG, WRONG)) == [400, 400, 429]


def test_wrong_passwords_from_one_address_expire(
    site_with: Callable[..., Site], client: Registered, checked_passwords: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=3)
    for number in range(12):
        assert statuses(send_passwords(_BrowserAt(site, ADDRESS), client, WRONG, username=f"user{number}")) == [400]
        site.clock.advance(1300)


# ---- concurrency


def test_thirty_concurrent_attempts_get_the_limit_of_sequential_ones(
    site: Site, browsers: Browsers, client: Registered, checked_passwords: list[str]
) -> None:
    senders = [browsers() for _ in range(30)]
    pages = [browser.authorize(client) for browser in senders]
    answers = run_concurrently(
        partial(browser.send, page, username="alice", password=WRONG)
        for browser, page in zip(senders, pages, strict=True)
    )
    assert len(checked_passwords) == LIMIT
    assert sorted(statuses(answers)) == [400] * LIMIT + [429] * (30 - LIMIT)
    site.clock.advance(30)
    checked_passwords.clear()
    answers = run_concurrently(
        partial(browser.send, page, username="alice", password=WRONG)
        for browser, page in zip(senders, pages, strict=True)
    )
    assert len(checked_passwords) == 1, "only one after the wait"
    assert sorted(statuses(answers)) == [400] + [429] * 29


def test_concurrent_attempts_with_a_stolen_browser_cookie_get_the_same_limit(
    site: Site, browsers: Browsers, client: Registered, checked_passwords: list[str]
) -> None:
    owner = browsers()
    assert owner.sign_in(owner.authorize(client)).code
    checked_passwords.clear()
    senders = [browsers() for _ in range(20)]
    for attacker in senders:
        attacker.cookies = {"signet-browser": owner.cookies["signet-browser"]}
    page = senders[0].authorize(client)
    run_concurrently(partial(attacker.send, page, username="alice", password=WRONG) for attacker in senders)
    assert len(checked_passwords) == LIMIT


def test_concurrent_attempts_for_different_accounts_get_the_limit_of_the_address(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered, checked_passwords: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=10)
    senders = [browsers(site) for _ in range(30)]
    pages = [browser.authorize(client) for browser in senders]
    run_concurrently(
        partial(browser.send, page, username=f"user{number}", password=WRONG)
        for number, (browser, page) in enumerate(zip(senders, pages, strict=True))
    )
    assert len(checked_passwords) == 10


def test_correct_password_among_concurrent_wrong_ones_signs_in_or_is_throttled(
    site: Site, browsers: Browsers, client: Registered, checked_passwords: list[str]
) -> None:
    senders = [browsers() for _ in range(12)]
    pages = [browser.authorize(client) for browser in senders]
    sent = [PASSWORD if number == 6 else WRONG for number in range(12)]
    answers = run_concurrently(
        partial(browser.send, page, username="alice", password=password)
        for browser, page, password in zip(senders, pages, sent, strict=True)
    )
    assert answers[6].status in (303, 429)
    assert set(statuses(answers)) <= {303, 400, 429}
    # A success resets the count of the attempts before it.
    assert len(checked_passwords) <= 2 * LIMIT


def read_counts(site: Site, account: str) -> tuple[Throttle, Records]:
    """Return the throttle of an attempt for an account from one address, and the counts as they are now."""
    throttle = Throttle(site.server.store, account, ADDRESS, None)
    return throttle, site.server.store.read_all(throttle.lookups)


def test_attempt_that_read_the_counts_before_a_reset_is_not_throttled(site: Site) -> None:
    """A correct password resets the count just before the attempt that would exceed the limit is counted."""
    for _ in range(site.settings.sign_in_attempts - 1):
        throttle, counts = read_counts(site, "alice")
        throttle.count(counts)
    correct, counts_before_reset = read_counts(site, "alice")
    assert site.server.store.transact(*correct.count(counts_before_reset).taking_back()) is None
    throttle.count(counts_before_reset)
    throttle, counts = read_counts(site, "alice")
    count = counts.get(throttle.lookups[0])
    assert count
    assert (count.failures, count.blocked_until) == (1, 0)


def test_correct_password_does_not_end_the_wait_for_later_wrong_ones(site_with: Callable[..., Site]) -> None:
    """The count is as it was when the last attempt read it, but another wrong attempt was counted since then."""
    site = site_with(sign_in_attempts_per_address=3)
    throttle, counts = read_counts(site, "alice")
    success = throttle.count(counts)
    for name in ("bob", "carol"):
        late, stale_counts = read_counts(site, "dora")
        throttle, counts = read_counts(site, name)
        throttle.count(counts)
    assert site.server.store.transact(*success.taking_back()) is None
    with pytest.raises(TooManyAttempts):
        late.count(stale_counts)


# ---- HTTP Basic


def test_http_basic_shares_the_count_of_the_form(
    site: Site, browser_at: Callable[[str], Browser], client: Registered
) -> None:
    browser = browser_at(ADDRESS)
    direct = partial(browser.authorize, client, "/oauth2/code")
    sent = [direct(headers=basic("alice", WRONG)) for _ in range(LIMIT)]
    assert statuses(sent) == [401] * LIMIT
    for password in (WRONG, PASSWORD):
        rejected = direct(headers=basic("alice", password))
        assert rejected.status == 429
        assert rejected.header("retry-after") == "30"
        assert rejected.header("www-authenticate") is None
        assert "too many attempts" in rejected.body
    assert direct(headers=basic("alice", PASSWORD), prompt="none").answer["error"] == "login_required"
    assert statuses(send_passwords(browser, client, PASSWORD)) == [429]
    assert direct(headers=basic("bob", WRONG)).status == 401
    site.clock.advance(30)
    assert direct(headers=basic("alice", PASSWORD)).code
    assert statuses([direct(headers=basic("alice", WRONG)) for _ in range(LIMIT)]) == [401] * LIMIT, (
        "the count was reset"
    )


def test_correct_password_is_not_counted_when_the_request_fails(
    site: Site, browser_at: Callable[[str], Browser], client: Registered
) -> None:
    """With prompt=none and no consent, no session is created, but the password was correct."""
    client_with_consent = site.client(direct_sign_in=True)
    browser = browser_at(ADDRESS)
    for _ in range(2 * LIMIT):
        answer = browser.authorize(client_with_consent, "/oauth2/code", headers=basic("alice", PASSWORD), prompt="none")
        assert answer.answer["error"] == "consent_required"
    assert browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD)).code


# ---- records


def test_attempts_are_logged_and_in_the_users_history(
    site: Site, browser: Browser, client: Registered, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    page = browser.authorize(client)
    send_passwords(browser, client, *[WRONG] * LIMIT, PASSWORD, page=page)
    send_passwords(browser, client, WRONG, username="nobody", page=page)
    site.clock.advance(30)
    browser.sign_in(page)
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
    assert {(event.client_id, event.source_ip) for event in sign_ins} == {(client.id, "127.0.0.1")}
    assert {event.sub for event in site.server.store.events.scan()} == {user.sub}, "unknown usernames have no history"


def test_counts_contain_no_username_and_expire(
    site: Site, browser_at: Callable[[str], Browser], client: Registered
) -> None:
    browser = browser_at(ADDRESS)
    send_passwords(browser, client, WRONG, username="bob@example.com")
    assert browser.sign_in(browser.authorize(client)).code
    attempts = list(site.server.store.attempts.scan())
    assert len(attempts) == 6
    for record in attempts:
        assert site.clock.time < record.expires_at <= site.clock.time + 366 * 24 * 3600
        assert re.fullmatch(r"[\w-]{43}", record.attempts_id)
    assert "bob@example.com" not in dump_tables()
