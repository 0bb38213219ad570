"""Races of the external login application: a request or an answer that is used concurrently counts once."""

from collections.abc import Callable

import pytest

from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.site import PASSWORD, Site

Browsers = Callable[..., Browser]
ORIGIN = "https://login.example.com"
CREDENTIALS = {"username": "alice", "password": PASSWORD}


@pytest.fixture
def login_site(site_with: Callable[..., Site]) -> Site:
    """A server with a login application, and the user alice."""
    site = site_with(login_url=f"{ORIGIN}/sign-in", login_origins=(ORIGIN,))
    site.user("alice")
    return site


def post_form(browser: Browser, handle: str, **fields: str) -> Answer:
    """Post a form of the login application, which is cross-site: no cookie is sent."""
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Cookie": ""}
    return browser.post("/oauth2/code", {"request_uri": handle, **fields}, headers)


def mark_as_answered(site: Site, request_handle: str) -> None:
    handle = site.server.keys.read_handle("req", request_handle)
    assert handle
    unanswered = attr("taken_at").not_exists()
    changed = site.server.store.requests.transition((handle.id,), unanswered, {"taken_at": site.clock.time})
    assert not isinstance(changed, Refused)


def test_request_answered_concurrently_is_not_sent_to_the_login_application(
    login_site: Site, browsers: Browsers, wire: Wire
) -> None:
    """The user has signed in for another request, and only consent is missing."""
    browser, client, trusted_client = browsers(login_site), login_site.client(), login_site.client(trusted=True)
    handle, other_handle = (browser.authorize(each).answer["request_uri"] for each in (client, trusted_client))
    assert browser.follow(post_form(browser, other_handle, **CREDENTIALS)).code
    with wire.before("UpdateItem", lambda: mark_as_answered(login_site, handle)):
        assert browser.get("/oauth2/authorize", request_uri=handle).status == 400


def test_decision_is_rejected_when_the_request_is_answered_concurrently(
    login_site: Site, browsers: Browsers, wire: Wire
) -> None:
    browser = browsers(login_site)
    handle = browser.authorize(login_site.client()).answer["request_uri"]
    browser.follow(post_form(browser, handle, **CREDENTIALS))
    with wire.before("UpdateItem", lambda: mark_as_answered(login_site, handle)):
        assert post_form(browser, handle, decision="allow_once").status == 400


def test_answer_used_in_two_tabs_creates_one_session(login_site: Site, browsers: Browsers, wire: Wire) -> None:
    browser = browsers(login_site)
    handle = browser.authorize(login_site.client(trusted=True)).answer["request_uri"]
    answer = post_form(browser, handle, **CREDENTIALS)
    tab = browsers(tab_of=browser)
    responses: list[Answer] = []
    with wire.before("TransactWriteItems", lambda: responses.append(tab.follow(answer))):
        assert browser.follow(answer).status == 400
    assert responses[0].code
    assert len(list(login_site.server.store.sessions.scan())) == 1
