"""Texts that people read on a page or in the output of a command."""

import re
from typing import Any

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_printable(text: str) -> bool:
    """Return whether a text is readable on one line: 1 to 200 characters, not only spaces, no line break or bidi."""
    visible = any(character.isprintable() and character != " " for character in text)
    return visible and len(text) <= 200 and not UNPRINTABLE.search(text)


class Text(str):
    """A text for users that pages and mails show in the language of their reader. As a `str` it is the English text.

    So logs, JSON and comparisons have the English text, and only what shows it to a user translates it
    (`pages.languages.translate`). `message`: the English text in the catalogues, with `%(name)s` for each of `values`.
    `many`: its plural form, chosen by the value `n`; "" if it has none. Values may be texts themselves.
    """

    message: str
    many: str
    values: dict[str, Any]

    def __new__(cls, message: str, /, **values: Any) -> "Text":
        """Return a text with one form for all numbers."""
        return cls.of(message, "", values)

    @classmethod
    def of(cls, message: str, many: str, values: dict[str, Any]) -> "Text":
        """Return a text of these parts."""
        form = many if many and values["n"] != 1 else message
        text = super().__new__(cls, form % values if values else form)
        text.message, text.many, text.values = message, many, values
        return text

    def __str__(self) -> str:
        """Return this text itself: `str(error)` of an exception with a text is that text."""
        return self


def plural_text(singular: str, plural: str, /, n: int, **values: Any) -> Text:
    """Return a text whose form depends on a number, which is its value `n`."""
    return Text.of(singular, plural, {"n": n, **values})


def to_json(text: str) -> Any:
    """Return a text as a value for JSON from which `from_json` restores it, to be translated later."""
    if not isinstance(text, Text):
        return text
    values = {name: to_json(value) if isinstance(value, str) else value for name, value in text.values.items()}
    return [text.message, text.many, values]


def from_json(value: Any) -> str:
    """Return the text of `to_json`."""
    if isinstance(value, str):
        return value
    message, many, values = value
    values = {name: from_json(each) if isinstance(each, list) else each for name, each in values.items()}
    return Text.of(message, many, values)
