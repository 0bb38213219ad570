"""Texts that people read on a page or in the output of a command."""

import re

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_printable(text: str) -> bool:
    """Return whether a text is readable on one line: 1 to 200 characters, not only spaces, no line break or bidi."""
    visible = any(character.isprintable() and character != " " for character in text)
    return visible and len(text) <= 200 and not UNPRINTABLE.search(text)
