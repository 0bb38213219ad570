"""The operator's login application: a website at an origin that the operator has listed, in place of our pages.

`screens.show` sends the user there with the handle of the request. The application asks what the request is about
(`external_question`). Its form posts the user's answer here, from another site, so that none of our cookies comes
along. The answer is kept with the request (`receive`), and the browser is redirected to GET /oauth2/authorize with a
cookie that names it: there the user's own cookies are sent, and the answer is used (`take_answer`). It is valid in the
browser that posted it, for the request that was started there, once, and for a minute. The second factor is asked for
on our own page, and so is consent to authorization details that the application has not shown (`external_details`).

Only a browser proves an origin: a program that posts an answer gets a cookie that is useless in another browser. A new
password is chosen on our own page.
"""

from dataclasses import replace
from typing import Any

from chalicelib.authentication.password import NotSignedIn, SignInAttempt, remember_browser
from chalicelib.authorization.external_decision import decision_in, use_decision
from chalicelib.authorization.flow import proceed
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.recipient import set_recipient_of
from chalicelib.authorization.request import ended, read_stored_request, receive_request
from chalicelib.authorization.request_object import SentRequest
from chalicelib.authorization.restoration import offer_restoration
from chalicelib.authorization.second_factor import waiting_members
from chalicelib.authorization.stored_request import redirect_to_stored_request, store_unauthenticated
from chalicelib.http.messages import Params, Request, Response, redirect, with_query
from chalicelib.protocol.client import Client
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.table import Refused, Write

COOKIE = "answer"
ANSWER_LIFETIME = 60
MAX_ANSWERS = 20


def is_answer(server: AuthorizationServer, http: Request, form: Params) -> bool:
    """Return whether this form comes from the application. Our own forms have a tag, which only we can make."""
    from_application = http.header("origin") in server.settings.login_origins
    return bool(server.settings.login_url) and from_application and "tag" not in form


# ---- the answer is posted


def receive(server: AuthorizationServer, http: Request, form: Params) -> Response:
    """Keep credentials or a decision, with the handle of a request, or with a whole authorization request.

    Returns a redirect: to GET /oauth2/authorize, or, with `error`, back to the application. Raises RequestEnded for a
    request that cannot be answered.
    """
    handle = form.get("request_uri")
    if handle is None:
        request, client = receive_request(server, http, SentRequest(form))
        return _receive_sign_in(server, http, form, client, request)
    request, client = read_stored_request(server, http, handle)
    set_recipient_of(http, client, request)
    if "decision" in form:
        decision = decision_in(request, form)
        if not request.asked_sub or request.answers >= MAX_ANSWERS:  # no browser has proved anything: write nothing
            return redirect_to_stored_request(server, http, request)
        return _keep(server, http, request, attr("asked_sub").exists(), decision)
    return _receive_sign_in(server, http, form, client, request, stored=True)


def _receive_sign_in(
    server: AuthorizationServer,
    http: Request,
    form: Params,
    client: Client,
    request: AuthorizationRequest,
    *,
    stored: bool = False,
) -> Response:
    # It is not known which browser posts this: the one that the request was started in may be another user's.
    attempt = SignInAttempt.of_form(server, http, form, request.browser_id, from_browser=False)
    try:
        verified = attempt.verify(server.store.read_all(attempt.lookups), client, request)
    except NotSignedIn as failure:
        if not stored and not failure.retry_after:
            store_unauthenticated(server, http, form, request)
            stored = True
        return _back(server, http, request if stored else None, failure)
    proof = {"sub": verified.user.sub, "generation": verified.user.sessions_generation}
    return _keep(server, http, request, None, proof, *verified.checked_writes(server.store), stored=stored)


