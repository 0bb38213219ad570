"""/oauth2/logout: the end session endpoint (OpenID Connect RP-Initiated Logout 1.0).

An ID token of the session of this browser ends it without a question: no other site has that token. For everything
else the user is asked, so that no link or image signs anyone out. Then the browser goes to the application's
post_logout_redirect_uri. If that is not registered, the user is signed out too, and a page says what happened.
"""

from typing import Any

from chalicelib import pages
from chalicelib.authorization.openid_parameters import MAX_ID_TOKEN
from chalicelib.authorization.recipient import MAX_SHOWN, MAX_STATE, read_state
from chalicelib.http.csrf import is_cross_origin, require_same_origin, require_top_level_navigation
from chalicelib.http.messages import Params, Request, Response, redirect, with_query
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidRequest, InvalidToken, RequestEnded
from chalicelib.protocol.records import Session, User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.tokens.issue import ID_TOKEN_TYPE
from chalicelib.tokens.subjects import sid, subject

# parameter (section 2) -> its maximum length
PARAMETERS = {
    "id_token_hint": MAX_ID_TOKEN,
    "logout_hint": 320,
    "client_id": 128,
    "post_logout_redirect_uri": 2048,
    "state": MAX_STATE,
    "ui_locales": 2048,
}


@dataclass(frozen=True)
class _LogoutRequest:
    """A logout request, every check passed.

    `client` is the client that asks, `hint` the claims of its ID token; each None without, or where it is not valid.
    `target` is where the browser goes afterwards, with `state`; None if the application named no address, or
    (`unregistered`) one that is not registered.
    """

    client: Client | None
    hint: dict[str, Any] | None
    target: str | None
    state: str | None
    unregistered: bool = False


def get(server: AuthorizationServer, http: Request) -> Response:
    """Answer the request of an application, or of a user who typed the address."""
    return _log_out(server, http, http.query)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Answer the same request in a body, or the form of our own page, which has a tag."""
    form = http.form()
    if "tag" in form:
        return _answer(server, http, form)
    require_top_level_navigation(http)
    if is_cross_origin(server.issuer, http) and browser_sessions.session_handle(server, http) is None:
        # It carries no Lax cookie, so that it is not known who is signed in: our page sends it again. Not a
        # redirect, because an ID token must not be in a URL of this server. The form leads on to the target.
        target = _read(server, http, form).target
        fields = [(name, value) for name, value in _parameters(form).items() if value is not None]
        action = server.path_of("end_session_endpoint")
        page = pages.page("sign_out_again", server.settings, http, action=action, fields=fields)
        return pages.response(page, redirect_uri=target)
    return _log_out(server, http, form)


def _log_out(server: AuthorizationServer, http: Request, params: Params) -> Response:
    require_top_level_navigation(http)
    logout = _read(server, http, params)
    session, user = _read_session(server, http)
    if session is None or _names_session(server, logout, session):
        return _signed_out(server, http, logout, session)
    fields = {
        "tag": server.keys.form_tag(_subject(session)),
        "client_id": logout.client.client_id if logout.client else None,
        "post_logout_redirect_uri": logout.target,
        "state": logout.state,
        "ui_locales": " ".join(http.ui_locales) or None,
    }
    # Without the tag and the ID token. The question is the same without them.
    about = {name: value for name, value in fields.items() if name != "tag"}
    page = pages.page(
        "sign_out",
        server.settings,
        http,
        with_query(server.path_of("end_session_endpoint"), about),
        action=server.path_of("end_session_endpoint"),
        fields=[(name, value) for name, value in fields.items() if value is not None],
        client=logout.client,
        username=user.username if user and _is_signed_in(server, session, user) else "",
        unregistered=logout.unregistered,
        request_id=http.request_id,
    )
    return pages.response(page, redirect_uri=logout.target)


def _answer(server: AuthorizationServer, http: Request, form: Params) -> Response:
    """Follow the user's answer. Raises RequestEnded for a form that was not shown in this session."""
    require_same_origin(server.issuer, http)
    logout = _read(server, http, form)
    session, user = _read_session(server, http)
    if session is None:  # it was ended in another tab
        return _signed_out(server, http, logout, session)
    if not server.keys.is_valid_form_tag(_subject(session), form.get("tag") or ""):
        raise RequestEnded("This form was shown to another user, or not by this server.", code="form_not_ours")
    decision = form.get("decision")
    if decision == "stay":
        signed_in = _is_signed_in(server, session, user)
        page_address = pages.base(server.settings) + "/account"
        values = {"client": logout.client, "signed_in": signed_in}
        page = pages.page("still_signed_in", server.settings, http, page_address, **values)
        return pages.response(page)
    if decision != "sign_out":
        raise RequestEnded("The decision must be sign_out or stay.", code="form_not_ours")
    return _signed_out(server, http, logout, session)


