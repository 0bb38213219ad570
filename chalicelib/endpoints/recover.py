"""/account/recover: a user who has forgotten the password asks for an email with a code and a link.

Its query is that of the authorization request from whose sign-in page the user came, so that it can be continued.
"""

from chalicelib import pages
from chalicelib.authentication import proofs
from chalicelib.authorization.forms import query_to_keep
from chalicelib.authorization.problems import address_of
from chalicelib.http.csrf import require_same_origin
from chalicelib.http.messages import Request, Response, redirect, with_query
from chalicelib.protocol.errors import NotFound
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.users import password_reset

EMPTY = "Enter your username or your email address."
NOT_SHOWN = "Please press the button again. If this text stays, allow cookies for this server in your browser."


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the form that asks for the username or the email address."""
    _require_sender(server)
    return _show(server, http)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Send the email, if there is such a user with a verified address, and ask for its code in any case."""
    _require_sender(server)
    require_same_origin(server.issuer, http)
    form, browser_id = http.form(), browser_sessions.browser_id_of(server, http)
    typed = form.get("username", at_most=2048) or ""
    if browser_id is None or not server.keys.is_valid_form_tag(_subject(browser_id), form.get("tag") or ""):
        return _show(server, http, NOT_SHOWN, typed)
    if not typed.strip():
        return _show(server, http, EMPTY)
    proof = password_reset.ask(server, http, typed, browser_id, query_to_keep(http))
    return redirect(http, with_query(pages.base(server.settings) + proofs.PATH, {"proof": proof.proof_id}))


def _show(server: AuthorizationServer, http: Request, problem: str = "", typed: str = "") -> Response:
    browser_id, new_cookie = browser_sessions.identify_browser(server, http)
    query = query_to_keep(http)
    page = pages.page(
        "recover",
        server.settings,
        action=f"{pages.base(server.settings)}/account/recover" + (f"?{query}" if query else ""),
        fields=[("tag", server.keys.form_tag(_subject(browser_id)))],
        username=typed or http.query.raw("login_hint") or "",
        sign_in=address_of(server, query) if query else f"{pages.base(server.settings)}/account",
        problem=problem,
    )
    # The address may be a long one: it must not be repeated in a header field of the next request.
    return pages.response(page, 400 if problem else 200).add({"Referrer-Policy": "origin"}).add(new_cookie)


def _subject(browser_id: str) -> str:
    return f"RECOVER {browser_id}"


def _require_sender(server: AuthorizationServer) -> None:
    if not server.settings.can_send_mail:
        raise NotFound("This server sends no email.")
