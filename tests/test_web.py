"""The adapter: CORS, methods, addresses, gateways, headers, faults; and the settings that a server starts with."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

import app
from chalicelib import web
from chalicelib.errors import ServerError
from chalicelib.messages import Request, Response
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings, SettingsError
from tests.browser import CHALLENGE, VERIFIER, Answer, Browser, basic
from tests.events import GATEWAYS, SOURCE_IP, Builder, http_2
from tests.shortcut import code_of
from tests.site import Registered, Site

ROUTES = (*app.JSON_ROUTES, *app.PAGE_ROUTES)
PATHS = sorted({route.path for route in ROUTES})
PUBLIC = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/oauth2/jwks"]
FOR_CLIENTS = ["/oauth2/token", "/oauth2/userinfo", "/oauth2/revoke"]
PAGES = sorted({route.path for route in app.PAGE_ROUTES})
FORM = "application/x-www-form-urlencoded"
ORIGIN = "https://client.example.com"


def methods_of(path: str) -> set[str]:
    return {route.method for route in ROUTES if route.path == path}


@pytest.fixture(autouse=True)
def _never_with_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer in this module lets a page of another origin use somebody's cookies."""
    request = Browser.request

    def checked(browser: Browser, *arguments: Any, **more: Any) -> Answer:
        answer = request(browser, *arguments, **more)
        assert answer.header("access-control-allow-credentials") is None
        return answer

    monkeypatch.setattr(Browser, "request", checked)


# ---- CORS


@pytest.mark.spec("Fetch §3.3")
@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize("origin", ["https://anybody.example", "null", None])
def test_metadata_and_keys_may_be_read_from_any_origin(
    site: Site, browser: Browser, path: str, origin: str | None
) -> None:
    answer = browser.get(path, {"Origin": origin} if origin else {})
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "*"


def _asked(browser: Browser, client: Registered, path: str, origin: str, good: bool, site: Site) -> Answer:
    headers = {"Origin": origin}
    if path == "/oauth2/userinfo":
        alice = site.user(username=f"alice{good}{len(origin)}{client.id}")
        scope = frozenset({"openid"} if good else {"email"})
        token = browser.redeem(client, code_of(site, client, alice, scope=scope)).json["access_token"]
        return browser.get(path, headers | {"Authorization": f"Bearer {token}"})
    code = code_of(site, client)
    body = {"grant_type": "authorization_code", "redirect_uri": client.record.redirect_uris[0], "token": "x"}
    body |= {"code": code if good else "wrong", "code_verifier": VERIFIER}
    if not good:
        body["token"] = ""
    return browser.post(path, body, headers | basic(client.id, client.secret or ""))


