"""/account: a person's own pages: who has access, where they are signed in, what was done of late; how to end it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from chalicelib import access, audit, claims, own_clients, pages, passwords, sessions
from chalicelib.errors import NotFound, RequestEnded
from chalicelib.forms import is_from_elsewhere, refuse_other_sites
from chalicelib.interaction import Person
from chalicelib.messages import Params, Request, Response, redirect, with_query
from chalicelib.models import Client, Session
from chalicelib.server import AuthorizationServer
from chalicelib.sign_in import Credentials, NotSignedIn

T = TypeVar("T")
PER_PAGE = 20
# What a POST has done, in words, by the value of `done` in the page that it leads to.
DONE = {
    "revoked": "The application has no access any more.",
    "all_revoked": "No application has access any more.",
    "signed_out": "That browser is signed out.",
    "others_signed_out": "All other browsers are signed out.",
    "password_changed": "Your password is changed. All other browsers are signed out, and no application has access.",
}
EVENTS = {
    audit.SIGN_IN: "Signed in",
    audit.SIGN_IN_FAILED: "Sign-in failed",
    audit.SIGN_IN_THROTTLED: "Sign-in refused after too many failures",
    audit.PASSWORD_CHANGED: "Password changed",
    audit.CONSENT_GIVEN: "Access allowed",
    audit.CONSENT_DENIED: "Access denied",
    audit.TOKEN_REVOKED: "Access given back by the application",
    audit.ACCESS_REVOKED: "Access taken away",
    audit.REUSE_DETECTED: "Access ended for safety: a code or token was used twice",
    audit.SIGNED_OUT: "Signed out",
    audit.USER_CHANGED: "Account changed by the operator",
}


@dataclass(frozen=True)
class _Place:
    """A page of the account, as somebody signed in has asked for it."""

    server: AuthorizationServer
    http: Request
    person: Person

    def page(self, name: str, status: int = 200, **values: Any) -> Response:
        """The page of this name."""
        session = self.person.session
        # A link on another site must not make us say what has not been done.
        done = "" if is_from_elsewhere(self.server, self.http) else self.http.query.one("done")
        common = {
            "person": self.person.user,
            "tag": self.server.keys.form_tag(_subject(session)),
            "done": DONE.get(done or "", ""),
            "problem": "",
            "here": name,
            "date": _date,
        }
        return pages.response(pages.page(f"account_{name}", self.server.settings, **(common | values)), status)


def applications(server: AuthorizationServer, http: Request) -> Response:
    """Who has access: the applications with a living grant, or with a remembered consent, those used last first."""
    return _signed_in(server, http, _applications)


def _applications(place: _Place) -> Response:
    server, sub = place.server, place.person.user.sub
    found = access.applications(server.store, sub)
    page, shown = _page_of(place.http, found)
    clients = access.clients(server.store, shown)
    own = {name: client for name in own_clients.RESERVED if (client := server.client(name))}
    words = server.scope_descriptions(frozenset[str]().union(*(one.scope for one in shown)))
    rows = []
    for one in shown:
        may = [words[scope] for scope in claims.in_order(one.scope)]
        may += [claims.describe_claim(name) for name in sorted(one.claims)]
        rows.append((one, (clients | own).get(one.client_id), may))
    return place.page("applications", applications=rows, total=len(found), page=page, pages=_pages(found))


def browsers(server: AuthorizationServer, http: Request) -> Response:
    """Where the person is signed in, this browser first."""
    return _signed_in(server, http, _browsers)


def _browsers(place: _Place) -> Response:
    here, idle = place.person.session, place.server.settings.session_idle_lifetime
    found = access.browsers(place.server.store, place.person.user)
    found.sort(key=lambda session: (session.session_id != here.session_id, -session.expires_at))
    page, shown = _page_of(place.http, found)
    rows = [(one, one.expires_at - idle, one.session_id == here.session_id) for one in shown]
    return place.page("browsers", browsers=rows, total=len(found), page=page, pages=_pages(found))


def activity(server: AuthorizationServer, http: Request) -> Response:
    """What was done with the account of late, newest first."""
    return _signed_in(server, http, _activity)


def _activity(place: _Place) -> Response:
    found = list(place.server.store.events.find("sub", place.person.user.sub, newest=2 * PER_PAGE))
    rows = [(event, EVENTS[event.name]) for event in found if event.name in EVENTS]
    return place.page("activity", events=rows, more=len(found) == 2 * PER_PAGE)


def password(server: AuthorizationServer, http: Request) -> Response:
    """The form that changes the password."""
    return _signed_in(server, http, lambda place: place.page("password", field=""))


def post(server: AuthorizationServer, http: Request) -> Response:
    """A button on one of these pages. Raises RequestEnded for a form that we did not show to this session."""
    refuse_other_sites(server, http)
    form = http.form()

    def act(place: _Place) -> Response:
        if not server.keys.form_tag_is_ours(_subject(place.person.session), form.one("tag") or ""):
            raise RequestEnded("This form was shown to somebody else, or not by this server. Please start again.")
        action = _ACTIONS.get(form.one("action") or "")
        if action is None:
            raise RequestEnded("This form names nothing that can be done here.")
        return action(place, form)

    return _signed_in(server, http, act)


# ---- what the buttons do


def _revoke(place: _Place, form: Params) -> Response:
    access.revoke(place.server, place.http, place.person.user.sub, form.required("client_id", at_most=128))
    return _back(place, "/account", "revoked")


def _revoke_all(place: _Place, _form: Params) -> Response:
    access.revoke(place.server, place.http, place.person.user.sub)
    return _back(place, "/account", "all_revoked")


def _sign_out(place: _Place, form: Params) -> Response:
    wanted = form.required("session")
    found = [one for one in access.browsers(place.server.store, place.person.user) if one.session_id == wanted]
    for session in found:
        sessions.end(place.server, place.http, session)
    return _back(place, "/account/browsers", "signed_out")


def _sign_out_others(place: _Place, _form: Params) -> Response:
    for session in access.browsers(place.server.store, place.person.user):
        if session.session_id != place.person.session.session_id:
            sessions.end(place.server, place.http, session)
    return _back(place, "/account/browsers", "others_signed_out")


def _change_password(place: _Place, form: Params) -> Response:
    """The present password has to be given too: a browser left open is not enough."""
    server, http, session = place.server, place.http, place.person.session
    new = form.raw("new_password") or ""
    problem = passwords.problem_with(new, form.raw("new_password_again") or "")
    if problem:
        return place.page("password", 400, problem=problem, field="new_password")
    present, browser_id = form.raw("password") or "", sessions.known_browser(server, http)
    credentials = Credentials(server, http, place.person.user.username, present, browser_id)
    try:
        found = server.store.read(*credentials.wanted)
        signed_in = credentials.verify(found, _own_client(server), purpose=audit.PASSWORD_CHANGED)
    except NotSignedIn as refused:
        text = refused.text if refused.retry_after else "This is not your present password."
        page = place.page("password", refused.status(400), problem=text, field="password")
        return page.add(refused.headers)
    here = replace(place.person, user=signed_in.user)
    person = sessions.change_own_password(server, http, here, new, session.request_id or "", signed_in.steps)
    answer = _back(place, "/account/password", "password_changed")
    return answer.add(sessions.session_cookie(server, person.session))


_ACTIONS: dict[str, Callable[[_Place, Params], Response]] = {
    "revoke": _revoke,
    "revoke_all": _revoke_all,
    "sign_out": _sign_out,
    "sign_out_others": _sign_out_others,
    "change_password": _change_password,
}


# ---- underneath


def _signed_in(server: AuthorizationServer, http: Request, show: Callable[[_Place], Response]) -> Response:
    """What `show` makes of the person who is signed in; the way to the sign-in page for everybody else."""
    person, _, _ = sessions.current(server, http)
    if person is not None and not person.user.password_change_required:
        return show(_Place(server, http, person))
    asked = {"client_id": own_clients.ACCOUNT, "response_type": "code"}
    return redirect(http, with_query(_path(server, server.addresses["authorization_endpoint"]), asked))


def _subject(session: Session) -> str:
    return f"account {session.session_id}"


def _back(place: _Place, path: str, done: str) -> Response:
    return redirect(place.http, with_query(_path(place.server, path), {"done": done}))


def _path(server: AuthorizationServer, path: str) -> str:
    return pages.base(server.settings) + path


def _own_client(server: AuthorizationServer) -> Client:
    client = server.client(own_clients.ACCOUNT)
    if client is None:
        raise NotFound("There is nothing at this address.")
    return client


def _page_of(http: Request, found: list[T]) -> tuple[int, list[T]]:
    """The number of the page that is asked for, and what stands on it. Raises NotFound when there is no such page."""
    text = http.query.one("page") or "1"
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= _pages(found):
        raise NotFound("There is no such page.")
    return number, found[(number - 1) * PER_PAGE : number * PER_PAGE]


def _date(seconds: int) -> str:
    """A time as people read it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _pages(found: list[Any]) -> int:
    return max(1, -(-len(found) // PER_PAGE))
