"""Wrong passwords slow the next tries down: for the account, for the address, and never for its owner's own browser."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib import audit, passwords, registration, sign_in
from chalicelib.models import User
from chalicelib.throttle import LONGEST_WAIT, MOST_PER_ACCOUNT, network_of
from tests.browser import Answer, Browser, basic
from tests.gateways import FRONTS, FrontBrowser
from tests.site import PASSWORD, Registered, Site, dump
from tests.threads import at_once

(HTTP_2,) = (front for front in FRONTS if front.name == "HTTP 2.0")
WRONG = "not this one"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"
LIMIT = 5
People = Callable[..., Browser]


class _From(FrontBrowser):
    """A browser at an address of its own."""

    def __init__(self, site: Site, address: str):
        super().__init__(site, HTTP_2, self._at_address)
        self.address = address

    def _at_address(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        event["requestContext"]["http"]["sourceIp"] = self.address
        return self.site.http_handler(event, context)


@pytest.fixture
def at(site: Site) -> Callable[[str], _From]:
    """Makes a new browser at an address."""
    return partial(_From, site)


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


@pytest.fixture
def client(site: Site, user: User) -> Registered:
    """An application that asks nothing, and that alice has an account for."""
    return site.client(trusted=True, direct_sign_in=True)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every password that was looked at. It is not hashed: these tests are about how often, not how."""
    seen: list[str] = []

    def verify(password: str, password_hash: str | None) -> bool:
        seen.append(password)
        return password_hash is not None and password == PASSWORD

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "verify", verify)
        yield seen


def tries(
    browser: Browser, client: Registered, *sent: str, username: str = "alice", page: Answer | None = None
) -> list[Answer]:
    """Passwords sent one after the other, from one page."""
    page = page or browser.authorize(client, prompt="login")
    return [browser.send(page, username=username, password=password) for password in sent]


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def calls(caplog: pytest.LogCaptureFixture) -> int:
    """The number of round trips in the last log line."""
    number: int = json.loads(caplog.records[-1].getMessage())["dynamodb_calls"]
    return number


# ---- one account, one address