@pytest.mark.spec("Fetch §3.3")
@pytest.mark.parametrize("path", FOR_CLIENTS)
@pytest.mark.parametrize("good", [True, False], ids=["success", "error"])
@pytest.mark.parametrize(
    ("redirect_uri", "origin", "allowed"),
    [
        (f"{ORIGIN}/cb", ORIGIN, True),
        (f"{ORIGIN}:443/cb", ORIGIN, True),
        (f"{ORIGIN}:8443/cb", f"{ORIGIN}:8443", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004", True),
        ("http://localhost:3000/cb", "http://localhost:3000", True),
        (f"{ORIGIN}/cb", "https://evil.example", False),
        (f"{ORIGIN}/cb", "http://client.example.com", False),
        (f"{ORIGIN}/cb", f"{ORIGIN}.evil.example", False),
        (f"{ORIGIN}/cb", f"{ORIGIN}:8443", False),
        (f"{ORIGIN}/cb", "https://CLIENT.example.com", False),
        (f"{ORIGIN}/cb", "null", False),
        (f"{ORIGIN}/cb", "*", False),
        (f"{ORIGIN}/cb", "https://é.example", False),
        ("http://localhost:3000/cb", "http://localhost:3001", False),
        ("com.example.app:/cb", "null", False),
    ],
)
def test_an_answer_to_a_client_may_be_read_from_the_origins_of_its_redirect_uris_only(
    site: Site, browser: Browser, path: str, good: bool, redirect_uri: str, origin: str, allowed: bool
) -> None:
    client = site.client(redirect_uris=["https://first.example/cb", redirect_uri])
    answer = _asked(browser, client, path, origin, good, site)
    assert (answer.status == 200) == good
    assert answer.header("access-control-allow-origin") == (origin if allowed else None)
    assert answer.header("vary") == "Origin"


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke"])
def test_an_answer_to_nobody_may_be_read_by_nobody(site: Site, browser: Browser, path: str) -> None:
    client = site.client()
    for headers in ({}, basic(client.id, "wrong")):
        answer = browser.post(path, {"grant_type": "x", "token": "x"}, {"Origin": ORIGIN, **headers})
        assert answer.status == 401
        assert answer.header("access-control-allow-origin") is None
        assert answer.header("vary") == "Origin"


def test_the_challenge_may_be_read_too(site: Site, browser: Browser) -> None:
    answer = _asked(browser, site.client(), "/oauth2/userinfo", ORIGIN, False, site)
    assert "insufficient_scope" in (answer.header("www-authenticate") or "")
    assert answer.header("access-control-expose-headers") == "WWW-Authenticate"


@pytest.mark.spec("Fetch §3.2.2")
@pytest.mark.parametrize("path", PUBLIC + FOR_CLIENTS)
@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example", "null", "https://\xe9.example", "x" * 3000])
def test_a_preflight_is_answered(site: Site, browser: Browser, path: str, origin: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = browser.request("OPTIONS", path, headers=asked)
    assert (answer.status, answer.body) == (204, "")
    assert answer.header("access-control-allow-origin") in ("*", origin)
    allowed = set((answer.header("access-control-allow-methods") or "").split(", "))
    assert allowed == methods_of(path)
    names = (answer.header("access-control-allow-headers") or "").lower().split(", ")
    assert set(names) == {"authorization", "content-type"}
    assert int(answer.header("access-control-max-age") or 0) > 0


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_be_read_by_no_other_origin(site: Site, browser: Browser, path: str) -> None:
    client = site.client()
    answers = [
        browser.get(path, {"Origin": ORIGIN}),
        browser.get(path, {"Origin": ORIGIN}, client_id=client.id, response_type="code", code_challenge=CHALLENGE),
        browser.request("POST", path, "", {"Origin": ORIGIN, "Content-Type": FORM}),
    ]
    for answer in answers:
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]


# ---- methods and addresses


@pytest.mark.spec("RFC 9110 §15.5.6")
@pytest.mark.parametrize("path", PATHS)
def test_a_method_that_an_address_does_not_have_is_405_with_allow(
    site: Site, browsers: Callable[..., Browser], path: str
) -> None:
    methods = methods_of(path)
    shared = path in PUBLIC + FOR_CLIENTS
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"} - methods:
        answer = browsers().request(method, path)  # a connection of its own: chalice sends a body after HEAD
        assert answer.status == 405, method
        assert set((answer.header("allow") or "").split(", ")) == methods | ({"OPTIONS"} if shared else set())
        expected = "text/html; charset=utf-8" if path in PAGES else "application/json"
        assert answer.header("content-type") == expected
        assert answer.header("cache-control") == "no-store"
        if method != "HEAD" and path not in PAGES:
            assert answer.json["error"] == "method_not_allowed"


def _call(site: Site, event: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = site.http_handler(event, None)
    return answer


@pytest.mark.parametrize("path", PAGES)
def test_options_at_a_page_is_405(site: Site, path: str) -> None:
    assert _call(site, http_2("OPTIONS", path, "", [("Origin", ORIGIN)], None))["statusCode"] == 405


UNKNOWN = [
    "/nothing",
    "/oauth2",
    "/oauth2/authorize/x",
    "/oauth2//authorize",
    "/OAUTH2/TOKEN",
    "/.well-known/",
    "/é",
    "/\0",
]


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_an_unknown_address_is_a_404_page(site: Site, path: str, gateway: str) -> None:
    answer = _call(site, GATEWAYS[gateway]("GET", path, "", [], None))
    assert answer["statusCode"] == 404
    assert answer["headers"]["Content-Type"] == "text/html; charset=utf-8"
    assert "There is nothing" in answer["body"]


# ---- gateways


class Gateway:
    """A browser behind a gateway: events in, answers out, cookies kept."""

    def __init__(self, site: Site, builder: Builder):
        self.site = site
        self.builder = builder
        self.cookies: dict[str, str] = {}

    def request(
        self, method: str, url: str, body: str | None = None, headers: list[tuple[str, str]] | None = None
    ) -> Answer:
        parts = urlsplit(url)
        sent = [("Host", "127.0.0.1"), ("User-Agent", "Mozilla/5.0"), *(headers or [])]
        if self.cookies:
            sent.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        event = self.builder(method, parts.path, parts.query, sent, body)
        raw = _call(self.site, event)
        json.dumps(raw)  # Lambda does
        assert all(isinstance(value, str) for value in raw["headers"].values())
        assert "Set-Cookie" not in raw["headers"]
        if event.get("version") == "2.0":
            assert "multiValueHeaders" not in raw
            cookies = raw.get("cookies", [])
        else:
            assert "cookies" not in raw
            cookies = raw["multiValueHeaders"].get("Set-Cookie", [])
        for cookie in cookies:
            name, _, rest = cookie.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        self.site.secrets.update(filter(None, self.cookies.values()))
        pairs = [*raw["headers"].items(), *(("Set-Cookie", cookie) for cookie in cookies)]
        return Answer(raw["statusCode"], pairs, raw["body"], url)

    def post(self, url: str, parameters: Any, headers: dict[str, str] | None = None) -> Answer:
        return self.request("POST", url, urlencode(parameters), [("Content-Type", FORM), *(headers or {}).items()])


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_the_whole_flow_works_behind_every_gateway(site: Site, gateway: str) -> None:
    site.user("zoë", claims={"name": "Zoë"})
    client = site.client()
    at = Gateway(site, GATEWAYS[gateway])
    asked = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": client.record.redirect_uris[0],
        "scope": "openid profile",
        "state": "a b&c=d%20é",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    page = at.request("GET", f"/oauth2/authorize?{urlencode(asked)}")
    assert page.status == 200
    ours = {"Sec-Fetch-Site": "same-origin"}
    site.secrets.update(page.form.fields[name] for name in ("request_uri", "tag"))
    answer = at.post(
        "/oauth2/code", page.form.fields | {"username": "zoë", "password": "correct horse battery staple"}, ours
    )
    assert answer.status == 303, answer.body
    assert len(at.cookies) == 2
    consent = at.request("GET", answer.location)
    assert consent.status == 200, consent.body
    site.secrets.update(consent.form.fields[name] for name in ("request_uri", "tag"))
    answer = at.post("/oauth2/code", consent.form.fields | {"decision": "allow_once"}, ours)
    site.secrets.add(answer.code)
    assert answer.answer["state"] == "a b&c=d%20é"
    body = {"grant_type": "authorization_code", "code": answer.code, "redirect_uri": asked["redirect_uri"]}
    tokens = at.post("/oauth2/token", body | {"code_verifier": VERIFIER}, basic(client.id, client.secret or "")).json
    site.secrets.update(tokens[name] for name in ("access_token", "refresh_token", "id_token"))
    bearer = [("authorization", f"Bearer {tokens['access_token']}")]
    assert at.request("GET", "/oauth2/userinfo", None, bearer).json["name"] == "Zoë"


Exchange = tuple[str, str, str | None, list[tuple[str, str]]]
EXCHANGES: dict[str, Exchange] = {
    "the metadata": ("GET", "/.well-known/openid-configuration", None, []),
    "the home page": ("GET", "/", None, []),
    "a slash more": ("GET", "/healthz/", None, []),
    "a query that nobody reads": ("GET", "/oauth2/jwks?a=b&a=%C3%A9", None, []),
    "a client_id twice": ("GET", "/oauth2/authorize?client_id=a&client_id=b", None, []),
    "a client_id that is empty": ("GET", "/oauth2/authorize?client_id=", None, []),
    "an unknown client": ("GET", "/oauth2/authorize?client_id=%C3%A9%20%2B%26", None, []),
    "a token request without credentials": (
        "POST",
        "/oauth2/token",
        "grant_type=x&code=%C3%A9",
        [("Content-Type", FORM)],
    ),
    "a token request in JSON": ("POST", "/oauth2/token", '{"client_id": "é"}', [("content-type", "application/json")]),
    "a token request without body": ("POST", "/oauth2/token", None, [("Content-Type", FORM)]),
    "a header twice": ("GET", "/oauth2/userinfo", None, [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]),
    "no token": ("GET", "/oauth2/userinfo", None, []),
    "a preflight": ("OPTIONS", "/oauth2/token", None, [("Origin", ORIGIN)]),
    "a wrong method": ("DELETE", "/oauth2/token", None, []),
    "an unknown address": ("GET", "/oauth2/nothing", None, []),
}


@pytest.mark.parametrize("what", EXCHANGES)
def test_every_gateway_gets_the_same_answer(site: Site, browser: Browser, what: str) -> None:
    method, path, body, headers = EXCHANGES[what]
    answers = {name: Gateway(site, builder).request(method, path, body, headers) for name, builder in GATEWAYS.items()}
    first = next(iter(answers.values()))
    assert first.status < 500
    for name, answer in answers.items():
        shown = answer.body.replace("77375676-xmpl-4b79-853a-f982474efe18", "id")
        expected = first.body.replace("77375676-xmpl-4b79-853a-f982474efe18", "id")
        assert (answer.status, answer.headers, shown) == (first.status, first.headers, expected), name
    if what not in ("a header twice", "an unknown address", "a slash more"):  # chalice local has its own mind there
        local = browser.request(method, path, body, dict(headers))
        assert local.status == first.status
        assert set(first.headers) <= set(local.headers)


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_the_callers_address_is_what_the_gateway_saw(
    site: Site, gateway: str, caplog: pytest.LogCaptureFixture
) -> None:
    forged = [("X-Forwarded-For", "198.51.100.1"), ("Forwarded", "for=198.51.100.1"), ("Host", "evil.example")]
    answer = Gateway(site, GATEWAYS[gateway]).request("GET", "/.well-known/openid-configuration", None, forged)
    assert answer.json["issuer"] == site.settings.issuer
    line = json.loads(caplog.records[-1].getMessage())
    assert line["source_ip"] == SOURCE_IP
    assert "198.51.100.1" not in caplog.text


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_body_that_cannot_be_decoded_is_an_invalid_request(site: Site, gateway: str) -> None:
    event = GATEWAYS[gateway]("POST", "/oauth2/token", "", [("Content-Type", FORM)], "x")
    for body in ("not base64!", "YQ=", "é", "\ud800"):
        answer = _call(site, event | {"body": body, "isBase64Encoded": True})
        assert answer["statusCode"] == 400, body
        assert json.loads(answer["body"])["error"] == "invalid_request"
    lone = _call(site, event | {"body": "code=\ud800", "isBase64Encoded": False})
    assert lone["statusCode"] == 400


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("value", ["Bearer \ud800", "Basic \ud800", "Bearer \xe9.\xe9.\xe9", "Bearer \u2603", "Bearer"])
def test_a_header_with_anything_in_it_is_no_fault_of_ours(site: Site, gateway: str, value: str) -> None:
    names = ("Authorization", "Origin", "Cookie", "Content-Type", "Sec-Fetch-Site")
    client = site.client()
    for path, method in (("/oauth2/userinfo", "GET"), ("/oauth2/token", "POST"), ("/oauth2/authorize", "GET")):
        query = urlencode({"client_id": client.id})
        headers = [(name, value if name != "Cookie" else f"signet-session={value}") for name in names]
        assert _call(site, GATEWAYS[gateway](method, path, query, headers, None))["statusCode"] < 500
    preflight = _call(site, GATEWAYS[gateway]("OPTIONS", "/oauth2/token", "", [("Origin", value)], None))
    assert preflight["statusCode"] == 204


# ---- headers


def _some_answers(at: Any, client: Registered) -> list[Answer]:
    query = urlencode({"client_id": client.id, "response_type": "code", "scope": "openid"})
    return [
        at.request("GET", "/"),
        at.request("GET", "/style.css"),
        at.request("GET", "/healthz"),
        at.request("GET", "/nothing"),
        at.request("GET", "/oauth2/jwks"),
        at.request("GET", "/oauth2/userinfo"),
        at.request("GET", "/oauth2/authorize"),
        at.request("GET", f"/oauth2/authorize?{query}&redirect_uri={ORIGIN}/cb"),
        at.request("POST", "/oauth2/token", "x", [("Content-Type", FORM)]),
        at.request("DELETE", "/oauth2/token"),
        at.request("OPTIONS", "/oauth2/token", None, [("Origin", ORIGIN)]),
    ]


@pytest.mark.parametrize("issuer", ["https://id.example.com", None])
def test_every_answer_has_the_security_headers(site: Site, issuer: str | None) -> None:
    from dataclasses import replace

    settings = replace(site.settings, issuer=issuer or site.settings.issuer)
    server = AuthorizationServer(settings, site.server.store, site.server.keys)
    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)
    gateway = Gateway(site, http_2)
    gateway.site = type("At", (), {"http_handler": staticmethod(handler), "secrets": site.secrets})()
    answers = _some_answers(gateway, site.client())
    assert {answer.status for answer in answers} == {200, 204, 302, 400, 401, 404, 405}
    for answer in answers:
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("content-type")
        policy = answer.header("content-security-policy") or ""
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert (answer.header("strict-transport-security") == "max-age=31536000") == bool(issuer)
        assert len({name.lower() for name, _ in answer.headers}) == len(answer.headers)


BAD_VALUES = ["a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "a\0b", "é", "\u2603", "\x7f", "a\tb", "a\x0bb", "a\n"]


@pytest.mark.spec("RFC 9110 §5.5")
@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_header_field_holds_printable_ascii_only(value: str) -> None:
    response = Response()
    with pytest.raises(ServerError):
        response.add({"Location": value})
    assert response.headers == []


@pytest.mark.parametrize("name", ["Set Cookie", "a:b", "a\r\n", "", "é", "a_b"])
def test_a_header_name_is_a_word(name: str) -> None:
    with pytest.raises(ServerError):
        Response().add({name: "x"})


# ---- faults

SAYING = "the secret is hunter2"


def _boom(*_arguments: object, **_more: object) -> Any:
    raise RuntimeError(SAYING)


def test_a_fault_at_an_address_for_clients_is_a_server_error_in_json(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(site.server.keys, "jwks", _boom)
    answer = browser.get("/oauth2/jwks", {"Origin": ORIGIN})
    assert answer.status == 500
    assert answer.json == {"error": "server_error", "error_description": "The server has made a mistake."}
    assert answer.header("cache-control") == "no-store"
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("x-content-type-options") == "nosniff"
    record = caplog.records[-1]
    assert record.levelname == "ERROR"
    detail = json.loads(record.getMessage())["detail"]
    assert detail.startswith("RuntimeError at ")
    assert "test_web.py:" in detail
    assert SAYING not in caplog.text


def test_a_fault_at_an_address_for_people_is_a_page(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    monkeypatch.setattr(site.server.store, "read", _boom)
    answer = browser.authorize(client)
    assert answer.status == 500
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert "Something went wrong" in answer.body
    assert "hunter2" not in answer.body + caplog.text
    assert "RuntimeError at " in caplog.text


@pytest.mark.parametrize("path", PATHS)
def test_a_server_that_cannot_start_says_so_and_tries_again(
    site: Site, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def connect() -> AuthorizationServer:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError(SAYING)
        return site.server

    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, connect)
    event = http_2("GET", path, "", [], None)
    answer = handler(event, None)
    assert answer["statusCode"] == 500
    assert answer["headers"]["X-Content-Type-Options"] == "nosniff"
    assert json.loads(answer["body"])["error"] == "server_error"
    assert SAYING not in caplog.text
    assert handler(event, None)["statusCode"] < 500


def test_a_wrong_setting_is_named_in_the_log_and_not_in_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    def connect() -> AuthorizationServer:
        return AuthorizationServer.connect(Settings.from_environ({"SIGNET_STAGE": "a b"}))

    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, connect)
    answer = handler(http_2("GET", "/", "", [], None), None)
    assert answer["statusCode"] == 500
    assert "SIGNET" not in answer["body"]
    assert json.loads(caplog.records[-1].getMessage())["detail"].startswith("SIGNET_STAGE is 'a b'; it must be")


def test_an_endpoint_that_builds_a_bad_header_is_a_fault(site: Site) -> None:
    def endpoint(_server: AuthorizationServer, _request: Request) -> Response:
        return Response().add({"Location": "a\r\nb"})

    _, handler = web.build([web.Route("GET", "/x", endpoint)], [], lambda: site.server)
    assert handler(http_2("GET", "/x", "", [], None), None)["statusCode"] == 500


# ---- settings

_LIFETIMES = [
    ("SIGNET_AUTHORIZATION_CODE_LIFETIME", 10, 600),
    ("SIGNET_ACCESS_TOKEN_LIFETIME", 60, 86400),
    ("SIGNET_REFRESH_TOKEN_LIFETIME", 60, 31622400),
    ("SIGNET_REFRESH_TOKEN_ABSOLUTE_LIFETIME", 3600, 316224000),
    ("SIGNET_REFRESH_TOKEN_RETRY_WINDOW", 0, 60),
    ("SIGNET_SESSION_IDLE_LIFETIME", 60, 31622400),
    ("SIGNET_REQUEST_LIFETIME", 60, 3600),
    ("PORT", 1, 65535),
]


@pytest.mark.parametrize(("name", "low", "high"), _LIFETIMES)
def test_a_number_must_be_whole_and_within_its_bounds(name: str, low: int, high: int) -> None:
    for wrong in (low - 1, high + 1, -1, "1.5", "1e3", "ten", " 60", "60 ", "0x3c", "٦٠", "+60", "1_0", "9" * 5000):
        with pytest.raises(SettingsError) as refusal:
            Settings.from_environ({name: str(wrong)})
        assert name in str(refusal.value)
        assert f"from {low} to {high}" in str(refusal.value)
    for right in (low, high):
        Settings.from_environ({name: str(right)})
    Settings.from_environ({name: ""})


@pytest.mark.parametrize("stage", ["", " ", "a b", "a_b", "é", "a/b", "x" * 33, "-", "a\n"])
def test_a_stage_must_fit_into_the_name_of_a_table(stage: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_STAGE is .* letters, digits and hyphens"):
        Settings.from_environ({"SIGNET_STAGE": stage})


@pytest.mark.spec("OpenID Connect Discovery §3")
@pytest.mark.spec("RFC 8414 §2")
@pytest.mark.parametrize(
    "issuer",
    [
        "example.com",
        "http://example.com",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.2",
        "ftp://example.com",
        "https://",
        "https:///path",
        "https://:443",
        "https://:",
        "https://example.com/",
        "https://example.com/auth/",
        "https://example.com?",
        "https://example.com?a=b",
        "https://example.com#",
        "https://example.com#a",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com:99999",
        "https://example.com:port",
        "https://[::1",
        "https://exämple.com",
        "https://exa mple.com",
        "https://exam\nple.com",
        "https://example.com\r\n",
        " https://example.com",
        'https://example.com/"',
        "https://example.com/<b>",
        "https://example.com/a/../b",
        "https://example.com//a",
        "HTTPS://example.com",
        "Http://127.0.0.1",
        "https://example.com\\a",
        "https://example.com/%zz",
    ],
)
def test_an_issuer_must_be_an_https_url(issuer: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_ISSUER is .*must be an https URL"):
        Settings.from_environ({"SIGNET_ISSUER": issuer})


@pytest.mark.parametrize(
    "issuer",
    [
        "https://example.com",
        "https://example.com:8443",
        "https://example.com/auth",
        "https://example.com/a/b-c_d.e~f",
        "https://abc123.execute-api.us-east-1.amazonaws.com/dev",
        "https://[2001:db8::1]:8443",
        "http://127.0.0.1",
        "http://127.0.0.1:8000",
        "http://[::1]",
        "http://[::1]:8000",
        "http://localhost:8000",
    ],
)
def test_an_issuer_is_taken_as_it_is(issuer: str) -> None:
    settings = Settings.from_environ({"SIGNET_ISSUER": issuer})
    assert settings.issuer == issuer
    assert settings.secure == issuer.startswith("https:")


def test_in_lambda_the_issuer_may_be_the_gateways_and_the_database_is_awss_own() -> None:
    assert Settings.from_environ({"AWS_LAMBDA_FUNCTION_NAME": "signet"}).issuer == ""
    settings = Settings.from_environ({"AWS_LAMBDA_FUNCTION_NAME": "signet", "SIGNET_ISSUER": "https://a.example"})
    assert (settings.embedded, settings.dynamodb_endpoint) == (False, None)


def test_elsewhere_the_database_is_embedded_unless_another_is_named() -> None:
    assert Settings.from_environ({}).embedded
    assert Settings.from_environ({"PORT": "9000"}).issuer == "http://127.0.0.1:9000"
    settings = Settings.from_environ({"SIGNET_DYNAMODB_ENDPOINT": "http://127.0.0.1:8001"})
    assert (settings.embedded, settings.dynamodb_endpoint) == (False, "http://127.0.0.1:8001")


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:8001", "ftp://127.0.0.1", "http://", "http://a b", "é", "http://a:port"]
)
def test_an_endpoint_must_be_a_url(endpoint: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_DYNAMODB_ENDPOINT is .*must be an http"):
        Settings.from_environ({"SIGNET_DYNAMODB_ENDPOINT": endpoint})
