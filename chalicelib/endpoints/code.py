"""/oauth2/code: the user's answers. GET: a request with the user's own credentials (light-oauth2); POST: our forms."""

from dataclasses import replace

from chalicelib.authorization import direct_sign_in, email_form, external_login, external_question
from chalicelib.authorization.consent import decide, read_decision
from chalicelib.authorization.forms import (
    OF_BROWSER,
    can_add_passkey,
    form_parameters,
    leads_to_request,
    read_form,
    request_of,
    step_of,
)
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.passkey_sign_in import PasskeyForm
from chalicelib.authorization.problems import FORM_EXPIRED, SIGNED_OUT, address_of, redirect_with_problem
from chalicelib.authorization.sign_in import answer_credentials, answer_new_password, read_attempt
from chalicelib.authorization.step_answers import ANSWERS
from chalicelib.builtin_clients import ACCOUNT
from chalicelib.http.csrf import require_same_origin
from chalicelib.http.messages import Request, Response
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.next_step import Step
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions


def get(server: AuthorizationServer, http: Request) -> Response:
    """Answer an authorization request with HTTP Basic. To the login application: describe what a request is about."""
    if external_question.is_question(server, http):
        return external_question.describe_request(server, http)
    return direct_sign_in.receive(server, http)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Answer the form of one of our pages: credentials, a new password, or the decision.

    A form that cannot be read, has expired or was shown to another browser leads back to its request, before its
    password is looked at. Raises RequestEnded for a form without a request, for a request that was answered, and for a
    browser without our cookie, which could not be told a problem after a redirect.
    """
    form = form_parameters(http)
    if form and external_login.is_answer(server, http, form):
        return external_login.receive(server, http, form)
    require_same_origin(server.issuer, http)
    if not leads_to_request(http.query):
        raise RequestEnded("The form does not belong to a request.", code="form_not_ours")
    query, browser_id = http.query.encoded(), browser_sessions.browser_id_of(server, http)
    if browser_id is None:
        raise RequestEnded(
            "There is no cookie of this server.", code="cookies_blocked", retry=address_of(server, query)
        )
    if form is None:
        return redirect_with_problem(server, http, query, FORM_EXPIRED)
    step = step_of(form)
    sent = read_form(server, http, form, step)
    if sent is None:
        signed_out = step not in OF_BROWSER and browser_sessions.session_handle(server, http) is None
        return redirect_with_problem(server, http, query, SIGNED_OUT if signed_out else FORM_EXPIRED)
    decision = read_decision(form)
    by_email = step is Step.SIGN_IN and email_form.is_about_email(form)
    may_be_passkey = step is Step.SIGN_IN and not by_email
    passkey = PasskeyForm.read(server, http, form, browser_id, sent) if may_be_passkey else None
    by_password = may_be_passkey and passkey is None
    attempt = read_attempt(server, http, form, browser_id) if by_password else None
    lookups = passkey.lookups if passkey else attempt.lookups if attempt else ()
    lookups = email_form.lookups(server, form) if by_email else lookups
    browser = browser_sessions.read_browser(server, http, *lookups, request_id=sent.request_id)
    request_and_client = request_of(server, http, sent, browser.request)
    if request_and_client is None:
        return redirect_with_problem(server, http, query, FORM_EXPIRED)
    request, client = request_and_client
    if step is Step.SIGN_IN and not email_form.follows_sign_in_page(form):
        keep = server.settings.keep_signed_in and form.raw("keep") == "on"
        offer = can_add_passkey(form) if by_password else None
        request = replace(request, keep_signed_in=keep or None, offer_passkey=offer)
    interaction = Interaction(server, http, client, request, browser.signed_in)
    if by_email:
        return email_form.answer(interaction, form, browser.records)
    if passkey:
        return passkey.answer(interaction, browser.records)
    if attempt:
        # Only then can it have been sent before, so that further records must be read. The account page's requests have
        # no record.
        renewed = browser.session is not None and browser.session.renewed_by == sent.digest
        may_repeat = browser.request is not None or renewed or client.client_id == ACCOUNT
        return answer_credentials(interaction, attempt, browser.records, sent.digest, may_repeat=may_repeat)
    if answer := ANSWERS.get(step):
        return answer(interaction, form)
    if step is Step.CHANGE_PASSWORD:
        return answer_new_password(interaction, form, sent.digest)
    if browser.signed_in is None:
        return redirect_with_problem(server, http, query, SIGNED_OUT)
    return decide(interaction, browser.signed_in, decision)
