"""HEAD is answered like GET without a body, and writes nothing."""

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

import app
from chalicelib.protocol.durations import HOUR
from tests.support.browser import Answer, Browser, basic
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, HTTP_2, Gateway, GatewayBrowser
from tests.support.site import PASSWORD, Registered, Site, dump_tables

ROUTES = (*app.JSON_ROUTES, *app.PAGE_ROUTES)
GET_PATHS = sorted(route.path for route in ROUTES if route.method == "GET")
POST_PATHS = sorted({route.path for route in ROUTES} - set(GET_PATHS))
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"}
# What GET computes for each answer, and what the server in front of the application adds.
OWN = {"set-cookie", "content-length", "date", "server", "connection"}


@pytest.fixture
def browser(site: Site) -> Browser:
    """Return a browser whose requests reach the handler: Chalice's local server may add a length."""
    return GatewayBrowser(site, HTTP_2)


@pytest.fixture
def head(browser: Browser, wire: Wire) -> Callable[..., Answer]:
    """Return a function that sends HEAD, and asserts that nothing is written and that there is no body."""

    def send(url: str, headers: dict[str, str] | None = None) -> Answer:
        before, cookies = dump_tables(), dict(browser.cookies)
        with wire.counted() as calls:
            answer = browser.request("HEAD", url, headers=headers)
        assert not WRITES & set(calls)
        assert dump_tables() == before
        assert browser.cookies == cookies
        assert answer.body == ""
        assert not answer.header("set-cookie")
        return answer

    return send


def fields(answer: Answer) -> set[tuple[str, str]]:
    return {(name.lower(), value) for name, value in answer.headers if name.lower() not in OWN}


@pytest.mark.spec("RFC 9110 §9.3.2")
@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
def test_head_has_the_status_and_the_header_fields_of_get(site: Site, gateway: Gateway) -> None:
    browser = GatewayBrowser(site, gateway)
    for path in [*GET_PATHS, "/nothing"]:
        headers = {"Origin": "https://client.example.com"}
        get, head = browser.get(path, headers), GatewayBrowser(site, gateway).request("HEAD", path, headers=headers)
        assert get.body or get.status == 302, path
        assert (head.status, head.body) == (get.status, ""), path
        # A policy may name a hash or nonce of the body.
        assert {name for name, _ in fields(head)} == {name for name, _ in fields(get)}, path


def test_local_server_answers_head(browsers: Callable[..., Browser]) -> None:
    for path in GET_PATHS:
        assert browsers().request("HEAD", path).status == browsers().get(path).status, path


@pytest.mark.parametrize("path", POST_PATHS)
def test_head_is_not_allowed_where_get_is_not(head: Callable[..., Answer], path: str) -> None:
    answer = head(path)
    assert answer.status == 405
    assert "HEAD" not in (answer.header("allow") or "")


@pytest.fixture
def signed_in(site: Site, browser: Browser) -> Registered:
    """Return a trusted client whose user is signed in, so that GET of an authorization request creates a grant."""
    site.user()
    client = site.client(trusted=True, post_logout_redirect_uris=("https://client.example.com/bye",))
    assert browser.answer(client).code
    return client


def authorize_url(browser: Browser, client: Registered) -> str:
    """Return the address of an authorization request, by sending it."""
    answer = browser.authorize(client, prompt="none")
    assert answer.code
    return answer.url


def test_head_of_an_authorization_request_creates_no_grant(
    browser: Browser, signed_in: Registered, head: Callable[..., Answer]
) -> None:
    url = authorize_url(browser, signed_in)
    for _ in range(2):
        answer = head(url)
        assert (answer.status, answer.header("location"), answer.header("cache-control")) == (200, None, "no-store")
    assert browser.get(url).code, "the request can still be answered"


def test_head_of_an_error_of_an_authorization_request_is_that_of_get(
    browser: Browser, signed_in: Registered, head: Callable[..., Answer]
) -> None:
    url = authorize_url(browser, signed_in).replace("scope=openid", "scope=openid&prompt=bad")
    get = browser.get(url)
    assert get.answer["error"]
    assert head(url).location == get.location


@pytest.mark.parametrize("path", ["/account", "/account/browsers", "/account/activity", "/account/password"])
def test_head_extends_no_session(
    site: Site, browser: Browser, signed_in: Registered, head: Callable[..., Answer], path: str
) -> None:
    for _ in range(3):
        site.clock.advance(5 * HOUR)
        assert head(path).status in (200, 302)
    assert "error" in browser.authorize(signed_in, prompt="none").answer, "the session has expired"


def test_head_does_not_sign_out(browser: Browser, signed_in: Registered, head: Callable[..., Answer]) -> None:
    tokens = browser.redeem(signed_in, browser.authorize(signed_in).code).json
    assert head(f"/oauth2/logout?id_token_hint={tokens['id_token']}").status == 200
    assert browser.authorize(signed_in, prompt="none").code


@pytest.mark.parametrize("password", [PASSWORD, "a wrong password"])
def test_head_checks_no_password(site: Site, browser: Browser, head: Callable[..., Answer], password: str) -> None:
    """It cannot count wrong passwords, because it writes nothing."""
    site.user()
    client = site.client(trusted=True, direct_sign_in=True)
    answer = browser.authorize(client, "/oauth2/code")
    assert answer.status == 401
    assert head(answer.url, basic("alice", password)).status == 401
    assert fields(head(answer.url, basic("alice", password))) == fields(answer)


def test_head_of_a_stored_request_does_not_bind_it_to_a_browser(
    site: Site, browser: Browser, head: Callable[..., Answer]
) -> None:
    """A preview of a link must not take the request from the browser of the user."""
    client = site.client()
    form = dict(parse_qsl(urlsplit(browser.authorize(client).url).query))
    stored = browser.post("/oauth2/authorize", form | {"login_hint": "alice"})
    assert "request_uri=req_" in stored.location
    assert head(stored.location).status == 200
    assert "password" in browser.get(stored.location).form.fields


def test_head_of_userinfo_needs_the_access_token(
    browser: Browser, signed_in: Registered, head: Callable[..., Answer]
) -> None:
    token = browser.redeem(signed_in, browser.authorize(signed_in).code).json["access_token"]
    assert head("/oauth2/userinfo", {"Authorization": f"Bearer {token}"}).status == 200
    assert head("/oauth2/userinfo").status == 401


def test_head_is_logged_as_head(
    browser: Browser, head: Callable[..., Answer], caplog: pytest.LogCaptureFixture
) -> None:
    head("/healthz")
    assert '"method": "HEAD"' in caplog.text
