"""/oauth2/code: the user's answers. GET: a request with the user's own credentials (light-oauth2); POST: our forms."""

from dataclasses import replace

from chalicelib.authentication import password_rules
from chalicelib.authentication.password import MAX_USERNAME, NotSignedIn, SignInAttempt, VerifiedSignIn
from chalicelib.authorization import external_login
from chalicelib.authorization.consent import decide
from chalicelib.authorization.flow import finish, proceed, remaining_step
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.recipient import find_recipient, set_recipient_of
from chalicelib.authorization.request import read_request, require_unanswered
from chalicelib.authorization.screens import Problem, form_subject, redirect_to_request, show
from chalicelib.clients.authentication import basic_credentials
from chalicelib.http.csrf import require_same_origin, require_top_level_navigation
from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol.errors import LoginRequired, OAuthError, RequestEnded, UnauthorizedClient
from chalicelib.protocol.next_step import SignedInUser, Step
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.storage.store import Records
from chalicelib.users.password_change import change_own_password

BASIC = {"WWW-Authenticate": 'Basic realm="sign-in", charset="UTF-8"'}


def get(server: AuthorizationServer, http: Request) -> Response:
    """Answer an authorization request whose user authenticates with HTTP Basic (RFC 7617).

    For clients registered for it, and only as a top-level navigation: a browser repeats Basic credentials by itself,
    and no page of another site may use that. To the login application: describe what a request is about.
    """
    if external_login.is_question(server, http):
        return external_login.describe_request(server, http)
    require_top_level_navigation(http)
    recipient = find_recipient(server, http, http.query)
    request = read_request(server, http.query, recipient)
    client = server.client(recipient.client.client_id, accept=lambda client: client.direct_sign_in)
    if client is None:
        raise UnauthorizedClient("The client is not registered for direct sign-in.")
    interaction = Interaction(server, http, client, request)
    if request.prompt & {"login", "select_account"} or request.max_age is not None:
        # Credentials that the browser repeats prove no new sign-in.
        return proceed(interaction)
    try:
        username, password = basic_credentials(http) or ("", "")
    except ValueError:
        username, password = "", ""
    if not username:
        return _ask_for_basic(interaction)
    attempt = SignInAttempt(server, http, username, password, browser_sessions.browser_id_of(server, http))
    browser = browser_sessions.read_browser(server, http, *attempt.lookups)
    try:
        verified = attempt.verify(browser.records, client, request)
    except NotSignedIn as failure:
        return _ask_for_basic(interaction, failure)
    return _answer_directly(interaction, verified, browser.signed_in)


def _ask_for_basic(interaction: Interaction, failure: NotSignedIn | None = None) -> Response:
    """Return the challenge that opens the browser's own dialog, with our page beneath it, which works as well."""
    if "none" in interaction.request.prompt:
        raise LoginRequired("The user must interact with this server, but prompt=none was sent.")
    if failure is None:
        return show(interaction, Step.SIGN_IN, status=401).add(BASIC)
    status = failure.status(401)
    page = show(interaction, Step.SIGN_IN, status=status, problem=Problem(failure.text, failure.code))
    return page.add(BASIC if status == 401 else failure.headers)


def _answer_directly(interaction: Interaction, verified: VerifiedSignIn, previous: SignedInUser | None) -> Response:
    """Return the answer with the code, without a page.

    A link must not sign a browser in, because it may contain the credentials of its author: the code comes without a
    cookie, and no session is stored or ended. If the user must be asked something, they are signed in for it; but our
    own page asks first when another site has sent them here, or another user is signed in.
    """
    server, http, user = interaction.server, interaction.http, verified.user
    same = previous is not None and previous.user.sub == user.sub
    request_id = interaction.request.request_id
    current = previous if previous and same else browser_sessions.unstored_session(server, http, user, request_id)
    asking = replace(interaction, signed_in=current, consent=verified.consent)
    try:
        step = remaining_step(asking)
    except OAuthError:
        verified.commit_without_session(server.store)
        raise
    if step is None:
        return finish(asking, current, also=verified.writes)
    from_link = http.header("sec-fetch-site") not in (None, "none", "same-origin")
    if not same and (previous or from_link):
        verified.commit_without_session(server.store)
        return show(interaction, Step.SIGN_IN, username=user.username)
    return _start_session(replace(interaction, signed_in=previous), verified)


