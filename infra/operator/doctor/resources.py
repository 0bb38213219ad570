"""The checks of the registered resources: their scopes, and the metadata that they serve (RFC 9728)."""

from collections.abc import Iterator
from typing import Any

from chalicelib.clients.authorization_types import check_type
from chalicelib.clients.metadata import is_resource_server
from chalicelib.clients.resources import check_resource
from chalicelib.keys import signing
from chalicelib.protocol.authorization_type import AuthorizationType, is_type_key
from chalicelib.protocol.client import Client
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
    # By a scan that is visible here: the policy of the command is made from this text.
    scanned = (resource for resource in store.resources.scan() if not is_type_key(resource.resource_id))
    resources = sorted(scanned, key=lambda resource: resource.uri)
    ids = {resource.resource_id for resource in resources}
    for resource in resources:
        name = f"resource {resource.uri}"
        for verdict in (_registration(resource, store), _scopes(resource), _metadata(resource, issuer)):
            yield Finding(name, verdict.ok, verdict.detail, verdict.fix)
    clients = sorted(store.clients.scan(), key=lambda client: client.client_id)
    yield from _authorization_types(store, clients, {resource.uri for resource in resources})
    for client in clients:
        enabled = is_resource_server(client.client_id) and client.disabled_at is None
        if enabled and normalize(client.client_id) not in ids:
            fix = "Run `signet resource migrate`, then set its scopes: `signet resource update … --scope …`."
            yield Finding(f"resource {client.client_id}", False, f"It has no record. {_ANY}", fix)


def _authorization_types(store: Store, clients: list[Client], uris: set[str]) -> Iterator[Finding]:
    """Yield the findings about each type of authorization details, and about types of clients without a record."""
    types = {type_.name: type_ for type_ in store.all_authorization_types()}
    for name, type_ in types.items():
        problems = list(filter(None, [_problem_with(type_)]))
        if type_.uri and type_.uri not in uris:
            problems.append(f"Its resource {type_.uri} is not registered, so every request for it is rejected")
        if not type_.members:
            problems.append("It has no members, so it says no more than a scope")
        verdict = judge(problems, f"Its members: {' '.join(type_.labels)}.", "`signet authorization-type set …`.")
        yield Finding(f"authorization type {name}", verdict.ok, verdict.detail, verdict.fix)
    for client in clients:
        if unknown := [name for name in sorted(client.details_types) if name not in types]:
            fix = "Register it with `signet authorization-type set …`, or remove it from the client."
            detail = f"It may ask for the type {unknown[0]}, which is not registered."
            yield Finding(f"client {client.client_id}", False, detail, fix)


def _problem_with(type_: AuthorizationType) -> str:
    try:
        check_type(type_)
    except OAuthError as error:
        return error.description.rstrip(".")
    return ""


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
