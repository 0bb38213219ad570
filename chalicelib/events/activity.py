"""The history as its user sees it: a page of lines, in which failures that follow each other are one line."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from chalicelib import events
from chalicelib.protocol.records import Event
from chalicelib.protocol.values import dataclass
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store

LINES = 40  # on a page
EVENTS_READ = 500  # for these lines: many failures, which anyone can cause, fill few lines
_FAILURES = {events.SIGN_IN_FAILED, events.SIGN_IN_THROTTLED}
_WITH_DETAIL = {events.SIGNED_OUT, events.ACCESS_REVOKED, events.PROFILE_CHANGED}  # the detail is shown too
_WITH_DETAIL |= {events.PASSKEY_ADDED, events.PASSKEY_RENAMED, events.PASSKEY_REMOVED, events.PASSKEY_COUNTER}
_EVENT_ID = re.compile(r"[0-9]{1,12}\.[0-9a-z]{1,32}")
# The events that users see, in their words.
LABELS = {
    events.SIGN_IN: "Signed in",
    events.SIGN_IN_FAILED: "Sign-in failed",
    events.SIGN_IN_THROTTLED: "Sign-in rejected after too many failures",
    events.BROWSER_LET_IN: "Browser made known by a link from support",
    events.SECOND_FACTOR_ASKED: "Password entered, second factor requested",
    events.SECOND_FACTOR_FAILED: "Wrong code of the second factor, after the right password",
    events.SECOND_FACTOR_THROTTLED: "Code rejected after too many wrong ones",
    events.SECOND_FACTOR_PROVED: "Second factor proved",
    events.SECOND_FACTOR_ADDED: "Second factor turned on",
    events.SECOND_FACTOR_REMOVED: "Second factor turned off",
    events.RECOVERY_CODE_USED: "Recovery code used",
    events.RECOVERY_CODES_CREATED: "Recovery codes replaced",
    events.PASSWORD_CHANGED: "Password changed",
    events.PROFILE_CHANGED: "Profile changed",
    events.DATA_DOWNLOADED: "Data downloaded",
    events.ACCOUNT_DELETED: "Account deleted",
    events.ACCOUNT_RESTORED: "Account restored",
    events.PASSKEY_ADDED: "Passkey added",
    events.PASSKEY_RENAMED: "Passkey renamed",
    events.PASSKEY_REMOVED: "Passkey removed",
    events.PASSKEY_COUNTER: "A passkey may have been copied",
    events.SIGNED_UP: "Account created",
    events.PASSWORD_RESET: "Password reset by email",
    events.EMAIL_CHANGED: "Email address confirmed",
    events.EMAIL_CHANGE_UNDONE: "Change of the email address undone",
    events.CONSENT_GIVEN: "Access allowed",
    events.CONSENT_DENIED: "Access denied",
    events.TOKEN_REVOKED: "Access ended by the application",
    events.ACCESS_REVOKED: "Access removed",
    events.REUSE_DETECTED: "Access ended for your safety: a code or token was used twice",
    events.SIGNED_OUT: "Signed out",
    events.USER_CHANGED: "Account changed by the operator",
}


@dataclass(frozen=True)
class Line:
    """One event, or failures that follow each other, newest first."""

    events: list[Event]

    @property
    def newest(self) -> Event:
        """The newest of the events."""
        return self.events[0]

    @property
    def oldest(self) -> Event:
        """The oldest of the events."""
        return self.events[-1]

    @property
    def label(self) -> str:
        """What happened, in the words of users."""
        if len(self.events) > 1:
            return f"{LABELS[events.SIGN_IN_FAILED]} {len(self.events)} times"
        about = self.newest.detail if self.newest.name in _WITH_DETAIL else None
        return LABELS[self.newest.name] + (f": {about}" if about else "")

    @property
    def client_name(self) -> str | None:
        """The name of the client, if it is the same for all."""
        return _only({event.client_name for event in self.events})

    @property
    def origins(self) -> list[str]:
        """The browser, if it is the same for all, and the IP address, or how many there are."""
        addresses = {event.source_ip for event in self.events}
        address = _only(addresses) if len(addresses) == 1 else f"{len(addresses)} IP addresses"
        return [text for text in (_only({event.device for event in self.events}), address) if text]


@dataclass(frozen=True)
class Page:
    """Lines of the history, newest first. `older`: the id of the event with which the next page starts, or None."""

    lines: list[Line]
    older: str | None


def read_page(store: Store, sub: str, until: str | None) -> Page:
    """Return the page that starts with the event `until`, or with the newest one. One call, however long the history.

    `until` must be possible by `is_event_id`.
    """
    range_ = attr("event_id").lte(until) if until else None
    read = list(store.events.find("sub", sub, range_=range_, newest=EVENTS_READ + 1))
    lines = list(_lines(event for event in read[:EVENTS_READ] if event.name in LABELS))
    following = [line.newest for line in lines[LINES:]] + read[EVENTS_READ:]
    return Page(lines[:LINES], following[0].event_id if following else None)


def is_event_id(text: str) -> bool:
    """Return whether this can be the id of an event."""
    return _EVENT_ID.fullmatch(text) is not None


def _lines(shown: Iterable[Event]) -> Iterator[Line]:
    """Yield a line for failures that follow each other, and one for each other event."""
    for is_failure, group in groupby(shown, lambda event: event.name in _FAILURES):
        run = list(group)
        yield from [Line(run)] if is_failure else [Line([event]) for event in run]


def _only(values: set[str | None]) -> str | None:
    """Return the only value, or None if there are several."""
    return next(iter(values)) if len(values) == 1 else None
