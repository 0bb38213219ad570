"""/oauth2/logout: the end session endpoint (OpenID Connect RP-Initiated Logout 1.0).

An ID token of the very session that this browser has ends it without a question: no other site has got that. Everything
else is asked, so that nobody is signed out by a link or a picture. Afterwards the browser goes where the application
wants it to, if that is registered; otherwise a page says what has become of it.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from chalicelib import pages, sessions
from chalicelib.authentication_request import LONGEST_ID_TOKEN
from chalicelib.authorization_request import LONGEST_ENCODED_STATE
from chalicelib.errors import InvalidRequest, InvalidToken, RequestEnded
from chalicelib.forms import is_from_elsewhere, refuse_embedding, refuse_other_sites
from chalicelib.messages import Params, Request, Response, cookie, redirect, with_query
from chalicelib.models import Client, Session
from chalicelib.server import AuthorizationServer
from chalicelib.subjects import sid, subject
from chalicelib.tokens import ID_TOKEN_TYPE

# Every parameter that there is (section 2), and its length.
PARAMETERS = {
    "id_token_hint": LONGEST_ID_TOKEN,
    "logout_hint": 320,
    "client_id": 128,
    "post_logout_redirect_uri": 2048,
    "state": 2048,
    "ui_locales": 2048,
}


@dataclass(frozen=True)
class _Asked:
    """What was asked for, every check passed.

    `client` is who asks, `hint` what its ID token says: None where there is none, or none that counts. `goal` is
    where the browser goes afterwards, `state` goes with it.
    """

    client: Client | None
    hint: dict[str, Any] | None
    goal: str | None
    state: str | None


def get(server: AuthorizationServer, http: Request) -> Response:
    """The request of an application, or of a person who typed the address."""
    return _log_out(server, http, http.query)


def post(server: AuthorizationServer, http: Request) -> Response:
    """The same in a body; or the answer to our question, which bears our tag."""
    form = http.form()
    if "tag" in form:
        return _answer(server, http, form)
    refuse_embedding(http)
    if is_from_elsewhere(server, http) and sessions.cookie_of(server, http) is None:
        # It carries no Lax cookie, so that nobody knows yet who is signed in: a page of ours sends it again. It is no
        # redirect, for an ID token must not stand in a URL of ours. Its form leads on to the goal.
        goal = _read(server, http, form).goal
        fields = [(name, value) for name, value in _parameters(form).items() if value is not None]
        page = pages.page("sign_out_again", server.settings, action=_address(server), fields=fields)
        return pages.response(page, redirect_uri=goal)
    return _log_out(server, http, form)


def _log_out(server: AuthorizationServer, http: Request, params: Params) -> Response:
    refuse_embedding(http)
    asked = _read(server, http, params)
    session, user = sessions.of_browser(server, http)
    if session is None or session.ended_at is not None or _names(server, asked, session):
        return _signed_out(server, http, asked, session)
    fields = {
        "tag": server.keys.form_tag(_subject(session)),
        "client_id": asked.client.client_id if asked.client else None,
        "post_logout_redirect_uri": asked.goal,
        "state": asked.state,
    }
    page = pages.page(
        "sign_out",
        server.settings,
        action=_address(server),
        fields=[(name, value) for name, value in fields.items() if value is not None],
        client=asked.client,
        username=user.username if user else "",
    )
    return pages.response(page, redirect_uri=asked.goal)


def _answer(server: AuthorizationServer, http: Request, form: Params) -> Response:
    """What the person has answered. Raises RequestEnded for a form that we did not show in this session."""
    refuse_other_sites(server, http)
    asked = _read(server, http, form)
    session, _ = sessions.of_browser(server, http)
    if session is None or session.ended_at is not None:  # by another tab
        return _signed_out(server, http, asked, session)
    if not server.keys.form_tag_is_ours(_subject(session), form.one("tag") or ""):
        raise RequestEnded("This form was shown to somebody else, or not by this server.", code="form_not_ours")
    decision = form.one("decision")
    if decision == "stay":
        return pages.response(pages.page("still_signed_in", server.settings, client=asked.client, back=_back(asked)))
    if decision != "sign_out":
        raise RequestEnded("The decision must be sign_out or stay.", code="form_not_ours")
    return _signed_out(server, http, asked, session)


def _signed_out(server: AuthorizationServer, http: Request, asked: _Asked, session: Session | None) -> Response:
    """The session is ended, if there is one (what an earlier sign-out has left of it, if that was cut off)."""
    if session:
        sessions.end(server, http, session)
    if asked.goal:
        response = redirect(http, with_query(asked.goal, {"state": asked.state}))
    else:
        page = pages.page("signed_out", server.settings, client=asked.client, back=_back(asked))
        response = pages.response(page)
    name = sessions.cookie_name(server, "session")
    return response.add(cookie(name, "", secure=server.settings.secure, max_age=0))


# ---- reading


def _parameters(params: Params) -> dict[str, str | None]:
    return {name: params.one(name, at_most=longest) for name, longest in PARAMETERS.items()}


def _read(server: AuthorizationServer, http: Request, params: Params) -> _Asked:
    """Sections 2, 3 and 4. Raises InvalidRequest, which is shown: after an error nobody is sent anywhere."""
    given = _parameters(params)
    client_id, goal, state = given["client_id"], given["post_logout_redirect_uri"], given["state"]
    if state and len(quote_plus(state)) > LONGEST_ENCODED_STATE:
        raise InvalidRequest(f"The parameter state is longer than {LONGEST_ENCODED_STATE} characters when encoded.")
    hint: dict[str, Any] | None = None
    if given["id_token_hint"]:
        try:
            # It counts after it has expired too: a session lives longer than a token.
            hint = server.keys.verify(given["id_token_hint"], ID_TOKEN_TYPE, server.issuer, expired=True)
        except InvalidToken:
            # Not ours, or signed with a key of long ago. The person may want to go all the same, so they are asked; but
            # nothing else of the request is believed.
            return _Asked(None, None, None, None)
        if client_id not in (None, hint["aud"]):
            raise InvalidRequest("The id_token_hint was issued to another client than client_id.")
        client_id = str(hint["aud"])
    if goal and client_id is None:
        raise InvalidRequest("A post_logout_redirect_uri needs the id_token_hint or the client_id.")
    client = http.client = _client(server, client_id, goal) if client_id else None
    return _Asked(client, hint, goal, state)


def _client(server: AuthorizationServer, client_id: str, goal: str | None) -> Client | None:
    """Who asks. Raises InvalidRequest unless `goal` is registered for it, character by character."""
    for fresh in (False, True):  # nobody is refused because of what the cached record says
        client = server.client(client_id, fresh=fresh)
        if goal is None or (client and goal in client.post_logout_redirect_uris):
            return client
    raise InvalidRequest(
        "The post_logout_redirect_uri is not one that the application has registered.",
        code="post_logout_redirect_uri_mismatch",
    )


def _names(server: AuthorizationServer, asked: _Asked, session: Session) -> bool:
    """Whether the ID token is of this session, and of its person."""
    if asked.hint is None or asked.client is None:
        return False
    of_session = asked.hint.get("sid") == sid(session.session_id, asked.client.client_id)
    return of_session and asked.hint["sub"] == subject(server, asked.client, session.sub)


def _subject(session: Session) -> str:
    """What the question's tag vouches for."""
    return f"SIGN_OUT {session.session_id}"


def _address(server: AuthorizationServer) -> str:
    return pages.base(server.settings) + server.addresses["end_session_endpoint"]


def _back(asked: _Asked) -> str | None:
    return asked.client.client_uri if asked.client else None
