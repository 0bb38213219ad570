"""The MCP SDKs with the example server of docs/mcp.md: each kind of client, which asks for more access later."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.endpoints.client_documents.conftest import Host, host
from tests.interop.programs import Program, open_url, parameters
from tests.interop.test_mcp import CALLBACK, REGISTERED_CALLBACK, SDKS, claims
from tests.support.browser import Browser
from tests.support.site import Site

__all__ = ["host"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.programs]

SCOPE = "openid offline_access notes.read notes.write"
CALLS = [["list_notes", {}], ["add_note", {"text": "Buy milk"}], ["list_notes", {}]]
REFRESHING = ["authorization_code", "refresh_token"]
PROGRAMS = {"Python 1": "notes_client", "Python 2": "notes_client", "TypeScript 1": "client", "TypeScript 2": "client"}


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """A function that starts the client of an SDK for an MCP server."""
    programs: list[Program] = []

    def start(name: str, url: str, **identity: Any) -> Program:
        task = {
            "version": SDKS[name].version,
            "url": url,
            "redirect_uri": CALLBACK,
            "auth_method": "none",
            "grant_types": grant_types(name),
            "calls": CALLS,
        }
        programs.append(Program(SDKS[name].command(PROGRAMS[name]), SDKS[name].folder, task | identity))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def grant_types(name: str) -> list[str]:
    """Return what a client registers: version 1 of the TypeScript SDK cannot step up with a refresh token."""
    return REFRESHING[:1] if name == "TypeScript 1" else REFRESHING


def finish(site: Site, browser: Browser, program: Program) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Allow each access that a client asks for; return its authorization requests and its result."""
    requests = []
    while "open" in (message := program.receive()):
        requests.append(parameters(message["open"]))
        program.send({"url": open_url(site, browser, message["open"]).location})
    for tokens in message.get("tokens", []):
        site.secrets.update(tokens[kind] for kind in ("access_token", "refresh_token") if kind in tokens)
    return requests, message


def require_step_up(requests: list[dict[str, str]], result: dict[str, Any], url: str) -> str:
    """Require that a client has added a note after it asked for another scope, and return its client_id."""
    assert "error" not in result, result
    scopes = [set(request["scope"].split()) - {"offline_access"} for request in requests]
    assert scopes == [{"notes.read"}, {"notes.read", "notes.write"}]
    assert result["results"] == ["", "Added.", "Buy milk"]
    (client_id,) = {request["client_id"] for request in requests}
    first, second = (claims(tokens["access_token"]) for tokens in result["tokens"])
    assert [first["aud"], first["client_id"]] == [second["aud"], second["client_id"]] == [url, client_id]
    assert "notes.write" not in first["scope"].split()
    assert {"notes.read", "notes.write"} <= set(second["scope"].split())
    return client_id


@pytest.mark.parametrize("name", SDKS)
def test_client_that_is_registered_beforehand_steps_up(
    site: Site, browser: Browser, run_example: Callable[[Site], str], start: Callable[..., Program], name: str
) -> None:
    site.user("alice")
    client = site.client(
        public=True, redirect_uris=[REGISTERED_CALLBACK], scope=SCOPE, grant_types=tuple(grant_types(name))
    )
    url = run_example(site)
    requests, result = finish(site, browser, start(name, url, client_id=client.id))
    assert require_step_up(requests, result, url) == client.id


@pytest.mark.parametrize("name", SDKS)
def test_client_that_registers_itself_steps_up(
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    run_example: Callable[[Site], str],
    start: Callable[..., Program],
    name: str,
) -> None:
    site = site_with(client_registration="open", open_client_scope=SCOPE)
    site.user("alice")
    url = run_example(site)
    document = "https://127.0.0.1/client.json"  # documents are not announced, so it is not used
    requests, result = finish(site, browsers(site), start(name, url, client_metadata_url=document))
    client = site.server.store.clients.get(require_step_up(requests, result, url))
    assert client
    assert (client.client_name, client.redirect_uris) == ("Notes client", (CALLBACK,))


@pytest.mark.parametrize("name", SDKS)
def test_client_with_a_document_steps_up(
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    run_example: Callable[[Site], str],
    start: Callable[..., Program],
    host: Host,
    name: str,
) -> None:
    host.serve(redirect_uris=[REGISTERED_CALLBACK], grant_types=grant_types(name))
    site = site_with(
        client_registration="open",  # the document has precedence
        client_document_hosts=(host.name,),
        outbound_networks=("127.0.0.0/8",),
        open_client_scope=SCOPE,
    )
    site.user("alice")
    url = run_example(site)
    requests, result = finish(site, browsers(site), start(name, url, client_metadata_url=host.url))
    assert require_step_up(requests, result, url) == host.url
    assert host.fetches == 1


def test_typescript_client_of_version_1_does_not_step_up_with_a_refresh_token(
    site: Site, browser: Browser, run_example: Callable[[Site], str], start: Callable[..., Program]
) -> None:
    """It uses the refresh token, which gives the same access as before."""
    site.user("alice")
    client = site.client(public=True, redirect_uris=[REGISTERED_CALLBACK], scope=SCOPE)
    program = start("TypeScript 1", run_example(site), client_id=client.id, grant_types=REFRESHING)
    requests, result = finish(site, browser, program)
    assert len(requests) == 1
    assert "403 after trying upscoping" in result["error"]
