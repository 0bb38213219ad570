"""The history: what happened to an account, a client or the keys in the last 90 days.

Users see theirs on the account page, the operator sees all by `signet history`.
"""

import re
import secrets
import time

from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.records import Event
from chalicelib.protocol.texts import Text
from chalicelib.storage.store import Store

LIFETIME = 90 * DAY
OPERATOR = "operator"
KEYS = "the keys"
# Tokens of a User-Agent header (RFC 9110 section 10.1.5). The first match counts: all others send Chrome or Safari too,
# Chrome sends Safari, Android sends Linux, and an iPad may send Mac OS X.
_BROWSERS = dict.fromkeys(("Edg", "EdgA", "EdgiOS", "Edge"), "Edge") | {"SamsungBrowser": "Samsung Internet"}
_BROWSERS |= dict.fromkeys(("OPR", "OPT", "OPiOS"), "Opera") | dict.fromkeys(("Firefox", "FxiOS"), "Firefox")
_BROWSERS |= dict.fromkeys(("Chrome", "CriOS"), "Chrome") | {"Safari": "Safari"}
_SYSTEMS = {"iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows", "Mac OS X": "Mac"}
_SYSTEMS |= {"CrOS": "ChromeOS", "Linux": "Linux"}
UNKNOWN_BROWSER = Text("an unknown browser")


def by_request(
    store: Store, http: Request, sub: str, name: str, client: Client | None = None, detail: str | None = None
) -> Event:
    """Return the record that `name`, one of EVENTS, has happened to a user by this request."""
    return _event(store, sub, name, client, source_ip=http.source_ip or None, device=device(http), detail=detail)


def device(http: Request) -> str | None:
    """Return what kind of browser sent a request, such as "Firefox on Windows", or None when it does not say."""
    user_agent = http.header("user-agent") or ""
    browser, system = (
        next((name for token, name in names.items() if re.search(rf"\b{token}\b", user_agent)), None)
        for names in (_BROWSERS, _SYSTEMS)
    )
    return " on ".join(filter(None, (browser, system))) or None


def by_operator(
    store: Store, about: str, name: str, *, client: Client | None = None, detail: str | None = None
) -> Event:
    """Return the record that the operator did `name`, one of EVENTS.

    `about`: the `sub` of a user, or what `about_client` returns, or KEYS.
    """
    return _event(store, about, name, client, device=OPERATOR, detail=detail)


def about_client(client_id: str) -> str:
    """Return the key of a client's history. No `sub` has a space, so it is the key of no user."""
    return f"client {client_id}"


def _event(store: Store, about: str, name: str, client: Client | None, **members: str | None) -> Event:
    now = store.now()
    # Events of one second are listed in the order in which they happened.
    moment = f"{time.time_ns():016x}"
    return Event(
        sub=about,
        event_id=f"{now}.{moment}{secrets.token_hex(8)}",
        name=name,
        created_at=now,
        expires_at=now + LIFETIME,
        client_id=client.client_id if client else None,
        client_name=client.client_name if client else None,
        **members,
    )
