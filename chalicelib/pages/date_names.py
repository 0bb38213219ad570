"""Month names and forms of dates in each language. From the Unicode CLDR, by tests.tools.date_names."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class DateNames:
    """How a language writes a day, with `%(day)s`, `%(month)s` and `%(year)s`, and a `%(date)s` with a `%(time)s`."""

    day: str
    with_time: str
    months: tuple[str, ...]


DATE_NAMES = {
    "en": DateNames(
        "%(day)s %(month)s %(year)s",
        "%(date)s, %(time)s",
        (
            *("January", "February", "March", "April", "May", "June"),
            *("July", "August", "September", "October", "November", "December"),
        ),
    ),
    "de": DateNames(
        "%(day)s. %(month)s %(year)s",
        "%(date)s, %(time)s",
        (
            *("Januar", "Februar", "März", "April", "Mai", "Juni"),
            *("Juli", "August", "September", "Oktober", "November", "Dezember"),
        ),
    ),
    "fr": DateNames(
        "%(day)s %(month)s %(year)s",
        "%(date)s, %(time)s",
        (
            *("janvier", "février", "mars", "avril", "mai", "juin"),
            *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
        ),
    ),
    "es": DateNames(
        "%(day)s de %(month)s de %(year)s",
        "%(date)s, %(time)s",
        (
            *("enero", "febrero", "marzo", "abril", "mayo", "junio"),
            *("julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"),
        ),
    ),
    "ja": DateNames(
        "%(year)s年%(month)s%(day)s日",
        "%(date)s %(time)s",
        (
            *("1月", "2月", "3月", "4月", "5月", "6月"),
            *("7月", "8月", "9月", "10月", "11月", "12月"),
        ),
    ),
    "ar": DateNames(
        "%(day)s %(month)s %(year)s",
        "%(date)s، %(time)s",
        (
            *("يناير", "فبراير", "مارس", "أبريل", "مايو", "يونيو"),
            *("يوليو", "أغسطس", "سبتمبر", "أكتوبر", "نوفمبر", "ديسمبر"),
        ),
    ),
}
