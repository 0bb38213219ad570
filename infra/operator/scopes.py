"""`signet scope …`: descriptions of the operator's own scopes for the consent page."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib.clients.resources import check_scope
from chalicelib.protocol.records import Scope
from infra.operator.commands import confirm, example, json_option, not_found, open_store, yes_option
from infra.operator.terminal import print_json, print_list, print_record


@click.group()
def scope() -> None:
    """Describe your own scopes. Set the scopes that a client may request with `client`."""


@scope.command("set", epilog=example('scope set photos.read "See your photos"'))
@click.argument("name")
@click.argument("description")
@json_option
@click.pass_obj
def set_scope(stage: str, /, name: str, description: str, as_json: bool) -> None:
    """Set the description of a scope. The consent page shows it after "It will be able to"."""
    scope = Scope(name, description)
    check_scope(scope)
    with open_store(stage) as store:
        store.scopes.put(scope)
    print_record(_document(scope), as_json)


@scope.command("list", epilog=example("scope list"))
@json_option
@click.pass_obj
def list_scopes(stage: str, /, as_json: bool) -> None:
    """List the described scopes. The standard scopes have built-in descriptions."""
    with open_store(stage) as store:
        scopes = sorted(store.scopes.scan(), key=lambda scope: scope.scope)

    def row(scope: Scope) -> tuple[str, ...]:
        return scope.scope, scope.description

    print_list(scopes, as_json, _document, ("SCOPE", "DESCRIPTION"), row, "No scope is described.")


@scope.command("delete", epilog=example("scope delete photos.read --yes"))
@click.argument("name")
@yes_option
@json_option
@click.pass_obj
def delete_scope(stage: str, /, name: str, yes: bool, as_json: bool) -> None:
    """Remove the description of a scope. Clients may still request it; the consent page shows its name."""
    with open_store(stage) as store:
        scope = store.scopes.get(name)
        if scope is None:
            raise not_found("described scope", name, (scope.scope for scope in store.scopes.scan()))
        confirm(f"Remove the description of {name}?", yes)
        store.scopes.delete(name)
    if as_json:
        print_json(_document(scope))
    else:
        click.echo(f"Removed {name}.")


def _document(scope: Scope) -> dict[str, Any]:
    return asdict(scope)
