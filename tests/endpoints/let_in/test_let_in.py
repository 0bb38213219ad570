"""/account/let-in: a link of the operator makes one browser known for a user, once, and signs no one in."""

import json
import logging
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib import events
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.let_in import TRIES, WRONG, lock_out, sign_in_status
from tests.support.site import Registered, Site, dump_tables
from tests.support.user_changes import delete, disable, set_password

PATH = "/account/let-in"
USED, ENDED = "The link was used in another browser.", "The link has expired"
ASK = "sk the people who run this server for a new link"
Browsers = Callable[..., Browser]


@pytest.fixture
def alice(site: Site) -> User:
    return site.user("alice")


@pytest.fixture
def client(site: Site, alice: User) -> Registered:
    """A trusted client: a sign-in leads to a code."""
    return site.client(trusted=True)


@pytest.fixture
def link(site: Site, alice: User) -> str:
    return site.let_in_link(alice)


def handle_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["link"][0]


def open_link(browser: Browser, link: str) -> Answer:
    return browser.request("GET", link)


def use_link(browser: Browser, link: str) -> Answer:
    """Open the link, press the button, and return the page that follows."""
    page = open_link(browser, link)
    assert page.status == 200, page.body
    return browser.submit(page)


def assert_known(answer: Answer) -> None:
    assert answer.status == 200
    assert "This browser is known now" in answer.body
    assert 'href="/account">Sign in</a>' in answer.body


# ---- what it does


def test_link_lets_a_user_sign_in_in_a_new_browser_while_others_guess(
    browsers: Browsers, browser: Browser, client: Registered, link: str
) -> None:
    lock_out(browsers, client)
    assert sign_in_status(browser, client) == 429
    assert_known(use_link(browser, link))
    assert browser.sign_in(browser.authorize(client)).code
    assert sign_in_status(browsers(), client) == 429, "other browsers stay unknown"


def test_link_does_not_sign_the_user_in(site: Site, browser: Browser, client: Registered, link: str) -> None:
    use_link(browser, link)
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert "/oauth2/authorize" in browser.get("/account").location
    assert list(site.server.store.sessions.scan()) == []


def test_link_allows_five_tries(browsers: Browsers, browser: Browser, client: Registered, link: str) -> None:
    lock_out(browsers, client)
    use_link(browser, link)
    for _ in range(TRIES):
        assert sign_in_status(browser, client, WRONG) == 400
    assert sign_in_status(browser, client) == 429


def test_button_pressed_twice_shows_the_same_page_and_renews_no_tries(
    browsers: Browsers, browser: Browser, client: Registered, link: str
) -> None:
    lock_out(browsers, client)
    page = open_link(browser, link)
    assert_known(browser.submit(page))
    for _ in range(TRIES - 1):
        assert sign_in_status(browser, client, WRONG) == 400
    assert_known(browser.submit(page))
    assert_known(open_link(browser, link))
    assert sign_in_status(browser, client, WRONG) == 400
    assert sign_in_status(browser, client) == 429


def test_page_can_be_loaded_again_for_an_hour_after_the_button_was_pressed(
    site: Site, browser: Browser, link: str
) -> None:
    page = open_link(browser, link)
    site.clock.advance(HOUR - 1)
    assert_known(browser.submit(page))
    site.clock.advance(HOUR - 1)
    assert_known(open_link(browser, link))


def test_opening_the_link_changes_nothing(site: Site, browsers: Browsers, link: str) -> None:
    """Programs open links in messages, and a user may look before pressing the button."""
    before = dump_tables()
    for _ in range(3):
        assert open_link(browsers(), link).status == 200
    assert dump_tables() == before


def test_page_names_the_server_and_the_user(site_with: Callable[..., Site], browsers: Browsers) -> None:
    site = site_with(name="Acme & Sons")
    browser = browsers(site)
    page = open_link(browser, site.let_in_link(site.user("alice")))
    assert "Acme & Sons" in unescape(page.body)
    assert "alice" in page.body
    assert page.body.partition("<footer")[0].count("<button") == 1
    assert page.form.fields.keys() == {"link", "tag"}
    assert page.form.action == PATH


