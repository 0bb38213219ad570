"""An email with whose code or link a user signs in, in the browser that asked for it."""

from typing import Any

from chalicelib import events
from chalicelib.authentication import proofs
from chalicelib.authentication.password import (
    is_unknown_browser,
    lookups_of_browser,
    remember_browser,
    remember_network,
)
from chalicelib.authentication.sign_in_addresses import note_sign_in, telling_user
from chalicelib.events.history import UNKNOWN_BROWSER, device
from chalicelib.http.messages import Request
from chalicelib.protocol.authentication_context import BY_EMAIL_CODE
from chalicelib.protocol.client import Client
from chalicelib.protocol.proof import SIGN_IN, Proof
from chalicelib.protocol.records import Consent, User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import Records
from chalicelib.storage.table import Write
from chalicelib.users import requested_email
from chalicelib.users.requested_email import Asked, Kind

AMR = BY_EMAIL_CODE
KIND = Kind(SIGN_IN, "sign_in_code", events.SIGN_IN_CODE_REQUESTED, "sessions_generation", replaces=True)


@dataclass(frozen=True)
class VerifiedEmail:
    """Who has entered the code of an email, or used its link, and the writes for the next transaction.

    `unchanged`: the check of the user, for the address and everything else that ends the email. `spending`: of the
    email. `in_unknown_browser`: whether the user is to be told, because the browser is not known.
    """

    user: User
    consent: Consent | None
    unchanged: Write[User]
    spending: Write[Proof]
    in_unknown_browser: bool


def ask(
    server: AuthorizationServer, http: Request, typed: str, browser_id: str, query: str, records: Records | None
) -> Asked:
    """Return the email for the user who signs in with what was typed, as `requested_email.prepare`.

    The email tells where it was asked for, so that a person who is asked for its code can compare.
    """
    values = {"device": device(http) or UNKNOWN_BROWSER, "source_ip": http.source_ip}
    return requested_email.prepare(server, http, KIND, typed, browser_id, query, records, **values)


def verify(server: AuthorizationServer, http: Request, proof: Proof, browser_id: str, client: Client) -> VerifiedEmail:
    """Return the user of an email whose code or link was right. One read. Raises RequestEnded when it has ended."""
    store, sub = server.store, proof.sub or ""
    of_user, of_consent = store.users.lookup(sub), store.consents.lookup(sub, client.client_id)
    records = store.read_all((of_user, of_consent, *lookups_of_browser(server, http, sub, browser_id)))
    user = requested_email.require_current(server, KIND, proof, records.get(of_user))
    unchanged = store.users.unchanged(user, "disabled_at", "deleted_at", "sessions_generation", "claims")
    return VerifiedEmail(
        user,
        records.get(of_consent),
        store.users.checking((user.sub,), unchanged),
        proofs.spending(server, proof, browser_id),
        is_unknown_browser(server, http, user, browser_id, records),
    )


def waiting(
    server: AuthorizationServer, http: Request, verified: VerifiedEmail, client: Client
) -> tuple[Write[Any], ...]:
    """Return the writes for the transaction that makes a user with a second factor wait for it: with the event."""
    sub, name = verified.user.sub, events.SECOND_FACTOR_ASKED
    event = events.record(server.store, http, name, sub, client, events.BY_EMAIL_CODE)
    return verified.unchanged, verified.spending, event


def signing_in(
    server: AuthorizationServer, http: Request, verified: VerifiedEmail, browser_id: str, client: Client
) -> tuple[Write[Any], ...]:
    """Return the writes for the transaction that starts a session: with the event, and the notice if there is one.

    The browser and its network become known.
    """
    user = verified.user
    note_sign_in(server, http, user.sub)
    return (
        verified.spending,
        events.record(server.store, http, events.SIGN_IN, user.sub, client, events.BY_EMAIL_CODE),
        *remember_browser(server, http, user, browser_id),
        *remember_network(server, http, user),
        *(telling_user(server, http, user) if verified.in_unknown_browser else ()),
    )
