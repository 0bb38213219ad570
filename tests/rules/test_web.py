"""HTTP handling of all endpoints: CORS, methods, headers, exceptions. Gateways: tests/deployment/test_gateways.py."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

import app
from chalicelib import endpoints, web
from chalicelib.http.messages import Request, Response
from chalicelib.protocol.errors import ServerError
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser, authorization_parameters, basic
from tests.support.gateways import HTTP_2, GatewayBrowser, GatewayRequest, http_2
from tests.support.grants import create_code
from tests.support.site import Registered, Site

ROUTES = (*app.JSON_ROUTES, *app.PAGE_ROUTES)
PATHS = sorted({route.path for route in ROUTES})
PUBLIC_PATHS = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/oauth2/jwks"]
CLIENT_PATHS = ["/oauth2/token", "/oauth2/userinfo", "/oauth2/revoke", "/oauth2/par"]
OPEN_PATHS = [*PUBLIC_PATHS, "/.well-known/webauthn", "/oauth2/register"]  # which any page may read
PAGE_PATHS = sorted({route.path for route in app.PAGE_ROUTES})
FORM = "application/x-www-form-urlencoded"
ORIGIN = "https://client.example.com"


def methods_of(path: str) -> set[str]:
    methods: set[str] = {route.method for route in ROUTES if route.path == path}
    return methods | ({"HEAD"} if "GET" in methods else set())


@pytest.fixture(autouse=True)
def _assert_no_cors_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert in every test of this module that no response allows cross-origin requests with cookies."""
    request = Browser.request

    def checked(browser: Browser, *arguments: Any, **options: Any) -> Answer:
        answer = request(browser, *arguments, **options)
        assert answer.header("access-control-allow-credentials") is None
        return answer

    monkeypatch.setattr(Browser, "request", checked)


# ---- CORS


@pytest.mark.spec("OpenID Connect Discovery §3 z", "OpenID Connect Discovery §4 c")
@pytest.mark.spec("Fetch §3.3")
@pytest.mark.parametrize("path", PUBLIC_PATHS)
@pytest.mark.parametrize("origin", ["https://anybody.example", "null", None])
def test_metadata_and_keys_are_readable_from_any_origin(
    site: Site, browser: Browser, path: str, origin: str | None
) -> None:
    answer = browser.get(path, {"Origin": origin} if origin else {})
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "*"


def _call_endpoint(
    browser: Browser, client: Registered, path: str, origin: str, successful: bool, site: Site
) -> Answer:
    headers = {"Origin": origin}
    if path == "/oauth2/userinfo":
        alice = site.user(username=f"alice{successful}{len(origin)}{client.id}")
        scope = frozenset({"openid"} if successful else {"email"})
        token = browser.redeem(client, create_code(site, client, alice, scope=scope)).json["access_token"]
        return browser.get(path, headers | {"Authorization": f"Bearer {token}"})
    if path == "/oauth2/par":
        uri = client.record.redirect_uris[0] if successful else "https://other.example/"
        parameters = authorization_parameters(client, redirect_uri=uri)
        return browser.post(path, parameters, headers | basic(client.id, client.secret or ""))
    code = create_code(site, client)
    body = {"grant_type": "authorization_code", "redirect_uri": client.record.redirect_uris[0], "token": "x"}
    body |= {"code": code if successful else "wrong", "code_verifier": VERIFIER}
    if not successful:
        body["token"] = ""
    return browser.post(path, body, headers | basic(client.id, client.secret or ""))


