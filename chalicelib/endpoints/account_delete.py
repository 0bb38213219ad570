"""/account/delete: a user deletes the own account, confirmed by the password or a passkey."""

from typing import Any

from chalicelib import events, pages
from chalicelib.http.messages import Params, Request, Response, redirect
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.records import Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import own_cookie
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.users import confirmation, deletion, restoration
from chalicelib.users.account_visit import Visit, answer_form, show_page


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show what a deletion does, and the form that confirms it."""
    return show_page(server, http, _page)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Delete the account. The page that follows says until when it can be restored, and offers it."""
    return answer_form(server, http, {"delete": _delete}, _answer_again)


def _page(visit: Visit, status: int = 200, **values: Any) -> Response:
    days = visit.server.settings.deletion_grace_days
    due_at = visit.server.now() + days * DAY
    values |= {"passkey": confirmation.passkey_options(visit.server, visit.signed_in, events.ACCOUNT_DELETED)}
    return visit.page("delete", status, current_page="data", grace_days=days, due_at=due_at, **values)


def _delete(visit: Visit, form: Params) -> Response:
    server, http = visit.server, visit.http
    try:
        confirmed = confirmation.confirm(server, http, visit.signed_in, form, events.ACCOUNT_DELETED)
    except confirmation.NotConfirmed as failure:
        page = _page(visit, failure.status, problem=failure.text, by_passkey=failure.by_passkey)
        return page.add(failure.headers)
    user = deletion.delete_own_account(server, http, confirmed)
    if user.is_gone(server.now()) and user.deleted_at is not None:  # there is no time to restore it
        deletion.remove_user(server, user.sub, user.deleted_at)
        return _deleted(server, http)
    return _deleted(server, http).add(restoration.offer_cookie(server, user))


def _deleted(server: AuthorizationServer, http: Request) -> Response:
    """Return the redirect to the page of a deleted account, without the cookie of the session, which has ended."""
    address = pages.base(server.settings) + restoration.PATH
    return redirect(http, address).add(own_cookie(server, "session", "", 0))


def _answer_again(server: AuthorizationServer, http: Request, session: Session, _form: Params) -> Response | None:
    """Return the answer to a form that was sent twice and has just deleted the account, without the offer."""
    user = server.store.users.get(session.sub)
    return _deleted(server, http) if _was_deleted_now(user, server.now()) else None


def _was_deleted_now(user: User | None, now: int) -> bool:
    return user is not None and user.deleted_at is not None and now - user.deleted_at < REPEATED_FOR
