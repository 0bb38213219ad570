"""The offer to restore a deleted account, in the browser in which its user has just proved to be the user.

An encrypted cookie keeps who that was, so that no session is needed: a deleted account has none. It is valid for a few
minutes, and for one deletion.
"""

import json

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.records import User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import cookie_name, own_cookie
from chalicelib.users import deletion

COOKIE = "restore"
LIFETIME = 10 * MINUTE
PATH = "/account/restore"


@dataclass(frozen=True)
class Offer:
    """Whose account can be restored, and which deletion is undone. `proof`: the cookie, for the tag of the form."""

    sub: str
    deleted_at: int
    proof: str


def offer_cookie(server: AuthorizationServer, user: User) -> dict[str, str]:
    """Return the Set-Cookie header that lets this browser restore the account of a user who has deleted it."""
    sealed = server.keys.seal(json.dumps([user.sub, user.deleted_at, server.now() + LIFETIME]), COOKIE)
    return own_cookie(server, COOKIE, sealed, LIFETIME)


def end_offer(server: AuthorizationServer) -> dict[str, str]:
    """Return the Set-Cookie header that removes the offer."""
    return own_cookie(server, COOKIE, "", 0)


def read_offer(server: AuthorizationServer, http: Request) -> Offer | None:
    """Return the offer of this browser, None if it has none or it has expired. Reads no record."""
    sealed = http.cookie(cookie_name(server, COOKIE))
    text = server.keys.unseal(sealed, COOKIE) if sealed and len(sealed) <= 1024 else None
    if sealed is None or text is None:
        return None
    sub, deleted_at, until = json.loads(text)
    return Offer(sub, deleted_at, sealed) if server.now() < until else None


def find_deleted(server: AuthorizationServer, offer: Offer | None) -> User | None:
    """Return the user of an offer, None if the account is no longer deleted, or is removed."""
    user = server.store.users.get(offer.sub) if offer else None
    deleted = user is not None and offer is not None and user.deleted_at == offer.deleted_at
    return user if user and deleted and not user.is_gone(server.now()) else None


def accept(server: AuthorizationServer, http: Request, offer: Offer) -> User:
    """Restore the account, with the event in its history. Raises AccessDenied as `deletion.restore`."""
    return deletion.restore(
        server.store,
        offer.sub,
        offer.deleted_at,
        lambda user: (events.record(server.store, http, events.ACCOUNT_RESTORED, user.sub),),
    )
