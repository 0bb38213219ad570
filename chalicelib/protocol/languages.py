"""The languages of the pages and mails, and which of them a reader understands. Knows no texts.

A language tag (BCP 47, RFC 5646) matches by lookup (RFC 4647 section 3.4): without its last subtags, until it is one of
these languages. So `de-AT` is `de`.
"""

import re
from collections.abc import Iterable

from chalicelib.protocol.values import dataclass
from chalicelib.protocol.weights import weighted

MAX_LISTED = 10  # languages that a request can ask for
MAX_HEADER = 1000  # characters of an Accept-Language header that are looked at
_TAG = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,7}")


@dataclass(frozen=True)
class Language:
    """A language: its tag, its name in the language itself, and the direction of its script, `ltr` or `rtl`."""

    code: str
    name: str
    direction: str = "ltr"


LANGUAGES = {
    language.code: language
    for language in (
        Language("en", "English"),
        Language("de", "Deutsch"),
        Language("fr", "Français"),
        Language("es", "Español"),
        Language("ja", "日本語"),
        Language("ar", "العربية", "rtl"),
    )
}
ENGLISH = LANGUAGES["en"]


def match(tag: object) -> Language | None:
    """Return the language that a tag asks for, None if it is another one, or no tag."""
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        return None
    subtags = tag.lower().split("-")
    prefixes = ("-".join(subtags[:length]) for length in range(len(subtags), 0, -1))
    return next((LANGUAGES[prefix] for prefix in prefixes if prefix in LANGUAGES), None)


def first_match(tags: Iterable[str]) -> Language | None:
    """Return the first of these languages, in order of preference, that there is."""
    return next(filter(None, map(match, tags)), None)


def first_tags(text: str | None) -> tuple[str, ...]:
    """Return the first MAX_LISTED parts of `ui_locales` (OpenID Connect Core section 3.1.2.1), unchecked."""
    return tuple((text or "")[: MAX_LISTED * 64].split()[:MAX_LISTED])


def is_tag(text: str) -> bool:
    """Return whether a text is a well-formed language tag (RFC 5646 section 2.1, simplified)."""
    return _TAG.fullmatch(text) is not None


def accepted(header: str) -> Language | None:
    """Return the language that an Accept-Language header prefers (RFC 9110 section 12.5.4).

    What is malformed is ignored, and so is what is beyond MAX_HEADER. `*` prefers none.
    """
    # Sorting keeps the order of those with one weight.
    ranges = sorted(weighted(header[:MAX_HEADER]), key=lambda each: -each[1])
    return first_match(tag for tag, weight in ranges if weight > 0)
