"""New accounts: people who sign up themselves, and those whom the operator invites."""

from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib import events
from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.identifiers import email_identifier
from tests.support.account import is_signed_in, sign_in_to_account
from tests.support.assertions import key_client, signed
from tests.support.browser import Answer, Browser, authorization_parameters
from tests.support.faults import Wire, throttled
from tests.support.mail_flows import link_in, open_link, receive, signs_in, verified_user
from tests.support.mailbox import SENDER, Mailbox, ReceivedMail
from tests.support.operator import RunCommand, output_json
from tests.support.request_objects import authorize_signed, request_object
from tests.support.second_factor import add_second_factor, enter_password
from tests.support.site import Registered, Site, dump_tables
from tests.support.threads import run_concurrently

Browsers = Callable[..., Browser]
BOB = "bob@example.com"
PASSWORD = "eleven quiet rivers meet"
TERMS = "https://example.com/terms"


@pytest.fixture
def site(mail_site: Site) -> Site:
    """A server that can send mails, on which people sign up."""
    return mail_site


@pytest.fixture
def mail_site(site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    return site_with(email_from=SENDER, sign_up=True, sign_up_terms_url=TERMS)


@pytest.fixture
def browser(site: Site, browsers: Browsers) -> Browser:
    return browsers(site)


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(trusted=True, client_uri="https://print.example.com/home")


def ask(browser: Browser, email: str = BOB) -> Answer:
    """Ask for an account; return the page that asks for the code."""
    return browser.submit(browser.get("/account/sign-up"), email=email)


def create(browser: Browser, page: Answer, username: str = BOB, password: str = PASSWORD) -> Answer:
    """Send the form that creates the account; return the page that follows."""
    return browser.submit(page, username=username, new_password=password, new_password_again=password)


def usernames(site: Site) -> list[str]:
    return sorted(user.username for user in site.server.store.users.scan())


# ---- sign up


def test_person_signs_up_from_an_application_and_continues_to_it(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page = browser.get(link_in(browser.authorize(client), "/account/sign-up"))
    page = browser.submit(page, email=BOB)
    mail = receive(site, mailbox)
    assert usernames(site) == [], "no user before the address is proved"
    page = browser.submit(page, code=mail.code)
    assert page.form.fields["username"] == BOB
    assert f'href="{TERMS}"' in page.body
    done = create(browser, page, "bob")
    assert not is_signed_in(browser)
    start = link_in(done, "/oauth2/authorize")
    assert browser.sign_in(browser.get(start), BOB, PASSWORD).code
    user = site.read_user("bob")
    assert (user.claims["email"], user.claims["email_verified"], user.admin) == (BOB, True, False)
    assert "Account created" in browser.get("/account/activity").body


def test_link_in_the_browser_that_asked_needs_no_code(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    ask(browser)
    assert "Your account is created" in create(browser, open_link(browser, receive(site, mailbox))).body
    assert usernames(site) == [BOB]


def test_address_with_an_account_is_told_by_mail_only(
    site: Site, browsers: Browsers, mailbox: Mailbox, wire: Wire
) -> None:
    from chalicelib.mail import proof_codes

    verified_user(site)
    shapes, pages = [], []
    for email in ("free@example.com", "alice@example.com"):
        browser = browsers(site)
        form = browser.get("/account/sign-up")
        with wire.counted() as calls:
            answer = browser.send(form, email=email)
        page = browser.follow(answer)
        shapes.append(calls)
        hidden = (page.form.fields["proof"], page.form.fields["tag"], email)
        text = page.body
        for value in hidden:
            text = text.replace(value, "X")
        pages.append(text)
    assert shapes[0] == shapes[1]
    assert pages[0] == pages[1]
    code = proof_codes.code_of(site.server, page.form.fields["proof"], "signup")
    assert "This is not the code" in browser.submit(page, code=code).body
    texts = {mail.to: mail.text for mail in mailbox.deliver(site)}
    assert "There is one already" in texts["alice@example.com"]
    assert "account/link" not in texts["alice@example.com"]


def test_link_in_another_browser_asks_for_the_code(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    ask(browser)
    mail, other = receive(site, mailbox), browsers(site)
    page = open_link(other, mail)
    assert "another browser" in page.body
    answer = other.submit(page, username=BOB, new_password=PASSWORD, new_password_again=PASSWORD)
    assert "Enter the code" in answer.body
    assert usernames(site) == []
    assert "Your account is created" in create(other, other.submit(page, code=mail.code)).body


def scan(scanner: Browser, mail: ReceivedMail) -> None:
    """Open the link, and send its forms filled in, as programs that read messages do."""
    scanner.request("HEAD", mail.link)
    filled = {"username": "scanner", "new_password": PASSWORD, "new_password_again": PASSWORD}
    values: list[dict[str, str]] = [{}, filled, *[{"code": "aaaaaaaa", **filled}] * 6]
    for each in values:
        page = open_link(scanner, mail)
        assert page.status == 200
        scanner.submit(page, None, **each)


def test_scanner_creates_no_account_and_the_person_still_can(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    page = ask(browser)
    mail = receive(site, mailbox)
    scan(browsers(site), mail)
    assert usernames(site) == []
    assert "Your account is created" in create(browser, browser.submit(page, code=mail.code)).body


def test_form_sent_twice_at_once_creates_one_account(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox, wire: Wire
) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: create(tab, page)):
        assert "Your account is created" in create(browser, page).body
    assert "Your account is created" in create(browser, page).body
    assert usernames(site) == [BOB]
    assert [event.name for event in site.server.store.events.scan()] == [events.SIGNED_UP]


def test_two_people_who_choose_one_username_at_once_have_one_winner(
    site: Site, browsers: Browsers, mailbox: Mailbox
) -> None:
    ready = []
    for address in ("one@example.com", "two@example.com"):
        browser = browsers(site)
        ask(browser, address)
        ready.append((browser, open_link(browser, receive(site, mailbox))))
    bodies = run_concurrently([lambda b=b, p=p: create(b, p, "bob").body for b, p in ready])  # type: ignore[misc]
    assert sorted("Your account is created" in body for body in bodies) == [False, True]
    assert sum("This username is taken" in body for body in bodies) == 1
    assert usernames(site) == ["bob"]
    loser = next(entry for entry, body in zip(ready, bodies, strict=True) if "is taken" in body)
    assert "Your account is created" in create(*loser, "rob").body


@pytest.mark.parametrize(
    ("username", "password", "text"),
    [
        ("alice", PASSWORD, "This username is taken"),
        ("ALICE", PASSWORD, "This username is taken"),
        ("alice@example.com", PASSWORD, "Only your own email address"),
        ("mallory@victim.example", PASSWORD, "Only your own email address"),
        ("mallory\uff20victim.example", PASSWORD, "Enter an email address"),
        ("@", PASSWORD, "Enter an email address"),
        ("", PASSWORD, "1 to 200 printable characters"),
        ("x" * 201, PASSWORD, "1 to 200 printable characters"),
        ("bob", "short", "at least 12 characters"),
        ("bob", "bob@example.com1", "must not be your email address"),
        ("rivers meeting", "rivers meeting 1", "must not be your username"),
    ],
)
def test_unacceptable_username_or_password_is_told_and_the_form_works_again(
    site: Site, browser: Browser, mailbox: Mailbox, username: str, password: str, text: str
) -> None:
    verified_user(site)
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    answer = create(browser, page, username, password)
    shown = unescape(answer.body)
    assert (answer.status, text.lower() in shown.lower()) == (400, True), shown
    assert "Your account is created" in create(browser, answer).body


def test_address_that_another_account_confirms_in_between_cannot_be_used(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    ask(browser)
    page = open_link(browser, receive(site, mailbox))
    verified_user(site, "alice", BOB)
    assert "There is an account with your email address already" in create(browser, page).body
    assert usernames(site) == ["alice"]


def test_only_addresses_of_the_domains_in_the_settings_sign_up(
    site: Site, site_with: Callable[..., Site], browsers: Browsers, mailbox: Mailbox
) -> None:
    closed = site_with(email_from=SENDER, sign_up=True, sign_up_domains=("a.example", "b.example"))
    browser = browsers(closed)
    for email in (BOB, "bob@sub.a.example", "bob@a.example.com", "a.example", "bob@evil@b.examples"):
        answer = ask(browser, email)
        assert answer.status == 400, email
        assert (
            "Use an address at one of these domains: a.example, b.example." in answer.body
            or "Enter an email address" in answer.body
        )
    assert mailbox.deliver(closed) == []
    ask(browser, "bob@B.example")
    assert receive(closed, mailbox).to == "bob@b.example"


@pytest.mark.parametrize("settings", [{"email_from": SENDER}, {"sign_up": True}, {}])
def test_server_that_offers_no_sign_up_has_no_such_page(
    site: Site, site_with: Callable[..., Site], browsers: Browsers, settings: dict[str, Any]
) -> None:
    closed = site_with(**settings)
    browser, client = browsers(closed), site.client()
    assert browser.get("/account/sign-up").status == 404
    assert browser.post("/account/sign-up", {"email": BOB}).status == 404
    assert "sign-up" not in browser.authorize(client).body
    assert "create" not in browser.get("/.well-known/openid-configuration").json["prompt_values_supported"]
    assert browser.authorize(client, prompt="create").answer["error"] == "invalid_request"


def test_form_of_another_browser_sends_no_email(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    page = browser.get("/account/sign-up")
    assert browsers(site).submit(page, email=BOB).status == 400
    assert browser.send(page, {"Sec-Fetch-Site": "cross-site"}, email=BOB).status == 400
    assert mailbox.deliver(site) == []


def test_unavailable_database_creates_nothing_and_the_form_works_afterwards(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    form = browser.get("/account/sign-up")
    for skip in range(2):
        with wire.fault_in("TransactWriteItems", throttled, skip=skip):
            assert browser.send(form, email=BOB).status == 503
    page = browser.submit(browser.submit(form, email=BOB), code=receive(site, mailbox).code)
    with wire.fault_in("TransactWriteItems", throttled):
        assert create(browser, page).status == 503
    assert usernames(site) == []
    assert "Your account is created" in create(browser, page).body
    assert signs_in(browser, client, BOB, PASSWORD)


# ---- prompt=create


@pytest.mark.spec("OpenID Initiating User Registration 1.0")
def test_prompt_create_begins_with_the_sign_up_and_ends_at_the_application(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    assert "create" in browser.get("/.well-known/openid-configuration").json["prompt_values_supported"]
    page = browser.follow(browser.authorize(client, prompt="create"))
    assert "Create an account" in page.body
    page = browser.submit(browser.submit(page, email=BOB), code=receive(site, mailbox).code)
    start = link_in(create(browser, page), "/oauth2/authorize")
    wrong = browser.sign_in(browser.get(start), BOB, "wrong")
    assert "is not right" in wrong.body
    assert browser.sign_in(wrong, BOB, PASSWORD).code


def test_prompt_create_leads_to_the_sign_in_page_for_a_person_who_has_an_account(
    site: Site, browser: Browser, client: Registered
) -> None:
    verified_user(site)
    sign_in_to_account(browser)
    page = browser.follow(browser.authorize(client, prompt="create"))
    sign_in = browser.get(link_in(page, "/oauth2/authorize"))
    assert browser.sign_in(sign_in).code


@pytest.mark.parametrize("how", ["by GET", "by POST", "pushed", "signed"])
def test_sign_in_page_after_prompt_create_can_be_reloaded_however_the_request_came(
    site: Site, browser: Browser, how: str
) -> None:
    """Also after a wrong password: the person is not sent to create another account."""
    verified_user(site)
    client = key_client(site, trusted=True, scope="openid email")
    parameters = authorization_parameters(client, prompt="create")
    if how == "signed":
        page = authorize_signed(browser, client, request_object(site, client, prompt="create"))
    elif how == "pushed":
        uri = str(browser.post("/oauth2/par", parameters | signed(site, client)).json["request_uri"])
        site.secrets.add(uri)
        page = browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri)
    elif how == "by POST":
        page = browser.follow(browser.post("/oauth2/authorize", parameters | {"login_hint": "alice"}))
    else:
        page = browser.get("/oauth2/authorize", **parameters)
    sign_up = browser.follow(page)
    sign_in = browser.get(link_in(sign_up, "/oauth2/authorize"))
    wrong = browser.follow(browser.submit(sign_in, username="alice", password="a wrong password"))
    again = browser.get(wrong.url)
    assert "password" in again.form.fields
    assert browser.sign_in(again).code


def test_prompt_create_with_none_is_rejected(browser: Browser, client: Registered) -> None:
    assert browser.authorize(client, prompt="none create").answer["error"] == "invalid_request"


# ---- invitations


@pytest.fixture
def invited(site: Site, run_command: RunCommand, with_keys: None, mailbox: Mailbox) -> ReceivedMail:
    """The email of an invitation."""
    result = run_command("user", "invite", BOB)
    assert (result.code, "sends an invitation to bob@example.com" in result.out) == (0, True), result.err
    return receive(site, mailbox)


def test_invited_person_enters_the_code_and_creates_an_account(
    site: Site, browser: Browser, client: Registered, invited: ReceivedMail
) -> None:
    page = open_link(browser, invited)
    assert "You are invited" in page.body
    assert invited.code not in page.body.replace("-", "")
    done = create(browser, browser.submit(page, code=invited.code), "bob")
    assert 'href="/account">Continue to sign in' in done.body
    assert signs_in(browser, client, BOB, PASSWORD)


def test_scanner_uses_up_no_invitation(site: Site, browser: Browser, browsers: Browsers, invited: ReceivedMail) -> None:
    before = dump_tables()
    open_link(browsers(site), invited)
    assert dump_tables() == before
    scan(browsers(site), invited)
    assert usernames(site) == []
    page = browser.submit(open_link(browser, invited), code=invited.code)
    assert "Your account is created" in create(browser, page).body


def test_invitation_leads_to_its_application(
    site: Site, browser: Browser, client: Registered, run_command: RunCommand, with_keys: None, mailbox: Mailbox
) -> None:
    assert run_command("user", "invite", BOB, "--client", client.id).code == 0
    mail = receive(site, mailbox)
    done = create(browser, browser.submit(open_link(browser, mail), code=mail.code))
    assert 'href="https://print.example.com/home"' in done.body


def test_invitation_is_valid_for_seven_days_and_until_a_newer_one(
    site: Site, browser: Browser, run_command: RunCommand, invited: ReceivedMail, mailbox: Mailbox
) -> None:
    assert run_command("user", "invite", BOB.upper()).code == 0
    newer = receive(site, mailbox)
    assert "email_link_ended" in open_link(browser, invited).body
    site.clock.advance(7 * DAY - 1)
    assert "You are invited" in open_link(browser, newer).body
    site.clock.advance(1)
    assert "email_link_ended" in open_link(browser, newer).body


def test_invitation_of_a_user_or_of_no_address_is_rejected(
    site: Site, run_command: RunCommand, with_keys: None
) -> None:
    verified_user(site)
    for arguments, text in (
        ([" alice@example.com"], "belongs to another user"),
        (["alice"], "Enter an email address"),
        ([BOB, "--client", "unknown"], "unknown"),
    ):
        result = run_command("user", "invite", *arguments)
        assert (result.code, text in result.err) == (2, True), result.err
    assert output_json(run_command("user", "invite", BOB, "--json"))["email"] == BOB


def test_address_is_proved_by_an_invitation_before_there_is_any_record_of_it(site: Site, invited: ReceivedMail) -> None:
    assert usernames(site) == []
    assert site.server.store.identifiers.get(email_identifier(BOB)) is None
    assert BOB not in "".join(str(proof) for proof in site.server.store.proofs.scan())


# ---- notice of a new sign-in


def test_sign_in_in_an_unknown_browser_is_told_by_mail_where_the_setting_says_so(
    site: Site, site_with: Callable[..., Site], browsers: Browsers, mailbox: Mailbox
) -> None:
    verified_user(site)
    noticing = site_with(email_from=SENDER, sign_in_notice=True)
    browser = browsers(noticing)
    sign_in_to_account(browser)
    (mail,) = mailbox.deliver(noticing)
    assert (mail.to, mail.subject) == ("alice@example.com", "New sign-in · Signet")
    assert "127.0.0.1" in mail.text
    assert parse_qs(urlsplit(mail.link).query) == {}
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    sign_in_to_account(browser)
    assert mailbox.deliver(noticing) == [], "the browser is known"
    other = browsers(noticing)
    other.sign_in(other.authorize(site.client()), password="wrong")
    assert mailbox.deliver(noticing) == []
    sign_in_to_account(browsers(site))
    assert mailbox.deliver(site) == [], "off by default"


def test_user_with_a_second_factor_is_told_once_it_is_proved(
    site: Site, site_with: Callable[..., Site], browsers: Browsers, mailbox: Mailbox
) -> None:
    verified_user(site)
    noticing = site_with(email_from=SENDER, sign_in_notice=True)
    phone = add_second_factor(noticing)
    browser, client = browsers(noticing), site.client(trusted=True)
    page = enter_password(browser, client)
    assert mailbox.deliver(noticing) == []
    assert browser.submit(page, one_time_code=phone.code()).code
    (mail,) = mailbox.deliver(noticing)
    assert mail.subject == "New sign-in · Signet"
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    assert browser.submit(enter_password(browser, client), one_time_code=phone.code(1)).code
    assert mailbox.deliver(noticing) == [], "the browser is known"


def test_caller_beyond_twenty_emails_in_an_hour_is_told_before_a_proof_is_written(site: Site, browser: Browser) -> None:
    site.clock.advance(HOUR - site.clock() % HOUR)
    for number in range(20):
        browser.submit(browser.get("/account/sign-up"), email=f"user{number}@example.com")
    page = browser.get("/account/sign-up")
    before = dump_tables()
    answer = browser.submit(page, email="bob@example.com")
    assert (answer.status, answer.header("retry-after")) == (429, str(HOUR))
    assert "Too many emails were asked for from your network." in answer.body
    assert answer.form.fields["email"] == "bob@example.com"
    assert dump_tables() == before
