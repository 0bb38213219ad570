"""The forms of a sign-in by email: they ask for the email, have its code, or go back to the password."""

from chalicelib.authentication import proofs
from chalicelib.authorization.email_request import ask, use_password
from chalicelib.authorization.email_sign_in import use
from chalicelib.authorization.email_sign_in_page import show_problem
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import FORM_EXPIRED
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.records import Identifier
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.repeated_form import digest_form
from chalicelib.storage.store import Records
from chalicelib.storage.table import Lookup
from chalicelib.users import requested_email

ASK, CODE, USE_PASSWORD = "email_me", "email_code", "use_password"


def is_about_email(form: Params) -> bool:
    """Return whether a sign-in form asks for an email, has its code, or goes back to the password."""
    return any(name in form for name in (ASK, CODE, USE_PASSWORD))


def follows_sign_in_page(form: Params) -> bool:
    """Return whether a form comes from the page that asks for the code: it does not ask whether to stay signed in."""
    return is_about_email(form) and "username" not in form


def lookups(server: AuthorizationServer, form: Params) -> tuple[Lookup[Identifier], ...]:
    """Return the records that `answer` needs."""
    asks = ASK in form and "username" in form
    return requested_email.lookups_of(server.store, form.raw("username") or "") if asks else ()


def answer(interaction: Interaction, form: Params, records: Records) -> Response:
    """Return what follows one of these forms. `records` were read for `lookups`. Raises as `flow.proceed`."""
    server, request = interaction.server, interaction.request
    if not server.settings.offers_email_code:
        return show_problem(interaction, FORM_EXPIRED.text, FORM_EXPIRED.code)
    if USE_PASSWORD in form:
        return use_password(interaction)
    if ASK in form:
        return ask(interaction, form, records if "username" in form else None)
    code = form.raw(CODE) or ""
    proof = proofs.find(server, request.email_proof)
    return use(interaction, proof, digest_form(server, f"{form.get('tag')} {code}"), code)
