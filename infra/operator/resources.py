"""`signet resource …`: protected resources, such as APIs and MCP servers, which access tokens are for (RFC 8707)."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

import click

from chalicelib import events
from chalicelib.clients.metadata import is_resource_server
from chalicelib.clients.resources import create_resource, update_resource
from chalicelib.keys import signing
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.resource_uris import normalize
from chalicelib.storage.store import Store
from infra.operator.commands import (
    CommandError,
    confirm,
    example,
    json_option,
    not_found,
    open_store,
    present_members,
    record_event,
    yes_option,
)
from infra.operator.doctor.inside import public_url
from infra.operator.joined_values import ListChoice, edit_list, reject_joined_values
from infra.operator.protected_resource import metadata_document
from infra.operator.terminal import print_json, print_list, print_record, visible

F = TypeVar("F", bound=Callable[..., Any])
_UNSET = ("scope", "access-token-lifetime", "access-token-signed-response-alg")
_OPTIONS = (
    click.option("--name", help="The name that the consent page shows."),
    click.option(
        "--scope",
        callback=reject_joined_values,
        help="The scopes that it understands, separated by spaces. Without any, it accepts every client and scope.",
    ),
    click.option(
        "--access-token-lifetime", type=int, metavar="SECONDS", help="Overrides the server setting for its tokens."
    ),
    click.option(
        "--access-token-signed-response-alg",
        type=click.Choice(signing.ALGORITHMS),
        help="Signature algorithm of its access tokens, by default that of the client.",
    ),
)


def _options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def resource() -> None:
    """Register, change and remove APIs and MCP servers, which applications name as `resource`."""


@resource.command(
    "create",
    epilog=example('resource create https://api.example.com/photos --name "Photo API" --scope "photos.read"'),
)
@click.argument("uri")
@_options
@json_option
@click.pass_obj
def create_resource_(stage: str, /, uri: str, as_json: bool, **values: Any) -> None:
    """Register the API with this URI. Its access tokens have the URI as audience, and only its scopes."""
    with open_store(stage) as store:
        created = create_resource(store, uri, **_given(values))
        record_event(store, events.RESOURCE_CHANGED, resource=created, detail="created")
    _warn_without_scopes(created)
    print_record(resource_document(created), as_json)


@resource.command("migrate", epilog=example("resource migrate"))
@json_option
@click.pass_obj
def migrate_resources(stage: str, /, as_json: bool) -> int:
    """Create a resource for each client whose client_id is a URI, as APIs were registered before.

    The resources have no scopes, so that every application gets tokens for them as before. Their clients stay, to
    introspect tokens.
    """
    created, problems = [], []
    with open_store(stage) as store:
        ids = {resource.resource_id for resource in store.all_resources()}
        for client in sorted(store.clients.scan(), key=lambda client: client.client_id):
            if not is_resource_server(client.client_id) or normalize(client.client_id) in ids:
                continue
            try:
                created.append(create_resource(store, client.client_id))
            except InvalidClientMetadata as error:
                problems.append(error.description)
                continue
            ids.add(created[-1].resource_id)
            record_event(store, events.RESOURCE_CHANGED, resource=created[-1], detail="migrated")
    for problem in problems:
        click.echo(visible(problem), err=True)
    _show_list(created, as_json, "No client is left to migrate.")
    return 1 if problems else 0


@resource.command("list", epilog=example("resource list"))
@json_option
@click.pass_obj
def list_resources(stage: str, /, as_json: bool) -> None:
    """List the resources."""
    with open_store(stage) as store:
        resources = store.all_resources()
    _show_list(resources, as_json, "No resource is registered.")


@resource.command(
    "show",
    epilog=example(
        "resource show https://api.example.com/photos",
        "resource show https://api.example.com/photos --protected-resource-metadata",
    ),
)
@click.argument("uri")
@click.option(
    "--protected-resource-metadata", "metadata", is_flag=True, help="Print the JSON that it should serve (RFC 9728)."
)
@json_option
@click.pass_obj
def show_resource(stage: str, /, uri: str, metadata: bool, as_json: bool) -> None:
    """Show one resource."""
    with open_store(stage) as store:
        resource = find_resource(store, uri)
        issuer = public_url(store) if metadata else None
    if not metadata:
        print_record(resource_document(resource), as_json)
    elif issuer:
        print_json(metadata_document(resource, issuer))
    else:
        raise CommandError("The issuer of the stage is unknown: deploy it first.")


@resource.command(
    "update",
    epilog=example(
        "resource update https://api.example.com/photos --add-scope photos.write --access-token-lifetime 300",
        "resource update https://api.example.com/photos --unset access-token-lifetime",
    ),
)
@click.argument("uri")
@_options
@click.option("--add-scope", multiple=True, callback=reject_joined_values, help="Add this scope (may be repeated).")
@click.option(
    "--remove-scope", multiple=True, callback=reject_joined_values, help="Remove this scope (may be repeated)."
)
@click.option(
    "--unset",
    multiple=True,
    type=ListChoice(_UNSET),
    metavar="MEMBER",
    help=f"Remove the value of this member (may be repeated): {', '.join(_UNSET)}.",
)
@json_option
@click.pass_obj
def update_resource_(
    stage: str,
    /,
    uri: str,
    add_scope: tuple[str, ...],
    remove_scope: tuple[str, ...],
    unset: tuple[str, ...],
    as_json: bool,
    **values: Any,
) -> None:
    """Change the given members and no others. The change takes effect within a minute."""
    members = _given(values)
    removed: dict[str, Any] = {name.replace("-", "_"): "" if name == "scope" else None for name in unset}
    if both := sorted(set(members) & set(removed)):
        raise click.UsageError(f"{both[0]} is both set and unset.")
    if not (members or removed or add_scope or remove_scope):
        raise click.UsageError("Give at least one option to change; --help lists them.")

    def change(current: Resource) -> Resource:
        changed = replace(current, **members, **removed)
        scopes = edit_list(changed.scope.split(), add_scope, remove_scope, f"a scope of {uri}")
        if remove_scope and not scopes:
            raise CommandError("Without any scope, it would accept every scope. For this, use --unset scope.")
        return replace(changed, scope=" ".join(scopes))

    with open_store(stage) as store:
        resource = find_resource(store, uri)
        changed = update_resource(store, resource, change)
        before, after = asdict(resource), asdict(changed)
        names = sorted(name for name in after if after[name] != before[name])
        if names:
            record_event(store, events.RESOURCE_CHANGED, resource=changed, detail="updated: " + ", ".join(names))
    _warn_without_scopes(changed)
    print_record(resource_document(changed), as_json)


@resource.command("delete", epilog=example("resource delete https://api.example.com/photos --yes"))
@click.argument("uri")
@yes_option
@json_option
@click.pass_obj
def delete_resource(stage: str, /, uri: str, yes: bool, as_json: bool) -> None:
    """Remove a resource: within a minute, no access token is issued for it. Those issued are valid until they expire.

    A client whose client_id is its URI must be deleted first: it would be a resource for every scope again.
    """
    with open_store(stage) as store:
        resource = find_resource(store, uri)
        if store.clients.get(resource.uri):
            raise CommandError(
                f"Delete its client first: signet client delete {resource.uri}. "
                "Without this record, it would be a resource that accepts every scope."
            )
        confirm(f"Remove {resource.name} ({resource.uri})? Applications then get no access token for it.", yes)
        store.resources.delete(resource.resource_id)
        record_event(store, events.RESOURCE_CHANGED, resource=resource, detail="deleted")
    if as_json:
        print_json(resource_document(resource))
    else:
        click.echo(f"Removed {resource.uri}.")


def resource_document(resource: Resource) -> dict[str, Any]:
    """Return the members of a resource that have a value."""
    return present_members(asdict(resource), "resource_id")


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def find_resource(store: Store, uri: str) -> Resource:
    """Return the resource that a URI names, in any spelling. Raises CommandError."""
    resource = store.resources.get(normalize(uri))
    if resource is None:
        raise not_found("resource", uri, (other.uri for other in store.all_resources()))
    return resource


def _show_list(resources: list[Resource], as_json: bool, empty: str) -> None:
    def row(resource: Resource) -> tuple[str, ...]:
        return resource.uri, resource.name, resource.scope

    print_list(resources, as_json, resource_document, ("URI", "NAME", "SCOPE"), row, empty)


def _warn_without_scopes(resource: Resource) -> None:
    if not resource.scopes:
        text = f"Warning: {resource.uri} has no scopes, so every application gets access tokens for it."
        click.echo(visible(text), err=True)
