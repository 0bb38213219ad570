"""Documents and URLs that are not accepted: all with the same page, and nothing stored."""

import json
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.clients import documents
from chalicelib.protocol.client_document import is_document_url
from tests.endpoints.client_documents.conftest import CALLBACK, Host, document, response
from tests.support.assertions import key_pair
from tests.support.browser import Browser, authorization_parameters
from tests.support.receivers import Behaviour, answer, endless, silence, status
from tests.support.site import Site


def page_of(browser: Browser, host: Host, client_id: str) -> tuple[int, str]:
    """Return status and page of an authorization request, without what identifies it and without the language menu."""
    parameters = authorization_parameters(host.client, client_id=client_id)
    page = browser.get("/oauth2/authorize", **parameters)
    return page.status, re.sub(r"[0-9a-f]{16}", "", page.body.partition("<footer")[0])


def is_refused(site: Site, browser: Browser, host: Host, client_id: str) -> None:
    """Check that a client_id gets the page of any other unusable document, and that nothing is stored of it."""
    unlisted = page_of(browser, host, "https://unlisted.example.com/client.json")
    refused = page_of(browser, host, client_id)
    assert (refused[0], "This application cannot be used here" in refused[1]) == (400, True)
    assert refused == unlisted
    assert not list(site.server.store.documents.scan())


URLS = [
    ("https://app.example.com", False),
    ("https://app.example.com/", True),
    ("https://app.example.com/client", True),
    ("https://app.example.com:8443/client?x=1", True),
    ("http://app.example.com/client", False),
    ("HTTPS://app.example.com/client", False),
    ("https://APP.example.com/client", False),
    ("https://app.example.com./client", False),
    ("https://user@app.example.com/client", False),
    ("https://user:secret@app.example.com/client", False),
    ("https://app.example.com/client#x", False),
    ("https://app.example.com/client#", False),
    ("https://app.example.com/../client", False),
    ("https://app.example.com/a/./client", False),
    ("https://app.example.com/a/%2e%2E/client", False),
    ("https://app.example.com/a/.%2e%2Fclient", False),
    ("https://app.example.com/cli ent", False),
    ("https://app.example.com/cli\tent", False),
    ("https://app.example.com\\@evil.example/client", False),
    ("https://app.example.com/client\x7f", False),
    ("https://\u0430pp.example.com/client", False),
    ("https://app.example.com/clie\u0438t", False),
    ("https://[::ffff:169.254.169.254]/client", False),
    ("https://app.example.com:0/client", False),
    ("https:///client", False),
    ("https://app.example.com/" + "x" * 488, True),
    ("https://app.example.com/" + "x" * 489, False),
]


@pytest.mark.spec("Client ID Metadata Document §3 a", "Client ID Metadata Document §3 b")
@pytest.mark.spec("Client ID Metadata Document §3 c", "Client ID Metadata Document §3 d")
@pytest.mark.spec("Client ID Metadata Document §3 e")
@pytest.mark.parametrize(("url", "accepted"), URLS, ids=range(len(URLS)))
def test_client_id_is_the_url_of_a_document_only_in_this_form(url: str, accepted: bool) -> None:
    assert is_document_url(url) is accepted


def changed(**changes: Any) -> Any:
    """Return a function that makes a document with other members."""
    return lambda url: response(json.dumps(document(url, **changes)).encode())


def raw(text: str) -> Any:
    return lambda url: response(text.replace("URL", url).encode())