@pytest.mark.spec("OpenID Connect Core §5.3 d", "OpenID Connect Discovery §3 z")
@pytest.mark.spec("Fetch §3.3")
@pytest.mark.parametrize("path", CLIENT_PATHS)
@pytest.mark.parametrize("successful", [True, False], ids=["success", "error"])
@pytest.mark.parametrize(
    ("redirect_uri", "origin", "allowed"),
    [
        (f"{ORIGIN}/cb", ORIGIN, True),
        (f"{ORIGIN}:443/cb", ORIGIN, True),
        (f"{ORIGIN}:8443/cb", f"{ORIGIN}:8443", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004", True),
        ("http://localhost:3000/cb", "http://localhost:3000", True),
        ("http://localhost:3000/cb", "http://localhost:3001", True),
        (f"{ORIGIN}/cb", "https://evil.example", False),
        (f"{ORIGIN}/cb", "http://client.example.com", False),
        (f"{ORIGIN}/cb", f"{ORIGIN}.evil.example", False),
        (f"{ORIGIN}/cb", f"{ORIGIN}:8443", False),
        (f"{ORIGIN}/cb", "https://CLIENT.example.com", False),
        (f"{ORIGIN}/cb", "null", False),
        (f"{ORIGIN}/cb", "*", False),
        (f"{ORIGIN}/cb", "https://é.example", False),
        ("com.example.app:/cb", "null", False),
    ],
)
def test_response_to_a_client_is_readable_only_from_the_origins_of_its_redirect_uris(
    site: Site, browser: Browser, path: str, successful: bool, redirect_uri: str, origin: str, allowed: bool
) -> None:
    client = site.client(redirect_uris=["https://first.example/cb", redirect_uri])
    answer = _call_endpoint(browser, client, path, origin, successful, site)
    assert (answer.status in (200, 201)) == successful
    assert answer.header("access-control-allow-origin") == (origin if allowed else None)
    assert answer.header("vary") == "Origin"


@pytest.mark.parametrize("path", CLIENT_PATHS)
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("capacitor://localhost", True),
        ("chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb", True),
        ("https://shop.example:8443", True),
        (ORIGIN, True),  # of a redirect URI
        ("capacitor://localhost:1", False),
        ("ionic://localhost", False),
        ("https://shop.example", False),
        ("null", False),
    ],
)
def test_response_to_a_client_is_readable_from_its_allowed_origins(
    site: Site, browser: Browser, path: str, origin: str, allowed: bool
) -> None:
    registered = (
        *("capacitor://localhost", "https://shop.example:8443"),
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    )
    client = site.client(redirect_uris=[f"{ORIGIN}/cb"], allowed_origins=registered)
    answer = _call_endpoint(browser, client, path, origin, True, site)
    assert answer.status in (200, 201)
    assert answer.header("access-control-allow-origin") == (origin if allowed else None)
    assert answer.header("vary") == "Origin"


@pytest.mark.parametrize("path", CLIENT_PATHS)
def test_error_before_client_authentication_is_readable_from_any_origin(
    site: Site, browser: Browser, path: str
) -> None:
    """So that a page can tell an expired token from a network failure."""
    client = site.client()
    for headers in ({}, basic(client.id, "wrong"), {"Authorization": "Bearer x"}, {"Content-Type": "text/plain"}):
        answer = browser.request("POST", path, "token=x", {"Origin": ORIGIN, "Content-Type": FORM, **headers})
        assert answer.status in (400, 401)
        assert answer.header("access-control-allow-origin") == "*"
        assert answer.header("access-control-expose-headers") == "WWW-Authenticate, DPoP-Nonce"
        assert answer.header("vary") == "Origin"


def test_www_authenticate_challenge_is_readable_by_scripts(site: Site, browser: Browser) -> None:
    answer = _call_endpoint(browser, site.client(), "/oauth2/userinfo", ORIGIN, False, site)
    assert "insufficient_scope" in (answer.header("www-authenticate") or "")
    assert answer.header("access-control-expose-headers") == "WWW-Authenticate, DPoP-Nonce"


@pytest.mark.spec("Fetch §3.2.2")
@pytest.mark.parametrize("path", OPEN_PATHS + CLIENT_PATHS)
@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example", "null", "https://\xe9.example", "x" * 3000])
def test_preflight_request_lists_methods_and_headers(site: Site, browser: Browser, path: str, origin: str) -> None:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = browser.request("OPTIONS", path, headers=headers)
    assert (answer.status, answer.body) == (204, "")
    assert answer.header("access-control-allow-origin") in ("*", origin)
    allowed = set((answer.header("access-control-allow-methods") or "").split(", "))
    assert allowed == methods_of(path) | {"OPTIONS"}
    assert int(answer.header("access-control-max-age") or 0) > 0


