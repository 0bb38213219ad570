"""An email with a code and a link that a person without a session asks for, by a username or an email address.

For a name that no user has, or a user who cannot get it, the same is done, so that the answer, the time and the number
of calls tell nothing: the email is only not sent.
"""

from dataclasses import replace
from typing import Any

from chalicelib import events, pages
from chalicelib.authentication import proofs
from chalicelib.authentication.password import MAX_USERNAME, NO_USER
from chalicelib.authentication.proofs import Content
from chalicelib.http.messages import Request
from chalicelib.mail import limits
from chalicelib.mail.notices import locale_of_reader, verified_address
from chalicelib.mail.outbox import Mail, sending
from chalicelib.protocol.identifiers import sign_in_identifiers, trim
from chalicelib.protocol.proof import LIFETIMES, Proof
from chalicelib.protocol.records import Identifier, User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import Records, Store
from chalicelib.storage.table import Lookup, Write
from chalicelib.users.identifiers import address_identifier


@dataclass(frozen=True)
class Kind:
    """What such an email is for: the purpose of its proof, its template, the event of asking for it.

    `generation`: the number of the user with whose change it ends. `replaces`: whether a newer email replaces those
    that the same browser has asked for by the same name; otherwise it replaces none. It never depends on the user: two
    names of one user must look like two of different users, or of none.
    """

    purpose: str
    template: str
    event: str
    generation: str
    replaces: bool = False


@dataclass(frozen=True)
class Asked:
    """A proof, and the writes that store it and its email, for one transaction."""

    proof: Proof
    writes: tuple[Write[Any], ...]


def lookups_of(store: Store, typed: str) -> tuple[Lookup[Identifier], ...]:
    """Return the records that say who signs in with what was typed."""
    return tuple(map(store.identifiers.lookup, _keys(typed)))


def prepare(
    server: AuthorizationServer,
    http: Request,
    kind: Kind,
    typed: str,
    browser_id: str,
    query: str,
    records: Records | None = None,
    **values: str,
) -> Asked:
    """Return a proof for the user who signs in with what was typed, or a decoy, and what stores it.

    `query`: leads to the authorization request with which to continue, "" for none. `records`: those of `lookups_of`,
    which are read if it is None. `values`: for the text of the email. The same reads and writes in any case. Raises
    TooManyEmails.
    """
    store, keys, lookups = server.store, _keys(typed), lookups_of(server.store, typed)
    typed = trim(typed[:MAX_USERNAME])
    records = store.read_all(lookups) if records is None else records
    identifier = next((record for lookup in lookups if (record := records.get(lookup))), None)
    user = store.users.get(identifier.sub if identifier else NO_USER)
    key = address_identifier(user) if user and _may_get_it(server, user) else None
    allowed = limits.admit(server, http, key or keys[-1])
    recipient = user if key and allowed else None
    to = (verified_address(recipient) or "") if recipient else ""
    proof = proofs.new_proof(
        server,
        kind.purpose,
        f"{keys[-1]} {browser_id}" if kind.replaces else None,
        Content(to, typed, query),
        browser_id=browser_id,
        sub=recipient.sub if recipient else None,
        generation=getattr(recipient, kind.generation) if recipient else 0,
    )
    locale = locale_of_reader(server, http)
    shown = {name: pages.translate(value, locale) for name, value in values.items()}
    values = {"username": recipient.username if recipient else typed, **shown}
    mail = Mail(kind.template, to, proof.sub, values, locale, proof.proof_id, LIFETIMES[kind.purpose])
    storing = replace(proofs.storing(server, proof), on_success=lambda: events.note(http, kind.event, sub=proof.sub))
    return Asked(proof, (storing, sending(server, mail)))


def require_current(server: AuthorizationServer, kind: Kind, proof: Proof, user: User | None) -> User:
    """Return the user, if the email that was sent may still be used. Raises RequestEnded.

    `user`: the record of the user of the proof, as it is now.
    """
    content = proofs.content_of(server, proof)
    if user is None or user.sub != proof.sub or not _may_get_it(server, user):
        raise proofs.ended(server, kind.purpose, content.query)
    if getattr(user, kind.generation) != proof.generation or verified_address(user) != content.address:
        raise proofs.ended(server, kind.purpose, content.query)
    return user


def _may_get_it(server: AuthorizationServer, user: User) -> bool:
    return user.disabled_at is None and not user.is_gone(server.now())


def _keys(typed: str) -> tuple[str, ...]:
    return sign_in_identifiers(trim(typed) if len(typed) <= MAX_USERNAME else "")
