"""Attacks that were found by reading the code with an attacker's eyes: none of them works."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile

import pytest

from chalicelib.mail.proof_codes import code_of
from chalicelib.protocol.authentication_context import PHISHING_RESISTANT
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.proof import SIGN_UP
from chalicelib.storage.store import Store
from chalicelib.tokens.resources import MAX_RESOURCES
from chalicelib.users import passkeys
from infra.operator.transfer.insertion import insert_record
from tests.endpoints.email_sign_in.flow import ask, email_site, is_code_form
from tests.endpoints.passkeys.test_passkey_offer import OPTIONS, is_offer, sign_in
from tests.support.authenticator import Authenticator, options_of, passkey_site, user_with_passkey
from tests.support.authorization_details import ALBUMS, as_json, register_asking_client
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.mail_flows import ADDRESS, verified_user
from tests.support.mail_flows import ask as ask_for_a_password
from tests.support.mailbox import SENDER, Mailbox
from tests.support.resource_servers import register_resource
from tests.support.second_factor import add_second_factor, sign_in_with_code
from tests.support.site import Site

Sites = Callable[..., Site]
Browsers = Callable[..., Browser]


def test_passkey_is_not_added_with_the_password_alone_once_the_user_has_a_second_factor(
    site: Site, site_with: Sites, browsers: Browsers
) -> None:
    site = passkey_site(site_with)
    site.user("alice")
    thief, client = browsers(site), site.client(trusted=True)
    page = sign_in(thief, client)
    assert is_offer(page)
    options = options_of(page, OPTIONS)
    add_second_factor(site)
    thief.submit(page, passkey=json.dumps(Authenticator(site.settings.issuer).create(options)))
    assert list(site.server.store.passkeys.scan()) == []


def test_second_factor_that_is_set_up_while_a_passkey_is_added_refuses_it(
    site: Site, site_with: Sites, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = passkey_site(site_with)
    site.user("alice")
    thief, client = browsers(site), site.client(trusted=True)
    page = sign_in(thief, client)
    listed = passkeys.list_passkeys

    def list_late(store: Store, sub: str) -> list[Passkey]:
        add_second_factor(site)
        return listed(store, sub)

    monkeypatch.setattr(passkeys, "list_passkeys", list_late)
    answer = Authenticator(site.settings.issuer).create(options_of(page, OPTIONS))
    thief.submit(page, passkey=json.dumps(answer))
    assert list(site.server.store.passkeys.scan()) == []


@pytest.mark.parametrize("names", [("alice", "alice@example.com"), ("alice@example.com", "alice")])
@pytest.mark.parametrize("exists", [True, False])
def test_second_email_does_not_tell_that_two_names_are_of_one_user(
    site: Site, site_with: Sites, browsers: Browsers, mailbox: Mailbox, names: tuple[str, str], *, exists: bool
) -> None:
    site = email_site(site_with)
    if exists:
        verified_user(site)
    browser, client = browsers(site), site.client(trusted=True)
    first, second = (ask(browser, browser.authorize(client, state=name), name) for name in names)
    assert is_code_form(browser.get(second.url))
    assert is_code_form(browser.get(first.url))


# Two names that one browser types, and for which of them there are users.
TWO_NAMES = {
    "of one user": ("alice", ADDRESS),
    "of one user, the address first": (ADDRESS, "alice"),
    "of two users": ("alice", "bob"),
    "of no user": ("nobody", "nobody@example.com"),
}


@pytest.mark.parametrize("names", TWO_NAMES.values(), ids=TWO_NAMES)
def test_forgotten_password_does_not_tell_that_two_names_are_of_one_user(
    mail_site: Site, browsers: Browsers, mailbox: Mailbox, wire: Wire, names: tuple[str, str]
) -> None:
    site = mail_site
    verified_user(site)
    verified_user(site, "bob", "bob@example.com")
    begin_a_day(site)
    browser = browsers(site)
    pages, calls = [], set()
    for number in range(10):  # more than an address gets, for each name
        form = browser.get("/account/recover")
        with wire.counted() as counted:
            answer = browser.send(form, username=names[number % 2])
        calls.add(tuple(counted[1:]))
        pages.append(browser.follow(answer))
    assert calls == {("GetItem", "UpdateItem", "TransactWriteItems", "TransactWriteItems")}
    for page in pages:
        assert browser.get(page.url).body == page.body, "no email has ended another one"
        assert "This is not the code" in browser.submit(page, code="WRNG2345").body
    assert emails_until_told(browser, "/account/recover", "username") == 10


@pytest.mark.parametrize("username", ["alice", "bob", "nobody"])
@pytest.mark.parametrize("address", [ADDRESS, "nobody@example.com"])
def test_sign_up_does_not_tell_whose_address_it_is(
    site_with: Sites, browsers: Browsers, mailbox: Mailbox, username: str, address: str
) -> None:
    site = site_with(email_from=SENDER, sign_up=True)
    verified_user(site)
    verified_user(site, "bob", "bob@example.com")
    begin_a_day(site)
    browser = browsers(site)
    pages = [ask_to_sign_up(browser, address)]
    for _ in range(3):
        ask_for_a_password(browser, username)
    pages += [ask_to_sign_up(browser, address) for _ in range(4)]
    for page in pages:
        assert browser.get(page.url).body == page.body
        assert "This is not the code" in browser.submit(page, code="WRNG2345").body
    assert emails_until_told(browser, "/account/sign-up", "email") == 12


def test_code_of_a_sign_up_beyond_the_limit_is_never_right(
    site_with: Sites, browsers: Browsers, mailbox: Mailbox
) -> None:
    site = site_with(email_from=SENDER, sign_up=True)
    begin_a_day(site)
    browser = browsers(site)
    pages, right = [ask_to_sign_up(browser, "new@example.com") for _ in range(8)], 0
    for page in pages:
        code = code_of(site.server, page.form.fields["proof"], SIGN_UP)
        right += "new_password" in browser.submit(page, code=code).form.fields
    assert right == len(mailbox.deliver(site)) == 3


def begin_a_day(site: Site) -> None:
    """Let the clock stand at the beginning of a day, so that no period ends by chance."""
    site.clock.advance(DAY - site.clock() % DAY)


def ask_to_sign_up(browser: Browser, address: str) -> Answer:
    return browser.submit(browser.get("/account/sign-up"), email=address)


def emails_until_told(browser: Browser, path: str, field: str) -> int:
    """Return how many emails a caller can ask for, each to another address, before the limit is told."""
    page = browser.get(path)
    statuses = (browser.send(page, None, **{field: f"other{number}@example.com"}).status for number in range(100))
    return len(list(takewhile(lambda status: status == 303, statuses)))


@pytest.mark.parametrize("count", [MAX_RESOURCES, MAX_RESOURCES + 1, 90])
def test_details_name_at_most_as_many_resources_as_the_parameter(site: Site, browser: Browser, count: int) -> None:
    client = register_asking_client(site)
    uris = [f"{ALBUMS}/{number}" for number in range(count)]
    for uri in uris[:MAX_RESOURCES]:
        register_resource(site, uri)
    site.user()
    answer = browser.authorize(client, authorization_details=as_json({"type": "album", "locations": uris}))
    allowed = count <= MAX_RESOURCES
    assert (answer.status == 200) == allowed
    if not allowed:
        assert answer.answer["error"] == "invalid_authorization_details"
        assert "resources" in answer.answer["error_description"]


def test_import_checks_the_authorization_details_types_of_a_client(site: Site) -> None:
    record = site.client().record
    record = replace(record, client_id="imported", authorization_details_types=("a b",))
    assert "authorization_details_types" in (insert_record(site.server.store, record).problem or "")


def test_user_who_takes_over_a_request_is_asked_what_the_former_one_declined(
    site: Site, site_with: Sites, browsers: Browsers
) -> None:
    site = passkey_site(site_with)
    site.user("alice")
    site.user("bob")
    browser, client = browsers(site), site.client()
    user_with_passkey(browser, Authenticator(site.settings.issuer), "bob")
    page = sign_in_with_code(browser, client, add_second_factor(site), acr_values=PHISHING_RESISTANT)
    page = browser.submit(page, decision="switch")
    page = browser.sign_in(page, "bob")
    assert options_of(page)["allowCredentials"], "a passkey is preferred, and bob has one"
