"""Signing in by HTTP Basic (RFC 7617), without a page: light-oauth2's flow, for clients that are registered for it."""

from dataclasses import replace

from chalicelib.authentication.password import NotSignedIn, SignInAttempt, VerifiedSignIn
from chalicelib.authorization.flow import finish, proceed, remaining_step
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import Problem
from chalicelib.authorization.request import receive_request
from chalicelib.authorization.request_object import SentRequest
from chalicelib.authorization.screens import show
from chalicelib.authorization.sign_in import start_session
from chalicelib.clients.credentials import basic_credentials
from chalicelib.http.csrf import require_top_level_navigation
from chalicelib.http.messages import Request, Response
from chalicelib.protocol.authentication_context import TWO_FACTORS, level
from chalicelib.protocol.errors import InteractionRequired, LoginRequired, OAuthError, UnauthorizedClient
from chalicelib.protocol.next_step import SignedInUser, Step
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions

NEEDS_PAGE = (
    "The user must prove a second factor, which HTTP Basic cannot do: send the user to the authorization endpoint."
)
BASIC = {"WWW-Authenticate": 'Basic realm="sign-in", charset="UTF-8"'}


def receive(server: AuthorizationServer, http: Request) -> Response:
    """Answer an authorization request whose user authenticates with HTTP Basic.

    Only as a top-level navigation: a browser repeats Basic credentials by itself, and no page of another site may use
    that.
    """
    require_top_level_navigation(http)
    request, asking = receive_request(server, http, SentRequest(http.query))
    client = server.client(asking.client_id, accept=lambda client: client.direct_sign_in)
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
    browser_id = browser_sessions.browser_id_of(server, http)
    # A link can send any credentials, also after a redirect of an address that was typed in ("none"): its attempts must
    # not count against the owner's browser.
    from_browser = http.header("sec-fetch-site") == "same-origin"
    attempt = SignInAttempt(server, http, username, password, browser_id, from_browser=from_browser)
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
        return show(interaction, Step.SIGN_IN, problem=Problem(code="basic", status=401)).add(BASIC)
    problem = Problem.of_sign_in(interaction.server, failure, None, status=401)
    page = show(interaction, Step.SIGN_IN, problem=problem)
    return page.add(BASIC if problem.status == 401 else {})


def _is_complete(verified: VerifiedSignIn, current: SignedInUser) -> bool:
    """Return whether the password is enough, or the user has proved the second factor in this browser before."""
    return verified.complete or level(current.session.amr) >= TWO_FACTORS


def _answer_directly(interaction: Interaction, verified: VerifiedSignIn, previous: SignedInUser | None) -> Response:
    """Return the answer with the code, without a page.

    A link must not sign a browser in, because it may contain the credentials of its author: the code comes without a
    cookie, and no session is stored or ended. If the user must be asked something, they are signed in for it; but our
    own page asks first when a link may have sent them here, also from a mail program, or another user is signed in.
    """
    server, http, user = interaction.server, interaction.http, verified.user
    same = previous is not None and previous.user.sub == user.sub
    request_id = interaction.request.request_id
    current = previous if previous and same else browser_sessions.unstored_session(server, http, user, request_id)
    asking = replace(interaction, signed_in=current, consent=verified.consent)
    if user.deleted_at is not None:  # our page leads to the restoration
        verified.commit_without_session(server.store)
        if "none" in interaction.request.prompt:
            raise LoginRequired("The user has deleted this account.")
        return show(interaction, Step.SIGN_IN, username=user.username)
    try:
        step = remaining_step(asking)
        if step in (Step.SECOND_FACTOR, Step.ENROL_SECOND_FACTOR) or not _is_complete(verified, current):
            raise InteractionRequired(NEEDS_PAGE)
    except OAuthError:
        verified.commit_without_session(server.store)
        raise
    if step is None:
        return finish(asking, current, also=verified.checked_writes(server.store))
    from_link = http.header("sec-fetch-site") not in (None, "same-origin")
    if not same and (previous or from_link):
        verified.commit_without_session(server.store)
        return show(interaction, Step.SIGN_IN, username=user.username)
    return start_session(replace(interaction, signed_in=previous), verified)
