"""What the tests of the account pages share: signing in, and their forms."""

import re
from html import unescape
from typing import Any

import pytest

from chalicelib.protocol.records import Consent, Event, User
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Registered, Site

NEW_PASSWORD = "quite another password"
CHANGE = {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def alice(site: Site, browser: Browser) -> Browser:
    """Return a browser in which alice is signed in at her account page."""
    site.user("alice")
    site.secrets.add(NEW_PASSWORD)
    sign_in_to_account(browser)
    return browser


def sign_in_to_account(browser: Browser, username: str = "alice", password: str = PASSWORD) -> Answer:
    """Open the account page, sign in, and return the page."""
    start = browser.get("/account")
    page = browser.request("GET", start.location)
    answer = browser.send(page, username=username, password=password)
    assert answer.status == 303
    return browser.request("GET", answer.location)


def visible_text(page: Answer) -> str:
    """Return the visible text of a page's main part."""
    text = re.sub(r"<[^>]+>", " ", page.body.partition("<main>")[2].partition("</main>")[0])
    return " ".join(unescape(text).split())


def tag_of(page: Answer) -> str:
    """Return the CSRF tag of a page's forms."""
    match = re.search(r'name="tag" value="([^"]+)"', page.body)
    assert match, page.body
    return match[1]


def submit_action(browser: Browser, action: str, **fields: str) -> Answer:
    """Submit a form of the account pages that a page did not show: with these fields only, and a valid tag."""
    page = browser.get("/account/password")
    return browser.post("/account", {"tag": tag_of(page), "action": action, **fields}, SAME_ORIGIN)


def read_form(page: Answer, action: str, **fields: str) -> dict[str, str]:
    """Return what the first button with this action sends, of those that send these fields."""
    for text in re.findall(r"<form.*?</form>", page.body, re.DOTALL):
        values = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', text))
        if values.get("action") == action and fields.items() <= values.items():
            return values
    raise AssertionError(page.body)


def submit_form(browser: Browser, form: dict[str, str]) -> Answer:
    """Send a form that a page has shown."""
    return browser.post("/account", form, SAME_ORIGIN)


def listed_names(browser: Browser) -> list[str]:
    """Return the names of the applications on the account page, in their order."""
    page = browser.get("/account")
    assert page.status == 200
    return [unescape(name) for name in re.findall(r"<h2><bdi>(.*?)</bdi></h2>", page.body)]


def read_user(site: Site, username: str = "alice") -> User:
    """Return the record of a user as it is now."""
    return next(user for user in site.server.store.users.scan() if user.username == username)


def read_events(site: Site, name: str) -> list[Event]:
    """Return the events of this name in alice's history."""
    events = site.server.store.events.find("sub", read_user(site).sub)
    return [event for event in events if event.name == name]


def remember_consent(site: Site, client: Registered, **members: Any) -> None:
    """Store alice's remembered consent for a client; `members` replace its fields."""
    user = read_user(site)
    fields: dict[str, Any] = {
        "scope": frozenset({"openid"}),
        "updated_at": site.clock(),
        "consents_generation": user.consents_generation,
        "registration_id": client.record.registration_id,
    }
    site.server.store.consents.put(Consent(user.sub, client.id, **(fields | members)))
