"""/account: a user's own pages: connected applications, browsers, recent activity, password; and how to end access."""

from dataclasses import replace
from typing import Any, TypeVar

from chalicelib import builtin_clients
from chalicelib.events.activity import is_event_id, read_page
from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol import claims, scopes
from chalicelib.protocol.authorization_details import describe, type_of, types_in
from chalicelib.protocol.errors import NotFound
from chalicelib.protocol.records import Session
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import active_grants, browser_sessions, connected_applications
from chalicelib.tokens.authorization_details import find_types, issuable
from chalicelib.users import password_form
from chalicelib.users.account_visit import Action, Visit, answer_form, show_page

T = TypeVar("T")
PER_PAGE = 20


def applications(server: AuthorizationServer, http: Request) -> Response:
    """Show the applications that have access, by an active grant or a remembered consent, last used first."""
    return show_page(server, http, _applications)


def _applications(visit: Visit) -> Response:
    server = visit.server
    applications = connected_applications.connected_applications(server, visit.signed_in)
    page, shown = _page_of(visit.http, applications)
    descriptions = server.scope_descriptions(frozenset[str]().union(*(application.scope for application in shown)))
    rows = []
    for application in shown:
        permissions = [descriptions[scope] for scope in scopes.sort_scopes(application.scope)]
        permissions += [claims.describe_claim(name) for name in sorted(application.claims)]
        types = find_types(server, types_in(application.details))
        details = issuable(application.client, application.details, types)
        rows.append((application, permissions, [describe(types[type_of(text)], text) for text in details]))
    total, pages_ = len(applications), _page_count(applications)
    seen = connected_applications.access_seen(visit.signed_in.user)
    return visit.page("applications", applications=rows, total=total, page=page, pages=pages_, seen=seen)


def browsers(server: AuthorizationServer, http: Request) -> Response:
    """Show where the user is signed in, this browser first."""
    return show_page(server, http, _browsers)


def _browsers(visit: Visit) -> Response:
    server, current = visit.server, visit.signed_in.session
    sessions = active_grants.valid_sessions(server.store, visit.signed_in)
    sessions.sort(key=lambda session: (session.session_id != current.session_id, -session.signed_in_until))
    page, shown = _page_of(visit.http, sessions)
    rows = [_browser(server, session, current) for session in shown]
    return visit.page("browsers", browsers=rows, total=len(sessions), page=page, pages=_page_count(sessions))


def _browser(server: AuthorizationServer, session: Session, current: Session) -> tuple[Session, int, bool, bool]:
    """Return a session, when it was seen last, whether it is this browser, and whether the user is signed in there."""
    # The time is moved from time to time, and not beyond the absolute lifetime.
    last_seen = max(session.auth_time, session.signed_in_until - server.settings.session_idle_lifetime)
    is_current = session.session_id == current.session_id
    return session, last_seen, is_current, session.signed_in_until > server.now()


def activity(server: AuthorizationServer, http: Request) -> Response:
    """Show what happened to the account in the last 90 days, newest first."""
    return show_page(server, http, _activity)


def _activity(visit: Visit) -> Response:
    until = visit.http.query.get("until")
    if until and not is_event_id(until):
        raise NotFound("There is no such page.")
    page = read_page(visit.server.store, visit.signed_in.user.sub, until)
    return visit.page("activity", lines=page.lines, older=page.older, until=until)


def password(server: AuthorizationServer, http: Request) -> Response:
    """Show the form that changes the password."""
    return show_page(server, http, _password_page)


def _password_page(visit: Visit, status: int = 200, problem: str = "", field: str = "") -> Response:
    """Return the page of the password. `field`: which of its fields the problem is about, or the passkey."""
    ways = password_form.ways_to_confirm(visit.server, visit.signed_in)
    return visit.page("password", status, problem=problem, field=field, **ways)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Perform the action of a button on one of these pages, as `account_visit.answer_form`."""
    return answer_form(server, http, _ACTIONS, _answer_again)


# ---- what the buttons do


def _revoke(visit: Visit, form: Params) -> Response:
    sub, client_id = visit.signed_in.user.sub, form.require("client_id", at_most=128)
    ended = connected_applications.remove_access(visit.server, visit.http, sub, client_id, form.get("generation"))
    return visit.back("/account", "revoked" if ended else "changed")


def _revoke_all(visit: Visit, form: Params) -> Response:
    user, seen = visit.signed_in.user, form.get("generation")
    ended = connected_applications.remove_all_access(visit.server, visit.http, user, seen)
    return visit.back("/account", "all_revoked" if ended else "changed")


def _sign_out(visit: Visit, form: Params) -> Response:
    session = visit.server.store.sessions.get(form.require("session", at_most=512))
    if session and session.sub == visit.signed_in.user.sub:
        browser_sessions.sign_out(visit.server, visit.http, session)
    return visit.back("/account/browsers", "signed_out")


def _sign_out_others(visit: Visit, form: Params) -> Response:
    seen = form.get("generation")
    ended = connected_applications.sign_out_others(visit.server, visit.http, visit.signed_in, seen)
    return visit.back("/account/browsers", "others_signed_out" if ended else "changed")


def _change_password(visit: Visit, form: Params) -> Response:
    """Change the password. The current one or a passkey is required too, because the browser may be unattended."""
    client = visit.server.client(builtin_clients.ACCOUNT)
    if client is None:
        raise NotFound("There is nothing at this address.")
    try:
        signed_in = password_form.change(visit.server, visit.http, client, visit.signed_in, form)
    except password_form.NotChanged as failure:
        return _password_page(visit, failure.status, failure.text, failure.field).add(failure.headers)
    return _password_changed(replace(visit, signed_in=signed_in))


def _password_changed(visit: Visit) -> Response:
    answer = visit.back("/account/password", "password_changed")
    return answer.add(browser_sessions.session_cookie(visit.server, visit.signed_in.session))


def _answer_again(server: AuthorizationServer, http: Request, session: Session, form: Params) -> Response | None:
    """Return the answer to a form that was sent twice and has just changed the password."""
    if form.get("action") != "change_password":
        return None
    repeated = password_form.find_changed(server, http, session, form)
    return _password_changed(Visit(server, http, repeated)) if repeated else None


_ACTIONS: dict[str, Action] = {
    "revoke": _revoke,
    "revoke_all": _revoke_all,
    "sign_out": _sign_out,
    "sign_out_others": _sign_out_others,
    "change_password": _change_password,
}


# ---- helpers


def _page_of(http: Request, items: list[T]) -> tuple[int, list[T]]:
    """Return the number of the requested page, and the items on it. Raises NotFound when there is no such page."""
    text = http.query.get("page") or "1"
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= _page_count(items):
        raise NotFound("There is no such page.")
    return number, items[(number - 1) * PER_PAGE : number * PER_PAGE]


def _page_count(items: list[Any]) -> int:
    return max(1, -(-len(items) // PER_PAGE))
