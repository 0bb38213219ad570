"""A visit to a server, as any client makes it: no redirect is followed, and no wait is without end."""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode, urlsplit

from chalicelib.models import Client
from chalicelib.settings import LOOPBACK

OPENID = "/.well-known/openid-configuration"
REDEPLOY = "Deploy the current version again; if it stays, something between the server and here changes its answers."
PATIENCE = 10.0
MOST_BYTES = 1 << 20
# What API Gateway says by itself when a request reaches no function of ours.
_GATEWAYS_OWN = ("Missing Authentication Token", "Forbidden", "Not Found")
_NOBODY = {
    "response_type": "code",
    "client_id": "nobody-of-the-doctor",
    "redirect_uri": "https://doctor.invalid/callback",
    "state": "doctor",
}


class Unreachable(Exception):
    """No HTTP answer; the text says why."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whatever its status. `certificate` is the server's, over TLS."""

    status: int
    headers: dict[str, str]
    body: bytes
    certificate: dict[str, Any] | None = None

    def header(self, name: str) -> str:
        """A header field, empty when it is not there."""
        return self.headers.get(name.lower(), "")

    @cached_property
    def members(self) -> dict[str, Any]:
        """The JSON object in the body, an empty one when there is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_the_gateways(self) -> bool:
        """Whether the gateway gave this answer, and the function never saw the request."""
        return set(self.members) == {"message"} and self.members["message"] in _GATEWAYS_OWN


def is_uri(text: str) -> bool:
    """Whether it can be taken apart as a URI (RFC 3986)."""
    try:
        return urlsplit(text).port != 0
    except ValueError:
        return False


def ask(
    method: str,
    url: str,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
) -> Answer:
    """One request. Raises Unreachable."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = trust or ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=PATIENCE, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    body = None if form is None else urlencode(form)
    sent = {"Accept": "*/*", "User-Agent": "signet-doctor", **(headers or {})}
    if body is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.connect()
        certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        connection.request(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, sent)
        response = connection.getresponse()
        fields: dict[str, str] = {}
        for name, value in response.getheaders():
            fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
        return Answer(response.status, fields, response.read(MOST_BYTES), certificate)
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"its certificate is not valid here: {error.verify_message}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    finally:
        connection.close()


@dataclass
class Visit:
    """A server, and what it has said of itself so far. `client`: one that is registered there, if we know one."""

    url: str
    client: Client | None = None
    operator_token: str | None = None
    trust: ssl.SSLContext | None = None
    discovery: Answer = field(init=False)
    asked_at: float = 0.0

    def ask(self, method: str, url: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """One request; `url` is absolute, or follows the server's own. Raises Unreachable."""
        absolute = url if "://" in url else self.url + url
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(method, absolute, form, fields, self.trust)

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return urlsplit(self.url).hostname in [host.strip("[]") for host in LOOPBACK]

    @property
    def metadata(self) -> dict[str, Any]:
        """The discovery document."""
        return self.discovery.members

    def endpoint(self, name: str, otherwise: str) -> str:
        """An address in the metadata."""
        return str(self.metadata.get(name) or self.url + otherwise)

    def refused_request(self) -> Answer:
        """The authorization endpoint's answer to a client that nobody has registered."""
        return self.authorize(_NOBODY)

    def authorize(self, query: dict[str, str]) -> Answer:
        """The authorization endpoint's answer to a request."""
        return self.ask("GET", f"{self.endpoint('authorization_endpoint', '/oauth2/authorize')}?{urlencode(query)}")
