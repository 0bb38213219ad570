"""Back, reload, a restored tab and blocked cookies on the pages of an authorization request, in Chromium."""

import pytest
from playwright.sync_api import Route

from tests.support.chromium import Application, Window, redeem_latest_code, violations
from tests.support.site import STAGE, Registered, Site, tables

pytestmark = pytest.mark.browser

WRONG = "The username or the password is not right."


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    """A client with one redirect URI, and the user alice."""
    site.user("alice")
    return site.client(redirect_uris=[application.url()])


@pytest.fixture
def authorized(window: Window, client: Registered) -> Registered:
    """The client, whose authorization request is open in the window."""
    open_request(window, client)
    return client


def open_request(window: Window, client: Registered) -> None:
    window.authorize(client, client.record.redirect_uris[0])


def allow_and_redeem(window: Window, client: Registered, application: Application) -> None:
    window.press("Allow")
    redeem_latest_code(window.site, client, application, client.record.redirect_uris[0])


def test_reload_and_back_after_a_wrong_password_send_no_password_again(
    application: Application, window: Window, authorized: Registered
) -> None:
    window.expected_errors.append("status of 400")
    address = window.page.url
    window.sign_in(password="wrong")
    assert WRONG in window.text()
    shown_at = window.page.url
    assert shown_at.partition("?")[0] == address.partition("?")[0]
    methods: list[str] = []
    window.page.on("request", lambda request: methods.append(request.method))
    window.page.reload()
    assert WRONG not in window.text()
    assert window.heading() == "Sign in"
    window.page.go_back()
    assert window.heading() == "Sign in"
    window.page.go_forward()
    assert window.heading() == "Sign in"
    assert set(methods) == {"GET"}
    window.sign_in()
    allow_and_redeem(window, authorized, application)


def test_tab_that_is_restored_after_an_hour_signs_in(
    site: Site, application: Application, window: Window, authorized: Registered
) -> None:
    window.expected_errors.append("status of 400")
    address = window.page.url
    site.clock.advance(3600)
    window.sign_in()
    assert "This page was out of date." in window.text(), "the tab was still open"
    assert not tables()[f"signet-{STAGE}-sessions"].items
    site.clock.advance(3600)
    window.page.goto(address)  # what a browser does with a tab that it restores
    window.sign_in()
    allow_and_redeem(window, authorized, application)


def test_use_another_account_can_be_gone_back_from(
    site: Site, application: Application, window: Window, client: Registered
) -> None:
    site.user("bob")
    open_request(window, client)
    window.sign_in()
    window.press("Use another account")
    assert window.heading() == "Sign in"
    window.page.reload()
    assert window.heading() == "Sign in"
    window.page.go_back()
    assert window.heading() == "Allow access?"
    assert "alice" in window.text()
    window.page.go_forward()
    window.sign_in("bob")
    assert "bob" in window.text()
    allow_and_redeem(window, client, application)


def test_consent_page_that_was_left_open_too_long_is_shown_again_and_works(
    site: Site, application: Application, window: Window, authorized: Registered
) -> None:
    window.expected_errors.append("status of 400")
    window.sign_in()
    site.clock.advance(site.settings.request_lifetime)
    window.press("Allow")
    assert window.heading() == "Allow access?"
    assert "This page was out of date." in window.text()
    assert application.received == []
    allow_and_redeem(window, authorized, application)


def test_blocked_cookies_are_named_and_the_user_continues_once_they_are_allowed(
    site: Site, application: Application, window: Window, client: Registered
) -> None:
    window.expected_errors.append("status of 400")

    def block_cookies(route: Route) -> None:
        response = route.fetch(max_redirects=0)
        window.context.clear_cookies()
        headers = {name: value for name, value in response.headers.items() if name != "set-cookie"}
        route.fulfill(response=response, headers=headers)

    def try_again() -> None:
        with window.page.expect_navigation():
            window.page.get_by_role("link", name="Try again").click()

    window.context.route(f"{site.settings.issuer}/**", block_cookies)
    open_request(window, client)
    for _ in range(2):
        window.sign_in()
        assert window.heading() == "Your browser did not send our cookie"
        assert "Allow cookies for this site, then try again." in window.text()
        assert violations(window.page) == []
        try_again()
        assert window.heading() == "Sign in"
        assert not window.cookies
    assert not tables()[f"signet-{STAGE}-attempts"].items, "no password was looked at"
    window.sign_in()
    window.context.unroute_all()
    try_again()
    window.sign_in()
    allow_and_redeem(window, client, application)
