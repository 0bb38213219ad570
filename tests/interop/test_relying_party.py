"""openid-client (Node.js) as a relying party that verifies every signature, from sign-in to logout."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from chalicelib.keys.signing import ALGORITHMS
from tests.interop.programs import NODE_FOLDER, Program, node_with
from tests.support.assertions import key_pair
from tests.support.browser import Browser
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.slow, pytest.mark.programs]

CALLBACK = "https://client.example.com/cb"
GOODBYE = "https://client.example.com/goodbye"


@pytest.fixture
def start() -> Iterator[Callable[[dict[str, Any]], Program]]:
    """Return a function that starts the relying party with a task."""
    started: list[Program] = []

    def start(task: dict[str, Any]) -> Program:
        started.append(Program([node_with("openid-client"), "sign_in.mjs"], NODE_FOLDER, task))
        return started[-1]

    yield start
    for party in started:
        party.close()


# kind -> options of the registration, and of the authorization request
BY_KEY = {"token_endpoint_auth_methods": ("private_key_jwt",), "require_pushed_authorization_requests": True}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "code": ({}, {}),
    "a public client": ({"public": True}, {}),
    "ES256": ({"id_token_signed_response_alg": "ES256"}, {}),
    "PS256": ({"id_token_signed_response_alg": "PS256"}, {}),
    "EdDSA": ({"id_token_signed_response_alg": "EdDSA"}, {}),
    "UserInfo as JWT": ({"userinfo_signed_response_alg": "RS256"}, {}),
    "pairwise": ({"subject_type": "pairwise"}, {}),
    "form_post": ({}, {"response_mode": "form_post"}),
    "code id_token": ({"response_types": ("code", "code id_token")}, {"response_type": "code id_token"}),
    "code id_token by form_post": (
        {"response_types": ("code", "code id_token")},
        {"response_type": "code id_token", "response_mode": "form_post"},
    ),
    "pushed": ({"require_pushed_authorization_requests": True}, {"push": True}),
    "pushed, by a public client": ({"public": True}, {"push": True}),
    "pushed, by form_post": ({}, {"push": True, "response_mode": "form_post"}),
    "pushed, code id_token": (
        {"response_types": ("code", "code id_token")},
        {"push": True, "response_type": "code id_token"},
    ),
    **{
        f"pushed, private_key_jwt with {alg}": (
            BY_KEY | {"jwks": key_pair(alg).jwks},
            {"push": True, "private_key": key_pair(alg).private_jwk, "private_key_alg": alg},
        )
        for alg in ALGORITHMS
    },
    "client_credentials too": (
        {
            "grant_types": ("authorization_code", "refresh_token", "client_credentials"),
            "scope": "openid profile photos",
        },
        {"client_credentials": "photos"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_openid_client_signs_in_refreshes_introspects_and_logs_out(
    site: Site, browser: Browser, start: Callable[[dict[str, Any]], Program], kind: str
) -> None:
    registration, options = KINDS[kind]
    user = site.user("alice", claims={"name": "Alice Liddell"})
    client = site.client(**({"post_logout_redirect_uris": (GOODBYE,), "redirect_uris": [CALLBACK]} | registration))
    metadata = {name: value for name, value in registration.items() if name.endswith("_alg")}
    party = start(
        {
            "issuer": site.settings.issuer,
            "client_id": client.id,
            "client_secret": client.secret,
            "redirect_uri": CALLBACK,
            "post_logout_redirect_uri": GOODBYE,
            "scope": "openid profile",
            "metadata": metadata,
        }
        | options,
    )
    party.send(_complete_authorization(site, browser, client, party.receive()["open"]))
    result = party.receive()
    assert result["userinfo"]["sub"] == result["claims"]["sub"] == result["refreshed"]["sub"]
    assert (result["claims"]["sub"] == user.sub) is (kind != "pairwise")
    assert result["userinfo"]["name"] == "Alice Liddell"
    confidential = not client.record.public
    if confidential:
        assert result["introspection"]["active"] is True
    if "client_credentials" in options:
        assert result["client_credentials"]["scope"] == options["client_credentials"]

    hint = parse_qs(urlsplit(result["logout"]).query)["id_token_hint"]
    site.secrets.update(hint)
    goodbye = browser.request("GET", result["logout"])
    assert goodbye.location == f"{GOODBYE}?state={result['state']}"
    party.send({})
    afterwards = party.receive()["afterwards"]
    assert afterwards == ({"active": False} if confidential else None)


def _complete_authorization(site: Site, browser: Browser, client: Registered, url: str) -> dict[str, str]:
    """Sign in and allow access; return what the browser brings back to the application."""
    site.secrets.update(uri.rpartition(":")[2] for uri in parse_qs(urlsplit(url).query).get("request_uri", []))
    page = browser.sign_in(browser.request("GET", url))
    answer = browser.submit(page, decision="allow_once")
    if answer.status == 200:  # a form that the page sends to the application
        assert answer.form.action == CALLBACK
        site.secrets.update(answer.form.fields.values())
        return {"url": CALLBACK, "body": urlencode(answer.form.fields)}
    site.secrets.update(_secrets_in(answer.location))
    return {"url": answer.location}


def _secrets_in(url: str) -> list[str]:
    """Return the code and the ID token in a redirect."""
    parts = urlsplit(url)
    return [
        values[0]
        for name, values in (parse_qs(parts.query) | parse_qs(parts.fragment)).items()
        if name in ("code", "id_token")
    ]
