"""The account pages in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from chalicelib.protocol.records import Consent
from tests.support.browser import Browser
from tests.support.chromium import Application, Window, violations, with_and_without_javascript
from tests.support.site import PASSWORD, Registered, Site

pytestmark = pytest.mark.browser

NEW_PASSWORD = "quite another password"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def open_account(site: Site, windows: Callable[..., Window]) -> Callable[..., Window]:
    """Open a window in which alice is signed in to the account pages."""
    site.user("alice")
    site.secrets.add(NEW_PASSWORD)

    def open_(script: bool, **options: Any) -> Window:
        window = windows(java_script_enabled=script, **options)
        window.to("/account")
        assert window.heading() == "Sign in"
        window.sign_in()
        assert window.heading() == "Applications with access"
        return window

    return open_


def open_tab(window: Window, name: str) -> None:
    """Open one of the account pages, and wait until it has loaded."""
    with window.page.expect_navigation():
        window.page.get_by_role("navigation", name="Your account").get_by_role("link", name=name, exact=True).click()


def status_message(window: Window) -> str:
    """Return the message that says what was done."""
    return window.page.get_by_role("status").inner_text()


def entries(window: Window) -> list[str]:
    """Return the applications, browsers or events that the page lists."""
    return window.page.locator("main > ul > li").all_inner_texts()


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    return site.client(redirect_uris=[application.url(host="localhost")])


def allow_access(window: Window, client: Registered, application: Application, remember: bool = True) -> str:
    """Give an application access on the consent page; return its access token."""
    redirect_uri = client.record.redirect_uris[0]
    window.authorize(client, redirect_uri, scope="openid email offline_access")
    if remember:
        window.allow_and_remember()
    else:
        window.press("Allow")
    code = application.answers[-1]["code"]
    window.site.secrets.add(code)
    browser = Browser(window.site)
    tokens = browser.redeem(client, code).json
    browser.close()
    token: str = tokens["access_token"]
    return token


@with_and_without_javascript
def test_application_is_listed_and_its_access_removed(
    site: Site,
    open_account: Callable[..., Window],
    client: Registered,
    application: Application,
    browser: Browser,
    script: bool,
) -> None:
    window = open_account(script)
    assert "No application has access to your account." in window.text()
    token = allow_access(window, client, application)
    window.to("/account")
    (entry,) = entries(window)
    for text in (
        "Photo Print",
        f"localhost:{application.port}",
        "since ",
        "See your email address",
        "Your choice is remembered",
    ):
        assert text in entry
    assert browser.userinfo(token).status == 200
    window.press("Remove access for Photo Print")
    assert status_message(window) == "The application no longer has access."
    assert entries(window) == []
    if script:
        assert violations(window.page) == []
    assert browser.userinfo(token).status == 401
    window.authorize(client, client.record.redirect_uris[0], scope="openid email offline_access")
    assert window.heading() == "Allow access?", "it has to ask again"


@with_and_without_javascript
def test_what_was_done_begins_the_title_and_has_the_focus(
    open_account: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    """Screen readers read both when a page loads; a live region that is there already is not announced."""
    window = open_account(script)
    expect(window.page.locator(":focus")).to_have_count(0)
    allow_access(window, client, application)
    window.to("/account")
    window.press("Remove access for Photo Print")
    done = "The application no longer has access."
    expect(window.page.get_by_role("status", name=done, exact=True)).to_be_focused()
    assert window.page.title() == f"{done} · Applications with access · Signet"
    window.page.keyboard.press("Tab")
    expect(window.page.get_by_role("status")).not_to_be_focused()
    window.to("/account")
    assert window.page.title() == "Applications with access · Signet"


@with_and_without_javascript
def test_access_of_all_applications_is_removed_with_two_clicks(
    site: Site, open_account: Callable[..., Window], applications: Callable[[], Application], script: bool
) -> None:
    window = open_account(script)
    for name in ("Photo Print", "Calendar"):
        application = applications()
        client = site.client(client_name=name, redirect_uris=[application.url(host="localhost")])
        allow_access(window, client, application, remember=False)
    window.to("/account")
    assert len(entries(window)) == 2
    remove_all = window.page.get_by_role("button", name="Remove access for all", exact=True)
    assert not remove_all.is_visible()
    window.page.get_by_text("Remove access for all 2 applications").click()
    window.press("Remove access for all")
    assert status_message(window) == "No application has access now."
    assert entries(window) == []


@with_and_without_javascript
def test_another_browser_is_signed_out(open_account: Callable[..., Window], script: bool) -> None:
    current, other = open_account(script), open_account(script, user_agent=FIREFOX)
    open_tab(current, "Devices")
    current_entry, other_entry = entries(current)
    assert "this browser" in current_entry
    assert "Firefox on Linux" in other_entry
    with current.page.expect_navigation():
        current.page.get_by_role("button", name="Sign out Firefox on Linux, signed in ").click()
    assert status_message(current) == "That browser is signed out."
    assert len(entries(current)) == 1
    assert "You are not signed in anywhere else." in current.text()
    open_tab(other, "Activity")
    assert other.heading() == "Sign in"
    open_tab(current, "Activity")
    assert current.heading() == "Recent activity"


@with_and_without_javascript
def test_password_is_changed_and_all_other_browsers_are_signed_out(
    open_account: Callable[..., Window], script: bool
) -> None:
    current, other = open_account(script), open_account(script)
    open_tab(current, "Password")
    fields = {
        name: current.page.get_by_label(name, exact=True)
        for name in ("Current password", "New password", "Confirm new password")
    }

    def change(password: str, new: str, confirmation: str) -> None:
        for field, text in zip(fields.values(), (password, new, confirmation), strict=True):
            field.fill(text)
        current.press("Change password")

    current.expected_errors.append("status of 400 (Bad Request) [/account]")
    for password, confirmation, name, problem in [
        ("not this one", NEW_PASSWORD, "Current password", "This is not your current password."),
        (PASSWORD, "something else", "New password", "The two entries differ."),
    ]:
        change(password, NEW_PASSWORD, confirmation)
        assert current.page.get_by_role("alert").inner_text() == problem
        assert current.page.title().startswith("Error: ")
        expect(fields[name]).to_be_focused()
        assert [field.input_value() for field in fields.values()] == ["", "", ""]
        if script:
            assert violations(current.page) == []
    change(PASSWORD, NEW_PASSWORD, NEW_PASSWORD)
    assert status_message(current).startswith("Your password is changed.")
    open_tab(other, "Devices")
    other.expected_errors.append("status of 400 (Bad Request) [/oauth2/authorize]")
    other.sign_in()
    assert other.page.get_by_role("alert").inner_text() == "The username or the password is not right."
    other.sign_in(password=NEW_PASSWORD)
    assert other.heading() == "Applications with access"
    open_tab(current, "Activity")
    events = [entry.splitlines()[0] for entry in entries(current)]
    # Two sign-ins before the change and one after it; a wrong password on the password page and one at sign-in.
    failed, signed_in = "Sign-in failed", "Signed in"
    assert events == [signed_in, failed, "Password changed", failed, signed_in, signed_in]


@with_and_without_javascript
def test_account_pages_work_with_the_keyboard(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    site.user("alice")
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.sign_in_by_keyboard()
    allow_access(window, client, application)
    window.to("/account")
    window.enter("Remove access for Photo Print")
    assert status_message(window) == "The application no longer has access."
    for name, heading in [
        ("Devices", "Where you are signed in"),
        ("Activity", "Recent activity"),
        ("Password", "Change your password"),
    ]:
        window.enter(name)
        assert window.heading() == heading
    keyboard = window.page.keyboard
    for text in (PASSWORD, NEW_PASSWORD, NEW_PASSWORD):
        while not window.page.evaluate("document.activeElement.type === 'password'"):
            keyboard.press("Tab")
        keyboard.type(text)
        keyboard.press("Tab")
    window.enter("Change password")
    assert status_message(window).startswith("Your password is changed.")


def test_passwords_can_be_shown(open_account: Callable[..., Window]) -> None:
    window = open_account(True)
    open_tab(window, "Password")

    def field_types() -> list[str]:
        types: list[str] = window.page.locator("input:not([type=hidden], [readonly])").evaluate_all(
            "fields => fields.map((field) => field.type)"
        )
        return types

    show = window.page.get_by_role("button", name="Show current password")
    show.click()
    assert field_types() == ["text", "password", "password"]
    window.page.get_by_role("button", name="Hide current password").click()
    window.page.get_by_role("button", name="Show new passwords").click()
    assert field_types() == ["password", "text", "text"]


def test_long_lists_fit_on_a_phone(site: Site, open_account: Callable[..., Window]) -> None:
    """More applications than fit on one page."""
    window = open_account(True, viewport={"width": 320, "height": 640})
    (user,) = site.server.store.users.scan()
    for number in range(25):
        client = site.client(client_name=f"Application {number:02} " + "W" * 60).record
        consent = Consent(
            user.sub,
            client.client_id,
            frozenset({"openid", "email"}),
            site.clock() - number,
            consents_generation=user.consents_generation,
            registration_id=client.registration_id,
        )
        site.server.store.consents.put(consent)
    window.to("/account")
    scrolls = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert len(entries(window)) == 20
    for size in ("200%", "100%"):
        window.page.evaluate(f"document.documentElement.style.fontSize = '{size}'")
        assert window.page.evaluate(scrolls) is False, size
    assert violations(window.page) == []
    window.page.get_by_role("link", name="Next").click()
    assert len(entries(window)) == 5
    assert "Page 2 of 2" in window.text()
