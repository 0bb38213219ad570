"""Attacks that were found by reading the code with an attacker's eyes: none of them works."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from chalicelib.protocol.authentication_context import PHISHING_RESISTANT
from chalicelib.protocol.passkey import Passkey
from chalicelib.storage.store import Store
from chalicelib.tokens.resources import MAX_RESOURCES
from chalicelib.users import passkeys
from infra.operator.transfer.insertion import insert_record
from tests.endpoints.email_sign_in.flow import ask, email_site, is_code_form
from tests.endpoints.passkeys.test_passkey_offer import OPTIONS, is_offer, sign_in
from tests.support.authenticator import Authenticator, options_of, passkey_site, user_with_passkey
from tests.support.authorization_details import ALBUMS, as_json, register_asking_client
from tests.support.browser import Browser
from tests.support.mail_flows import verified_user
from tests.support.mailbox import Mailbox
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
