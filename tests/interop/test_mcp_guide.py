"""The guide docs/mcp.md: its example server, its settings, and the doctor as each assistant.

test_mcp_step_up.py runs clients with the example server.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest

from infra.operator.doctor.assistants import ASSISTANTS
from infra.operator.doctor.connect import connect
from tests.endpoints.client_documents.conftest import Host, host
from tests.interop.conftest import DOCS
from tests.support.assertions import key_pair
from tests.support.site import Site
from tests.support.tampering_proxy import finding_names, get_finding

__all__ = ["host"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.programs]
GUIDE = (DOCS / "mcp.md").read_text("utf-8")
STEPS = [
    "MCP server",
    "resource metadata",
    "server metadata",
    "issuer in responses",
    "PKCE",
    "public clients",
    "client registration",
    "authorization request",
    "token request",
]


def settings_of_the_guide() -> dict[str, str]:
    """Return the settings with which the guide starts the server, as Settings has them."""
    (line,) = re.findall(r"^ +(SIGNET_.* make run)$", GUIDE, re.MULTILINE)
    pairs = [word.split("=", 1) for word in shlex.split(line)[:-2]]
    return {name.removeprefix("SIGNET_").lower(): value for name, value in pairs}


@pytest.mark.parametrize("name", ASSISTANTS)
def test_assistant_that_registers_itself_can_connect_with_the_settings(
    site_with: Callable[..., Site], run_example: Callable[[Site], str], name: str
) -> None:
    site = site_with(**settings_of_the_guide())
    findings = list(connect(name, run_example(site)))
    assert finding_names(findings) == []
    assert finding_names(findings, None) == []
    cors = ["CORS"] if name == "inspector" else []
    assert finding_names(findings, True) == [*STEPS, *cors, "end of registration"]
    assert list(site.server.store.clients.scan()) == []


@pytest.mark.parametrize("problem", ["not listed", "not available"])
def test_doctor_says_what_to_do_about_a_document_that_is_not_accepted(
    site_with: Callable[..., Site],
    run_example: Callable[[Site], str],
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    problem: str,
) -> None:
    monkeypatch.setitem(ASSISTANTS, "claude", replace(ASSISTANTS["claude"], document=host.url))
    host.fail()
    listed = ("app.example.com",) if problem == "not listed" else (host.name,)
    site = site_with(client_document_hosts=listed, outbound_networks=("127.0.0.0/8",), **settings_of_the_guide())
    failed = get_finding(list(connect("claude", run_example(site))), "authorization request")
    assert failed.ok is False
    assert failed.fix.startswith("Add 127.0.0.1 to SIGNET_CLIENT_DOCUMENT_HOSTS. ")
    assert f"`signet client pin {host.url} FILE`" in failed.fix
    assert host.fetches == (problem == "not available")


@pytest.mark.parametrize("name", [name for name, assistant in ASSISTANTS.items() if assistant.document])
def test_assistant_with_a_document_can_connect(
    site_with: Callable[..., Site],
    run_example: Callable[[Site], str],
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    assistant = replace(ASSISTANTS[name], document=host.url)
    monkeypatch.setitem(ASSISTANTS, name, assistant)
    signing = {"token_endpoint_auth_method": "private_key_jwt", "jwks": key_pair("RS256").jwks}
    host.serve(redirect_uris=list(assistant.redirect_uris), **(signing if assistant.signs else {}))
    settings = settings_of_the_guide() | {"client_registration": "off"}
    site = site_with(client_document_hosts=(host.name,), outbound_networks=("127.0.0.0/8",), **settings)
    findings = list(connect(name, run_example(site)))
    assert finding_names(findings) == []
    assert finding_names(findings, None) == (["token request"] if assistant.signs else [])
    assert host.fetches == 1


def test_doctor_finds_only_that_unknown_clients_are_not_accepted(
    site: Site, run_example: Callable[[Site], str]
) -> None:
    findings = list(connect("cursor", run_example(site)))
    assert finding_names(findings) == ["client registration"]
    assert finding_names(findings, True)[:3] == STEPS[:3]


def test_guide_shows_the_whole_server() -> None:
    assert f"```python\n{(DOCS / 'mcp_server.py').read_text('utf-8')}```" in GUIDE
