"""A button that is pressed twice on a slow network, in Chromium: it does what it does when it is pressed once."""

import time
from collections.abc import Callable

import pytest

from tests.endpoints.code.conftest import NEW_PASSWORD
from tests.support.chromium import Application, Window, redeem_latest_code, with_and_without_javascript
from tests.support.site import PASSWORD, Registered, Site

pytestmark = pytest.mark.browser

# The time that each request takes, and the time between the two presses, in milliseconds.
TIMINGS = [(100, 60), (400, 250), (400, 600)]


def press_twice(window: Window, name: str, latency: int, between: int) -> None:
    """Press a button with the mouse, and again at the same place, if this page is still shown; wait for the end."""
    page = window.page
    session = window.context.new_cdp_session(page)
    slow = {"offline": False, "latency": latency, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", slow)
    button = page.get_by_role("button", name=name, exact=True)
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    assert box
    shown: list[str] = []
    page.on("framenavigated", lambda frame: shown.append(frame.url))
    for _ in range(2):
        if not shown:
            page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(between)
    deadline = time.monotonic() + 20
    while not shown:
        assert time.monotonic() < deadline, "no page came"
        page.wait_for_timeout(20)
    page.wait_for_timeout(3 * latency)  # the second press may still lead to another page
    page.wait_for_load_state()
    session.send("Network.emulateNetworkConditions", slow | {"latency": 0})
    session.detach()


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    """A client with one redirect URI, and the user alice."""
    site.user("alice")
    return site.client(redirect_uris=[application.url()], trusted=True)


@pytest.fixture
def open_window(windows: Callable[..., Window], script: bool) -> Callable[[], Window]:
    """A function that opens a window, whose cancelled requests are no errors."""

    def open_() -> Window:
        window = windows(java_script_enabled=script)
        window.expected_errors.append("net::ERR_ABORTED")
        return window

    return open_


@with_and_without_javascript
def test_sign_in_pressed_twice_leads_to_the_application_with_a_code_that_works(
    site: Site, application: Application, open_window: Callable[[], Window], client: Registered
) -> None:
    for timing in TIMINGS:
        window = open_window()
        window.authorize(client, application.url())
        window.page.get_by_label("Username").fill("alice")
        window.page.get_by_label("Password").fill(PASSWORD)
        press_twice(window, "Sign in", *timing)
        assert window.heading() == "Welcome back", timing
        redeem_latest_code(site, client, application, application.url())
    assert len([*site.server.store.sessions.scan()]) == len(TIMINGS)
    assert all(event.name == "sign_in" for event in site.server.store.events.scan())


@with_and_without_javascript
@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_allow_pressed_twice_leads_to_the_application_with_a_code_that_works(
    site: Site, application: Application, open_window: Callable[[], Window], client: Registered, script: bool, mode: str
) -> None:
    window = open_window()
    for timing in TIMINGS:
        window.authorize(client, application.url(), prompt="login consent", response_mode=mode)
        window.sign_in()
        press_twice(window, "Allow", *timing)
        if mode == "form_post":
            if not script:
                window.press("Continue")
            window.page.wait_for_url(application.url())
            application.received.append("/cb?" + "&".join(f"{k}={v}" for k, v in application.posted[-1][1].items()))
        assert window.heading() == "Welcome back", timing
        redeem_latest_code(site, client, application, application.url())


@with_and_without_javascript
def test_change_password_pressed_twice_says_that_it_is_changed(
    site: Site, open_window: Callable[[], Window], client: Registered
) -> None:
    window = open_window()
    window.to("/account")
    window.sign_in()
    passwords = [PASSWORD, *(f"{NEW_PASSWORD} {number}" for number in range(len(TIMINGS)))]
    for timing, current, new in zip(TIMINGS, passwords, passwords[1:], strict=False):
        window.to("/account/password")
        window.page.get_by_label("Current password").fill(current)
        window.page.get_by_label("New password", exact=True).fill(new)
        window.page.get_by_label("Confirm new password").fill(new)
        press_twice(window, "Change password", *timing)
        assert "Your password is changed." in window.text(), timing
    names = [event.name for event in site.server.store.events.scan()]
    assert names.count("password_changed") == len(TIMINGS)
    assert "sign_in_failed" not in names


@with_and_without_javascript
def test_sign_out_pressed_twice_leads_to_the_signed_out_page(
    site: Site, open_window: Callable[[], Window], client: Registered
) -> None:
    for timing in TIMINGS:
        window = open_window()
        window.to("/account")
        window.sign_in()
        window.to("/oauth2/logout")
        press_twice(window, "Sign out", *timing)
        assert "signed out" in window.heading().lower(), timing
        assert "signet-session" not in window.cookies


def test_back_from_the_application_posts_no_answer_by_itself(
    application: Application, window: Window, client: Registered
) -> None:
    window.expected_errors.append("net::ERR_ABORTED")
    window.authorize(client, application.url(), prompt="login consent", response_mode="form_post")
    window.sign_in()
    window.press("Allow")
    window.page.wait_for_url(application.url())
    window.page.go_back()
    window.page.wait_for_timeout(500)
    assert len(application.posted) == 1
    window.press("Continue")
    assert len(application.posted) == 2


def test_button_works_again_on_the_page_that_the_user_comes_back_to(
    site: Site, application: Application, window: Window, client: Registered
) -> None:
    window.expected_errors.append("status of 400")
    window.authorize(client, application.url())
    window.sign_in(password="wrong")
    window.page.go_back()
    window.sign_in()
    redeem_latest_code(site, client, application, application.url())
