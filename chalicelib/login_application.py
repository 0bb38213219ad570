"""The operator's own login application: a website at an origin that the operator has listed, in place of our pages.

`authorization.show` sends the person there with the handle of the request. The application asks `description` what
the request is about. Its form posts the person's answer here, from another site, where no cookie of ours comes along.
So the answer is kept with the request (`receive`), and the browser is sent on to GET /oauth2/authorize with a cookie
that names it: there the person's own cookies are seen, and the answer counts (`take`). It counts in the browser that
has posted it, for the request that was started there, once, and for a minute.

Nothing proves an origin but a browser: whoever posts an answer without one gets a cookie that opens nothing elsewhere.
Choosing a new password is for our own page.
"""

from dataclasses import replace
from typing import Any

from chalicelib import pages, sessions
from chalicelib.authorization import answer_errors, in_words, proceed, waiting
from chalicelib.authorization_request import Recipient, ended, read, recipient, still_waiting
from chalicelib.decision import DECISIONS, decide
from chalicelib.dynamodb import attr
from chalicelib.errors import OAuthError, RequestEnded
from chalicelib.handles import new_id
from chalicelib.interaction import Person, consent_lasts
from chalicelib.messages import NO_STORE, Params, Request, Response, cookie, json_response, redirect, with_query
from chalicelib.models import AuthorizationRequest, Client, Consent
from chalicelib.server import AuthorizationServer
from chalicelib.sign_in import Credentials, NotSignedIn, in_browser
from chalicelib.table import Step

ANSWER_LIFETIME = 60


def asks(server: AuthorizationServer, http: Request) -> bool:
    """Whether this GET is the application's question what a request is about."""
    wants_json = "application/json" in (http.header("accept") or "").lower()
    return bool(server.settings.login_url) and wants_json and "request_uri" in http.query


def posts(server: AuthorizationServer, http: Request, form: Params) -> bool:
    """Whether this form comes from the application. Ours have a tag, which none but we can make."""
    from_there = http.header("origin") in server.settings.login_origins
    return bool(server.settings.login_url) and from_there and "tag" not in form


# ---- what is asked


def description(server: AuthorizationServer, http: Request) -> Response:
    """What a request is about, as JSON that pages of the listed origins can read. Nothing in it is secret, or says who
    is signed in: no cookie is looked at.
    """
    try:
        response = json_response(_describe(server, http))
    except OAuthError as error:
        http.error = error
        response = json_response(error.parameters() | {"error": error.code}, error.status, NO_STORE | error.headers)
    origin = http.header("origin")
    allowed = {"Access-Control-Allow-Origin": origin} if origin in server.settings.login_origins else {}
    return response.add({"Vary": "Origin, Accept", **allowed})


def _describe(server: AuthorizationServer, http: Request) -> dict[str, object]:
    request, client = _waiting(server, http, http.query.required("request_uri"))
    consent = server.store.consents.get(request.asked_sub or "", client.client_id) or Consent("", "")
    words = in_words(server, request, consent)
    shown = ("client_name", "client_uri", "logo_uri", "policy_uri", "tos_uri")
    return {
        "step": "consent" if request.asked_sub else "sign_in",
        "client": {name: value for name in shown if (value := getattr(client, name)) is not None},
        "host": pages.host_of(request.redirect_uri),
        "scopes": [{"scope": name, "description": text, "allowed": allowed} for name, text, allowed in words],
        "decisions": [each for each in DECISIONS if each != "allow_always" or consent_lasts(request, client)],
        "login_hint": request.login_hint,
        "ui_locales": list(request.ui_locales),
        "action": server.issuer + http.path,
        "expires_in": request.expires_at - server.now(),
    }


# ---- what is answered


def receive(server: AuthorizationServer, http: Request, form: Params) -> Response:
    """Credentials or a decision, with the handle of a request, or with a whole authorization request.

    A redirect: to GET /oauth2/authorize, or, with `error`, back to the application. Raises RequestEnded for a request
    that does not wait.
    """
    handle = form.one("request_uri")
    if handle is None:
        to = recipient(server, http, form)
        return answer_errors(server, http, to, lambda: _receive(server, http, form, to.client, read(server, form, to)))
    request, client = _waiting(server, http, handle)
    to = Recipient.of(client, request)
    return answer_errors(server, http, to, lambda: _receive(server, http, form, client, request, stored=True))