REQUESTED_HEADERS = [
    "authorization",
    "authorization,mcp-protocol-version",
    "content-type, traceparent, tracestate, x-datadog-trace-id, sentry-trace, baggage",
    "X-Requested-With",
]


@pytest.mark.spec("Fetch §3.2.2")
@pytest.mark.parametrize("path", OPEN_PATHS + CLIENT_PATHS)
@pytest.mark.parametrize("requested", REQUESTED_HEADERS)
def test_preflight_request_allows_the_headers_that_it_asks_for(browser: Browser, path: str, requested: str) -> None:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": requested}
    answer = browser.request("OPTIONS", path, headers=headers)
    assert answer.status == 204
    assert answer.header("access-control-allow-headers") == requested
    assert answer.header("vary") == "Access-Control-Request-Headers"


@pytest.mark.parametrize("requested", [None, "", "a b", "a,,b", "a\tb", "x" * 2049, "a, \xe9", "a: b", "<script>"])
def test_malformed_list_of_requested_headers_is_not_repeated(browser: Browser, requested: str | None) -> None:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    if requested is not None:
        headers["Access-Control-Request-Headers"] = requested
    answer = browser.request("OPTIONS", "/oauth2/token", headers=headers)
    assert answer.status == 204
    assert answer.header("access-control-allow-headers") == "Authorization, Content-Type"


@pytest.mark.spec("FAPI 2.0 Security Profile §5.2.3 c")
@pytest.mark.spec("RFC 9700 §2.6 g", "OpenID Connect Discovery §3 aa")
@pytest.mark.parametrize("path", PAGE_PATHS)
def test_page_is_not_readable_from_other_origins(site: Site, browser: Browser, path: str) -> None:
    client = site.client()
    answers = [
        browser.get(path, {"Origin": ORIGIN}),
        browser.get(path, {"Origin": ORIGIN}, client_id=client.id, response_type="code", code_challenge=CHALLENGE),
        browser.request("POST", path, "", {"Origin": ORIGIN, "Content-Type": FORM}),
    ]
    for answer in answers:
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]


# ---- methods


@pytest.mark.spec("RFC 7592 §2 b")
@pytest.mark.spec("RFC 9110 §15.5.6")
@pytest.mark.parametrize("path", PATHS)
def test_unsupported_method_is_405_with_allow(site: Site, browsers: Callable[..., Browser], path: str) -> None:
    methods = methods_of(path)
    has_cors = path in OPEN_PATHS + CLIENT_PATHS
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"} - methods:
        answer = browsers().request(method, path)  # own connection: Chalice sends a body after HEAD
        assert answer.status == 405, method
        assert set((answer.header("allow") or "").split(", ")) == methods | ({"OPTIONS"} if has_cors else set())
        expected = "text/html; charset=utf-8" if path in PAGE_PATHS else "application/json"
        assert answer.header("content-type") == expected
        assert answer.header("cache-control") == "no-store"
        if method != "HEAD" and path not in PAGE_PATHS:
            assert answer.json["error"] == "method_not_allowed"


def test_wrong_method_says_which_one_to_use(browser: Browser) -> None:
    described = browser.get("/oauth2/token", grant_type="authorization_code").json["error_description"]
    assert described == "Send POST to this address."
    described = browser.request("DELETE", "/oauth2/userinfo").json["error_description"]
    assert described == "Send GET or POST to this address."


