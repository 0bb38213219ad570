"""The groups of a user in `user create`, `user update` and `user list`, and custom claims that no scope releases."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from chalicelib.protocol.custom_claims import is_custom_claim
from chalicelib.protocol.records import User
from chalicelib.storage.store import Store
from chalicelib.users.accounts import CLAIMS
from infra.operator.commands import did_you_mean
from infra.operator.joined_values import edit_list
from infra.operator.terminal import visible

F = TypeVar("F", bound=Callable[..., Any])
NAMES = ("groups", "add_groups", "remove_groups")


def group_option(meaning: str) -> Callable[[F], F]:
    """Return the option `--group`, which may be repeated."""
    return click.option("--group", "groups", multiple=True, metavar="GROUP", help=meaning)


def group_change_options(command: F) -> F:
    """Add the options of `user update` to a command: the whole list, or single groups."""
    for option in (
        click.option("--remove-group", "remove_groups", multiple=True, metavar="GROUP", help="Remove one of them."),
        click.option("--add-group", "add_groups", multiple=True, metavar="GROUP", help="Add a group to them."),
        group_option('A group of the user; may be repeated, and sets all of them. "" alone removes all.'),
    ):
        command = option(command)
    return command


def take_changes(values: dict[str, Any]) -> Callable[[User], frozenset[str]] | None:
    """Take the groups out of the values of the options; return how they change those of a user, None if they do not.

    Raises click.UsageError when the whole list and single groups are given.
    """
    groups, add, remove = (values.pop(name) for name in NAMES)
    if groups and (add or remove):
        raise click.UsageError("--group sets all groups: do not give --add-group or --remove-group with it.")
    if not (groups or add or remove):
        return None

    def change(user: User) -> frozenset[str]:
        if groups:
            return frozenset(groups) if groups != ("",) else frozenset()
        return frozenset(edit_list(sorted(user.groups), add, remove, f"a group of {user.username}"))

    return change


def warn_of_unreleased(store: Store, names: Iterable[str]) -> None:
    """Say on standard error which custom claims no scope releases: a name may be misspelled."""
    if custom := {name for name in names if is_custom_claim(name)}:
        released = frozenset[str]().union(*(scope.claims for scope in store.scopes.scan()))
        for name in sorted(custom - released):
            hint = did_you_mean(name, CLAIMS)
            click.echo(f"No scope releases the claim {visible(name)} yet: `signet scope set` names it.{hint}", err=True)
