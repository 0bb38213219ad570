"""Sign-in and sign-out in a popup, as oidc-client-ts and other libraries of single-page applications do it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.interop.programs import NODE_FOLDER, not_installed
from tests.support.chromium import Application, Window
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.browser, pytest.mark.programs]

LIBRARY = NODE_FOLDER / "node_modules" / "oidc-client-ts" / "dist" / "browser" / "oidc-client-ts.min.js"


@pytest.fixture(scope="module")
def library() -> Path:
    """The file of oidc-client-ts for browsers."""
    if not LIBRARY.exists():
        pytest.skip(not_installed("The npm package oidc-client-ts"))
    return LIBRARY


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    """Register the single-page application. Its origin is another one than the server's."""
    site.user("alice")
    bye = application.url("/bye", "localhost")
    return site.client(public=True, redirect_uris=[application.url(host="localhost")], post_logout_redirect_uris=(bye,))


@pytest.fixture
def open_application(
    site: Site, application: Application, client: Registered, library: Path, windows: Callable[..., Window]
) -> Callable[[], Window]:
    """Return a function that opens the application, which has a `manager` and a button for each of its actions."""
    script = f"""<script>{library.read_text()}</script><script>
        const manager = new oidc.UserManager({{
            authority: "{site.settings.issuer}",
            client_id: "{client.id}",
            redirect_uri: location.origin + "/cb",
            post_logout_redirect_uri: location.origin + "/bye",
            scope: "openid",
        }});
        const options = {{popupAbortOnClose: true}};  // a popup that has lost its opener seems to be closed
        const show = (text) => document.body.append(Object.assign(document.createElement("p"), {{textContent: text}}));
        const run = (action) => action().then((user) => show(user ? "Signed in" : "Signed out"), show);
    </script>"""
    application.pages["/"] = f"""{script}
        <button onclick="run(() => manager.signinPopup(options))">Sign in</button>
        <button onclick="run(() => manager.signoutPopup(options))">Sign out</button>"""
    application.pages["/cb"] = f"{script}<script>manager.signinPopupCallback();</script>"
    application.pages["/bye"] = f"{script}<script>manager.signoutPopupCallback();</script>"

    def open_() -> Window:
        window = windows()
        window.page.goto(application.url("/", "localhost"))
        return window

    return open_


def press(window: Window, name: str) -> Page:
    """Press a button of the application, and return the popup that it opens."""
    with window.page.expect_popup() as popup:
        window.page.get_by_role("button", name=name).click()
    return popup.value


def test_oidc_client_ts_signs_in_and_out_by_popup(open_application: Callable[[], Window]) -> None:
    window = open_application()
    popup = press(window, "Sign in")
    popup.wait_for_url(f"{window.site.settings.issuer}/**")
    assert window.heading(popup) == "Sign in"
    window.sign_in(page=popup)
    assert window.heading(popup) == "Allow access?"
    popup.get_by_role("button", name="Allow", exact=True).click()
    window.page.get_by_text("Signed in").wait_for()
    assert popup.is_closed()
    popup = press(window, "Sign out")
    window.page.get_by_text("Signed out").wait_for()
    assert popup.is_closed()


def test_account_page_has_no_connection_to_the_window_that_opened_it(
    site: Site, application: Application, window: Window
) -> None:
    site.user("alice")
    window.to("/account")
    window.sign_in()
    window.page.goto(application.url("/", "localhost"))
    with window.page.expect_popup() as popup:
        window.page.evaluate(f"window.opened = open('{site.settings.issuer}/account'); null")
    popup.value.wait_for_load_state()
    assert window.heading(popup.value) == "Applications with access"
    assert popup.value.evaluate("opener") is None
    assert window.page.evaluate("opened.closed"), "the window that opened it sees nothing of it"
