"""/account/sign-up: a person who has no account asks for an email with which to create one.

Its query is that of the authorization request from whose sign-in page the person came, so that it can be continued.
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
from chalicelib.users import sign_up

NOT_SHOWN = "Please press the button again. If this text stays, allow cookies for this server in your browser."


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the form that asks for the email address."""
    _require_sign_up(server)
    return _show(server, http)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Send the email, and ask for its code."""
    _require_sign_up(server)
    require_same_origin(server.issuer, http)
    form, browser_id = http.form(), browser_sessions.browser_id_of(server, http)
    typed = form.get("email", at_most=2048) or ""
    if browser_id is None or not server.keys.is_valid_form_tag(_subject(browser_id), form.get("tag") or ""):
        return _show(server, http, NOT_SHOWN, typed)
    try:
        proof = sign_up.ask(server, http, typed, browser_id, query_to_keep(http))
    except ValueError as error:
        return _show(server, http, str(error), typed)
    return redirect(http, with_query(pages.base(server.settings) + proofs.PATH, {"proof": proof.proof_id}))


def _show(server: AuthorizationServer, http: Request, problem: str = "", typed: str = "") -> Response:
    browser_id, new_cookie = browser_sessions.identify_browser(server, http)
    query = query_to_keep(http)
    page = pages.page(
        "sign_up",
        server.settings,
        action=f"{pages.base(server.settings)}/account/sign-up" + (f"?{query}" if query else ""),
        fields=[("tag", server.keys.form_tag(_subject(browser_id)))],
        email=typed or http.query.raw("login_hint") or "",
        domains=server.settings.sign_up_domains,
        sign_in=address_of(server, query) if query else f"{pages.base(server.settings)}/account",
        problem=problem,
    )
    # The address may be a long one: it must not be repeated in a header field of the next request.
    return pages.response(page, 400 if problem else 200).add({"Referrer-Policy": "origin"}).add(new_cookie)


def _subject(browser_id: str) -> str:
    return f"SIGN_UP {browser_id}"


def _require_sign_up(server: AuthorizationServer) -> None:
    if not server.settings.offers_sign_up:
        raise NotFound("Accounts are created by the operator of this server.")
