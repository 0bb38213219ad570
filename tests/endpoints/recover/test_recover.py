"""A forgotten password: the email, its code and link, and the new password."""

from collections.abc import Callable
from contextlib import suppress
from html import unescape
from typing import Any

import pytest

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.mail import limits
from chalicelib.mail.proof_codes import code_of
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from chalicelib.protocol.errors import TooManyEmails
from chalicelib.protocol.proof import RESET
from chalicelib.protocol.records import User
from tests.support.account import is_signed_in, sign_in_to_account
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire, throttled
from tests.support.mail_flows import (
    ADDRESS,
    NEW_PASSWORD,
    WITHOUT_MAIL,
    ask,
    choose,
    create_users_without_mail,
    mask_ids,
    note_secrets,
    open_link,
    open_recovery,
    receive,
    signs_in,
    verified_user,
)
from tests.support.mailbox import SENDER, Mailbox
from tests.support.site import PASSWORD, Registered, Site, dump_tables
from tests.support.threads import run_concurrently
from tests.support.user_changes import change_address, delete, disable, set_password

ENDED = "The link or the code has expired"
Browsers = Callable[..., Browser]


@pytest.fixture
def site(mail_site: Site) -> Site:
    return mail_site


@pytest.fixture(autouse=True)
def alice(site: Site) -> User:
    verified_user(site)
    return site.read_user()


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(trusted=True)


@pytest.fixture
def browser(site: Site, browsers: Browsers) -> Browser:
    return browsers(site)


def assert_ended(answer: Answer, text: str = ENDED) -> None:
    assert answer.status == 400, answer.body
    assert '<code dir="ltr">email_link_ended</code>' in answer.body
    assert text in unescape(answer.body)
    assert 'href="/account/recover' in answer.body, "the page leads to a new email"


# ---- what it does


