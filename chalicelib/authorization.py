"""The one dispatcher of the authorization flow: what comes next for this request and this person?

A page, a redirect with a code, or a redirect with an error. No step knows the next one: all return here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from chalicelib import pages, sessions
from chalicelib.authorization_request import Recipient
from chalicelib.claims import describe
from chalicelib.dynamodb import attr
from chalicelib.errors import OAuthError, RequestEnded, unexpected
from chalicelib.handles import new_id
from chalicelib.interaction import Person, Step, consent_lasts, next_step
from chalicelib.messages import Request, Response, redirect, with_query
from chalicelib.models import AuthorizationRequest, Client, Consent, Grant
from chalicelib.server import AuthorizationServer
from chalicelib.table import Step as StoreStep
from chalicelib.tokens import refresh_token_lifetime

ANSWERED = "This request has expired or has been answered already."


def answer_errors(
    server: AuthorizationServer, http: Request, to: Recipient, produce: Callable[[], Response]
) -> Response:
    """What `produce` gives; an error that it raises is sent to the recipient (RFC 6749 section 4.1.2.1)."""
    try:
        return produce()
    except RequestEnded:
        raise
    except OAuthError as known:
        error = known
    except Exception as mistake:
        error = unexpected(mistake)
    http.error = error
    answer = error.parameters() | {"state": to.state, "iss": server.issuer}
    return redirect(http, with_query(to.redirect_uri, answer))


def waiting(server: AuthorizationServer, http: Request, request: AuthorizationRequest) -> Response:
    """The redirect to a stored request, by its handle: a page that a GET has shown can be reloaded and gone back to."""
    address = urlsplit(server.issuer).path + server.addresses["authorization_endpoint"]
    handle = server.keys.make_handle("req", request.request_id)
    return redirect(http, with_query(address, {"request_uri": handle}))


def proceed(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    request: AuthorizationRequest,
    person: Person | None,
    consent: Consent | None,
) -> Response:
    """The next page, or the code. Raises the OAuthError that goes back to the recipient."""
    step = next_step(request, client, person, consent, server.now())
    if step is None and person:
        return grant(server, http, client, request, person)
    if http.method == "POST":
        return waiting(server, http, request)
    return show(server, http, client, request, step or Step.SIGN_IN, person, consent)


def show(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    request: AuthorizationRequest,
    step: Step,
    person: Person | None = None,
    consent: Consent | None = None,
    *,
    status: int = 200,
    **values: str,
) -> Response:
    """The page for a step. The request is stored, if it is not yet, and the page carries only its handle."""
    new_browser: dict[str, str] = {}
    if request.browser_id is None:
        browser_id, new_browser = sessions.browser(server, http)
        request = replace(request, browser_id=browser_id)
        server.store.requests.put(request)
    known = consent.scope if consent else frozenset()
    body = pages.page(
        step.name.lower(),
        server.settings,
        client=client,
        redirect_uri=request.redirect_uri,
        scopes=[(describe(scope), bool(known) and scope not in known) for scope in sorted(request.scope)],
        remembered=consent_lasts(request, client),
        username=values.pop("username", request.login_hint or ""),
        person=person.user if person else None,
        handle=server.keys.make_handle("req", request.request_id),
        tag=server.keys.form_tag(form_subject(request, step, person)),
        problem=values.pop("problem", ""),
    )
    response = pages.response(body, status, redirect_uri=request.redirect_uri)
    return response.add(new_browser)


def form_subject(request: AuthorizationRequest, step: Step, person: Person | None) -> str:
    """What a form's tag vouches for: this step of this request, shown to this browser or in this session."""
    if step is Step.SIGN_IN or person is None:
        return f"{Step.SIGN_IN.name} {request.request_id} {request.browser_id}"
    return f"{step.name} {request.request_id} {person.session.session_id}"


def grant(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    request: AuthorizationRequest,
    person: Person,
    *,
    always: bool = False,
) -> Response:
    """The grant is born, in one transaction with its session, its user and its request; the redirect with its code.

    `always` remembers the consent. Raises RequestEnded when the request has been answered already.
    """
    store, now = server.store, server.now()
    born = _new_grant(server, client, request, person, now)
    session_ok = attr("ended_at").not_exists() & attr("generation").eq(person.session.generation)
    idle_until = now + server.settings.session_idle_lifetime
    steps: list[StoreStep[Any]] = [
        store.grants.inserting(born),
        store.sessions.changing(
            (person.session.session_id,),
            session_ok,
            {"expires_at": idle_until},
            add={"grants": frozenset({born.grant_id})},
        ),
        sessions.user_is_welcome(server, person.user),
    ]
    if request.browser_id is not None:  # it has been stored, and is answered but once
        untaken = attr("taken_at").not_exists()
        steps.append(store.requests.changing((request.request_id,), untaken, {"taken_at": now}))
    if always:
        key = (person.user.sub, client.client_id)
        steps.append(store.consents.changing(key, None, {"updated_at": now}, add={"scope": request.scope}, create=True))
    refused = store.transact(*steps)
    if refused and request.browser_id is not None and refused[3]:
        raise RequestEnded(ANSWERED)
    if refused:  # the session ended, or the account was disabled, in this moment
        return proceed(server, http, client, request, None, None)
    code = server.keys.make_handle("code", born.grant_id)
    answer = {"code": code, "state": request.state, "iss": server.issuer}
    return redirect(http, with_query(request.redirect_uri, answer))


def _new_grant(
    server: AuthorizationServer, client: Client, request: AuthorizationRequest, person: Person, now: int
) -> Grant:
    code_expires_at = now + (client.authorization_code_lifetime or server.settings.authorization_code_lifetime)
    longest = server.settings.refresh_token_absolute_lifetime if refresh_token_lifetime(server, client) else 0
    return Grant(
        grant_id=new_id(),
        client_id=client.client_id,
        sub=person.user.sub,
        session_id=person.session.session_id,
        redirect_uri=request.redirect_uri,
        redirect_uri_sent=request.redirect_uri_sent,
        scope=request.scope,
        auth_time=person.session.auth_time,
        amr=person.session.amr,
        created_at=now,
        code_expires_at=code_expires_at,
        expires_at=code_expires_at,
        ends_at=now + longest,
        nonce=request.nonce,
        code_challenge=request.code_challenge,
    )
