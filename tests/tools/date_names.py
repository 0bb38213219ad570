"""Write the names of months and the forms of dates: `.venv/bin/python -m tests.tools.date_names`.

They are those of the Unicode CLDR, by Babel, which is not there when the server runs.
"""

import re
from pathlib import Path

from babel import Locale

from chalicelib.protocol.languages import LANGUAGES

FILE = Path(__file__).resolve().parents[2] / "chalicelib/pages/date_names.py"
# British dates, which are less ambiguous to the rest of the world.
_LOCALES = {"en": "en_GB"}
_HEADER = '''"""Month names and forms of dates in each language. From the Unicode CLDR, by tests.tools.date_names."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class DateNames:
    """How a language writes a day, with `%(day)s`, `%(month)s` and `%(year)s`, and a `%(date)s` with a `%(time)s`."""

    day: str
    with_time: str
    months: tuple[str, ...]


DATE_NAMES = {
'''
_FIELDS = {"d": "%(day)s", "y": "%(year)s", "MMMM": "%(month)s"}


def generate() -> str:
    """Return the text of the module."""
    return _HEADER + "".join(map(_entry, LANGUAGES)) + "}\n"


def _entry(code: str) -> str:
    locale = Locale.parse(_LOCALES.get(code, code))
    months = list(locale.months["format"]["wide"].values())
    with_time = str(locale.datetime_formats["medium"]).format("%(time)s", "%(date)s")
    day = _day(locale.date_formats["long"].pattern, months)
    first, second = (", ".join(f'"{month}"' for month in half) for half in (months[:6], months[6:]))
    lines = [
        f'    "{code}": DateNames(',
        f'        "{day}",',
        f'        "{with_time}",',
        "        (",
        f"            *({first}),",
    ]
    lines += [f"            *({second}),", "        ),", "    ),"]
    return "\n".join(lines) + "\n"


def _day(pattern: str, months: list[str]) -> str:
    """Return the pattern of a day (UTS 35) as a format. Names that are numbers have what follows them in it too."""
    if months[0] == "1月":
        pattern = pattern.replace("M月", "MMMM")
    parts = re.findall(r"'([^']*)'|(MMMM|d|y)|([^A-Za-z']+)", pattern)
    return "".join(literal or _FIELDS.get(field) or other for literal, field, other in parts)


if __name__ == "__main__":
    FILE.write_text(generate(), "utf-8")
