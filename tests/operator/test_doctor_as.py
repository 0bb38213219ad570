"""`doctor --as`: the requests of MCP clients, to a Signet behind a proxy that adds an MCP server and registration."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest

from infra.operator.doctor.assistants import ASSISTANTS
from infra.operator.doctor.connect import connect
from infra.operator.doctor.connection import metadata_addresses
from infra.operator.doctor.findings import Finding
from tests.support.operator import RunCommand
from tests.support.resource_servers import register_resource
from tests.support.site import Registered, Site
from tests.support.tampering_proxy import finding_names, get_finding

SCOPE = "notes.read"
MANAGEMENT_TOKEN = "management-token-of-the-registration"
STEPS = [
    *("MCP server", "resource metadata", "server metadata", "issuer in responses", "PKCE", "public clients"),
    *("client registration", "authorization request", "token request"),
]


class Deployment:
    """A proxy before a site. It has an MCP server at /mcp, and registers clients if `members` has the endpoint.

    `members`: what it changes in the metadata of the site. `resource`: in the metadata of the MCP server.
    `registration`: in the answer to a registration. `changes`: the status and headers of a path, or of a method and a
    path, instead of the response.
    """

    def __init__(self) -> None:
        self.site: Site
        self.members: dict[str, Any] = {}
        self.resource: dict[str, Any] = {}
        self.registration: dict[str, Any] = {}
        self.changes: dict[str, tuple[int, dict[str, str]]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.registered: list[Registered] = []
        self.document_client = ("-", "-")
        deployment = self

        class Exchange(BaseHTTPRequestHandler):
            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                deployment.requests.append((self.command, self.path, headers, body))
                status, fields, sent = deployment.respond(self.command, self.path, headers, body)
                self.send_response_only(status)
                for name, value in (fields | {"Content-Length": str(len(sent))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_OPTIONS = do_DELETE = do_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.mcp = f"{self.url}/mcp"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def respond(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        bare = urlsplit(path).path
        if change := self.changes.get(bare) or self.changes.get(f"{method} {bare}"):
            return *change, b"{}"
        if bare == "/mcp":
            metadata = f"{self.url}/.well-known/oauth-protected-resource/mcp"
            return 401, {"WWW-Authenticate": f'Bearer resource_metadata="{metadata}", scope="{SCOPE}"'}, b""
        if bare == "/.well-known/oauth-protected-resource/mcp":
            document = {"resource": self.mcp, "authorization_servers": [self.url], "scopes_supported": [SCOPE, "more"]}
            return 200, {}, json.dumps(document | self.resource).encode()
        if bare == "/oauth2/register" and method == "POST":
            return self.register(json.loads(body))
        if bare == "/oauth2/register":
            return 204, {"Access-Control-Allow-Origin": "*"}, b""
        if bare.startswith("/oauth2/register/"):
            return (204 if headers.get("authorization") == f"Bearer {MANAGEMENT_TOKEN}" else 401), {}, b""
        status, fields, sent = self.forward(method, path, headers, body)
        if bare.startswith("/.well-known/oauth-authorization-server") and status == 200:
            changed = json.loads(sent) | self.members
            sent = json.dumps({name: value for name, value in changed.items() if value is not None}).encode()
        return status, fields, sent

    def register(self, document: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        client = self.site.client(public=True, redirect_uris=document["redirect_uris"], scope=CLIENT_SCOPE)
        self.registered.append(client)
        management = {
            "registration_access_token": MANAGEMENT_TOKEN,
            "registration_client_uri": f"{self.url}/oauth2/register/{client.id}",
        }
        answer = document | {"client_id": client.id} | management | self.registration
        return 201, {}, json.dumps(answer).encode()

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port)
        url, client_id = self.document_client
        path, body = path.replace(url, client_id), body.replace(url.encode(), client_id.encode())
        connection.request(method, path, body, {name: headers[name] for name in headers if name != "content-length"})
        response = connection.getresponse()
        sent = response.read()
        fields = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
        connection.close()
        return response.status, fields, sent

    def bodies(self, method: str, path: str) -> list[bytes]:
        return [body for sent, target, _, body in self.requests if (sent, urlsplit(target).path) == (method, path)]

    def authorization(self) -> dict[str, list[str]]:
        (path,) = [path for _, path, _, _ in self.requests if path.startswith("/oauth2/authorize?")]
        return parse_qs(urlsplit(path).query, keep_blank_values=True)


CLIENT_SCOPE = f"openid profile email address phone offline_access {SCOPE}"
HOP_BY_HOP = ("content-length", "connection", "transfer-encoding", "server")


@pytest.fixture
def deployment(site_with: Callable[..., Site]) -> Iterator[Deployment]:
    """A deployment with an MCP server, at which clients can register."""
    deployment = Deployment()
    deployment.site = site_with(issuer=deployment.url)
    register_resource(deployment.site, deployment.mcp, SCOPE)
    deployment.members["registration_endpoint"] = f"{deployment.url}/oauth2/register"
    yield deployment
    deployment.server.shutdown()
    deployment.server.server_close()


def accept_documents(deployment: Deployment, name: str) -> None:
    """Accept the document of a client: its URL is sent to the site as the id of a registered client."""
    assistant = ASSISTANTS[name]
    deployment.members["client_id_metadata_document_supported"] = True
    client = deployment.site.client(public=True, redirect_uris=assistant.redirect_uris, scope=CLIENT_SCOPE)
    deployment.document_client = (quote_plus(assistant.document), client.id)


def failure(findings: list[Finding]) -> Finding:
    """Return the only finding that has failed."""
    (failed,) = [finding for finding in findings if finding.ok is False]
    assert failed.detail.endswith(".")
    assert failed.fix
    return failed


@pytest.mark.parametrize("name", ASSISTANTS)
def test_every_client_registers_and_reaches_the_sign_in_page(deployment: Deployment, name: str) -> None:
    findings = list(connect(name, deployment.mcp))
    assert finding_names(findings) == []
    cors = ["CORS"] if name == "inspector" else []
    assert finding_names(findings, True) == [*STEPS, *cors, "end of registration"]
    (body,) = deployment.bodies("POST", "/oauth2/register")
    assert json.loads(body)["redirect_uris"] == list(ASSISTANTS[name].redirect_uris)
    (client,) = deployment.registered
    assert deployment.bodies("DELETE", f"/oauth2/register/{client.id}") == [b""]
    assert deployment.authorization()["client_id"] == [client.id]
    assert deployment.authorization()["resource"] == [deployment.mcp]
    assert MANAGEMENT_TOKEN not in str(findings)


@pytest.mark.parametrize("name", [name for name, assistant in ASSISTANTS.items() if assistant.document])
def test_client_with_a_document_does_not_register_if_documents_are_accepted(deployment: Deployment, name: str) -> None:
    accept_documents(deployment, name)
    findings = list(connect(name, deployment.mcp))
    assert finding_names(findings) == []
    assert deployment.registered == []
    assert deployment.authorization()["client_id"] == [ASSISTANTS[name].document]
    signs = name == "chatgpt"
    assert finding_names(findings, None) == (["token request"] if signs else [])


def test_chatgpt_registers_if_responses_do_not_name_the_issuer(deployment: Deployment) -> None:
    accept_documents(deployment, "chatgpt")
    deployment.members["authorization_response_iss_parameter_supported"] = None
    findings = list(connect("chatgpt", deployment.mcp))
    assert failure(findings).name == "issuer in responses"
    assert len(deployment.registered) == 1


SCOPES = {
    "claude": (f"{SCOPE} offline_access", ["consent"]),
    "chatgpt": (f"{SCOPE} offline_access", None),
    "cursor": (SCOPE, None),
    "vscode": (SCOPE, None),
    "inspector": (f"{SCOPE} offline_access", ["consent"]),
}


@pytest.mark.parametrize("name", ASSISTANTS)
def test_authorization_request_has_the_scope_and_prompt_of_the_client(deployment: Deployment, name: str) -> None:
    list(connect(name, deployment.mcp))
    sent = deployment.authorization()
    scope, prompt = SCOPES[name]
    assert (sent["scope"], sent.get("prompt")) == ([scope], prompt)


def test_claude_sends_a_leading_space_if_no_scope_is_needed(deployment: Deployment) -> None:
    findings = list(connect("claude", deployment.url))
    assert finding_names(findings) == []
    assert finding_names(findings, True)[0] == "server metadata", "the URL is that of the issuer"
    sent = deployment.authorization()
    assert sent["scope"] == [" offline_access"]
    assert "resource" not in sent


FAULTS: list[tuple[str, str, Callable[[Deployment], object], str, str, str]] = [
    (
        "an MCP server without authorization",
        "claude",
        lambda it: it.changes.update({"/mcp": (200, {})}),
        "MCP server",
        "has status 200 without an access token, not 401",
        "must reject",
    ),
    (
        "no resource metadata",
        "claude",
        lambda it: it.changes.update({"/.well-known/oauth-protected-resource/mcp": (404, {})}),
        "resource metadata",
        "status 404",
        "--protected-resource-metadata",
    ),
    (
        "metadata of another resource",
        "cursor",
        lambda it: it.resource.update(resource="https://other.example/mcp"),
        "resource metadata",
        "https://other.example/mcp",
        "--protected-resource-metadata",
    ),
    (
        "no authorization server",
        "cursor",
        lambda it: it.resource.update(authorization_servers=[]),
        "resource metadata",
        "names no authorization server",
        "--protected-resource-metadata",
    ),
    (
        "an issuer with a slash",
        "vscode",
        lambda it: it.resource.update(authorization_servers=[f"{it.url}/"]),
        "server metadata",
        "names the issuer",
        "Clients compare them exactly",
    ),
    (
        "no PKCE",
        "vscode",
        lambda it: it.members.update(code_challenge_methods_supported=["plain"]),
        "PKCE",
        "S256 is not offered",
        "Deploy",
    ),
    (
        "no public clients",
        "cursor",
        lambda it: it.members.update(token_endpoint_auth_methods_supported=["client_secret_basic"]),
        "public clients",
        "lacks none",
        "Deploy",
    ),
    (
        "neither documents nor registration",
        "claude",
        lambda it: it.members.pop("registration_endpoint"),
        "client registration",
        "no registration_endpoint, and client ID metadata documents are not accepted",
        "SIGNET_CLIENT_DOCUMENTS=list with claude.ai in SIGNET_CLIENT_DOCUMENT_HOSTS, or SIGNET_CLIENT_REGISTRATION",
    ),
    (
        "no registration, for a client without a document",
        "cursor",
        lambda it: it.members.pop("registration_endpoint"),
        "client registration",
        "There is no registration_endpoint.",
        "Set SIGNET_CLIENT_REGISTRATION=open.",
    ),
    (
        "registration with a token only",
        "cursor",
        lambda it: it.changes.update({"/oauth2/register": (401, {})}),
        "client registration",
        "initial access token",
        "SIGNET_CLIENT_REGISTRATION=open",
    ),
    (
        "registration of a confidential client",
        "cursor",
        lambda it: it.registration.update(token_endpoint_auth_method="client_secret_basic"),
        "client registration",
        "'client_secret_basic' instead of none",
        "policy",
    ),
    (
        "registration without a redirect URI",
        "cursor",
        lambda it: it.registration.update(redirect_uris=["http://localhost:8787/callback"]),
        "client registration",
        "other redirect URIs",
        "policy",
    ),
    (
        "a resource that is not registered",
        "cursor",
        lambda it: it.site.server.store.resources.delete(it.mcp),
        "authorization request",
        "invalid_target",
        "signet resource create",
    ),
    (
        "a scope that is not registered",
        "vscode",
        lambda it: it.changes.update(
            {"/mcp": (401, {"WWW-Authenticate": 'Bearer scope="notes.delete"'})},
        ),
        "authorization request",
        "invalid_scope",
        "SIGNET_OPEN_CLIENT_SCOPE",
    ),
    (
        "a token endpoint that rejects the client",
        "cursor",
        lambda it: it.changes.update({"/oauth2/token": (401, {})}),
        "token request",
        "A wrong code gets status 401, not invalid_grant",
        "log",
    ),
    (
        "no CORS",
        "inspector",
        lambda it: it.changes.update({"OPTIONS /oauth2/token": (400, {})}),
        "CORS",
        "the preflight request to token_endpoint is not allowed (status 400)",
        "http://localhost:6274",
    ),
    (
        "a registration that cannot be deleted",
        "cursor",
        lambda it: it.registration.update(registration_access_token="wrong"),
        "end of registration",
        "was not deleted (status 401)",
        "signet client delete",
    ),
    (
        "a registration on another server",
        "cursor",
        lambda it: it.registration.update(registration_client_uri="http://127.0.0.1:9/register"),
        "end of registration",
        "on another server",
        "signet client delete",
    ),
]


@pytest.mark.parametrize(
    ("name", "spoil", "step", "detail", "fix"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_fault_is_reported_at_its_step(
    deployment: Deployment, name: str, spoil: Callable[[Deployment], object], step: str, detail: str, fix: str
) -> None:
    spoil(deployment)
    findings = list(connect(name, deployment.mcp))
    failed = get_finding(findings, step)
    assert failed.ok is False
    assert detail in failed.detail
    assert fix in failed.fix
    assert finding_names(findings)[0] == step, "nothing before it has failed"
    assert MANAGEMENT_TOKEN not in str(findings)


def test_unknown_client_is_reported_with_the_heading_of_the_page(deployment: Deployment) -> None:
    deployment.registration["client_id"] = "unknown"
    detail = get_finding(list(connect("cursor", deployment.mcp)), "authorization request").detail
    assert detail.startswith("No sign-in page, but status 400 (")


def test_metadata_is_looked_for_with_the_path_of_the_issuer_inserted_and_then_appended() -> None:
    assert metadata_addresses("https://example.com/auth") == [
        "https://example.com/.well-known/oauth-authorization-server/auth",
        "https://example.com/.well-known/openid-configuration/auth",
        "https://example.com/auth/.well-known/openid-configuration",
    ]
    assert metadata_addresses("https://example.com") == [
        "https://example.com/.well-known/oauth-authorization-server",
        "https://example.com/.well-known/openid-configuration",
    ]


def test_command_prints_the_steps_and_fails_with_one(deployment: Deployment, run_command: RunCommand) -> None:
    done = run_command("doctor", deployment.mcp, "--as", "cursor", "--json")
    assert done.code == 0
    assert [each["name"] for each in json.loads(done.out)] == [*STEPS, "end of registration"]
    deployment.members.pop("registration_endpoint")
    done = run_command("doctor", deployment.mcp, "--as", "cursor")
    assert done.code == 1
    assert "✗ client registration      There is no registration_endpoint." in done.out
    assert "→ Set SIGNET_CLIENT_REGISTRATION=open." in done.out


def test_signet_that_accepts_no_unknown_clients_names_the_settings(site: Site) -> None:
    findings = list(connect("claude", site.settings.issuer))
    assert failure(findings).name == "client registration"


def test_signet_that_allows_other_redirect_uris_names_the_setting(site_with: Callable[..., Site]) -> None:
    site = site_with(client_registration="open", open_client_redirects=("https",))
    failed = failure(list(connect("cursor", site.settings.issuer)))
    assert (failed.name, "invalid_redirect_uri" in failed.detail) == ("client registration", True)
    assert "SIGNET_OPEN_CLIENT_REDIRECTS" in failed.fix
