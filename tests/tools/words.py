"""`python -m tests.tools.words [PATH…]`: words that the project's language avoids, with their places.

Checks names, docstrings and comments of all Python files, the strings of the product (users read them), and the whole
text of documents, templates and scripts.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("chalicelib", "infra", "tests", "docs")
SINGLE = ("app.py", "Makefile", "pyproject.toml", ".ci/run", ".pre-commit-config.yaml")
TEXT_SUFFIXES = {".md", ".html", ".css", ".js", ".mjs", ".sh", ".yaml", ".yml", ".toml"}
# This list itself, and texts that are generated or written by others.
EXCLUDED = ("tests/tools/words.py", "tests/architecture/test_words.py", "LICENSE")
# word or phrase (a regular expression) -> what to write instead
AVOIDED = {
    r"born|(?<!date of )births?": "created, creation",
    r"whoever|nobody|somebody|anybody|everybody": "a caller, no client, another user, any user",
    r"of late|any more|meanwhile|once and for all|ever so|nor is|no sooner": "recently, no longer, in between",
    r"lies in|lie in|lies outside|stands (?:in|under|for itself|there)|stand (?:in|under)": "is stored in, listed in",
    r"dear(?:er|ly)?": "expensive",
    r"of ours|of nobody|of somebody|of one's own": "issued by this server, own, unauthenticated",
    r"worth nothing|counts? for nothing|opens? nothing|begins? nothing": "invalid, rejected",
    r"minds?|cured?|cures|keeps? away|shall be gone|shall": "handle, fix, block, is deleted",
    r"goals?": "target",
    r"strangers?|newcomers?|ground|wishe?s?|wished|house|without a word|tempers?": "say who or what it is",
    r"e-mails?": "email",
    r"such as it is|for good|at all times|ere|thereof|therein|hence|alas|forthwith": "a plain word",
    r"noted|notes down|writes? down": "record, log",
    r"but for|all the same|sees? to it|no more(?! than)|hears? of|goes without": "except, still, no longer, receives",
}
# Names that do not say what the value is.
UNCLEAR_NAMES = {"known", "found", "wanted", "made", "said", "one", "here", "born", "told", "asked", "wish", "others"}
_AVOIDED = re.compile(r"(?<![\w-])(?:" + "|".join(AVOIDED) + r")(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True)
class Violation:
    """A word to avoid: its file, line, and what it is."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def in_text(text: str) -> Iterator[tuple[int, str]]:
    """Yield the words to avoid in a text, with their lines."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _AVOIDED.finditer(line):
            yield number, match[0]


def in_name(name: str) -> Iterator[str]:
    """Yield the words to avoid in an identifier: the unclear name itself, or parts between underscores."""
    if name in UNCLEAR_NAMES:
        yield name
    for match in _AVOIDED.finditer(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")):
        yield f"{match[0]} (in {name})"


def in_python(source: str, *, all_strings: bool) -> Iterator[tuple[int, str]]:
    """Yield the words to avoid in Python source: names, comments, docstrings, and with `all_strings` every string."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and ast.get_docstring(node) is not None
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type == tokenize.NAME:
            yield from ((line, word) for word in in_name(token.string))
        elif token.type == tokenize.COMMENT or (token.type == tokenize.STRING and (all_strings or line in docstrings)):
            yield from ((line + offset - 1, word) for offset, word in in_text(token.string))


def in_file(path: Path) -> list[Violation]:
    """Return the words to avoid in one file."""
    relative = path.relative_to(ROOT).as_posix()
    text = path.read_text("utf-8")
    places = in_python(text, all_strings=not relative.startswith("tests/")) if path.suffix == ".py" else in_text(text)
    return [Violation(relative, line, word) for line, word in places]


def files(paths: list[Path] | None = None) -> Iterator[Path]:
    """Yield the files to check: those of the project, or those below `paths`."""
    roots = paths or [*(ROOT / folder for folder in FOLDERS), *ROOT.glob("*.md"), *(ROOT / name for name in SINGLE)]
    for root in roots:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if {"node_modules", ".venv"} & {*path.parts}:
                continue
            relative = path.resolve().relative_to(ROOT).as_posix()
            checked = path.suffix == ".py" or path.suffix in TEXT_SUFFIXES or path.name in ("Makefile", "run")
            if path.is_file() and checked and relative not in EXCLUDED:
                yield path.resolve()


def main() -> int:
    """Print the words to avoid; the exit code is 1 when there are some."""
    violations = [violation for path in files([Path(name) for name in sys.argv[1:]]) for violation in in_file(path)]
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
