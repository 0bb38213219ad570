"""Links by which the operator makes a browser known for a user, so that the throttle gives it a count of its own.

A link gives no access: it allows five tries of the password, in one browser. It is valid for an hour, for one
browser, and until the user gets a new password or is deleted.
"""

from chalicelib import events
from chalicelib.authentication.password import remember_browser
from chalicelib.http.messages import Request, with_query
from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.let_in import LetInLink
from chalicelib.protocol.records import User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store

LIFETIME = HOUR
PATH = "/account/let-in"
PARAMETER = "link"


@dataclass(frozen=True)
class Link:
    """A valid link: the handle in its URL, its record, and its user."""

    handle: str
    record: LetInLink
    user: User


def create_link(store: Store, keys: KeyRing, issuer: str, user: User) -> tuple[str, int]:
    """Return the URL of a new link for a user, and when it expires. Raises TemporarilyUnavailable."""
    link_id, expires_at = new_id(), store.now() + LIFETIME
    handle = keys.make_handle("let", link_id)
    store.let_in_links.put(LetInLink(_key(link_id), expires_at, user.sub, user.password_generation))
    return with_query(issuer + PATH, {PARAMETER: handle}), expires_at


def read_link(server: AuthorizationServer, text: str | None, browser_id: str | None) -> Link:
    """Return the link that `text` is the handle of. Raises RequestEnded unless this browser can use it, or has."""
    handle = server.keys.read_handle("let", text)
    record = server.store.let_in_links.get(_key(handle.id)) if handle else None
    user = server.store.users.get(record.sub) if record else None
    if text is None or record is None or user is None or not _is_valid(record, user):
        raise _ended()
    _require_browser(record, browser_id)
    return Link(text, record, user)


def let_in(server: AuthorizationServer, http: Request, link: Link, browser_id: str) -> None:
    """Make this browser known for the user of the link, once. Raises RequestEnded when another browser has used it.

    The same form sent twice does nothing more: what the browser may try is not renewed.
    """
    store, now = server.store, server.now()
    # Kept longer, so that the page can be loaded again in this browser.
    changes = {"browser_id": browser_id, "expires_at": now + LIFETIME}
    using = store.let_in_links.changing((link.record.attempts_id,), attr("browser_id").not_exists(), changes)
    event = events.record(store, http, events.BROWSER_LET_IN, link.user.sub)
    refused = store.transact(using, event, *remember_browser(server, http, link.user, browser_id))
    if refused is None:
        return
    refusal = refused.of(using)
    if refusal is None or refusal.record is None:
        raise _ended()
    _require_browser(refusal.record, browser_id)


def _key(link_id: str) -> str:
    return f"let_in.{link_id}"  # the keys of the counters have no dot


def _is_valid(record: LetInLink, user: User) -> bool:
    return user.disabled_at is None and user.password_generation == record.password_generation


def _require_browser(record: LetInLink, browser_id: str | None) -> None:
    if record.browser_id not in (None, browser_id):
        raise RequestEnded("The link was used in another browser.", code="let_in_ended")


def _ended() -> RequestEnded:
    text = "The link has expired, or ended with a new password, or a part of it is missing."
    return RequestEnded(text, code="let_in_ended")
