"""Requests over TLS with a client certificate, to a server that makes the events of the gateway."""

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.endpoints.userinfo.conftest import claims_of
from tests.support.browser import VERIFIER
from tests.support.client_certificates import (
    DAY,
    DOMAIN,
    SUBJECT,
    Pair,
    authority,
    issue,
    of_authority,
    pki_client,
    self_signed,
    self_signed_client,
)
from tests.support.grants import create_code
from tests.support.site import Registered, Site
from tests.support.tls_front import TlsFront, tls_front

Send = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def tls_site(site_with: Callable[..., Site]) -> Site:
    """Return a server with a domain for mutual TLS, and the user alice."""
    server = site_with(mtls_domain=DOMAIN)
    server.user("alice", claims={"name": "Alice"})
    return server


@pytest.fixture
def front(tls_site: Site) -> Iterator[TlsFront]:
    """Run the gateway, which trusts an authority and a certificate that a client has signed itself."""
    with tls_front(tls_site, authority(), self_signed()) as running:
        yield running


@pytest.fixture
def send(front: TlsFront, tmp_path: Path, tls_site: Site) -> Send:
    """Return a function that sends a request with a certificate, and returns the status and the members."""

    def send(
        pair: Pair | None, path: str, form: dict[str, Any] | None = None, *, also: str = "", **headers: str
    ) -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context(cadata=front.authority.pem)
        if pair:
            file = tmp_path / "client.pem"
            file.write_text(pair.key_pem + pair.pem + also)
            context.load_cert_chain(file)
        connection = http.client.HTTPSConnection(DOMAIN, front.port, timeout=10, context=context)
        # The name is that of the certificate, the address that of this machine.
        connection._create_connection = lambda *_arguments: _connect(front.port)  # type: ignore[attr-defined]
        try:
            given = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            connection.request("POST" if form else "GET", path, urlencode(form) if form else None, given | headers)
            answer = connection.getresponse()
            members = json.loads(answer.read())
        finally:
            connection.close()
        issued = ("access_token", "refresh_token", "id_token")
        tls_site.secrets.update(members[name] for name in issued if name in members)
        return answer.status, members

    return send


def _connect(port: int) -> Any:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def code_form(site: Site, client: Registered, code: str | None = None) -> dict[str, str]:
    return {
        "client_id": client.id,
        "grant_type": "authorization_code",
        "code": code or create_code(site, client),
        "redirect_uri": client.record.redirect_uris[0],
        "code_verifier": VERIFIER,
    }


def test_clients_of_both_kinds_get_tokens_that_are_bound(tls_site: Site, send: Send) -> None:
    bound = {"tls_client_certificate_bound_access_tokens": True}
    clients = ((pki_client(tls_site, **bound), of_authority()), (self_signed_client(tls_site, **bound), self_signed()))
    for client, pair in clients:
        status, tokens = send(pair, "/oauth2/token", code_form(tls_site, client))
        assert status == 200, tokens
        assert claims_of(tokens["access_token"])["cnf"] == {"x5t#S256": pair.x5t}
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert send(pair, "/oauth2/userinfo", **bearer)[0] == 200
        another = self_signed() if pair is of_authority() else of_authority()
        status, members = send(another, "/oauth2/userinfo", **bearer)
        assert (status, members["error"]) == (401, "invalid_token")
        assert send(another, "/oauth2/token", code_form(tls_site, client))[1]["error"] == "invalid_client"


@pytest.mark.spec("RFC 8705 §2 a")
@pytest.mark.parametrize("case", ["none", "untrusted", "of a client", "expired"])
def test_handshake_without_a_trusted_certificate_fails(tls_site: Site, front: TlsFront, send: Send, case: str) -> None:
    """A certificate that a client has signed cannot sign others: no client can make one for another client."""
    client = pki_client(tls_site)
    pair, also = {
        "none": (None, ""),
        "untrusted": (issue(SUBJECT, issue("CN=An authority,O=Example", authority=True)), ""),
        "of a client": (issue(SUBJECT, self_signed()), self_signed().pem),
        "expired": (issue(SUBJECT, authority(), begins=-2 * DAY, ends=-DAY), ""),
    }[case]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        send(pair, "/oauth2/token", code_form(tls_site, client), also=also)
    assert front.events == []


def test_certificate_of_the_connection_counts_and_no_header(tls_site: Site, send: Send) -> None:
    client = pki_client(tls_site)
    pem = of_authority().pem.replace("\n", "%0A")
    status, members = send(self_signed(), "/oauth2/token", code_form(tls_site, client), **{"X-Client-Cert": pem})
    assert (status, members["error"]) == (401, "invalid_client")
