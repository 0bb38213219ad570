"""The forms of our pages: what they carry, and the proof that this server has shown them to this browser.

The query of a form's action is the authorization request itself, or the handle of a stored one. So a page can be shown
without storing anything, stays at the address of the request, and can be reloaded. The tag proves the query, the step,
the time, and the browser or session; with the id of the request, its record is created once, when the form is sent.
"""

import hashlib
import re
from dataclasses import replace

from chalicelib import pages
from chalicelib.authentication.passkey_options import (
    creation_options,
    for_creation,
    for_second_factor,
    for_sign_in,
    sign_in_options,
)
from chalicelib.authentication.passkey_sign_in import second_factor_options
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.recipient import set_recipient_of
from chalicelib.authorization.request import receive_query, require_current, require_repeatable
from chalicelib.authorization.stored_request import is_short, stored_if_expired
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidRequest, RequestEnded
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.next_step import Step
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.sessions.repeated_form import digest_form

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIME = re.compile(r"[0-9]{1,12}")
SIGNED_UP = "signed_up"  # a parameter that no request has, once the page to create an account was shown
MAX_KEPT_QUERY = 2000  # bytes of a request that are kept with an email
_MAX_HANDLE = 128  # bytes of the parameter request_uri: that of a handle has 74
OF_BROWSER = (Step.SIGN_IN, Step.SECOND_FACTOR)  # the steps before there is a session
_CLOCK_DIFFERENCE = 60  # seconds by which another process may be ahead


@dataclass(frozen=True)
class Form:
    """The address that a form is sent to, and its hidden fields as pairs of name and value.

    `passkey`: the options of a passkey, to sign in, as the second factor, or to add one; "" where there can be none.
    """

    action: str
    fields: tuple[tuple[str, str], ...]
    passkey: str = ""


@dataclass(frozen=True)
class SentForm:
    """A form that this server has shown to this browser.

    `request_id`: of its request. `shown_at`: when. `terms`: a digest of what the request asked for, with the defaults
    that the client had then. `digest`: what a session keeps of it.
    """

    request_id: str
    shown_at: int
    terms: str
    digest: str = ""


def query_of(interaction: Interaction) -> str:
    """Return the query that leads to the request again: the request itself, with its handle if it is stored.

    So the request can be started again once its record has expired. Only the handle, if the request came by POST, with
    what the language menu and the page to create an account have put into the address.
    """
    return _parameters_of(interaction).encoded()


def query_of_side_page(interaction: Interaction) -> str:
    """Return the query of a page from which the request is continued, with the languages that its user reads.

    A request that was signed or pushed has them in itself, which such a page does not read.
    """
    parameters, languages = _parameters_of(interaction), " ".join(interaction.request.ui_locales)
    if languages and "ui_locales" not in parameters:
        parameters = parameters.replaced("ui_locales", languages)
    return parameters.encoded()


def _parameters_of(interaction: Interaction) -> Params:
    query, request = interaction.http.query, interaction.request
    if not request.stored:
        return query.replaced("request_uri", None)
    carried = query if "client_id" in query else query.only("ui_locales", SIGNED_UP)
    return carried.replaced("request_uri", interaction.server.keys.make_handle("req", request.request_id))


def make_form(interaction: Interaction, step: Step, browser_id: str) -> Form:
    """Return the form of the page for a step, which `browser_id` shows."""
    server, signed_in, request = interaction.server, interaction.signed_in, interaction.request
    query, sent = query_of(interaction), SentForm(request.request_id, server.now(), _terms(request))
    holder = browser_id if step in OF_BROWSER or signed_in is None else signed_in.session.session_id
    tag = server.keys.form_tag(_subject(sent, step, query, holder))
    fields = {"request_id": sent.request_id, "shown_at": str(sent.shown_at), "terms": sent.terms, "tag": tag}
    passkey = _passkey_options(interaction, step, browser_id)
    return Form(f"{pages.base(server.settings)}/oauth2/code?{query}", tuple(fields.items()), passkey)


def _passkey_options(interaction: Interaction, step: Step, browser_id: str) -> str:
    server, request_id = interaction.server, interaction.request.request_id
    if step is Step.SIGN_IN:
        return sign_in_options(server, for_sign_in(browser_id, request_id))
    signed_in = interaction.signed_in
    if step is Step.OFFER_PASSKEY and signed_in:
        owner = signed_in.user
        purpose = for_creation(signed_in.session.session_id, owner.sub)
        return creation_options(server, purpose, owner, interaction.passkeys_of(owner.sub))
    user = interaction.waiting or (signed_in.user if signed_in else None)
    if step is not Step.SECOND_FACTOR or user is None:
        return ""
    purpose = for_second_factor(browser_id, request_id, user.sub)
    return second_factor_options(server, interaction.passkeys_of(user.sub), purpose)


