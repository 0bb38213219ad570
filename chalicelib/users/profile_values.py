"""What a user may enter for a claim of the profile: the rules of OpenID Connect Core section 5.1, and of this server.

`time_zones.txt` has the names of the time zone database (IANA), which the system of a function may lack: first those of
its table zone1970.tab, which are enough for every place, then all others.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

from chalicelib.protocol.identifiers import trim
from chalicelib.protocol.texts import Text, is_printable
from chalicelib.protocol.urls import match_url

_MAX_URL = 1000
# RFC 5646 section 2.1, without extensions and private use: language, script, region, variants.
_LOCALE = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3})){0,3})"
)
_BIRTHDATE = re.compile(r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})-(?P<day>[0-9]{2}))?")
_OLDEST = 1880
_LEAP_YEAR = 2000


def read_value(claim: str, text: str, today: date) -> str | None:
    """Return the value of a claim that a user has entered, None for an empty one.

    Raises ValueError with a sentence for the user.
    """
    text = trim(text)
    return _READERS.get(claim, _read_text)(text, today) if text else None


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones."""
    return frozenset(_list_of_zones().split())


def offered_time_zones() -> list[str]:
    """Return the names of the time zones that a page offers: enough for every place."""
    return _list_of_zones().partition("\n\n")[0].split()


def _list_of_zones() -> str:
    return Path(__file__).with_name("time_zones.txt").read_text("ascii")


def _read_text(text: str, _today: date) -> str:
    if not is_printable(text):
        raise ValueError(Text("Use at most 200 characters, on one line."))
    return text


def _read_url(text: str, _today: date) -> str:
    plain = re.fullmatch(r"[!#-;=?-Z_a-z~%]+", text) is not None and len(text) <= _MAX_URL
    url = match_url(text.partition("#")[0].partition("?")[0].removesuffix("/")) if plain else None
    if url is None or url["scheme"] != "https":
        raise ValueError(Text("Enter an address that begins with https://."))
    return text


def _read_birthdate(text: str, today: date) -> str:
    """Read YYYY-MM-DD, where the year 0000 is left out, or the year alone."""
    match = _BIRTHDATE.fullmatch(text)
    problem = Text("Enter the date as year, month and day, such as 1990-12-31.")
    if match is None:
        raise ValueError(problem)
    year, month = int(match["year"]), match["month"]
    try:
        # The year 0000 only fits a date; February 29 is one of some year.
        day = date(year or _LEAP_YEAR, int(month or 1), int(match["day"] or 1))
    except ValueError as error:
        raise ValueError(problem) from error
    if (year == 0 and not month) or (year and not (year >= _OLDEST and day <= today)):
        raise ValueError(problem)
    return text


def _read_locale(text: str, _today: date) -> str:
    """Return a language tag as it is usually written (RFC 5646 section 2.1.1); some systems write de_CH."""
    match = _LOCALE.fullmatch(text.replace("_", "-").lower())
    if match is None:
        raise ValueError(Text("Enter the code of a language, such as en, de-CH or pt-BR."))
    script, region, variants = match["script"], match["region"], match["variants"]
    parts = [match["language"], script.title() if script else "", region.upper() if region else ""]
    return "-".join(filter(None, parts)) + variants


def _read_time_zone(text: str, _today: date) -> str:
    name = text.replace(" ", "_")
    if name not in time_zones():
        raise ValueError(Text("Choose a time zone of the list, such as Europe/Berlin."))
    return name


_READERS: dict[str, Callable[[str, date], str]] = {
    "birthdate": _read_birthdate,
    "picture": _read_url,
    "profile": _read_url,
    "website": _read_url,
    "locale": _read_locale,
    "zoneinfo": _read_time_zone,
}