def test_user_who_forgot_the_password_chooses_a_new_one_by_the_code_and_continues_to_the_application(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page = browser.submit(open_recovery(browser, client), username="alice")
    assert "Check your email" in page.body
    mail = receive(site, mailbox)
    assert (mail.to, mail.code in mail.subject) == (ADDRESS, False)
    page = browser.submit(page, code=f" {mail.code[:4].lower()}-{mail.code[4:]} ")
    done = choose(browser, page)
    assert "Your password is changed" in done.body
    assert not is_signed_in(browser), "it signs no one in"
    address = done.body.partition('class="button primary" href="')[2].partition('"')[0].replace("&amp;", "&")
    answer = browser.sign_in(browser.get(address), password=NEW_PASSWORD)
    assert answer.code
    assert not signs_in(browser, client, "alice", PASSWORD)


def test_link_in_the_browser_that_asked_needs_no_code(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    assert page.form.fields["username"] == "alice"
    assert "Your password is changed" in choose(browser, page).body


@pytest.mark.parametrize("typed", ["alice", " Alice ", ADDRESS, "ALICE@EXAMPLE.COM"])
def test_username_and_verified_address_in_any_case_get_the_email(
    site: Site, browser: Browser, mailbox: Mailbox, typed: str
) -> None:
    ask(browser, typed)
    assert receive(site, mailbox).to == ADDRESS


def test_new_password_ends_all_sessions_and_grants_and_is_told_by_mail_and_in_the_history(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    other = browsers(site)
    tokens = other.tokens(client, scope="openid offline_access")
    assert is_signed_in(other)
    ask(browser)
    choose(browser, open_link(browser, receive(site, mailbox)))
    assert not is_signed_in(other)
    assert other.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    (notice,) = mailbox.deliver(site)
    assert notice.subject == "Your password was changed · Signet"
    sign_in_to_account(other, password=NEW_PASSWORD)
    assert "Password reset by email" in other.get("/account/activity").body


def test_browser_that_reset_the_password_is_not_kept_out_by_others_who_guess(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    ask(browser)
    choose(browser, open_link(browser, receive(site, mailbox)))
    attacker = browsers(site)
    for _ in range(site.settings.sign_in_attempts + 1):
        attacker.sign_in(attacker.authorize(client), password="wrong")
    assert attacker.sign_in(attacker.authorize(client), password=NEW_PASSWORD).status == 429
    assert signs_in(browser, client, "alice", NEW_PASSWORD)


def test_user_without_a_password_gets_one(site: Site, browser: Browser, client: Registered, mailbox: Mailbox) -> None:
    user = site.read_user()
    site.server.store.users.put(User(**{**vars(user), "password_hash": "", "password_change_required": True}))
    ask(browser)
    choose(browser, open_link(browser, receive(site, mailbox)))
    assert signs_in(browser, client, "alice", NEW_PASSWORD)
    assert not site.read_user().password_change_required


def test_form_sent_twice_changes_the_password_once(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    first, second = choose(browser, page), choose(browser, page, "another password for her")
    assert first.body == second.body
    assert [event.name for event in site.server.store.events.scan()] == [events.PASSWORD_RESET]


def test_form_sent_twice_at_once_changes_the_password_once(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: choose(tab, page)):
        assert "Your password is changed" in choose(browser, page, "another password for her").body
    assert signs_in(browser, client, "alice", NEW_PASSWORD)


def test_two_proofs_spent_at_once_have_one_winner(
    site: Site, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    browser = browsers(site)
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    tabs = [browsers(tab_of=browser) for _ in range(4)]  # with five wrong passwords, the right one must wait
    passwords = [f"a long new password {number}" for number in range(4)]
    run_concurrently(
        [
            lambda tab=tab, password=password: choose(tab, page, password)  # type: ignore[misc]
            for tab, password in zip(tabs, passwords, strict=True)
        ]
    )
    assert sum(signs_in(browsers(site), client, "alice", password) for password in passwords) == 1
    assert site.read_user().password_generation != 0
    assert [event.name for event in site.server.store.events.scan()].count(events.PASSWORD_RESET) == 1


def test_sign_in_with_the_old_password_that_a_reset_overtakes_starts_no_session(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    other = browsers(site)
    sign_in = other.authorize(client)
    with wire.before("TransactWriteItems", lambda: choose(browser, page), skip=1):
        other.send(sign_in, username="alice", password=PASSWORD)
    assert not is_signed_in(other)


def test_new_hash_of_the_old_password_does_not_end_the_reset(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    user = site.read_user()

    def rehash() -> None:
        site.server.store.users.put(User(**{**vars(user), "password_hash": user.password_hash + "x"}))

    with wire.before("TransactWriteItems", rehash):
        assert "Your password is changed" in choose(browser, page).body
    assert signs_in(browser, client, "alice", NEW_PASSWORD)


@pytest.mark.parametrize(
    ("password", "again", "text"),
    [
        ("short", "short", "at least 12 characters"),
        (NEW_PASSWORD, NEW_PASSWORD + "x", "The two entries differ."),
        ("password12345", "password12345", "most common"),
        (ADDRESS, ADDRESS, "must not be your email address"),
        ("", "", "at least 12 characters"),
    ],
)
def test_password_that_breaks_the_rules_is_rejected_and_the_link_stays_valid(
    site: Site, browser: Browser, mailbox: Mailbox, password: str, again: str, text: str
) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    answer = browser.submit(page, new_password=password, new_password_again=again)
    assert (answer.status, text in unescape(answer.body).lower() or text in unescape(answer.body)) == (400, True)
    assert "Your password is changed" in choose(browser, answer).body


# ---- other browsers, forwarded mails and scanners


def test_link_in_another_browser_asks_for_the_code(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    first = ask(browser)
    mail = receive(site, mailbox)
    other = browsers(site)
    page = open_link(other, mail)
    assert "another browser" in page.body
    assert "a•••@example.com" in page.body
    assert ADDRESS not in page.body
    assert mail.code not in page.body.replace("-", "")
    assert browser.submit(first, code="WRNG2345").status == 400
    done = choose(other, other.submit(page, code=mail.code))
    assert "Your password is changed" in done.body
    assert signs_in(other, client, "alice", NEW_PASSWORD)
    assert_ended(open_link(browser, mail))


def test_new_password_sent_from_another_browser_is_not_taken(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    ask(browser)
    page = open_link(other := browsers(site), receive(site, mailbox))
    answer = other.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert "Enter the code" in answer.body
    assert signs_in(browser, client, "alice", PASSWORD)


def scan(scanner: Browser, mail: Any) -> None:
    """Do what mail scanners do: HEAD, GET, and send every form, empty and filled in."""
    scanner.request("HEAD", mail.link)
    for _ in range(3):
        page = open_link(scanner, mail)
        assert page.status == 200
    junk = {"code": "aaaaaaaa", "new_password": "junk of a scanner 1", "new_password_again": "junk of a scanner 1"}
    for values in ({}, {"code": ""}, {"new_password": "x"}, *[junk] * 6, {"username": "x", **junk}):
        page = open_link(scanner, mail)
        if page.status == 200:
            scanner.submit(page, None, **values)


def test_scanner_that_opens_the_link_and_sends_every_form_consumes_nothing(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page = ask(browser)
    mail = receive(site, mailbox)
    scan(browsers(site), mail)
    assert signs_in(browsers(site), client, "alice", PASSWORD)
    assert "Your password is changed" in choose(browser, browser.submit(page, code=mail.code)).body
    assert signs_in(browser, client, "alice", NEW_PASSWORD)


def test_opening_the_link_writes_nothing(site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox) -> None:
    ask(browser)
    mail = receive(site, mailbox)
    before = dump_tables()
    for other in (browser, browsers(site), browsers(site)):
        assert other.request("HEAD", mail.link).status == 200
        assert open_link(other, mail).status == 200
    assert dump_tables() == before


def test_code_cannot_be_typed_in_a_browser_that_has_neither_asked_nor_the_link(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    page, other = ask(browser), browsers(site)
    mail = receive(site, mailbox)
    assert_ended(other.get("/account/link", proof=page.form.fields["proof"]))
    open_link(other, mail)  # has a cookie now
    assert_ended(other.post("/account/link", {**page.form.fields, "code": mail.code}))


# ---- when the link and the code end


def test_five_wrong_codes_end_the_code(site: Site, browser: Browser, client: Registered, mailbox: Mailbox) -> None:
    page = browser.submit(open_recovery(browser, client), username="alice")
    mail = receive(site, mailbox)
    for _ in range(4):
        answer = browser.submit(page, code="WRNG2345")
        assert (answer.status, "This is not the code" in answer.body) == (400, True)
    assert_ended(browser.submit(page, code="WRNG2345"), "There were too many wrong codes.")
    answer = browser.submit(page, code=mail.code)
    assert_ended(answer, "There were too many wrong codes.")
    assert f"client_id={client.id}" in answer.body, "a new email leads back to the application too"


def test_codes_that_are_typed_with_the_link_elsewhere_share_twenty_tries_and_leave_those_of_the_browser_that_asked(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page = ask(browser)
    mail = receive(site, mailbox)
    elsewhere = [browsers(site) for _ in range(2)]
    pages = [open_link(other, mail) for other in elsewhere]
    for n in range(19):
        answer = elsewhere[n % 2].submit(pages[n % 2], code="WRNG2345")
        assert (answer.status, "This is not the code" in answer.body) == (400, True)
    assert_ended(elsewhere[1].submit(pages[1], code="WRNG2345"), "There were too many wrong codes.")
    assert_ended(elsewhere[0].submit(pages[0], code=mail.code), "There were too many wrong codes.")
    for _ in range(4):
        assert browser.submit(page, code="WRNG2345").status == 400
    done = choose(browser, browser.submit(page, code=mail.code))
    assert "Your password is changed" in done.body
    assert signs_in(browser, client, "alice", NEW_PASSWORD)


def test_parallel_tries_of_codes_get_no_further(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    page = ask(browser)
    receive(site, mailbox)
    tabs = [browsers(tab_of=browser) for _ in range(12)]
    answers: list[Answer] = []
    run_concurrently(
        [
            lambda tab=tab: answers.append(tab.submit(page, code="WRNG2345"))  # type: ignore[misc]
            for tab in tabs
        ]
    )
    assert sum("This is not the code" in answer.body for answer in answers) == 4
    (proof,) = site.server.store.proofs.scan()
    assert proof.tries == 5


def pass_half_an_hour(site: Site, user: User) -> None:
    site.clock.advance(30 * MINUTE)


@pytest.mark.parametrize("opened", [False, True], ids=["unopened", "opened"])
@pytest.mark.parametrize("end", [pass_half_an_hour, set_password, disable, delete, change_address])
def test_link_ends(
    site: Site, browser: Browser, mailbox: Mailbox, end: Callable[[Site, User], None], opened: bool
) -> None:
    ask(browser)
    mail = receive(site, mailbox)
    page = open_link(browser, mail) if opened else None
    end(site, site.read_user())
    assert_ended(choose(browser, page) if page else open_link(browser, mail))
    assert events.PASSWORD_RESET not in {event.name for event in site.server.store.events.scan()}


def test_each_email_is_valid_until_one_of_them_is_used(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    """Each by its own code. The email that another browser has asked for ends none of this one."""
    other = browsers(site)
    waiting = [(browser, ask(browser, ADDRESS)), (browser, ask(browser, "alice")), (other, ask(other, "alice"))]
    mails = [note_secrets(site, mail) for mail in mailbox.deliver(site)]
    choices = []
    for tab, page in waiting:
        proof_id = page.form.fields["proof"]
        mail = next(mail for mail in mails if mail.code == code_of(site.server, proof_id, RESET))
        wrong = next(mail for mail in mails if mail.code != code_of(site.server, proof_id, RESET))
        assert "This is not the code" in tab.submit(page, code=wrong.code).body
        choices.append((tab, tab.submit(page, code=mail.code), mail))
    (first, choice, _), *unused = choices
    assert "Your password is changed" in choose(first, choice).body
    for tab, choice, mail in unused:
        assert_ended(choose(tab, choice, "another password for her"))
        assert_ended(open_link(tab, mail))
    assert [event.name for event in site.server.store.events.scan()] == [events.PASSWORD_RESET]


def test_only_as_many_codes_are_right_as_emails_were_sent(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    """So the guesses at an account are limited by its emails, with five tries for each."""
    begin_a_day(site)
    pages = [ask(browser, "alice" if number % 2 else ADDRESS) for number in range(12)]
    right = 0
    for page in pages:
        code = code_of(site.server, page.form.fields["proof"], RESET)
        right += "new_password" in browser.submit(page, code=code).form.fields
    assert right == len(mailbox.deliver(site)) == 3


def test_used_link_tells_only_the_browser_that_used_it(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    ask(browser)
    mail = receive(site, mailbox)
    choose(browser, open_link(browser, mail))
    assert "Your password is changed" in open_link(browser, mail).body
    assert_ended(open_link(browsers(site), mail))
    site.clock.advance(HOUR)
    assert_ended(open_link(browser, mail))


@pytest.mark.parametrize("text", ["", "x", "em_", "em_AAAA", "let_x", None])
def test_forged_link_is_rejected_without_a_read(site: Site, browser: Browser, text: str | None, wire: Wire) -> None:
    with wire.counted() as calls:
        answer = browser.request("GET", "/account/link" if text is None else f"/account/link?link={text}")
    assert (answer.status, "email_link_ended" in answer.body) == (400, True)
    assert calls == []


# ---- nothing tells whether an account exists


@pytest.mark.parametrize("typed", WITHOUT_MAIL.values(), ids=WITHOUT_MAIL)
def test_answer_and_calls_are_the_same_where_no_email_is_sent(
    site: Site, browsers: Browsers, mailbox: Mailbox, wire: Wire, typed: str
) -> None:
    create_users_without_mail(site)
    shapes, pages = [], []
    existing = ADDRESS if typed.endswith("example.com") else "alice"
    for name in (existing, typed):
        browser = browsers(site)
        form = browser.get("/account/recover")
        with wire.counted() as calls:
            answer = browser.send(form, username=name)
        shapes.append(calls)
        pages.append(browser.follow(answer).body.replace(f"<bdi>{name[:320]}</bdi>", "X"))
    assert shapes[0] == shapes[1]
    assert mask_ids(pages[0]) == mask_ids(pages[1])
    assert [mail.to for mail in mailbox.deliver(site)] == [ADDRESS]
    assert [mail.to for mail in site.server.store.mails.scan() if mail.template] == []


def test_code_of_a_decoy_is_never_right(site: Site, browser: Browser) -> None:
    page = ask(browser, "nobody")
    code = code_of(site.server, page.form.fields["proof"], RESET)
    assert "This is not the code" in browser.submit(page, code=code).body


# ---- limits


def test_address_gets_three_emails_in_a_quarter_of_an_hour_and_others_do_not_suffer(
    site: Site, browsers: Browsers, mailbox: Mailbox
) -> None:
    verified_user(site, "bob", "bob@example.com")
    for number in range(12):
        ask(browsers(site), "alice" if number % 2 else ADDRESS)
    assert len(mailbox.deliver(site)) == 3
    ask(browsers(site), "bob")
    assert [mail.to for mail in mailbox.deliver(site)] == ["bob@example.com"]
    site.clock.advance(15 * MINUTE)
    ask(browsers(site))
    assert len(mailbox.deliver(site)) == 1


def test_email_beyond_the_limit_does_not_end_the_one_that_was_sent(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    for _ in range(3):
        page = ask(browser)
        mail = receive(site, mailbox)
    for _ in range(3):
        ask(browsers(site))
    assert "Your password is changed" in choose(browser, browser.submit(page, code=mail.code)).body


def test_caller_gets_twenty_emails_in_an_hour_for_whatever_addresses(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    begin_a_day(site)
    for number in range(25):
        verified_user(site, f"user{number}", f"user{number}@example.com")
        ask(browser, f"user{number}")
    assert len(mailbox.deliver(site)) == 20


@pytest.mark.parametrize("name", ["alice", ADDRESS, "nobody", "nobody@example.com"])
def test_caller_beyond_the_limit_is_told_before_anything_is_written(
    site: Site, browser: Browser, client: Registered, wire: Wire, name: str
) -> None:
    begin_a_day(site)
    for number in range(20):
        ask(browser, f"user{number}")
    page = open_recovery(browser, client)
    before = dump_tables()
    with wire.counted() as calls:
        answer = browser.send(page, username=name)
    assert calls[1:] == ["GetItem", "UpdateItem"]
    assert dump_tables() == before
    assert (answer.status, answer.header("retry-after")) == (429, str(HOUR))
    assert "Too many emails were asked for from your network. Please try again in an hour." in answer.body
    assert answer.form.fields["username"] == name
    assert f"client_id={client.id}" in (answer.form.action or ""), "the request is kept"
    site.clock.advance(HOUR)
    assert "Check your email" in browser.submit(answer, username=name).body


def test_thousand_requests_for_one_address_send_ten_emails_in_a_day(site: Site) -> None:
    """From as many callers, so that their own limit does not count."""
    begin_a_day(site)
    admitted = 0
    for number in range(1000):
        caller = Request("POST", "/account/recover", source_ip=f"198.51.{number // 250}.{number % 250}")
        admitted += limits.admit(site.server, caller, f"email:{ADDRESS}")
        if number % 100 == 99:
            site.clock.advance(15 * MINUTE)
    assert admitted == 10


def test_thousand_addresses_asked_for_by_one_caller_get_twenty_emails_in_an_hour(site: Site) -> None:
    begin_a_day(site)
    caller = Request("POST", "/account/recover", source_ip="192.0.2.1")
    admitted = 0
    for number in range(1000):
        with suppress(TooManyEmails):
            admitted += limits.admit(site.server, caller, f"email:user{number}@example.com")
    assert admitted == 20


def begin_a_day(site: Site) -> None:
    """Let the clock stand at the beginning of a day, so that no period ends by chance."""
    site.clock.advance(DAY - site.clock() % DAY)


# ---- the pages


def test_link_is_on_the_sign_in_page_only_where_email_can_be_sent(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered
) -> None:
    support = "https://support.example.com/"
    for settings, recover, asks_support in (
        ({"email_from": SENDER}, True, False),
        ({"support_url": support}, False, True),
        ({}, False, False),
    ):
        page = browsers(site_with(**settings)).authorize(client)
        assert ("/account/recover" in page.body) == recover
        assert ("Forgot your password? Ask support" in page.body) == asks_support


def test_server_without_a_sender_has_no_such_page(site_with: Callable[..., Site], browsers: Browsers) -> None:
    browser = browsers(site_with())
    assert browser.get("/account/recover").status == 404
    assert browser.post("/account/recover", {"username": "alice"}).status == 404


def test_form_of_another_browser_or_an_empty_one_sends_no_email(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    page = browser.get("/account/recover")
    assert browsers(site).submit(page, username="alice").status == 400
    assert browser.submit(page, username="").status == 400
    assert browser.submit(page, username=" ").status == 400
    assert browser.send(page, {"Sec-Fetch-Site": "cross-site"}, username="alice").status == 400
    assert mailbox.deliver(site) == []
    assert list(site.server.store.proofs.scan()) == []


def test_page_of_a_request_that_is_too_long_to_keep_leads_to_the_account(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page = browser.get("/account/recover", client_id=client.id, state="x" * 2500)
    done = choose(browser, browser.submit(browser.submit(page, username="alice"), code=receive(site, mailbox).code))
    assert 'class="button primary" href="/account"' in done.body


def test_unavailable_database_changes_nothing_and_the_same_form_works_afterwards(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    form = browser.get("/account/recover")
    for operation in ("GetItem", "TransactWriteItems"):
        with wire.fault_in(operation, throttled, skip=1):
            assert browser.send(form, username="alice").status == 503, operation
    page = browser.submit(form, username="alice")
    mail = receive(site, mailbox)
    with wire.fault_in("UpdateItem", throttled):
        assert browser.send(page, code=mail.code).status == 503
    choice = browser.submit(page, code=mail.code)
    with wire.fault_in("TransactWriteItems", throttled):
        assert choose(browser, choice).status == 503
    assert signs_in(browser, client, "alice", PASSWORD)
    assert "Your password is changed" in choose(browser, choice).body


def test_tables_have_no_code_and_no_link(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    ask(browser)
    stored = dump_tables()
    mail = receive(site, mailbox)
    for secret in (mail.code, f"{mail.code[:4]}-{mail.code[4:]}", mail.link.partition("link=")[2]):
        assert secret not in stored
        assert secret not in dump_tables()
