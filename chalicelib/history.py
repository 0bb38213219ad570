"""What was done with an account of late: what its owner sees on the account page."""

import re
import secrets

from chalicelib.messages import Request
from chalicelib.models import Client, Event
from chalicelib.store import Store
from chalicelib.table import Step

LIFETIME = 90 * 24 * 60 * 60
OPERATOR = "operator"
KEYS = "the keys"
# The first that stands in a User-Agent header (RFC 9110 section 10.1.5) names it: Edge and Opera say Chrome as well,
# Chrome says Safari, Android says Linux, an iPad may say Mac OS X.
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "FxiOS": "Firefox", "CriOS": "Chrome"}
_BROWSERS |= {"Chrome": "Chrome", "Safari": "Safari"}
_SYSTEMS = {"iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows", "Mac OS X": "Mac"}
_SYSTEMS |= {"CrOS": "ChromeOS", "Linux": "Linux"}


def recording(store: Store, http: Request, sub: str, name: str, client: Client | None = None) -> Step[Event]:
    """The step that keeps for 90 days that `name`, one of `audit.EVENTS`, has happened to a person, by this request."""
    return store.events.inserting(by_request(store, http, sub, name, client))


def by_request(store: Store, http: Request, sub: str, name: str, client: Client | None = None) -> Event:
    """The record of the same, to be kept."""
    return _event(store, sub, name, client, source_ip=http.source_ip or None, device=device(http))


def device(http: Request) -> str | None:
    """What kind of browser sent a request, such as "Firefox on Windows"; None if it does not say."""
    said = http.header("user-agent") or ""
    browser, system = (
        next((name for token, name in known.items() if re.search(rf"\b{token}\b", said)), None)
        for known in (_BROWSERS, _SYSTEMS)
    )
    return " on ".join(filter(None, (browser, system))) or None


def by_operator(
    store: Store, about: str, name: str, *, client: Client | None = None, detail: str | None = None
) -> Event:
    """The record that the operator did `name`, one of `audit.EVENTS`: to a person, `about` being their `sub`, or to
    something else, which `about_client` and KEYS name.
    """
    return _event(store, about, name, client, device=OPERATOR, detail=detail)


def about_client(client_id: str) -> str:
    """Where the history of a client is kept: a `sub` has no space."""
    return f"client {client_id}"


def _event(store: Store, about: str, name: str, client: Client | None, **members: str | None) -> Event:
    now = store.now()
    return Event(
        sub=about,
        event_id=f"{now}.{secrets.token_hex(8)}",
        name=name,
        created_at=now,
        expires_at=now + LIFETIME,
        client_id=client.client_id if client else None,
        client_name=client.client_name if client else None,
        **members,
    )
