"""HTTP requests to a server, as any client makes them: redirects are not followed, and each request has a timeout."""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode, urlsplit

from chalicelib.protocol.client import Client
from chalicelib.settings import LOOPBACK_NAMES

OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
REDEPLOY = "Deploy the current version again. If the problem stays, a proxy in between changes the responses."
TIMEOUT = 10.0  # seconds
MOST_BYTES = 1 << 20
# API Gateway's own messages when a request does not reach the function.
_GATEWAY_MESSAGES = ("Missing Authentication Token", "Forbidden", "Not Found")
_UNKNOWN_CLIENT = {
    "response_type": "code",
    "client_id": "signet-doctor-unknown",
    "redirect_uri": "https://doctor.invalid/callback",
    "state": "doctor",
}


class Unreachable(Exception):
    """There was no HTTP response; the text says why."""


@dataclass(frozen=True)
class Answer:
    """An HTTP response of any status. `certificate` is the server's, when TLS is used."""

    status: int
    headers: dict[str, str]
    body: bytes
    certificate: dict[str, Any] | None = None

    def header(self, name: str) -> str:
        """Return a header field, empty when it is missing."""
        return self.headers.get(name.lower(), "")

    @cached_property
    def members(self) -> dict[str, Any]:
        """Return the JSON object in the body, or an empty one."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def from_gateway(self) -> bool:
        """Return whether the gateway responded itself, without calling the function."""
        return set(self.members) == {"message"} and self.members["message"] in _GATEWAY_MESSAGES


def is_uri(text: str) -> bool:
    """Return whether the text can be parsed as a URI (RFC 3986)."""
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
    *,
    document: dict[str, Any] | None = None,
) -> Answer:
    """Send a request, with a form or a JSON document as its body. Raises Unreachable."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = trust or ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
    body = None if form is None else urlencode(form)
    request_headers = {"Accept": "*/*", "User-Agent": "signet-doctor", **(headers or {})}
    if body is not None:
        request_headers["Content-Type"] = "application/x-www-form-urlencoded"
    elif document is not None:
        body, request_headers["Content-Type"] = json.dumps(document), "application/json"
    try:
        connection.connect()
        certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, request_headers)
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
    """A server under test. `client` is a registered client, if one is known."""

    url: str
    client: Client | None = None
    operator_token: str | None = None
    trust: ssl.SSLContext | None = None
    discovery: Answer = field(init=False)
    started_at: float = 0.0

    def ask(self, method: str, url: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """Send a request to `url`, which is absolute or relative to the server. Raises Unreachable."""
        absolute = url if "://" in url else self.url + url
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(method, absolute, form, fields, self.trust)

    @property
    def is_local(self) -> bool:
        """Return whether it runs on this machine."""
        return urlsplit(self.url).hostname in LOOPBACK_NAMES

    @property
    def metadata(self) -> dict[str, Any]:
        """Return the discovery document."""
        return self.discovery.members

    def endpoint(self, name: str, default: str) -> str:
        """Return the address of an endpoint from the metadata, or the default path."""
        return str(self.metadata.get(name) or self.url + default)

    def authorize_unknown_client(self) -> Answer:
        """Send an authorization request of a client that is not registered."""
        return self.authorize(_UNKNOWN_CLIENT)

    def authorize(self, query: dict[str, str]) -> Answer:
        """Send an authorization request."""
        return self.ask("GET", f"{self.endpoint('authorization_endpoint', '/oauth2/authorize')}?{urlencode(query)}")
