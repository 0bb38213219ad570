"""Signing in with the code or the link of an email: what it does, when it ends, and what it tells."""

import json
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from chalicelib import events
from chalicelib.mail import proof_codes
from chalicelib.protocol.authentication_context import PASSWORD as ONE_FACTOR
from chalicelib.protocol.authentication_context import REFEDS_MFA
from chalicelib.protocol.durations import HOUR, MINUTE
from chalicelib.protocol.next_step import WRONG_USER
from chalicelib.protocol.proof import SIGN_IN
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from tests.endpoints.email_sign_in.flow import ask, email_site, enter, is_code_form, is_password_form
from tests.support.account import is_signed_in, open_sign_in, sign_in_to_account, submit_action
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.mail_flows import (
    ADDRESS,
    NEW_PASSWORD,
    WITHOUT_MAIL,
    create_users_without_mail,
    link_in,
    mask_ids,
    open_link,
    receive,
    verified_user,
)
from tests.support.mailbox import SENDER, Mailbox, ReceivedMail
from tests.support.second_factor import add_second_factor, is_code_page
from tests.support.site import PASSWORD, Registered, Site, dump_tables
from tests.support.threads import run_concurrently
from tests.support.user_changes import change_address, delete, disable, set_password

Browsers = Callable[..., Browser]
ENDED = "The code has expired, was used, or was replaced"
WRONG = "This is not the code from the newest email."
TOO_MANY = "There were too many wrong codes."


