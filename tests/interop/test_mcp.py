"""The MCP SDKs: a client and a server of each, with a client_id that was registered beforehand."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from chalicelib.server import AuthorizationServer
from tests.interop.programs import FOLDER, NODE_FOLDER, Program, Server, installed, node_with, open_url, parameters
from tests.support.browser import Browser
from tests.support.ports import free_port
from tests.support.resource_servers import register_resource_server
from tests.support.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.programs]

# An MCP client listens on any port, and is registered without one (RFC 8252 section 7.3).
REGISTERED_CALLBACK = "http://127.0.0.1/callback"
CALLBACK = "http://127.0.0.1:33418/callback"
SCOPE = "notes.read"
PYTHON_FOLDER = FOLDER / "mcp_python"


def python(version: int) -> Callable[[str], list[str]]:
    """Return a function that returns the command of a program with a version of the Python SDK."""
    name = f"The MCP SDK for Python, version {version},"
    return lambda program: [installed(f"mcp-{version}/bin/python", name), f"{program}.py"]


def node(package: str) -> Callable[[str], list[str]]:
    """Return a function that returns the command of a program with a package of the TypeScript SDK."""
    return lambda program: [node_with("@modelcontextprotocol/sdk", package), f"mcp_{program}.mjs"]


@dataclass(frozen=True)
class Sdk:
    """A version of an SDK: how its programs are started, and how its client behaves.

    `adds_slash`: it names the resource `http://host` as `http://host/`. `checks_iss`: it compares `iss` in the
    authorization response (RFC 9207). `asks_for_offline_access`: it adds that scope and `prompt=consent`.
    """

    command: Callable[[str], list[str]]
    folder: Path
    version: int
    adds_slash: bool = False
    checks_iss: bool = True
    asks_for_offline_access: bool = True


SDKS = {
    "Python 1": Sdk(python(1), PYTHON_FOLDER, 1, adds_slash=True, checks_iss=False, asks_for_offline_access=False),
    "Python 2": Sdk(python(2), PYTHON_FOLDER, 2),
    "TypeScript 1": Sdk(
        node("@modelcontextprotocol/sdk"),
        NODE_FOLDER,
        1,
        adds_slash=True,
        checks_iss=False,
        asks_for_offline_access=False,
    ),
    "TypeScript 2": Sdk(node("@modelcontextprotocol/client"), NODE_FOLDER, 2, adds_slash=True),
}
# The path of the MCP server, and how its client authenticates.
CASES = [("/mcp", "none"), ("/mcp", "client_secret_basic"), ("", "client_secret_post")]


class Mcp:
    """A running MCP server and a client, both registered at a site."""

    def __init__(self, site: Site, sdk: Sdk, url: str, auth_method: str):
        self.site, self.url = site, url
        register_resource_server(site, url)
        self.client = site.client(
            public=auth_method == "none",
            redirect_uris=[REGISTERED_CALLBACK],
            scope=f"openid profile offline_access {SCOPE}",
            **({} if auth_method == "none" else {"token_endpoint_auth_methods": (auth_method,)}),
        )
        task = {
            "version": sdk.version,
            "url": url,
            "client_id": self.client.id,
            "client_secret": self.client.secret,
            "redirect_uri": CALLBACK,
            "auth_method": auth_method,
        }
        self.program = Program(sdk.command("client"), sdk.folder, task)


def finish(mcp: Mcp, browser: Browser, url: str) -> dict[str, Any]:
    """Sign in and allow the access at the URL that the client has opened; return the client's result."""
    mcp.program.send({"url": open_url(mcp.site, browser, url).location})
    result = mcp.program.receive()
    assert "error" not in result
    for tokens in result["tokens"]:
        mcp.site.secrets.update(tokens[kind] for kind in ("access_token", "refresh_token"))
    return result


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Return a function that starts an MCP server, unless it runs already, and returns its URL."""
    started: dict[tuple[Any, ...], tuple[Server, str]] = {}

    def server_url(issuer: str, sdk: Sdk, path: str, scope: str | None) -> str:
        key = (issuer, sdk, path, scope)
        if key not in started:
            port = free_port()
            url = f"http://127.0.0.1:{port}{path}"
            arguments = json.dumps({"issuer": issuer, "url": url, "scope": scope})
            log = tmp_path_factory.mktemp("server") / "log"
            started[key] = Server([*sdk.command("server"), arguments], sdk.folder, port, log), url
        return started[key][1]

    yield server_url
    for server, _ in started.values():
        server.close()


@pytest.fixture
def start(server_url: Callable[..., str]) -> Iterator[Callable[..., Mcp]]:
    """Return a function that starts a client of an SDK, for a server of the same or of another SDK."""
    started: list[Mcp] = []

    def start(
        site: Site,
        sdk: Sdk,
        path: str = "/mcp",
        auth_method: str = "none",
        server: Sdk | None = None,
        scope: str | None = SCOPE,
    ) -> Mcp:
        url = server_url(site.settings.issuer, server or sdk, path, scope)
        started.append(Mcp(site, sdk, url, auth_method))
        return started[-1]

    yield start
    for mcp in started:
        mcp.program.close()


@pytest.mark.parametrize(("path", "auth_method"), CASES)
@pytest.mark.parametrize("name", SDKS)
def test_mcp_client_gets_a_token_for_its_server_and_refreshes_it(
    site: Site, browser: Browser, start: Callable[..., Mcp], name: str, path: str, auth_method: str
) -> None:
    sdk = SDKS[name]
    user = site.user("alice")
    mcp = start(site, sdk, path, auth_method)
    url = mcp.program.receive()["open"]
    request = parameters(url)
    assert request["resource"] == mcp.url + ("/" if sdk.adds_slash and not path else "")
    assert request["scope"] == SCOPE + (" offline_access" if sdk.asks_for_offline_access else "")
    assert request.get("prompt") == ("consent" if sdk.asks_for_offline_access else None)
    result = finish(mcp, browser, url)
    tokens = result["tokens"]
    assert (result["user"], result["user_after_refresh"]) == (user.sub, user.sub)
    assert tokens[0]["access_token"] != tokens[1]["access_token"]
    assert tokens[0]["refresh_token"] != tokens[1]["refresh_token"]
    for each in tokens:
        assert each["scope"] == request["scope"]
        assert claims(each["access_token"])["aud"] == mcp.url, "as it is registered"
    assert discovery(result["requests"]) == [
        f"POST {mcp.url}",
        f"GET {mcp.url.removesuffix(path)}/.well-known/oauth-protected-resource{path}",
        f"GET {site.settings.issuer}/.well-known/oauth-authorization-server",
        f"POST {site.settings.issuer}/oauth2/token",
        f"POST {mcp.url}",
    ]


def discovery(requests: list[str]) -> list[str]:
    """Return the first requests, without the "/" that some URL types add to a URL without a path."""
    return [request.removesuffix("/") for request in requests[:5]]


def claims(token: str) -> dict[str, Any]:
    content: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return content


@pytest.mark.parametrize("name", SDKS)
def test_mcp_client_that_is_told_no_scope_gets_those_of_its_registration(
    site: Site, browser: Browser, start: Callable[..., Mcp], name: str
) -> None:
    """It asks for all scopes in the metadata (Python), or for none (TypeScript)."""
    site.user("alice")
    mcp = start(site, SDKS[name], scope=None)
    url = mcp.program.receive()["open"]
    granted = set(finish(mcp, browser, url)["tokens"][0]["scope"].split())
    requested = set(parameters(url).get("scope", "").split())
    registered = {"openid", "profile", "offline_access", SCOPE}
    assert granted == (registered & requested if requested else registered - {"offline_access"})
    assert not requested or requested > granted


@pytest.mark.parametrize("iss", ["https://attacker.example.com", None])
@pytest.mark.parametrize("name", [name for name, sdk in SDKS.items() if sdk.checks_iss])
def test_mcp_client_rejects_a_response_without_the_issuer(
    site: Site, browser: Browser, start: Callable[..., Mcp], name: str, iss: str | None
) -> None:
    """The metadata announce `iss` in every response (RFC 9207), so these clients require it."""
    site.user("alice")
    mcp = start(site, SDKS[name])
    location = open_url(site, browser, mcp.program.receive()["open"]).location
    response = parameters(location)
    assert response.pop("iss") == site.settings.issuer
    mcp.program.send({"url": f"{CALLBACK}?{urlencode(response | ({'iss': iss} if iss else {}))}"})
    assert re.search("iss(uer)? mismatch|missing iss", mcp.program.receive()["error"], re.IGNORECASE)


@pytest.fixture
def site_with_path(site_with: Callable[..., Site]) -> Site:
    """A server whose issuer has a path, with the user alice."""
    site = site_with()
    site.settings = replace(site.settings, issuer=f"{site.settings.issuer}/auth")
    site.server = AuthorizationServer.connect(site.settings, site.clock)
    site.user("alice")
    return site


@pytest.mark.parametrize("name", SDKS)
def test_mcp_client_finds_an_issuer_with_a_path(
    site_with_path: Site, browsers: Callable[..., Browser], start: Callable[..., Mcp], name: str
) -> None:
    site = site_with_path
    mcp = start(site, SDKS[name])
    result = finish(mcp, browsers(site), mcp.program.receive()["open"])
    root = site.settings.issuer.removesuffix("/auth")
    assert result["requests"][2:4] == [
        f"GET {root}/.well-known/oauth-authorization-server/auth",
        f"POST {root}/auth/oauth2/token",
    ]


def test_python_client_of_version_2_works_with_a_server_of_version_1_if_the_issuer_has_a_path(
    site: Site, site_with_path: Site, browsers: Callable[..., Browser], start: Callable[..., Mcp]
) -> None:
    """A server of version 1 names the issuer `http://host` as `http://host/`, which its client accepts."""
    client, server = SDKS["Python 2"], SDKS["Python 1"]
    issuer = site.settings.issuer
    assert start(site, client, server=server).program.receive() == {
        "error": f"OAuthFlowError: Authorization server metadata issuer mismatch: {issuer} != {issuer}/"
    }
    mcp = start(site_with_path, client, server=server)
    assert finish(mcp, browsers(site_with_path), mcp.program.receive()["open"])["user"]
