"""/account/let-in: the link of `signet user let-in`, which makes a browser known for a user without signing it in.

Opening it changes nothing, because programs open links in messages. The address contains the handle of the link: it is
sent to no other page as a referrer, and only the path of a request is logged.
"""

from chalicelib import pages
from chalicelib.authentication import let_in
from chalicelib.authentication.let_in import Link
from chalicelib.http.csrf import require_own_page, send_no_referrer
from chalicelib.http.messages import Request, Response, redirect, with_query
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.browser_forms import NOT_SHOWN, browser_of_form, browser_tag


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the button that makes this browser known or, once it was pressed here, that it is known."""
    send_no_referrer(http)
    handle, browser_id = http.query.get(let_in.PARAMETER), browser_sessions.browser_id_of(server, http)
    link = let_in.read_link(server, handle, browser_id)
    if link.record.browser_id is None:
        return _show_button(server, http, link)
    return pages.response(pages.page("let_in_done", server.settings, http, username=link.user.username))


def _show_button(server: AuthorizationServer, http: Request, link: Link, problem: str = "") -> Response:
    browser_id, new_cookie = browser_sessions.identify_browser(server, http)
    page = pages.page(
        "let_in",
        server.settings,
        http,
        with_query(_path(server), {let_in.PARAMETER: link.handle}),
        action=_path(server),
        fields=[(let_in.PARAMETER, link.handle), ("tag", browser_tag(server, _about(link), browser_id))],
        username=link.user.username,
        problem=problem,
    )
    return pages.response(page, 400 if problem else 200).add(new_cookie)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Make this browser known, or show the button again if it was not shown in this browser."""
    send_no_referrer(http)
    require_own_page(server.issuer, http)
    form = http.form()
    link = let_in.read_link(server, form.get(let_in.PARAMETER), browser_sessions.browser_id_of(server, http))
    browser_id = browser_of_form(server, http, form, _about(link))
    if browser_id is None:
        return _show_button(server, http, link, NOT_SHOWN)
    if link.record.browser_id is None:
        let_in.let_in(server, http, link, browser_id)
    return redirect(http, with_query(_path(server), {let_in.PARAMETER: link.handle}))


def _about(link: Link) -> str:
    return f"LET_IN {link.record.attempts_id}"


def _path(server: AuthorizationServer) -> str:
    return pages.base(server.settings) + let_in.PATH
