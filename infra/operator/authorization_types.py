"""`signet authorization-type …`: the types of authorization details that applications may ask for (RFC 9396)."""

from dataclasses import replace
from typing import Any

import click

from chalicelib.clients.authorization_types import check_type
from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from infra.operator.commands import confirm, example, json_option, not_found, open_store, yes_option
from infra.operator.resources import find_resource
from infra.operator.terminal import print_json, print_list, print_record


@click.group("authorization-type")
def authorization_type() -> None:
    """Register the types of authorization details, by which applications ask for single permissions (RFC 9396)."""


@authorization_type.command(
    "set",
    epilog=example(
        'authorization-type set payment "Make a payment" --member "amount=Amount" --member creditorName '
        "--required amount",
        'authorization-type set album "Read one of your albums" --member identifier --member actions',
    ),
)
@click.argument("name")
@click.argument("text")
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="NAME[=LABEL]",
    help='A member that its objects may have, with a label for users; may be repeated, and sets all of them. "" alone '
    "removes all.",
)
@click.option(
    "--required",
    multiple=True,
    metavar="NAME",
    help='A member that its objects must have; may be repeated, and sets all of them. "" alone removes all.',
)
@click.option(
    "--resource",
    "uri",
    metavar="URI",
    help='The resource whose access tokens alone carry such details. "" removes it.',
)
@click.option(
    "--self-registered/--no-self-registered",
    default=None,
    help="Allow it to clients that register themselves.",
)
@json_option
@click.pass_obj
def set_type(
    stage: str,
    /,
    name: str,
    text: str,
    members: tuple[str, ...],
    required: tuple[str, ...],
    uri: str | None,
    self_registered: bool | None,
    as_json: bool,
) -> None:
    """Set what users read about a type, and the members that its objects may have.

    The consent page shows TEXT after "It asks for your permission to", and below it each member with its values. An
    existing type keeps what no option changes. A running server follows within a minute.
    """
    with open_store(stage) as store:
        changes: dict[str, Any] = {"text": text}
        if members:
            changes["members"] = tuple(filter(None, members))
        if required:
            changes["required"] = frozenset(filter(None, required))
        if uri is not None:
            changes["uri"] = find_resource(store, uri).uri if uri else ""
        if self_registered is not None:
            changes["self_registered"] = self_registered
        before = store.authorization_types.get(type_key(name)) if name else None
        type_ = replace(before or AuthorizationType(type_key(name), name), **changes)
        check_type(type_)
        store.authorization_types.put(type_)
    print_record(_document(type_), as_json)


@authorization_type.command("list", epilog=example("authorization-type list"))
@json_option
@click.pass_obj
def list_types(stage: str, /, as_json: bool) -> None:
    """List the registered types."""
    with open_store(stage) as store:
        types = store.all_authorization_types()

    def row(type_: AuthorizationType) -> tuple[str, ...]:
        return type_.name, type_.text, " ".join(type_.labels), type_.uri

    print_list(types, as_json, _document, ("TYPE", "TEXT", "MEMBERS", "RESOURCE"), row, "No type is registered.")


@authorization_type.command("delete", epilog=example("authorization-type delete payment --yes"))
@click.argument("name")
@yes_option
@json_option
@click.pass_obj
def delete_type(stage: str, /, name: str, yes: bool, as_json: bool) -> None:
    """Remove a type: within a minute, no application can ask for it, and no new token carries it.

    Grants stay. If the type is set again, their tokens carry it again.
    """
    with open_store(stage) as store:
        type_ = store.authorization_types.get(type_key(name))
        if type_ is None:
            raise not_found("authorization type", name, (each.name for each in store.all_authorization_types()))
        confirm(f"Remove the authorization type {name}?", yes)
        store.authorization_types.delete(type_key(name))
    if as_json:
        print_json(_document(type_))
    else:
        click.echo(f"Removed {name}.")


def _document(type_: AuthorizationType) -> dict[str, Any]:
    """Return the members of a type that have a value, those of its objects with their labels."""
    members = {
        "name": type_.name,
        "text": type_.text,
        "members": type_.labels,
        "required": sorted(type_.required),
        "resource": type_.uri,
        "self_registered": type_.self_registered,
    }
    return {name: value for name, value in members.items() if value}