def leads_to_request(query: Params) -> bool:
    """Return whether the query of a form is an authorization request, or the handle of one."""
    short = is_short(query.replaced("request_uri", None)) and len(query.only("request_uri").encoded()) <= _MAX_HANDLE
    return short and any(query.raw(name) for name in ("client_id", "request_uri"))


def query_to_keep(http: Request) -> str:
    """Return the query that leads to an authorization request, "" for none or one that is too long for a proof."""
    query = http.query.encoded()
    return query if leads_to_request(http.query) and len(query) <= MAX_KEPT_QUERY else ""


def step_of(form: Params) -> Step:
    """Return the step that a form answers."""
    if "decision" in form:
        return Step.CONSENT
    if "set_up" in form:
        return Step.ENROL_SECOND_FACTOR
    if "passkey_offer" in form:
        return Step.OFFER_PASSKEY
    if "one_time_code" in form:
        return Step.SECOND_FACTOR
    return Step.CHANGE_PASSWORD if "new_password" in form else Step.SIGN_IN


def can_add_passkey(form: Params) -> bool | None:
    """Return whether the script of the sign-in page has found out that the browser can add a passkey; None is no."""
    return form.raw("can_add_passkey") == "yes" or None


def read_form(server: AuthorizationServer, http: Request, form: Params, step: Step) -> SentForm | None:
    """Return the form, if this server has shown it to this browser or session, and not too long ago. Reads no record.

    A form that expires just now is returned too: it may have been answered (`request_of`).
    The forms to sign in, also with the second factor, belong to the browser, any other one to the session.
    """
    session = browser_sessions.session_handle(server, http)
    session_id = session.id if session else None
    holder = browser_sessions.browser_id_of(server, http) if step in OF_BROWSER else session_id
    request_id, shown_at, terms, tag = (_field(form, name) for name in ("request_id", "shown_at", "terms", "tag"))
    if holder is None or not _REQUEST_ID.fullmatch(request_id) or not _TIME.fullmatch(shown_at):
        return None
    sent = SentForm(request_id, int(shown_at), terms)
    if not server.keys.is_valid_form_tag(_subject(sent, step, http.query.encoded(), holder), tag):
        return None
    sent = replace(sent, digest=digest_form(server, tag))
    age = server.now() - sent.shown_at
    return sent if -_CLOCK_DIFFERENCE <= age < server.settings.request_lifetime + REPEATED_FOR else None


def request_of(
    server: AuthorizationServer, http: Request, sent: SentForm, stored: AuthorizationRequest | None
) -> tuple[AuthorizationRequest, Client] | None:
    """Return the request that a form belongs to, and its client; errors go to the recipient from now on.

    `stored`: the record of `request_id`. Without one, the request in the query is read and checked again; also when it
    has been answered without another record than that, so that the answer can be repeated. Returns None when it asks
    for something else than the page has shown, or has expired, so that it must be started again. Raises RequestEnded
    when it has been answered some time ago or belongs to another browser, and the OAuthError of a request that the
    client may no longer make.
    """
    answered = stored is not None and stored.answered
    if not answered and server.now() - sent.shown_at >= server.settings.request_lifetime:
        return None
    if (stored is None or (answered and not stored.stored)) and not http.query.raw("request_uri"):
        if stored is not None:
            require_repeatable(server, stored)
        request, client, object_expires_at = receive_query(server, http, seen_at=sent.shown_at)
        expires_at = sent.shown_at + server.settings.request_lifetime
        request = replace(request, request_id=sent.request_id, created_at=sent.shown_at, expires_at=expires_at)
        if stored is not None:
            request = request.answered_as(stored)
        if _terms(request) != sent.terms:
            return None
        return stored_if_expired(server, http, request, object_expires_at), client
    if stored is None and "client_id" in http.query:
        return None
    request, client = require_current(server, http, stored)
    if not request.stored or request.browser_id != browser_sessions.browser_id_of(server, http):
        raise RequestEnded("This request was started in another browser.", code="wrong_browser")
    set_recipient_of(http, client, request)
    return (request, client) if _terms(request) == sent.terms else None


def form_parameters(http: Request) -> Params | None:
    """Return the parameters of a form that was sent; None if they cannot be read, but its query leads to a request.

    Raises InvalidRequest for any other body that is no form.
    """
    try:
        return http.form()
    except InvalidRequest:
        if leads_to_request(http.query):
            return None
        raise


def _field(form: Params, name: str) -> str:
    """Return a hidden field; "" if it is missing, repeated or malformed."""
    try:
        return form.get(name, at_most=64) or ""
    except InvalidRequest:
        return ""


def _terms(request: AuthorizationRequest) -> str:
    """Return a digest of what depends on the client's record where the request does not say it."""
    text = " ".join([request.redirect_uri, *sorted(request.scope)])
    return base64url(hashlib.sha256(text.encode()).digest()[:16])


def _subject(sent: SentForm, step: Step, query: str, holder: str) -> str:
    digest = hashlib.sha256(query.encode()).hexdigest()
    return f"{step.name} {sent.request_id} {sent.shown_at} {sent.terms} {digest} {holder}"
