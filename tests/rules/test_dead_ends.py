"""No page is a dead end: each has a link to what the user can do next."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.endpoints.authorize.conftest import asks_for_consent, asks_to_sign_in, authorize_stored
from tests.rules.test_error_codes import ERROR_PAGES
from tests.support import faults
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, GatewayBrowser
from tests.support.links import next_steps
from tests.support.site import PASSWORD, Registered, Site

HOME = "https://print.example.com/"
ACCOUNT = {"Your account": "/account"}
SIGN_IN = {"Sign in to your account": "/account"}
BACK = {"Back to Photo Print": HOME}


@pytest.fixture
def client(site: Site) -> Registered:
    site.user()
    return site.client(client_uri=HOME)


def answer_late_again(browser: Browser, page: Answer) -> Answer:
    """Answer a consent page, and send it again when the second press of a button is no longer the same one."""
    browser.submit(page, decision="deny")
    browser.site.clock.advance(61)
    return browser.submit(page, decision="allow_once")


def read_id(site: Site, page: Answer) -> str:
    """Return the id of the request that the address of a page names."""
    handle = site.server.keys.read_handle("req", parse_qs(urlsplit(page.url).query)["request_uri"][0])
    assert handle
    return handle.id


@pytest.mark.parametrize("code", ERROR_PAGES)
def test_every_error_page_leads_on(site: Site, browser: Browser, code: str) -> None:
    site.user()
    _, trigger = ERROR_PAGES[code]
    steps = next_steps(trigger(site, browser, site.client(direct_sign_in=True)))
    assert "/account" in steps.values()


def test_request_that_was_answered_can_be_started_again_from_its_page(browser: Browser, client: Registered) -> None:
    page = answer_late_again(browser, browser.sign_in(browser.authorize(client, nonce="n-1")))
    assert "You have already answered this request" in page.body
    steps = next_steps(page)
    assert steps == {"Start again": steps["Start again"], **BACK, **ACCOUNT}
    again = urlsplit(steps["Start again"])
    assert again.path == "/oauth2/authorize"
    assert "request_uri" not in parse_qs(again.query)
    assert parse_qs(again.query)["nonce"] == ["n-1"]
    consent = browser.request("GET", steps["Start again"])
    assert asks_for_consent(consent)
    assert browser.submit(consent, decision="allow_once").code


def test_page_of_an_answered_request_without_its_parameters_leads_to_the_application(
    browser: Browser, client: Registered
) -> None:
    page = answer_late_again(browser, browser.sign_in(authorize_stored(browser, client)))
    assert "You have already answered this request" in page.body
    assert next_steps(page) == BACK | ACCOUNT


def test_page_of_another_browsers_request_leads_to_the_application(browser: Browser, client: Registered) -> None:
    page = authorize_stored(browser, client)
    browser.cookies.clear()
    answer = browser.get(page.url)
    assert "This was started in another browser" in answer.body
    assert next_steps(answer) == BACK | SIGN_IN


def test_application_is_linked_by_a_post_logout_redirect_uri_where_it_has_no_client_uri(
    site: Site, browser: Browser
) -> None:
    site.user()
    uris = ("com.example.print:/bye", "https://print.example.com/bye")
    client = site.client(post_logout_redirect_uris=uris)
    page = answer_late_again(browser, browser.sign_in(authorize_stored(browser, client)))
    assert next_steps(page) == {"Back to Photo Print": uris[1], **ACCOUNT}


def test_expired_request_without_its_parameters_leads_to_the_application_until_its_record_is_deleted(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = authorize_stored(browser, client)
    site.clock.advance(site.settings.request_lifetime)
    for answer in (browser.get(page.url), browser.submit(page, username="alice", password=PASSWORD)):
        answer = browser.follow(answer) if answer.status == 303 else answer
        assert "This sign-in page has expired" in answer.body
        assert next_steps(answer) == BACK | SIGN_IN
    site.server.store.requests.delete(read_id(site, page))
    answer = browser.get(page.url)
    assert "This sign-in page has expired" in answer.body
    assert next_steps(answer) == SIGN_IN
    assert asks_to_sign_in(browser.follow(browser.get("/account")))


def test_handle_of_another_server_names_no_application(browser: Browser, client: Registered, wire: Wire) -> None:
    with wire.counted() as calls:
        answer = browser.get("/oauth2/authorize", request_uri="req_AAAA")
    assert "This sign-in page has expired" in answer.body
    assert next_steps(answer) == SIGN_IN
    assert calls == [], "nothing is read for a handle that this server has not issued"


def test_error_page_is_shown_although_the_application_cannot_be_read(
    browser: Browser, client: Registered, wire: Wire
) -> None:
    page = browser.sign_in(authorize_stored(browser, client))
    browser.submit(page, decision="deny")
    browser.site.clock.advance(61)
    with wire.every("GetItem", faults.unreachable):
        answer = browser.submit(page, decision="allow_once")
    assert (answer.status, next_steps(answer)) == (400, ACCOUNT)
    assert "You have already answered this request" in answer.body


def test_page_that_is_not_found_leads_to_the_account(site: Site, browser: Browser, client: Registered) -> None:
    gateway = GatewayBrowser(site, GATEWAYS[0])
    assert next_steps(gateway.get("/nothing")) == SIGN_IN
    browser.sign_in(browser.authorize(client))
    gateway.cookies = browser.cookies
    assert next_steps(gateway.get("/nothing")) == ACCOUNT
