"""Output of the operator's commands: tables and records for people, JSON for programs.

Names, descriptions and addresses may contain characters that control a terminal. Control and bidirectional characters
are always printed as escapes.
"""

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

T = TypeVar("T")

_JOINERS = "\u200c\u200d"  # part of Persian words, Indic letters and many emoji
# Control, format (including bidirectional), surrogate, line and paragraph separator.
_HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")
_WIDE = ("W", "F")


def visible(text: str) -> str:
    """Return the text with characters that control a terminal escaped, such as `\\u202e`."""
    return "".join(_escape(character) if _is_harmful(character) else character for character in text)


def visible_lines(text: str) -> str:
    """Return the same for a text of several lines."""
    return "\n".join(map(visible, text.split("\n")))


def _is_harmful(character: str) -> bool:
    return unicodedata.category(character) in _HARMFUL and character not in _JOINERS


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\U{number:08x}" if number > 0xFFFF else f"\\u{number:04x}"


def display_width(text: str) -> int:
    """Return the number of terminal columns of a text: 2 for a wide character, 0 for a combining one."""
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me") or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def print_record(members: dict[str, Any], as_json: bool) -> None:
    """Print one record: as JSON, or a line for each member that has a value, and for each value of a list."""
    if as_json:
        print_json(members)
        return
    lines = {visible(name): texts for name, value in members.items() if (texts := _lines(name, value))}
    width = max(map(display_width, lines))
    for name, (first, *more) in lines.items():
        click.echo(f"{click.style(name, bold=True)}{' ' * (width - display_width(name))}  {first}")
        for line in more:
            click.echo(f"{'':{width}}  {line}")


def _lines(name: str, value: Any) -> list[str]:
    """Return the lines of a value; none for an empty list."""
    match value:
        case bool():
            return ["yes" if value else "no"]
        case int() if name.endswith("_at"):
            return [time_text(value)]
        case tuple() | list():
            return [visible(str(item)) for item in value]
        case dict():
            return [json_text(value)]
    return [visible(str(value))]


def time_text(seconds: int | None) -> str:
    """Return a time in ISO format, an empty text for None, and the number when it is out of range."""
    try:
        return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(" ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, **options: Any) -> str:
    """Return a value as JSON, without characters that control a terminal and with sets sorted.

    `options` are passed to `json.dumps`.
    """
    text = json.dumps(value, ensure_ascii=False, default=sorted, **options)
    # Outside strings, the only control characters of JSON are the line feeds of the indentation.
    return re.sub(r"[^\n\x20-\x7e]", lambda match: _json_escape(match[0]), text)


def _json_escape(character: str) -> str:
    if not _is_harmful(character):
        return character
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], none: str) -> None:
    """Print rows in columns below a head, or the text `none` when there are no rows."""
    if not rows:
        click.echo(none)
        return
    cells = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(display_width, column)) for column in zip(head, *cells, strict=True)]
    _print_lines([click.style(_row(head, widths), bold=True), *(_row(row, widths) for row in cells)])


def print_list(
    items: Sequence[T],
    as_json: bool,
    document: Callable[[T], dict[str, Any]],
    head: tuple[str, ...],
    row: Callable[[T], tuple[str, ...]],
    none: str,
) -> None:
    """Print records as a JSON list of their documents, or in rows as `print_table`."""
    if as_json:
        print_json([document(item) for item in items])
    else:
        print_table(head, [row(item) for item in items], none)


def _row(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(map(_pad, row, widths)).rstrip()


def _pad(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))


def _print_lines(lines: Iterable[str]) -> None:
    """Print lines; on a terminal, through the pager when there are more than fit the screen."""
    lines = list(lines)
    if sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
        click.echo_via_pager("\n".join(lines) + "\n")
    else:
        click.echo("\n".join(lines))


def progress(items: Iterable[Any], length: int, label: str) -> Any:
    """Return a progress bar on standard error, hidden unless that is a terminal."""
    return click.progressbar(items, length, label, file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True)
