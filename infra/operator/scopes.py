"""`signet scope …`: the operator's own scopes: their descriptions for the consent page, and the claims they release."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib.clients.resources import check_scope
from chalicelib.protocol.own_scope import DESTINATIONS, Scope
from chalicelib.storage.store import Store
from infra.operator.commands import confirm, example, json_option, not_found, open_store, present_members, yes_option
from infra.operator.joined_values import ListChoice
from infra.operator.terminal import print_json, print_list, print_record


@click.group()
def scope() -> None:
    """Describe your own scopes. Set the scopes that a client may request with `client`."""


@scope.command(
    "set",
    epilog=example(
        'scope set photos.read "See your photos"',
        'scope set staff "See your department" --claim department --claims-in id_token --claims-in userinfo',
    ),
)
@click.argument("name")
@click.argument("description")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="CLAIM",
    help='A claim about the user that the scope releases; may be repeated, and sets all of them. "" alone removes all.',
)
@click.option(
    "--claims-in",
    "claims_in",
    multiple=True,
    type=ListChoice([*DESTINATIONS, "default"]),
    help="Where the claims are; may be repeated. By default at UserInfo, and in the ID tokens of clients with "
    "--id-token-claims-from-scope.",
)
@click.option(
    "--acr", help='What a sign-in must reach to get this scope, such as https://refeds.org/profile/mfa. "" removes it.'
)
@json_option
@click.pass_obj
def set_scope(
    stage: str,
    /,
    name: str,
    description: str,
    claims: tuple[str, ...],
    claims_in: tuple[str, ...],
    acr: str | None,
    as_json: bool,
) -> None:
    """Set the description of a scope, the claims that it releases, and the sign-in that it needs.

    The consent page shows the description after "It will be able to". Without --claim, --claims-in and --acr, an
    existing scope keeps what it has. A running server follows within a minute.
    """
    changes: dict[str, Any] = {"description": description}
    if claims:
        changes["claims"] = frozenset(claims) if claims != ("",) else frozenset()
    if claims_in:
        changes["claims_in"] = frozenset(claims_in) - {"default"}
    if acr is not None:
        changes["acr"] = acr or None
    check_scope(Scope(name, **changes))
    with open_store(stage) as store:
        print_record(_document(_set(store, name, changes)), as_json)


def _set(store: Store, name: str, changes: dict[str, Any]) -> Scope:
    """Create or change a scope by one write, and return its record."""
    removed = tuple(field for field, value in changes.items() if not value)
    set_ = {field: value for field, value in changes.items() if value}
    changed = store.scopes.write(store.scopes.changing((name,), None, set_, remove=removed, create=True))
    assert isinstance(changed, Scope)  # noqa: S101  without a condition, it is not refused
    return changed


@scope.command("list", epilog=example("scope list"))
@json_option
@click.pass_obj
def list_scopes(stage: str, /, as_json: bool) -> None:
    """List the described scopes. The standard scopes have built-in descriptions."""
    with open_store(stage) as store:
        scopes = sorted(store.scopes.scan(), key=lambda scope: scope.scope)

    def row(scope: Scope) -> tuple[str, ...]:
        return scope.scope, scope.description, " ".join(sorted(scope.claims)), " ".join(sorted(scope.claims_in))

    head = ("SCOPE", "DESCRIPTION", "CLAIMS", "CLAIMS IN")
    print_list(scopes, as_json, _document, head, row, "No scope is described.")


@scope.command("delete", epilog=example("scope delete photos.read --yes"))
@click.argument("name")
@yes_option
@json_option
@click.pass_obj
def delete_scope(stage: str, /, name: str, yes: bool, as_json: bool) -> None:
    """Remove the description of a scope, and release no claims for it.

    Clients may still request it; the consent page shows its name.
    """
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
    """Return the members of a scope; its claims only if it releases any."""
    sets = {name: sorted(value) for name in ("claims", "claims_in") if (value := getattr(scope, name))}
    return present_members(asdict(scope), "claims", "claims_in") | sets
