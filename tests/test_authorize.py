"""/oauth2/authorize: where answers may go, what may be sent, and the cached record of a client."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.models import AuthorizationRequest, Client
from tests.browser import CHALLENGE, Answer, Browser
from tests.site import Registered, Site

HOME = "https://client.example.com/cb"


def goes_to(answer: Answer, uri: str) -> bool:
    """Whether a request with prompt=none of somebody not signed in was answered there: the cheapest real answer."""
    return answer.location.startswith(uri) and answer.answer["error"] == "login_required"


def waiting(site: Site) -> AuthorizationRequest:
    """The one request that waits."""
    (request,) = site.server.store.requests.scan()
    return request


# ---- where the answer goes


@pytest.mark.spec("RFC 9700 §4.1.3 b")
@pytest.mark.spec("RFC 8252 §7.3")
@pytest.mark.parametrize("port", [":1", ":49152", ":65535", ""])
@pytest.mark.parametrize("registered", ["http://127.0.0.1/cb", "http://127.0.0.1:8080/cb", "http://[::1]:80/cb?a=b"])
def test_a_native_application_listens_on_any_port_of_the_loopback_address(
    site: Site, browser: Browser, registered: str, port: str
) -> None:
    client = site.client(redirect_uris=[registered], public=True)
    host, path = registered[: registered.rindex("1") + 1], registered[registered.rindex("/") :]
    host = "http://[::1]" if "[" in registered else "http://127.0.0.1"
    uri = f"{host}{port}{path}"
    assert goes_to(browser.authorize(client, redirect_uri=uri, prompt="none"), uri)


def test_each_registered_redirect_uri_is_answered(site: Site, browser: Browser) -> None:
    uris = [HOME, HOME + "/2", "http://localhost:8080/authorization", "com.example.app:/cb", HOME + "?b"]
    client = site.client(redirect_uris=uris)
    for uri in uris:
        assert goes_to(browser.authorize(client, redirect_uri=uri, prompt="none"), uri)


@pytest.mark.spec("RFC 6749 §3.1.2 b")
@pytest.mark.spec("RFC 6749 §3.1.2")
@pytest.mark.parametrize(
    ("uri", "start"),
    [
        (HOME + "?tenant=a%20b&x=", HOME + "?tenant=a%20b&x=&error="),
        (HOME + "?next=?", HOME + "?next=?&error="),
        (HOME + "?a=?&b", HOME + "?a=?&b&error="),
        (HOME + "?", HOME + "?error="),
        ("https://client.example.com", "https://client.example.com?error="),
        ("com.example.app:/cb?a=b", "com.example.app:/cb?a=b&error="),
    ],
)
def test_the_query_of_a_redirect_uri_is_kept(site: Site, browser: Browser, uri: str, start: str) -> None:
    answer = browser.authorize(site.client(redirect_uris=[uri]), prompt="none")
    assert answer.location.startswith(start)


@pytest.mark.spec("RFC 6749 §3.1.2.3")
@pytest.mark.parametrize("sent", [None, ""])
@pytest.mark.parametrize("members", [{}, {"redirect_uris": [HOME + "/2", HOME], "default_redirect_uri": HOME}])
def test_without_redirect_uri_the_only_or_the_default_one_is_answered(
    site: Site, browser: Browser, members: dict[str, Any], sent: str | None
) -> None:
    client = site.client(**members)
    assert goes_to(browser.authorize(client, redirect_uri=sent, scope="email", prompt="none"), HOME + "?")
    browser.authorize(client, redirect_uri=sent, scope="email")
    assert not waiting(site).redirect_uri_sent


# ---- other parameters


@pytest.mark.spec("RFC 6749 §3.1 f", "RFC 6749 §3.1 g", "OpenID Connect Core §3.1.2.2 h")
@pytest.mark.spec("RFC 6749 §3.1")
def test_parameters_that_are_unknown_or_empty_are_ignored(site: Site, browser: Browser) -> None:
    client = site.client()
    empty = dict.fromkeys(("prompt", "max_age", "nonce", "request", "request_uri", "response_mode", "login_hint"), "")
    unknown = {"foo": "bar", "Prompt": "none", "client_secret": "x", "": "y", "display": "popup", "ui_locales": "de"}
    answer = browser.authorize(client, **empty, **unknown)
    assert answer.status == 200
    assert (waiting(site).prompt, waiting(site).max_age, waiting(site).nonce) == (frozenset(), None, None)


@pytest.mark.parametrize("media_type", ["application/json", "text/plain; charset=klingon", "application/x-www-form"])
def test_seed_003_the_content_type_of_a_get_is_ignored(site: Site, browser: Browser, media_type: str) -> None:
    answer = browser.authorize(site.client(), prompt="none", headers={"Content-Type": media_type})
    assert goes_to(answer, HOME)


@pytest.mark.parametrize(("sent", "given"), [("response_mode", "query"), ("prompt", "none"), ("max_age", "0000000000")])
def test_what_may_be_sent_is_accepted(site: Site, browser: Browser, sent: str, given: str) -> None:
    assert goes_to(browser.authorize(site.client(), **({"prompt": "none"} | {sent: given})), HOME)


@pytest.mark.spec("RFC 6749 §3.3 b")
@pytest.mark.spec("RFC 6749 §3.3")
@pytest.mark.parametrize("scope", [None, ""])
@pytest.mark.parametrize(
    ("members", "default"),
    [
        ({"scope": "openid email offline_access"}, {"openid", "email"}),
        ({"scope": "openid email orders", "default_scope": "orders"}, {"orders"}),
    ],
)
def test_without_scope_the_client_gets_its_default(
    site: Site, browser: Browser, members: dict[str, str], default: set[str], scope: str | None
) -> None:
    assert browser.authorize(site.client(**members), scope=scope).status == 200
    assert waiting(site).scope == default


@pytest.mark.parametrize("scope", [" openid email", "openid  email", "openid email ", "openid email openid"])
def test_spaces_and_tokens_too_many_in_a_scope_do_no_harm(site: Site, browser: Browser, scope: str) -> None:
    """Applications join lists in which there is nothing."""
    assert browser.authorize(site.client(), scope=scope).status == 200
    assert waiting(site).scope == {"openid", "email"}


@pytest.mark.spec("RFC 6749 §3.3 b")
@pytest.mark.spec("RFC 6749 §3.3")
@pytest.mark.parametrize("members", [{"default_scope": ""}, {"scope": "offline_access"}])
def test_without_scope_and_without_a_default_the_request_fails(
    site: Site, browser: Browser, members: dict[str, str]
) -> None:
    assert browser.authorize(site.client(**members), scope=None).answer["error"] == "invalid_scope"


@pytest.mark.spec("RFC 6749 §10.3 d")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    "members", [{"response_types": ()}, {"response_types": ("code id_token",)}, {"grant_types": ("refresh_token",)}]
)
def test_a_client_asks_only_for_what_it_is_registered_for(
    site: Site, browser: Browser, members: dict[str, Any]
) -> None:
    client = site.client()
    stored(site, client, **members)
    assert browser.authorize(client).answer["error"] == "unauthorized_client"


@pytest.mark.spec("RFC 8252 §8.1", "RFC 9700 §2.1.1 a", "RFC 9700 §4.8.2 a")
@pytest.mark.spec("RFC 9700 §2.1.1")
def test_only_a_confidential_client_registered_so_does_without_pkce(site: Site, browser: Browser) -> None:
    none: dict[str, Any] = {"prompt": "none", "code_challenge": None, "code_challenge_method": None}
    relaxed = site.client(require_pkce=False)
    assert goes_to(browser.authorize(relaxed, **none), HOME)
    assert browser.authorize(relaxed, **none | {"code_challenge_method": "S256"}).answer["error"] == "invalid_request"
    assert browser.authorize(relaxed, **none | {"code_challenge": CHALLENGE}).answer["error"] == "invalid_request"
    public = site.client(public=True)
    site.server.store.clients.put(replace(public.record, require_pkce=False))  # which the registration refuses
    assert browser.authorize(public, **none).answer["error"] == "invalid_request"


# ---- the cached record of a client


def stored(site: Site, client: Registered, **members: Any) -> Client:
    record = replace(client.record, **members)
    site.server.store.clients.put(record)
    return record


@pytest.mark.parametrize(
    ("members", "parameters"),
    [
        ({"redirect_uris": (HOME, HOME + "/new")}, {"redirect_uri": HOME + "/new"}),
        ({"default_redirect_uri": HOME, "redirect_uris": (HOME + "/2", HOME)}, {"redirect_uri": None}),
        ({"scope": "email orders"}, {"scope": "orders"}),
        ({"require_pkce": False}, {"code_challenge": None, "code_challenge_method": None}),
        ({"response_types": ("code",)}, {}),
    ],
)
def test_nobody_is_refused_because_of_a_cached_record(
    site: Site, browser: Browser, members: dict[str, Any], parameters: dict[str, Any]
) -> None:
    client = site.client(scope="email")
    if "response_types" in members:
        stored(site, client, response_types=("code id_token",))
    browser.authorize(client, scope="email")  # now it is cached
    stored(site, client, **members)
    assert goes_to(browser.authorize(client, **({"scope": "email", "prompt": "none"} | parameters)), HOME)


def test_a_client_that_was_unknown_is_known_as_soon_as_it_is_registered(site: Site, browser: Browser) -> None:
    unknown = Registered(Client("new", "New", (HOME,)), None)
    assert browser.authorize(unknown, prompt="none").status == 400
    assert goes_to(browser.authorize(site.client(client_id="new"), prompt="none"), HOME)


@pytest.mark.parametrize("members", [{"disabled_at": 1}, {"redirect_uris": (HOME + "/new",)}])
def test_what_is_taken_from_a_client_is_gone_after_a_minute(
    site: Site, browser: Browser, members: dict[str, Any]
) -> None:
    client = site.client()
    assert goes_to(browser.authorize(client, prompt="none"), HOME)
    stored(site, client, **members)
    site.clock.advance(60)
    assert browser.authorize(client, prompt="none").status == 400


def test_a_client_is_read_once_a_minute(site: Site, browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    client = site.client()
    for seconds in (0, 59, 1):
        site.clock.advance(seconds)
        browser.authorize(client, prompt="none")
    lines = [json.loads(record.message) for record in caplog.records if record.name.startswith("signet")]
    assert [line["dynamodb_calls"] for line in lines] == [1, 0, 1]
