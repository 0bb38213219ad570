"""A forgotten password: an email with a code and a link, and the new password that they allow.

A new password does not remove the passkeys of the user. So the user is told which there are: a thief may have added
one.
"""

from typing import Any

from chalicelib import events, pages
from chalicelib.authentication import password_rules, proofs
from chalicelib.authentication.passkey_sign_in import usable_passkeys
from chalicelib.authentication.password import NO_USER, remember_browser, remember_network
from chalicelib.http.messages import Request
from chalicelib.mail.notices import locale_for, tell
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.proof import RESET, Proof
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.table import Write
from chalicelib.users import requested_email
from chalicelib.users.password_change import changing_password
from chalicelib.users.requested_email import Kind

_TRIES = 3
KIND = Kind(RESET, "password_reset", events.PASSWORD_RESET_REQUESTED, "password_generation")


def ask(server: AuthorizationServer, http: Request, typed: str, browser_id: str, query: str) -> Proof:
    """Send an email to the user who signs in with what was typed, if they have a verified address.

    `query`: leads to the authorization request with which to continue, "" for none. The same reads and writes in
    any case. Raises TooManyEmails.
    """
    email = requested_email.prepare(server, http, KIND, typed, browser_id, query)
    server.store.transact(*email.writes)
    return email.proof


def user_of(server: AuthorizationServer, proof: Proof) -> User:
    """Return the user whose password a proof can reset. Raises RequestEnded when it no longer can.

    It ends with a new password, with another address, and when the user is disabled or deleted.
    """
    user = server.store.users.get(proof.sub or NO_USER)
    return requested_email.require_current(server, KIND, proof, user)


def reset(server: AuthorizationServer, http: Request, proof: Proof, password: str, again: str, browser_id: str) -> None:
    """Set a new password by a proof, and end every session and grant of the user. Signs no one in.

    This browser and its network become known, because others may be guessing. The same form, sent twice, changes the
    password once. Raises ValueError, with a sentence for the user, for a password that is not acceptable, and
    RequestEnded.
    """
    store = server.store
    passkeys = remaining_passkeys(server, proof)
    for _ in range(_TRIES):
        user = user_of(server, proof)
        if text := password_rules.find_problem(server.settings, user, password, again):
            raise ValueError(text)
        changed, writes = changing_password(store, user, password, "claims")
        spending = proofs.spending(server, proof, browser_id)
        refused = store.transact(
            *writes,
            spending,
            events.record(store, http, events.PASSWORD_RESET, user.sub),
            *remember_browser(server, http, changed, browser_id),
            *remember_network(server, http, changed),
            *_telling(server, http, changed, passkeys),
        )
        if refused is None:
            return
        if refusal := refused.of(spending):
            if proofs.is_spent(refusal.record, proof, browser_id):
                return
            raise proofs.ended(server, RESET)
    raise TemporarilyUnavailable(detail="a user: changed by other requests each time")


def remaining_passkeys(server: AuthorizationServer, proof: Proof) -> list[Passkey]:
    """Return the passkeys with which the user of a proof can still sign in, the newest first. One call."""
    passkeys = usable_passkeys(server, proof.sub) if proof.sub else []
    return sorted(passkeys, key=lambda passkey: -passkey.created_at)


def _telling(server: AuthorizationServer, http: Request, user: User, passkeys: list[Passkey]) -> tuple[Write[Any], ...]:
    """Return the write that tells the user by mail. Without the names of passkeys: a thief may have chosen one."""
    if not passkeys:
        return tell(server, http, user, "password_changed")
    locale = locale_for(server, http, user)
    values = {"passkeys": str(len(passkeys)), "newest": pages.date_text(passkeys[0].created_at, locale)}
    return tell(server, http, user, "password_reset_done", values)
