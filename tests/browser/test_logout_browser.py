"""Sign-out in a real browser: the confirmation page, and the return to the application."""

from collections.abc import Callable

import pytest

from tests.support.browser import Browser
from tests.support.chromium import Application, Window, with_and_without_javascript
from tests.support.site import Registered, Site

pytestmark = pytest.mark.browser

CONFIRMATION = "Do you want to sign out of Signet?"


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    """An application at another site, with a registered post_logout_redirect_uri."""
    site.user("alice")
    application.pages["/bye"] = "<h1>Good bye</h1>"
    return site.client(
        redirect_uris=[application.url(host="localhost")],
        post_logout_redirect_uris=(application.url("/bye", "localhost"),),
    )


def is_signed_in(window: Window) -> bool:
    window.to("/account")
    assert window.heading() in ("Applications with access", "Sign in")
    return window.heading() != "Sign in"


def sign_in_to_application(window: Window, client: Registered, application: Application) -> str:
    """Sign alice in to the application; return its ID token."""
    window.authorize(client, client.record.redirect_uris[0])
    window.sign_in()
    window.press("Allow")
    window.site.secrets.add(application.answer["code"])
    browser = Browser(window.site)
    token: str = browser.redeem(client, application.answer["code"]).json["id_token"]
    browser.close()
    return token


@with_and_without_javascript
def test_sign_out_from_the_account_page_asks_first_and_works_with_the_keyboard(
    site: Site, windows: Callable[..., Window], client: Registered, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.sign_in_by_keyboard()
    window.enter("Sign out")
    assert window.heading() == CONFIRMATION
    assert "You are signed in as alice." in window.text()
    window.enter("Stay signed in")
    assert window.heading() == "You are still signed in"
    assert is_signed_in(window)
    window.to("/oauth2/logout")
    window.enter("Sign out")
    assert window.heading() == "You are signed out"
    assert "signet-session" not in window.cookies
    assert not is_signed_in(window)


@with_and_without_javascript
def test_back_after_sign_out_shows_the_sign_in_page(
    site: Site, windows: Callable[..., Window], client: Registered, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.sign_in()
    window.page.get_by_role("link", name="Sign out").click()
    window.press("Sign out")
    for _ in range(2):
        window.page.go_back()
    assert window.heading() == "Sign in"


@with_and_without_javascript
def test_application_without_an_id_token_must_let_the_user_confirm(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    sign_in_to_application(window, client, application)
    parameters = {
        "client_id": client.id,
        "post_logout_redirect_uri": application.url("/bye", "localhost"),
        "state": "x",
    }
    window.to("/oauth2/logout", **parameters)
    assert window.heading() == CONFIRMATION
    assert "Photo Print asked to sign you out." in window.text()
    window.press("Stay signed in")
    assert is_signed_in(window)
    window.to("/oauth2/logout", **parameters)
    window.press("Sign out")
    assert window.heading() == "Good bye"
    assert window.page.url == application.url("/bye?state=x", "localhost")
    assert not is_signed_in(window)


@with_and_without_javascript
def test_application_with_an_id_token_signs_the_user_out_with_a_link(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    token = sign_in_to_application(window, client, application)
    post_logout_redirect_uri = application.url("/bye", "localhost")
    window.to("/oauth2/logout", id_token_hint=token, post_logout_redirect_uri=post_logout_redirect_uri)
    assert window.heading() == "Good bye"
    assert not is_signed_in(window)


@with_and_without_javascript
def test_application_with_an_unregistered_address_signs_the_user_out_and_is_linked(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    token = sign_in_to_application(window, client, application)
    window.to("/oauth2/logout", id_token_hint=token, post_logout_redirect_uri=application.url("/other", "localhost"))
    assert window.heading() == "You are signed out"
    assert "asked to send you to an address that is not registered for it." in window.text()
    window.page.get_by_role("link", name="Back to Photo Print").click()
    assert window.heading() == "Good bye"
    assert not is_signed_in(window)


@pytest.mark.spec("OpenID Connect RP-Initiated Logout §2 c")
@with_and_without_javascript
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "another port"])
def test_application_may_post_its_id_token(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, host: str, script: bool
) -> None:
    """A cross-site POST has no session cookie, so a page submits the form again, by script or by its button."""
    window = windows(java_script_enabled=script)
    fields = {
        "id_token_hint": sign_in_to_application(window, client, application),
        "post_logout_redirect_uri": application.url("/bye", "localhost"),
    }
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    action = f"{site.settings.issuer}/oauth2/logout"
    application.pages["/"] = f'<form method="post" action="{action}">{inputs}<button>Log out</button></form>'
    window.page.goto(application.url("/", host))
    window.page.get_by_role("button", name="Log out").click()
    if not script and host == "localhost":
        assert window.heading() == "Signing out of Signet"
        window.press("Continue")
    window.page.wait_for_url(application.url("/bye", "localhost"))
    assert not is_signed_in(window)
