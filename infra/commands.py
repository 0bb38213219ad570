"""What the operator's commands share: a stage's data, refusals in one line, and how records are shown."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import click

from chalicelib.settings import Settings
from chalicelib.store import Store
from infra import embedded

as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


class Refusal(click.ClickException):
    """What the operator asked for cannot be done; the text says why."""

    exit_code = 2


@contextmanager
def storage(stage: str) -> Iterator[Store]:
    """The data of a stage: this checkout's embedded database for `local`, AWS for any other.

    Raises StateError, SettingsError.
    """
    settings = Settings.from_environ({**os.environ, "SIGNET_STAGE": stage})
    if stage == embedded.STAGE and settings.embedded:
        with embedded.opened(settings) as opened:
            yield Store(opened)
    else:
        yield Store(replace(settings, embedded=False))


def unknown(kind: str, name: str, known: Iterable[str]) -> Refusal:
    """The refusal that says there is no such thing, and which name it may have been meant to be."""
    near = get_close_matches(name, known, n=1)
    return Refusal(f"There is no {kind} {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))


# ---- how records are shown


def without(members: dict[str, Any], *hidden: str) -> dict[str, Any]:
    """The members that have a value and are not hidden."""
    return {name: value for name, value in members.items() if value is not None and name not in hidden}


def show(members: dict[str, Any], as_json: bool) -> None:
    """Print one record: a line for each member, or JSON."""
    if as_json:
        print_json(members)
        return
    width = max(map(len, members))
    for name, value in members.items():
        print(f"{name:{width}}  {_text(name, value)}")


def time_text(seconds: int | None) -> str:
    """A time as people read it; nothing for none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(" ")


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows under a head, in columns."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _text(name: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_at"):
            return time_text(value)
        case tuple() | frozenset():
            return " ".join(sorted(value) if isinstance(value, frozenset) else value)
    return str(value)