def _signed_out(
    server: AuthorizationServer, http: Request, logout: _LogoutRequest, session: Session | None
) -> Response:
    """End the session, if there is one, and return where the user goes then."""
    if session:
        browser_sessions.sign_out(server, http, session)
    if logout.target:
        response = redirect(http, with_query(logout.target, {"state": logout.state}))
    else:
        about: dict[str, Any] = {
            "client": logout.client,
            "unregistered": logout.unregistered,
            "request_id": http.request_id,
        }
        page_address = server.path_of("end_session_endpoint")  # no one is signed in there either
        response = pages.response(pages.page("signed_out", server.settings, http, page_address, **about))
    return response.add(browser_sessions.own_cookie(server, "session", "", 0))


# ---- reading


def _parameters(params: Params) -> dict[str, str | None]:
    return {name: params.get(name, at_most=limit) for name, limit in PARAMETERS.items()}


def _read(server: AuthorizationServer, http: Request, params: Params) -> _LogoutRequest:
    """Return the checked request (sections 2, 3 and 4).

    The browser is not redirected to an address that is not registered; the log says so. Raises InvalidRequest, which is
    shown on a page, for any other problem.
    """
    values = _parameters(params)
    pages.prefer_languages(http, params)
    client_id, target, state = values["client_id"], values["post_logout_redirect_uri"], read_state(params)
    hint: dict[str, Any] | None = None
    if values["id_token_hint"]:
        try:
            # An expired one is valid too: a session lives longer than a token.
            hint = server.keys.verify(values["id_token_hint"], ID_TOKEN_TYPE, server.issuer, expired=True)
        except InvalidToken:
            # Another issuer's, or signed by a retired key. The user may still want to sign out, and is asked; nothing
            # else of the request is trusted.
            return _LogoutRequest(None, None, None, None)
        if client_id not in (None, hint["aud"]):
            raise InvalidRequest("The id_token_hint was issued to another client than client_id.")
        client_id = str(hint["aud"])
    client = http.client = _client(server, client_id, target) if client_id else None
    if target is None or (client and target in client.post_logout_redirect_uris):
        return _LogoutRequest(client, hint, target, state)
    http.error = InvalidRequest(
        "The post_logout_redirect_uri is not one that the application has registered."
        if client_id
        else "A post_logout_redirect_uri needs the id_token_hint or the client_id.",
        code="post_logout_redirect_uri_mismatch",
        detail=f"client {client_id or 'unknown'} sent post_logout_redirect_uri {target[:MAX_SHOWN]}",
    )
    return _LogoutRequest(client, hint, None, None, unregistered=True)


def _client(server: AuthorizationServer, client_id: str, target: str | None) -> Client | None:
    """Return the client that asks, with a record in which `target` is registered, compared exactly, if there is one."""

    def is_registered(client: Client) -> bool:
        return target is None or target in client.post_logout_redirect_uris

    return server.client(client_id, accept=is_registered) or server.client(client_id)


def _read_session(server: AuthorizationServer, http: Request) -> tuple[Session | None, User | None]:
    """Return the session of this browser and its user, None if it has ended. The user may have to sign in again."""
    session, user = browser_sessions.read_session(server, http)
    return (session, user) if session and user and session.is_valid_for(user) else (None, None)


def _names_session(server: AuthorizationServer, logout: _LogoutRequest, session: Session) -> bool:
    """Return whether the ID token was issued in this session, for its user."""
    if logout.hint is None or logout.client is None:
        return False
    of_session = logout.hint.get("sid") == sid(session.session_id, logout.client.client_id)
    return of_session and logout.hint["sub"] == subject(server, logout.client, session.sub)


def _subject(session: Session) -> str:
    """Return what the tag of the question proves."""
    return f"SIGN_OUT {session.session_id}"


def _is_signed_in(server: AuthorizationServer, session: Session, user: User | None) -> bool:
    """Return whether the browser is signed in: its session may last longer, for the grants that depend on it."""
    return user is not None and user.active and session.signed_in_until > server.now()
