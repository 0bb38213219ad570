"""`signet client documents|pin|unpin|block|unblock`."""

import json
from pathlib import Path

import pytest

from chalicelib.protocol.client_document import NEVER
from tests.endpoints.client_documents.conftest import Host, document
from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site


def test_documents_that_were_used_are_listed(site: Site, browser: Browser, host: Host, run_command: RunCommand) -> None:
    assert output_json(run_command("client", "documents", "--json")) == {"documents": [], "blocked": []}
    browser.authorize(host.client)
    (shown,) = output_json(run_command("client", "documents", "--json"))["documents"]
    assert (shown["url"], shown["client_name"]) == (host.url, "Claude")
    assert shown["first_seen_at"] == shown["fetched_at"] == site.clock()
    assert host.url in run_command("client", "documents").out


@pytest.mark.parametrize("what", ["URL", "host"])
def test_blocked_client_is_rejected_until_it_is_unblocked(
    site: Site, browser: Browser, host: Host, run_command: RunCommand, what: str
) -> None:
    tokens = browser.tokens(host.client)
    blocked = host.url if what == "URL" else "127.0.0.1"
    shown = output_json(run_command("client", "block", blocked, "--yes", "--json"))
    assert shown == {"name": blocked, "blocked": True}
    listed = output_json(run_command("client", "documents", "--json"))
    assert (listed["blocked"], listed["documents"][0]["blocked"]) == ([blocked], True)
    site.server.forget_cached_records()
    assert browser.refresh(host.client, tokens["refresh_token"]).json["error"] == "invalid_client"
    assert run_command("client", "unblock", blocked).code == 0
    assert browser.refresh(host.client, tokens["refresh_token"]).status == 200
    assert "is not blocked" in run_command("client", "unblock", blocked).err


@pytest.mark.parametrize("blocked", ["http://app.example.com/x", "app.example.com:8443", "APP.example.com", ""])
def test_only_a_url_of_a_document_or_a_host_is_blocked(site: Site, run_command: RunCommand, blocked: str) -> None:
    result = run_command("client", "block", blocked, "--yes")
    assert (result.code, "neither the https URL of a document nor a host" in result.err) == (2, True)
    assert not list(site.server.store.documents.scan())


def test_pinned_copy_is_used_instead_of_fetching(
    site: Site, browser: Browser, host: Host, run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "client.json"
    file.write_text(json.dumps(document(host.url, client_name="Pinned")))
    host.fail()
    assert run_command("client", "pin", host.url, file).code == 0
    page = browser.authorize(host.client)
    assert "Pinned" in page.body
    site.clock.advance(400 * 24 * 3600)
    assert "Pinned" in browser.authorize(host.client).body
    assert host.fetches == 0
    record = site.server.store.documents.get(host.url)
    assert record
    assert record.expires_at == NEVER
    host.serve()
    assert run_command("client", "unpin", host.url).code == 0
    site.server.forget_cached_records()
    assert "Claude" in browser.authorize(host.client).body
    assert host.fetches == 1
    assert "is not pinned" in run_command("client", "unpin", host.url).err


@pytest.mark.parametrize(
    "change", [{"client_id": "https://app.example.com/x"}, {"client_secret": "x"}, {"x": "x" * 6000}]
)
def test_file_that_would_not_be_accepted_is_not_pinned(
    site: Site, host: Host, run_command: RunCommand, tmp_path: Path, change: dict[str, str]
) -> None:
    file = tmp_path / "client.json"
    file.write_text(json.dumps(document(host.url, **change)))
    assert run_command("client", "pin", host.url, file).code == 2
    assert not list(site.server.store.documents.scan())


def test_grants_of_the_client_are_listed_as_active(
    site: Site, browser: Browser, host: Host, run_command: RunCommand
) -> None:
    browser.tokens(host.client)
    (grant,) = output_json(run_command("grant", "list", "--json"))
    assert (grant["client_name"], grant.get("ended")) == ("Claude", None)


def test_client_show_shows_a_document(site: Site, browser: Browser, host: Host, run_command: RunCommand) -> None:
    browser.authorize(host.client)
    shown = output_json(run_command("client", "show", host.url, "--json"))
    assert (shown["client_id"], shown["client_name"]) == (host.url, "Claude")
