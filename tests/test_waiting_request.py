"""A request that waits for a person: by POST, by its handle, in its browser, for its time."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.models import AuthorizationRequest
from tests.browser import CHALLENGE, Browser
from tests.shortcut import change
from tests.site import Site

HOME = "https://client.example.com/cb"


def waiting(site: Site) -> AuthorizationRequest:
    """The one request that waits."""
    (request,) = site.server.store.requests.scan()
    return request


@pytest.fixture
def handle(site: Site, browser: Browser) -> str:
    """The path and query of a request that was made by POST and waits for the first GET."""
    client = site.client(client_id="print", trusted=True)
    given = {"response_type": "code", "client_id": client.id, "redirect_uri": HOME, "state": "a b+c&d=é"}
    given |= {"scope": "openid", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    answer = browser.post("/oauth2/authorize", given, {"Sec-Fetch-Site": "cross-site", "Origin": "https://a.example"})
    assert answer.status == 303
    assert answer.header("cache-control") == "no-store"
    assert not browser.cookies
    start = "/oauth2/authorize?request_uri=req_"
    assert answer.location.startswith(start)
    return answer.location


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 a")
@pytest.mark.spec("RFC 6749 §3.1")
@pytest.mark.spec("RFC 9207 §2")
def test_a_request_by_post_goes_on_by_get_and_ends_with_a_code(site: Site, browser: Browser, handle: str) -> None:
    site.user()
    answer = browser.sign_in(browser.get(handle))
    assert {**answer.answer, "code": ""} == {"code": "", "state": "a b+c&d=é", "iss": site.settings.issuer}
    ended = browser.get(handle)
    assert (ended.status, ended.header("location")) == (400, None)
    assert len(list(site.server.store.grants.scan())) == 1


def test_a_waiting_request_belongs_to_the_first_browser_that_gets_it(
    browsers: Callable[..., Browser], handle: str
) -> None:
    first, second = browsers(), browsers()
    page = first.get(handle)
    assert page.status == 200
    assert first.get(handle).form.fields == page.form.fields, "it may reload the page"
    refused = second.get(handle)
    assert (refused.status, refused.header("location")) == (400, None)
    assert not refused.form.fields
    assert first.get(handle).status == 200


def test_the_handle_in_a_page_continues_the_request_in_that_browser_only(
    site: Site, browsers: Callable[..., Browser]
) -> None:
    first, second = browsers(), browsers()
    page = first.authorize(site.client())
    handle = "/oauth2/authorize?request_uri=" + page.form.fields["request_uri"]
    assert first.get(handle).form.fields == page.form.fields
    assert second.get(handle).status == 400
    second.authorize(site.client())
    assert second.get(handle).status == 400, "even with a cookie of its own"


def test_a_waiting_request_ends_after_ten_minutes(site: Site, browser: Browser, handle: str) -> None:
    site.clock.advance(599)
    assert browser.get(handle).status == 200
    site.clock.advance(1)
    expired = browser.get(handle)
    assert expired.status == 400
    assert "has expired" in expired.body


def test_a_waiting_request_ends_when_its_client_does(site: Site, browser: Browser, handle: str) -> None:
    site.server.store.clients.delete("print")
    site.clock.advance(60)
    assert browser.get(handle).status == 400


@pytest.mark.parametrize("taken_away", [{"redirect_uris": ("https://other.example.com/cb",)}, {"scope": "email"}])
def test_a_waiting_request_ends_when_its_client_may_not_make_it_any_more(
    site: Site, browser: Browser, taken_away: Any
) -> None:
    site.user()
    client = site.client()
    question = browser.sign_in(browser.authorize(client))
    handle = "/oauth2/authorize?request_uri=" + question.form.fields["request_uri"]
    change(site, client, **taken_away)
    for answer in (browser.submit(question, decision="allow_once"), browser.get(handle)):
        assert (answer.status, answer.header("location")) == (400, None)
    assert list(site.server.store.grants.scan()) == []
    site.server.store.clients.put(client.record)  # and given back, which the server has not noticed yet
    assert browser.submit(question, decision="allow_once").code


@pytest.mark.parametrize("kind", ["code", "sid", "br"])
def test_another_handle_of_ours_names_no_request(site: Site, browser: Browser, handle: str, kind: Any) -> None:
    other = site.server.keys.make_handle(kind, waiting(site).request_id)
    assert browser.get("/oauth2/authorize", request_uri=other).status == 400
    assert "location" not in dict(browser.get("/oauth2/authorize", request_uri=other).headers)


@pytest.mark.parametrize("change", ["cut", "longer", "tampered", "repeated", "unknown"])
def test_a_handle_must_be_exactly_ours(site: Site, browser: Browser, handle: str, change: str) -> None:
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
    assert waiting(site).browser_id is None
