"""How the operator's command shows things: tables and records for people, JSON for programs.

What people have chosen (names, descriptions, addresses) never reaches the terminal as it is where it could do
something there: control and bidirectional characters are shown by their numbers, in JSON by its own escapes.
"""

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

_JOINERS = "\u200c\u200d"  # Persian words, Indic letters and many emoji are written with these
# Control, format (bidirectional ones too), surrogate, line and paragraph separator.
_HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")
_WIDE = ("W", "F")


def visible(text: str) -> str:
    """A text that does nothing to a terminal: what would is written by its number, such as `\\u202e`."""
    return "".join(_escaped(character) if _harmful(character) else character for character in text)


def _harmful(character: str) -> bool:
    return unicodedata.category(character) in _HARMFUL and character not in _JOINERS


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\U{number:08x}" if number > 0xFFFF else f"\\u{number:04x}"


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: 2 for a wide character, 0 for one that joins the one before."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me") or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def show(members: dict[str, Any], as_json: bool) -> None:
    """Print one record: JSON, or a line for each member that has a value, and for each value of a list."""
    if as_json:
        print_json(members)
        return
    lines = {visible(name): found for name, value in members.items() if (found := _lines(name, value))}
    width = max(map(columns, lines))
    for name, (first, *more) in lines.items():
        click.echo(f"{click.style(name, bold=True)}{' ' * (width - columns(name))}  {first}")
        for line in more:
            click.echo(f"{'':{width}}  {line}")


def _lines(name: str, value: Any) -> list[str]:
    """A value as people read it."""
    match value:
        case bool():
            return ["yes" if value else "no"]
        case int() if name.endswith("_at"):
            return [time_text(value)]
        case tuple() | list():
            return [visible(str(one)) for one in value]
        case dict():
            return [json_text(value)]
    return [visible(str(value))]


def time_text(seconds: int | None) -> str:
    """A time as people read it; nothing for none, and the number where no calendar reaches."""
    try:
        return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(" ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, **form: Any) -> str:
    """A value as JSON that does nothing to a terminal, a set in a stable order. `form`: how `json.dumps` writes it."""
    text = json.dumps(value, ensure_ascii=False, default=sorted, **form)
    # Outside its strings, JSON has no harmful character but the line feeds of the indentation.
    return re.sub(r"[^\n\x20-\x7e]", lambda found: _json_escaped(found[0]), text)


def _json_escaped(character: str) -> str:
    if not _harmful(character):
        return character
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], none: str) -> None:
    """Print rows under a head, in columns, a screenful at a time if there are more; `none` when there are none."""
    if not rows:
        click.echo(none)
        return
    cells = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(columns, column)) for column in zip(head, *cells, strict=True)]
    _print_lines([click.style(_row(head, widths), bold=True), *(_row(row, widths) for row in cells)])


def _row(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(map(_padded, row, widths)).rstrip()


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def _print_lines(lines: Iterable[str]) -> None:
    """Print lines; through the pager when a person reads them and they are more than the screen holds."""
    lines = list(lines)
    if sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
        click.echo_via_pager("\n".join(lines) + "\n")
    else:
        click.echo("\n".join(lines))
