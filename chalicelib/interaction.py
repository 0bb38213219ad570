"""What must the person still do before the answer can be sent? Pure: values in, a step or an error out."""

from dataclasses import dataclass
from enum import Enum

from chalicelib import claims, claims_parameter, redirect_uris
from chalicelib.errors import ConsentRequired, InteractionRequired, LoginRequired, OAuthError
from chalicelib.models import AuthorizationRequest, Client, Consent, Session, User


class Step(Enum):
    """Something that only the person can do."""

    SIGN_IN = "sign in"
    CHANGE_PASSWORD = "change the password"  # noqa: S105
    CONSENT = "consent"


@dataclass(frozen=True)
class Person:
    """Who is signed in, in which session."""

    user: User
    session: Session


SOMEBODY_ELSE = "Somebody else has signed in than the one that the application asked for."
# OpenID Connect Core section 3.1.2.6: what prompt=none turns each step into
_ERRORS: dict[Step, type[OAuthError]] = {
    Step.SIGN_IN: LoginRequired,
    Step.CHANGE_PASSWORD: InteractionRequired,
    Step.CONSENT: ConsentRequired,
}


def next_step(
    request: AuthorizationRequest,
    client: Client,
    person: Person | None,
    consent: Consent | None,
    now: int,
    subject: str | None = None,
) -> Step | None:
    """The next thing to do, None when nothing is left. `subject`: who the person is to this client, if not `sub`.

    Raises LoginRequired, InteractionRequired or ConsentRequired when there is something and the request forbids to ask;
    LoginRequired also when somebody has signed in for it whom it was not meant for.
    """
    step = _next_step(request, client, person, consent, now, subject)
    if step and "none" in request.prompt:
        raise _ERRORS[step]("The person would have to be asked, and prompt=none forbids it.")
    return step


def _next_step(
    request: AuthorizationRequest,
    client: Client,
    person: Person | None,
    consent: Consent | None,
    now: int,
    subject: str | None,
) -> Step | None:
    if person is None or not _fresh_enough(request, person.session, now):
        return Step.SIGN_IN
    if not is_meant(request, subject or person.user.sub):
        if person.session.request_id == request.request_id:
            raise LoginRequired(SOMEBODY_ELSE)
        return Step.SIGN_IN
    if person.user.password_change_required:
        return Step.CHANGE_PASSWORD
    return Step.CONSENT if consent_needed(request, client, consent) else None


def _fresh_enough(request: AuthorizationRequest, session: Session, now: int) -> bool:
    """Whether the sign-in satisfies `prompt=login` and `max_age`: one made for this very request always does."""
    if session.request_id == request.request_id:
        return True
    if request.prompt & {"login", "select_account"}:
        return False
    # max_age=0 is the same as prompt=login (OpenID Connect Core section 3.1.2.1)
    return request.max_age is None or (request.max_age > 0 and now - session.auth_time <= request.max_age)


def is_meant(request: AuthorizationRequest, subject: str) -> bool:
    """Whether the request may be answered for the person whom its client knows as `subject`.

    OpenID Connect Core section 3.1.2.2: not when its `id_token_hint` or a `sub` among its `claims` names another.
    """
    return request.hinted_sub in (None, subject) and claims_parameter.fits(request, subject)


def consent_needed(request: AuthorizationRequest, client: Client, consent: Consent | None) -> bool:
    """Whether the person has to be asked."""
    if "consent" in request.prompt or not consent_lasts(request, client):
        return True
    scope, names = (consent.scope, consent.claims) if consent else (frozenset[str](), frozenset[str]())
    allowed = request.scope <= scope and claims.asked(request.claims, scope) <= names
    return not client.trusted and not allowed


def consent_lasts(request: AuthorizationRequest, client: Client) -> bool:
    """Whether it can be given for good. Not where anybody on the device could ask in its name: RFC 8252 section 8.6."""
    return not (client.public and redirect_uris.can_be_impersonated(request.redirect_uri))
