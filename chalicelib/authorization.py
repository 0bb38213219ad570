"""The one dispatcher of the authorization flow: what comes next for this request and this person?

A page, a redirect with a code, or a redirect with an error. No step knows the next one: all return here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from chalicelib import audit, claims, history, own_clients, pages, redirect_uris, response_modes, sessions
from chalicelib.authorization_request import ANSWERED, Recipient, ended
from chalicelib.dynamodb import attr
from chalicelib.errors import AccessDenied, LoginRequired, OAuthError, RequestEnded, unexpected
from chalicelib.handles import new_id
from chalicelib.interaction import SOMEBODY_ELSE, Person, Step, consent_lasts, is_meant, next_step
from chalicelib.messages import Request, Response, origin_of, redirect, with_query
from chalicelib.models import AuthorizationRequest, Client, Consent, Grant, User
from chalicelib.server import AuthorizationServer
from chalicelib.subjects import subject
from chalicelib.table import Refused
from chalicelib.table import Step as StoreStep
from chalicelib.tokens import id_token, refresh_token_lifetime

DAY = 24 * 60 * 60


def answer_errors(
    server: AuthorizationServer, http: Request, to: Recipient, produce: Callable[[], Response]
) -> Response:
    """What `produce` gives; an error that it raises is sent to the recipient (RFC 6749 section 4.1.2.1).

    Where that is our own account page, it stays raised: the page would only send the person here again.
    """
    try:
        return produce()
    except RequestEnded:
        raise
    except OAuthError as known:
        error = known
    except Exception as mistake:
        error = unexpected(mistake)
    if to.client.client_id == own_clients.ACCOUNT:
        raise error
    http.error = error
    return _send(server, http, to, error.parameters())


def _send(server: AuthorizationServer, http: Request, to: Recipient, answer: dict[str, str]) -> Response:
    """The authorization response, with the issuer in it (RFC 9207 section 2)."""
    parameters = answer | {"state": to.state, "iss": server.issuer}
    return response_modes.send(server.settings, http, to.client, to.redirect_uri, to.response_mode, parameters)


def waiting(server: AuthorizationServer, http: Request, request: AuthorizationRequest) -> Response:
    """The redirect to a stored request, by its handle: a page that a GET has shown can be reloaded and gone back to."""
    address = pages.base(server.settings) + server.addresses["authorization_endpoint"]
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
    step = remaining(server, client, request, person, consent)
    if step is None and person:
        return grant(server, http, client, request, person)
    if http.method == "POST":
        return waiting(server, http, request)
    return show(server, http, client, request, step or Step.SIGN_IN, person, consent)


def remaining(
    server: AuthorizationServer,
    client: Client,
    request: AuthorizationRequest,
    person: Person | None,
    consent: Consent | None,
) -> Step | None:
    """What the person must still do; raises as `next_step`."""
    known_as = subject(server, client, person.user.sub) if person else None
    return next_step(request, client, person, consent, server.now(), known_as)


def refuse_others(server: AuthorizationServer, client: Client, request: AuthorizationRequest, user: User) -> None:
    """Raises LoginRequired when the request is not meant for somebody who could sign in for it: no session is begun."""
    if not is_meant(request, subject(server, client, user.sub)):
        raise LoginRequired(SOMEBODY_ELSE)


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
    elsewhere = _is_asked_elsewhere(server, http, step, status)
    asked_sub = person.user.sub if elsewhere and person and step is Step.CONSENT else None
    if request.browser_id is None:
        browser_id, new_browser = sessions.browser(server, http)
        request = replace(request, browser_id=browser_id, asked_sub=asked_sub)
        server.store.requests.put(request)
    if elsewhere:
        return _ask_elsewhere(server, http, request, asked_sub).add(new_browser)
    consent = consent or Consent("", "")
    words = in_words(server, request, consent) if step is Step.CONSENT else []
    page = pages.page(
        step.name.lower(),
        server.settings,
        client=client,
        redirect_uri=request.redirect_uri,
        on_device=redirect_uris.is_loopback(request.redirect_uri),
        own_scheme=origin_of(request.redirect_uri) is None,
        asked=[text for _, text, allowed in words if not allowed],
        allowed=[text for _, text, allowed in words if allowed],
        remembered=consent_lasts(request, client),
        offline="offline_access" in request.scope,
        days=server.settings.refresh_token_absolute_lifetime // DAY if refresh_token_lifetime(server, client) else 0,
        username=values.pop("username", request.login_hint or ""),
        person=person.user if person else None,
        handle=server.keys.make_handle("req", request.request_id),
        tag=server.keys.form_tag(form_subject(request, step, person)),
        problem=values.pop("problem", ""),
        problem_code=values.pop("problem_code", ""),
    )
    response = pages.response(page, status, redirect_uri=request.redirect_uri)
    return response.add(new_browser)


def _is_asked_elsewhere(server: AuthorizationServer, http: Request, step: Step, status: int) -> bool:
    """Whether the operator's own login application asks, not our page: where a page is shown for the first time. A new
    password is for us alone to ask for.
    """
    first = http.method == "GET" and status == 200
    return server.settings.login_url is not None and first and step is not Step.CHANGE_PASSWORD


def _ask_elsewhere(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest, asked_sub: str | None
) -> Response:
    """The redirect to the login application. The stored request says who is asked for consent, None to sign in."""
    if request.asked_sub != asked_sub:
        set_, remove = ({"asked_sub": asked_sub}, ()) if asked_sub else ({}, ("asked_sub",))
        untaken = attr("taken_at").not_exists()
        changed = server.store.requests.transition((request.request_id,), untaken, set_, remove)
        if isinstance(changed, Refused):
            raise ended(changed.record)
    handle = server.keys.make_handle("req", request.request_id)
    return redirect(http, with_query(server.settings.login_url or "", {"request_uri": handle}))


def in_words(
    server: AuthorizationServer, request: AuthorizationRequest, consent: Consent
) -> list[tuple[str, str, bool]]:
    """What is asked for and what is allowed already, scopes and then claims, in the order for people to read: the name
    of each, its words, and whether it is allowed. A scope and a claim may have one name, and are two things.
    """
    scope = request.scope | consent.scope
    names = claims.asked(request.claims, scope) | claims.uncovered(consent.claims, scope)
    scopes = [(name, text, name in consent.scope) for name, text in server.scope_descriptions(scope).items()]
    return scopes + [(name, claims.describe_claim(name), name in consent.claims) for name in sorted(names)]


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
    asked: bool = False,
    always: bool = False,
    also: tuple[StoreStep[Any], ...] = (),
) -> Response:
    """The grant is born, in one transaction with its session, its user and its request; the answer with its code.

    `asked`: the person has just allowed it; `always` remembers that; `also` are further steps of the transaction.
    Raises RequestEnded when the request has been answered already.
    """
    if client.client_id == own_clients.ACCOUNT:  # it needs no code: that the person is signed in here is all
        return redirect(http, request.redirect_uri)
    store, now, sub = server.store, server.now(), person.user.sub
    born = _new_grant(server, http, client, request, person, now)
    code = server.keys.make_handle("code", born.grant_id)
    answer = {"code": code}
    if "id_token" in request.response_type.split():  # signed before anything is written: that may fail
        answer["id_token"] = id_token(server, client, born, nonce=request.nonce, code=code, user=person.user)
    session_ok = attr("ended_at").not_exists() & attr("generation").eq(person.session.generation)
    idle_until = now + server.settings.session_idle_lifetime
    joining = {"grants": frozenset({born.grant_id})}
    if client.backchannel_logout_uri:
        joining["backchannel_clients"] = frozenset({client.client_id})
    steps: list[StoreStep[Any]] = [store.grants.inserting(born), sessions.user_is_welcome(server, person.user)]
    if request.browser_id is not None:  # it has been stored, and is answered but once
        steps.append(_taking(server, request))
    steps += also
    if person.session.generation:
        key = (person.session.session_id,)
        steps.append(store.sessions.changing(key, session_ok, {"expires_at": idle_until}, add=joining))
    if asked:
        steps.append(history.recording(store, http, sub, audit.CONSENT_GIVEN, client))
    remembered = None
    if not asked and not client.trusted:  # a consent that was withdrawn in this moment is none
        remembered = len(steps)
        steps.append(store.consents.checking((sub, client.client_id)))
    if always:
        names = claims.asked(request.claims, request.scope)
        allowed = {"scope": request.scope} | ({"claims": names} if names else {})
        steps.append(
            store.consents.changing((sub, client.client_id), None, {"updated_at": now}, add=allowed, create=True)
        )
    refused = store.transact(*steps)
    if refused and request.browser_id is not None and refused[2]:
        raise RequestEnded(ANSWERED, code="request_answered")
    if refused:  # the session ended, the account was disabled, or the consent was withdrawn, in this moment
        only_asked_again = remembered is not None and refused[remembered] and person.session.generation
        return proceed(server, http, client, request, person if only_asked_again else None, None)
    if asked:
        audit.note(http, audit.CONSENT_GIVEN, sub=sub)
    audit.note(http, audit.CODE_ISSUED, sub=sub)
    return _send(server, http, Recipient.of(client, request), answer)


def deny(
    server: AuthorizationServer, http: Request, client: Client, request: AuthorizationRequest, person: Person
) -> NoReturn:
    """The person says no. Raises AccessDenied, or RequestEnded when the request has been answered already."""
    sub = person.user.sub
    kept = history.recording(server.store, http, sub, audit.CONSENT_DENIED, client)
    if server.store.transact(_taking(server, request), kept):
        raise RequestEnded(ANSWERED, code="request_answered")
    audit.note(http, audit.CONSENT_DENIED, sub=sub)
    raise AccessDenied("The person denied the request.")


def _taking(server: AuthorizationServer, request: AuthorizationRequest) -> StoreStep[AuthorizationRequest]:
    """The step that answers a stored request: once, and no other time."""
    untaken = attr("taken_at").not_exists()
    return server.store.requests.changing((request.request_id,), untaken, {"taken_at": server.now()})


def _new_grant(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    request: AuthorizationRequest,
    person: Person,
    now: int,
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
        claims=request.claims,
        resource=request.resource,
        device=history.device(http),
    )
