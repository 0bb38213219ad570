"""New users who prove their email address first: those who sign up themselves, and those whom the operator invites.

There is no record of a user before the address is proved, so that no one can prepare an account for the owner of
another person's address, and share it with them later.
"""

from dataclasses import replace

from chalicelib import events
from chalicelib.authentication import password_rules, proofs
from chalicelib.authentication.password import remember_browser
from chalicelib.authentication.proofs import Content
from chalicelib.http.messages import Request
from chalicelib.mail import limits
from chalicelib.mail.notices import locale_of_reader
from chalicelib.mail.outbox import Mail, sending
from chalicelib.protocol.email_addresses import canonical, sendable
from chalicelib.protocol.identifiers import email_identifier, username_identifier
from chalicelib.protocol.proof import INVITATION, LIFETIMES, SIGN_UP, Proof
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.users import identifiers
from chalicelib.users.registration import check_username, new_user

USERNAME_TAKEN = Text("This username is taken. Choose another one.")


class NotCreated(Exception):
    """The account was not created. The text says why, and `field` names the field with the problem."""

    def __init__(self, text: str, field: str):
        super().__init__(text)
        self.field = field


def check_domain(settings: Settings, address: str) -> str:
    """Return the address as mail is sent to it. Raises ValueError, with a sentence for users, unless it may sign up."""
    address = sendable(address)
    if settings.sign_up_domains and address.rpartition("@")[2] not in settings.sign_up_domains:
        domains = ", ".join(settings.sign_up_domains)
        raise ValueError(Text("Use an address at one of these domains: %(domains)s.", domains=domains))
    return address


def ask(server: AuthorizationServer, http: Request, address: str, browser_id: str, query: str) -> Proof:
    """Send an email with a code to the address of a person who wants an account.

    If there is an account with this address, the email says so, and no code is right: the page must not tell. An email
    replaces no other, which would tell whether the address, or a username of its account, has reached its limit.
    `query`: leads to the authorization request with which to continue. Raises ValueError, with a sentence for users.
    """
    address = check_domain(server.settings, address)
    key = email_identifier(address)
    taken = identifiers.is_used_by_another(server.store, address, None)
    allowed = limits.admit(server, http, key)
    content = Content("" if taken or not allowed else address, address, query)
    proof = proofs.new_proof(server, SIGN_UP, None, content, browser_id=browser_id)
    locale = locale_of_reader(server, http)
    template, proof_id = ("already_registered", None) if taken else ("sign_up", proof.proof_id)
    mail = Mail(
        template, address if allowed else "", None, locale=locale, proof_id=proof_id, lifetime=LIFETIMES[SIGN_UP]
    )
    server.store.transact(proofs.storing(server, proof), sending(server, mail))
    return proof


def invite(server: AuthorizationServer, address: str, client_id: str = "") -> Proof:
    """Send an invitation to an address; `client_id`: the application to which it leads. For the operator.

    Raises ValueError, with a sentence for the operator, when it is no address or a user has it.
    """
    address = sendable(address)
    if identifiers.is_used_by_another(server.store, address, None):
        raise ValueError(identifiers.TAKEN)
    content = Content(address, address, client_id=client_id)
    proof = proofs.new_proof(server, INVITATION, email_identifier(address), content)
    mail = Mail("invitation", address, None, proof_id=proof.proof_id, lifetime=LIFETIMES[INVITATION])
    server.store.transact(proofs.storing(server, proof), sending(server, mail))
    return proof


def require_offered(server: AuthorizationServer, proof: Proof) -> None:
    """Raise RequestEnded for the email of a sign-up once the operator no longer lets this address sign up."""
    if proof.purpose != SIGN_UP:
        return
    try:
        check_domain(server.settings, proofs.content_of(server, proof).address)
    except ValueError as error:
        raise proofs.ended(server) from error
    if not server.settings.offers_sign_up:
        raise proofs.ended(server)


def create(
    server: AuthorizationServer, http: Request, proof: Proof, username: str, password: str, again: str, browser_id: str
) -> None:
    """Create the account whose address a proof has proved. Signs no one in.

    The same form, sent twice, creates one. Raises NotCreated, and RequestEnded when the proof was used.
    """
    require_offered(server, proof)
    store, address = server.store, proofs.content_of(server, proof).address
    claims = {"email": address, "email_verified": True, "updated_at": store.now()}
    _check_own_username(username, address)
    draft = User("", username, "", claims)
    if text := password_rules.find_problem(server.settings, draft, password, again):
        raise NotCreated(text, "new_password")
    if store.identifiers.get(username_identifier(username)):
        raise NotCreated(USERNAME_TAKEN, "username")
    user = replace(new_user(store, username, password), claims=claims)
    spending, inserting = proofs.spending(server, proof, browser_id), identifiers.inserting(store, user)
    event = events.record(store, http, events.SIGNED_UP, user.sub)
    browser = remember_browser(server, http, user, browser_id)
    refused = store.transact(*inserting, store.users.inserting(user), spending, event, *browser)
    if refused is None:
        return
    if refusal := refused.of(spending):
        if proofs.is_spent(refusal.record, proof, browser_id):
            return
        raise proofs.ended(server, proof.purpose)
    if refused.of(inserting[0]):
        raise NotCreated(USERNAME_TAKEN, "username")
    raise NotCreated(Text("There is an account with your email address already. Sign in with it."), "username")


def _check_own_username(username: str, address: str) -> None:
    """Raise NotCreated unless a user may choose this name: one that looks like an address must be the own one."""
    try:
        check_username(username)
        if "@" in username_identifier(username) and canonical(username) != canonical(address):
            raise NotCreated(
                Text("Only your own email address can be your username. Or choose one without @."), "username"
            )
    except ValueError as error:
        raise NotCreated(str(error), "username") from error
