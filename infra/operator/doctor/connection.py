"""The requests of an MCP client that connects to a server: the discovery, and what it finds."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from infra.operator.doctor.assistants import Assistant
from infra.operator.doctor.findings import Finding, Verdict, judge
from infra.operator.doctor.visit import OAUTH, OPENID, Answer, Unreachable, ask
from infra.operator.protected_resource import metadata_url

MCP_VERSION = "2026-07-28"
_PARAMETER = re.compile(r'\b(resource_metadata|scope)="([^"]*)"')
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": MCP_VERSION,
        "capabilities": {},
        "clientInfo": {"name": "signet-doctor", "version": "1"},
    },
}
_RESOURCE_FIX = "Serve what `signet resource show … --protected-resource-metadata` prints, at this address."


@dataclass
class Connection:
    """What a client knows while it connects to `url`, an MCP server or an issuer.

    `resource`: the resource that it names, empty without an MCP server. `scope`: what the MCP server says that it
    needs. `metadata`: that of the authorization server `issuer`.
    """

    assistant: Assistant
    url: str
    trust: ssl.SSLContext | None = None
    resource: str = ""
    scope: str = ""
    issuer: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    metadata_url: str = ""

    def ask(
        self,
        method: str,
        url: str,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        document: dict[str, Any] | None = None,
    ) -> Answer:
        """Send a request. Raises Unreachable."""
        return ask(method, url, form, headers, self.trust, document=document)

    def list(self, name: str) -> list[str]:
        """Return a list of strings in the metadata of the authorization server, without any if it is malformed."""
        value = self.metadata.get(name)
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []

    @property
    def requested_scope(self) -> str:
        """Return the scope of the authorization request."""
        return self.assistant.scope(self.scope, self.list("scopes_supported"))


def discover(connection: Connection) -> Iterator[Finding]:
    """Yield the findings about the discovery, which fills `connection`; the last one fails if it has to end there."""
    if not _is_issuer(connection):
        challenge, verdict = _challenge(connection)
        yield _finding("MCP server", verdict)
        verdict = _resource_metadata(connection, challenge)
        yield _finding("resource metadata", verdict)
        if not verdict.ok:
            return
    else:
        connection.issuer = connection.url
    yield _finding("server metadata", _server_metadata(connection))


def metadata_addresses(issuer: str) -> list[str]:
    """Return where clients look for the metadata of an issuer, in their order (MCP 2026-07-28, authorization)."""
    parts = urlsplit(issuer)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    addresses = [f"{root}{OAUTH}{path}", f"{root}{OPENID}{path}", f"{root}{path}{OPENID}"]
    return list(dict.fromkeys(addresses))


def _finding(name: str, verdict: Verdict) -> Finding:
    return Finding(name, verdict.ok, verdict.detail, verdict.fix)


def _is_issuer(connection: Connection) -> bool:
    for address in metadata_addresses(connection.url):
        try:
            answer = connection.ask("GET", address)
        except Unreachable:
            return False
        if answer.status == 200 and answer.members.get("issuer") == connection.url:
            return True
    return False


def _challenge(connection: Connection) -> tuple[dict[str, str], Verdict]:
    """Send the first request, without a token, and return the parameters of the challenge (RFC 9728 section 5.1)."""
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": MCP_VERSION}
    fix = "Start the MCP server, or correct the URL. It must reject requests without an access token."
    try:
        answer = connection.ask("POST", connection.url, headers=headers, document=_INITIALIZE)
    except Unreachable as error:
        return {}, Verdict(False, f"{connection.url} does not respond: {error}.", fix)
    if answer.status != 401:
        status = f"{connection.url} has status {answer.status} without an access token, not 401."
        return {}, Verdict(False, status, fix)
    parameters = dict(_PARAMETER.findall(answer.header("WWW-Authenticate")))
    if "resource_metadata" in parameters:
        return parameters, Verdict(True, f"Status 401 names its metadata: {parameters['resource_metadata']}.")
    return parameters, Verdict(True, "Status 401, without resource_metadata, so that clients try the well-known paths.")


def _resource_metadata(connection: Connection, challenge: dict[str, str]) -> Verdict:
    parts = urlsplit(connection.url)
    well_known = [metadata_url(connection.url), metadata_url(f"{parts.scheme}://{parts.netloc}")]
    addresses = [challenge["resource_metadata"]] if "resource_metadata" in challenge else well_known
    problem = ""
    for address in dict.fromkeys(addresses):
        try:
            answer = connection.ask("GET", address, headers={"Accept": "application/json"})
        except (Unreachable, ValueError) as error:
            problem = f"{address} does not respond: {error}"
            continue
        if answer.status == 200 and answer.members:
            return _read_resource_metadata(connection, challenge, address, answer.members)
        problem = f"{address} has no metadata (RFC 9728): status {answer.status}"
    return Verdict(False, f"{problem}.", _RESOURCE_FIX)


def _read_resource_metadata(
    connection: Connection, challenge: dict[str, str], address: str, served: dict[str, Any]
) -> Verdict:
    resource, servers, scopes = (served.get(name) for name in ("resource", "authorization_servers", "scopes_supported"))
    servers = [each for each in servers if isinstance(each, str)] if isinstance(servers, list) else []
    problems = []
    if not isinstance(resource, str) or not _contains(resource, connection.url):
        problems.append(f"{address} names the resource {resource!r}, which is not {connection.url}")
    if not servers:
        problems.append(f"{address} names no authorization server")
    if problems:
        return judge(problems, "", _RESOURCE_FIX)
    connection.issuer = servers[0]  # other entries are ignored by clients
    connection.resource = connection.url if connection.assistant.typed_resource else str(resource)
    names = " ".join(str(each) for each in scopes) if isinstance(scopes, list) else ""
    connection.scope = challenge.get("scope", names)
    scope = f"the scope {connection.scope}" if connection.scope else "no scope"
    return Verdict(True, f"{address} names the issuer {connection.issuer}, and {scope}.")


def _contains(resource: str, url: str) -> bool:
    """Return whether a URL is that of a resource, or below it, as clients compare them."""
    try:
        named, used = urlsplit(resource), urlsplit(url)
    except ValueError:
        return False
    below = f"{used.path.rstrip('/')}/".startswith(f"{named.path.rstrip('/')}/")
    return (named.scheme, named.netloc.lower()) == (used.scheme, used.netloc.lower()) and below


def _server_metadata(connection: Connection) -> Verdict:
    problems = []
    for address in metadata_addresses(connection.issuer):
        try:
            answer = connection.ask("GET", address, headers={"MCP-Protocol-Version": MCP_VERSION})
        except (Unreachable, ValueError) as error:
            problems.append(f"{address} does not respond: {error}")
            continue
        if answer.status != 200 or not answer.members:
            problems.append(f"{address} has status {answer.status}")
            continue
        connection.metadata, connection.metadata_url = answer.members, address
        issuer = answer.members.get("issuer")
        missing = [each for each in ("authorization_endpoint", "token_endpoint") if not answer.members.get(each)]
        if issuer != connection.issuer:
            fix = f"Clients compare them exactly: name the issuer {issuer} in the metadata of the MCP server."
            return Verdict(False, f"{address} names the issuer {issuer!r}, not {connection.issuer}.", fix)
        return judge([f"{each} is missing" for each in missing], f"{address} describes the issuer.", "Check the URL.")
    fix = "Start the server, correct the issuer in the metadata of the MCP server, or map /.well-known of its domain."
    return judge(problems, "", fix)
