"""The link of an email to sign in with: the request that it continues, in the browser that asked for the email."""

from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import Content
from chalicelib.authorization.email_sign_in import use
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.recipient import set_recipient_of
from chalicelib.authorization.request import read_stored_request, require_current
from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol.client import Client
from chalicelib.protocol.proof import SIGN_IN, Proof
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.repeated_form import digest_form


def request_of(
    server: AuthorizationServer, http: Request, proof: Proof, content: Content
) -> tuple[AuthorizationRequest, Client]:
    """Return the request that is continued by the link of an email, and its client, in the browser that asked.

    Raises RequestEnded when it has been answered or has expired, or when it asks for the code of a newer email.
    """
    handle = Params.from_urlencoded(content.query).raw("request_uri") or ""
    request, client = read_stored_request(server, http, handle)
    _require_email_of(server, request, proof)
    return request, client


def sign_in(server: AuthorizationServer, http: Request, proof: Proof, content: Content, browser_id: str) -> Response:
    """Sign in by the link of an email, in the browser that asked for it, and continue with its request.

    Raises RequestEnded when the request was answered some time ago, or asks for the code of a newer email.
    """
    http.query = Params.from_urlencoded(content.query)
    handle = server.keys.read_handle("req", http.query.raw("request_uri"))
    browser = browser_sessions.read_browser(server, http, request_id=handle.id if handle else None)
    request, client = require_current(server, http, browser.request)
    _require_email_of(server, request, proof)
    set_recipient_of(http, client, request)
    interaction = Interaction(server, http, client, request, browser.signed_in)
    return use(interaction, proof, digest_form(server, f"{proof.proof_id} {browser_id}"), None)


def _require_email_of(server: AuthorizationServer, request: AuthorizationRequest, proof: Proof) -> None:
    """Raise RequestEnded unless it is the email that the browser of this request has asked for last.

    Also once the operator no longer lets users sign in by email.
    """
    offered = server.settings.offers_email_code
    if not offered or request.email_proof != proof.proof_id or request.browser_id != proof.browser_id:
        raise proofs.ended(server, SIGN_IN)
