"""Code, documents, pages and the output of commands use plain words: `tests.tools.words` lists those to avoid."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from infra.__main__ import command
from tests.tools import words


def areas() -> dict[str, list[Path]]:
    """Return the files to check, by folder."""
    by_area: dict[str, list[Path]] = {}
    for path in words.files():
        parts = path.relative_to(words.ROOT).parts
        by_area.setdefault("/".join(parts[:2]) if len(parts) > 2 else parts[0] if len(parts) > 1 else ".", []).append(
            path
        )
    return by_area


def commands(group: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and of all its subcommands."""
    yield path
    if isinstance(group, click.Group):
        for name, subcommand in sorted(group.commands.items()):
            yield from commands(subcommand, *path, name)


AREAS = areas()
COMMANDS = sorted(commands(command))


@pytest.mark.parametrize("area", sorted(AREAS))
def test_files_contain_no_words_to_avoid(area: str) -> None:
    violations = [str(violation) for path in AREAS[area] for violation in words.in_file(path)]
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(("signet", *arguments)))
def test_help_of_commands_contains_no_words_to_avoid(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(command, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    assert list(words.in_text(result.output)) == []


def test_words_to_avoid_are_found_in_names_comments_docstrings_and_texts() -> None:
    source = '"""A token is born."""\n# nobody\nfound = goal_of("somebody")\n'
    assert [line for line, _ in words.in_python(source, all_strings=False)] == [1, 2, 3, 3]
    assert [line for line, _ in words.in_python(source, all_strings=True)] == [1, 2, 3, 3, 3]
    assert list(words.in_text("one\nA reminder of a household\nwhoever")) == [(3, "whoever")]
    assert list(words.in_name("redirectGoal")) == ["Goal (in redirectGoal)"]