@pytest.mark.spec("RFC 6585 §4")
def test_after_five_wrong_passwords_the_next_try_waits_and_says_how_long(
    browser: Browser, client: Registered, verified: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers = tries(browser, client, *[WRONG] * LIMIT, WRONG)
    assert statuses(answers) == [400] * LIMIT + [429]
    refused = answers[-1]
    assert refused.header("retry-after") == "30"
    assert refused.header("cache-control") == "no-store"
    assert "too many attempts. Please try again in 30 seconds" in refused.body
    assert refused.form.fields["username"] == "alice", "and the page is one to go on with"
    assert len(verified) == LIMIT
    assert calls(caplog) == 1, "and next to nothing is spent on it"


def test_the_right_password_is_refused_too_while_others_wait(
    site: Site, browser: Browser, client: Registered, verified: list[str]
) -> None:
    page = browser.authorize(client)
    tries(browser, client, *[WRONG] * LIMIT, page=page)
    wrong, right = tries(browser, client, WRONG, PASSWORD, page=page)
    assert (wrong.status, wrong.body) == (right.status, right.body)
    assert not [header for header in right.headers if header not in wrong.headers and header[0] != "Date"]
    assert len(verified) == LIMIT
    site.clock.advance(29)
    assert tries(browser, client, PASSWORD, page=page)[0].header("retry-after") == "1"
    site.clock.advance(1)
    assert browser.sign_in(page).code


def test_each_wait_is_twice_the_last_up_to_a_quarter_of_an_hour(
    site: Site, browser: Browser, client: Registered
) -> None:
    tries(browser, client, *[WRONG] * LIMIT)
    waits = []
    for _ in range(8):
        (refused,) = tries(browser, client, WRONG)
        assert refused.status == 429
        waits.append(int(refused.header("retry-after") or 0))
        site.clock.advance(waits[-1])
        assert statuses(tries(browser, client, WRONG, WRONG)) == [400, 429], "one try, and no other"
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert waits[-1] == LONGEST_WAIT


def test_whoever_signs_in_starts_anew(site: Site, browsers: People, client: Registered) -> None:
    for _ in range(3):
        browser = browsers()
        page = browser.authorize(client)
        assert statuses(tries(browser, client, *[WRONG] * (LIMIT - 1), page=page)) == [400] * (LIMIT - 1)
        assert browser.sign_in(page).code


def test_what_was_long_ago_does_not_count(site: Site, browser: Browser, client: Registered) -> None:
    assert statuses(tries(browser, client, *[WRONG] * (LIMIT - 1))) == [400] * (LIMIT - 1)
    site.clock.advance(3600)
    assert statuses(tries(browser, client, *[WRONG] * LIMIT)) == [400] * LIMIT


def test_nobody_learns_from_it_which_accounts_exist(
    site: Site, at: Callable[[str], Browser], client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []
    for number, username in enumerate(("alice", "nobody")):
        browser = at(f"192.0.2.{number}")
        shown = []
        for _ in range(2):
            for answer in tries(browser, client, *[WRONG] * (LIMIT + 2), username=username):
                words = re.sub(r' value="[^"]*"|[?&]v=\w+', "", answer.body)
                shown.append((answer.status, answer.header("retry-after"), words))
            site.clock.advance(30)
        seen.append(shown)
    assert seen[0] == seen[1]
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    spent = [line["dynamodb_calls"] for line in lines if line.get("path") == "/oauth2/code" and "status" in line]
    assert spent[: len(spent) // 2] == spent[len(spent) // 2 :]


def test_a_name_that_nobody_has_is_that_of_no_account_whatever_its_sub(
    site: Site, browser: Browser, client: Registered, user: User
) -> None:
    """A sub may have come from another server, and be any word."""
    site.server.store.users.put(replace(user, sub="nobody"))
    assert statuses(tries(browser, client, PASSWORD, username="bob")) == [400]


@pytest.mark.parametrize("name", ["ALICE", "Alice", "\uff21lice"])
def test_another_way_to_write_a_name_is_the_same_name(browser: Browser, client: Registered, name: str) -> None:
    tries(browser, client, *[WRONG] * LIMIT)
    assert statuses(tries(browser, client, PASSWORD, username=name)) == [429]


def test_a_name_that_is_too_long_for_anybody_is_not_even_compared(
    browser: Browser, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unicode's normal form of 30,000 accents takes seconds, and no count would slow down who sends one such name."""
    compared: list[str] = []

    def identifier(username: str) -> str:
        compared.append(username)
        return registration.username_identifier(username)

    monkeypatch.setattr(sign_in, "username_identifier", identifier)
    names = ["a" + "\u0301\u0316" * 5000, "alice" + " " * 400, "\u0301" * 320]
    answers = [answer for name in names for answer in tries(browser, client, PASSWORD, username=name)]
    assert statuses(answers) == [400, 400, 400]
    assert [len(name) for name in compared] == [0, 0, 320]


@pytest.mark.parametrize(("few", "sent"), [(1, [400, 429]), (3, [400, 400, 400, 429])])
def test_the_operator_sets_how_many(
    site_with: Callable[..., Site], browsers: People, client: Registered, few: int, sent: list[int]
) -> None:
    browser = browsers(site_with(sign_in_attempts=few))
    assert statuses(tries(browser, client, *[WRONG] * len(sent))) == sent


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
def test_what_counts_as_one_address(
    at: Callable[[str], Browser], client: Registered, first: str, second: str, same: bool
) -> None:
    assert (network_of(first) == network_of(second)) == same
    tries(at(first), client, *[WRONG] * LIMIT)
    assert statuses(tries(at(second), client, PASSWORD)) == [429 if same else 303]


def test_no_header_says_where_somebody_is(browser: Browser, client: Registered) -> None:
    tries(browser, client, *[WRONG] * LIMIT)
    page = browser.authorize(client)
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip"):
        answer = browser.send(page, {header: "203.0.113.9"}, username="alice", password=PASSWORD)
        assert answer.status == 429, header


# ---- the owner


def test_an_account_under_attack_from_elsewhere_does_not_lock_out_a_browser_that_has_signed_in_before(
    site: Site, at: Callable[[str], _From], client: Registered, verified: list[str]
) -> None:
    own, new = at(HOME), at(HOME)
    assert own.sign_in(own.authorize(client)).code
    del own.cookies["signet-session"]  # closed since
    attacker = at(ELSEWHERE)
    page = attacker.authorize(client)
    for number in range(MOST_PER_ACCOUNT):
        attacker.address = f"198.51.100.{number}"
        tries(attacker, client, WRONG, page=page)
    assert statuses(tries(at(ELSEWHERE), client, WRONG)) == [429], "from a hundred addresses it is slowed down as well"
    assert statuses(tries(new, client, PASSWORD)) == [429]
    assert own.sign_in(own.authorize(client, prompt="login")).code
    site.clock.advance(364 * 24 * 3600)
    tries(at(HOME), client, *[WRONG] * LIMIT)
    assert own.sign_in(own.authorize(client, prompt="login")).code, "for a year after the last time"


def test_neither_does_an_attack_from_the_same_address(at: Callable[[str], Browser], client: Registered) -> None:
    own, stranger = at(HOME), at(HOME)
    assert own.sign_in(own.authorize(client)).code
    assert statuses(tries(stranger, client, *[WRONG] * LIMIT, PASSWORD))[-1] == 429
    assert own.sign_in(own.authorize(client, prompt="login")).code
    assert statuses(tries(stranger, client, PASSWORD)) == [429], "which does not let the stranger go on"


def test_a_browsers_cookie_is_no_free_pass(
    site: Site, at: Callable[[str], Browser], client: Registered, verified: list[str]
) -> None:
    own = at(HOME)
    assert own.sign_in(own.authorize(client)).code
    verified.clear()
    thieves = [at(f"198.51.100.{number}") for number in range(4)]
    sent = []
    for thief in thieves:
        thief.cookies = {"signet-browser": own.cookies["signet-browser"]}
        sent += statuses(tries(thief, client, WRONG, WRONG))
    assert sent == [400] * LIMIT + [429] * 3
    assert len(verified) == LIMIT
    assert statuses(tries(at(ELSEWHERE), client, PASSWORD)) == [303], "and nobody else waits for them"


def test_a_browser_is_known_for_the_accounts_that_have_signed_in_with_it(
    site: Site, at: Callable[[str], Browser], client: Registered
) -> None:
    site.user("bob")
    shared = at(HOME)
    assert shared.sign_in(shared.authorize(client), "bob").code
    tries(at(HOME), client, *[WRONG] * LIMIT)
    assert statuses(tries(shared, client, PASSWORD)) == [429], "alice never has"
    site.clock.advance(30)
    assert shared.sign_in(shared.authorize(client, prompt="login")).code
    for name in ("alice", "bob"):
        tries(at(HOME), client, *[WRONG] * LIMIT, username=name)
        assert shared.sign_in(shared.authorize(client, prompt="login"), name).code, "two people, one browser"


@pytest.mark.parametrize("cookie", ["", "br_forged", "CUT"])
def test_a_cookie_that_is_not_ours_knows_nobody(at: Callable[[str], Browser], client: Registered, cookie: str) -> None:
    own, forger = at(HOME), at(HOME)
    assert own.sign_in(own.authorize(client)).code
    tries(at(HOME), client, *[WRONG] * LIMIT)
    forger.cookies = {"signet-browser": own.cookies["signet-browser"][:-1] if cookie == "CUT" else cookie}
    assert statuses(tries(forger, client, PASSWORD)) == [429]


# ---- many accounts


def test_one_wrong_password_for_a_thousand_accounts(
    site: Site, at: Callable[[str], Browser], client: Registered, verified: list[str]
) -> None:
    own, browser = at(HOME), at(HOME)
    assert own.sign_in(own.authorize(client)).code
    verified.clear()
    page = browser.authorize(client)
    names = ["alice", "bob", *(f"user{number}" for number in range(998))]
    answers = [tries(browser, client, WRONG, username=name, page=page)[0] for name in names]
    most = site.settings.sign_in_attempts_per_address
    assert statuses(answers) == [400] * most + [429] * (1000 - most)
    assert len(verified) == most
    assert statuses(tries(at(HOME), client, PASSWORD)) == [429]
    assert statuses(tries(at(ELSEWHERE), client, PASSWORD)) == [303]
    assert own.sign_in(own.authorize(client, prompt="login")).code
    site.clock.advance(3600)
    assert statuses(tries(at(HOME), client, PASSWORD)) == [303]


@pytest.mark.spec("RFC 6749 §10.10 d")
def test_a_thousand_wrong_passwords_for_one_account(
    at: Callable[[str], Browser], client: Registered, verified: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "signet")
    answers = tries(at(HOME), client, *[f"guess {number}" for number in range(1000)])
    assert statuses(answers) == [400] * LIMIT + [429] * (1000 - LIMIT)
    assert len(verified) == LIMIT


def test_an_office_where_everybody_knows_the_password_never_waits(
    site_with: Callable[..., Site], client: Registered, verified: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=2)
    for number in range(4):
        site.user(f"user{number}")
        browser = _From(site, HOME)
        page = browser.authorize(client)
        assert browser.sign_in(page, f"user{number}").code
    assert statuses(tries(_From(site, HOME), client, WRONG, WRONG, WRONG)) == [400, 400, 429]


def test_mistakes_at_one_address_do_not_add_up_for_ever(
    site_with: Callable[..., Site], client: Registered, verified: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=3)
    for number in range(12):
        assert statuses(tries(_From(site, HOME), client, WRONG, username=f"user{number}")) == [400]
        site.clock.advance(1300)


# ---- at once


def test_thirty_at_once_get_no_further_than_one_after_the_other(
    site: Site, browsers: People, client: Registered, verified: list[str]
) -> None:
    made = [browsers() for _ in range(30)]
    pages = [browser.authorize(client) for browser in made]
    answers = at_once(
        partial(browser.send, page, username="alice", password=WRONG) for browser, page in zip(made, pages, strict=True)
    )
    assert len(verified) == LIMIT
    assert sorted(statuses(answers)) == [400] * LIMIT + [429] * (30 - LIMIT)
    site.clock.advance(30)
    verified.clear()
    answers = at_once(
        partial(browser.send, page, username="alice", password=WRONG) for browser, page in zip(made, pages, strict=True)
    )
    assert len(verified) == 1, "nor when the wait is over"
    assert sorted(statuses(answers)) == [400] + [429] * 29


def test_nor_with_a_known_browsers_cookie(
    site: Site, browsers: People, client: Registered, verified: list[str]
) -> None:
    own = browsers()
    assert own.sign_in(own.authorize(client)).code
    verified.clear()
    made = [browsers() for _ in range(20)]
    for thief in made:
        thief.cookies = {"signet-browser": own.cookies["signet-browser"]}
    page = made[0].authorize(client)
    at_once(partial(thief.send, page, username="alice", password=WRONG) for thief in made)
    assert len(verified) == LIMIT


def test_nor_with_a_name_for_each(
    site_with: Callable[..., Site], browsers: People, client: Registered, verified: list[str]
) -> None:
    site = site_with(sign_in_attempts_per_address=10)
    made = [browsers(site) for _ in range(30)]
    pages = [browser.authorize(client) for browser in made]
    at_once(
        partial(browser.send, page, username=f"user{number}", password=WRONG)
        for number, (browser, page) in enumerate(zip(made, pages, strict=True))
    )
    assert len(verified) == 10


def test_the_right_password_among_wrong_ones_at_the_same_time_signs_in_or_waits(
    site: Site, browsers: People, client: Registered, verified: list[str]
) -> None:
    made = [browsers() for _ in range(12)]
    pages = [browser.authorize(client) for browser in made]
    sent = [PASSWORD if number == 6 else WRONG for number in range(12)]
    answers = at_once(
        partial(browser.send, page, username="alice", password=password)
        for browser, page, password in zip(made, pages, sent, strict=True)
    )
    assert answers[6].status in (303, 429)
    assert set(statuses(answers)) <= {303, 400, 429}
    # A success gives back what others have used up by then, and no more.
    assert len(verified) <= 2 * LIMIT


# ---- HTTP Basic


def test_http_basic_is_throttled_as_well_and_with_the_same_count(
    site: Site, at: Callable[[str], Browser], client: Registered
) -> None:
    browser = at(HOME)
    direct = partial(browser.authorize, client, "/oauth2/code")
    sent = [direct(headers=basic("alice", WRONG)) for _ in range(LIMIT)]
    assert statuses(sent) == [401] * LIMIT
    for password in (WRONG, PASSWORD):
        refused = direct(headers=basic("alice", password))
        assert refused.status == 429
        assert refused.header("retry-after") == "30"
        assert refused.header("www-authenticate") is None
        assert "too many attempts" in refused.body
    assert direct(headers=basic("alice", PASSWORD), prompt="none").answer["error"] == "login_required"
    assert statuses(tries(browser, client, PASSWORD)) == [429]
    assert direct(headers=basic("bob", WRONG)).status == 401
    site.clock.advance(30)
    assert direct(headers=basic("alice", PASSWORD)).code
    assert statuses([direct(headers=basic("alice", WRONG)) for _ in range(LIMIT)]) == [401] * LIMIT, "counted anew"


def test_the_right_password_counts_for_nothing_whatever_becomes_of_the_request(
    site: Site, at: Callable[[str], Browser], client: Registered
) -> None:
    """With prompt=none and a question left, no session begins; the password was right all the same."""
    asks = site.client(direct_sign_in=True)
    browser = at(HOME)
    for _ in range(2 * LIMIT):
        answer = browser.authorize(asks, "/oauth2/code", headers=basic("alice", PASSWORD), prompt="none")
        assert answer.answer["error"] == "consent_required"
    assert browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD)).code


# ---- what is kept of it


def test_what_the_operator_and_the_person_see_of_it(
    site: Site, browser: Browser, client: Registered, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    page = browser.authorize(client)
    tries(browser, client, *[WRONG] * LIMIT, PASSWORD, page=page)
    tries(browser, client, WRONG, username="nobody", page=page)
    site.clock.advance(30)
    browser.sign_in(page)
    lines = [json.loads(record.getMessage()) for record in caplog.records if "signet" in record.name]
    noted = [(line["event"], line.get("sub")) for line in lines if line.get("event", "").startswith("sign_in")]
    failed = [(audit.SIGN_IN_FAILED, user.sub)] * LIMIT
    assert noted == [
        *failed,
        (audit.SIGN_IN_THROTTLED, user.sub),
        (audit.SIGN_IN_FAILED, None),
        (audit.SIGN_IN, user.sub),
    ]
    events = sorted(site.server.store.events.find("sub", user.sub), key=lambda event: event.created_at)
    events = [event for event in events if event.name.startswith("sign_in")]
    assert [event.name for event in events] == [audit.SIGN_IN_FAILED] * LIMIT + [audit.SIGN_IN]
    assert {(event.client_id, event.source_ip) for event in events} == {(client.id, "127.0.0.1")}
    assert {event.sub for event in site.server.store.events.scan()} == {user.sub}, "nobody has no history"


def test_the_counts_name_nobody_and_go_by_themselves(
    site: Site, at: Callable[[str], Browser], client: Registered
) -> None:
    browser = at(HOME)
    tries(browser, client, WRONG, username="bob@example.com")
    assert browser.sign_in(browser.authorize(client)).code
    attempts = list(site.server.store.attempts.scan())
    assert len(attempts) == 6
    for record in attempts:
        assert site.clock.time < record.expires_at <= site.clock.time + 366 * 24 * 3600
        assert re.fullmatch(r"[\w-]{43}", record.attempts_id)
    assert "bob@example.com" not in dump()
