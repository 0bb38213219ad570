"""The history as its user sees it: a page of lines, in which failures that follow each other are one line."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from chalicelib import events
from chalicelib.protocol.records import Event
from chalicelib.protocol.texts import Text, plural_text
from chalicelib.protocol.values import dataclass
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store

LINES = 40  # on a page
EVENTS_READ = 500  # for these lines: many failures, which anyone can cause, fill few lines
_FAILURES = {events.SIGN_IN_FAILED, events.SIGN_IN_THROTTLED}
_WITH_DETAIL = {events.SIGNED_OUT, events.ACCESS_REVOKED, events.PROFILE_CHANGED}  # the detail is shown too
_WITH_DETAIL |= {events.PASSKEY_ADDED, events.PASSKEY_RENAMED, events.PASSKEY_REMOVED, events.PASSKEY_COUNTER}
_SIGNED_IN_BY = {
    events.BY_PASSKEY: Text("Signed in with a passkey"),
    events.BY_EMAIL_CODE: Text("Signed in with a code from an email"),
}
_EVENT_ID = re.compile(r"[0-9]{1,12}\.[0-9a-z]{1,32}")
# The events that users see, in their words.
LABELS = {
    events.SIGN_IN: Text("Signed in"),
    events.SIGN_IN_FAILED: Text("Sign-in failed"),
    events.SIGN_IN_THROTTLED: Text("Sign-in rejected after too many failures"),
    events.BROWSER_LET_IN: Text("Browser made known by a link from support"),
    events.SECOND_FACTOR_ASKED: Text("First step of the sign-in done, second factor requested"),
    events.SECOND_FACTOR_FAILED: Text("Wrong code of the second factor, after the right password"),
    events.SECOND_FACTOR_THROTTLED: Text("Code rejected after too many wrong ones"),
    events.SECOND_FACTOR_PROVED: Text("Second factor proved"),
    events.SECOND_FACTOR_ADDED: Text("Second factor turned on"),
    events.SECOND_FACTOR_REMOVED: Text("Second factor turned off"),
    events.RECOVERY_CODE_USED: Text("Recovery code used"),
    events.RECOVERY_CODES_CREATED: Text("Recovery codes replaced"),
    events.PASSWORD_CHANGED: Text("Password changed"),
    events.PROFILE_CHANGED: Text("Profile changed"),
    events.DATA_DOWNLOADED: Text("Data downloaded"),
    events.ACCOUNT_DELETED: Text("Account deleted"),
    events.ACCOUNT_RESTORED: Text("Account restored"),
    events.PASSKEY_ADDED: Text("Passkey added"),
    events.PASSKEY_RENAMED: Text("Passkey renamed"),
    events.PASSKEY_REMOVED: Text("Passkey removed"),
    events.PASSKEY_COUNTER: Text("A passkey may have been copied"),
    events.SIGNED_UP: Text("Account created"),
    events.PASSWORD_RESET: Text("Password reset by email"),
    events.EMAIL_CHANGED: Text("Email address confirmed"),
    events.EMAIL_CHANGE_UNDONE: Text("Change of the email address undone"),
    events.CONSENT_GIVEN: Text("Access allowed"),
    events.CONSENT_DENIED: Text("Access denied"),
    events.TOKEN_REVOKED: Text("Access ended by the application"),
    events.ACCESS_REVOKED: Text("Access removed"),
    events.REUSE_DETECTED: Text("Access ended for your safety: a code or token was used twice"),
    events.SIGNED_OUT: Text("Signed out"),
    events.USER_CHANGED: Text("Account changed by the operator"),
}
_DETAILS: dict[str, Text] = {text: text for text in (Text("all applications"), Text("all other browsers"))}


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
    def label(self) -> Text:
        """What happened, in the words of users."""
        if len(self.events) > 1:
            return plural_text("Sign-in failed %(n)s time", "Sign-in failed %(n)s times", len(self.events))
        if self.newest.name == events.SIGN_IN and self.newest.detail in _SIGNED_IN_BY:
            return _SIGNED_IN_BY[self.newest.detail]
        about = self.newest.detail if self.newest.name in _WITH_DETAIL else None
        label = LABELS[self.newest.name]
        return Text("%(event)s: %(about)s", event=label, about=_DETAILS.get(about) or about) if about else label

    @property
    def client_name(self) -> str | None:
        """The name of the client, if it is the same for all."""
        return _only({event.client_name for event in self.events})

    @property
    def origins(self) -> list[str]:
        """The browser, if it is the same for all, and the IP address, or how many there are."""
        addresses = {event.source_ip for event in self.events}
        count = len(addresses)
        address = _only(addresses) if count == 1 else plural_text("%(n)s IP address", "%(n)s IP addresses", count)
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
