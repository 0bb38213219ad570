"""Stored authorization requests: created by POST, continued by their handle, bound to a browser, limited in time."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.endpoints.authorize.conftest import REDIRECT_URI, read_stored_request
from tests.support.browser import CHALLENGE, Browser
from tests.support.grants import update_client
from tests.support.site import Site


@pytest.fixture
def handle(site: Site, browser: Browser) -> str:
    """The path and query that continue a request which was sent by POST."""
    client = site.client(client_id="print", trusted=True)
    parameters = {"response_type": "code", "client_id": client.id, "redirect_uri": REDIRECT_URI, "state": "a b+c&d=é"}
    parameters |= {"scope": "openid", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
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
    assert first.get(handle).form.fields == page.form.fields, "the page can be reloaded"
    error = second.get(handle)
    assert (error.status, error.header("location")) == (400, None)
    assert not error.form.fields
    assert first.get(handle).status == 200


def test_handle_from_a_page_works_in_its_browser_only(site: Site, browsers: Callable[..., Browser]) -> None:
    first, second = browsers(), browsers()
    page = first.authorize(site.client())
    handle = "/oauth2/authorize?request_uri=" + page.form.fields["request_uri"]
    assert first.get(handle).form.fields == page.form.fields
    assert second.get(handle).status == 400
    second.authorize(site.client())
    assert second.get(handle).status == 400, "a cookie of another request does not help"


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
    handle = "/oauth2/authorize?request_uri=" + consent_page.form.fields["request_uri"]
    update_client(site, client, **changes)
    for answer in (browser.submit(consent_page, decision="allow_once"), browser.get(handle)):
        assert (answer.status, answer.header("location")) == (400, None)
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
