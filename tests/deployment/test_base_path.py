"""A custom domain with a base path: the issuer has a path, which every gateway leaves in its events."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from chalicelib.server import AuthorizationServer
from tests.support.browser import Answer, Browser, basic
from tests.support.gateways import GATEWAYS, HTTP_2, Gateway, GatewayBrowser, GatewayRequest
from tests.support.site import Registered, Site

DOMAIN = "login.example.com"
BASE = "/auth/eu"
ISSUER = f"https://{DOMAIN}{BASE}"
OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
# The addresses that the helpers of Browser call as a client; the server names all others.
BY_CLIENT = ("/oauth2/authorize", "/oauth2/token", "/oauth2/userinfo", "/oauth2/introspect")
ADDRESS = re.compile(r'(?:href|src|action)="([^"#]*)')


@dataclass(frozen=True)
class CustomDomain:
    """Makes the events of a gateway for a domain of the operator: the path of the request, without the stage."""

    gateway: Gateway

    def __call__(self, sent: GatewayRequest, domain: str, _stage: str) -> dict[str, Any]:
        event = self.gateway.event(sent, domain, "$default")
        event["requestContext"]["stage"] = self.gateway.stage
        return event


class DomainBrowser(GatewayBrowser):
    """A browser at the custom domain. Every address that the server has named must be below the base path."""

    def request(
        self, method: str, url: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        path = urlsplit(url).path
        if path in BY_CLIENT:
            url, path = BASE + url, BASE + path
        assert path.startswith((BASE, "/.well-known/")), url
        return super().request(method, url, body, headers)


@pytest.fixture(params=GATEWAYS, ids=lambda gateway: gateway.name)
def domain(request: pytest.FixtureRequest, site_with: Callable[..., Site]) -> DomainBrowser:
    """Return a browser at the custom domain, for each kind of gateway."""
    site = site_with(issuer=ISSUER, playground=True)
    site.user("alice", claims={"email": "alice@example.com"})
    return DomainBrowser(site, Gateway("custom domain", CustomDomain(request.param), DOMAIN))


@pytest.fixture
def client(domain: DomainBrowser) -> Registered:
    return domain.site.client(post_logout_redirect_uris=("https://client.example.com/bye",))


def test_whole_flow_works_below_the_base_path(domain: DomainBrowser, client: Registered) -> None:
    answer = domain.answer(client, scope="openid offline_access", state="x")
    assert answer.answer["iss"] == ISSUER
    tokens = domain.redeem(client, answer.code).json
    assert domain.refresh(client, tokens["refresh_token"]).status == 200
    assert domain.userinfo(tokens["access_token"]).json["sub"]
    credentials = basic(client.id, client.secret or "")
    introspected = domain.post("/oauth2/introspect", {"token": tokens["access_token"]}, credentials).json
    assert (introspected["active"], introspected["iss"]) == (True, ISSUER)
    bye = domain.get(
        f"{BASE}/oauth2/logout",
        id_token_hint=tokens["id_token"],
        post_logout_redirect_uri="https://client.example.com/bye",
    )
    assert bye.location.startswith("https://client.example.com/bye")


def test_stored_request_and_login_hint_continue_below_the_base_path(domain: DomainBrowser, client: Registered) -> None:
    page = domain.authorize(client)
    form = dict(part.split("=", 1) for part in urlsplit(page.url).query.split("&"))
    stored = domain.post(
        f"{BASE}/oauth2/authorize",
        {"login_hint": "alice", "response_type": "code"}
        | {
            "client_id": client.id,
            "redirect_uri": client.record.redirect_uris[0],
            "scope": "openid",
            "code_challenge": form["code_challenge"],
            "code_challenge_method": "S256",
        },
    )
    assert stored.location.startswith(f"{BASE}/oauth2/authorize?")
    page = domain.follow(stored)
    assert "password" in page.form.fields
    assert domain.submit(domain.sign_in(page), decision="allow_once").code


def test_every_link_form_and_redirect_stays_below_the_base_path(domain: DomainBrowser, client: Registered) -> None:
    """The addresses on all pages, followed from the start page, as a visitor and as a signed-in user."""
    seen: set[str] = set()

    def walk(url: str) -> None:
        if url in seen:
            return
        seen.add(url)
        answer = domain.get(url)
        assert answer.status in (200, 302, 303, 400), (url, answer.status)
        if answer.status in (302, 303):
            assert answer.location.startswith(f"{BASE}/"), answer.location
            walk(answer.location)
            return
        for address in ADDRESS.findall(answer.body.replace("&amp;", "&")):
            local = address.removeprefix(f"https://{DOMAIN}")
            if address and local.startswith("/"):
                assert local.startswith((f"{BASE}/", BASE)), (url, address)
                walk(local)

    walk(BASE)
    assert domain.answer(client).code
    seen.clear()
    for path in ("", "/account", "/account/browsers", "/account/activity", "/account/password", "/oauth2/logout"):
        walk(BASE + path)
    assert f"{BASE}/account/password" in seen


def test_forms_of_the_account_lead_back_below_the_base_path(domain: DomainBrowser, client: Registered) -> None:
    assert domain.answer(client, "allow_always").code
    page = domain.get(f"{BASE}/account")
    revoked = domain.send(page, {"Origin": f"https://{DOMAIN}"}, action="revoke")
    assert revoked.location.startswith(f"{BASE}/account")
    assert domain.follow(revoked).status == 200


def test_cookies_are_those_of_the_host(domain: DomainBrowser, client: Registered) -> None:
    """The prefix __Host- requires the path "/"."""
    cookies = [
        value
        for name, value in domain.send(
            domain.authorize(client), username="alice", password="correct horse battery staple"
        ).headers
        if name == "Set-Cookie"
    ]
    assert cookies
    for cookie in cookies:
        assert cookie.startswith("__Host-")
        assert {"Path=/", "Secure", "HttpOnly"} <= set(cookie.split("; "))


@pytest.mark.spec("RFC 8414 §3 a", "RFC 8414 §3.1")
@pytest.mark.spec("OpenID Connect Discovery §4 a")
@pytest.mark.parametrize("address", [BASE + OPENID, BASE + OAUTH, OPENID + BASE, OAUTH + BASE, f"{BASE}{OAUTH}/"])
def test_metadata_is_at_the_inserted_and_at_the_appended_address(domain: DomainBrowser, address: str) -> None:
    answer = domain.get(address)
    assert answer.json["issuer"] == ISSUER
    assert answer.header("access-control-allow-origin") == "*"


def test_every_endpoint_of_the_metadata_answers(domain: DomainBrowser) -> None:
    metadata = domain.get(OPENID + BASE).json
    endpoints = {name: value for name, value in metadata.items() if name.endswith("_endpoint") or name == "jwks_uri"}
    assert len(endpoints) == 8
    for address in endpoints.values():
        assert address.startswith(f"{ISSUER}/")
        path = address.removeprefix(f"https://{DOMAIN}")
        assert domain.get(path).status in (200, 400, 401, 405), path
        assert domain.request("OPTIONS", path, None, {"Origin": "https://a.example"}).status in (204, 405), path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (BASE, 200),
        (f"{BASE}/", 200),
        (f"{BASE}/healthz", 200),
        (f"{BASE}x/healthz", 404),
        (f"{BASE}{BASE}/healthz", 404),
        (f"{OPENID}/auth", 404),
        (f"{OPENID}/other{BASE}", 404),
        (f"/.well-known/healthz{BASE}", 404),
    ],
)
def test_only_the_base_path_itself_is_removed(domain: DomainBrowser, path: str, status: int) -> None:
    assert domain.get(path).status == status


def test_front_may_remove_the_base_path_itself(domain: DomainBrowser) -> None:
    assert GatewayBrowser(domain.site, domain.gateway).get("/healthz").status == 200


@pytest.mark.parametrize("base", ["/oauth2", "/account", "/.well-known", "/playground"])
def test_base_path_can_have_the_name_of_a_path_of_the_server(site_with: Callable[..., Site], base: str) -> None:
    site = site_with(issuer=f"https://{DOMAIN}{base}", playground=True)
    browser = GatewayBrowser(site, Gateway("custom domain", CustomDomain(HTTP_2), DOMAIN))
    metadata = browser.get(base + OPENID).json
    assert browser.get(urlsplit(metadata["jwks_uri"]).path).json["keys"]
    assert browser.get(OAUTH + base).json == metadata
    assert browser.get(base + "/account").location.startswith(f"{base}/oauth2/authorize?")
    assert "Issuer" in browser.get(base).body


@pytest.mark.parametrize("gateway", [each for each in GATEWAYS if each.stage != "$default"], ids=lambda each: each.name)
@pytest.mark.parametrize("rest", ["", "/auth", "/account"])
def test_base_path_can_begin_with_the_name_of_the_stage(
    site_with: Callable[..., Site], gateway: Gateway, rest: str
) -> None:
    base = f"/{gateway.stage}{rest}"
    browser = GatewayBrowser(
        site_with(issuer=f"https://{DOMAIN}{base}"), Gateway("custom domain", CustomDomain(gateway), DOMAIN)
    )
    metadata = browser.get(base + OPENID).json
    assert browser.get(OPENID + base).json == metadata
    assert browser.get(urlsplit(metadata["jwks_uri"]).path).json["keys"]
    assert browser.get(base + "/account").location.startswith(f"{base}/oauth2/authorize?")


def test_local_server_answers_below_the_path_of_its_issuer(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site = site_with()
    site.settings = replace(site.settings, issuer=f"{site.settings.issuer}/auth")
    site.server = AuthorizationServer(site.settings, site.server.store, site.server.keys, site.clock)
    browser = browsers(site)
    assert browser.get(f"/auth{OPENID}").json["issuer"] == site.settings.issuer
    assert browser.post("/auth/oauth2/token", {}).json["error"] == "invalid_client"
    assert browser.get("/auth/account").location.startswith("/auth/oauth2/authorize?")
    assert browser.get("/auth/healthz?deep=1").status == 401, "the query is kept"
    assert browser.request("OPTIONS", "/auth/oauth2/token").status == 204
    assert browser.request("HEAD", "/auth/healthz").status == 200
