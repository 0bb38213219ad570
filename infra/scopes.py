"""`python -m infra scope …`: what the operator's own scopes mean, in words for the consent page."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib.models import Scope
from chalicelib.registration import check_scope
from infra.commands import as_json, confirm, example, storage, unknown, yes
from infra.terminal import print_json, print_table, show


@click.group()
def scope() -> None:
    """Say what your own scopes mean. Which of them a client may ask for is said by `client`."""


@scope.command("set", epilog=example('scope set photos.read "See your photos"'))
@click.argument("name")
@click.argument("description")
@as_json
@click.pass_obj
def set_scope(stage: str, /, name: str, description: str, as_json: bool) -> None:
    """Describe a scope, or describe it anew. People read DESCRIPTION after "It would be able to"."""
    wanted = Scope(name, description)
    check_scope(wanted)
    with storage(stage) as store:
        store.scopes.put(wanted)
    show(_document(wanted), as_json)


@scope.command("list", epilog=example("scope list"))
@as_json
@click.pass_obj
def list_scopes(stage: str, /, as_json: bool) -> None:
    """List the scopes that are described. The standard ones describe themselves."""
    with storage(stage) as store:
        found = sorted(store.scopes.scan(), key=lambda scope: scope.scope)
    if as_json:
        print_json([_document(one) for one in found])
        return
    print_table(("SCOPE", "DESCRIPTION"), [(one.scope, one.description) for one in found], "No scope is described.")


@scope.command("delete", epilog=example("scope delete photos.read --yes"))
@click.argument("name")
@yes
@as_json
@click.pass_obj
def delete_scope(stage: str, /, name: str, yes: bool, as_json: bool) -> None:
    """Remove the description of a scope. Clients that may ask for it still may; the page then shows its name."""
    with storage(stage) as store:
        found = store.scopes.get(name)
        if found is None:
            raise unknown("described scope", name, (one.scope for one in store.scopes.scan()))
        confirm(f"Remove the description of {name}?", yes)
        store.scopes.delete(name)
    if as_json:
        print_json(_document(found))
    else:
        click.echo(f"Removed {name}.")


def _document(scope: Scope) -> dict[str, Any]:
    return asdict(scope)
