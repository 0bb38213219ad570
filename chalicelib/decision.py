"""What the person has answered on the question whether an application may have access."""

from chalicelib.authorization import deny, grant, remaining, show
from chalicelib.errors import RequestEnded
from chalicelib.interaction import Person, Step, consent_lasts
from chalicelib.messages import Request, Response
from chalicelib.models import AuthorizationRequest, Client
from chalicelib.server import AuthorizationServer

DECISIONS = ("allow_once", "allow_always", "deny")


def decide(
    server: AuthorizationServer,
    http: Request,
    decision: str | None,
    client: Client,
    request: AuthorizationRequest,
    person: Person,
) -> Response:
    """The answer to the application, or the page for what has to be done first.

    Raises AccessDenied for a no, RequestEnded for what is no decision or comes a second time.
    """
    if decision == "deny":
        deny(server, http, client, request, person)
    if decision == "switch":  # another account: the page asks who it is, and the session of this one ends with it
        return show(server, http, client, request, Step.SIGN_IN, username="")
    if decision not in DECISIONS:
        raise RequestEnded("The decision must be allow_once, allow_always or deny.", code="form_not_ours")
    step = remaining(server, client, request, person, None)
    if step not in (Step.CONSENT, None):  # it answers the last question only
        return show(server, http, client, request, step, person)
    always = decision == "allow_always" and consent_lasts(request, client)
    return grant(server, http, client, request, person, asked=True, always=always)