def _receive(
    server: AuthorizationServer,
    http: Request,
    form: Params,
    client: Client,
    request: AuthorizationRequest,
    *,
    stored: bool = False,
) -> Response:
    if "decision" in form and stored:
        return _keep(server, http, request, attr("asked_sub").exists(), {"decision": _decision(form)})
    # Which browser posts this nobody knows: the one that the request was started in may be somebody else's.
    credentials = Credentials.of_form(server, http, form, request.browser_id, here=False)
    try:
        signed_in = credentials.verify(server.store.read(*credentials.wanted), client, request)
    except NotSignedIn as refused:
        if not stored:
            server.store.requests.put(request)
        return _back(server, http, request, refused)
    proven = {"sub": signed_in.user.sub, "generation": signed_in.user.sessions_generation}
    return _keep(server, http, request, None, proven, *signed_in.steps, stored=stored)


def _decision(form: Params) -> str:
    decision = form.one("decision")
    if decision not in DECISIONS:
        raise RequestEnded("The decision must be allow_once, allow_always or deny.", code="form_not_ours")
    return decision


def _keep(
    server: AuthorizationServer,
    http: Request,
    request: AuthorizationRequest,
    condition: Any,
    content: dict[str, Any],
    *also: Step[Any],
    stored: bool = True,
) -> Response:
    """Keep an answer with its request, in one transaction with the steps `also`; the redirect to where it counts."""
    answer = {**content, "id": new_id(), "at": server.now()}
    table = server.store.requests
    step = table.inserting(replace(request, answer=answer))
    if stored:
        untaken = attr("taken_at").not_exists()
        together = untaken if condition is None else untaken & condition
        step = table.changing((request.request_id,), together, {"answer": answer})
    refused = server.store.transact(step, *also)
    record = refused[0].record if refused and refused[0] else None
    if refused and (record is None or record.taken_at is not None):
        raise ended(record)
    answered = waiting(server, http, request)
    if refused:  # a decision, and nobody was asked
        return answered
    handle = server.keys.make_handle("ans", answer["id"])
    return answered.add(_cookie(server, handle, ANSWER_LIFETIME))


def _back(server: AuthorizationServer, http: Request, request: AuthorizationRequest, refused: NotSignedIn) -> Response:
    """The redirect back to the application, with what went wrong."""
    parameters = {
        "request_uri": server.keys.make_handle("req", request.request_id),
        "error": refused.code,
        "error_description": refused.text,
        "retry_after": str(refused.retry_after) if refused.retry_after else None,
    }
    return redirect(http, with_query(server.settings.login_url or "", parameters))


# ---- where it counts


def take(
    server: AuthorizationServer, http: Request, client: Client, request: AuthorizationRequest, person: Person | None
) -> Response | None:
    """What the answer that was posted leads to, in the browser that has posted it; None if there is none that counts.

    `request` is bound to this browser, in which `person` is signed in. Raises the OAuthError that goes back to the
    recipient.
    """
    handle = server.keys.read_handle("ans", http.cookie(_cookie_name(server)))
    answer = request.answer
    if handle is None or handle.id != answer.get("id") or server.now() - answer["at"] >= ANSWER_LIFETIME:
        return None
    response = None
    if "sub" in answer:
        response = _sign_in(server, http, client, request, person)
    elif person and person.user.sub == request.asked_sub:
        response = decide(server, http, answer["decision"], client, request, person)
    return response and response.add(_cookie(server, "", 0))


def _sign_in(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    request: AuthorizationRequest,
    previous: Person | None,
) -> Response | None:
    store, sub = server.store, request.answer["sub"]
    user, consent = store.read((store.users, (sub,)), (store.consents, (sub, client.client_id)))
    if user is None or user.disabled_at is not None or user.sessions_generation != request.answer["generation"]:
        return None  # what was proven a moment ago counts no more
    mine = attr("answer.id").eq(request.answer["id"])
    taking = store.requests.changing((request.request_id,), mine, {"asked_sub": sub}, remove=("answer",))
    known = in_browser(server, http, user, request.browser_id)
    person = sessions.start(server, http, user, request.request_id, previous, (taking, *known))
    response = proceed(server, http, client, replace(request, asked_sub=sub, answer={}), person, consent)
    return response.add(sessions.session_cookie(server, person.session))


# ---- underneath


def _waiting(server: AuthorizationServer, http: Request, text: str) -> tuple[AuthorizationRequest, Client]:
    """The request that a handle names, and its client. Raises RequestEnded when it does not wait."""
    handle = server.keys.read_handle("req", text)
    return still_waiting(server, http, server.store.requests.get(handle.id) if handle else None)


def _cookie_name(server: AuthorizationServer) -> str:
    return sessions.cookie_name(server, "answer")


def _cookie(server: AuthorizationServer, handle: str, max_age: int) -> dict[str, str]:
    return cookie(_cookie_name(server), handle, secure=server.settings.secure, max_age=max_age)
