"""The email address of a user: verified by an email, changed, and changed back from the old address.

The new address must be confirmed in the user's own session. The old one is told, with a link that undoes the change for
72 hours, also when another person has taken over the account.
"""

from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import Content
from chalicelib.http.messages import Request
from chalicelib.mail import limits
from chalicelib.mail.notices import locale_for, locale_of_reader, verified_address
from chalicelib.mail.outbox import Mail, sending
from chalicelib.protocol.email_addresses import masked, sendable
from chalicelib.protocol.errors import AccessDenied, TemporarilyUnavailable
from chalicelib.protocol.identifiers import email_identifier
from chalicelib.protocol.proof import LIFETIMES, UNDO, VERIFY, Proof
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.revocation import tell_clients, without_grants, without_sessions
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write
from chalicelib.users import identifiers
from chalicelib.users.accounts import update, with_claims

TAKEN = Text("This address cannot be used now: another account has it.")
_TRIES = 10


class AddressTaken(Exception):
    """Another user has the address, or has just confirmed it."""

    def __init__(self) -> None:
        super().__init__(TAKEN)


def mark_verified(store: Store, user: User, address: str | None = None) -> User:
    """Mark an address as verified, by default the one that the user has; return the new record. For the operator.

    Raises ValueError, with a sentence for the operator, when it is no address or another user has it, and AccessDenied
    when the user no longer exists.
    """
    given = address or user.claims.get("email")
    if not isinstance(given, str):
        raise ValueError("The user has no email address.")
    email = sendable(given)
    if identifiers.is_used_by_another(store, email, user.sub):
        raise ValueError(identifiers.TAKEN)
    now = store.now()
    return update(store, user, lambda current: with_claims(current, _verified(email), now))


def ask(server: AuthorizationServer, http: Request, user: User, address: str, browser_id: str | None) -> Proof:
    """Send an email with a code to an address that a user wants to have verified.

    If another user has it, the email says so, and no code is right. The caller must not tell. Raises ValueError, with a
    sentence for the user, when it is no address.
    """
    store, key, address = server.store, email_identifier(address), sendable(address)
    taken = identifiers.is_used_by_another(store, address, user.sub)
    allowed = limits.admit(server, http, key)
    content = Content("" if taken else address, address)
    generation = user.sessions_generation
    proof = proofs.new_proof(
        server, VERIFY, user.sub, content, browser_id=browser_id, sub=user.sub, generation=generation
    )
    template, proof_id = ("address_in_use", None) if taken else ("verify_address", proof.proof_id)
    to, lifetime = address if allowed else "", LIFETIMES[VERIFY]
    # Without the username: users choose it, and any address could be sent what it says.
    mail = Mail(template, to, user.sub, locale=locale_of_reader(server, http), proof_id=proof_id, lifetime=lifetime)
    store.transact(proofs.storing(server, proof), sending(server, mail))
    return proof


def require_current(server: AuthorizationServer, user: User, proof: Proof) -> None:
    """Raise RequestEnded once the sessions have ended in which an address was to be confirmed.

    So who was in the account before a new password, or before an undo, cannot change the address after it.
    """
    if not user.active or user.sessions_generation != proof.generation:
        raise proofs.ended(server, VERIFY)


def confirm(server: AuthorizationServer, http: Request, user: User, proof: Proof) -> User:
    """Make the address of a proof the user's verified one; return the new record. The old address is told.

    Raises AddressTaken, AccessDenied when the user no longer exists, and RequestEnded when the proof was used before,
    or the sessions have ended since it was asked for.
    """
    store, address = server.store, proofs.content_of(server, proof).address
    if not address or identifiers.is_used_by_another(store, address, user.sub):
        raise AddressTaken
    for _ in range(_TRIES):
        require_current(server, user, proof)
        changes = _verified(address)
        changed = replace(with_claims(user, changes, server.now()), email_changes=user.email_changes + 1)
        telling = _telling_old_address(server, http, user, changed)
        rewriting, spending = store.users.rewriting(user, changed), proofs.spending(server, proof)
        claiming = identifiers.replacing(store, user, changed)
        event = events.record(store, http, events.EMAIL_CHANGED, user.sub, detail=masked(address))
        refused = store.transact(rewriting, spending, *claiming, event, *telling)
        if refused is None:
            return changed
        if refusal := refused.of(spending):
            if proofs.is_spent(refusal.record, proof):  # the same form, sent twice at once
                return user
            raise proofs.ended(server, VERIFY)
        if any(refused.of(write) for write in claiming):
            raise AddressTaken
        current = refused.of(rewriting)
        if current is None or current.record is None:
            raise AccessDenied("This account no longer exists.")
        user = current.record
    raise TemporarilyUnavailable(detail="a user: changed by other requests each time")


def _telling_old_address(
    server: AuthorizationServer, http: Request, before: User, after: User
) -> tuple[Write[Any], ...]:
    """Return the writes that tell the verified address which a user had before, with an undo; none without one."""
    old, key = verified_address(before), identifiers.address_identifier(before)
    if old is None or key is None or key == identifiers.address_identifier(after):
        return ()
    content, generation = Content(old, old), after.email_changes
    proof = proofs.new_proof(server, UNDO, f"{before.sub} {key}", content, sub=before.sub, generation=generation)
    values = {"username": before.username, "new_address": masked(after.claims["email"])}
    locale = locale_for(server, http, before)
    mail = Mail("address_changed", old, before.sub, values, locale, proof.proof_id, LIFETIMES[UNDO])
    return proofs.storing(server, proof), sending(server, mail)


def user_of_undo(server: AuthorizationServer, proof: Proof) -> User:
    """Return the user whose change of address a proof can undo. Raises RequestEnded when it no longer can.

    An undo takes back all later changes too, and ends the links by which these could be undone: otherwise the address
    of another person, which the user has just got rid of, could be set again.
    """
    user = server.store.users.get(proof.sub or proofs.NO_USER)
    if user is None or user.email_void_from < proof.generation <= user.email_void_until:
        raise proofs.ended(server, UNDO)
    return user


def undo(server: AuthorizationServer, http: Request, proof: Proof, browser_id: str) -> User:
    """Give a user the old address back, and end all sessions and grants; return the new record.

    Raises AddressTaken when another user has verified it since, and RequestEnded.
    """
    store, old = server.store, proofs.content_of(server, proof).address
    for _ in range(_TRIES):
        user = user_of_undo(server, proof)
        changed = replace(
            without_grants(without_sessions(with_claims(user, _verified(old), server.now()))),
            email_changes=user.email_changes + 1,
            email_void_from=proof.generation,
            email_void_until=user.email_changes,
        )
        rewriting, spending = store.users.rewriting(user, changed), proofs.spending(server, proof, browser_id)
        claiming = identifiers.replacing(store, user, changed)
        event = events.record(store, http, events.EMAIL_CHANGE_UNDONE, user.sub)
        refused = store.transact(rewriting, spending, *claiming, event, tell_clients(store, changed))
        if refused is None:
            return changed
        if refusal := refused.of(spending):
            if proofs.is_spent(refusal.record, proof, browser_id):
                return user
            raise proofs.ended(server, UNDO)
        if any(refused.of(write) for write in claiming):
            raise AddressTaken
    raise TemporarilyUnavailable(detail="a user: changed by other requests each time")


def _verified(address: str) -> dict[str, Any]:
    return {"email": address, "email_verified": True}
