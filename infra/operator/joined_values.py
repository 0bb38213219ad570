"""Options for lists. Values that are joined by commas, or two URIs in one option, are rejected with a hint."""

import re
from collections.abc import Sequence
from typing import Any

import click

from infra.operator.commands import CommandError, did_you_mean

_REPEAT = "Repeat the option for each value"
_SCOPES = ("scope", "default_scope", "add_scope", "remove_scope")
_NAMES = ("authorization_details_types",)
_URIS = ("redirect_uris", "post_logout_redirect_uris", "allowed_origins")
# Two URIs: the separator, and the scheme of the second one.
_JOINED_URIS = re.compile(r"\s|[,;][A-Za-z][A-Za-z0-9+.-]*:")


class ListChoice(click.Choice[str]):
    """A choice of an option that may be repeated."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value. Raises click.BadParameter, with a hint when it is a list of values."""
        if isinstance(value, str) and "," in value:
            self.fail(f"{value!r} is a list. {_REPEAT}.", param, ctx)
        return super().convert(value, param, ctx)


def edit_list(before: Sequence[str], add: Sequence[str], remove: Sequence[str], what: str) -> tuple[str, ...]:
    """Return a list without the values to remove, and with those to add, each once.

    Raises CommandError when a value to remove is not in it. `what` says what it is not, such as "a scope of demo".
    """
    for value in remove:
        if value not in before:
            raise CommandError(f"{value} is not {what}.{did_you_mean(value, before)}")
    return tuple(dict.fromkeys([*(value for value in before if value not in remove), *add]))


def reject_joined_values(_context: click.Context, option: click.Parameter, given: Any) -> Any:
    """Return what was given, as a callback of an option. Raises click.BadParameter for joined scopes or URIs."""
    name, values = option.name or "", given if isinstance(given, tuple) else (given,)
    texts = [value for value in values if isinstance(value, str)]
    if name in _SCOPES:
        for text in texts:
            if "," in text:
                raise click.BadParameter(f"{text!r} has a comma. Separate the scopes by spaces, in quotation marks.")
    elif name.removeprefix("add_") in _NAMES:
        for text in texts:
            if "," in text and "://" not in text:
                raise click.BadParameter(f"{text!r} is more than one value. {_REPEAT}.")
    elif name.removeprefix("add_").removeprefix("remove_") in _URIS:
        for text in texts:
            if _JOINED_URIS.search(text.strip()):
                raise click.BadParameter(f"{text!r} is more than one value. {_REPEAT}.")
    return given
