"""/oauth2/code: where the person proves who they are, and answers.

GET: by HTTP Basic, for clients registered for direct sign-in. POST: the forms of our own pages. Both serve the
operator's own login application as well.
"""

from typing import Any

from chalicelib import login_application, passwords, sessions
from chalicelib.authorization import (
    answer_errors,
    form_subject,
    grant,
    proceed,
    remaining,
    show,
    waiting,
)
from chalicelib.authorization_request import Recipient, read, recipient, still_waiting
from chalicelib.client_auth import basic_credentials
from chalicelib.decision import decide
from chalicelib.errors import LoginRequired, OAuthError, RequestEnded, UnauthorizedClient
from chalicelib.forms import refuse_embedding, refuse_other_sites
from chalicelib.interaction import Person, Step
from chalicelib.messages import Params, Request, Response
from chalicelib.models import AuthorizationRequest, Client
from chalicelib.server import AuthorizationServer
from chalicelib.sign_in import LONGEST_USERNAME, Credentials, NotSignedIn, SignedIn

BASIC = {"WWW-Authenticate": 'Basic realm="sign-in", charset="UTF-8"'}


def get(server: AuthorizationServer, http: Request) -> Response:
    """An authorization request with the person's credentials in HTTP Basic: the code, or a page.

    For clients registered for it, and only as a top-level navigation: a browser sends Basic credentials along by
    itself, and no page of another site may use that. To the operator's own login application: what a request is about.
    """
    if login_application.asks(server, http):
        return login_application.description(server, http)
    refuse_embedding(http)
    to = recipient(server, http, http.query)
    return answer_errors(server, http, to, lambda: _direct_sign_in(server, http, to))


def _direct_sign_in(server: AuthorizationServer, http: Request, to: Recipient) -> Response:
    request, client = read(server, http.query, to), to.client
    if not client.direct_sign_in:  # nobody is refused because of what the cached record says
        client = server.client(client.client_id, fresh=True) or client
    if not client.direct_sign_in:
        raise UnauthorizedClient("The client is not registered for direct sign-in.")
    if request.prompt & {"login", "select_account"} or request.max_age is not None:
        # Credentials that the browser repeats prove no new sign-in.
        return proceed(server, http, client, request, None, None)
    try:
        username, password = basic_credentials(http) or ("", "")
    except ValueError:
        username, password = "", ""
    if not username:
        return _ask_for_basic(server, http, client, request, None)
    credentials = Credentials(server, http, username, password, sessions.known_browser(server, http))
    previous, _, _, found = sessions.current_and(server, http, credentials.wanted)
    try:
        signed_in = credentials.verify(found, client, request)
    except NotSignedIn as refused:
        return _ask_for_basic(server, http, client, request, refused)
    return _answer_directly(server, http, client, request, signed_in, previous)


def _ask_for_basic(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    request: AuthorizationRequest,
    refused: NotSignedIn | None,
) -> Response:
    """The browser's own popup, with a page beneath it that works as well."""
    if "none" in request.prompt:
        raise LoginRequired("The person would have to be asked, and prompt=none forbids it.")
    status = refused.status(401) if refused else 401
    values: dict[str, Any] = {"problem": refused.text, "problem_code": refused.code} if refused else {}
    page = show(server, http, client, request, Step.SIGN_IN, status=status, **values)
    return page.add(BASIC if status == 401 or refused is None else refused.headers)


def _answer_directly(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    request: AuthorizationRequest,
    signed_in: SignedIn,
    previous: Person | None,
) -> Response:
    """The code, without a page. A link must not sign a browser in, for it may hold the credentials of whoever made it:
    so no cookie goes with the code, and no session is stored or ended. If the person must be asked something, they are
    signed in for it; but our own page asks first when another site has sent them here, or somebody else is signed in.
    """
    user = signed_in.user
    same = previous is not None and previous.user.sub == user.sub
    here = previous if previous and same else sessions.for_one_answer(server, http, user, request.request_id)
    try:
        step = remaining(server, client, request, here, signed_in.consent)
    except OAuthError:
        signed_in.begins_nothing(server.store)
        raise
    if step is None:
        return grant(server, http, client, request, here, also=signed_in.steps)
    sent_here = http.header("sec-fetch-site") not in (None, "none", "same-origin")
    if not same and (previous or sent_here):
        signed_in.begins_nothing(server.store)
        return show(server, http, client, request, Step.SIGN_IN, username=user.username)
    person = sessions.start(server, http, user, request.request_id, previous, signed_in.steps)
    response = proceed(server, http, client, request, person, signed_in.consent)
    return response.add(sessions.session_cookie(server, person.session))


