"""The pages that ask the user for something: to sign in, to choose a new password, to allow access.

Where the operator has a login application, it asks instead: the user is redirected there.
"""

from dataclasses import replace

from chalicelib import pages
from chalicelib.authorization.authentication_policy import (
    accepts_code,
    may_decline_enrolment,
    may_decline_preference,
)
from chalicelib.authorization.descriptions import (
    Details,
    NamedResources,
    Permission,
    describe_access_end,
    describe_details,
    describe_permissions,
    named_resources,
)
from chalicelib.authorization.email_sign_in_page import EmailSignInPage, opened_email
from chalicelib.authorization.external_redirect import ask_externally
from chalicelib.authorization.forms import SIGNED_UP, Form, make_form, query_of, query_of_side_page
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import Problem, address_of, take_problem
from chalicelib.authorization.request import answered_in_between
from chalicelib.authorization.stored_request import (
    is_short,
    redirect_to_stored_request,
    store_unauthenticated,
    stored_for,
    storing,
)
from chalicelib.http.messages import Response, redirect
from chalicelib.protocol import redirect_uris
from chalicelib.protocol.client import Client
from chalicelib.protocol.next_step import Step, can_remember_consent
from chalicelib.protocol.records import User
from chalicelib.protocol.values import dataclass
from chalicelib.sessions import browser_sessions
from chalicelib.users.second_factor_setup import Setup, setup_of


@dataclass(frozen=True)
class SignInPage:
    """The values of the page sign_in.

    `offers_to_keep`: whether it has the box to stay signed in, `keep` its state. `recover` and `sign_up`: where to ask
    for a new password and for a new account, or "". `email_code`: whether it offers to sign in by email.
    """

    client: Client
    username: str
    form: Form
    problem: str = ""
    problem_code: str = ""
    offers_to_keep: bool = False
    keep: bool = False
    recover: str = ""
    sign_up: str = ""
    email_code: bool = False


@dataclass(frozen=True)
class SecondFactorPage:
    """The values of the page second_factor.

    `waiting`: whether there is no session yet. `code`: whether it asks for one. `may_decline`: whether the user can
    continue without a passkey.
    """

    client: Client
    user: User
    waiting: bool
    code: bool
    form: Form
    problem: str = ""
    problem_code: str = ""
    may_decline: bool = False


@dataclass(frozen=True)
class EnrolPage:
    """The values of the page enrol_second_factor. `required_from`: when it is required, None if it is now."""

    client: Client
    user: User
    setup: Setup
    form: Form
    problem: str = ""
    required_from: int | None = None


@dataclass(frozen=True)
class PasskeyOfferPage:
    """The values of the page offer_passkey."""

    client: Client
    user: User
    form: Form
    problem: str = ""


@dataclass(frozen=True)
class ChangePasswordPage:
    """The values of the page change_password."""

    user: User
    form: Form
    problem: str = ""


@dataclass(frozen=True)
class ConsentPage:
    """The values of the page consent. `access_end`: a sentence that says when access ends by itself.
    `client_host`: of the document of a client that is not registered, else "".

    `resources`: those that the request names. `several`: whether each permission must name its resource. `details`:
    authorization details (RFC 9396).
    """

    client: Client
    user: User
    form: Form
    redirect_uri: str
    new_permissions: list[Permission]
    allowed_before: list[Permission]
    resources: NamedResources
    several: bool
    remembered: bool
    access_end: str
    on_device: bool
    client_host: str
    own_scheme: bool
    details: Details
    problem: str = ""


def redirect_to_request(interaction: Interaction) -> Response:
    """Return the redirect to a request by its handle, so that the page can be reloaded and gone back to.

    The request is stored if it is not yet. Raises RequestEnded when it has been answered in between.
    """
    server, http, request = interaction.server, interaction.http, interaction.request
    browser_cookie: dict[str, str] = {}
    if not request.stored:
        browser_id, browser_cookie = browser_sessions.identify_browser(server, http)
        request = stored_for(server, request, browser_id)
        if server.store.transact(storing(server, request)):
            raise answered_in_between()
    query = query_of(replace(interaction, request=request))
    return redirect(http, address_of(server, query)).add(browser_cookie)