def _start_session(interaction: Interaction, verified: VerifiedSignIn) -> Response:
    """Sign the user in, in place of `interaction.signed_in`, and continue with the request."""
    server, http, request_id = interaction.server, interaction.http, interaction.request.request_id
    previous, writes = interaction.signed_in, verified.writes
    signed_in = browser_sessions.start_session(server, http, verified.user, request_id, previous, writes)
    response = proceed(replace(interaction, signed_in=signed_in, consent=verified.consent))
    return response.add(browser_sessions.session_cookie(server, signed_in.session))


def post(server: AuthorizationServer, http: Request) -> Response:
    """Answer the form of one of our pages: credentials, a new password, or the decision.

    Raises RequestEnded when this server did not show the form to this browser, for a request that is unanswered.
    """
    form = http.form()
    if external_login.is_answer(server, http, form):
        return external_login.receive(server, http, form)
    require_same_origin(server.issuer, http)
    handle = server.keys.read_handle("req", form.get("request_uri"))
    if handle is None:
        raise RequestEnded("The form does not belong to a request.", code="form_not_ours")
    step, browser_id = _step_of(form), browser_sessions.browser_id_of(server, http)
    attempt = SignInAttempt.of_form(server, http, form, browser_id) if step is Step.SIGN_IN else None
    lookups = attempt.lookups if attempt else ()
    browser = browser_sessions.read_browser(server, http, *lookups, request_id=handle.id)
    signed_in = browser.signed_in
    request, client = require_unanswered(server, http, browser.request)
    if request.browser_id is None or request.browser_id != browser_id:
        raise RequestEnded("This request was started in another browser.", code="wrong_browser")
    interaction = Interaction(server, http, client, request, signed_in)
    if attempt:
        _accept_form(interaction, step, form)
        return _sign_in(interaction, attempt, browser.records)
    if signed_in is None:
        return show(interaction, Step.SIGN_IN, status=400, problem=Problem("You have been signed out. Sign in again."))
    decision = form.get("decision")
    _accept_form(interaction, step, form)
    if step is Step.CHANGE_PASSWORD:
        return _change_password(interaction, signed_in, form)
    return decide(interaction, signed_in, decision)


def _accept_form(interaction: Interaction, step: Step, form: Params) -> None:
    """Check the form's tag; errors go to the recipient from now on.

    Raises RequestEnded when this server did not show the form for this step, to this user or browser.
    """
    server, request = interaction.server, interaction.request
    if not server.keys.is_valid_form_tag(form_subject(request, step, interaction.signed_in), form.get("tag") or ""):
        raise RequestEnded("This form was shown to another user, or not by this server.", code="form_not_ours")
    set_recipient_of(interaction.http, interaction.client, request)


def _step_of(form: Params) -> Step:
    if "decision" in form:
        return Step.CONSENT
    return Step.CHANGE_PASSWORD if "new_password" in form else Step.SIGN_IN


def _sign_in(interaction: Interaction, attempt: SignInAttempt, records: Records) -> Response:
    try:
        verified = attempt.verify(records, interaction.client, interaction.request)
    except NotSignedIn as failure:
        shown, problem = attempt.username[:MAX_USERNAME], Problem(failure.text, failure.code)
        page = show(interaction, Step.SIGN_IN, status=failure.status(400), username=shown, problem=problem)
        return page.add(failure.headers)
    return _start_session(interaction, verified)


def _change_password(interaction: Interaction, signed_in: SignedInUser, form: Params) -> Response:
    server, http, request = interaction.server, interaction.http, interaction.request
    password, user = form.raw("new_password") or "", signed_in.user
    if not user.password_change_required:  # the form was sent twice, and the first one has changed the password
        return redirect_to_request(server, http, request)
    repeated = form.raw("new_password_again") or ""
    if problem := password_rules.find_problem(server.settings, user, password, repeated, must_differ=True):
        return show(interaction, Step.CHANGE_PASSWORD, status=400, problem=Problem(problem))
    signed_in = change_own_password(server, http, signed_in, password, request.request_id)
    consent = server.store.consents.get(user.sub, interaction.client.client_id)
    response = proceed(replace(interaction, signed_in=signed_in, consent=consent))
    return response.add(browser_sessions.session_cookie(server, signed_in.session))
