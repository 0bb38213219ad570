"""Signing out in a real browser: the question, and the way back to the application."""

from collections.abc import Callable

import pytest

from tests.browser import Browser
from tests.site import Registered, Site
from tests.windows import Application, Window, scripted_or_not

pytestmark = pytest.mark.browser

QUESTION = "Do you want to sign out of Signet?"


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    """An application at another site, which is told when somebody comes back from us."""
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


def signed_in(window: Window, client: Registered, application: Application) -> str:
    """Signs alice in by the application, which gets an ID token."""
    window.authorize(client, client.record.redirect_uris[0])
    window.sign_in()
    window.press("Allow once")
    window.site.secrets.add(application.answer["code"])
    browser = Browser(window.site)
    token: str = browser.redeem(client, application.answer["code"]).json["id_token"]
    browser.close()
    return token


@scripted_or_not
def test_whoever_types_the_address_is_asked_and_may_stay(
    site: Site, windows: Callable[..., Window], client: Registered, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.sign_in()
    window.page.get_by_role("link", name="Sign out").click()
    assert window.heading() == QUESTION
    assert "You are signed in as alice." in window.text()
    window.press("Stay signed in")
    assert window.heading() == "You are still signed in"
    assert is_signed_in(window)
    window.page.get_by_role("link", name="Sign out").click()
    window.press("Sign out")
    assert window.heading() == "You are signed out"
    assert "signet-session" not in window.cookies
    assert not is_signed_in(window)


@scripted_or_not
def test_back_shows_nothing_of_whoever_has_signed_out(
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


@scripted_or_not
def test_an_application_that_brings_no_id_token_has_to_let_the_person_decide(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    signed_in(window, client, application)
    asked = {"client_id": client.id, "post_logout_redirect_uri": application.url("/bye", "localhost"), "state": "x"}
    window.to("/oauth2/logout", **asked)
    assert window.heading() == QUESTION
    assert "Photo Print asks for it." in window.text()
    window.press("Stay signed in")
    assert is_signed_in(window)
    window.to("/oauth2/logout", **asked)
    window.press("Sign out")
    assert window.heading() == "Good bye"
    assert window.page.url == application.url("/bye?state=x", "localhost")
    assert not is_signed_in(window)


@scripted_or_not
def test_an_application_that_brings_its_id_token_signs_the_person_out_by_a_link(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    token = signed_in(window, client, application)
    goal = application.url("/bye", "localhost")
    window.to("/oauth2/logout", id_token_hint=token, post_logout_redirect_uri=goal)
    assert window.heading() == "Good bye"
    assert not is_signed_in(window)


@pytest.mark.spec("OpenID Connect RP-Initiated Logout §2 c")
@scripted_or_not
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "another port"])
def test_an_application_may_post_its_id_token(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, host: str, script: bool
) -> None:
    """From another site the POST carries no cookie of ours: a page of ours sends it again, or its button does."""
    window = windows(java_script_enabled=script)
    fields = {
        "id_token_hint": signed_in(window, client, application),
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


@scripted_or_not
def test_the_keyboard_is_enough(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.type_in()
    window.enter("Sign out")
    window.enter("Stay signed in")
    assert window.heading() == "You are still signed in"
    window.to("/oauth2/logout")
    window.enter("Sign out")
    assert window.heading() == "You are signed out"
    assert not is_signed_in(window)
