"""/account/sign-up: a person who has no account asks for an email with which to create one."""

from chalicelib.authentication.proofs import ASK_AGAIN, code_address
from chalicelib.authorization.forms import query_to_keep
from chalicelib.authorization.side_page import SidePage
from chalicelib.http.csrf import require_same_origin
from chalicelib.http.messages import Request, Response, redirect
from chalicelib.protocol.errors import NotFound, TooManyEmails
from chalicelib.protocol.proof import SIGN_UP
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_forms import NOT_SHOWN
from chalicelib.users import sign_up

PAGE = SidePage("sign_up", ASK_AGAIN[SIGN_UP], "email")


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the form that asks for the email address."""
    _require_sign_up(server)
    return _show(server, http)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Send the email, and ask for its code."""
    _require_sign_up(server)
    require_same_origin(server.issuer, http)
    form = http.form()
    typed, browser_id = form.get("email", at_most=2048) or "", PAGE.browser_of(server, http, form)
    if browser_id is None:
        return _show(server, http, NOT_SHOWN, typed)
    try:
        proof = sign_up.ask(server, http, typed, browser_id, query_to_keep(http))
    except ValueError as error:
        return _show(server, http, str(error), typed)
    except TooManyEmails as limit:
        return PAGE.show_limit(server, http, limit, typed, domains=server.settings.sign_up_domains)
    return redirect(http, code_address(server, proof))


def _show(server: AuthorizationServer, http: Request, problem: str = "", typed: str = "") -> Response:
    return PAGE.show(server, http, problem, typed, domains=server.settings.sign_up_domains)


def _require_sign_up(server: AuthorizationServer) -> None:
    if not server.settings.offers_sign_up:
        raise NotFound("Accounts are created by the operator of this server.")
