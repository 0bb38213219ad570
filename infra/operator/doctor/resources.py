"""The checks of the registered resources: their scopes, and the metadata that they serve (RFC 9728)."""

from collections.abc import Iterator
from typing import Any

from chalicelib.clients.metadata import is_resource_server
from chalicelib.clients.resources import check_resource
from chalicelib.keys import signing
from chalicelib.protocol.errors import OAuthError
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.resource_uris import normalize
from chalicelib.protocol.scopes import SCOPES
from chalicelib.storage.store import Store
from infra.operator.doctor.findings import Finding, Verdict, judge, skipped
from infra.operator.doctor.visit import Unreachable, ask
from infra.operator.protected_resource import metadata_url

_ANY = "Every application gets access tokens for it, with every scope (RFC 9700 §2.3)."


def inspect(store: Store, issuer: str | None) -> Iterator[Finding]:
    """Yield the findings about each resource, and about each client that is one without a record."""
    resources = sorted(store.resources.scan(), key=lambda resource: resource.uri)
    ids = {resource.resource_id for resource in resources}
    for resource in resources:
        name = f"resource {resource.uri}"
        for verdict in (_registration(resource, store), _scopes(resource), _metadata(resource, issuer)):
            yield Finding(name, verdict.ok, verdict.detail, verdict.fix)
    for client in sorted(store.clients.scan(), key=lambda client: client.client_id):
        enabled = is_resource_server(client.client_id) and client.disabled_at is None
        if enabled and normalize(client.client_id) not in ids:
            fix = "Run `signet resource migrate`, then set its scopes: `signet resource update … --scope …`."
            yield Finding(f"resource {client.client_id}", False, f"It has no record. {_ANY}", fix)


def _registration(resource: Resource, store: Store) -> Verdict:
    try:
        check_resource(resource, signing.algorithms(store.settings))
    except OAuthError as error:
        return Verdict(False, error.description, "Change the named value: `signet resource update …`.")
    return Verdict(True, "Its registration is valid.")


def _scopes(resource: Resource) -> Verdict:
    problems = [] if resource.scopes else [f"It has no scopes. {_ANY.rstrip('.')}"]
    return judge(problems, f"Its scopes: {resource.scope}.", "`signet resource update … --scope …`.")


def _metadata(resource: Resource, issuer: str | None) -> Verdict:
    url = metadata_url(resource.uri)
    try:
        answer = ask("GET", url, headers={"Accept": "application/json"})
    except Unreachable as error:
        return skipped(f"Its metadata (RFC 9728) cannot be read: {error}")
    if answer.status != 200 or not answer.members:
        return skipped(f"It serves no metadata (RFC 9728): {url} has status {answer.status}.")
    problems = list(_mismatches(answer.members, resource, issuer))
    fix = f"Serve what `signet resource show {resource.uri} --protected-resource-metadata` prints."
    return judge(problems, f"Its metadata at {url} matches.", fix)


def _mismatches(served: dict[str, Any], resource: Resource, issuer: str | None) -> Iterator[str]:
    """Yield in what the metadata that a resource serves differs from its record."""
    if served.get("resource") != resource.uri:
        yield f"Its metadata names the resource {served.get('resource')!r}"
    servers, scopes = served.get("authorization_servers"), served.get("scopes_supported", [])
    if issuer and (not isinstance(servers, list) or issuer not in servers):
        yield f"Its metadata does not name the authorization server {issuer}, but {servers!r}"
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        yield "Its scopes_supported are no list of scopes"
    elif resource.scopes and (unknown := sorted(set(scopes) - resource.scopes - SCOPES.keys())):
        yield f"Its metadata names scopes that are not registered for it: {' '.join(unknown)}"
