"""A web host with client metadata documents, and a server that may fetch them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.client import Client
from tests.support.browser import Browser
from tests.support.certificates import tls_context
from tests.support.receivers import Behaviour, Receiver, answer
from tests.support.site import Registered, Site

CALLBACK = "https://app.example.com/callback"


def document(url: str, **changes: Any) -> dict[str, Any]:
    """Return a document of a client, as the applications of today publish it; None leaves a member out."""
    members: dict[str, Any] = {
        "client_id": url,
        "client_name": "Claude",
        "client_uri": "https://app.example.com",
        "logo_uri": "https://app.example.com/logo.png",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        **changes,
    }
    return {name: value for name, value in members.items() if value is not None}


def response(body: bytes, *headers: str, content_type: str = "application/json") -> Behaviour:
    """Answer with status 200, these header fields and this body."""
    lines = "".join(f"{header}\r\n" for header in (f"Content-Type: {content_type}", *headers))
    return answer(f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)


@dataclass
class Host:
    """A web host on 127.0.0.1 with one document."""

    receiver: Receiver

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.receiver.port}"

    @property
    def url(self) -> str:
        return f"https://{self.name}/oauth/client.json"

    @property
    def fetches(self) -> int:
        return len(self.receiver.requests)

    @property
    def client(self) -> Registered:
        """The client, as one that the tests can use."""
        return Registered(Client(self.url, "Claude", (CALLBACK,), token_endpoint_auth_method="none"), None)

    def serve(self, *headers: str, **changes: Any) -> None:
        """Serve the document with other members and header fields from now on."""
        self.receiver.behave = response(json.dumps(document(self.url, **changes)).encode(), *headers)

    def fail(self) -> None:
        """Answer with status 503 from now on."""
        self.receiver.behave = answer(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def host(certificate: Path, trust_certificate: None) -> Iterator[Host]:
    host = Host(Receiver(tls=tls_context(certificate)))
    host.serve()
    yield host
    host.receiver.close()


@pytest.fixture
def site(site_with: Callable[..., Site], host: Host) -> Site:
    """A server that accepts the documents of the host."""
    site = site_with(client_document_hosts=(host.name,), outbound_networks=("127.0.0.0/8",))
    site.user("alice")
    return site


@pytest.fixture
def start_site(site: Site, host: Host) -> Iterator[Callable[..., Site]]:
    """A function that starts another server on the same tables, which may send requests to 127.0.0.1."""
    sites: list[Site] = []

    def start(**settings: Any) -> Site:
        given = {"client_document_hosts": (host.name,), "outbound_networks": ("127.0.0.0/8",)}
        sites.append(Site(**(given | settings)))
        return sites[-1]

    yield start
    for other_site in sites:
        site.secrets |= other_site.secrets
        other_site.close()


@pytest.fixture
def browser(browsers: Callable[..., Browser], site: Site) -> Browser:
    return browsers(site)
