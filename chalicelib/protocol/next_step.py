"""The rule that decides what the user must still do before an authorization request can be answered."""

from enum import Enum

from chalicelib.protocol import authentication_context, claims, claims_parameter, redirect_uris
from chalicelib.protocol.authentication_context import NO_DEMAND, TWO_FACTORS, Demand, Policy
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import (
    ConsentRequired,
    InteractionRequired,
    LoginRequired,
    OAuthError,
    UnmetAuthenticationRequirements,
)
from chalicelib.protocol.records import AuthorizationRequest, Consent, Session, User
from chalicelib.protocol.values import dataclass


class Step(Enum):
    """An interaction with the user."""

    SIGN_IN = "sign in"
    SECOND_FACTOR = "prove the second factor"
    CHANGE_PASSWORD = "change the password"  # noqa: S105
    ENROL_SECOND_FACTOR = "set up a second factor"
    OFFER_PASSKEY = "add a passkey, or not"
    CONSENT = "consent"


@dataclass(frozen=True)
class SignedInUser:
    """A signed-in user, with the session."""

    user: User
    session: Session


RECENT = 600  # seconds since a sign-in for this request, in which a password or a second factor can be set
RECENT_ELSEWHERE = 300  # since any other one, for a second factor, and for what the account pages protect
OPTIONAL = Policy()
WRONG_USER = "The user who signed in is not the one that the application asked for."
# step -> its error with prompt=none (OpenID Connect Core section 3.1.2.6)
_ERRORS: dict[Step, type[OAuthError]] = {
    Step.SIGN_IN: LoginRequired,
    Step.SECOND_FACTOR: LoginRequired,
    Step.CHANGE_PASSWORD: InteractionRequired,
    Step.ENROL_SECOND_FACTOR: InteractionRequired,
    Step.CONSENT: ConsentRequired,
}


def next_step(
    request: AuthorizationRequest,
    client: Client,
    signed_in: SignedInUser | None,
    consent: Consent | None,
    now: int,
    subject: str | None = None,
    *,
    policy: Policy = OPTIONAL,
    demand: Demand = NO_DEMAND,
    waiting: bool = False,
    has_passkey: bool = False,
) -> Step | None:
    """Return the next step, or None when the request can be answered.

    `subject`: the client's identifier for the user, when it is not their `sub`. `policy`: of the server, `demand`: of
    the request. `waiting`: a user has proved the password for this request, and must still prove the second factor.
    `has_passkey`: whether the signed-in user has a passkey; needed only where `Policy.depends_on_passkeys`.

    Raises LoginRequired, InteractionRequired or ConsentRequired for a step with `prompt=none`, LoginRequired when
    another user than the intended one has signed in for this request, and UnmetAuthenticationRequirements when no
    sign-in reaches what is demanded, or only a passkey does, which this user has not.
    """
    if demand.required > policy.highest:
        raise UnmetAuthenticationRequirements("No sign-in at this server reaches the authentication that is required.")
    step = Step.SECOND_FACTOR if waiting else None
    if step is None:
        level = 0
        if signed_in:
            level = demand.level_for(policy.reachable(signed_in.user, signed_in.session.amr, has_passkey=has_passkey))
        step = _next_step(request, client, signed_in, consent, now, subject, policy, level, has_passkey=has_passkey)
    if step and "none" in request.prompt:
        raise _ERRORS[step]("The user must interact with this server, but prompt=none was sent.")
    return step


def _next_step(
    request: AuthorizationRequest,
    client: Client,
    signed_in: SignedInUser | None,
    consent: Consent | None,
    now: int,
    subject: str | None,
    policy: Policy,
    level: int,
    *,
    has_passkey: bool,
) -> Step | None:
    if signed_in is None or not _is_fresh(request, signed_in.session, now, level):
        return Step.SIGN_IN
    if not is_intended_user(request, subject or signed_in.user.sub):
        if signed_in.session.request_id == request.request_id:
            raise LoginRequired(WRONG_USER)
        return Step.SIGN_IN
    reached = authentication_context.level(signed_in.session.amr)
    if level > max(reached, TWO_FACTORS) and not has_passkey:
        raise UnmetAuthenticationRequirements("This needs a passkey, and the user has none.")
    if reached < level and (has_passkey or policy.asks_for_code(signed_in.user)):
        return Step.SECOND_FACTOR
    # These forms do not ask for the current password, so the sign-in must be recent.
    is_recent = now - signed_in.session.auth_time <= RECENT
    if signed_in.user.password_change_required:
        return Step.CHANGE_PASSWORD if is_recent else Step.SIGN_IN
    if reached < level:
        # A sign-in for something else may have been left open: as for the account page, it must be more recent.
        is_own = signed_in.session.request_id == request.request_id
        is_recent = is_recent and (is_own or now - signed_in.session.auth_time <= RECENT_ELSEWHERE)
        return Step.ENROL_SECOND_FACTOR if is_recent else Step.SIGN_IN
    return Step.CONSENT if _needs_consent(request, client, consent) else None


def _is_fresh(request: AuthorizationRequest, session: Session, now: int, level: int) -> bool:
    """Return whether the sign-in satisfies `prompt=login` and `max_age`; one for this request always does.

    `level`: what it must reach, because `max_age` counts from the newest factor that is needed.
    """
    if session.request_id == request.request_id:
        return True
    if request.prompt & {"login", "select_account", "create"}:
        return False
    # max_age=0 is the same as prompt=login (OpenID Connect Core section 3.1.2.1)
    age = now - authentication_context.authenticated_at(session, level)
    return request.max_age is None or (request.max_age > 0 and age <= request.max_age)


def is_intended_user(request: AuthorizationRequest, subject: str) -> bool:
    """Return whether the request may be answered for the user whom its client knows as `subject`.

    False when its `id_token_hint` or a `sub` in `claims` names another user (OpenID Connect Core section 3.1.2.2).
    """
    if request.hinted_sub not in (None, subject):
        return False
    return not request.claims or claims_parameter.allows_subject(request, subject)


def _needs_consent(request: AuthorizationRequest, client: Client, consent: Consent | None) -> bool:
    """Return whether the user must be asked for consent."""
    if "consent" in request.prompt or _may_be_impersonated(request, client):
        return True
    if client.trusted:
        return False
    if request.authorization_details:  # they are allowed once
        return True
    allowed = consent or Consent("", "")
    names = claims.requested_outside_scope(request.claims, allowed.scope)
    scopes = request.scope_of_no_resource <= allowed.scope and request.resource_scope <= allowed.resource_scope
    return not (scopes and names <= allowed.claims)


def can_remember_consent(request: AuthorizationRequest, client: Client) -> bool:
    """Return whether consent can be remembered: not for authorization details, which may be a payment.

    Nor for a client that can be impersonated (RFC 8252 section 8.6).
    """
    return not request.authorization_details and not _may_be_impersonated(request, client)


def _may_be_impersonated(request: AuthorizationRequest, client: Client) -> bool:
    unproven = client.public or client.document is not None  # all installations are the same client by its document
    return unproven and redirect_uris.can_be_impersonated(request.redirect_uri)
