"""The pages of a sign-in by email: the one that asks for the code, and what the link of the email leads to."""

from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import Content
from chalicelib.authorization.forms import Form, query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import Problem, redirect_with_problem
from chalicelib.authorization.request import read_stored_request
from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol.client import Client
from chalicelib.protocol.next_step import Step
from chalicelib.protocol.proof import MAX_TRIES, SIGN_IN, Proof
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer


@dataclass(frozen=True)
class EmailSignInPage:
    """The values of the page email_sign_in. `typed`: the username or address for which the email was asked."""

    client: Client
    typed: str
    form: Form
    problem: str = ""


def opened_email(server: AuthorizationServer, request: AuthorizationRequest) -> tuple[Proof, Content] | None:
    """Return the email for whose code the page of a request asks; None if there is none, or its code has ended.

    One read, none if no email was asked for.
    """
    if request.email_proof is None or not server.settings.offers_email_code:
        return None
    proof = proofs.find(server, request.email_proof)
    if proof is None or proof.spent_at is not None or proof.tries >= MAX_TRIES:
        return None
    return proof, proofs.content_of(server, proof)


def request_of(
    server: AuthorizationServer, http: Request, proof: Proof, content: Content
) -> tuple[AuthorizationRequest, Client]:
    """Return the request that is continued by the link of an email, and its client, in the browser that asked.

    Raises RequestEnded when it has been answered or has expired, or when it asks for the code of a newer email.
    """
    handle = Params.from_urlencoded(content.query).raw("request_uri") or ""
    request, client = read_stored_request(server, http, handle)
    require_email_of(server, request, proof)
    return request, client


def require_email_of(server: AuthorizationServer, request: AuthorizationRequest, proof: Proof) -> None:
    """Raise RequestEnded unless it is the email that the browser of this request has asked for last.

    Also once the operator no longer lets users sign in by email.
    """
    offered = server.settings.offers_email_code
    if not offered or request.email_proof != proof.proof_id or request.browser_id != proof.browser_id:
        raise proofs.ended(server, SIGN_IN)


def show_problem(
    interaction: Interaction, text: str, code: str = "", retry_after: int = 0, typed: str | None = None
) -> Response:
    """Return the redirect to the sign-in page of a request, or to the one that asks for the code, with a problem.

    `retry_after`: in how many seconds it is over, 0 for none. `typed`: what the sign-in page shows again.
    """
    server, http, keep = interaction.server, interaction.http, bool(interaction.request.keep_signed_in)
    retry_at, status = (server.now() + retry_after, 429) if retry_after else (0, 400)
    problem = Problem(text, code, status if text else 200, Step.SIGN_IN.name, retry_at, typed, keep)
    return redirect_with_problem(server, http, query_of(interaction), problem)
