"""Attackers who have a part of what signs a user in: a session, the password, a mailbox, or an email of before."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from chalicelib.authentication import totp
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.authentication_context import REFEDS_MFA
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.users import email_address
from chalicelib.users.password_change import change_password
from chalicelib.users.second_factor_setup import NotSetUp, take_first_code
from tests.support.account import is_signed_in, open_sign_in, sign_in_to_account
from tests.support.authenticator import Authenticator as Key
from tests.support.authenticator import add_passkey, passkey_site, post_passkeys
from tests.support.browser import Answer, Browser
from tests.support.mail_flows import ADDRESS, NEW_PASSWORD, ask, choose, open_link, receive, verified_user
from tests.support.mailbox import SENDER, Mailbox, ReceivedMail
from tests.support.second_factor import Authenticator, add_second_factor, is_code_page
from tests.support.site import PASSWORD, Site

Browsers = Callable[..., Browser]
SAME = {"Sec-Fetch-Site": "same-origin"}
THIEF = "thief@evil.example"
LURE = "Your account is locked. Visit www.evil.example now"


@pytest.fixture
def site(site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    return passkey_site(site_with, email_from=SENDER, sign_up=True)


@pytest.fixture
def browser(site: Site, browsers: Browsers) -> Browser:
    return browsers(site)


def send_change(browser: Browser, address: str = THIEF) -> Answer:
    return browser.submit(browser.get("/account/email"), email=address, action="change_email")


def press(browser: Browser, mail: ReceivedMail) -> Answer:
    """Open the link of a mail, and press its button if there is one."""
    page = open_link(browser, mail)
    return browser.submit(page) if page.form.action else page


def sign_in_with_code(browser: Browser, phone: Authenticator) -> None:
    page = browser.submit(open_sign_in(browser), username="alice", password=PASSWORD)
    assert is_code_page(page)
    browser.submit(page, one_time_code=phone.code())
    assert is_signed_in(browser)


def tag_of(browser: Browser) -> str:
    return browser.get("/account/password").form.fields["tag"]


# ---- a session of six minutes ago


def test_session_of_six_minutes_ago_does_not_change_the_address(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    """With another address, the attacker could have a new password."""
    verified_user(site)
    sign_in_to_account(browser)
    form = browser.get("/account/email").form.fields
    site.clock.advance(6 * 60)
    answer = browser.post("/account/email", {**form, "email": THIEF, "action": "change_email"}, SAME)
    assert (answer.status, "Sign in again" in answer.body) == (400, True)
    assert mailbox.deliver(site) == []


def test_session_of_six_minutes_ago_does_not_remove_a_passkey(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    add_passkey(browser, Key(site.settings.issuer))
    (passkey,) = site.server.store.passkeys.scan()
    site.clock.advance(6 * 60)
    answer = post_passkeys(browser, "remove", passkey_id=passkey.passkey_id)
    assert (answer.status, "Sign in again before you remove a passkey" in answer.body) == (400, True)
    assert list(site.server.store.passkeys.scan()) == [passkey]
    sign_in_to_account_again(browser)
    assert post_passkeys(browser, "remove", passkey_id=passkey.passkey_id).status == 303
    assert list(site.server.store.passkeys.scan()) == []


def sign_in_to_account_again(browser: Browser) -> None:
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    sign_in_to_account(browser)


@pytest.mark.parametrize(("seconds", "sets_up"), [(5 * 60, True), (6 * 60, False)])
def test_session_of_six_minutes_ago_sets_up_no_second_factor_for_a_request(
    site: Site, browser: Browser, seconds: int, sets_up: bool
) -> None:
    site.user("alice")
    client = site.client(require_acr=REFEDS_MFA, trusted=True)
    sign_in_to_account(browser)
    site.clock.advance(seconds)
    page = browser.authorize(client)
    assert ("set_up" in page.form.fields) == sets_up
    assert ("password" in page.form.fields) != sets_up


# ---- a session in which the second factor was proved a moment ago


def test_second_factor_that_is_on_is_not_replaced_without_a_code_of_it(site: Site, browser: Browser) -> None:
    """The secret could be guessed by its codes, as often as the attacker wants; then the recovery codes are shown."""
    site.user("alice")
    phone = add_second_factor(site)
    sign_in_with_code(browser, phone)
    before = site.read_user()
    (session,) = site.server.store.sessions.scan()
    site.clock.advance(60)
    secret = totp.secret_for_session(site.server.keys, before, session.session_id)
    form = {"tag": tag_of(browser), "action": "first_code", "one_time_code": Authenticator(site, secret).code()}
    answer = browser.post("/account/second-factor", form, SAME)
    assert answer.location == "/account/second-factor?done=changed"
    assert site.read_user() == before
    with pytest.raises(NotSetUp):
        take_first_code(site.server, SignedInUser(before, session), Params(list(form.items())))
    assert site.read_user() == before


# ---- a session of before, whose email is confirmed later


def asked_before(site: Site, browser: Browser, mailbox: Mailbox) -> ReceivedMail:
    """Ask for an email to another address, in a session of the user; return that email."""
    verified_user(site)
    sign_in_to_account(browser)
    send_change(browser)
    return receive(site, mailbox)


def test_email_asked_for_before_a_new_password_confirms_no_address_after_it(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    mail = asked_before(site, browser, mailbox)
    change_password(site.server.store, site.read_user(), NEW_PASSWORD)
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    sign_in_to_account(browser, password=NEW_PASSWORD)
    assert "email_link_ended" in press(browser, mail).body
    assert site.read_user().claims["email"] == ADDRESS


def test_email_sent_before_a_new_password_is_not_confirmed_by_a_form_of_before(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    mail = asked_before(site, browser, mailbox)
    form = open_link(browser, mail).form.fields
    change_password(site.server.store, site.read_user(), NEW_PASSWORD)
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    sign_in_to_account(browser, password=NEW_PASSWORD)
    assert "email_link_ended" in browser.post("/account/link", form, SAME).body
    assert site.read_user().claims["email"] == ADDRESS


def test_confirmation_that_a_new_password_overtakes_changes_no_address(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    asked_before(site, browser, mailbox)
    before = site.read_user()
    (proof,) = site.server.store.proofs.scan()
    change_password(site.server.store, before, NEW_PASSWORD)
    with pytest.raises(RequestEnded):
        email_address.confirm(site.server, Request("POST", "/account/email"), before, proof)
    assert site.read_user().claims["email"] == ADDRESS


def test_session_without_the_second_factor_confirms_no_address_once_there_is_one(
    site: Site, browser: Browser, mailbox: Mailbox
) -> None:
    mail = asked_before(site, browser, mailbox)
    form = open_link(browser, mail).form.fields
    phone = add_second_factor(site)
    assert "Sign in to the account" in browser.post("/account/link", form, SAME).body
    assert "Sign in to the account" in open_link(browser, mail).body
    assert site.read_user().claims["email"] == ADDRESS
    page = browser.follow(browser.get("/account/email"))
    assert is_code_page(page)
    browser.submit(page, one_time_code=phone.code())
    assert "is confirmed" in press(browser, mail).body


# ---- the password alone, of an account that its user has deleted


def test_password_typed_in_the_login_application_does_not_restore_an_account_with_a_second_factor(
    site: Site, site_with: Callable[..., Site], browsers: Browsers
) -> None:
    origin = "https://login.example.com"
    own = site_with(login_url=f"{origin}/sign-in", login_origins=(origin,))
    client = own.client()
    own.user("alice")
    add_second_factor(own)
    user = replace(own.read_user(), deleted_at=own.clock(), deletion_due_at=own.clock() + 86400)
    own.server.store.users.put(user)
    browser = browsers(own)
    handle = re.search(r"request_uri=([^&]+)", browser.authorize(client).location)
    assert handle
    form = {"request_uri": handle[1], "username": "alice", "password": PASSWORD}
    page = browser.follow(browser.post("/oauth2/code", form, {"Origin": origin, "Sec-Fetch-Site": "cross-site"}))
    assert is_code_page(page)
    assert not [name for name in browser.cookies if "restore" in name]


# ---- emails as a way to send a text to other people


@pytest.mark.parametrize("taken", [False, True])
def test_email_to_an_address_that_is_not_confirmed_has_no_text_that_a_user_chose(
    site: Site, browser: Browser, mailbox: Mailbox, taken: bool
) -> None:
    site.user(LURE)
    if taken:
        verified_user(site)
    sign_in_to_account(browser, LURE)
    send_change(browser, ADDRESS)
    mail = receive(site, mailbox)
    assert mail.to == ADDRESS
    for text in (mail.subject, mail.text, mail.html):
        assert "evil" not in text


# ---- emails of before a change of the settings


@pytest.mark.parametrize("change", [{"sign_up": False}, {"sign_up_domains": ("company.example",)}])
def test_email_of_a_sign_up_creates_no_account_once_the_operator_has_forbidden_it(
    site: Site,
    site_with: Callable[..., Site],
    browser: Browser,
    browsers: Browsers,
    mailbox: Mailbox,
    change: dict[str, Any],
) -> None:
    browser.submit(browser.get("/account/sign-up"), email=ADDRESS)
    mail = receive(site, mailbox)
    page = open_link(browser, mail)
    changed = browsers(site_with(**{"email_from": SENDER, "sign_up": True, **change}))
    changed.cookies = dict(browser.cookies)
    values = {"username": "alice", "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    assert "email_link_ended" in changed.submit(page, None, **values).body
    assert "email_link_ended" in open_link(changed, mail).body
    assert list(site.server.store.users.scan()) == []
    browser.submit(page, None, **values)
    assert site.read_user().claims["email"] == ADDRESS


# ---- hosts that are none


@pytest.mark.parametrize("host", ["[", "[::1", "a]b", "", "[v1.x]"])
def test_host_that_is_none_gets_no_mailbox_and_is_no_error_of_the_server(
    browsers: Browsers, site: Site, site_with: Callable[..., Site], tmp_path: object, host: str
) -> None:
    local = site_with(mailbox=str(tmp_path))
    for server in (site, local):
        assert browsers(server).request("GET", "/mailbox", headers={"Host": host}).status == 404


# ---- the mailbox alone


def enter_mailed_code(site: Site, thief: Browser, mailbox: Mailbox) -> Answer | None:
    """Ask for a code to sign in with, and enter the one in the mailbox; None if none was sent."""
    page = thief.submit(open_sign_in(thief), username="alice", email_me="yes")
    mails = mailbox.deliver(site)
    return thief.submit(page, email_code=mails[0].code) if mails else None


@pytest.mark.parametrize(
    ("setting", "second_factor", "gets_in"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_mailbox_alone_signs_in_only_where_codes_are_on_and_there_is_no_second_factor(
    site: Site,
    site_with: Callable[..., Site],
    browsers: Browsers,
    mailbox: Mailbox,
    setting: bool,
    second_factor: bool,
    gets_in: bool,
) -> None:
    own = passkey_site(site_with, email_from=SENDER, email_code_sign_in=setting)
    verified_user(site)
    if second_factor:
        add_second_factor(own)
    thief = browsers(own)
    page = enter_mailed_code(own, thief, mailbox)
    assert (page is None) == (not setting)
    assert is_signed_in(thief) == gets_in
    assert bool(list(site.server.store.sessions.scan())) == gets_in
    if page and second_factor:
        assert is_code_page(page)
        assert "The code is not right." in thief.submit(page, one_time_code="000000").body


def test_mailbox_alone_does_not_turn_a_second_factor_off_or_restore_an_account_that_has_one(
    site: Site, site_with: Callable[..., Site], browsers: Browsers, mailbox: Mailbox
) -> None:
    own = passkey_site(site_with, email_from=SENDER, email_code_sign_in=True)
    verified_user(site)
    add_second_factor(own)
    now = site.clock()
    site.server.store.users.put(replace(site.read_user(), deleted_at=now, deletion_due_at=now + 86400))
    thief = browsers(own)
    page = enter_mailed_code(own, thief, mailbox)
    assert page
    assert is_code_page(page)
    assert not [name for name in thief.cookies if "restore" in name]
    assert thief.get("/account/second-factor").status == 302
    user = site.read_user()
    assert (user.has_second_factor, user.deleted_at) == (True, now)


def test_email_with_a_code_names_the_browser_that_asked_and_its_link_signs_no_other_one_in(
    site: Site, site_with: Callable[..., Site], browsers: Browsers, mailbox: Mailbox
) -> None:
    """An attacker asks for it, and waits for the user to open the link, or to tell the code."""
    own = passkey_site(site_with, email_from=SENDER, email_code_sign_in=True)
    verified_user(site)
    thief, victim = browsers(own), browsers(own)
    firefox = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"}
    thief.send(open_sign_in(thief), firefox, username="alice", email_me="yes")
    (mail,) = mailbox.deliver(own)
    assert "Firefox on Linux, 127.0.0.1" in mail.text
    assert "Do not give the code to anyone" in mail.text
    press(victim, mail)
    assert not is_signed_in(thief)
    assert not is_signed_in(victim)


def test_passkey_of_a_thief_is_shown_after_a_reset_by_email(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    verified_user(site)
    thief = browsers(site)
    sign_in_to_account(thief)
    add_passkey(thief, Key(site.settings.issuer), "Phone <b>of</b> the thief")
    mailbox.deliver(site)
    ask(browser)
    (mail,) = mailbox.deliver(site)
    done = choose(browser, open_link(browser, mail))
    assert not is_signed_in(thief), "every session has ended"
    assert "Phone &lt;b&gt;of&lt;/b&gt; the thief" in done.body
    assert 'href="/account/passkeys"' in done.body
    (notice,) = mailbox.deliver(site)
    assert "A passkey, which was added on " in notice.text
    assert "thief" not in notice.text, "a thief has chosen the name"
    assert urlsplit(notice.link).path == "/account/passkeys"


def test_reset_by_email_says_how_many_passkeys_can_sign_in_and_nothing_where_there_are_none(
    site: Site, browser: Browser, browsers: Browsers, mailbox: Mailbox
) -> None:
    verified_user(site)
    for passkeys in (0, 2):
        if passkeys:
            other = browsers(site)
            sign_in_to_account(other, password=NEW_PASSWORD)
            for _ in range(passkeys):
                add_passkey(other, Key(site.settings.issuer))
            mailbox.deliver(site)
        ask(browser)
        (mail,) = mailbox.deliver(site)
        done = choose(browser, open_link(browser, mail), NEW_PASSWORD + "!" * passkeys)
        assert ("passkeys" in done.body) == bool(passkeys)
        (notice,) = mailbox.deliver(site)
        assert notice.subject == "Your password was changed · Signet"
        assert ("2 passkeys can still be used to sign in." in notice.text) == bool(passkeys)
        site.clock.advance(60 * 60)
