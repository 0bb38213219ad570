"""/account: a user's own pages: connected applications, browsers, recent activity, password; and how to end access."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from chalicelib import builtin_clients, pages
from chalicelib.events.activity import is_event_id, read_page
from chalicelib.http.csrf import is_cross_origin, require_same_origin
from chalicelib.http.messages import Params, Request, Response, redirect, with_query
from chalicelib.protocol import claims, scopes
from chalicelib.protocol.errors import NotFound, RequestEnded
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import Session
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import active_grants, browser_sessions, connected_applications
from chalicelib.users import password_form

T = TypeVar("T")
PER_PAGE = 20
# value of `done` in the page that follows a POST -> what the POST did
DONE = {
    "revoked": "The application no longer has access.",
    "all_revoked": "No application has access now.",
    "signed_out": "That browser is signed out.",
    "others_signed_out": "All other browsers are signed out.",
    "changed": "The page had changed in between. This is how it is now.",
    "password_changed": "Your password is changed. All other browsers are signed out, and no application has access.",
}


@dataclass(frozen=True)
class _Visit:
    """A request for an account page by a signed-in user."""

    server: AuthorizationServer
    http: Request
    signed_in: SignedInUser

    def page(self, name: str, status: int = 200, **values: Any) -> Response:
        """Return the page of this name."""
        session = self.signed_in.session
        # A link on another site must not make the page report something that was not done.
        done = "" if is_cross_origin(self.server.issuer, self.http) else self.http.query.get("done")
        common = {
            "user": self.signed_in.user,
            "tag": self.server.keys.form_tag(_subject(session)),
            "done": DONE.get(done or "", ""),
            "problem": "",
            "current_page": name,
            "date": _date,
        }
        return pages.response(pages.page(f"account_{name}", self.server.settings, **(common | values)), status)


def applications(server: AuthorizationServer, http: Request) -> Response:
    """Show the applications that have access, by an active grant or a remembered consent, last used first."""
    return _signed_in(server, http, _applications)


def _applications(visit: _Visit) -> Response:
    server = visit.server
    applications = connected_applications.connected_applications(server, visit.signed_in)
    page, shown = _page_of(visit.http, applications)
    descriptions = server.scope_descriptions(frozenset[str]().union(*(application.scope for application in shown)))
    rows = []
    for application in shown:
        permissions = [descriptions[scope] for scope in scopes.sort_scopes(application.scope)]
        permissions += [claims.describe_claim(name) for name in sorted(application.claims)]
        rows.append((application, permissions))
    total, pages_ = len(applications), _page_count(applications)
    seen = connected_applications.access_seen(visit.signed_in.user)
    return visit.page("applications", applications=rows, total=total, page=page, pages=pages_, seen=seen)


def browsers(server: AuthorizationServer, http: Request) -> Response:
    """Show where the user is signed in, this browser first."""
    return _signed_in(server, http, _browsers)


def _browsers(visit: _Visit) -> Response:
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
    return _signed_in(server, http, _activity)


def _activity(visit: _Visit) -> Response:
    until = visit.http.query.get("until")
    if until and not is_event_id(until):
        raise NotFound("There is no such page.")
    page = read_page(visit.server.store, visit.signed_in.user.sub, until)
    return visit.page("activity", lines=page.lines, older=page.older, until=until)


def password(server: AuthorizationServer, http: Request) -> Response:
    """Show the form that changes the password."""
    return _signed_in(server, http, lambda visit: visit.page("password", field=""))


def post(server: AuthorizationServer, http: Request) -> Response:
    """Perform the action of a button on one of these pages.

    Raises RequestEnded for a form that was not shown in this session.
    """
    require_same_origin(server.issuer, http)
    form = http.form()

    def act(visit: _Visit) -> Response:
        if not server.keys.is_valid_form_tag(_subject(visit.signed_in.session), form.get("tag") or ""):
            raise RequestEnded("This form was shown to another user, or not by this server. Please start again.")
        action = _ACTIONS.get(form.get("action") or "")
        if action is None:
            raise RequestEnded("This form asks for an unknown action. Please start again.")
        return action(visit, form)

    return _signed_in(server, http, act, form)


# ---- what the buttons do


def _revoke(visit: _Visit, form: Params) -> Response:
    sub, client_id = visit.signed_in.user.sub, form.require("client_id", at_most=128)
    ended = connected_applications.remove_access(visit.server, visit.http, sub, client_id, form.get("generation"))
    return _back(visit, "/account", "revoked" if ended else "changed")


def _revoke_all(visit: _Visit, form: Params) -> Response:
    user, seen = visit.signed_in.user, form.get("generation")
    ended = connected_applications.remove_all_access(visit.server, visit.http, user, seen)
    return _back(visit, "/account", "all_revoked" if ended else "changed")


def _sign_out(visit: _Visit, form: Params) -> Response:
    session = visit.server.store.sessions.get(form.require("session", at_most=512))
    if session and session.sub == visit.signed_in.user.sub:
        browser_sessions.sign_out(visit.server, visit.http, session)
    return _back(visit, "/account/browsers", "signed_out")


def _sign_out_others(visit: _Visit, form: Params) -> Response:
    seen = form.get("generation")
    ended = connected_applications.sign_out_others(visit.server, visit.http, visit.signed_in, seen)
    return _back(visit, "/account/browsers", "others_signed_out" if ended else "changed")


def _change_password(visit: _Visit, form: Params) -> Response:
    """Change the password. The current one is required too, because the browser may be unattended."""
    client = visit.server.client(builtin_clients.ACCOUNT)
    if client is None:
        raise NotFound("There is nothing at this address.")
    try:
        signed_in = password_form.change(visit.server, visit.http, client, visit.signed_in, form)
    except password_form.NotChanged as failure:
        page = visit.page("password", failure.status, problem=failure.text, field=failure.field)
        return page.add(failure.headers)
    return _password_changed(replace(visit, signed_in=signed_in))


def _password_changed(visit: _Visit) -> Response:
    answer = _back(visit, "/account/password", "password_changed")
    return answer.add(browser_sessions.session_cookie(visit.server, visit.signed_in.session))


_ACTIONS: dict[str, Callable[[_Visit, Params], Response]] = {
    "revoke": _revoke,
    "revoke_all": _revoke_all,
    "sign_out": _sign_out,
    "sign_out_others": _sign_out_others,
    "change_password": _change_password,
}


# ---- helpers


def _signed_in(
    server: AuthorizationServer, http: Request, show: Callable[[_Visit], Response], form: Params | None = None
) -> Response:
    """Return what `show` returns for the signed-in user; a redirect to the sign-in page for anyone else.

    `form`: one that may be a second copy of the form that has just changed the password, under the cookie from before.
    """
    browser = browser_sessions.read_browser(server, http)
    sent = form if form and form.get("action") == "change_password" else None
    if sent and browser.session and (repeated := password_form.find_changed(server, http, browser.session, sent)):
        return _password_changed(_Visit(server, http, repeated))
    signed_in = browser.signed_in
    if signed_in is not None and not signed_in.user.password_change_required:
        return show(_Visit(server, http, signed_in))
    parameters = {"client_id": builtin_clients.ACCOUNT, "response_type": "code"}
    return redirect(http, with_query(server.path_of("authorization_endpoint"), parameters))


def _subject(session: Session) -> str:
    return f"account {session.session_id}"


def _back(visit: _Visit, path: str, done: str) -> Response:
    return redirect(visit.http, with_query(pages.base(visit.server.settings) + path, {"done": done}))


def _page_of(http: Request, items: list[T]) -> tuple[int, list[T]]:
    """Return the number of the requested page, and the items on it. Raises NotFound when there is no such page."""
    text = http.query.get("page") or "1"
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= _page_count(items):
        raise NotFound("There is no such page.")
    return number, items[(number - 1) * PER_PAGE : number * PER_PAGE]


def _date(seconds: int) -> str:
    """Return a time as text for users."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _page_count(items: list[Any]) -> int:
    return max(1, -(-len(items) // PER_PAGE))