@pytest.fixture
def site(site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    return email_site(site_with)


@pytest.fixture(autouse=True)
def alice(site: Site) -> User:
    verified_user(site)
    return site.read_user()


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(trusted=True, scope="openid profile offline_access")


@pytest.fixture
def browser(site: Site, browsers: Browsers) -> Browser:
    return browsers(site)


def request_code(site: Site, browser: Browser, client: Registered, mailbox: Mailbox) -> tuple[Answer, ReceivedMail]:
    """Ask for a code on the sign-in page of a client; return the page that asks for it, and the email."""
    return ask(browser, browser.authorize(client)), receive(site, mailbox)


def events_of(site: Site) -> list[tuple[str, str | None]]:
    return [(event.name, event.detail) for event in site.server.store.events.scan()]


def sessions_of(site: Site) -> int:
    return len(list(site.server.store.sessions.scan()))


def assert_refused(page: Answer, text: str, status: int = 400) -> None:
    assert (page.status, text in unescape(page.body)) == (status, True), page.body


# ---- what it does


def test_code_signs_in_and_the_tokens_and_the_history_say_how(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, alice: User
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    assert is_code_form(page)
    assert "Check your email" in page.body
    assert (mail.to, mail.code in mail.subject) == (ADDRESS, False)
    assert "127.0.0.1" in mail.text, "it says where it was asked for"
    answer = enter(browser, page, f" {mail.code[:4].lower()}-{mail.code[4:]} ")
    tokens = browser.redeem(client, answer.code).json
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["amr"], claims["acr"]) == (alice.sub, ["otp"], ONE_FACTOR)
    assert (events.SIGN_IN, events.BY_EMAIL_CODE) in events_of(site)
    assert "Signed in with a code from an email" in browser.get("/account/activity").body
    (grant,) = site.server.store.grants.scan()
    assert grant.amr == ("otp",)


def test_link_in_the_browser_that_asked_signs_in_after_a_button(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    _, mail = request_code(site, browser, client, mailbox)
    page = open_link(browser, mail)
    assert "a•••@example.com" in page.body
    assert ADDRESS not in page.body
    assert "https:" in (page.header("content-security-policy") or ""), "the form may lead to the application"
    assert not is_signed_in(browser)
    answer = browser.submit(page)
    assert answer.code
    assert is_signed_in(browser)
    assert open_link(browser, mail).location.startswith("/oauth2/authorize?"), "it was used here"


def test_link_form_sent_twice_answers_twice_with_one_session(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    _, mail = request_code(site, browser, client, mailbox)
    page = open_link(browser, mail)
    assert [bool(browser.submit(page).code) for _ in range(2)] == [True, True]
    assert sessions_of(site) == 1


@pytest.mark.parametrize("typed", ["alice", " Alice ", ADDRESS, "ALICE@EXAMPLE.COM"])
def test_username_and_verified_address_get_the_email(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, typed: str
) -> None:
    ask(browser, browser.authorize(client), typed)
    assert receive(site, mailbox).to == ADDRESS


def test_account_page_is_reached_by_a_code(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    page = ask(browser, open_sign_in(browser))
    browser.follow(enter(browser, page, receive(site, mailbox).code))
    assert is_signed_in(browser)


def long_request(browser: Browser, client: Registered) -> Answer:
    return browser.follow(browser.authorize(client, state="s" * 3000))


def longer_request(browser: Browser, client: Registered) -> Answer:
    return browser.follow(browser.authorize(client, state="s" * 3000, nonce="n" * 1500))


def posted_request(browser: Browser, client: Registered) -> Answer:
    from tests.support.browser import authorization_parameters

    return browser.follow(
        browser.post("/oauth2/authorize", authorization_parameters(client, login_hint="alice", state="s" * 3000))
    )


@pytest.mark.parametrize("start", [long_request, longer_request, posted_request])
@pytest.mark.parametrize("by_link", [False, True])
def test_nothing_of_the_pending_request_is_lost(
    site: Site,
    browser: Browser,
    client: Registered,
    mailbox: Mailbox,
    start: Callable[[Browser, Registered], Answer],
    by_link: bool,
) -> None:
    page = ask(browser, start(browser, client))
    mail = receive(site, mailbox)
    answer = browser.submit(open_link(browser, mail)) if by_link else enter(browser, page, mail.code)
    assert set(answer.answer["state"]) == {"s"}
    assert len(answer.answer["state"]) >= 3000


def test_username_is_kept_on_the_way_to_the_code_and_back(browser: Browser, client: Registered) -> None:
    page = ask(browser, browser.authorize(client), "Alice")
    assert "<bdi>Alice</bdi>" in page.body
    assert is_code_form(browser.get(urlsplit(page.url).path + "?" + urlsplit(page.url).query)), "it can be reloaded"
    back = browser.submit(page, use_password="yes")
    assert is_password_form(back)
    assert back.form.fields["username"] == "Alice"
    assert browser.sign_in(back).code


def test_choice_to_stay_signed_in_is_kept(site: Site, browser: Browser, client: Registered, mailbox: Mailbox) -> None:
    for keep in (False, True):
        browser.cookies.clear()
        values = {"username": "alice", "email_me": "yes"} | ({"keep": "on"} if keep else {})
        page = browser.submit(browser.authorize(client), None, **values)
        enter(browser, page, receive(site, mailbox).code)
        assert {session.kept for session in site.server.store.sessions.scan() if session.ended_at is None} >= {keep}


@pytest.mark.parametrize("parameters", [{"prompt": "login"}, {"max_age": "0"}, {"prompt": "select_account"}])
def test_request_that_needs_a_new_sign_in_is_satisfied_by_a_code(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, parameters: dict[str, str]
) -> None:
    sign_in_to_account(browser)
    site.clock.advance(HOUR)
    page = browser.authorize(client, **parameters)
    assert is_password_form(page)
    page = ask(browser, page)
    tokens = browser.redeem(client, enter(browser, page, receive(site, mailbox).code).code).json
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert (claims["auth_time"], claims["amr"]) == (site.clock(), ["otp"])
    assert sessions_of(site) == 1, "the session continues under a new cookie"


def test_code_of_another_user_than_the_application_asked_for_signs_no_one_in(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    verified_user(site, "bob", "bob@example.com")
    hint = browsers(site).tokens(client)["id_token"]
    browser.cookies.clear()
    page = ask(browser, browser.authorize(client, id_token_hint=hint), "bob")
    answer = enter(browser, page, receive(site, mailbox).code)
    assert answer.answer["error"] == "login_required"
    assert WRONG_USER.partition(",")[0] in answer.answer["error_description"]
    assert not is_signed_in(browser)


def test_login_hint_is_the_name_that_gets_the_email(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page = browser.authorize(client, login_hint="alice")
    browser.submit(page, email_me="yes")
    assert receive(site, mailbox).to == ADDRESS


def test_user_who_must_change_the_password_chooses_one_and_continues(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, alice: User
) -> None:
    """A mailbox is enough for a new password by a reset, too. The notice is sent in both cases."""
    site.server.store.users.put(replace(alice, password_change_required=True))
    page, mail = request_code(site, browser, client, mailbox)
    page = enter(browser, page, mail.code)
    assert "new_password" in page.form.fields
    answer = browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert answer.code
    assert not site.read_user().password_change_required
    assert [each.subject for each in mailbox.deliver(site)] == ["Your password was changed · Signet"]


def test_user_without_a_password_signs_in(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, alice: User
) -> None:
    site.server.store.users.put(replace(alice, password_hash=""))
    page, mail = request_code(site, browser, client, mailbox)
    assert enter(browser, page, mail.code).code


def test_browser_that_signed_in_by_a_code_is_not_kept_out_by_others_who_guess(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    enter(browser, page, mail.code)
    attacker = browsers(site)
    for _ in range(site.settings.sign_in_attempts + 1):
        attacker.sign_in(attacker.authorize(client), password="wrong")
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    assert browser.sign_in(browser.authorize(client)).code


# ---- the second factor, and what a request demands


def test_user_with_a_second_factor_must_prove_it_after_the_code(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    phone = add_second_factor(site)
    page, mail = request_code(site, browser, client, mailbox)
    page = enter(browser, page, mail.code)
    assert is_code_page(page)
    assert (sessions_of(site), is_signed_in(browser)) == (0, False)
    assert (events.SECOND_FACTOR_ASKED, events.BY_EMAIL_CODE) in events_of(site)
    tokens = browser.redeem(client, browser.submit(page, one_time_code=phone.code()).code).json
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert (claims["amr"], claims["acr"]) == (["otp", "mfa"], REFEDS_MFA)


def test_code_form_sent_twice_leads_to_the_second_factor_twice(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    add_second_factor(site)
    page, mail = request_code(site, browser, client, mailbox)
    assert [is_code_page(enter(browser, page, mail.code)) for _ in range(2)] == [True, True]


def test_second_factor_that_was_turned_on_after_the_email_is_asked_for(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    add_second_factor(site)
    assert is_code_page(enter(browser, page, mail.code))
    assert not is_signed_in(browser)


def test_required_second_factor_is_set_up_after_the_code(
    site_with: Callable[..., Site], browsers: Browsers, mailbox: Mailbox
) -> None:
    strict = email_site(site_with, mfa="required")
    browser, client = browsers(strict), strict.client(trusted=True)
    page = ask(browser, browser.authorize(client))
    page = enter(browser, page, receive(strict, mailbox).code)
    assert "set_up" in page.form.fields


def test_request_that_demands_a_passkey_is_not_answered_after_a_code(
    site_with: Callable[..., Site], browsers: Browsers, mailbox: Mailbox
) -> None:
    from tests.support.authenticator import passkey_site

    local = passkey_site(site_with, email_from=SENDER, email_code_sign_in=True)
    browser, client = browsers(local), local.client(trusted=True)
    claims = '{"id_token":{"acr":{"essential":true,"value":"phr"}}}'
    page = ask(browser, browser.authorize(client, claims=claims))
    answer = enter(browser, page, receive(local, mailbox).code)
    assert answer.answer["error"] == "unmet_authentication_requirements"


def test_request_that_demands_two_factors_is_not_answered_after_a_code(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    client = site.client(trusted=True, require_acr=REFEDS_MFA)
    page = ask(browser, browser.authorize(client))
    page = enter(browser, page, receive(site, mailbox).code)
    assert "set_up" in page.form.fields


# ---- accounts that may not


def test_account_that_its_user_has_deleted_is_offered_to_be_restored_and_not_signed_in(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    other = browsers(site)
    sign_in_to_account(other)
    page = other.get("/account/delete")
    other.submit(page, action="delete", password=PASSWORD)
    site.clock.advance(MINUTE)
    mailbox.deliver(site)
    assert site.read_user().deleted_at is not None
    page, mail = request_code(site, browser, client, mailbox)
    page = enter(browser, page, mail.code)
    assert urlsplit(page.url).path == "/account/restore"
    assert not is_signed_in(browser)
    assert site.read_user().deleted_at is not None


def pass_ten_minutes(site: Site, user: User) -> None:
    site.clock.advance(10 * MINUTE)


def sign_out_everywhere(site: Site, user: User) -> None:
    accounts.sign_out(site.server.store, user)


ENDINGS = [pass_ten_minutes, set_password, sign_out_everywhere, disable, delete, change_address]


@pytest.mark.parametrize("by_link", [False, True])
@pytest.mark.parametrize("end", ENDINGS)
def test_code_and_link_end(
    site: Site,
    browser: Browser,
    client: Registered,
    mailbox: Mailbox,
    end: Callable[[Site, User], None],
    by_link: bool,
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    opened = open_link(browser, mail)
    end(site, site.read_user())
    answer = browser.submit(opened) if by_link else enter(browser, page, mail.code)
    assert answer.status == 400
    assert not is_signed_in(browser)
    assert sessions_of(site) == 0


@pytest.mark.parametrize("end", [set_password, disable, change_address])
def test_user_that_is_changed_at_the_same_moment_is_not_signed_in(
    site: Site,
    browser: Browser,
    client: Registered,
    mailbox: Mailbox,
    wire: Wire,
    end: Callable[[Site, User], None],
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    with wire.before("TransactWriteItems", lambda: end(site, site.read_user())):
        answer = enter(browser, page, mail.code)
    assert answer.status in (400, 403)
    assert sessions_of(site) == 0


# ---- table of refusals


def newer_email(site: Site, browser: Browser, page: Answer, mail: ReceivedMail, mailbox: Mailbox) -> Answer:
    site.clock.advance(61)
    page = browser.submit(page, email_me="again")
    assert receive(site, mailbox).code != mail.code
    return enter(browser, page, mail.code)


def guessed(site: Site, browser: Browser, page: Answer, mail: ReceivedMail, mailbox: Mailbox) -> Answer:
    return enter(browser, page, "WRNG2345")


def guessed_five_times(site: Site, browser: Browser, page: Answer, mail: ReceivedMail, mailbox: Mailbox) -> Answer:
    answers = [enter(browser, page, "WRNG2345") for _ in range(5)]
    assert [TOO_MANY in answer.body for answer in answers] == [False] * 4 + [True]
    return enter(browser, page, mail.code)


def malformed(site: Site, browser: Browser, page: Answer, mail: ReceivedMail, mailbox: Mailbox) -> Answer:
    for text in ("", "1", "0" * 8, "x" * 5000, "☃" * 8):
        assert_refused(enter(browser, page, text), WRONG)
    (proof,) = site.server.store.proofs.scan()
    assert proof.tries == 0, "what no code can be is not counted"
    return enter(browser, page, "")


def spent_by_another_form(site: Site, browser: Browser, page: Answer, mail: ReceivedMail, mailbox: Mailbox) -> Answer:
    site.clock.advance(1)
    other_form = browser.get(urlsplit(page.url).path + "?" + urlsplit(page.url).query)
    enter(browser, page, mail.code)
    sign_out(browser)
    return enter(browser, other_form, mail.code)


def sign_out(browser: Browser) -> None:
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}


def code_for_a_reset(site: Site, browser: Browser, page: Answer, mail: ReceivedMail, mailbox: Mailbox) -> Answer:
    browser.submit(browser.get("/account/recover"), username="alice")
    return enter(browser, page, receive(site, mailbox).code)


REFUSALS = {
    "a code of before a newer email": (newer_email, WRONG),
    "a guessed code": (guessed, WRONG),
    "the right code after five wrong ones": (guessed_five_times, TOO_MANY),
    "what no code can be": (malformed, WRONG),
    "a code that was used": (spent_by_another_form, "already answered"),
    "a code for a new password": (code_for_a_reset, WRONG),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_code_is_refused(site: Site, browser: Browser, client: Registered, mailbox: Mailbox, case: str) -> None:
    refuse, text = REFUSALS[case]
    page, mail = request_code(site, browser, client, mailbox)
    before = sessions_of(site)
    answer = refuse(site, browser, page, mail, mailbox)
    assert_refused(answer, text)
    assert sessions_of(site) - before == (1 if case == "a code that was used" else 0)
    assert not is_signed_in(browser)


def test_page_after_too_many_wrong_codes_offers_the_password_and_a_new_email(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page, _ = request_code(site, browser, client, mailbox)
    for _ in range(5):
        answer = enter(browser, page, "WRNG2345")
    assert is_password_form(answer)
    page = ask(browser, answer)
    assert enter(browser, page, receive(site, mailbox).code).code


def test_code_of_another_browser_for_the_same_user_is_not_ended_by_a_newer_one(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    """A person who knows only the name must not end the emails of its user."""
    page, mail = request_code(site, browser, client, mailbox)
    request_code(site, browsers(site), client, mailbox)
    assert enter(browser, page, mail.code).code


def test_code_is_useless_in_another_browser(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    thief = browsers(site)
    own_page, own_mail = request_code(site, thief, client, mailbox)
    assert_refused(enter(thief, own_page, mail.code), WRONG)
    assert_refused(enter(thief, page, mail.code), "This page was out of date.")
    assert not is_signed_in(thief)
    assert own_mail.code != mail.code


def test_setting_that_was_turned_off_ends_all_codes(
    site: Site, site_with: Callable[..., Site], browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    client = site.client(trusted=True)
    page, mail = request_code(site, browser, client, mailbox)
    opened = open_link(browser, mail)
    off = browsers(site_with(email_from=SENDER))
    off.cookies = dict(browser.cookies)
    assert is_password_form(off.get(urlsplit(page.url).path + "?" + urlsplit(page.url).query))
    for answer in (enter(off, page, mail.code), off.submit(opened), off.submit(page, email_me="again")):
        assert is_password_form(answer) or answer.status == 400
    assert sessions_of(site) == 0
    assert mailbox.deliver(site) == []


# ---- scanners, and other browsers


def scan(scanner: Browser, mail: ReceivedMail) -> None:
    """Do what mail scanners do: HEAD, GET, and send every form, empty and filled in."""
    scanner.request("HEAD", mail.link)
    for values in ({}, {"code": "AAAAAAAA"}, {"email_code": "AAAAAAAA"}, {"tag": "x"}):
        page = open_link(scanner, mail)
        assert page.status == 200
        if page.form.action:
            scanner.submit(page, None, **values)
        scanner.post("/account/link", {"link": mail.link.partition("link=")[2], **values}, {"Origin": "null"})


def test_scanner_that_opens_the_link_and_sends_every_form_consumes_nothing(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    scanner = browsers(site)
    scan(scanner, mail)
    assert not is_signed_in(scanner)
    assert enter(browser, page, mail.code).code


def test_link_in_another_browser_has_no_form_and_no_code(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    _, mail = request_code(site, browser, client, mailbox)
    page = open_link(browsers(site), mail)
    assert (page.status, page.form.action) == (200, None)
    assert "Enter the code from the email there." in page.body
    assert mail.code not in page.body.replace("-", "")
    assert ADDRESS not in page.body


def test_opening_the_link_or_the_page_of_the_code_writes_nothing(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    before = dump_tables()
    for other in (browser, browsers(site)):
        assert other.request("HEAD", mail.link).status == 200
        assert open_link(other, mail).status == 200
    assert is_code_form(browser.get(urlsplit(page.url).path + "?" + urlsplit(page.url).query))
    assert dump_tables() == before


def test_page_for_other_emails_does_not_take_the_code_of_a_sign_in(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    _, mail = request_code(site, browser, client, mailbox)
    (proof,) = site.server.store.proofs.scan()
    assert proof.purpose == SIGN_IN
    assert browser.get("/account/link", proof=proof.proof_id).location.startswith("/oauth2/authorize?")
    form = open_link(browser, mail).form.fields
    for fields in ({"proof": proof.proof_id, "tag": form["tag"]}, {"proof": proof.proof_id}):
        answer = browser.post("/account/link", {**fields, "code": mail.code}, {"Sec-Fetch-Site": "same-origin"})
        assert answer.status in (303, 400)
    assert sessions_of(site) == 0


def test_link_of_an_answered_request_says_so(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    opened = open_link(browser, mail)
    assert browser.sign_in(browser.submit(page, use_password="yes")).code
    assert open_link(browser, mail).status == 400
    assert browser.submit(opened).status == 400


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_form_of_another_site_asks_for_nothing(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, headers: dict[str, str]
) -> None:
    page = browser.authorize(client)
    sent = {"Sec-Fetch-Site": "cross-site", **headers}
    assert browser.send(page, sent, username="alice", email_me="yes").status == 400
    assert mailbox.deliver(site) == []
    assert list(site.server.store.requests.scan()) == []


# ---- nothing tells whether an account exists


OTHERS = WITHOUT_MAIL | {"a user with a second factor": "erin", "a user who has deleted the account": "frank"}


@pytest.fixture
def other_users(site: Site) -> None:
    create_users_without_mail(site)
    for name in ("erin", "frank"):
        verified_user(site, name, f"{name}@example.com")
    add_second_factor(site, "erin")
    now = site.clock()
    site.server.store.users.put(replace(site.read_user("frank"), deleted_at=now, deletion_due_at=now + 9 * HOUR))


@pytest.mark.parametrize("typed", OTHERS.values(), ids=OTHERS)
def test_pages_and_calls_are_the_same_for_every_name(
    site: Site, browsers: Browsers, client: Registered, other_users: None, wire: Wire, typed: str
) -> None:
    shapes: list[list[list[str]]] = []
    texts: list[list[str]] = []
    existing = ADDRESS if "@" in typed and " " not in typed else "alice"
    for name in (existing, typed):
        browser = browsers(site)
        form = browser.authorize(client)
        calls_of, pages_of = [], []
        with wire.counted() as calls:
            answer = browser.send(form, username=name, email_me="yes")
        calls_of.append(list(calls))
        with wire.counted() as calls:
            page = browser.follow(answer)
        calls_of.append(list(calls))
        pages_of.append(page.body)
        for _ in range(6):
            with wire.counted() as calls:
                answer = browser.send(page, email_code="WRNG2345")
            calls_of.append(list(calls))
            pages_of.append(browser.follow(answer).body)
        shapes.append(calls_of)
        texts.append([masked(body, name) for body in pages_of])
    assert shapes[0] == shapes[1]
    assert texts[0] == texts[1]


def masked(body: str, name: str) -> str:
    """Return a page without the name that was typed, and without the values of its fields and addresses."""
    body = mask_ids(body.replace(f"<bdi>{name[:320]}</bdi>", "X"))
    return "".join(part.partition('"')[2] if number else part for number, part in enumerate(body.split('="')))


def test_code_of_a_decoy_is_never_right(site: Site, browser: Browser, client: Registered) -> None:
    page = ask(browser, browser.authorize(client), "nobody")
    (proof,) = site.server.store.proofs.scan()
    assert_refused(enter(browser, page, proof_codes.code_of(site.server, proof.proof_id, SIGN_IN)), WRONG)


@pytest.mark.parametrize("typed", ["", " ", "​"])
def test_empty_name_is_asked_for_and_costs_no_email(
    site: Site, browser: Browser, client: Registered, typed: str
) -> None:
    page = browser.submit(browser.authorize(client), username=typed, email_me="yes")
    assert_refused(page, "Enter your username or your email address")
    assert is_password_form(page)
    assert list(site.server.store.proofs.scan()) == []


# ---- limits


def test_address_gets_three_emails_in_a_quarter_of_an_hour_and_the_page_does_not_tell(
    site: Site, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    site.clock.advance(15 * MINUTE - site.clock() % (15 * MINUTE))
    pages = []
    for _ in range(5):
        browser = browsers(site)
        pages.append(ask(browser, browser.authorize(client)))
    assert all(map(is_code_form, pages))
    assert len({masked(page.body, "alice") for page in pages}) == 1
    assert len(mailbox.deliver(site)) == 3


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_caller_beyond_twenty_emails_in_an_hour_is_told_and_nothing_is_written(
    site: Site, browsers: Browsers, client: Registered, wire: Wire, name: str
) -> None:
    site.clock.advance(HOUR - site.clock() % HOUR)
    for number in range(20):
        browser = browsers(site)
        ask(browser, browser.authorize(client), f"user{number}")
    browser = browsers(site)
    page = browser.authorize(client)
    before = dump_tables()
    with wire.counted() as calls:
        answer = browser.send(page, username=name, email_me="yes")
    assert calls == ["BatchGetItem", "GetItem", "UpdateItem"]
    assert dump_tables() == before
    page = browser.follow(answer)
    assert_refused(page, "Too many emails were asked for from your network.", 429)
    assert page.header("retry-after") == str(HOUR - site.clock() % HOUR)
    assert is_password_form(page)
    assert page.form.fields["username"] == name
    assert browser.sign_in(page).code if name == "alice" else True


# ---- the same button twice, and races


def test_button_pressed_twice_asks_for_one_email(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    form = browser.authorize(client)
    first, second = ask(browser, form), ask(browser, form)
    assert first.url == second.url
    mail = receive(site, mailbox)
    site.clock.advance(61)
    third = ask(browser, form)
    assert receive(site, mailbox).code != mail.code
    assert is_code_form(third)


def test_button_pressed_twice_at_once_asks_for_one_email(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    form = browser.authorize(client)
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: ask(tab, form), skip=1):
        page = ask(browser, form)
    assert is_code_form(page)
    assert enter(browser, page, receive(site, mailbox).code).code


def test_code_form_sent_twice_is_one_sign_in_and_answers_twice(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    codes = [enter(browser, page, mail.code).code for _ in range(2)]
    assert len(set(codes)) == 2
    assert sessions_of(site) == 1
    assert [name for name, _ in events_of(site)].count(events.SIGN_IN) == 1


def test_code_form_sent_twice_at_once_is_one_sign_in(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: enter(tab, page, mail.code)):
        answer = enter(browser, page, mail.code)
    assert answer.code
    assert sessions_of(site) == 1
    assert [name for name, _ in events_of(site)].count(events.SIGN_IN) == 1


def test_fifty_threads_that_enter_one_code_start_one_session(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    tabs = [browsers(tab_of=browser) for _ in range(50)]
    run_concurrently([lambda tab=tab: enter(tab, page, mail.code) for tab in tabs])  # type: ignore[misc]
    assert sessions_of(site) == 1
    assert [name for name, _ in events_of(site)].count(events.SIGN_IN) == 1


def test_code_and_link_used_at_once_start_one_session(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    opened, tab = open_link(browser, mail), browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: tab.submit(opened)):
        enter(browser, page, mail.code)
    assert sessions_of(site) == 1
    assert [name for name, _ in events_of(site)].count(events.SIGN_IN) == 1


def test_parallel_guesses_get_no_further_than_five(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page, _ = request_code(site, browser, client, mailbox)
    tabs = [browsers(tab_of=browser) for _ in range(12)]
    run_concurrently([lambda tab=tab: enter(tab, page, "WRNG2345") for tab in tabs])  # type: ignore[misc]
    (proof,) = site.server.store.proofs.scan()
    assert proof.tries == 5


# ---- the log


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_log_says_that_a_code_was_asked_for_and_for_whom_if_it_is_sent(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture, name: str, alice: User
) -> None:
    ask(browser, browser.authorize(client), name)
    logged = [json.loads(record.getMessage()) for record in caplog.records]
    (event,) = [record for record in logged if record.get("event") == events.SIGN_IN_CODE_REQUESTED]
    assert event.get("sub") == (alice.sub if name == "alice" else None)


# ---- where it is offered


def test_sign_in_page_offers_it_only_where_it_is_on_and_email_can_be_sent(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered
) -> None:
    for settings, offered in (
        ({"email_from": SENDER, "email_code_sign_in": True}, True),
        ({"email_from": SENDER}, False),
        ({"email_code_sign_in": True}, False),
    ):
        page = browsers(site_with(**settings)).authorize(client)
        assert ("Email me a code" in page.body) == offered


def test_server_where_it_is_off_sends_nothing(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    off = site_with(email_from=SENDER)
    browser = browsers(off)
    page = browser.submit(browser.authorize(client), username="alice", email_me="yes")
    assert is_password_form(page)
    assert mailbox.deliver(off) == []
    assert list(off.server.store.proofs.scan()) == []


def test_link_to_create_an_account_stays_and_prompt_create_reaches_the_code(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    both = email_site(site_with, sign_up=True)
    browser = browsers(both)
    sign_up = browser.follow(browser.authorize(client, prompt="create"))
    page = ask(browser, browser.get(link_in(sign_up, "/oauth2/authorize")))
    assert is_code_form(page)
    assert enter(browser, page, receive(both, mailbox).code).code


# ---- notices


def test_code_in_an_unknown_browser_is_told_by_mail_where_the_setting_says_so(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    noticing = email_site(site_with, sign_in_notice=True)
    browser = browsers(noticing)
    enter(browser, ask(browser, browser.authorize(client)), receive(noticing, mailbox).code)
    assert [mail.subject for mail in mailbox.deliver(noticing)] == ["New sign-in · Signet"]
    sign_out(browser)
    noticing.clock.advance(15 * MINUTE)
    enter(browser, ask(browser, browser.authorize(client)), receive(noticing, mailbox).code)
    assert mailbox.deliver(noticing) == [], "the browser is known"


def test_code_with_a_second_factor_is_told_once_that_is_proved(
    site_with: Callable[..., Site], browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    noticing = email_site(site_with, sign_in_notice=True)
    phone, browser = add_second_factor(noticing), browsers(noticing)
    page = enter(browser, ask(browser, browser.authorize(client)), receive(noticing, mailbox).code)
    assert mailbox.deliver(noticing) == []
    assert browser.submit(page, one_time_code=phone.code()).code
    assert [mail.subject for mail in mailbox.deliver(noticing)] == ["New sign-in · Signet"]


def test_mail_is_not_told_of_a_sign_in_by_default(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page, mail = request_code(site, browser, client, mailbox)
    enter(browser, page, mail.code)
    assert mailbox.deliver(site) == []


def test_session_by_code_does_not_change_the_password_without_the_old_one(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    page = ask(browser, open_sign_in(browser))
    browser.follow(enter(browser, page, receive(site, mailbox).code))
    new: dict[str, Any] = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    assert submit_action(browser, "change_password", password="", **new).status == 400
