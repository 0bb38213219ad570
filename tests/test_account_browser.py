"""The account pages in a real browser: what a person sees there, and takes away."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from chalicelib.models import Consent
from tests.browser import Browser
from tests.site import PASSWORD, Registered, Site
from tests.windows import Application, Window, scripted_or_not, violations

pytestmark = pytest.mark.browser

NEW_PASSWORD = "quite another password"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def at_home(site: Site, windows: Callable[..., Window]) -> Callable[..., Window]:
    """Opens windows in which alice is at her account pages."""
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


def tab(window: Window, name: str) -> None:
    """Choose one of the account pages."""
    window.page.get_by_role("navigation", name="Your account").get_by_role("link", name=name, exact=True).click()


def said(window: Window) -> str:
    """What the page says has been done."""
    return window.page.get_by_role("status").inner_text()


def entries(window: Window) -> list[str]:
    """What stands on a page: its applications, browsers or events."""
    return window.page.locator("main > ul > li").all_inner_texts()


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    return site.client(redirect_uris=[application.url(host="localhost")])


def allowed(window: Window, client: Registered, application: Application, decision: str = "Always allow") -> str:
    """Gives an application access by a page of ours; the access token that it gets."""
    goal = client.record.redirect_uris[0]
    window.authorize(client, goal, scope="openid email offline_access")
    window.press(decision)
    code = application.answers[-1]["code"]
    window.site.secrets.add(code)
    browser = Browser(window.site)
    tokens = browser.redeem(client, code).json
    browser.close()
    token: str = tokens["access_token"]
    return token


@scripted_or_not
def test_an_application_is_seen_and_its_access_taken_away(
    site: Site,
    at_home: Callable[..., Window],
    client: Registered,
    application: Application,
    browser: Browser,
    script: bool,
) -> None:
    window = at_home(script)
    assert "No application has access to your account." in window.text()
    token = allowed(window, client, application)
    window.to("/account")
    (entry,) = entries(window)
    for words in (
        "Photo Print",
        f"localhost:{application.port} · since ",
        "See your e-mail address",
        "You have allowed it always",
    ):
        assert words in entry
    assert browser.userinfo(token).status == 200
    window.press("Take access away from Photo Print")
    assert said(window) == "The application has no access any more."
    assert entries(window) == []
    if script:
        assert violations(window.page) == []
    assert browser.userinfo(token).status == 401
    window.authorize(client, client.record.redirect_uris[0], scope="openid email offline_access")
    assert window.heading() == "Allow access?", "it has to ask again"


@scripted_or_not
def test_access_is_taken_away_from_all_but_not_by_one_click_beside_another_button(
    site: Site, at_home: Callable[..., Window], applications: Callable[[], Application], script: bool
) -> None:
    window = at_home(script)
    for name in ("Photo Print", "Calendar"):
        application = applications()
        client = site.client(client_name=name, redirect_uris=[application.url(host="localhost")])
        allowed(window, client, application, "Allow once")
    window.to("/account")
    assert len(entries(window)) == 2
    everything = window.page.get_by_role("button", name="Take access away from all", exact=True)
    assert not everything.is_visible()
    window.page.get_by_text("Take access away from all 2 applications").click()
    window.press("Take access away from all")
    assert said(window) == "No application has access any more."
    assert entries(window) == []


@scripted_or_not
def test_another_browser_is_signed_out_from_here(at_home: Callable[..., Window], script: bool) -> None:
    here, there = at_home(script), at_home(script, user_agent=FIREFOX)
    tab(here, "Browsers")
    this, other = entries(here)
    assert "this one" in this
    assert "Firefox on Linux" in other
    with here.page.expect_navigation():
        here.page.get_by_role("button", name="Sign out Firefox on Linux, signed in ").click()
    assert said(here) == "That browser is signed out."
    assert len(entries(here)) == 1
    assert "You are signed in nowhere else." in here.text()
    tab(there, "Activity")
    assert there.heading() == "Sign in"
    tab(here, "Activity")
    assert here.heading() == "What was done lately"


@scripted_or_not
def test_the_password_is_changed_and_all_others_are_signed_out(at_home: Callable[..., Window], script: bool) -> None:
    here, there = at_home(script), at_home(script)
    tab(here, "Password")
    fields = {
        name: here.page.get_by_label(name, exact=True)
        for name in ("Present password", "New password", "New password, again")
    }

    def change(present: str, new: str, again: str) -> None:
        for field, text in zip(fields.values(), (present, new, again), strict=True):
            field.fill(text)
        here.press("Change password")

    here.forgiven.append("status of 400 (Bad Request) [/account]")
    for present, again, name, words in [
        ("not this one", NEW_PASSWORD, "Present password", "This is not your present password."),
        (PASSWORD, "something else", "New password", "The two entries differ."),
    ]:
        change(present, NEW_PASSWORD, again)
        assert here.page.get_by_role("alert").inner_text() == words
        assert here.page.title().startswith("Error: ")
        expect(fields[name]).to_be_focused()
        assert [field.input_value() for field in fields.values()] == ["", "", ""]
        if script:
            assert violations(here.page) == []
    change(PASSWORD, NEW_PASSWORD, NEW_PASSWORD)
    assert said(here).startswith("Your password is changed.")
    tab(there, "Browsers")
    there.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    there.sign_in()
    assert there.page.get_by_role("alert").inner_text() == "The username or the password is not right."
    there.sign_in(password=NEW_PASSWORD)
    assert there.heading() == "Applications with access"
    tab(here, "Activity")
    events = [entry.splitlines()[0] for entry in entries(here)]
    # Two sign-ins before the change, one after it; one wrong password on its page, one to sign in.
    assert sorted(events) == ["Password changed", *["Sign-in failed"] * 2, *["Signed in"] * 3]


@scripted_or_not
def test_the_keyboard_is_enough(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, script: bool
) -> None:
    site.user("alice")
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.type_in()
    allowed(window, client, application)
    window.to("/account")
    window.enter("Take access away from Photo Print")
    assert said(window) == "The application has no access any more."
    for name, heading in [
        ("Browsers", "Where you are signed in"),
        ("Activity", "What was done lately"),
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
    assert said(window).startswith("Your password is changed.")


def test_the_passwords_can_be_shown(at_home: Callable[..., Window]) -> None:
    window = at_home(True)
    tab(window, "Password")

    def kinds() -> list[str]:
        found: list[str] = window.page.locator("input:not([type=hidden], [readonly])").evaluate_all(
            "fields => fields.map((field) => field.type)"
        )
        return found

    show = window.page.get_by_role("button", name="Show present password")
    show.click()
    assert kinds() == ["text", "password", "password"]
    window.page.get_by_role("button", name="Hide present password").click()
    window.page.get_by_role("button", name="Show new passwords").click()
    assert kinds() == ["password", "text", "text"]


def test_long_lists_fit_on_a_phone(site: Site, at_home: Callable[..., Window]) -> None:
    """More applications than one page holds, one of them removed meanwhile, and a long history."""
    window = at_home(True, viewport={"width": 320, "height": 640})
    (user,) = site.server.store.users.scan()
    for number in range(25):
        client_id = site.client(client_name=f"Application {number:02} " + "W" * 60).id if number else "c" * 128
        consent = Consent(user.sub, client_id, frozenset({"openid", "email"}), site.clock() - number)
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
