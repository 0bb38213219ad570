"""Durations in seconds."""

from chalicelib.protocol.texts import Text, plural_text

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY


def in_words(seconds: int) -> Text:
    """Return a duration as text for users, such as "12 hours": in the largest unit of which it is two, rounded up."""
    days, hours, minutes = (-(-seconds // unit) for unit in (DAY, HOUR, MINUTE))
    if seconds >= 2 * DAY:
        return plural_text("%(n)s day", "%(n)s days", days)
    if seconds >= 2 * HOUR:
        return plural_text("%(n)s hour", "%(n)s hours", hours)
    if seconds >= 2 * MINUTE:
        return plural_text("%(n)s minute", "%(n)s minutes", minutes)
    return plural_text("%(n)s second", "%(n)s seconds", seconds)
