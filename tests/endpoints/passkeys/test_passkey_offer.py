"""A passkey is offered once after a sign-in with the password, where the browser can add one."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.records import User
from tests.endpoints.authorize.conftest import authorize_stored, read_claims
from tests.support.account import sign_in_to_account
from tests.support.authenticator import (
    Authenticator,
    add_passkey,
    options_of,
    passkey_site,
    sign_in_with_passkey,
    user_with_passkey,
)
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.faults import Wire
from tests.support.second_factor import add_second_factor, is_code_page
from tests.support.site import PASSWORD, Registered, Site

OPTIONS = "data-new-passkey"


def send_password(browser: Browser, page: Answer, can_add_passkey: str = "yes") -> Answer:
    """Send the sign-in form, with what the script says about the browser; return the page that follows."""
    return browser.submit(page, username="alice", password=PASSWORD, can_add_passkey=can_add_passkey)


def sign_in(browser: Browser, client: Registered, can_add_passkey: str = "yes", **parameters: str) -> Answer:
    return send_password(browser, browser.follow(browser.authorize(client, **parameters)), can_add_passkey)


def is_offer(page: Answer) -> bool:
    return page.status in (200, 400) and page.form.fields.get("passkey_offer") == "yes"


def passkeys(site: Site) -> list[Passkey]:
    return list(site.server.store.passkeys.scan())


@pytest.fixture
def bob(local: Site) -> User:
    """A user named alice without a passkey."""
    return local.user("alice")


def test_passkey_is_offered_once_and_the_request_continues(
    local: Site, browser: Browser, client: Registered, bob: User
) -> None:
    page = sign_in(browser, client)
    assert is_offer(page)
    assert "Sign in faster next time" in page.body
    answer = browser.submit(page, later="yes")
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["sub"] == bob.sub
    assert passkeys(local) == []
    assert local.read_user().passkey_offered_at == local.clock()
    browser.cookies.clear()
    local.clock.advance(1)
    assert sign_in(browser, client).code, "the user is not asked again"


def test_passkey_is_added_inside_the_request(
    local: Site, browser: Browser, client: Registered, bob: User, authenticator: Authenticator
) -> None:
    page = sign_in(browser, client)
    options = options_of(page, OPTIONS)
    assert options["authenticatorSelection"]["residentKey"] == "required"
    answer = browser.submit(page, passkey=json.dumps(authenticator.create(options)))
    assert answer.code
    (passkey,) = passkeys(local)
    assert (passkey.sub, passkey.rp_id, passkey.name) == (bob.sub, "localhost", "Passkey")
    assert events.PASSKEY_ADDED in [event.name for event in local.server.store.events.find("sub", bob.sub)]
    browser.cookies.clear()
    assert sign_in_with_passkey(browser, browser.authorize(client), authenticator).code


def test_consent_follows_the_offer(local: Site, browser: Browser, bob: User) -> None:
    page = browser.submit(sign_in(browser, local.client()), later="yes")
    assert "decision" in page.body
    assert browser.submit(page, decision="allow").code


def test_offer_can_be_reloaded_until_it_is_answered(
    local: Site, browser: Browser, client: Registered, bob: User
) -> None:
    page = sign_in(browser, client)
    local.clock.advance(30)
    again = browser.get(page.url)
    assert is_offer(again)
    first = browser.send(page, later="yes")
    second = browser.send(again, later="yes")
    assert (first.status, second.status) == (303, 303)
    assert browser.follow(first).code
    assert local.read_user().passkey_offered_at == local.clock() - 30


def test_wrong_answer_is_a_problem_on_the_page_and_the_request_is_not_lost(
    local: Site, browser: Browser, client: Registered, bob: User, authenticator: Authenticator
) -> None:
    page = sign_in(browser, client)
    wrong = authenticator.create(options_of(page, OPTIONS), origin="https://evil.example")
    page = browser.submit(page, passkey=json.dumps(wrong))
    assert is_offer(page)
    assert page.status == 400
    assert "The passkey could not be verified." in page.body
    assert passkeys(local) == []
    assert browser.submit(page, later="yes").code


def test_offer_that_was_open_for_too_long_is_skipped(
    local: Site, browser: Browser, client: Registered, bob: User, authenticator: Authenticator
) -> None:
    page = sign_in(browser, client)
    created = json.dumps(authenticator.create(options_of(page, OPTIONS)))
    local.clock.advance(301)
    assert browser.submit(page, passkey=created).code, "the sign-in is no longer recent"
    assert passkeys(local) == []


def test_signed_out_user_signs_in_again(local: Site, browser: Browser, client: Registered, bob: User) -> None:
    page = sign_in(browser, client)
    del browser.cookies["signet-session"]
    assert "password" in browser.submit(page, later="yes").form.fields


def test_silent_request_is_answered_while_the_offer_is_open(browser: Browser, client: Registered, bob: User) -> None:
    assert is_offer(sign_in(browser, client))
    assert browser.authorize(client, prompt="none").code
    assert browser.authorize(client).code, "only the request of the sign-in asks"


@pytest.mark.parametrize("value", ["", "no", "YES"])
def test_browser_that_cannot_add_a_passkey_is_not_asked(
    local: Site, browser: Browser, client: Registered, bob: User, value: str
) -> None:
    assert sign_in(browser, client, value).code
    assert local.read_user().passkey_offered_at is None, "another browser is asked"


def test_user_with_a_passkey_is_not_asked(browser: Browser, client: Registered, alice: User) -> None:
    assert sign_in(browser, client).code


def test_user_whose_passkey_was_imported_is_not_asked(
    local: Site, browser: Browser, client: Registered, alice: User
) -> None:
    local.server.store.users.put(replace(local.read_user(), passkey_offered_at=None))
    assert sign_in(browser, client).code


def test_user_who_has_used_a_passkey_is_not_asked(
    local: Site, browser: Browser, client: Registered, alice: User, authenticator: Authenticator
) -> None:
    local.server.store.users.put(replace(local.read_user(), passkey_offered_at=None))
    answer = sign_in_with_passkey(browser, browser.authorize(client), authenticator, can_add_passkey="yes")
    assert answer.code


def test_account_page_offers_nothing(browser: Browser, bob: User) -> None:
    page = browser.follow(browser.get("/account"))
    answer = browser.send(page, username="alice", password=PASSWORD, can_add_passkey="yes")
    assert answer.location.endswith("/account")


def test_user_with_an_imported_sub_that_is_too_long_is_not_asked(
    local: Site, browser: Browser, client: Registered, bob: User
) -> None:
    store = local.server.store
    identifier = next(iter(store.identifiers.scan()))
    store.identifiers.put(replace(identifier, sub="x" * 65))
    store.users.put(replace(bob, sub="x" * 65))
    assert sign_in(browser, client).code


@pytest.mark.parametrize("case", ["off", "at an IP address"])
def test_nothing_is_offered_where_policy_allows_no_passkey(
    site: Site, site_with: Callable[..., Site], browsers: Callable[..., Browser], case: str
) -> None:
    site.user("alice")
    other = passkey_site(site_with, mfa="off") if case == "off" else site
    assert sign_in(browsers(other), other.client(trusted=True)).code


def test_offer_follows_the_code_of_the_second_factor(
    local: Site, browser: Browser, client: Registered, bob: User
) -> None:
    phone = add_second_factor(local)
    page = sign_in(browser, client)
    assert is_code_page(page)
    page = browser.submit(page, one_time_code=phone.code())
    assert is_offer(page)
    assert browser.submit(page, later="yes").code


def test_offer_of_a_stored_request_is_kept(local: Site, browser: Browser, client: Registered, bob: User) -> None:
    page = send_password(browser, browser.follow(authorize_stored(browser, client)))
    assert is_offer(page)
    assert browser.submit(page, later="yes").code


def test_second_factor_of_a_stored_request_keeps_the_offer(
    local: Site, browser: Browser, client: Registered, bob: User
) -> None:
    phone = add_second_factor(local)
    page = send_password(browser, browser.follow(authorize_stored(browser, client)))
    assert is_offer(browser.submit(page, one_time_code=phone.code()))


def test_http_basic_is_not_interrupted(local: Site, browser: Browser, bob: User) -> None:
    direct = local.client(direct_sign_in=True, trusted=True)
    parameters = authorization_parameters(direct) | {"can_add_passkey": "yes"}
    assert browser.get("/oauth2/code", headers=basic("alice", PASSWORD), **parameters).code


def test_adding_a_passkey_on_the_account_page_counts_as_asked(
    local: Site, browser: Browser, bob: User, authenticator: Authenticator
) -> None:
    sign_in_to_account(browser)
    assert add_passkey(browser, authenticator).status == 303
    assert local.read_user().passkey_offered_at == local.clock()


def test_account_that_was_disabled_in_between_gets_no_passkey(
    local: Site, browser: Browser, client: Registered, bob: User, authenticator: Authenticator, wire: Wire
) -> None:
    page = sign_in(browser, client)
    created = json.dumps(authenticator.create(options_of(page, OPTIONS)))

    def disable() -> None:
        local.server.store.users.put(replace(local.read_user(), disabled_at=local.clock()))

    with wire.before("TransactWriteItems", disable):
        browser.submit(page, passkey=created)
    assert passkeys(local) == []


def test_user_who_was_asked_in_another_tab_at_the_same_time_keeps_the_first_time(
    local: Site, browser: Browser, client: Registered, bob: User, wire: Wire
) -> None:
    answer = browser.send(browser.authorize(client), username="alice", password=PASSWORD, can_add_passkey="yes")
    earlier = local.clock() - 1

    def ask() -> None:
        local.server.store.users.put(replace(local.read_user(), passkey_offered_at=earlier))

    with wire.before("UpdateItem", ask):
        assert is_offer(browser.follow(answer))
    assert local.read_user().passkey_offered_at == earlier


# ---- what it costs


def test_user_who_was_asked_costs_no_further_call(
    local: Site, browser: Browser, client: Registered, bob: User, wire: Wire
) -> None:
    def calls(can_add_passkey: str) -> list[str]:
        browser.cookies.clear()
        local.clock.advance(1)
        page = browser.authorize(client)
        with wire.counted() as counted:
            assert send_password(browser, page, can_add_passkey).code
            return list(counted)

    before = calls("")
    browser.cookies.clear()
    page = sign_in(browser, client)
    assert is_offer(page)
    browser.submit(page, later="yes")
    assert calls("yes") == calls("") == before


def test_offer_costs_one_query_at_each_step_and_one_write_of_the_user(
    local: Site, browser: Browser, client: Registered, bob: User, wire: Wire
) -> None:
    page = browser.authorize(client)
    with wire.counted() as calls:
        answer = browser.send(page, username="alice", password=PASSWORD, can_add_passkey="yes")
        assert calls == ["BatchGetItem", "BatchGetItem", "TransactWriteItems", "Query", "TransactWriteItems"]
    with wire.counted() as calls:
        page = browser.follow(answer)
        assert calls == ["GetItem", "BatchGetItem", "Query", "UpdateItem"]
    with wire.counted() as calls:
        answer = browser.send(page, later="yes")
        assert calls == ["BatchGetItem", "Query", "UpdateItem"]
    with wire.counted() as calls:
        assert browser.follow(answer).code
        assert "Query" not in calls


def test_asking_is_part_of_the_export_and_of_the_download(
    local: Site, browser: Browser, client: Registered, bob: User, authenticator: Authenticator, run_command: Any
) -> None:
    user_with_passkey(browser, authenticator)
    lines = [json.loads(line) for line in run_command("export").out.splitlines()]
    (exported,) = [line for line in lines if line["kind"] == "user"]
    assert exported["passkey_offered_at"] == local.clock()
