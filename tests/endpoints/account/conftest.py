"""What the tests of the account pages share: a user who is signed in, and what is stored and shown."""

import re
from html import unescape
from typing import Any

import pytest

from chalicelib.protocol.records import Consent, Event
from tests.support.account import sign_in_to_account
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Registered, Site

NEW_PASSWORD = "quite another password"
CHANGE = {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}


@pytest.fixture
def alice(site: Site, browser: Browser) -> Browser:
    """Return a browser in which alice is signed in at her account page."""
    site.user("alice")
    site.secrets.add(NEW_PASSWORD)
    sign_in_to_account(browser)
    return browser


def visible_text(page: Answer) -> str:
    """Return the visible text of a page's main part."""
    text = re.sub(r"<[^>]+>", " ", page.body.partition("<main>")[2].partition("</main>")[0])
    return " ".join(unescape(text).split())


def listed_names(browser: Browser) -> list[str]:
    """Return the names of the applications on the account page, in their order."""
    page = browser.get("/account")
    assert page.status == 200
    return [unescape(name) for name in re.findall(r"<h2><bdi>(.*?)</bdi></h2>", page.body)]


def read_events(site: Site, name: str) -> list[Event]:
    """Return the events of this name in alice's history."""
    events = site.server.store.events.find("sub", site.read_user().sub)
    return [event for event in events if event.name == name]


def remember_consent(site: Site, client: Registered, **members: Any) -> None:
    """Store alice's remembered consent for a client; `members` replace its fields."""
    user = site.read_user()
    fields: dict[str, Any] = {
        "scope": frozenset({"openid"}),
        "updated_at": site.clock(),
        "consents_generation": user.consents_generation,
        "registration_id": client.record.registration_id,
    }
    site.server.store.consents.put(Consent(user.sub, client.id, **(fields | members)))
