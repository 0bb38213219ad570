"""The notice of a new sign-in after a passkey, where the operator has turned it on."""

from collections.abc import Callable

import pytest

from tests.support.account import sign_in_to_account
from tests.support.authenticator import (
    Authenticator,
    add_passkey,
    passkey_site,
    sign_in_with_passkey,
)
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.mail_flows import verified_user
from tests.support.mailbox import SENDER, Mailbox
from tests.support.site import Site

Browsers = Callable[..., Browser]


@pytest.fixture(params=[True, False], ids=["on", "off"])
def notice(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def local(site_with: Callable[..., Site], mailbox: Mailbox, notice: bool) -> Site:
    return passkey_site(site_with, email_from=SENDER, sign_in_notice=notice)


@pytest.fixture
def key(local: Site, browsers: Browsers, mailbox: Mailbox) -> Authenticator:
    verified_user(local)
    browser, authenticator = browsers(local), Authenticator(local.settings.issuer)
    sign_in_to_account(browser)
    add_passkey(browser, authenticator)
    mailbox.deliver(local)
    return authenticator


def test_passkey_in_an_unknown_browser_is_told_by_mail_where_the_setting_says_so(
    local: Site, browsers: Browsers, mailbox: Mailbox, key: Authenticator, notice: bool
) -> None:
    client, browser = local.client(trusted=True), browsers(local)
    assert sign_in_with_passkey(browser, browser.authorize(client), key).code
    mails = mailbox.deliver(local)
    assert [mail.subject for mail in mails] == ["New sign-in · Signet"] * notice
    assert all("127.0.0.1" in mail.text for mail in mails)
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    assert sign_in_with_passkey(browser, browser.authorize(client), key).code
    assert mailbox.deliver(local) == [], "the browser is known"


def test_passkey_that_is_rejected_is_not_told(
    local: Site, browsers: Browsers, mailbox: Mailbox, key: Authenticator
) -> None:
    client, browser, other = local.client(trusted=True), browsers(local), browsers(local)
    sign_in_with_passkey(browser, other.authorize(client), key)
    assert mailbox.deliver(local) == []


def test_notice_costs_no_further_call(
    local: Site, browsers: Browsers, mailbox: Mailbox, key: Authenticator, wire: Wire
) -> None:
    client, browser = local.client(trusted=True), browsers(local)
    page = browser.authorize(client)
    with wire.counted() as calls:
        sign_in_with_passkey(browser, page, key)
    assert calls == ["BatchGetItem", "TransactWriteItems", "TransactWriteItems"]