KEYS = key_pair()
BY_KEY = {"token_endpoint_auth_method": "private_key_jwt"}
DUPLICATE = '{"client_id": "URL", "client_id": "URL", "redirect_uris": ["https://app.example.com/callback"]}'
HOSTILE: list[tuple[str, Any]] = [
    ("another client_id", changed(client_id="https://app.example.com/client")),
    ("no client_id", changed(client_id=None)),
    ("client_id in another spelling", lambda url: changed(client_id=url.replace("https", "HTTPS"))(url)),
    ("no redirect_uris", changed(redirect_uris=None)),
    ("empty redirect_uris", changed(redirect_uris=[])),
    ("11 redirect_uris", changed(redirect_uris=[f"https://app.example.com/{n}" for n in range(11)])),
    ("redirect_uris is a text", changed(redirect_uris=CALLBACK)),
    ("a redirect URI is a number", changed(redirect_uris=[CALLBACK, 1])),
    ("javascript", changed(redirect_uris=["javascript:/alert(1)"])),
    ("data", changed(redirect_uris=["data:/text/html,x"])),
    ("a fragment", changed(redirect_uris=[CALLBACK + "#x"])),
    ("user information", changed(redirect_uris=["https://app.example.com@evil.example/callback"])),
    ("plain http", changed(redirect_uris=["http://app.example.com/callback"])),
    ("a host that is not ASCII", changed(redirect_uris=["https://\u0430pp.example.com/callback"])),
    ("a client secret", changed(client_secret="x")),
    ("an expiry of a client secret", changed(client_secret_expires_at=0)),
    ("client_secret_basic", changed(token_endpoint_auth_method="client_secret_basic")),
    ("client_secret_jwt in the list", changed(token_endpoint_auth_methods_supported=["none", "client_secret_jwt"])),
    ("mutual TLS only", changed(token_endpoint_auth_method="tls_client_auth")),
    ("a method without its keys", changed(**BY_KEY)),
    ("a private key", changed(**BY_KEY, jwks={"keys": [KEYS.private_jwk]})),
    ("a private key that is not used", changed(jwks={"keys": [KEYS.private_jwk]})),
    ("a symmetric key", changed(**BY_KEY, jwks={"keys": [{"kty": "oct", "k": "AAAA"}]})),
    ("a key with a number as key_ops", changed(**BY_KEY, jwks={"keys": [KEYS.jwks["keys"][0] | {"key_ops": 1}]})),
    ("a lone surrogate as kid", changed(**BY_KEY, jwks={"keys": [KEYS.jwks["keys"][0] | {"kid": "\ud800"}]})),
    ("jwks and jwks_uri", changed(**BY_KEY, jwks=KEYS.jwks, jwks_uri="https://app.example.com/jwks")),
    ("jwks_uri without TLS", changed(**BY_KEY, jwks_uri="http://127.0.0.1/jwks")),
    ("another grant type only", changed(grant_types=["client_credentials"])),
    ("another response type only", changed(response_types=["token"])),
    ("a control character in the name", changed(client_name="Claude\u202e\n")),
    ("a name that is a number", changed(client_name=1)),
    ("require_pushed_authorization_requests is a number", changed(require_pushed_authorization_requests=1)),
    ("dpop_bound_access_tokens is a text", changed(dpop_bound_access_tokens="true")),
    ("require_signed_request_object is a text", changed(require_signed_request_object="true")),
    ("require_signed_request_object without keys", changed(require_signed_request_object=True)),
    ("request_object_signing_alg HS256", changed(request_object_signing_alg="HS256")),
    ("request_object_signing_alg none", changed(request_object_signing_alg="none")),
    ("a long name", changed(client_name="x" * 201)),
    ("a repeated member", raw(DUPLICATE)),
    ("a list", raw("[]")),
    ("no JSON", raw("client_id")),
    ("not UTF-8", lambda _url: response(b'{"client_id": "\xff"}')),
    ("6 kB", changed(padding="x" * 6000)),
    ("another media type", lambda url: response(json.dumps(document(url)).encode(), content_type="text/html")),
    ("compressed", lambda url: response(json.dumps(document(url)).encode(), "Content-Encoding: gzip")),
    ("status 201", lambda _url: status(201)),
    ("status 404", lambda _url: status(404)),
    ("a redirect", lambda _url: status(302, "Location: http://169.254.169.254/latest/meta-data")),
    ("no HTTP", lambda _url: answer(b"hello\r\n\r\n")),
    ("silence", lambda _url: silence),
    ("a slow drip", lambda _url: endless(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b" ", pause=0.05)),
    ("no end", lambda _url: endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b" " * 1000)),
]


@pytest.mark.spec("Client ID Metadata Document §3 f", "Client ID Metadata Document §3 g")
@pytest.mark.spec("Client ID Metadata Document §4 a", "Client ID Metadata Document §4 b")
@pytest.mark.spec("Client ID Metadata Document §4.1 a", "Client ID Metadata Document §4.1 b")
@pytest.mark.spec("Client ID Metadata Document §4.1 c", "Client ID Metadata Document §4.2 a")
@pytest.mark.spec("Client ID Metadata Document §5 c", "Client ID Metadata Document §5 d")
@pytest.mark.spec("Client ID Metadata Document §5.2 b", "Client ID Metadata Document §5.2 c")
@pytest.mark.spec("Client ID Metadata Document §8.7")
@pytest.mark.parametrize("make", [make for _, make in HOSTILE], ids=[name for name, _ in HOSTILE])
def test_document_that_is_not_accepted_gets_the_same_page_and_leaves_no_record(
    site: Site, browser: Browser, host: Host, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "SECONDS", 0.4)
    behave: Behaviour = make(host.url)
    host.receiver.behave = behave
    is_refused(site, browser, host, host.url)
    assert host.fetches == 1


@pytest.mark.spec("Client ID Metadata Document §8.6 e")
def test_members_that_are_null_or_no_https_addresses_are_ignored(site: Site, browser: Browser, host: Host) -> None:
    addresses = {
        "client_uri": "https://b\u00fccher.example/",
        "tos_uri": "https://[",
        "policy_uri": "http://a.example/",
    }
    nulls = dict.fromkeys(("grant_types", "response_types", "token_endpoint_auth_methods_supported", "jwks"))
    host.receiver.behave = response(json.dumps(document(host.url, **addresses) | nulls).encode())
    page = browser.get("/oauth2/authorize", **authorization_parameters(host.client, client_id=host.url))
    assert page.status == 200
    stored = site.server.store.documents.get(host.url)
    assert stored
    assert (stored.client_uri, stored.tos_uri, stored.policy_uri) == (None, None, None)


ADDRESSES = [
    ["93.184.215.14", "127.0.0.1"],  # two answers
    ["169.254.169.254"],
    ["10.0.0.1"],
    ["::ffff:169.254.169.254"],
    ["::1"],
    ["fe80::1"],
]


@pytest.mark.spec("Client ID Metadata Document §8.6 a", "Client ID Metadata Document §8.6 c")
@pytest.mark.spec("Client ID Metadata Document §8.6 d")
@pytest.mark.parametrize("addresses", ADDRESSES, ids=map(" ".join, ADDRESSES))
def test_host_with_an_address_that_is_not_public_gets_no_request(
    start_site: Callable[..., Site],
    browsers: Callable[..., Browser],
    host: Host,
    addresses: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve = socket.getaddrinfo

    def look_up(name: str, port: Any, *arguments: Any, **options: Any) -> list[Any]:
        if port != host.receiver.port:
            return resolve(name, port, *arguments, **options)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(family, 1, 6, "", (address, port)) for family, address in zip(families, addresses, strict=True)]

    site = start_site(outbound_networks=())
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    is_refused(site, browsers(site), host, host.url)
    assert host.fetches == 0