@pytest.mark.parametrize(
    ("method", "path", "accept", "is_page"),
    [
        ("GET", "/authorize", None, True),
        ("GET", "/authorize", "text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("GET", "/authorize", "*/*", True),
        ("GET", "/.well-known/openid-configuratoin", "application/json", False),
        ("POST", "/oauth/token", "*/*", False),
        ("POST", "/oauth/token", None, False),
        ("POST", "/oauth2/register", "*/*", False),
        ("POST", "/account/sign-up", "text/html", True),
    ],
)
def test_unknown_address_is_a_page_for_browsers_and_json_for_applications(
    browser: Browser, method: str, path: str, accept: str | None, is_page: bool
) -> None:
    headers = {"Content-Type": FORM} | ({"Accept": accept} if accept else {})
    answer = browser.request(method, path, "", headers)
    assert answer.status == 404
    if is_page:
        assert "Page not found" in answer.body
    else:
        assert answer.json["error"] == "not_found"


def test_unknown_address_names_the_metadata(browser: Browser) -> None:
    described = browser.request("POST", "/oauth/token", "", {"Content-Type": FORM}).json["error_description"]
    assert "/.well-known/openid-configuration" in described


@pytest.mark.parametrize("path", PAGE_PATHS)
def test_options_request_to_a_page_is_405(site: Site, path: str) -> None:
    assert GatewayBrowser(site, HTTP_2).request("OPTIONS", path, headers={"Origin": ORIGIN}).status == 405


# ---- headers


def _sample_responses(browser: Browser, client: Registered) -> list[Answer]:
    query = urlencode({"client_id": client.id, "response_type": "code", "scope": "openid"})
    return [
        browser.request("GET", "/"),
        browser.request("GET", "/style.css"),
        browser.request("GET", "/healthz"),
        browser.request("GET", "/nothing"),
        browser.request("GET", "/oauth2/jwks"),
        browser.request("GET", "/oauth2/userinfo"),
        browser.request("GET", "/oauth2/authorize"),
        browser.request("GET", f"/oauth2/authorize?{query}&redirect_uri={ORIGIN}/cb"),
        browser.request("POST", "/oauth2/token", "x", {"Content-Type": FORM}),
        browser.request("DELETE", "/oauth2/token"),
        browser.request("OPTIONS", "/oauth2/token", None, {"Origin": ORIGIN}),
    ]


@pytest.mark.parametrize("issuer", ["https://id.example.com", None])
def test_every_response_has_the_security_headers(site: Site, issuer: str | None) -> None:
    settings = replace(site.settings, issuer=issuer or site.settings.issuer)
    server = AuthorizationServer(settings, site.server.store, site.server.keys, site.clock)
    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)
    answers = _sample_responses(GatewayBrowser(site, HTTP_2, handler), site.client())
    assert {answer.status for answer in answers} == {200, 204, 302, 400, 401, 404, 405}
    for answer in answers:
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("content-type")
        policy = answer.header("content-security-policy") or ""
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.header("cross-origin-opener-policy") in ("same-origin", "unsafe-none")
        assert answer.header("cross-origin-resource-policy") in ("same-origin", "cross-origin")
        assert (answer.header("strict-transport-security") == "max-age=31536000") == bool(issuer)
        assert len({name.lower() for name, _ in answer.headers}) == len(answer.headers)


IN_A_POPUP = {"/oauth2/authorize", "/oauth2/code", "/oauth2/logout"}


def every_answer(browser: Browser) -> Iterator[tuple[str, str, Answer]]:
    """Send a request with each method of each path; yield its method, its path and the answer."""
    for path in (*PATHS, "/nothing"):
        for method in methods_of(path) or {"GET"}:
            yield method, path, browser.request(method, path, "" if method == "POST" else None, {"Content-Type": FORM})


def test_pages_of_a_request_keep_the_window_that_opened_them_and_no_others_do(site: Site) -> None:
    """Applications open an authorization or logout request in a popup."""
    for method, path, answer in every_answer(GatewayBrowser(site, HTTP_2)):
        expected = "unsafe-none" if path in IN_A_POPUP else "same-origin"
        assert answer.header("cross-origin-opener-policy") == expected, (method, path)


def test_only_what_any_origin_may_read_can_be_loaded_by_other_origins(site: Site) -> None:
    for method, path, answer in every_answer(GatewayBrowser(site, HTTP_2)):
        expected = "cross-origin" if path in OPEN_PATHS else "same-origin"
        assert answer.header("cross-origin-resource-policy") == expected, (method, path)


