"""Update the catalogues of translations: `.venv/bin/python -m tests.tools.messages`.

Collects all texts for users, from the templates and from the calls of FUNCTIONS in the code, into a `.po` file for each
language. Translations are kept, texts that are gone are removed, and new ones have no translation yet, so that readers
see them in English. Then the `.mo` files are compiled, the same bytes for the same `.po`. Prints what is wrong with a
translation, such as a value that is missing.
"""

import ast
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from chalicelib.pages.languages import DOMAIN, FOLDER
from chalicelib.protocol.languages import ENGLISH, LANGUAGES

CHECKOUT = Path(__file__).resolve().parents[2]
CODE = CHECKOUT / "chalicelib"
# function -> its arguments that are messages; two of `plural_text` are one message
FUNCTIONS = {"Text": (0,), "plural_text": (0, 1), "user_explanation": (0, 1, 2)}
TRANSLATED = tuple(code for code in LANGUAGES if code != ENGLISH.code)
REVIEWED = "X-Read-By-Native-Speaker"
_REVIEWED = re.compile(rf'^"{REVIEWED}: ([^"\\]*)', re.MULTILINE)
_KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2)}
_OPTIONS = {
    "trimmed": "true",
    "newstyle_gettext": "true",
    "trim_blocks": "true",
    "lstrip_blocks": "true",
    "silent": "false",
}
_WIDTH = 110
_VALUE = re.compile(r"%\(\w+\)s")
_TAG = re.compile(r"</?[a-z][^<>]*>")
_COUNTS = {f"%({name})s" for name in ("n", "num", "count", "days", "total", "left", "pages")}

MessageId = str | tuple[str, str]


@dataclass(frozen=True)
class MarkedText:
    """A message, singular or with its plural form, and the file that has it."""

    message_id: MessageId
    file: str


class OwnCatalog(Catalog):
    """A catalogue whose header has no times and no names, so that it changes only with its content."""

    reviewed = "no"

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        """The header fields."""
        return [
            ("Language", str(self.locale_identifier)),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", self.plural_forms),
            (REVIEWED, self.reviewed),
        ]

    @mime_headers.setter
    def mime_headers(self, _headers: object) -> None:
        """Ignore those of a file: `read` takes what it needs."""


def find_messages() -> list[MarkedText]:
    """Return all messages, each once for every file, in the order of the files."""
    texts: dict[MarkedText, None] = {}
    for path in sorted(CODE.rglob("*")):
        if path.suffix == ".py":
            messages = _of_code(path)
        elif path.suffix in (".html", ".txt") and path.is_relative_to(CODE / "pages"):
            messages = _of_template(path)
        else:
            continue
        texts |= {MarkedText(each, path.relative_to(CHECKOUT).as_posix()): None for each in messages}
    return list(texts)