def test_link_works_in_a_browser_that_this_server_knows_from_another_user(
    site: Site, browsers: Browsers, browser: Browser, client: Registered, link: str
) -> None:
    site.user("bob")
    browser.sign_in(browser.authorize(client), "bob")
    lock_out(browsers, client)
    assert_known(use_link(browser, link))
    assert sign_in_status(browser, client) == 303


def test_user_sees_that_a_browser_was_let_in(site: Site, browser: Browser, client: Registered, link: str) -> None:
    open_link(browser, link)
    browser.sign_in(browser.authorize(client))
    assert "made known" not in browser.get("/account/activity").body
    page = open_link(browser, link)
    browser.submit(page)
    browser.submit(page)
    assert browser.get("/account/activity").body.count("Browser made known by a link from support") == 1


# ---- when it is rejected


def assert_rejected(answer: Answer, code: str, *texts: str) -> None:
    assert answer.status == 400, answer.body
    for text in (f'<code dir="ltr">{code}</code>', *texts):
        assert text in unescape(answer.body)


def test_another_browser_is_told_that_the_link_was_used(browsers: Browsers, browser: Browser, link: str) -> None:
    other = browsers()
    page = open_link(other, link)
    use_link(browser, link)
    for answer in (other.submit(page), open_link(other, link), open_link(browsers(), link)):
        assert_rejected(answer, "let_in_ended", USED, ASK)
    assert_known(open_link(browser, link))


def test_one_of_two_browsers_that_press_at_once_is_known(
    browsers: Browsers, browser: Browser, client: Registered, link: str, wire: Wire
) -> None:
    lock_out(browsers, client)
    other = browsers()
    page = open_link(other, link)
    with wire.before("TransactWriteItems", lambda: assert_known(use_link(browser, link))):
        assert_rejected(other.submit(page), "let_in_ended", USED, ASK)
    assert sign_in_status(other, client) == 429
    assert sign_in_status(browser, client) == 303


def test_same_browser_that_presses_twice_at_once_sees_one_page_and_has_one_event(
    site: Site, browsers: Browsers, browser: Browser, link: str, wire: Wire
) -> None:
    page = open_link(browser, link)
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: assert_known(tab.submit(page))):
        assert_known(browser.submit(page))
    assert [event.name for event in site.server.store.events.scan()] == [events.BROWSER_LET_IN]


def pass_an_hour(site: Site, user: User) -> None:
    site.clock.advance(HOUR)


def import_again(site: Site, user: User) -> None:
    """A user with the same `sub` is another one: with other random generations."""
    accounts.delete(site.server.store, user)
    created = site.user("alice")
    accounts.delete(site.server.store, created)
    site.server.store.users.put(User(**{**vars(created), "sub": user.sub}))


@pytest.mark.parametrize("opened", [False, True], ids=["unopened", "opened"])
@pytest.mark.parametrize("end", [pass_an_hour, set_password, disable, delete, import_again])
def test_link_ends(
    site: Site, browser: Browser, alice: User, link: str, end: Callable[[Site, User], None], opened: bool
) -> None:
    page = open_link(browser, link) if opened else None
    end(site, alice)
    answer = browser.submit(page) if page else open_link(browser, link)
    assert_rejected(answer, "let_in_ended", ENDED, ASK)
    assert events.BROWSER_LET_IN not in {event.name for event in site.server.store.events.scan()}


def test_link_that_expires_before_it_is_written_makes_no_browser_known(
    site: Site, browser: Browser, link: str, wire: Wire
) -> None:
    page = open_link(browser, link)
    site.clock.advance(HOUR - 1)
    with wire.before("TransactWriteItems", lambda: site.server.store.attempts.delete(_key_of(site))):
        assert_rejected(browser.submit(page), "let_in_ended", ENDED)
    assert list(site.server.store.events.scan()) == []


def _key_of(site: Site) -> str:
    (record,) = site.server.store.let_in_links.scan()
    return record.attempts_id


def test_browser_that_was_let_in_is_unknown_after_a_new_password(
    site: Site, browsers: Browsers, browser: Browser, client: Registered, alice: User, link: str
) -> None:
    use_link(browser, link)
    lock_out(browsers, client)
    set_password(site, alice)
    assert sign_in_status(browser, client) == 429
    assert_rejected(open_link(browser, link), "let_in_ended", ENDED)


