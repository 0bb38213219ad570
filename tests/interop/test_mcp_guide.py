"""The guide docs/mcp.md: its example server, with a client of the MCP SDK and the doctor."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.state import CHECKOUT
from infra.operator.doctor.connect import connect
from tests.interop.programs import FOLDER, Program, Server, installed, open_url, parameters
from tests.support.browser import Browser
from tests.support.emulator import free_port
from tests.support.resource_servers import register_resource
from tests.support.site import Site
from tests.support.tampering_proxy import finding_names

pytestmark = [pytest.mark.slow, pytest.mark.programs]
DOCS = CHECKOUT / "docs"
CALLBACK = "http://127.0.0.1:33418/callback"
NAME = "The MCP SDK for Python, version 2,"


@pytest.fixture
def mcp_url(site: Site, tmp_path: Path) -> Iterator[str]:
    """Return the URL of the example server, which is registered as a resource."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    register_resource(site, url, "notes.read notes.write")
    arguments = [installed("mcp-2/bin/python", NAME), "mcp_server.py"]
    server = Server(arguments, DOCS, port, tmp_path / "log", ISSUER=site.settings.issuer, MCP_URL=url)
    yield url
    server.close()


def test_tool_that_needs_another_scope_makes_the_client_ask_for_it(site: Site, browser: Browser, mcp_url: str) -> None:
    site.user("alice")
    scope = "openid offline_access notes.read notes.write"
    client = site.client(public=True, redirect_uris=["http://127.0.0.1/callback"], scope=scope)
    task = {"url": mcp_url, "client_id": client.id, "redirect_uri": CALLBACK}
    program = Program([installed("mcp-2/bin/python", NAME), "notes_client.py"], FOLDER / "mcp_python", task)
    try:
        requested = []
        for _ in range(2):
            url = program.receive()["open"]
            requested.append(set(parameters(url)["scope"].split()) - {"offline_access"})
            program.send({"url": open_url(site, browser, url).location})
        result = program.receive()
    finally:
        program.close()
    assert requested == [{"notes.read"}, {"notes.read", "notes.write"}]
    for tokens in result["tokens"]:
        site.secrets.update(tokens[kind] for kind in ("access_token", "refresh_token"))
    assert result["results"] == ["", "Added.", "Buy milk"]
    assert "notes.write" in result["tokens"][1]["scope"].split()
    assert "notes.write" not in result["tokens"][0]["scope"].split()


def test_doctor_finds_only_that_unknown_clients_are_not_accepted(site: Site, mcp_url: str) -> None:
    findings = list(connect("cursor", mcp_url))
    assert finding_names(findings) == ["client registration"]
    assert finding_names(findings, True)[:3] == ["MCP server", "resource metadata", "server metadata"]


def test_guide_shows_the_whole_server() -> None:
    guide = (DOCS / "mcp.md").read_text("utf-8")
    assert f"```python\n{(DOCS / 'mcp_server.py').read_text('utf-8')}```" in guide
