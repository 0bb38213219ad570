"""One adapter for every front: REST API, HTTP API (payload 1.0 and 2.0) and Function URL give the same answers."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from tests.browser import CHALLENGE, Answer, Browser
from tests.gateways import FRONTS, Front, FrontBrowser
from tests.site import PASSWORD, Site

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CALLBACK = "https://client.example.com/cb"
# What is random in an answer: handles, the tag of a form, an id.
_RANDOM = re.compile(r"\b(?:req|br|sid|code|rt)_[\w-]+|(?<=name=\"tag\" value=\")[\w-]+|request_uri=[\w-]+")


@pytest.fixture(params=FRONTS, ids=lambda front: front.name)
def front(request: pytest.FixtureRequest) -> Front:
    found: Front = request.param
    return found


@pytest.fixture
def behind(site: Site, front: Front) -> FrontBrowser:
    """A browser behind the front; the issuer is set."""
    return FrontBrowser(site, front)


@pytest.fixture
def unpinned(site_with: Callable[..., Site], front: Front) -> FrontBrowser:
    """A browser behind the front of a server whose issuer nobody has set."""
    return FrontBrowser(site_with(issuer=""), front)


# ---- the whole flow


def test_the_whole_flow_works_behind_every_front(site: Site, behind: FrontBrowser) -> None:
    site.user(claims={"email": "alice@example.com"})
    client = site.client()
    consent = behind.sign_in(behind.authorize(client, scope="openid email offline_access", nonce="n-1"))
    answer = behind.submit(consent, decision="allow_always").answer
    assert (answer["state"], answer["iss"]) == ("af0ifjsldkj", site.settings.issuer)
    tokens = behind.redeem(client, answer["code"]).json
    assert jwt.decode(tokens["id_token"], options={"verify_signature": False})["nonce"] == "n-1"
    assert behind.userinfo(tokens["access_token"]).json["email"] == "alice@example.com"
    refreshed = behind.refresh(client, tokens["refresh_token"]).json
    # Signed in and allowed: the next time nothing is asked.
    assert behind.authorize(client, scope="openid email").code
    assert behind.post("/oauth2/revoke", {"token": refreshed["refresh_token"], **secret(client)}).status == 200
    assert behind.userinfo(refreshed["access_token"]).status == 401


def test_without_a_set_issuer_the_fronts_own_address_is_the_issuer(unpinned: FrontBrowser, front: Front) -> None:
    site = unpinned.site
    site.user()
    client = site.client()
    metadata = unpinned.get("/.well-known/openid-configuration").json
    assert metadata["issuer"] == front.url
    assert metadata["token_endpoint"] == f"{front.url}/oauth2/token"
    page = unpinned.authorize(client)
    # Over https the cookies have their prefix, and are sent by TLS only.
    assert any(name.startswith("__Host-") for name in unpinned.cookies)
    answer = unpinned.submit(unpinned.sign_in(page), decision="allow_once").answer
    assert answer["iss"] == front.url
    tokens = unpinned.redeem(client, answer["code"]).json
    assert jwt.decode(tokens["access_token"], options={"verify_signature": False})["iss"] == front.url
    assert unpinned.userinfo(tokens["access_token"]).status == 200


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-Host", "Forwarded"])
def test_no_header_changes_the_issuer(unpinned: FrontBrowser, front: Front, name: str) -> None:
    value = "host=evil.example" if name == "Forwarded" else "evil.example"
    metadata = unpinned.deliver("GET", "/.well-known/openid-configuration", [(name, value)]).json
    assert metadata["issuer"] == front.url


def secret(client: Any) -> dict[str, str]:
    return {"client_id": client.id, "client_secret": client.secret}


# ---- the same answers

QUERY = {"response_type": "code", "client_id": "print", "redirect_uri": CALLBACK, "scope": "openid", "state": "ü & + %"}
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"print:wrong").decode()}
SAMPLE: dict[str, tuple[str, str, dict[str, str], str | None]] = {
    "home": ("GET", "/", {}, None),
    "style sheet": ("GET", "/style.css", {}, None),
    "discovery": ("GET", "/.well-known/openid-configuration", {}, None),
    "metadata": ("GET", "/.well-known/oauth-authorization-server", {}, None),
    "keys for a web page": ("GET", "/oauth2/jwks", {"Origin": "https://any.example"}, None),
    "health": ("GET", "/healthz", {}, None),
    "deep health without a token": ("GET", "/healthz?deep=1", {}, None),
    "sign-in page": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}", {}, None),
    "request by POST": ("POST", "/oauth2/authorize", FORM, urlencode(QUERY | PKCE)),
    "unknown client": ("GET", f"/oauth2/authorize?{urlencode(QUERY | {'client_id': 'x'})}", {}, None),
    "error by redirect": ("GET", f"/oauth2/authorize?{urlencode(QUERY)}", {}, None),
    "nobody signed in": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE | {'prompt': 'none'})}", {}, None),
    "a scope given twice": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}&scope=email", {}, None),
    "a client given twice": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}&client_id=other", {}, None),
    "an empty parameter": ("GET", f"/oauth2/authorize?{urlencode(QUERY | PKCE)}&nonce=", {}, None),
    "a handle that is none": ("GET", "/oauth2/authorize?request_uri=req_x", {}, None),
    "a form from another site": ("POST", "/oauth2/code", FORM | {"Sec-Fetch-Site": "cross-site"}, "a=b"),
    "token without a client": ("POST", "/oauth2/token", FORM, "grant_type=authorization_code"),
    "token with a wrong secret": ("POST", "/oauth2/token", FORM | BASIC, "grant_type=authorization_code"),
    "token of an unknown kind": ("POST", "/oauth2/token", FORM, "grant_type=x&client_id=app"),
    "token with a wrong code": ("POST", "/oauth2/token", FORM, "grant_type=authorization_code&client_id=app&code=x"),
    "token with two codes": (
        "POST",
        "/oauth2/token",
        FORM,
        "code=1&code=2&client_id=app&grant_type=authorization_code",
    ),
    "token by JSON": ("POST", "/oauth2/token", {"Content-Type": "application/json"}, '{"client_id":"app"}'),
    "token by text": ("POST", "/oauth2/token", {"Content-Type": "text/plain"}, "grant_type=x"),
    "token without a body": ("POST", "/oauth2/token", {}, None),
    "token by GET": ("GET", "/oauth2/token", {}, None),
    "userinfo without a token": ("GET", "/oauth2/userinfo", {}, None),
    "userinfo with a wrong token": ("GET", "/oauth2/userinfo", {"Authorization": "Bearer x"}, None),
    "userinfo with a token in the body": ("POST", "/oauth2/userinfo", FORM, "access_token=x"),
    "revocation of nothing": ("POST", "/oauth2/revoke", FORM, "token=x&client_id=app"),
    "preflight": ("OPTIONS", "/oauth2/token", {"Origin": "https://client.example.com"}, None),
    "preflight where nothing is shared": ("OPTIONS", "/oauth2/authorize", {"Origin": "https://any.example"}, None),
    "an answer for a page of the client": (
        "POST",
        "/oauth2/token",
        FORM | {"Origin": "https://client.example.com"},
        "grant_type=x&client_id=app",
    ),
    "an unknown path": ("GET", "/nothing/here", {}, None),
    "an unknown path with a percent sign": ("GET", "/nothing%2F%20here", {}, None),
    "a slash too many": ("GET", "/healthz/", {}, None),
    "an unknown method": ("DELETE", "/oauth2/token", {}, None),
}


@pytest.fixture
def clients(site: Site) -> Site:
    site.client(client_id="print")
    site.client(client_id="app", public=True)
    return site


def normal(answer: Answer) -> dict[str, Any]:
    """An answer without what is random in it, and without what a server says of itself."""
    ignored = ("date", "server", "content-length", "connection")
    headers = sorted((name.lower(), _RANDOM.sub("*", value)) for name, value in answer.headers)
    return {
        "status": answer.status,
        "headers": [header for header in headers if header[0] not in ignored],
        "body": _RANDOM.sub("*", answer.body).replace("c6af9ac6-7b61-11e6-9a41-93e8deadbeef", "*"),
    }


@pytest.mark.parametrize("what", SAMPLE)
def test_every_front_gives_the_same_answer(clients: Site, what: str) -> None:
    method, path, headers, body = SAMPLE[what]
    answers = {
        front.name: normal(FrontBrowser(clients, front).request(method, path, body, headers)) for front in FRONTS
    }
    first = answers.pop("REST")
    assert first["status"] < 500, first
    for name, answer in answers.items():
        assert answer == first, name


@pytest.mark.parametrize("what", ["discovery", "sign-in page", "error by redirect", "token by JSON", "preflight"])
def test_the_local_server_gives_it_too(clients: Site, browser: Browser, what: str) -> None:
    method, path, headers, body = SAMPLE[what]
    local = normal(browser.request(method, path, body, headers))
    assert local == normal(FrontBrowser(clients, FRONTS[0]).request(method, path, body, headers))


# ---- what fronts do differently


def test_a_query_that_is_no_utf8_is_refused_though_some_fronts_have_decoded_it(clients: Site, front: Front) -> None:
    answer = FrontBrowser(clients, front).get("/oauth2/authorize?client_id=print%FF")
    assert (answer.status, answer.header("location")) == (400, None)


def test_a_base64_body_is_read_and_a_broken_one_is_the_senders_fault(site: Site, front: Front) -> None:
    site.client(client_id="app", public=True)
    form = b"grant_type=authorization_code&client_id=app&code=x"

    def with_body(body: str, encoded: bool) -> Answer:
        def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
            return site.http_handler({**event, "body": body, "isBase64Encoded": encoded}, context)

        return FrontBrowser(site, front, handler).request("POST", "/oauth2/token", form, FORM)

    assert with_body(base64.b64encode(form).decode(), True).json["error"] == "invalid_grant"
    assert with_body(form.decode(), False).json["error"] == "invalid_grant"
    broken = with_body("§$%", True)
    assert (broken.status, broken.json["error"]) == (400, "invalid_request")


def test_two_cookies_are_two_cookies_whether_they_come_in_one_field_or_two(site: Site, behind: FrontBrowser) -> None:
    site.user()
    client = site.client()
    behind.sign_in(behind.authorize(client))
    known = dict(behind.cookies)
    assert len(known) == 2
    pairs = [("Cookie", f"{name}={value}") for name, value in known.items()]
    noise = ("Cookie", "theme=dark; a=b=c")
    query = urlencode(QUERY | PKCE | {"client_id": client.id})
    page = behind.deliver("GET", f"/oauth2/authorize?{query}", [noise, *pairs])
    assert "decision" in page.body  # signed in: the question is the next one
    together = ("Cookie", "; ".join([noise[1], *(value for _, value in pairs)]))
    assert "decision" in behind.deliver("GET", f"/oauth2/authorize?{query}", [together]).body


def test_a_sign_in_sets_each_cookie_in_a_field_of_its_own(site: Site, behind: FrontBrowser) -> None:
    site.user()
    page = behind.authorize(site.client())
    first = [value for name, value in page.headers if name == "Set-Cookie"]
    answer = behind.send(page, username="alice", password=PASSWORD)
    second = [value for name, value in answer.headers if name == "Set-Cookie"]
    assert len(first) == len(second) == 1
    assert all(value.count("signet-") == 1 for value in first + second)


def test_the_log_has_the_address_that_the_gateway_saw(
    site: Site, behind: FrontBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "signet")
    behind.get("/healthz", {"X-Forwarded-For": "203.0.113.66", "Forwarded": "for=203.0.113.66"})
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if "source_ip" in record.getMessage()]
    assert line["source_ip"] == "192.0.2.7"
    assert line["path"] == "/healthz"


def test_an_event_of_no_gateway_is_answered_too(site: Site) -> None:
    event = {"httpMethod": "GET", "path": "/healthz", "headers": None, "requestContext": {"httpMethod": "GET"}}
    assert site.http_handler(event, None)["statusCode"] == 200