def _of_code(path: Path) -> Iterator[MessageId]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if not isinstance(node, ast.Call) or name not in FUNCTIONS:
            continue
        arguments = [node.args[index] for index in FUNCTIONS[name] if index < len(node.args)]
        texts = [each.value for each in arguments if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if name == "plural_text":
            singular, plural = texts
            yield singular, plural
        else:
            yield from filter(None, texts)


def _of_template(path: Path) -> Iterator[MessageId]:
    with path.open("rb") as file:
        for _, function, messages, _ in babel_extract(file, list(_KEYWORDS), [], _OPTIONS):
            texts = [messages] if isinstance(messages, str) else [text for text in messages or () if text]
            yield (texts[0], texts[1]) if function == "ngettext" else texts[0]


def po_path(code: str) -> Path:
    """Return the file with the translations of a language."""
    return FOLDER / code / "LC_MESSAGES" / f"{DOMAIN}.po"


def read(code: str) -> OwnCatalog:
    """Return the catalogue of a language as it is in its file; an empty one without a file."""
    path = po_path(code)
    text = path.read_text("utf-8") if path.exists() else ""
    catalog = OwnCatalog(code, DOMAIN, charset="utf-8", fuzzy=False, header_comment=_comment(code))
    for message in read_po(io.StringIO(text), locale=code, ignore_obsolete=True) if text else ():
        if message.id:
            catalog[message.id] = message
    if reviewed := _REVIEWED.search(text):
        catalog.reviewed = reviewed[1]
    return catalog


def updated(code: str) -> OwnCatalog:
    """Return the catalogue of a language with the messages that there are now."""
    old = read(code)
    catalog = OwnCatalog(code, DOMAIN, charset="utf-8", fuzzy=False, header_comment=_comment(code))
    catalog.reviewed = old.reviewed
    for each in find_messages():
        stored = old.get(each.message_id)
        kept = stored if stored and stored.id == each.message_id else None
        # In the order of the first file. A second file adds itself.
        catalog.add(each.message_id, kept.string if kept else None, locations=[(each.file, 1)])
    return catalog


def po_text(catalog: Catalog) -> bytes:
    """Return the text of a `.po` file."""
    file = io.BytesIO()
    write_po(file, catalog, width=_WIDTH, include_lineno=False, ignore_obsolete=True)
    return file.getvalue()


def mo_bytes(catalog: Catalog) -> bytes:
    """Return the compiled catalogue."""
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def is_translated(message: Message) -> bool:
    """Return whether a message has a translation in all its forms."""
    forms = (message.string,) if isinstance(message.string, str) else (message.string or ("",))
    return all(forms)


def problems(catalog: Catalog) -> list[str]:
    """Return what is wrong with the translations that there are: what could break a page, or lose a value.

    A form for one number may leave out `%(n)s`. A translation is put into attributes without being escaped, so it has
    no quotation marks but those in the tags of its message.
    """
    wrong = []
    for message in catalog:
        forms = [message.string] if isinstance(message.string, str) else list(message.string or ())
        if not message.id or not any(forms):
            continue
        if message.fuzzy:
            wrong.append(f"fuzzy: {message.id}")
        ids = (message.id,) if isinstance(message.id, str) else message.id
        expected = catalog.num_plurals if message.pluralizable else 1
        if len(forms) != expected or not all(forms):
            wrong.append(f"{len(list(filter(None, forms)))} of {expected} forms: {message.id}")
        wrong += [f"{text}: {form}" for form in filter(None, forms) for text in _problems_of(ids, form)]
    return wrong


def _problems_of(ids: tuple[str, ...] | list[str], form: str) -> list[str]:
    values, allowed = set(_VALUE.findall(form)), set(_VALUE.findall(ids[-1]))
    optional = allowed if len(ids) > 1 else set[str]()
    checks = {
        "other values": values <= allowed and allowed - values <= optional & _COUNTS,
        "other tags": sorted(_TAG.findall(form)) == sorted(_TAG.findall(ids[-1])),
        "a quotation mark or bracket": not re.search(r'["<>]', _TAG.sub("", form)) or '"' in _TAG.sub("", ids[-1]),
        "a percent sign": "%" not in _VALUE.sub("", form.replace("%%", "")),
        "spaces around it": form.strip() == form or ids[-1].strip() != ids[-1],
    }
    return [text for text, passed in checks.items() if not passed]


def _comment(code: str) -> str:
    return f"# {LANGUAGES[code].name}. Written by tests.tools.messages; translators edit the lines with msgstr."


def write_all() -> None:
    """Write the files of all languages, and say how many messages have no translation yet."""
    for code in TRANSLATED:
        catalog = updated(code)
        path = po_path(code)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(po_text(catalog))
        path.with_suffix(".mo").write_bytes(mo_bytes(catalog))
        messages = [message for message in catalog if message.id]
        missing = sum(not is_translated(message) for message in messages)
        print(f"{code}: {len(messages)} messages, {missing} without a translation")
        print(*(f"    {text}" for text in problems(catalog)), sep="\n", end="")


if __name__ == "__main__":
    write_all()
