"""/oauth2/authorize: the redirect URI, the other parameters, and the cached record of a client."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.protocol.authentication_context import Policy
from chalicelib.protocol.client import Client
from tests.endpoints.authorize.conftest import (
    REDIRECT_URI,
    asks_to_sign_in,
    read_claims,
    read_request,
)
from tests.support.browser import CHALLENGE, Answer, Browser
from tests.support.site import Registered, Site

ACR = Policy().acr_values[0]


def redirects_to(answer: Answer, uri: str) -> bool:
    """Return whether the error `login_required` (prompt=none, no session) was sent to this redirect URI."""
    return answer.location.startswith(uri) and answer.answer["error"] == "login_required"


# ---- the redirect URI


@pytest.mark.spec("RFC 9700 §4.1.3 b")
@pytest.mark.spec("RFC 8252 §7.3")
@pytest.mark.parametrize("port", [":1", ":49152", ":65535", ""])
@pytest.mark.parametrize(
    "registered",
    ["http://127.0.0.1/cb", "http://127.0.0.1:8080/cb", "http://[::1]:80/cb?a=b", "http://localhost:3000/cb"],
)
def test_loopback_redirect_uri_matches_on_any_port(site: Site, browser: Browser, registered: str, port: str) -> None:
    client = site.client(redirect_uris=[registered], public=True)
    path = registered[registered.rindex("/") :]
    host = next(host for host in ("127.0.0.1", "[::1]", "localhost") if host in registered)
    uri = f"http://{host}{port}{path}"
    assert redirects_to(browser.authorize(client, redirect_uri=uri, prompt="none"), uri)


def test_each_registered_redirect_uri_is_accepted(site: Site, browser: Browser) -> None:
    uris = [
        REDIRECT_URI,
        REDIRECT_URI + "/2",
        "http://localhost:8080/authorization",
        "com.example.app:/cb",
        REDIRECT_URI + "?b",
    ]
    client = site.client(redirect_uris=uris)
    for uri in uris:
        assert redirects_to(browser.authorize(client, redirect_uri=uri, prompt="none"), uri)


@pytest.mark.spec("RFC 6749 §3.1.2 b")
@pytest.mark.spec("RFC 6749 §3.1.2")
@pytest.mark.parametrize(
    ("uri", "start"),
    [
        (REDIRECT_URI + "?tenant=a%20b&x=", REDIRECT_URI + "?tenant=a%20b&x=&error="),
        (REDIRECT_URI + "?next=?", REDIRECT_URI + "?next=?&error="),
        (REDIRECT_URI + "?a=?&b", REDIRECT_URI + "?a=?&b&error="),
        (REDIRECT_URI + "?", REDIRECT_URI + "?error="),
        ("https://client.example.com", "https://client.example.com?error="),
        ("com.example.app:/cb?a=b", "com.example.app:/cb?a=b&error="),
    ],
)
def test_query_of_the_redirect_uri_is_kept(site: Site, browser: Browser, uri: str, start: str) -> None:
    answer = browser.authorize(site.client(redirect_uris=[uri]), prompt="none")
    assert answer.location.startswith(start)


@pytest.mark.spec("RFC 6749 §3.1.2.3")
@pytest.mark.parametrize("sent", [None, ""])
@pytest.mark.parametrize(
    "members", [{}, {"redirect_uris": [REDIRECT_URI + "/2", REDIRECT_URI], "default_redirect_uri": REDIRECT_URI}]
)
def test_omitted_redirect_uri_is_the_only_or_the_default_one(
    site: Site, browser: Browser, members: dict[str, Any], sent: str | None
) -> None:
    client = site.client(**members)
    assert redirects_to(browser.authorize(client, redirect_uri=sent, scope="email", prompt="none"), REDIRECT_URI + "?")
    assert not read_request(site, browser.authorize(client, redirect_uri=sent, scope="email")).redirect_uri_sent


# ---- other parameters


@pytest.mark.spec("RFC 6749 §3.1 f", "RFC 6749 §3.1 g", "OpenID Connect Core §3.1.2.2 h")
@pytest.mark.spec("RFC 6749 §3.1")
def test_unknown_and_empty_parameters_are_ignored(site: Site, browser: Browser) -> None:
    client = site.client()
    empty = dict.fromkeys(("prompt", "max_age", "nonce", "request", "request_uri", "response_mode", "login_hint"), "")
    unknown = {"foo": "bar", "Prompt": "none", "client_secret": "x", "": "y", "display": "popup", "ui_locales": "de"}
    answer = browser.authorize(client, **empty, **unknown)
    assert answer.status == 200
    request = read_request(site, answer)
    assert (request.prompt, request.max_age, request.nonce) == (frozenset(), None, None)


@pytest.mark.parametrize("media_type", ["application/json", "text/plain; charset=klingon", "application/x-www-form"])
def test_content_type_of_a_get_is_ignored(site: Site, browser: Browser, media_type: str) -> None:
    answer = browser.authorize(site.client(), prompt="none", headers={"Content-Type": media_type})
    assert redirects_to(answer, REDIRECT_URI)


@pytest.mark.parametrize(("name", "value"), [("response_mode", "query"), ("prompt", "none"), ("max_age", "0000000000")])
def test_default_values_of_optional_parameters_are_accepted(
    site: Site, browser: Browser, name: str, value: str
) -> None:
    assert redirects_to(browser.authorize(site.client(), **({"prompt": "none"} | {name: value})), REDIRECT_URI)


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
def test_omitted_scope_is_the_default_scope_of_the_client(
    site: Site, browser: Browser, members: dict[str, str], default: set[str], scope: str | None
) -> None:
    page = browser.authorize(site.client(**members), scope=scope)
    assert page.status == 200
    assert read_request(site, page).scope == default


@pytest.mark.parametrize("scope", [" openid email", "openid  email", "openid email ", "openid email openid"])
def test_extra_spaces_and_repeated_values_in_a_scope_are_ignored(site: Site, browser: Browser, scope: str) -> None:
    """Applications join lists that contain empty strings."""
    page = browser.authorize(site.client(), scope=scope)
    assert page.status == 200
    assert read_request(site, page).scope == {"openid", "email"}


@pytest.mark.spec("RFC 6749 §3.3 b")
@pytest.mark.spec("RFC 6749 §3.3")
@pytest.mark.parametrize("members", [{"default_scope": ""}, {"scope": "offline_access"}])
def test_omitted_scope_without_a_default_is_an_invalid_scope(
    site: Site, browser: Browser, members: dict[str, str]
) -> None:
    assert browser.authorize(site.client(**members), scope=None).answer["error"] == "invalid_scope"


@pytest.mark.spec("RFC 6749 §3.3 a", "RFC 6749 §5.1 e", "RFC 6749 §10.3 d")
def test_client_that_asks_for_all_scopes_of_the_metadata_gets_those_that_it_is_registered_for(
    site: Site, browser: Browser
) -> None:
    site.user()
    client = site.client(scope="openid email")
    supported = browser.get("/.well-known/openid-configuration").json["scopes_supported"]
    page = browser.authorize(client, scope=" ".join([*supported, "admin"]))
    assert read_request(site, page).scope == {"openid", "email"}
    consent = browser.sign_in(page)
    assert "Recognize you (your user ID here)" in consent.body
    assert "See your phone number" not in consent.body
    answer = browser.redeem(client, browser.submit(consent, decision="allow_once").code).json
    assert answer["scope"] == read_claims(answer["access_token"])["scope"] == "email openid"
    assert browser.userinfo(answer["access_token"]).status == 200


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize("scope", ["openid phone", "phone", "openid email admin"])
def test_scope_beyond_the_registration_of_a_strict_client_is_an_invalid_scope(
    site: Site, browser: Browser, scope: str
) -> None:
    client = site.client(scope="openid email", strict_scope=True)
    assert browser.authorize(client, scope="openid email").status == 200
    answer = browser.authorize(client, scope=scope).answer
    assert answer["error"] == "invalid_scope"
    assert scope.split()[-1] in answer["error_description"]


def test_scope_added_a_moment_ago_is_granted(site: Site, browser: Browser) -> None:
    for strict in (False, True):
        client = site.client(scope="openid email", strict_scope=strict)
        assert browser.authorize(client, scope="openid email").status == 200  # the client is cached
        site.server.store.clients.put(replace(client.record, scope="openid email phone"))
        page = browser.authorize(client, scope="openid phone")
        assert read_request(site, page).scope == {"openid", "phone"}


@pytest.mark.spec("RFC 6749 §10.3 d")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    "members", [{"response_types": ()}, {"response_types": ("code id_token",)}, {"grant_types": ("refresh_token",)}]
)
def test_client_without_the_response_type_or_grant_type_is_unauthorized(
    site: Site, browser: Browser, members: dict[str, Any]
) -> None:
    client = site.client()
    update_record(site, client, **members)
    assert browser.authorize(client).answer["error"] == "unauthorized_client"


@pytest.mark.spec("RFC 8252 §8.1", "RFC 9700 §2.1.1 a", "RFC 9700 §4.8.2 a")
@pytest.mark.spec("RFC 9700 §2.1.1")
def test_only_a_confidential_client_may_be_registered_without_pkce(site: Site, browser: Browser) -> None:
    without_pkce: dict[str, Any] = {"prompt": "none", "code_challenge": None, "code_challenge_method": None}
    confidential = site.client(require_pkce=False)
    assert redirects_to(browser.authorize(confidential, **without_pkce), REDIRECT_URI)
    for half in ({"code_challenge_method": "S256"}, {"code_challenge": CHALLENGE}):
        assert browser.authorize(confidential, **without_pkce | half).answer["error"] == "invalid_request"
    public = site.client(public=True)
    site.server.store.clients.put(replace(public.record, require_pkce=False))  # registration rejects this
    assert browser.authorize(public, **without_pkce).answer["error"] == "invalid_request"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 p", "OpenID Connect Core §5.2 d", "OpenID Connect Core §3.1.2.2 h")
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"display": "page"}, {}),
        ({"display": "popup"}, {}),
        ({"display": "touch"}, {}),
        ({"display": "wap"}, {}),
        ({"display": "hologram"}, {}),
        ({"ui_locales": "fr-CA fr en"}, {"ui_locales": ("fr-CA", "fr", "en")}),
        ({"ui_locales": "tlh x!y en"}, {"ui_locales": ("tlh", "en")}),
        ({"ui_locales": "<script> {{7*7}} \u202e"}, {"ui_locales": ()}),
        ({"ui_locales": " ".join(["de"] * 200)}, {"ui_locales": ("de",)}),
        (
            {"ui_locales": " ".join(f"de-{n}" for n in range(200))},
            {"ui_locales": tuple(f"de-{n}" for n in range(10))},
        ),
        ({"claims_locales": "de ja-Kana-JP"}, {}),
        ({"acr_values": f"urn:mace:incommon:iap:silver {ACR}"}, {"acr_values": (ACR,)}),
        ({"acr_values": "2"}, {"acr_values": ()}),
        ({"login_hint": "buffy@example.com"}, {"login_hint": "buffy@example.com"}),
        ({"unknown_parameter": "x", "extra[]": "y"}, {}),
    ],
    ids=repr,
)
def test_optional_parameters_that_are_not_supported_are_no_error(
    site: Site, browser: Browser, hybrid_client: Registered, parameters: dict[str, str], expected: dict[str, Any]
) -> None:
    page = browser.authorize(hybrid_client, **parameters)
    assert asks_to_sign_in(page)
    for name, value in expected.items():
        assert getattr(read_request(site, page), name) == value
    answer = browser.sign_in(page)
    id_token = browser.redeem(hybrid_client, answer.code).json["id_token"]
    assert read_claims(id_token)["acr"] == ACR, "acr_values do not change the acr of the sign-in"


# ---- the cached record of a client


def update_record(site: Site, client: Registered, **members: Any) -> None:
    """Update the stored record of a client, but not the cached one."""
    site.server.store.clients.put(replace(client.record, **members))


@pytest.mark.parametrize(
    ("members", "parameters"),
    [
        ({"redirect_uris": (REDIRECT_URI, REDIRECT_URI + "/new")}, {"redirect_uri": REDIRECT_URI + "/new"}),
        (
            {"default_redirect_uri": REDIRECT_URI, "redirect_uris": (REDIRECT_URI + "/2", REDIRECT_URI)},
            {"redirect_uri": None},
        ),
        ({"scope": "email orders"}, {"scope": "orders"}),
        ({"require_pkce": False}, {"code_challenge": None, "code_challenge_method": None}),
        ({"response_types": ("code",)}, {}),
    ],
)
def test_client_is_read_again_before_it_is_rejected_because_of_a_cached_record(
    site: Site, browser: Browser, members: dict[str, Any], parameters: dict[str, Any]
) -> None:
    client = site.client(scope="email")
    if "response_types" in members:
        update_record(site, client, response_types=("code id_token",))
    browser.authorize(client, scope="email")  # caches the record
    update_record(site, client, **members)
    assert redirects_to(browser.authorize(client, **({"scope": "email", "prompt": "none"} | parameters)), REDIRECT_URI)


def test_new_client_is_accepted_immediately(site: Site, browser: Browser) -> None:
    unknown = Registered(Client("new", "New", (REDIRECT_URI,)), None)
    assert browser.authorize(unknown, prompt="none").status == 400
    assert redirects_to(browser.authorize(site.client(client_id="new"), prompt="none"), REDIRECT_URI)


@pytest.mark.parametrize("members", [{"disabled_at": 1}, {"redirect_uris": (REDIRECT_URI + "/new",)}])
def test_change_of_a_client_takes_effect_within_a_minute(site: Site, browser: Browser, members: dict[str, Any]) -> None:
    client = site.client()
    assert redirects_to(browser.authorize(client, prompt="none"), REDIRECT_URI)
    update_record(site, client, **members)
    site.clock.advance(60)
    assert browser.authorize(client, prompt="none").status == 400


def test_client_is_read_once_a_minute(site: Site, browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    client = site.client()
    for seconds in (0, 59, 1):
        site.clock.advance(seconds)
        browser.authorize(client, prompt="none")
    lines = [json.loads(record.message) for record in caplog.records if record.name.startswith("signet")]
    assert [line["dynamodb_calls"] for line in lines] == [1, 0, 1]
