"""Clients and helpers for the tests of /oauth2/authorize."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import pytest

from chalicelib.authorization import request
from chalicelib.authorization.request_object import SentRequest
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import AuthorizationRequest
from tests.support.browser import CHALLENGE, Answer, Browser, authorization_parameters
from tests.support.site import STAGE, Registered, Site, tables

REDIRECT_URI = "https://client.example.com/cb"
NATIVE_URIS = ["http://127.0.0.1/cb", "http://[::1]/cb", "http://localhost:3000/cb", "com.example.app:/cb"]
STATE = "af0ifjsldkj"
METHODS = ("GET", "POST")
Changes = dict[str, Any]  # None leaves a parameter out, a list repeats it
CLIENTS: dict[str, dict[str, Any]] = {
    "print": {"redirect_uris": [REDIRECT_URI], "scope": "openid email orders:read"},
    "several": {"redirect_uris": [REDIRECT_URI, REDIRECT_URI + "/2"]},
    "native": {"redirect_uris": NATIVE_URIS, "public": True},
    "disabled": {"redirect_uris": [REDIRECT_URI]},
}


@pytest.fixture
def trusted_client(site: Site) -> Registered:
    """A trusted client, for which alice gives no consent."""
    site.user()
    return site.client(client_name="Trusted", trusted=True)


@pytest.fixture
def hybrid_client(site: Site) -> Registered:
    """A trusted client that may use the response types `code` and `code id_token`; alice and bob have accounts."""
    site.user("alice", claims={"name": "Alice", "email": "alice@example.com", "phone_number": "+1 555"})
    site.user("bob")
    return site.client(trusted=True, response_types=("code", "code id_token"))


@pytest.fixture
def hint(browser: Browser, hybrid_client: Registered) -> str:
    """An ID token of alice, who is signed in in `browser`."""
    return str(browser.tokens(hybrid_client)["id_token"])


def asks_to_sign_in(page: Answer) -> bool:
    return page.status == 200 and "password" in page.form.fields


def asks_for_consent(page: Answer) -> bool:
    return page.status == 200 and ("decision", "deny") in page.form.buttons


def list_new_scopes(page: Answer) -> list[str]:
    """Return the scopes that the consent page marks as new."""
    return [line.split("<bdi>")[1].split("</bdi>")[0] for line in page.body.splitlines() if 'class="badge new"' in line]


def read_stored_request(site: Site) -> AuthorizationRequest:
    """Return the only stored authorization request."""
    (request,) = site.server.store.requests.scan()
    return request


def read_request(site: Site, page: Answer) -> AuthorizationRequest:
    """Return the authorization request that a page belongs to, as the server reads it: its record, or its address."""
    params = Params.from_urlencoded(urlsplit(page.form.action or "").query)
    if handle := site.server.keys.read_handle("req", params.get("request_uri")):
        stored = site.server.store.requests.get(handle.id)
        assert stored
        return stored
    http = Request("POST", "/oauth2/code", query=params)
    return request.receive_request(site.server, http, SentRequest(params))[0]


def authorize_stored(browser: Browser, client: Registered, **parameters: str) -> Answer:
    """Send an authorization request that is stored, because it was posted with a login_hint; return its page."""
    form = authorization_parameters(client, **({"login_hint": "alice"} | parameters))
    answer = browser.post("/oauth2/authorize", form)
    assert answer.location.startswith("/oauth2/authorize?request_uri=req_")
    return browser.follow(answer)


def read_grant(site: Site, code: str) -> Grant:
    """Return the grant of an authorization code."""
    handle = site.server.keys.read_handle("code", code)
    assert handle
    grant = site.server.store.grants.get(handle.id)
    assert grant
    return grant


def read_claims(token: str) -> dict[str, Any]:
    """Return the claims of a token. Its signature is not verified."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def register_clients(site: Site, changes: Changes) -> None:
    """Register the client `print`, and the one of CLIENTS that the changed request names."""
    for name in {"print", str(changes.get("client_id"))} & set(CLIENTS):
        client = site.client(client_id=name, **CLIENTS[name])
        if name == "disabled":
            site.server.store.clients.put(replace(client.record, disabled_at=1))


def send_request(browser: Browser, method: str, changes: Changes) -> Answer:
    """Send an authorization request of the client `print`, with some parameters changed."""
    parameters: Changes = {
        "response_type": "code",
        "client_id": "print",
        "redirect_uri": REDIRECT_URI,
        "scope": "openid",
        "state": STATE,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    query = urlencode({name: value for name, value in (parameters | changes).items() if value is not None}, doseq=True)
    if method == "GET":
        return browser.request("GET", f"/oauth2/authorize?{query}")
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    return browser.request("POST", "/oauth2/authorize", query, form)


def is_nothing_stored() -> bool:
    """Return whether there is neither an authorization request nor a grant in the tables."""
    return not any(tables()[f"signet-{STAGE}-{kind}"].items for kind in ("requests", "grants"))
