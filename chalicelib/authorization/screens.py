"""The pages that ask the user for something: to sign in, to choose a new password, to allow access.

Where the operator has a login application, it asks instead: the user is redirected there.
"""

from dataclasses import dataclass, replace
from typing import Any

from chalicelib import pages
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.request import ended
from chalicelib.http.messages import Request, Response, redirect, with_query
from chalicelib.protocol import claims, redirect_uris
from chalicelib.protocol.durations import in_words
from chalicelib.protocol.grant import ends_with_session
from chalicelib.protocol.next_step import SignedInUser, Step, can_remember_consent
from chalicelib.protocol.records import AuthorizationRequest, Client, Consent, User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from chalicelib.tokens.issue import access_token_lifetime, max_refresh_lifetime, refresh_token_lifetime


@dataclass(frozen=True)
class Problem:
    """What is wrong with the form that was sent: a sentence for the user, and a code for the page."""

    text: str
    code: str = ""


@dataclass(frozen=True)
class SignInPage:
    """The values of the page sign_in."""

    client: Client
    username: str
    request_uri: str
    tag: str
    problem: str = ""
    problem_code: str = ""


@dataclass(frozen=True)
class ChangePasswordPage:
    """The values of the page change_password."""

    user: User
    request_uri: str
    tag: str
    problem: str = ""


@dataclass(frozen=True)
class ConsentPage:
    """The values of the page consent. `access_end`: a sentence that says when access ends by itself."""

    client: Client
    user: User
    request_uri: str
    tag: str
    redirect_uri: str
    new_permissions: list[str]
    allowed_before: list[str]
    remembered: bool
    access_end: str
    on_device: bool
    own_scheme: bool


@dataclass(frozen=True)
class Permission:
    """A scope or a claim that the client asks for: its name, its description, and whether it was allowed before."""

    name: str
    description: str
    allowed: bool


def redirect_to_request(server: AuthorizationServer, http: Request, request: AuthorizationRequest) -> Response:
    """Return the redirect to a stored request by its handle, so that the page can be reloaded and gone back to."""
    address = pages.base(server.settings) + server.addresses["authorization_endpoint"]
    handle = server.keys.make_handle("req", request.request_id)
    return redirect(http, with_query(address, {"request_uri": handle}))


def show(
    interaction: Interaction,
    step: Step,
    *,
    status: int = 200,
    username: str | None = None,
    problem: Problem | None = None,
) -> Response:
    """Return the page for a step, or the redirect to the login application.

    The request is stored if it is not yet, and the page carries only its handle. `username` fills in the sign-in page.
    """
    server, http, request, signed_in = interaction.server, interaction.http, interaction.request, interaction.signed_in
    browser_cookie: dict[str, str] = {}
    external = _is_asked_externally(interaction, step, status)
    asked_sub = signed_in.user.sub if external and signed_in and step is Step.CONSENT else None
    if request.browser_id is None:
        browser_id, browser_cookie = browser_sessions.identify_browser(server, http)
        request = replace(request, browser_id=browser_id, asked_sub=asked_sub)
        server.store.requests.put(request)
    if external:
        return _ask_externally(server, http, request, asked_sub).add(browser_cookie)
    values = _page_values(replace(interaction, request=request), step, username, problem or Problem(""))
    page = pages.page(step.name.lower(), server.settings, **vars(values))
    return pages.response(page, status, redirect_uri=request.redirect_uri).add(browser_cookie)