def _keep(
    server: AuthorizationServer,
    http: Request,
    request: AuthorizationRequest,
    condition: Condition | None,
    content: dict[str, Any],
    *also: Write[Any],
    stored: bool = True,
) -> Response:
    """Keep an answer with its request, in one transaction with the writes `also`; redirect to where it is used."""
    answer = {**content, "id": new_id(), "at": server.now()}
    table = server.store.requests
    keeping = table.inserting(replace(request, answer=answer))
    if stored:
        unanswered = attr("taken_at").not_exists() & ~attr("answers").gte(MAX_ANSWERS)
        both = unanswered if condition is None else unanswered & condition
        keeping = table.changing((request.request_id,), both, {"answer": answer}, {"answers": 1})
    refused = server.store.transact(keeping, *also)
    refusal = refused.of(keeping) if refused else None
    current = refusal.record if refusal else None
    if refused and (current is None or current.taken_at is not None):
        raise ended(current)
    response = redirect_to_stored_request(server, http, request)
    if refused:  # a decision, though consent was not asked for
        return response
    handle = server.keys.make_handle("ans", answer["id"])
    return response.add(browser_sessions.own_cookie(server, COOKIE, handle, ANSWER_LIFETIME))


def _back(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest | None, failure: NotSignedIn
) -> Response:
    """Return the redirect back to the application, with what went wrong, and the handle of a stored request."""
    parameters = {
        "request_uri": server.keys.make_handle("req", request.request_id) if request else None,
        "error": failure.code,
        "error_description": failure.text,
        "retry_after": str(failure.retry_after) if failure.retry_after else None,
    }
    return redirect(http, with_query(server.settings.login_url or "", parameters))


# ---- the answer is used


def take_answer(interaction: Interaction) -> Response | None:
    """Return what the posted answer leads to, in the browser that posted it; None if no answer is valid here.

    The request is bound to this browser. Raises the OAuthError that goes to the recipient.
    """
    server, http, answer = interaction.server, interaction.http, interaction.request.answer
    handle = server.keys.read_handle("ans", http.cookie(browser_sessions.cookie_name(server, COOKIE)))
    if handle is None or handle.id != answer.get("id") or server.now() - answer["at"] >= ANSWER_LIFETIME:
        return None
    response = None
    if "sub" in answer:
        response = _sign_in(interaction)
    elif interaction.signed_in and interaction.signed_in.user.sub == interaction.request.asked_sub:
        response = use_decision(interaction, interaction.signed_in, answer)
    return response and response.add(browser_sessions.own_cookie(server, COOKIE, "", 0))


def _sign_in(interaction: Interaction) -> Response | None:
    server, http, request = interaction.server, interaction.http, interaction.request
    store, sub = server.store, request.answer["sub"]
    user, consent = store.read(store.users.lookup(sub), store.consents.lookup(sub, interaction.client.client_id))
    if user is None or user.disabled_at is not None or user.sessions_generation != request.answer["generation"]:
        return None  # the proof of a moment ago is no longer valid
    same_answer = attr("answer.id").eq(request.answer["id"])
    if server.settings.authentication_policy.asks_for_code(user):
        # The application cannot vouch for it: its form comes from the user's browser, where its user can change it.
        waiting = waiting_members(server, user)
        changed = store.requests.transition((request.request_id,), same_answer, {"waiting": waiting}, ("answer",))
        if isinstance(changed, Refused):
            return None
        return proceed(replace(interaction, request=replace(request, answer={}, waiting=waiting), waiting=user))
    if user.deleted_at is not None:  # after the second factor: the password alone must not restore an account
        return offer_restoration(interaction, user)
    taking = store.requests.changing((request.request_id,), same_answer, {"asked_sub": sub}, remove=("answer",))
    also = (taking, *remember_browser(server, http, user, request.browser_id))
    signed_in = browser_sessions.start_session(server, http, user, request.request_id, interaction.signed_in, also)
    request = replace(request, asked_sub=sub, answer={})
    return proceed(replace(interaction, request=request, signed_in=signed_in, consent=consent))


# ---- helpers