def test_password_that_changes_while_the_button_is_pressed_leaves_the_browser_unknown(
    site: Site, browsers: Browsers, browser: Browser, client: Registered, alice: User, link: str, wire: Wire
) -> None:
    lock_out(browsers, client)
    page = open_link(browser, link)
    with wire.before("TransactWriteItems", lambda: set_password(site, alice)):
        browser.send(page)
    assert sign_in_status(browser, client) == 429


@pytest.mark.parametrize("text", ["", "x", "let_", "let_AAAA", "br_x", None])
def test_forged_link_is_rejected_without_a_read(site: Site, browser: Browser, text: str | None, wire: Wire) -> None:
    with wire.counted() as calls:
        answer = browser.request("GET", PATH if text is None else f"{PATH}?link={text}")
    assert_rejected(answer, "let_in_ended", ENDED, ASK)
    assert calls == []


def test_changed_link_is_rejected(browser: Browser, link: str) -> None:
    for changed in (link[:-1], link[:-10], link.replace("let_", "let_A", 1), f"{link}A"):
        assert_rejected(open_link(browser, changed), "let_in_ended", ENDED, ASK)


# ---- forms


def test_form_of_another_browser_is_rejected_and_the_link_stays_valid(
    browsers: Browsers, browser: Browser, link: str
) -> None:
    other = browsers()
    page = open_link(browser, link)
    open_link(other, link)
    for sender in (other, browsers()):
        again = sender.submit(page)
        assert (again.status, "press the button again" in again.body) == (400, True)
    assert_known(browser.submit(page))


def test_button_shown_again_works_unless_the_browser_rejects_cookies(browser: Browser, link: str) -> None:
    page = open_link(browser, link)
    browser.cookies.clear()
    again = browser.submit(page)
    assert "allow cookies" in again.body
    browser.cookies.clear()
    again = browser.submit(again)
    assert again.status == 400
    assert_known(browser.submit(again))


def test_form_of_another_link_is_rejected(site: Site, browser: Browser, alice: User, link: str) -> None:
    page = open_link(browser, site.let_in_link(alice))
    assert browser.submit(page, link=handle_of(link)).status == 400
    assert_known(browser.submit(page))


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Origin": "null"}, True),
        ({}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "null"}, False),
        ({"Sec-Fetch-Site": "none", "Origin": "null"}, False),
        ({"Origin": "https://evil.example"}, False),
    ],
)
def test_form_is_accepted_from_our_page_only(
    browser: Browser, link: str, headers: dict[str, str], accepted: bool
) -> None:
    """A page without a referrer sends `Origin: null`, which is all that older browsers say."""
    page = open_link(browser, link)
    answer = browser.follow(browser.post(PATH, page.form.fields, headers))
    if accepted:
        assert_known(answer)
    else:
        assert_rejected(answer, "wrong_site")


# ---- the link stays secret


def test_no_response_lets_the_browser_tell_the_link_to_another_page(
    site: Site, browsers: Browsers, browser: Browser, link: str, wire: Wire
) -> None:
    page = open_link(browser, link)
    answers = [page, browser.send(page), open_link(browser, link), open_link(browsers(), link)]
    answers += [open_link(browser, f"{link}A"), browsers().submit(page), browser.get(PATH)]
    assert [answer.status for answer in answers] == [200, 303, 200, 400, 400, 400, 400]
    for answer in answers:
        assert [value for name, value in answer.headers if name.lower() == "referrer-policy"] == ["no-referrer"]
        assert answer.header("cache-control") == "no-store"


def test_link_is_in_no_log_line_and_no_event(
    site: Site, browser: Browser, link: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "signet"):
        use_link(browser, link)
        open_link(browser, link)
        open_link(browser, f"{link}A")
    lines: list[dict[str, Any]] = [json.loads(record.getMessage()) for record in caplog.records]
    assert [line["path"] for line in lines if "path" in line] == [PATH] * 5
    text = json.dumps(lines) + dump_tables()
    assert handle_of(link) not in text
    assert handle_of(link)[-20:] not in text
