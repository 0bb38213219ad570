"""Stored authorization requests: continued by their handle, bound to a browser, limited in time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from chalicelib.authorization.stored_request import answering, storing
from chalicelib.http.messages import Request
from chalicelib.keys.rotation import retire_handles
from chalicelib.protocol.records import AuthorizationRequest
from tests.endpoints.authorize.conftest import (
    REDIRECT_URI,
    asks_to_sign_in,
    authorize_stored,
    read_grant,
    read_stored_request,
)
from tests.support.browser import Answer, Browser, authorization_parameters
from tests.support.grants import update_client
from tests.support.site import PASSWORD, Site


@pytest.fixture
def handle(site: Site, browser: Browser) -> str:
    """The path and query that continue a request which was posted with a login_hint."""
    client = site.client(client_id="print", trusted=True)
    parameters = authorization_parameters(client, state="a b+c&d=é", login_hint="alice")
    answer = browser.post(
        "/oauth2/authorize", parameters, {"Sec-Fetch-Site": "cross-site", "Origin": "https://a.example"}
    )
    assert answer.status == 303
    assert answer.header("cache-control") == "no-store"
    assert not browser.cookies
    start = "/oauth2/authorize?request_uri=req_"
    assert answer.location.startswith(start)
    return answer.location


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 a")
@pytest.mark.spec("RFC 6749 §3.1")
@pytest.mark.spec("RFC 9207 §2")
def test_request_by_post_continues_by_get_and_returns_a_code(site: Site, browser: Browser, handle: str) -> None:
    site.user()
    answer = browser.sign_in(browser.get(handle))
    assert {**answer.answer, "code": ""} == {"code": "", "state": "a b+c&d=é", "iss": site.settings.issuer}
    repeated = browser.get(handle)
    assert (repeated.status, repeated.header("location")) == (400, None)
    assert len(list(site.server.store.grants.scan())) == 1


def test_request_is_bound_to_the_first_browser_that_continues_it(browsers: Callable[..., Browser], handle: str) -> None:
    first, second = browsers(), browsers()
    page = first.get(handle)
    assert page.status == 200
    again = first.get(handle).form
    assert (again.action, again.fields) == (page.form.action, page.form.fields), "the page can be reloaded"
    error = second.get(handle)
    assert (error.status, error.header("location")) == (400, None)
    assert not error.form.fields
    assert first.get(handle).status == 200


@pytest.mark.parametrize("stored_by", ["POST", "sign-in"])
def test_handle_from_a_page_works_in_its_browser_only(
    site: Site, browsers: Callable[..., Browser], stored_by: str
) -> None:
    site.user()
    first, second = browsers(), browsers()
    client = site.client()
    page = authorize_stored(first, client) if stored_by == "POST" else first.sign_in(first.authorize(client))
    address = (page.form.action or "").replace("/oauth2/code?", "/oauth2/authorize?")
    handle = parse_qs(urlsplit(address).query)["request_uri"][0]
    assert first.get(address).form.action == page.form.action
    for _ in range(2):
        answer = second.get("/oauth2/authorize", request_uri=handle)
        assert (answer.status, answer.header("location")) == (400, None)
        assert "another browser" in answer.body
        if stored_by == "sign-in":  # the address has the request itself, too
            new_page = second.get(address)
            assert asks_to_sign_in(new_page), "the request starts anew"
            assert handle not in new_page.body
        second.authorize(client)  # a cookie of another request does not help
    assert first.get(address).status == 200, "nothing has changed for the first one"


def is_started_anew(page: Answer, address: str) -> bool:
    """Return whether a page carries the request of an address, without the handle there."""
    carried, sent = (dict(parse_qsl(urlsplit(each).query)) for each in (page.form.action or "", address))
    return sent.pop("request_uri").startswith("req_") and carried == sent


@pytest.mark.parametrize("case", ["cut", "unknown", "longer", "empty", "of another version", "expired"])
def test_handle_that_leads_to_no_record_is_dropped_when_its_address_has_the_whole_request(
    site: Site, browser: Browser, case: str
) -> None:
    site.user()
    page = browser.sign_in(browser.authorize(site.client()))
    handle = parse_qs(urlsplit(page.url).query)["request_uri"][0]
    changed = {
        "cut": handle[:-1],
        "unknown": site.server.keys.make_handle("req", "unknown"),
        "longer": handle + "A",
        "empty": "req_",
        "of another version": "req_" + "_" + handle[5:],
    }.get(case, handle)
    if case == "expired":
        site.clock.advance(site.settings.request_lifetime)
    address = page.url.replace(handle, changed)
    shown = browser.get(address)
    assert shown.status == 200
    assert is_started_anew(shown, address)
    assert browser.submit(shown, decision="allow_once").code


def test_posted_request_with_a_handle_is_rejected(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.sign_in(browser.authorize(site.client()))
    answer = browser.post("/oauth2/authorize", parse_qsl(urlsplit(page.url).query))
    assert answer.answer["error"] == "request_uri_not_supported"


def test_address_of_an_answered_request_says_so_until_its_record_is_deleted(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.sign_in(browser.authorize(site.client()))
    browser.submit(page, decision="deny")
    for seconds in (0, site.settings.request_lifetime - 1):
        site.clock.advance(seconds)
        answer = browser.get(page.url)
        assert (answer.status, answer.header("location")) == (400, None)
        assert "request_answered" in answer.body
    site.clock.advance(1)
    assert is_started_anew(browser.get(page.url), page.url)


def test_record_decides_what_is_asked_for_and_not_the_query_beside_its_handle(site: Site, browser: Browser) -> None:
    site.user()
    client, other = site.client(), site.client(client_name="Other")
    page = browser.sign_in(browser.authorize(client))
    shown = browser.get(page.url.replace(client.id, other.id).replace("scope=openid", "scope=openid+email"))
    assert "Other" not in shown.body
    code = browser.submit(shown, decision="allow_once").code
    grant = read_grant(site, code)
    assert (grant.client_id, grant.scope) == (client.id, frozenset({"openid"}))


@pytest.mark.usefixtures("restore_key_ring")
def test_request_starts_anew_after_all_handles_were_retired(site: Site, browser: Browser, handle: str) -> None:
    """Retiring them makes the browser's cookies and the handle of the request invalid."""
    site.user()
    client = site.client()
    stored, consent = browser.get(handle), browser.sign_in(browser.authorize(client))
    retire_handles(site.server.keys, site.clock.time)
    site.server.keys.forget_cached_keys()
    answer = browser.send(consent, decision="allow_once")
    assert "cookies_blocked" in answer.body
    page = browser.get(consent.url)
    assert asks_to_sign_in(page)
    assert is_started_anew(page, consent.url)
    late = browser.send(consent, decision="allow_once")
    assert "signed out" in browser.follow(late).body, "the browser has a cookie again"
    assert browser.submit(browser.sign_in(page), decision="allow_once").code
    for answer in (browser.submit(stored, username="alice", password=PASSWORD), browser.get(handle)):
        assert (answer.status, answer.header("location")) == (400, None)
        assert "request_expired" in answer.body, "there is nothing to start anew"


