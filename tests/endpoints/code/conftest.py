"""A client, its pages and helpers for the tests of /oauth2/code."""

import html
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, STAGE, Registered, Site, tables

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CREDENTIALS: dict[str, Any] = {"username": "alice", "password": PASSWORD}
HIDDEN_FIELDS = ("request_id", "shown_at", "terms", "tag")
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


def follow_back(browser: Browser, page: Answer, sent: Answer, text: str = "out of date") -> Answer:
    """Return the page of the same request that the answer to its form leads back to. It has this message, once."""
    assert sent.status == 303
    assert sent.location == (page.form.action or "").replace("/oauth2/code?", "/oauth2/authorize?")
    (set_cookie,) = (value for name, value in sent.headers if name.lower() == "set-cookie")
    assert set_cookie.startswith("signet-problem=")
    shown = browser.get(sent.location)
    assert shown.status == 400
    assert text in html.unescape(shown.body)
    assert shown.form.action == page.form.action
    assert "signet-problem" not in browser.cookies
    assert browser.get(sent.location).status == 200, "a reload does not repeat the message"
    return shown


def follow_to_new_page(browser: Browser, page: Answer, sent: Answer, text: str = "out of date") -> Answer:
    """Return the page at which the request of a form starts anew. It has this message, and carries the request alone.

    `page`: of a stored request, whose record the answer to its form leaves behind.
    """
    assert sent.status == 303
    shown = browser.get(sent.location)
    assert shown.status == 400
    assert text in html.unescape(shown.body)
    carried, left = (dict(parse_qsl(urlsplit(each.form.action or "").query)) for each in (shown, page))
    assert left.pop("request_uri").startswith("req_")
    assert carried == left, "the same request, without its handle"
    assert shown.form.fields["request_id"] != page.form.fields["request_id"]
    assert "signet-problem" not in browser.cookies
    return shown


def retry_address(answer: Answer) -> str:
    """Return the address of the link in the page that says that our cookie is missing."""
    assert is_error_page(answer, "cookies_blocked"), answer.body
    (address,) = re.findall(r'<a [^>]*href="([^"]*)">Try again</a>', answer.body)
    return html.unescape(address)


def is_error_page(answer: Answer, text: str = "") -> bool:
    """Return whether the answer is an error page with this text, without a form, a redirect or a cookie."""
    return (
        answer.status == 400
        and answer.header("location") is None
        and answer.header("set-cookie") is None
        and answer.form.action is None
        and text in html.unescape(answer.body)
    )
