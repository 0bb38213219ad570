"""The addresses to which Amazon SES sends no mail: its suppression list, which belongs to the account."""

from itertools import islice
from typing import Any

from infra.operator.doctor.findings import Verdict, skipped
from infra.operator.doctor.stage import Inside

MAX_PAGES = 10
PAGE_SIZE = 1000
SHOWN = 5


def addresses(inside: Inside) -> Verdict:
    """Say how many addresses get no mail, and name the newest. They are masked, because the output may be kept."""
    if not inside.variables.get("SIGNET_EMAIL_FROM"):
        return skipped("No mail is sent.")
    suppressed, complete = _suppressed(inside.aws("sesv2"))
    if not suppressed:
        return Verdict(True, "SES suppresses no address of this account.")
    newest = sorted(suppressed, key=lambda each: each["LastUpdateTime"], reverse=True)
    named = [f"{masked(each['EmailAddress'])} ({each['Reason'].lower()})" for each in islice(newest, SHOWN)]
    rest = len(suppressed) - len(named)
    text = f"{'' if complete else 'More than '}{len(suppressed)} addresses of this account get no mail: "
    more = f", and {rest} more" if rest else ""
    return Verdict(True, f"{text}{', '.join(named)}{more}. docs/email.md says how to try one again.")


def masked(address: str) -> str:
    """Return an address with the first character of its local part only."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"


def _suppressed(ses: Any) -> tuple[list[dict[str, Any]], bool]:
    """Return the entries of the suppression list, and whether these are all."""
    entries: list[dict[str, Any]] = []
    further: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        page = ses.list_suppressed_destinations(PageSize=PAGE_SIZE, **further)
        entries += page.get("SuppressedDestinationSummaries", ())
        if not page.get("NextToken"):
            return entries, True
        further = {"NextToken": page["NextToken"]}
    return entries, False
