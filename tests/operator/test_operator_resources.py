"""`signet resource …`: the records of APIs and MCP servers."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.resource import Resource
from chalicelib.storage.store import Store
from infra.operator.doctor import check, resources
from infra.operator.protected_resource import metadata_document, metadata_url
from tests.support.operator import RunCommand, output_json
from tests.support.resource_servers import register_resource, register_resource_server
from tests.support.site import Site

API = "https://api.example.com/photos"
CREATE = ("resource", "create", API, "--name", "Photo API", "--scope", "photos.read photos.write")


def events(store: Store) -> list[tuple[str, str, str | None]]:
    recorded = sorted(store.events.scan(), key=lambda event: event.event_id)
    return [(event.name, event.sub, event.detail) for event in recorded if event.name == "resource_changed"]


def test_resource_is_created_listed_shown_changed_and_removed(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    document = {"uri": API, "name": "Photo API", "scope": "photos.read photos.write"}
    assert output_json(run_command(*CREATE, "--json")) == document
    assert store.resources.get(API) == Resource(API, API, "Photo API", "photos.read photos.write")
    assert output_json(run_command("resource", "list", "--json")) == [document]
    assert run_command("resource", "list").out.splitlines()[1] == f"{API}  Photo API  photos.read photos.write"
    assert output_json(run_command("resource", "show", "HTTPS://API.example.com:443/photos", "--json")) == document
    update = ("resource", "update", API, "--json")
    changed = output_json(
        run_command(*update, "--name", "Photos", "--access-token-lifetime", "300", "--add-scope", "photos.print")
    )
    scope = "photos.read photos.write photos.print"
    assert changed == {"uri": API, "name": "Photos", "scope": scope, "access_token_lifetime": 300}
    changed = output_json(
        run_command(
            *(*update, "--unset", "access-token-lifetime", "--remove-scope", "photos.write"),
            *("--access-token-signed-response-alg", "ES256"),
        )
    )
    alg = {"access_token_signed_response_alg": "ES256"}
    assert changed == {"uri": API, "name": "Photos", "scope": "photos.read photos.print", **alg}
    assert output_json(run_command(*update, "--name", "Photos")) == changed  # changes nothing, and records no event
    assert output_json(run_command("resource", "delete", API, "--yes", "--json")) == changed
    assert run_command("resource", "list").out == "No resource is registered.\n"
    about = f"client {API}"
    assert events(store) == [
        ("resource_changed", about, f"{API}: created"),
        ("resource_changed", about, f"{API}: updated: access_token_lifetime, name, scope"),
        (
            *("resource_changed", about),
            f"{API}: updated: access_token_lifetime, access_token_signed_response_alg, scope",
        ),
        ("resource_changed", about, f"{API}: deleted"),
    ]
    history = output_json(run_command("history", "--client", API, "--json"))
    assert [event["name"] for event in history] == ["resource_changed"] * 4


def test_resource_without_scopes_is_created_with_a_warning(site: Site, run_command: RunCommand) -> None:
    warning = f"Warning: {API} has no scopes, so every application gets access tokens for it.\n"
    assert run_command(*CREATE).err == ""
    assert run_command("resource", "update", API, "--unset", "scope").err == warning
    assert run_command("resource", "update", API, "--scope", "photos.read").err == ""
    assert run_command("resource", "delete", API, "--yes").out == f"Removed {API}.\n"
    assert run_command("resource", "create", API, "--name", "Photo API").err == warning


def test_migrate_creates_a_resource_for_each_client_that_is_one(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    site.client(client_id="print")
    uris = ("http://127.0.0.1:3000/mcp", API, "https://other.example.com")
    for uri in uris:
        register_resource_server(site, uri)
    run_command("resource", "create", API, "--scope", "photos.read")
    before = list(store.clients.scan())
    migrated = output_json(run_command("resource", "migrate", "--json"))
    assert migrated == [{"uri": uri, "name": "Photos", "scope": ""} for uri in (uris[0], uris[2])]
    assert output_json(run_command("resource", "show", API, "--json"))["scope"] == "photos.read"
    assert run_command("resource", "migrate").out == "No client is left to migrate.\n"
    assert list(store.clients.scan()) == before
    assert [detail for _, _, detail in events(store)][1:] == [f"{uris[0]}: migrated", f"{uris[2]}: migrated"]


def test_resource_whose_client_would_accept_every_scope_again_is_not_removed(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    register_resource_server(site, API)
    run_command("resource", "create", API, "--scope", "photos.read")
    refused = run_command("resource", "delete", API, "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert f"Delete its client first: signet client delete {API}." in refused.err
    assert store.resources.get(API)
    assert run_command("client", "delete", API, "--yes").code == 0
    assert run_command("resource", "delete", API, "--yes").code == 0
    assert list(store.resources.scan()) == []


def test_resource_of_a_client_in_an_earlier_spelling_keeps_it(
    site: Site, run_command: RunCommand, store: Store
) -> None:
    """It is the audience that the client introspects."""
    client = register_resource_server(site, API).record
    earlier = "https://API.example.com/photos"
    store.clients.put(replace(client, client_id=earlier))
    store.clients.delete(API)
    assert output_json(run_command("resource", "migrate", "--json")) == [
        {"uri": earlier, "name": "Photos", "scope": ""}
    ]
    assert store.resources.get(API) == Resource(API, earlier, "Photos")


def test_resources_are_exported_and_imported(site: Site, run_command: RunCommand, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    run_command(*CREATE, "--access-token-lifetime", "300", "--access-token-signed-response-alg", "ES256")
    (before,) = store.resources.scan()
    run_command("export", "--out", file)
    site.reset()
    assert run_command("import", file).out == "Added: 1 resource. Already existing: none.\n"
    assert list(store.resources.scan()) == [before]
    assert run_command("import", file).out == "Added: none. Already existing: 1 resource.\n"
    run_command("resource", "update", API, "--name", "Something else")
    again = run_command("import", file)
    problem = f"line 2: the resource {API} exists with other data and was not changed"
    assert (again.code, again.err.startswith(problem)) == (1, True)
    run_command("resource", "delete", API, "--yes")
    line = json.loads(file.read_text().splitlines()[1])
    for changes, problem in (
        ({"scope": "openid"}, "standard scope"),
        ({"resource_id": "https://other.example.com/"}, "The resource_id of"),
        ({"uri": "http://api.example.com/photos"}, "must be https"),
        ({"access_token_lifetime": "300"}, "access_token_lifetime cannot be"),
        ({"access_token_lifetime": 1}, "must be 60 to 86400 seconds"),
        ({"access_token_signed_response_alg": "none"}, "must be one of"),
    ):
        text = file.read_text().splitlines()
        text[1] = json.dumps(line | changes)
        bad = tmp_path / "bad.jsonl"
        bad.write_text("\n".join(text))
        answer = run_command("import", bad)
        assert (answer.code, problem in answer.err) == (1, True), answer
    assert list(store.resources.scan()) == []


def test_show_prints_the_metadata_that_the_resource_should_serve(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command(*CREATE)
    refused = run_command("resource", "show", API, "--protected-resource-metadata")
    assert (refused.code, refused.out) == (2, "")
    assert "The issuer of the stage is unknown" in refused.err
    monkeypatch.setattr("infra.operator.resources.public_url", lambda _store: site.settings.issuer)
    document = {
        "resource": API,
        "authorization_servers": [site.settings.issuer],
        "scopes_supported": ["photos.read", "photos.write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Photo API",
    }
    show = ("resource", "show", API, "--protected-resource-metadata")
    assert output_json(run_command(*show)) == output_json(run_command(*show, "--json")) == document
    run_command("resource", "update", API, "--unset", "scope")
    assert "scopes_supported" not in output_json(run_command(*show))


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://api.example.com", "https://api.example.com/.well-known/oauth-protected-resource"),
        ("https://api.example.com/", "https://api.example.com/.well-known/oauth-protected-resource"),
        ("https://api.example.com/mcp", "https://api.example.com/.well-known/oauth-protected-resource/mcp"),
        ("https://api.example.com/a/?b=c", "https://api.example.com/.well-known/oauth-protected-resource/a/?b=c"),
        ("http://[::1]:3000/mcp", "http://[::1]:3000/.well-known/oauth-protected-resource/mcp"),
    ],
)
def test_metadata_of_a_resource_has_the_well_known_path_before_its_own(uri: str, url: str) -> None:
    assert metadata_url(uri) == url


# ---- the doctor


@pytest.fixture
def api() -> Iterator[tuple[str, dict[str, Any]]]:
    """The URI of a resource on this machine, and what it serves: `status`, `body` and the `paths` of its requests."""
    served: dict[str, Any] = {"status": 200, "body": "{}", "paths": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served["paths"].append(self.path)
            self.send_response(served["status"])
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(served["body"].encode())

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/mcp", served
        server.shutdown()


def findings(store: Store, issuer: str) -> list[tuple[bool | None, str]]:
    return [(finding.ok, finding.detail) for finding in resources.inspect(store, issuer)]


def test_doctor_finds_no_problem_with_a_resource_that_serves_its_metadata(
    site: Site, store: Store, api: tuple[str, dict[str, Any]]
) -> None:
    uri, served = api
    issuer = site.settings.issuer
    served["body"] = json.dumps(metadata_document(register_resource(site, uri, "notes.read"), issuer))
    assert [ok for ok, _ in findings(store, issuer)] == [True, True, True]
    assert served["paths"] == ["/.well-known/oauth-protected-resource/mcp"]


MISMATCHES: list[tuple[dict[str, Any], str]] = [
    ({"resource": "http://127.0.0.1/other"}, "names the resource 'http://127.0.0.1/other'"),
    ({"resource": None}, "names the resource None"),
    ({"authorization_servers": ["https://other.example.com"]}, "does not name the authorization server"),
    ({"authorization_servers": None}, "does not name the authorization server"),
    ({"scopes_supported": ["openid", "notes.read", "x"]}, "names scopes that are not registered for it: x"),
    ({"scopes_supported": "notes.read"}, "are no list of scopes"),
    ({"scopes_supported": [["notes.read"]]}, "are no list of scopes"),
]


@pytest.mark.parametrize(("changes", "problem"), MISMATCHES)
def test_doctor_reports_metadata_that_differs_from_the_record(
    site: Site, store: Store, api: tuple[str, dict[str, Any]], changes: dict[str, Any], problem: str
) -> None:
    uri, served = api
    document = metadata_document(register_resource(site, uri, "notes.read"), site.settings.issuer)
    served["body"] = json.dumps(document | changes)
    ok, detail = findings(store, site.settings.issuer)[-1]
    assert (ok, problem in detail) == (False, True), detail


@pytest.mark.parametrize(("status", "body"), [(404, "{}"), (302, "{}"), (200, "no JSON"), (200, "[]"), (500, "")])
def test_doctor_skips_a_resource_that_serves_no_metadata(
    site: Site, store: Store, api: tuple[str, dict[str, Any]], status: int, body: str
) -> None:
    uri, served = api
    register_resource(site, uri, "notes.read")
    served.update(status=status, body=body)
    assert findings(store, site.settings.issuer)[-1][0] is None
    assert len(served["paths"]) == 1, "redirects are not followed"


def test_doctor_skips_the_metadata_of_a_resource_that_does_not_respond(site: Site, store: Store) -> None:
    register_resource(site, "http://127.0.0.1:1/mcp", "notes.read")
    ok, detail = findings(store, site.settings.issuer)[-1]
    assert (ok, "cannot be read" in detail) == (None, True)


def test_doctor_reports_resources_without_scopes_or_record_and_invalid_ones(site: Site, store: Store) -> None:
    uris = [f"http://127.0.0.1:1/{name}" for name in ("any", "bad", "old", "off")]
    register_resource(site, uris[0])
    record = register_resource(site, uris[1], "notes.read")
    store.resources.put(replace(record, access_token_lifetime=1))
    register_resource_server(site, uris[0])
    register_resource_server(site, uris[2])
    store.clients.put(replace(register_resource_server(site, uris[3]).record, disabled_at=1))
    site.client(client_id="print")
    failed = [
        (finding.name, finding.detail)
        for finding in check(None, store)
        if finding.ok is False and "127" in finding.name
    ]
    every = "Every application gets access tokens for it, with every scope (RFC 9700 §2.3)."
    assert failed == [
        (f"resource {uris[0]}", f"It has no scopes. {every}"),
        (f"resource {uris[1]}", "The access_token_lifetime must be 60 to 86400 seconds."),
        (f"resource {uris[2]}", f"It has no record. {every}"),
    ]