def show(
    interaction: Interaction,
    step: Step,
    *,
    username: str | None = None,
    problem: Problem | None = None,
    on_our_page: bool = False,
) -> Response:
    """Return the page for a step, or the redirect to the login application. Nothing is stored for the page.

    `on_our_page`: also where there is a login application.

    `username` fills in the sign-in page. `problem`: with the form that was sent before, by default what the cookie of
    the redirect says. A request that is too long for the form's action is stored, and the browser redirected.
    """
    server, http, request, signed_in = interaction.server, interaction.http, interaction.request, interaction.signed_in
    browser_id, browser_cookie = browser_sessions.identify_browser(server, http)
    if request.browser_id is not None:  # the cookie is set already
        browser_id, browser_cookie = request.browser_id, {}
    problem, removed_cookie = (problem, {}) if problem else take_problem(server, http, step)
    external = server.settings.login_url is not None and not problem.code and step in (Step.SIGN_IN, Step.CONSENT)
    external = external and not on_our_page
    asked_sub = signed_in.user.sub if external and signed_in and step is Step.CONSENT else None
    if not request.stored and (external or not is_short(http.query)):
        request = replace(stored_for(server, request, browser_id), asked_sub=asked_sub)
        store_unauthenticated(server, http, http.query, request, authenticated=signed_in is not None)
        if not external:
            return redirect_to_stored_request(server, http, request).add(browser_cookie)
    if external:
        return ask_externally(server, http, request, asked_sub).add(browser_cookie)
    if step is Step.SIGN_IN and _begins_with_sign_up(interaction, problem):
        return redirect(http, _sign_up_address(interaction)).add(browser_cookie).add(removed_cookie)
    username = username if username is not None else problem.username
    values = _page_values(interaction, step, make_form(interaction, step, browser_id), username, problem)
    name = "email_sign_in" if isinstance(values, EmailSignInPage) else step.name.lower()
    page = pages.page(name, server.settings, http, **vars(values))
    response = pages.response(page, problem.status, redirect_uri=request.redirect_uri)
    # The address is a long one: it must not be repeated in a header field of the next request.
    response.add({"Referrer-Policy": "origin", **problem.headers(server.now())})
    return response.add(browser_cookie).add(removed_cookie)


def _begins_with_sign_up(interaction: Interaction, problem: Problem) -> bool:
    """Return whether the user is to create an account, before the sign-in page is shown (prompt=create)."""
    offered = interaction.server.settings.offers_sign_up and "create" in interaction.request.prompt
    by_email = interaction.request.email_proof is not None
    return offered and not by_email and not problem.text and SIGNED_UP not in interaction.http.query


def _sign_up_address(interaction: Interaction) -> str:
    """Return the address where an account is created. From there, the request continues with the sign-in page."""
    query = query_of_side_page(interaction)
    return f"{pages.base(interaction.server.settings)}/account/sign-up?{query}&{SIGNED_UP}=1"


def _page_values(
    interaction: Interaction, step: Step, form: Form, username: str | None, problem: Problem
) -> SignInPage | EmailSignInPage | SecondFactorPage | EnrolPage | PasskeyOfferPage | ChangePasswordPage | ConsentPage:
    server, client = interaction.server, interaction.client
    request, signed_in, waiting = interaction.request, interaction.signed_in, interaction.waiting
    user = waiting or (signed_in.user if signed_in else None)
    if step is Step.SECOND_FACTOR and user:
        code = accepts_code(interaction, user)
        may_decline = not code and may_decline_preference(interaction)
        return SecondFactorPage(client, user, waiting is not None, code, form, problem.text, problem.code, may_decline)
    if step is Step.SIGN_IN or signed_in is None:
        name = username if username is not None else request.login_hint or ""
        settings, query = server.settings, query_of_side_page(interaction)
        offers, base = settings.keep_signed_in, f"{pages.base(settings)}/account/"
        recover = f"{base}recover?{query}" if settings.can_send_mail else ""
        sign_up = f"{base}sign-up?{query}" if settings.offers_sign_up else ""
        if opened := opened_email(server, request):
            return EmailSignInPage(client, opened[1].typed, form, problem.text)
        page = SignInPage(client, name, form, problem.text, problem.code, offers, problem.keep, recover, sign_up)
        return replace(page, email_code=settings.offers_email_code)
    if step is Step.ENROL_SECOND_FACTOR:
        required_from = server.settings.mfa_required_from if may_decline_enrolment(interaction) else None
        return EnrolPage(client, signed_in.user, setup_of(server, signed_in), form, problem.text, required_from)
    if step is Step.OFFER_PASSKEY:
        return PasskeyOfferPage(client, signed_in.user, form, problem.text)
    if step is Step.CHANGE_PASSWORD:
        return ChangePasswordPage(signed_in.user, form, problem.text)
    permissions = describe_permissions(server, request, interaction.remembered)
    resources = named_resources(server, request)
    return ConsentPage(
        client,
        signed_in.user,
        form,
        request.redirect_uri,
        new_permissions=[permission for permission in permissions if not permission.allowed],
        allowed_before=[permission for permission in permissions if permission.allowed],
        resources=resources,
        several=len(resources) > 1,
        remembered=can_remember_consent(request, client),
        access_end=describe_access_end(server, client, request.scope),
        on_device=redirect_uris.is_loopback(request.redirect_uri),
        client_host=client.document_host,
        own_scheme=redirect_uris.origin_of(request.redirect_uri) is None,
        details=describe_details(server, request),
        problem=problem.text,
    )