BAD_VALUES = ["a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "a\0b", "é", "\u2603", "\x7f", "a\tb", "a\x0bb", "a\n"]


@pytest.mark.spec("RFC 9110 §5.5")
@pytest.mark.parametrize("value", BAD_VALUES)
def test_header_value_must_be_printable_ascii(value: str) -> None:
    response = Response()
    with pytest.raises(ServerError):
        response.add({"Location": value})
    assert response.headers == []


@pytest.mark.parametrize("name", ["Set Cookie", "a:b", "a\r\n", "", "é", "a_b"])
def test_header_name_must_be_letters_digits_and_hyphens(name: str) -> None:
    with pytest.raises(ServerError):
        Response().add({name: "x"})


# ---- exceptions

ERROR_TEXT = "the secret is hunter2"


def _event(path: str) -> dict[str, Any]:
    return http_2(GatewayRequest("GET", path, "", [], None), HTTP_2.domain, HTTP_2.stage)


def _fail(*_arguments: object, **_more: object) -> Any:
    raise RuntimeError(ERROR_TEXT)


def test_exception_in_an_api_endpoint_is_a_server_error_in_json(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(site.server.keys, "jwks", _fail)
    answer = browser.get("/oauth2/jwks", {"Origin": ORIGIN})
    assert answer.status == 500
    assert answer.json == {
        "error": "server_error",
        "error_description": "The server encountered an unexpected condition.",
    }
    assert answer.header("cache-control") == "no-store"
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("x-content-type-options") == "nosniff"
    record = caplog.records[-1]
    assert record.levelname == "ERROR"
    detail = json.loads(record.getMessage())["detail"]
    assert detail.startswith("RuntimeError at ")
    assert "test_web.py:" in detail
    assert ERROR_TEXT not in caplog.text


def test_exception_in_a_page_endpoint_is_an_error_page(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    monkeypatch.setattr(site.server.store.clients, "get", _fail)
    answer = browser.authorize(client)
    assert answer.status == 500
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert "Something went wrong" in answer.body
    assert "hunter2" not in answer.body + caplog.text
    assert "RuntimeError at " in caplog.text


@pytest.mark.parametrize("path", PATHS)
def test_failed_start_is_a_server_error_and_is_retried(site: Site, path: str, caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    def connect() -> AuthorizationServer:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError(ERROR_TEXT)
        return site.server

    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, connect)
    event = _event(path)
    answer = handler(event, None)
    assert answer["statusCode"] == 500
    assert answer["headers"]["X-Content-Type-Options"] == "nosniff"
    assert json.loads(answer["body"])["error"] == "server_error"
    assert ERROR_TEXT not in caplog.text
    assert handler(event, None)["statusCode"] < 500


def test_invalid_setting_is_named_in_the_log_and_not_in_the_response(caplog: pytest.LogCaptureFixture) -> None:
    def connect() -> AuthorizationServer:
        return AuthorizationServer.connect(Settings.from_environ({"SIGNET_STAGE": "a b"}))

    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, connect)
    answer = handler(_event("/"), None)
    assert answer["statusCode"] == 500
    assert "SIGNET" not in answer["body"]
    assert json.loads(caplog.records[-1].getMessage())["detail"].startswith("SIGNET_STAGE is 'a b'; it must be")


def test_invalid_header_from_an_endpoint_is_a_server_error(site: Site) -> None:
    def endpoint(_server: AuthorizationServer, _request: Request) -> Response:
        return Response().add({"Location": "a\r\nb"})

    _, handler = web.build([web.Route("GET", "/x", endpoint)], [], lambda: site.server)
    assert handler(_event("/x"), None)["statusCode"] == 500


def test_module_of_an_endpoint_is_looked_up_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    def import_module(name: str) -> Any:
        imported.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr(endpoints, "import_module", import_module)
    get = endpoints.Endpoints("health").get
    assert imported == [], "the first request imports it"
    for _ in range(2):
        assert get(site.server, Request("GET", "/healthz")).status == 200
    assert imported == ["chalicelib.endpoints.health"]
