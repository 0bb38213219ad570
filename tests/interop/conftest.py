"""The example server of docs/mcp.md, and clients in Node."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.state import CHECKOUT
from tests.interop.programs import NODE_FOLDER, Program, Server, installed, node_with
from tests.support.ports import free_port
from tests.support.resource_servers import register_resource
from tests.support.site import Site

DOCS = CHECKOUT / "docs"


@pytest.fixture
def run_example(tmp_path: Path) -> Iterator[Callable[[Site], str]]:
    """A function that runs the example server, registered as a resource of a site, and returns its URL."""
    servers: list[Server] = []

    def run(site: Site) -> str:
        port = free_port()
        url = f"http://127.0.0.1:{port}/mcp"
        register_resource(site, url, "notes.read notes.write")
        arguments = [installed("mcp-2/bin/python", "The MCP SDK for Python, version 2,"), "mcp_server.py"]
        environ = {"ISSUER": site.settings.issuer, "MCP_URL": url}
        servers.append(Server(arguments, DOCS, port, tmp_path / f"log-{port}", **environ))
        return url

    yield run
    for server in servers:
        server.close()


@pytest.fixture
def start_with_node() -> Iterator[Callable[[str, dict[str, Any]], Program]]:
    """A function that starts a script of tests/interop/relying_party with a task."""
    started: list[Program] = []

    def start(script: str, task: dict[str, Any]) -> Program:
        node = node_with("openid-client", "oauth4webapi")
        started.append(Program([node, script], NODE_FOLDER, task))
        return started[-1]

    yield start
    for party in started:
        party.close()
