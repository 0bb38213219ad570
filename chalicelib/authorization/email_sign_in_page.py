"""The page of a sign-in by email, which asks for the code, and the problems that it tells."""

from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import Content
from chalicelib.authorization.forms import Form, query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import Problem, redirect_with_problem
from chalicelib.http.messages import Response
from chalicelib.protocol.client import Client
from chalicelib.protocol.next_step import Step
from chalicelib.protocol.proof import MAX_TRIES, Proof
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
    if not server.settings.offers_email_code:
        return None
    proof = proofs.find(server, request.email_proof)
    if proof is None or proof.spent_at is not None or proof.tries >= MAX_TRIES:
        return None
    return proof, proofs.content_of(server, proof)


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
