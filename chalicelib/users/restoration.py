"""The restoration of a deleted account: in the browser in which its user has just signed in, or by an email.

An encrypted cookie keeps who has signed in, so that no session is needed: a deleted account has none. It is valid for a
few minutes, and for one deletion. The email is sent when the account is deleted, and valid until it is removed.
"""

import json
from typing import Any

from chalicelib import events
from chalicelib.authentication import proofs
from chalicelib.http.messages import Request
from chalicelib.mail.notices import tell
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.proof import RESTORE, Proof
from chalicelib.protocol.records import User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import cookie_name, own_cookie
from chalicelib.storage.table import Write
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
    """Restore the account, with the event in its history and a mail. Raises AccessDenied as `deletion.restore`."""
    return _restore(server, http, offer.sub, offer.deleted_at)


def user_of(server: AuthorizationServer, proof: Proof) -> User:
    """Return the user whose account an email can restore. Raises RequestEnded when it no longer can."""
    user = server.store.users.get(proof.sub or proofs.NO_USER)
    same = user is not None and user.deleted_at == proof.generation and user.disabled_at is None
    if user is None or not same or user.is_gone(server.now()):
        raise proofs.ended(server, RESTORE)
    return user


def accept_by_email(server: AuthorizationServer, http: Request, proof: Proof, browser_id: str) -> User:
    """Restore the account that an email is for, once. Raises RequestEnded, and AccessDenied as `deletion.restore`."""
    spending = proofs.spending(server, proof, browser_id)
    return _restore(server, http, user_of(server, proof).sub, proof.generation, spending)


def _restore(server: AuthorizationServer, http: Request, sub: str, deleted_at: int, *also: Write[Any]) -> User:
    def telling(user: User) -> tuple[Write[Any], ...]:
        event = events.record(server.store, http, events.ACCOUNT_RESTORED, user.sub)
        return event, *tell(server, http, user, "account_restored"), *also

    return deletion.restore(server.store, sub, deleted_at, telling)
