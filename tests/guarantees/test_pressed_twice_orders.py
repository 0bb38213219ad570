"""A button that is pressed twice, with the calls of both requests in every order: it does what one press does."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib.protocol.records import User
from tests.endpoints.par.conftest import open_pushed, pushed
from tests.guarantees.orders import Action, every_order
from tests.support.account import account_form, sign_in_to_account, submit_form
from tests.support.browser import Answer
from tests.support.faults import Wire
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.site import PASSWORD, Registered, Site, tables

KEPT = ("keys", "clients", "identifiers", "users", "scopes")
NEW_PASSWORD = "another pass phrase"
CREDENTIALS: dict[str, Any] = {"username": "alice", "password": PASSWORD}


class Scene:
    """A user and a client, whose other records are deleted before each order."""

    def __init__(self, site: Site, **client: Any):
        self.site, self.user = site, site.user()
        self.client: Registered = site.client(**client)
        self.start_time = site.clock.time
        site.secrets.add(NEW_PASSWORD)
        site.server.keys.jwks()  # cached in a running server

    def start(self, user: User | None = None) -> GatewayBrowser:
        """Delete what the order before has left, and return a new browser."""
        for name, table in tables().items():
            if not name.endswith(KEPT):
                table.items.clear()
        self.site.clock.time = self.start_time
        self.site.server.store.users.put(user or self.user)
        self.site.server.client(self.client.id)
        return GatewayBrowser(self.site, HTTP_2)

    def tabs(self, browser: GatewayBrowser) -> list[GatewayBrowser]:
        """Return two tabs of a browser, with a connection each."""
        tabs = [GatewayBrowser(self.site, HTTP_2) for _ in range(2)]
        for tab in tabs:
            tab.cookies.update(browser.cookies)
        return tabs

    def twice(self, browser: GatewayBrowser, press: Callable[[GatewayBrowser], Answer]) -> list[Action]:
        """Return the two presses as actions."""
        return [(f"press {number}", partial(press, tab)) for number, tab in enumerate(self.tabs(browser))]

    def count_events(self, name: str) -> int:
        return sum(event.name == name for event in self.site.server.store.events.scan())


@pytest.mark.parametrize("mode", ["query", "form_post"])
@pytest.mark.parametrize("stored", [True, False])
def test_two_allows_get_two_codes_that_work(site: Site, wire: Wire, mode: str, stored: bool) -> None:
    scene = Scene(site)

    def actions() -> list[Action]:
        browser = scene.start()
        page = browser.sign_in(browser.authorize(scene.client, response_mode=mode))
        page = page if stored else browser.authorize(scene.client, response_mode=mode)
        return scene.twice(browser, lambda tab: tab.submit(page, decision="allow_always"))

    machine = GatewayBrowser(site, HTTP_2)
    for order in every_order(wire, actions):
        codes = {answer.code for _, answer in order.results}
        assert len(codes) == 2, order
        assert all(machine.redeem(scene.client, code).status == 200 for code in codes), order
        assert scene.count_events("consent_given") == 1, order


def test_two_tabs_that_fetch_an_answer_by_form_post_get_a_code_each(site: Site, wire: Wire) -> None:
    scene = Scene(site)

    def actions() -> list[Action]:
        browser = scene.start()
        page = browser.sign_in(browser.authorize(scene.client, response_mode="form_post"))
        address = browser.send(page, decision="allow_once").location
        return scene.twice(browser, lambda tab: tab.get(address))

    for order in every_order(wire, actions):
        assert len({answer.code for _, answer in order.results}) == 2, order


def test_allow_that_is_sent_again_after_a_denial_is_denied(site: Site, wire: Wire) -> None:
    scene = Scene(site)

    def actions() -> list[Action]:
        browser = scene.start()
        page = browser.sign_in(browser.authorize(scene.client))
        assert browser.send(page, decision="allow_once").code
        again, deny = scene.tabs(browser)
        return [
            ("allow", partial(again.send, page, decision="allow_once")),
            ("deny", partial(deny.send, page, decision="deny")),
        ]

    denied = 0
    for order in every_order(wire, actions):
        (answer,) = order.results_of("allow")
        withdrawn = next(number for number, call in enumerate(order.calls) if is_write(call, "deny"))
        repeated = [number for number, call in enumerate(order.calls) if is_write(call, "allow")]
        if "error" in answer.answer:
            assert answer.answer["error"] == "access_denied", order
            denied += 1
        else:
            assert max(repeated) < withdrawn, order
    assert denied


def is_write(call: str, name: str) -> bool:
    """Return whether a call of this action writes."""
    return call.startswith(name) and "TransactWriteItems" in call


def test_two_tabs_that_open_a_pushed_request_answer_it_once(site: Site, wire: Wire) -> None:
    scene = Scene(site, trusted=True)

    def actions() -> list[Action]:
        browser = scene.start()
        sign_in_to_account(browser)
        uri = pushed(browser, scene.client)
        return scene.twice(browser, lambda tab: open_pushed(tab, scene.client, uri))

    for order in every_order(wire, actions):
        assert sorted(answer.status for _, answer in order.results) == [302, 400], order
        assert len([*site.server.store.grants.scan()]) == 1, order


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("before", ["none", "signed in", "lapsed"])
def test_two_sign_ins_start_or_continue_one_session(site: Site, wire: Wire, trusted: bool, before: str) -> None:
    scene = Scene(site, trusted=trusted)

    def actions() -> list[Action]:
        browser = scene.start()
        if before != "none":
            sign_in_to_account(browser)
        if before == "lapsed":
            (session,) = site.server.store.sessions.scan()
            site.server.store.sessions.transition((session.session_id,), None, {"active_until": site.clock.time})
        page = browser.authorize(scene.client, prompt="login")
        return scene.twice(browser, lambda tab: tab.send(page, **CREDENTIALS))

    for order in every_order(wire, actions):
        assert len([*site.server.store.sessions.scan()]) == 1, order
        to_page = [answer.location.startswith("/oauth2/authorize?") for _, answer in order.results]
        assert to_page == [not trusted] * 2, order
        assert scene.count_events("sign_in") == (1 if before == "none" else 2), order
        assert scene.count_events("sign_in_failed") == 0, order


def test_two_changes_of_the_password_change_it_once_and_say_so(site: Site, wire: Wire) -> None:
    scene = Scene(site)
    new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}

    def actions() -> list[Action]:
        browser = scene.start()
        sign_in_to_account(browser)
        form = account_form(browser, "change_password", password=PASSWORD, **new)
        return scene.twice(browser, lambda tab: submit_form(tab, form))

    for order in every_order(wire, actions):
        assert {answer.location for _, answer in order.results} == {"/account/password?done=password_changed"}, order
        assert [session.repeats for session in site.server.store.sessions.scan()] == [1], order
        assert scene.count_events("password_changed") == 1, order
        assert scene.count_events("sign_in_failed") == 0, order


def test_two_required_new_passwords_change_it_once_and_continue(site: Site, wire: Wire) -> None:
    scene = Scene(site, trusted=True)
    new: dict[str, Any] = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}

    def actions() -> list[Action]:
        browser = scene.start(replace(scene.user, password_change_required=True))
        page = browser.sign_in(browser.authorize(scene.client))
        return scene.twice(browser, lambda tab: tab.submit(page, **new))

    for order in every_order(wire, actions):
        assert len({answer.code for _, answer in order.results}) == 2, order
        assert scene.count_events("password_changed") == 1, order
        assert [session.repeats for session in site.server.store.sessions.scan()] == [1], order
