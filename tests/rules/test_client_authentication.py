"""Clients authenticate as they are registered, and secrets are compared in constant time."""

import hmac
from dataclasses import replace
from typing import Any

import pytest

from tests.support.assertions import key_client, signed
from tests.support.browser import Browser, basic
from tests.support.grants import create_code
from tests.support.site import Registered, Site

REDIRECT_URI = "https://client.example.com/cb"


@pytest.mark.spec("RFC 6749 §2.1", "RFC 8252 §8.4 a")
@pytest.mark.parametrize("uri", [REDIRECT_URI, "http://127.0.0.1/cb", "com.example.app:/cb"])
def test_client_has_its_registered_type_with_every_kind_of_redirect_uri(site: Site, browser: Browser, uri: str) -> None:
    confidential = site.client(redirect_uris=[uri])
    public = site.client(redirect_uris=[uri], public=True)
    assert (confidential.record.public, public.record.public) == (False, True)
    for client, status in ((confidential, 401), (public, 200)):
        answer = browser.redeem(Registered(client.record, None), create_code(site, client))  # with the client_id only
        assert answer.status == status, answer.body
    assert browser.redeem(confidential, create_code(site, confidential)).status == 200


@pytest.mark.spec("RFC 6749 §6 b")
def test_refresh_by_a_confidential_client_requires_its_secret(site: Site, browser: Browser) -> None:
    client = site.client()
    form = {
        "grant_type": "refresh_token",
        "refresh_token": browser.redeem(client, create_code(site, client)).json["refresh_token"],
    }
    for credentials in ({"client_id": client.id}, {"client_id": client.id, "client_secret": "wrong"}):
        answer = browser.post("/oauth2/token", form | credentials)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert browser.post("/oauth2/token", form, basic(client.id, client.secret or "")).status == 200


BOTH = ("client_secret_basic", "client_secret_post")
ENDPOINTS = ("/oauth2/token", "/oauth2/revoke", "/oauth2/introspect")


def authenticated(browser: Browser, path: str, client: Registered, method: str) -> bool:
    """Return whether the endpoint accepts the client's secret by this method."""
    body = {"client_id": client.id, "client_secret": client.secret} if method == "client_secret_post" else {}
    headers = basic(client.id, client.secret or "") if method == "client_secret_basic" else {}
    answer = browser.post(path, {"grant_type": "refresh_token", "refresh_token": "x", "token": "x"} | body, headers)
    assert answer.status in (200, 400, 401), answer.body
    assert answer.status != 401 or answer.json["error"] == "invalid_client"
    return answer.status != 401


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("methods", [BOTH[:1], BOTH[1:], BOTH, BOTH[::-1]], ids=" ".join)
def test_client_is_authenticated_only_by_the_methods_of_its_record(
    site: Site, browser: Browser, path: str, methods: tuple[str, ...]
) -> None:
    client = site.client(token_endpoint_auth_methods=methods)
    assert client.record.token_endpoint_auth_method == methods[0]
    assert {method for method in BOTH if authenticated(browser, path, client, method)} == set(methods)


def test_client_registers_both_methods_by_default(site: Site, browser: Browser) -> None:
    client = site.client()
    assert client.record.token_endpoint_auth_methods == BOTH
    assert all(authenticated(browser, ENDPOINTS[0], client, method) for method in BOTH)


@pytest.mark.parametrize("method", BOTH)
def test_record_of_version_1_keeps_both_methods(site: Site, browser: Browser, method: str) -> None:
    client = site.client()
    site.server.store.clients.put(
        replace(client.record, token_endpoint_auth_method=method, token_endpoint_auth_methods=())
    )
    assert all(authenticated(browser, ENDPOINTS[0], client, method) for method in BOTH)


def test_log_says_that_a_client_is_not_registered_for_the_method(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client(token_endpoint_auth_methods=("client_secret_post",))
    assert not authenticated(browser, ENDPOINTS[0], client, "client_secret_basic")
    assert "the client is not registered for client_secret_basic" in caplog.text
    caplog.clear()
    assert not authenticated(browser, ENDPOINTS[0], Registered(client.record, "wrong"), "client_secret_basic")
    assert "not registered" not in caplog.text, "only its own secret shows that the client itself has sent it"


@pytest.mark.spec("RFC 8414 §2 k")
def test_metadata_lists_the_authentication_methods_of_introspection(browser: Browser, site: Site) -> None:
    metadata = browser.get("/.well-known/oauth-authorization-server").json
    client = site.client()
    methods: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "client_secret_basic": ({}, basic(client.id, client.secret or "")),
        "client_secret_post": ({"client_id": client.id, "client_secret": client.secret}, {}),
        "private_key_jwt": (signed(site, key_client(site)), {}),
    }
    assert metadata["introspection_endpoint_auth_methods_supported"] == list(methods)
    for body, headers in methods.values():
        assert browser.post("/oauth2/introspect", {"token": "x", **body}, headers).json == {"active": False}


@pytest.mark.spec("OpenID Connect Core §16.12 a", "OpenID Connect Core §16.12 b")
def test_secrets_and_codes_are_compared_in_constant_time(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[Any, Any]] = []
    compare_digest = hmac.compare_digest

    def compare(left: Any, right: Any) -> bool:
        compared.append((left, right))
        return compare_digest(left, right)

    client = site.client()
    code = create_code(site, client)
    monkeypatch.setattr("chalicelib.clients.authentication.secrets.compare_digest", compare)
    monkeypatch.setattr("chalicelib.protocol.handles.hmac.compare_digest", compare)
    wrong = code[:20] + ("A" if code[20] != "A" else "B") + code[21:]  # a character of the tag
    assert browser.redeem(client, wrong).json["error"] == "invalid_grant"
    assert len(compared) == 2  # the client secret and the tag of the code
    assert browser.redeem(client, code).status == 200
    assert len(compared) == 4
