"""/account/recover: a user who has forgotten the password asks for an email with a code and a link."""

from chalicelib.authentication.proofs import ASK_AGAIN, code_address
from chalicelib.authorization.forms import query_to_keep
from chalicelib.authorization.side_page import SidePage
from chalicelib.http.csrf import require_same_origin
from chalicelib.http.messages import Request, Response, redirect
from chalicelib.protocol.errors import NotFound, TooManyEmails
from chalicelib.protocol.proof import RESET
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_forms import NOT_SHOWN
from chalicelib.users import password_reset

PAGE = SidePage("recover", ASK_AGAIN[RESET], "username")
EMPTY = Text("Enter your username or your email address.")


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the form that asks for the username or the email address."""
    _require_sender(server)
    return PAGE.show(server, http)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Send the email, if there is such a user with a verified address, and ask for its code in any case.

    A caller who has asked for too many emails is told so, and nothing is written.
    """
    _require_sender(server)
    require_same_origin(server.issuer, http)
    form = http.form()
    typed, browser_id = form.get("username", at_most=2048) or "", PAGE.browser_of(server, http, form)
    if browser_id is None:
        return PAGE.show(server, http, NOT_SHOWN, typed)
    if not typed.strip():
        return PAGE.show(server, http, EMPTY)
    try:
        proof = password_reset.ask(server, http, typed, browser_id, query_to_keep(http))
    except TooManyEmails as limit:
        return PAGE.show_limit(server, http, limit, typed)
    return redirect(http, code_address(server, proof))


def _require_sender(server: AuthorizationServer) -> None:
    if not server.settings.can_send_mail:
        raise NotFound("This server sends no email.")