def post(server: AuthorizationServer, http: Request) -> Response:
    """The form of one of our pages: credentials, a new password, or the decision.

    Raises RequestEnded when the form was not shown by us, to this browser, for a request that still waits.
    """
    form = http.form()
    if login_application.posts(server, http, form):
        return login_application.receive(server, http, form)
    refuse_other_sites(server, http)
    handle = server.keys.read_handle("req", form.one("request_uri"))
    if handle is None:
        raise RequestEnded("The form does not belong to a request.", code="form_not_ours")
    step, browser_id = _step(form), sessions.known_browser(server, http)
    credentials = Credentials.of_form(server, http, form, browser_id)
    wanted = credentials.wanted if step is Step.SIGN_IN else ()
    person, _, pending, found = sessions.current_and(server, http, wanted, request_id=handle.id)
    request, client = still_waiting(server, http, pending)
    if request.browser_id is None or request.browser_id != browser_id:
        raise RequestEnded("This request was started in another browser.", code="wrong_browser")
    if step is not Step.SIGN_IN and person is None:
        problem = "You have been signed out. Please sign in again."
        return show(server, http, client, request, Step.SIGN_IN, status=400, problem=problem)
    if not server.keys.form_tag_is_ours(form_subject(request, step, person), form.one("tag") or ""):
        raise RequestEnded("This form was shown to somebody else, or not by this server.", code="form_not_ours")
    decision = form.one("decision")
    to = Recipient.of(client, request)

    def answer() -> Response:
        if step is Step.SIGN_IN or person is None:
            return _sign_in(server, http, credentials, found, client, request, person)
        if step is Step.CHANGE_PASSWORD:
            return _change_password(server, http, form, client, request, person)
        return decide(server, http, decision, client, request, person)

    return answer_errors(server, http, to, answer)


def _step(form: Params) -> Step:
    if "decision" in form:
        return Step.CONSENT
    return Step.CHANGE_PASSWORD if "new_password" in form else Step.SIGN_IN


def _sign_in(
    server: AuthorizationServer,
    http: Request,
    credentials: Credentials,
    found: tuple[Any, ...],
    client: Client,
    request: AuthorizationRequest,
    previous: Person | None,
) -> Response:
    try:
        signed_in = credentials.verify(found, client, request)
    except NotSignedIn as refused:
        status, shown = refused.status(400), credentials.username[:LONGEST_USERNAME]
        values: dict[str, Any] = {"username": shown, "problem": refused.text, "problem_code": refused.code}
        page = show(server, http, client, request, Step.SIGN_IN, status=status, **values)
        return page.add(refused.headers)
    person = sessions.start(server, http, signed_in.user, request.request_id, previous, signed_in.steps)
    response = proceed(server, http, client, request, person, signed_in.consent)
    return response.add(sessions.session_cookie(server, person.session))


def _change_password(
    server: AuthorizationServer,
    http: Request,
    form: Params,
    client: Client,
    request: AuthorizationRequest,
    person: Person,
) -> Response:
    password, user = form.raw("new_password") or "", person.user
    if not user.password_change_required:  # the form came twice: nobody was asked for the password that is in force now
        return waiting(server, http, request)
    problem = passwords.problem_with(password, form.raw("new_password_again") or "")
    if not problem and passwords.verify(password, user.password_hash):
        problem = "Choose another password than the one you have."
    if problem:
        return show(server, http, client, request, Step.CHANGE_PASSWORD, person, status=400, problem=problem)
    person = sessions.change_own_password(server, http, person, password, request.request_id)
    consent = server.store.consents.get(user.sub, client.client_id)
    response = proceed(server, http, client, request, person, consent)
    return response.add(sessions.session_cookie(server, person.session))
