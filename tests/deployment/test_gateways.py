"""The same responses behind every gateway: REST API, HTTP API (payload 1.0 and 2.0) and Function URL."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from tests.support.browser import CHALLENGE, Answer, Browser
from tests.support.gateways import ADDRESS, GATEWAYS, Gateway, GatewayBrowser
from tests.support.site import PASSWORD, Site

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
CALLBACK = "https://client.example.com/cb"
# The random parts of a response: handles, the tag of a form, the id of a request.
_RANDOM = re.compile(
    r"\b(?:req|br|sid|code|rt)_[\w-]+|(?<=name=\"tag\" value=\")[\w-]+|(?<=name=\"request_id\" value=\")[\w-]+|"
    r'(?<=Request ID <code dir="ltr">)[\w-]+'
)


@pytest.fixture
def behind(site: Site, gateway: Gateway) -> GatewayBrowser:
    """Return a browser behind the gateway of a server with a pinned issuer."""
    return GatewayBrowser(site, gateway)


@pytest.fixture
def unpinned(site_with: Callable[..., Site], gateway: Gateway) -> GatewayBrowser:
    """Return a browser behind the gateway of a server without a pinned issuer."""
    return GatewayBrowser(site_with(issuer=""), gateway)


# ---- the whole flow


def test_whole_flow_works_behind_every_gateway(site: Site, behind: GatewayBrowser) -> None:
    site.user("zoë", claims={"email": "zoe@example.com", "name": "Zoë"})
    client, state = site.client(), "a b&c=d%20é"
    page = behind.authorize(client, scope="openid email profile offline_access", state=state, nonce="n-1")
    signed_in = behind.send(page, username="zoë", password=PASSWORD)
    assert signed_in.status == 303
    assert len(behind.cookies) == 2
    answer = behind.submit(behind.follow(signed_in), decision="allow_always").answer
    assert (answer["state"], answer["iss"]) == (state, site.settings.issuer)
    tokens = behind.redeem(client, answer["code"]).json
    assert jwt.decode(tokens["id_token"], options={"verify_signature": False})["nonce"] == "n-1"
    claims = behind.userinfo(tokens["access_token"]).json
    assert (claims["email"], claims["name"]) == ("zoe@example.com", "Zoë")
    refreshed = behind.refresh(client, tokens["refresh_token"]).json
    # With a session and a consent, the next request is answered without a page.
    assert behind.authorize(client, scope="openid email").code
    assert behind.post("/oauth2/revoke", {"token": refreshed["refresh_token"], **secret(client)}).status == 200
    assert behind.userinfo(refreshed["access_token"]).status == 401


def test_without_a_pinned_issuer_the_address_of_the_gateway_is_the_issuer(
    unpinned: GatewayBrowser, gateway: Gateway
) -> None:
    site = unpinned.site
    site.user()
    client = site.client()
    metadata = unpinned.get("/.well-known/openid-configuration").json
    assert metadata["issuer"] == gateway.url
    assert metadata["token_endpoint"] == f"{gateway.url}/oauth2/token"
    page = unpinned.authorize(client)
    # Over https the cookies have the prefix, so they are sent over TLS only.
    assert any(name.startswith("__Host-") for name in unpinned.cookies)
    answer = unpinned.submit(unpinned.sign_in(page), decision="allow_once").answer
    assert answer["iss"] == gateway.url
    tokens = unpinned.redeem(client, answer["code"]).json
    assert jwt.decode(tokens["access_token"], options={"verify_signature": False})["iss"] == gateway.url
    assert unpinned.userinfo(tokens["access_token"]).status == 200


@pytest.mark.spec("RFC 9700 §4.13 a")
@pytest.mark.parametrize("name", ["Host", "X-Forwarded-Host", "Forwarded"])
def test_no_header_changes_the_issuer(unpinned: GatewayBrowser, gateway: Gateway, name: str) -> None:
    value = "host=evil.example" if name == "Forwarded" else "evil.example"
    metadata = unpinned.deliver("GET", "/.well-known/openid-configuration", [(name, value)]).json
    assert metadata["issuer"] == gateway.url


def secret(client: Any) -> dict[str, str]:
    return {"client_id": client.id, "client_secret": client.secret}


# ---- the same responses

QUERY = {"response_type": "code", "client_id": "print", "redirect_uri": CALLBACK, "scope": "openid", "state": "ü & + %"}
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"print:wrong").decode()}
SAMPLE: dict[str, tuple[str, str, dict[str, str], str | None]] = {
    "home": ("GET", "/", {}, None),
    "style sheet": ("GET", "/style.css", {}, None),
    "discovery": ("GET", "/.well-known/openid-configuration", {}, None),
    "metadata": ("GET", "/.well-known/oauth-authorization-server", {}, None),
    "an ignored query": ("GET", "/oauth2/jwks?a=b&a=%C3%A9", {}, None),
    "keys for a web page": ("GET", "/oauth2/jwks", {"Origin": "https://any.example"}, None),
    "health": ("GET", "/healthz", {}, None),
    "deep health without a token": ("GET", "/healthz?deep=1", {}, None),
    "sign-in page": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}", {}, None),
    "request by POST": ("POST", "/oauth2/authorize", FORM, urlencode(QUERY | PKCE)),
    "unknown client": ("GET", f"/oauth2/authorize?{urlencode(QUERY | {'client_id': 'x'})}", {}, None),
    "unknown client beyond ASCII": ("GET", "/oauth2/authorize?client_id=%C3%A9%20%2B%26", {}, None),
    "a client without a name": ("GET", "/oauth2/authorize?client_id=", {}, None),
    "unknown clients": ("GET", "/oauth2/authorize?client_id=a&client_id=b", {}, None),
    "error by redirect": ("GET", f"/oauth2/authorize?{urlencode(QUERY)}", {}, None),
    "no session": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE | {'prompt': 'none'})}", {}, None),
    "a scope twice": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}&scope=email", {}, None),
    "a client twice": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}&client_id=other", {}, None),
    "a query that is not UTF-8": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}%ED%A0%80", {}, None),
    "an empty parameter": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}&nonce=", {}, None),
    "an invalid handle": ("GET", "/oauth2/authorize?request_uri=req_x", {}, None),
    "a form from another site": ("POST", "/oauth2/code", FORM | {"Sec-Fetch-Site": "cross-site"}, "a=b"),
    "token without a client": ("POST", "/oauth2/token", FORM, "grant_type=authorization_code"),
    "token without a client, beyond ASCII": ("POST", "/oauth2/token", FORM, "grant_type=x&code=%C3%A9"),
    "token with a wrong secret": ("POST", "/oauth2/token", FORM | BASIC, "grant_type=authorization_code"),
    "token of an unknown kind": ("POST", "/oauth2/token", FORM, "grant_type=x&client_id=app"),
    "token with a wrong code": ("POST", "/oauth2/token", FORM, "grant_type=authorization_code&client_id=app&code=x"),
    "token with two codes": (
        "POST",
        "/oauth2/token",
        FORM,
        "code=1&code=2&client_id=app&grant_type=authorization_code",
    ),
    "token by JSON": ("POST", "/oauth2/token", JSON, '{"client_id":"app"}'),
    "token by JSON beyond ASCII": ("POST", "/oauth2/token", {"content-type": "application/json"}, '{"client_id": "é"}'),
    "token by text": ("POST", "/oauth2/token", {"Content-Type": "text/plain"}, "grant_type=x"),
    "token without a body": ("POST", "/oauth2/token", {}, None),
    "token with an empty form": ("POST", "/oauth2/token", FORM, None),
    "token by GET": ("GET", "/oauth2/token", {}, None),
    "userinfo without a token": ("GET", "/oauth2/userinfo", {}, None),
    "userinfo with a wrong token": ("GET", "/oauth2/userinfo", {"Authorization": "Bearer x"}, None),
    "userinfo with a token in the body": ("POST", "/oauth2/userinfo", FORM, "access_token=x"),
    "revocation of nothing": ("POST", "/oauth2/revoke", FORM, "token=x&client_id=app"),
    "preflight": ("OPTIONS", "/oauth2/token", {"Origin": "https://client.example.com"}, None),
    "preflight without CORS": ("OPTIONS", "/oauth2/authorize", {"Origin": "https://any.example"}, None),
    "a response for a page of the client": (
        "POST",
        "/oauth2/token",
        FORM | {"Origin": "https://client.example.com"},
        "grant_type=x&client_id=app",
    ),
    "an unknown path": ("GET", "/nothing/here", {}, None),
    "an unknown path with a percent sign": ("GET", "/nothing%2F%20here", {}, None),
    "a trailing slash": ("GET", "/healthz/", {}, None),
    "an unknown path under a known one": ("GET", "/oauth2/nothing", {}, None),
    "an unknown method": ("DELETE", "/oauth2/token", {}, None),
}


def ordered(sample: tuple[str, str, dict[str, str], str | None]) -> tuple[str, str, str | None, dict[str, str]]:
    method, path, headers, body = sample
    return method, path, body, headers


@pytest.fixture
def clients(site: Site) -> Site:
    site.client(client_id="print")
    site.client(client_id="app", public=True)
    return site


def normalized(answer: Answer) -> dict[str, Any]:
    """Return a response without its random parts and without the headers of the web server."""
    ignored = ("date", "server", "content-length", "connection")
    return {
        "status": answer.status,
        "headers": [(n, _RANDOM.sub("*", value)) for n, value in answer.headers if n.lower() not in ignored],
        "body": _RANDOM.sub("*", answer.body),
    }


def assert_same(answers: dict[str, dict[str, Any]]) -> None:
    first = answers["REST"]
    assert first["status"] < 500, first
    for name, answer in answers.items():
        assert answer == first, name


@pytest.mark.parametrize("what", SAMPLE)
def test_response_is_the_same_behind_every_gateway(clients: Site, what: str) -> None:
    assert_same(
        {
            gateway.name: normalized(GatewayBrowser(clients, gateway).request(*ordered(SAMPLE[what])))
            for gateway in GATEWAYS
        }
    )


def test_response_to_a_repeated_header_is_the_same_behind_every_gateway(clients: Site) -> None:
    twice = [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]
    assert_same(
        {
            gateway.name: normalized(GatewayBrowser(clients, gateway).deliver("GET", "/oauth2/userinfo", twice))
            for gateway in GATEWAYS
        }
    )


# Requests for unknown addresses and OPTIONS requests, to which Chalice's local server responds itself.
NOT_FORWARDED = (
    "an unknown path",
    "an unknown path with a percent sign",
    "an unknown path under a known one",
    "a trailing slash",
    "preflight without CORS",
)


@pytest.mark.parametrize("what", [what for what in SAMPLE if what not in NOT_FORWARDED])
def test_response_of_the_local_server_is_the_same(clients: Site, browser: Browser, what: str) -> None:
    local, remote = (
        normalized(at.request(*ordered(SAMPLE[what]))) for at in (browser, GatewayBrowser(clients, GATEWAYS[0]))
    )
    for answer in (local, remote):
        answer["headers"] = sorted((name.lower(), value) for name, value in answer["headers"])
    assert local == remote


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
def test_unknown_address_gets_a_404_page(behind: GatewayBrowser, path: str) -> None:
    answer = behind.get(path)
    assert answer.status == 404
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert "There is nothing" in answer.body


# ---- differences between gateways


def test_query_that_is_not_utf8_is_rejected_even_if_the_gateway_has_decoded_it(clients: Site, gateway: Gateway) -> None:
    answer = GatewayBrowser(clients, gateway).get("/oauth2/authorize?client_id=print%FF")
    assert (answer.status, answer.header("location")) == (400, None)


Send = Callable[[dict[str, str], str, bool], Answer]


@pytest.fixture
def send(site: Site, gateway: Gateway) -> Send:
    """Return a function that sends a body exactly as given in the event, whatever the gateway would do with it."""

    def send(headers: dict[str, str], body: str, encoded: bool) -> Answer:
        def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
            return site.http_handler({**event, "body": body, "isBase64Encoded": encoded}, context)

        return GatewayBrowser(site, gateway, handler).request("POST", "/oauth2/token", "x", headers)

    return send


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (FORM, "grant_type=authorization_code&client_id=app&code=x"),
        (JSON, '{"grant_type": "authorization_code", "client_id": "app", "code": "é"}'),
    ],
    ids=["form", "JSON"],
)
def test_body_is_read_with_or_without_base64(clients: Site, send: Send, headers: dict[str, str], body: str) -> None:
    for answer in (send(headers, base64.b64encode(body.encode()).decode(), True), send(headers, body, False)):
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")


# A valid form, except for one character that a lenient decoder skips.
LENIENT = "!" + base64.b64encode(b"grant_type=authorization_code&client_id=app&code=x").decode()


@pytest.mark.parametrize("broken", ["§$%", "not base64!", "YQ=", "é", "\ud800", LENIENT], ids=ascii)
def test_body_that_cannot_be_decoded_is_an_invalid_request(send: Send, broken: str) -> None:
    answer = send(FORM, broken, True)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


def test_body_with_a_lone_surrogate_is_an_invalid_request(send: Send) -> None:
    assert send(FORM, "code=\ud800", False).status == 400


MALFORMED_HEADERS = ["Bearer \ud800", "Basic \ud800", "Bearer \xe9.\xe9.\xe9", "Bearer \u2603", "Bearer"]


@pytest.mark.parametrize("value", MALFORMED_HEADERS, ids=ascii)
def test_malformed_header_causes_no_server_error(clients: Site, behind: GatewayBrowser, value: str) -> None:
    headers = dict.fromkeys(("Authorization", "Origin", "Content-Type", "Sec-Fetch-Site"), value)
    headers["Cookie"] = f"signet-session={value}"
    for method, path in (("GET", "/oauth2/userinfo"), ("POST", "/oauth2/token"), ("GET", "/oauth2/authorize")):
        assert behind.request(method, f"{path}?client_id=print", headers=headers).status < 500
    assert behind.request("OPTIONS", "/oauth2/token", headers={"Origin": value}).status == 204


def test_cookies_are_read_from_one_header_field_or_several(site: Site, behind: GatewayBrowser) -> None:
    site.user()
    client = site.client()
    behind.sign_in(behind.authorize(client))
    cookies = dict(behind.cookies)
    assert len(cookies) == 2
    pairs = [("Cookie", f"{name}={value}") for name, value in cookies.items()]
    noise = ("Cookie", "theme=dark; a=b=c")
    query = urlencode(QUERY | PKCE | {"client_id": client.id})
    page = behind.deliver("GET", f"/oauth2/authorize?{query}", [noise, *pairs])
    assert "decision" in page.body  # signed in, so the consent page is next
    together = ("Cookie", "; ".join([noise[1], *(value for _, value in pairs)]))
    assert "decision" in behind.deliver("GET", f"/oauth2/authorize?{query}", [together]).body


def test_sign_in_sets_each_cookie_in_its_own_header_field(site: Site, behind: GatewayBrowser) -> None:
    site.user()
    page = behind.authorize(site.client())
    first = [value for name, value in page.headers if name == "Set-Cookie"]
    answer = behind.send(page, username="alice", password=PASSWORD)
    second = [value for name, value in answer.headers if name == "Set-Cookie"]
    assert [len(first), len(second)] == [1, 2], "the browser; the session, and the browser's again"
    assert all(value.count("signet-") == 1 for value in first + second)


@pytest.mark.spec("RFC 9700 §4.13 a")
def test_log_has_the_source_address_of_the_gateway(
    site: Site, behind: GatewayBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "signet")
    forged = {"X-Forwarded-For": "203.0.113.66", "Forwarded": "for=203.0.113.66", "Host": "evil.example"}
    assert behind.get("/.well-known/openid-configuration", forged).json["issuer"] == site.settings.issuer
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if "source_ip" in record.getMessage()]
    assert line["source_ip"] == ADDRESS
    assert line["path"] == "/.well-known/openid-configuration"
    assert "203.0.113.66" not in caplog.text


def test_event_without_gateway_members_is_answered(site: Site) -> None:
    event = {"httpMethod": "GET", "path": "/healthz", "headers": None, "requestContext": {"httpMethod": "GET"}}
    assert site.http_handler(event, None)["statusCode"] == 200
