"""Durations in seconds."""

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY


def in_words(seconds: int) -> str:
    """Return a duration as text for users, such as "12 hours": in the largest unit of which it is two, rounded up."""
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{-(-seconds // unit)} {name}"
    return f"{seconds} seconds"
