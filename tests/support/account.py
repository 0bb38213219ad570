"""The account pages: sign in, read what their buttons send, and press them."""

import re
from html.parser import HTMLParser

from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD


class _Forms(HTMLParser):
    """The forms of a page, each with its fields and the value of its button."""

    def __init__(self, body: str):
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({})
        elif tag in ("input", "button") and "name" in values and self.forms:
            self.forms[-1][values["name"]] = values.get("value", "")


def open_sign_in(browser: Browser) -> Answer:
    """Open the account page in a browser without a session; return the sign-in page that follows."""
    return browser.request("GET", browser.get("/account").location)


def sign_in_to_account(browser: Browser, username: str = "alice", password: str = PASSWORD) -> Answer:
    """Open the account page, sign in, and return the page."""
    answer = browser.send(open_sign_in(browser), username=username, password=password)
    assert answer.status == 303, answer.body
    return browser.request("GET", answer.location)


def account_form(browser: Browser, action: str, **fields: str) -> dict[str, str]:
    """Return a form that no page needs to show: with these fields only, and a valid tag."""
    page = browser.get("/account/password")
    return {"tag": page.form.fields["tag"], "action": action, **fields}


def read_form(page: Answer, action: str, **fields: str) -> dict[str, str]:
    """Return what the button with this action sends. A page must have only one of them that sends these fields."""
    expected = {"action": action} | fields
    forms = [form for form in _Forms(page.body).forms if expected.items() <= form.items()]
    assert len(forms) == 1, page.body
    return forms[0]


def submit_form(browser: Browser, form: dict[str, str]) -> Answer:
    """Send a form of the account pages."""
    return browser.post("/account", form, {"Sec-Fetch-Site": "same-origin"})


def submit_action(browser: Browser, action: str, **fields: str) -> Answer:
    """Send a form that a page did not show: with these fields only, and a valid tag."""
    return submit_form(browser, account_form(browser, action, **fields))


def is_signed_in(browser: Browser) -> bool:
    """Return whether the account pages are shown in a browser."""
    return browser.get("/account/browsers").status == 200


def listed_clients(browser: Browser) -> set[str]:
    """Return the ids of the clients that the account page lists with a button to remove their access."""
    page = browser.get("/account")
    assert page.status == 200
    return {form["client_id"] for form in _Forms(page.body).forms if "client_id" in form}


def shows_account_of(browser: Browser, username: str) -> bool:
    """Return whether the account page is shown to this user."""
    page = browser.get("/account/browsers")
    return page.status == 200 and re.search(rf"Signed in as .*<bdi>{username}</bdi>", page.body) is not None
