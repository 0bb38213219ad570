"""What the tests of /oauth2/register share: a server in open mode, and requests to register."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.clients.registration_limits import create_token
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from tests.support.browser import Answer, Browser
from tests.support.site import Registered, Site

REGISTER = "/oauth2/register"
URI = "https://app.example.com/callback"
BODY: dict[str, Any] = {
    "client_name": "Notes",
    "redirect_uris": [URI],
    "grant_types": ["authorization_code", "refresh_token"],
    "token_endpoint_auth_method": "none",
}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def open_site(site_with: Callable[..., Site]) -> Site:
    """A server at which every application can register itself."""
    return _with_cached_keys(site_with(client_registration="open"))


@pytest.fixture
def token_site(site_with: Callable[..., Site]) -> Site:
    """A server at which applications with a token can register themselves."""
    return _with_cached_keys(site_with(client_registration="token"))


def _with_cached_keys(site: Site) -> Site:
    site.server.keys.jwks()
    return site


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def register(browser: Browser, headers: dict[str, str] | None = None, **changes: Any) -> Answer:
    """Register a public client; a member of None is left out."""
    body = {name: value for name, value in (BODY | changes).items() if value is not None}
    return send(browser, json.dumps(body), headers)


def send(browser: Browser, body: str | bytes, headers: dict[str, str] | None = None) -> Answer:
    """Send a body as it is."""
    return browser.request("POST", REGISTER, body, JSON | (headers or {}))


def registered(browser: Browser, **changes: Any) -> dict[str, Any]:
    """Register a client, and return the response."""
    answer = register(browser, **changes)
    assert answer.status == 201, answer.body
    return answer.json


def manage(browser: Browser, method: str, members: dict[str, Any], body: Any = None) -> Answer:
    """Send a management request with the registration access token of a response."""
    text = None if body is None else json.dumps(body)
    headers = JSON | bearer(members["registration_access_token"])
    return browser.request(method, members["registration_client_uri"], text, headers)


def replacement(members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the body of an update: what the server has sent, without what it alone decides."""
    kept = {name: value for name, value in members.items() if not name.startswith("registration_")}
    return {name: value for name, value in (kept | changes).items() if value is not None}


def as_client(site: Site, members: dict[str, Any]) -> Registered:
    """Return the client of a response, to be used with `Browser`."""
    return Registered(record(site, members), members.get("client_secret"))


def record(site: Site, members: dict[str, Any]) -> Client:
    """Return the record of the client of a response."""
    client = site.server.store.clients.get(members["client_id"])
    assert client
    return client


def initial_token(site: Site, max_uses: int | None = None, lifetime: int = 7 * DAY) -> tuple[str, str]:
    """Return the id of a new initial access token, and the token."""
    token_id, token = create_token(site.server.store, site.server.keys, "portal", lifetime, max_uses)
    site.secrets.add(token)
    return token_id, token