def test_request_expires_after_ten_minutes(site: Site, browser: Browser, handle: str) -> None:
    site.clock.advance(599)
    assert browser.get(handle).status == 200
    site.clock.advance(1)
    expired = browser.get(handle)
    assert expired.status == 400
    assert "has expired" in expired.body


def test_request_of_a_deleted_client_is_rejected(site: Site, browser: Browser, handle: str) -> None:
    site.server.store.clients.delete("print")
    site.clock.advance(60)
    assert browser.get(handle).status == 400


@pytest.mark.parametrize("changes", [{"redirect_uris": ("https://other.example.com/cb",)}, {"scope": "email"}])
def test_request_that_the_client_is_no_longer_registered_for_is_rejected(
    site: Site, browser: Browser, changes: Any
) -> None:
    site.user()
    client = site.client()
    consent_page = browser.sign_in(browser.authorize(client))
    assert "request_uri=req_" in consent_page.url
    update_client(site, client, **changes)
    for answer in (browser.submit(consent_page, decision="allow_once"), browser.get(consent_page.url)):
        assert (answer.status, answer.header("location")) == (400, None)
        assert "request_expired" in answer.body
    assert list(site.server.store.grants.scan()) == []
    site.server.store.clients.put(client.record)  # restored, but the cached record is still the changed one
    assert browser.submit(consent_page, decision="allow_once").code


@pytest.mark.parametrize("kind", ["code", "sid", "br"])
def test_handle_of_another_kind_is_rejected(site: Site, browser: Browser, handle: str, kind: Any) -> None:
    other = site.server.keys.make_handle(kind, read_stored_request(site).request_id)
    assert browser.get("/oauth2/authorize", request_uri=other).status == 400
    assert "location" not in dict(browser.get("/oauth2/authorize", request_uri=other).headers)


@pytest.mark.parametrize("change", ["cut", "longer", "tampered", "repeated", "unknown"])
def test_altered_handle_is_rejected(site: Site, browser: Browser, handle: str, change: str) -> None:
    last = "A" if handle[-1] != "A" else "Q"
    changed = {
        "cut": handle[:-1],
        "longer": handle + "A",
        "tampered": handle[:-1] + last,
        "repeated": handle + "&" + handle.partition("?")[2],
        "unknown": "/oauth2/authorize?request_uri=" + site.server.keys.make_handle("req", "unknown"),
    }[change]
    answer = browser.get(changed)
    assert (answer.status, answer.header("location")) == (400, None)
    assert read_stored_request(site).browser_id is None


def test_form_that_was_sent_twice_stores_its_request_for_its_browser_until_it_is_answered(site: Site) -> None:
    store, now, post = site.server.store, site.clock.time, Request("POST", "/oauth2/code")
    request = AuthorizationRequest("r", "print", REDIRECT_URI, expires_at=now + 60, created_at=now, browser_id="mine")

    def store_again(browser_id: str) -> bool:
        return store.transact(storing(site.server, replace(request, browser_id=browser_id))) is None

    assert store_again("mine")
    assert store_again("mine"), "the form was sent twice"
    assert not store_again("another"), "it belongs to the browser that was first"
    assert store.transact(answering(site.server, post, request, "g")) is None
    assert not store_again("mine"), "it was answered in between"
    assert store.transact(answering(site.server, post, request, "g")), "and is answered once"
