"""A forgotten password: an email with a code and a link, and the new password that they allow.

For a name that no user has, or a user without a verified address, the same is done, so that the answer, the time and
the number of calls tell nothing: the email is only not sent.
"""

from chalicelib import events
from chalicelib.authentication import password_rules, proofs
from chalicelib.authentication.password import MAX_USERNAME, NO_USER, remember_browser, remember_network
from chalicelib.authentication.proofs import Content
from chalicelib.http.messages import Request
from chalicelib.mail import limits
from chalicelib.mail.notices import locale_of_reader, tell, verified_address
from chalicelib.mail.outbox import Mail, sending
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.identifiers import sign_in_identifiers, trim
from chalicelib.protocol.proof import LIFETIMES, RESET, Proof
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.users.identifiers import address_identifier
from chalicelib.users.password_change import changing_password

_TRIES = 3


def ask(server: AuthorizationServer, http: Request, typed: str, browser_id: str, query: str) -> Proof:
    """Send an email to the user who signs in with what was typed, if they have a verified address.

    `query`: leads to the authorization request with which to continue, "" for none. The same reads and writes in
    any case.
    """
    store = server.store
    keys = sign_in_identifiers(trim(typed) if len(typed) <= MAX_USERNAME else "")
    typed = trim(typed[:MAX_USERNAME])
    lookups = [store.identifiers.lookup(key) for key in keys]
    records = store.read_all(lookups)
    identifier = next((record for lookup in lookups if (record := records.get(lookup))), None)
    user = store.users.get(identifier.sub if identifier else NO_USER)
    key = address_identifier(user) if user and user.disabled_at is None else None
    allowed = limits.admit(server, http, key or keys[-1])
    recipient = user if key and allowed else None
    to = (verified_address(recipient) or "") if recipient else ""
    about = (user.sub if user and key else keys[-1]) if allowed else None
    proof = proofs.new_proof(
        server,
        RESET,
        about,
        Content(to, typed, query),
        browser_id=browser_id,
        sub=recipient.sub if recipient else None,
        generation=recipient.password_generation if recipient else 0,
    )
    values = {"username": recipient.username if recipient else typed}
    mail = Mail(
        "password_reset", to, proof.sub, values, locale_of_reader(server, http), proof.proof_id, LIFETIMES[RESET]
    )
    store.transact(proofs.storing(server, proof), sending(server, mail))
    events.note(http, events.PASSWORD_RESET_REQUESTED, sub=proof.sub)
    return proof


def user_of(server: AuthorizationServer, proof: Proof) -> User:
    """Return the user whose password a proof can reset. Raises RequestEnded when it no longer can.

    It ends with a new password, with another address, and when the user is disabled or deleted.
    """
    user = server.store.users.get(proof.sub or NO_USER)
    content = proofs.content_of(server, proof)
    if user is None or user.disabled_at is not None or user.password_generation != proof.generation:
        raise proofs.ended(server, RESET, content.query)
    if verified_address(user) != content.address:
        raise proofs.ended(server, RESET, content.query)
    return user


def reset(server: AuthorizationServer, http: Request, proof: Proof, password: str, again: str, browser_id: str) -> None:
    """Set a new password by a proof, and end every session and grant of the user. Signs no one in.

    This browser and its network become known, because others may be guessing. The same form, sent twice, changes the
    password once. Raises ValueError, with a sentence for the user, for a password that is not acceptable, and
    RequestEnded.
    """
    store = server.store
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
            *tell(server, http, changed, "password_changed"),
        )
        if refused is None:
            return
        if refusal := refused.of(spending):
            if proofs.is_spent(refusal.record, proof, browser_id):
                return
            raise proofs.ended(server, RESET)
    raise TemporarilyUnavailable(detail="a user: changed by other requests each time")