def _page_values(
    interaction: Interaction, step: Step, username: str | None, problem: Problem
) -> SignInPage | ChangePasswordPage | ConsentPage:
    server, client = interaction.server, interaction.client
    request, signed_in = interaction.request, interaction.signed_in
    handle = server.keys.make_handle("req", request.request_id)
    tag = server.keys.form_tag(form_subject(request, step, signed_in))
    if step is Step.SIGN_IN or signed_in is None:
        name = username if username is not None else request.login_hint or ""
        return SignInPage(client, name, handle, tag, problem.text, problem.code)
    if step is Step.CHANGE_PASSWORD:
        return ChangePasswordPage(signed_in.user, handle, tag, problem.text)
    permissions = describe_permissions(server, request, interaction.remembered)
    return ConsentPage(
        client,
        signed_in.user,
        handle,
        tag,
        request.redirect_uri,
        new_permissions=[permission.description for permission in permissions if not permission.allowed],
        allowed_before=[permission.description for permission in permissions if permission.allowed],
        remembered=can_remember_consent(request, client),
        access_end=describe_access_end(server, client, request.scope),
        on_device=redirect_uris.is_loopback(request.redirect_uri),
        own_scheme=redirect_uris.origin_of(request.redirect_uri) is None,
    )


def describe_permissions(
    server: AuthorizationServer, request: AuthorizationRequest, consent: Consent | None
) -> list[Permission]:
    """Return what is asked for and what was allowed before, scopes and then claims, in the order for users to read.

    A scope and a claim may have one name, and are two permissions.
    """
    consent = consent or Consent("", "")
    scope = request.scope | consent.scope
    names = claims.requested_outside_scope(request.claims, scope) | claims.outside_scope(consent.claims, scope)
    scopes = [
        Permission(name, description, name in consent.scope)
        for name, description in server.scope_descriptions(scope).items()
    ]
    return scopes + [Permission(name, claims.describe_claim(name), name in consent.claims) for name in sorted(names)]


def describe_access_end(server: AuthorizationServer, client: Client, scope: frozenset[str]) -> str:
    """Return a sentence for the user that says when the access of an application ends by itself."""
    settings = server.settings
    longest, idle = max_refresh_lifetime(server, client), refresh_token_lifetime(server, client)
    with_session = ends_with_session(scope)
    start = "Access ends when you sign out, " if with_session else "Access continues when you sign out. It ends "
    if not idle:  # no refresh tokens
        start = "Access ends when you sign out, and " if with_session else "Access ends "
        return f"{start}after {in_words(access_token_lifetime(server, client))} at the latest."
    end = f"after {in_words(longest)} at the latest"
    if with_session:
        idle = min(idle, settings.session_idle_lifetime)
        if settings.session_absolute_lifetime < longest:
            end = f"{in_words(settings.session_absolute_lifetime)} after you last signed in"
    return f"{start}when it is not used for {in_words(idle)}, and {end}."


def form_subject(request: AuthorizationRequest, step: Step, signed_in: SignedInUser | None) -> str:
    """Return what a form's tag proves: this step of this request, shown to this browser or in this session."""
    if step is Step.SIGN_IN or signed_in is None:
        return f"{Step.SIGN_IN.name} {request.request_id} {request.browser_id}"
    return f"{step.name} {request.request_id} {signed_in.session.session_id}"


def _is_asked_externally(interaction: Interaction, step: Step, status: int) -> bool:
    """Return whether the login application asks: where a page is shown first, and never for a new password."""
    first = interaction.http.method == "GET" and status == 200
    return interaction.server.settings.login_url is not None and first and step is not Step.CHANGE_PASSWORD


def _ask_externally(
    server: AuthorizationServer, http: Request, request: AuthorizationRequest, asked_sub: str | None
) -> Response:
    """Return the redirect to the login application.

    The stored request says who is asked for consent, None to sign in. Raises RequestEnded once it has been answered.
    """
    if request.asked_sub != asked_sub:
        changes: dict[str, Any] = {"asked_sub": asked_sub} if asked_sub else {}
        remove = () if asked_sub else ("asked_sub",)
        unanswered = attr("taken_at").not_exists()
        changed = server.store.requests.transition((request.request_id,), unanswered, changes, remove)
        if isinstance(changed, Refused):
            raise ended(changed.record)
    handle = server.keys.make_handle("req", request.request_id)
    return redirect(http, with_query(server.settings.login_url or "", {"request_uri": handle}))
