"""The button of the sign-in page that asks for an email with a code, and the way back to the password.

The request is stored with the id of the email, in the transaction that stores the email. From then on its page asks for
the code, until the user signs in, wants to use the password, or the email ends.
"""

from dataclasses import replace

from chalicelib.authorization.email_sign_in_page import opened_email, show_problem
from chalicelib.authorization.forms import MAX_KEPT_QUERY, query_of_side_page
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.request import ended
from chalicelib.authorization.screens import redirect_to_request
from chalicelib.authorization.stored_request import forget_email, stored_for, storing_email
from chalicelib.http.messages import Params, Response
from chalicelib.protocol.errors import TooManyEmails
from chalicelib.protocol.identifiers import trim
from chalicelib.protocol.proof import LIFETIMES, SIGN_IN
from chalicelib.protocol.texts import Text
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.storage.store import Records
from chalicelib.users import email_code

NO_NAME = Text("Enter your username or your email address, then ask for the code.")


def ask(interaction: Interaction, form: Params, records: Records | None) -> Response:
    """Store an email for the user who is named in the form, and show the page that asks for its code.

    `records`: those of `requested_email.lookups_of`; they are read for a form without a name, which asks for the same
    email again. The same button, pressed twice within a minute, asks for one email.
    """
    server, http, request = interaction.server, interaction.http, interaction.request
    if request.answered:
        raise ended(request)
    typed, opened = form.raw("username") or "", opened_email(server, request)
    if opened and "username" not in form:
        typed = opened[1].typed
    if opened and opened[1].typed == trim(typed) and server.now() - opened[0].created_at < REPEATED_FOR:
        return redirect_to_request(interaction)
    if not trim(typed):
        return show_problem(interaction, NO_NAME, "no_username")
    browser_id, _ = browser_sessions.identify_browser(server, http)
    stored = stored_for(server, request, browser_id)
    stored = replace(stored, expires_at=max(stored.expires_at, server.now() + LIFETIMES[SIGN_IN]))
    query = query_of_side_page(replace(interaction, request=stored))
    for names in (("request_uri", "ui_locales"), ("request_uri",)):
        if len(query) > MAX_KEPT_QUERY:
            query = Params.from_urlencoded(query).only(*names).encoded()
    try:
        email = email_code.ask(server, http, typed, browser_id, query, records)
    except TooManyEmails as limit:
        return show_problem(interaction, limit.description, "too_many_emails", limit.retry_after, typed)
    keeping = storing_email(server, request, replace(stored, email_proof=email.proof.proof_id))
    if refused := server.store.transact(keeping, *email.writes):
        refusal = refused.of(keeping)
        current = refusal.record if refusal else None
        if current is None or current.answered:
            raise ended(current)
    return redirect_to_request(replace(interaction, request=stored))


def use_password(interaction: Interaction) -> Response:
    """Go back to the page that asks for the password, with what was typed. The code that was sent is not asked for."""
    server, request = interaction.server, interaction.request
    opened = opened_email(server, request)
    if request.email_proof is not None:
        forget_email(server, request)
    return show_problem(interaction, "", typed=opened[1].typed if opened else None)
