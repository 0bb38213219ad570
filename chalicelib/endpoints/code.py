"""/oauth2/code: where the person proves who they are, and answers.

GET: by HTTP Basic, for clients registered for direct sign-in. POST: the forms of our own pages.
"""

from dataclasses import replace

from chalicelib import audit, passwords, sessions
from chalicelib.authorization import ANSWERED, answer_errors, form_subject, grant, proceed, show
from chalicelib.authorization_request import Recipient, read, recipient
from chalicelib.client_auth import basic_credentials
from chalicelib.dynamodb import attr
from chalicelib.errors import AccessDenied, InvalidRequest, LoginRequired, RequestEnded, UnauthorizedClient
from chalicelib.forms import refuse_other_sites
from chalicelib.interaction import Person, Step, consent_lasts, next_step
from chalicelib.messages import Params, Request, Response
from chalicelib.models import AuthorizationRequest, Client, User
from chalicelib.registration import username_identifier
from chalicelib.server import AuthorizationServer
from chalicelib.table import Refused

BASIC = {"WWW-Authenticate": 'Basic realm="sign-in", charset="UTF-8"'}
WRONG = "The username or the password is not right."
LONGEST_USERNAME = 320
# What browsers send with a top-level navigation (Fetch Metadata); those that send nothing are taken at their word.
TOP_LEVEL = {"sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}


def get(server: AuthorizationServer, http: Request) -> Response:
    """An authorization request with the person's credentials in HTTP Basic: the code, or a page.

    For clients registered for it, and only as a top-level navigation: a browser sends Basic credentials along by
    itself, and no page of another site may use that.
    """
    if any(http.header(name) not in (None, expected) for name, expected in TOP_LEVEL.items()):
        raise InvalidRequest("This address is for top-level navigation only.")
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
    user = _authenticate(server, http, username, password) if username else None
    if user is None:
        if "none" in request.prompt:
            raise LoginRequired("The person would have to be asked, and prompt=none forbids it.")
        problem = WRONG if username else ""
        return show(server, http, client, request, Step.SIGN_IN, status=401, problem=problem).add(BASIC)
    person = sessions.start(server, user, request.request_id)
    consent = server.store.consents.get(user.sub, client.client_id)
    response = proceed(server, http, client, request, person, consent)
    # The cookie is for the page's form; a code needs none, and a link must not sign a browser in for good.
    return response if response.status == 302 else response.add(sessions.session_cookie(server, person.session))


def post(server: AuthorizationServer, http: Request) -> Response:
    """The form of one of our pages: credentials, a new password, or the decision.

    Raises RequestEnded when the form was not shown by us, to this browser, for a request that still waits.
    """
    refuse_other_sites(server, http)
    form = http.form()
    handle = server.keys.read_handle("req", form.one("request_uri"))
    if handle is None:
        raise RequestEnded("This form does not belong to a request. Please start again at the application.")
    person, _, request = sessions.current(server, http, request_id=handle.id)
    client = server.client(request.client_id) if request else None
    if request is None or client is None or request.taken_at is not None:
        raise RequestEnded(ANSWERED)
    http.client = client
    if request.browser_id is None or request.browser_id != sessions.browser(server, http)[0]:
        raise RequestEnded("This request was started in another browser.")
    step = _step(form)
    if step is not Step.SIGN_IN and person is None:
        problem = "You have been signed out. Please sign in again."
        return show(server, http, client, request, Step.SIGN_IN, status=400, problem=problem)
    if not server.keys.form_tag_is_ours(form_subject(request, step, person), form.one("tag") or ""):
        raise RequestEnded("This form was shown to somebody else, or not by this server. Please start again.")
    decision = form.one("decision")
    to = Recipient(client, request.redirect_uri, request.redirect_uri_sent, request.state)

    def answer() -> Response:
        if step is Step.SIGN_IN or person is None:
            return _sign_in(server, http, form, client, request, person)
        if step is Step.CHANGE_PASSWORD:
            return _change_password(server, http, form, client, request, person)
        return _decide(server, http, decision, client, request, person)

    return answer_errors(server, http, to, answer)


def _step(form: Params) -> Step:
    if "decision" in form:
        return Step.CONSENT
    return Step.CHANGE_PASSWORD if "new_password" in form else Step.SIGN_IN


def _sign_in(
    server: AuthorizationServer,
    http: Request,
    form: Params,
    client: Client,
    request: AuthorizationRequest,
    previous: Person | None,
) -> Response:
    username = form.raw("username") or form.raw("j_username") or ""
    password = form.raw("password") or form.raw("j_password") or ""
    user = _authenticate(server, http, username, password)
    if user is None:
        shown = username[:LONGEST_USERNAME]
        return show(server, http, client, request, Step.SIGN_IN, status=400, problem=WRONG, username=shown)
    person = sessions.start(server, user, request.request_id, previous)
    consent = server.store.consents.get(user.sub, client.client_id)
    response = proceed(server, http, client, request, person, consent)
    return response.add(sessions.session_cookie(server, person.session))


def _authenticate(server: AuthorizationServer, http: Request, username: str, password: str) -> User | None:
    """The person with this name and password. An unknown name takes as long, and as many reads, as a wrong password."""
    users = server.store.users
    identifier = server.store.identifiers.get(username_identifier(username))
    user = users.get(identifier.sub if identifier else "nobody")
    if (
        not passwords.verify(password, user.password_hash if user else None)
        or user is None
        or user.disabled_at is not None
    ):
        audit.note(http, audit.SIGN_IN_FAILED, sub=user.sub if user else None)
        return None
    audit.note(http, audit.SIGN_IN, sub=user.sub)
    if passwords.needs_rehash(user.password_hash):
        unchanged = attr("password_hash").eq(user.password_hash)
        users.transition((user.sub,), unchanged, {"password_hash": passwords.hash_password(password)})
    return user


def _change_password(
    server: AuthorizationServer,
    http: Request,
    form: Params,
    client: Client,
    request: AuthorizationRequest,
    person: Person,
) -> Response:
    password, user = form.raw("new_password") or "", person.user
    problem = passwords.problem_with(password)
    if not problem and password != form.raw("new_password_again"):
        problem = "The two entries differ."
    if not problem and passwords.verify(password, user.password_hash):
        problem = "Choose another password than the one you have."
    if problem:
        return show(server, http, client, request, Step.CHANGE_PASSWORD, person, status=400, problem=problem)
    changed = sessions.change_password(server.store, user, password)
    # All other sessions have ended with that write; this one is carried on.
    person = sessions.start(server, changed, request.request_id, replace(person, user=changed))
    consent = server.store.consents.get(user.sub, client.client_id)
    response = proceed(server, http, client, request, person, consent)
    return response.add(sessions.session_cookie(server, person.session))


def _decide(
    server: AuthorizationServer,
    http: Request,
    decision: str | None,
    client: Client,
    request: AuthorizationRequest,
    person: Person,
) -> Response:
    if decision == "deny":
        if isinstance(server.store.requests.take((request.request_id,), server.now()), Refused):
            raise RequestEnded(ANSWERED)
        raise AccessDenied("The person denied the request.")
    if decision not in ("allow_once", "allow_always"):
        raise RequestEnded("The decision must be allow_once, allow_always or deny.")
    step = next_step(request, client, person, None, server.now())
    if step not in (Step.CONSENT, None):  # it answers the last question only
        return show(server, http, client, request, step, person)
    always = decision == "allow_always" and consent_lasts(request, client)
    return grant(server, http, client, request, person, always=always)
