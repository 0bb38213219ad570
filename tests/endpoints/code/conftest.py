"""A client, its pages and helpers for the tests of /oauth2/code."""

import html

import pytest

from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, STAGE, Registered, Site, tables

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CREDENTIALS = {"username": "alice", "password": PASSWORD}
NEW_PASSWORD = "a better pass phrase"
WRONG_CREDENTIALS = "The username or the password is not right."


@pytest.fixture
def client(site: Site) -> Registered:
    """A client that needs the consent of alice, who has an account."""
    site.user()
    return site.client()


@pytest.fixture
def sign_in_page(browser: Browser, client: Registered) -> Answer:
    return browser.authorize(client)


@pytest.fixture
def consent_page(browser: Browser, sign_in_page: Answer) -> Answer:
    """The consent page for alice."""
    return browser.sign_in(sign_in_page)


def count_sessions_and_grants() -> tuple[int, int]:
    sessions, grants = (len(tables()[f"signet-{STAGE}-{kind}"].items) for kind in ("sessions", "grants"))
    return sessions, grants


def count_grants() -> int:
    return count_sessions_and_grants()[1]


def is_error_page(answer: Answer, text: str = "") -> bool:
    """Return whether the answer is an error page with this text, without a form, a redirect or a cookie."""
    return (
        answer.status == 400
        and answer.header("location") is None
        and answer.header("set-cookie") is None
        and answer.form.action is None
        and text in html.unescape(answer.body)
    )
