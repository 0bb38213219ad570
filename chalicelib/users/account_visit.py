"""A visit of a signed-in user to an account page: the page's frame, the tag of its forms, and how forms are answered.

Each part of the account has its own endpoint module, which shows pages and performs actions by these functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib import builtin_clients, pages
from chalicelib.http.csrf import is_cross_origin, require_same_origin
from chalicelib.http.messages import Params, Request, Response, redirect, with_query
from chalicelib.protocol.authentication_context import ONE_FACTOR, TWO_FACTORS, level
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.next_step import RECENT_ELSEWHERE, SignedInUser
from chalicelib.protocol.records import Session, User
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions

# value of `done` in the page that follows a POST -> what the POST did
DONE = {
    "revoked": Text("The application no longer has access."),
    "all_revoked": Text("No application has access now."),
    "signed_out": Text("That browser is signed out."),
    "others_signed_out": Text("All other browsers are signed out."),
    "changed": Text("The page had changed in between. This is how it is now."),
    "second_factor_on": Text("Your second factor is on."),
    "second_factor_off": Text("Your second factor is off."),
    "new_codes": Text("You have new recovery codes. The old ones no longer work."),
    "codes_saved": Text("Your recovery codes are saved."),
    "profile_changed": Text("Your profile is changed."),
    "passkey_added": Text("Your passkey is added. You can sign in with it now."),
    "passkey_renamed": Text("The passkey has its new name."),
    "passkey_removed": Text("The passkey is removed. You can delete it on your devices too."),
    "email_changed": Text("Your email address is confirmed."),
    "password_changed": Text(
        "Your password is changed. All other browsers are signed out, and no application has access."
    ),
}


@dataclass(frozen=True)
class Visit:
    """A request for an account page by a signed-in user."""

    server: AuthorizationServer
    http: Request
    signed_in: SignedInUser

    @property
    def is_recent(self) -> bool:
        """Whether the user has signed in a moment ago, so that it is not another person at an open browser."""
        return self.server.now() - self.signed_in.session.auth_time <= RECENT_ELSEWHERE

    def page(self, name: str, status: int = 200, page_address: str = "", **values: Any) -> Response:
        """Return the page of this name, from the template `account_NAME.html`.

        `page_address`: its address, for the language menu, where it answers a form and is not at `/account/NAME`.
        """
        if self.http.method == "POST" and not page_address:
            page_address = f"{pages.base(self.server.settings)}/account/{name.replace('_', '-')}"
        session = self.signed_in.session
        # A link on another site must not make the page report something that was not done.
        done = "" if is_cross_origin(self.server.issuer, self.http) else self.http.query.get("done")
        common: dict[str, Any] = {
            "user": self.signed_in.user,
            "tag": self.server.keys.form_tag(_subject(session)),
            "done": DONE.get(done or "", ""),
            "problem": "",
            "by_passkey": False,
            "current_page": name,
        }
        return pages.response(
            pages.page(f"account_{name}", self.server.settings, self.http, page_address, **(common | values)), status
        )

    def back(self, path: str, done: str) -> Response:
        """Return the redirect to an account page that says what was done: `done` is a key of DONE."""
        return redirect(self.http, with_query(pages.base(self.server.settings) + path, {"done": done}))


Action = Callable[[Visit, Params], Response]
# Returns the answer to a form that was sent before in this session, under the cookie that the session had then.
AnswerAgain = Callable[[AuthorizationServer, Request, Session, Params], Response | None]


def show_page(server: AuthorizationServer, http: Request, show: Callable[[Visit], Response]) -> Response:
    """Return what `show` returns for the signed-in user; a redirect to the sign-in page for anyone else."""
    return _enter(server, http, browser_sessions.read_browser(server, http).signed_in, show)


def answer_form(
    server: AuthorizationServer,
    http: Request,
    actions: Mapping[str, Action],
    answer_again: AnswerAgain | None = None,
) -> Response:
    """Perform the action that the field `action` of a form names; a redirect to the sign-in page if signed out.

    Raises RequestEnded for a form that was not shown in this session, and for an unknown action.
    """
    require_same_origin(server.issuer, http)
    form = http.form()

    def act(visit: Visit) -> Response:
        if not server.keys.is_valid_form_tag(_subject(visit.signed_in.session), form.get("tag") or ""):
            raise RequestEnded("This form was shown to another user, or not by this server. Please start again.")
        action = actions.get(form.get("action") or "")
        if action is None:
            raise RequestEnded("This form asks for an unknown action. Please start again.")
        return action(visit, form)

    browser = browser_sessions.read_browser(server, http)
    if answer_again and browser.session and (repeated := answer_again(server, http, browser.session, form)):
        return repeated
    return _enter(server, http, browser.signed_in, act)


def _enter(
    server: AuthorizationServer, http: Request, signed_in: SignedInUser | None, show: Callable[[Visit], Response]
) -> Response:
    if signed_in is not None and _may_enter(server, signed_in):
        return show(Visit(server, http, signed_in))
    return redirect(http, sign_in_address(server))


def sign_in_address(server: AuthorizationServer, **parameters: str) -> str:
    """Return the address at which a user signs in to the account pages. `parameters`: further ones of the request."""
    required = {"client_id": builtin_clients.ACCOUNT, "response_type": "code"}
    return with_query(server.path_of("authorization_endpoint"), required | parameters)


def user_of_account_pages(server: AuthorizationServer, http: Request) -> User | None:
    """Return who is signed in, if the session is enough for the account pages."""
    signed_in = browser_sessions.read_browser(server, http).signed_in
    return signed_in.user if signed_in and _may_enter(server, signed_in) else None


def _may_enter(server: AuthorizationServer, signed_in: SignedInUser) -> bool:
    """Return whether a session is enough for the account pages, or the user must do something first."""
    return not signed_in.user.password_change_required and _has_all_factors(server, signed_in)


def _has_all_factors(server: AuthorizationServer, signed_in: SignedInUser) -> bool:
    """Return whether the session has two factors, where the user has them or the server requires them."""
    policy, amr = server.settings.authentication_policy, signed_in.session.amr
    required = TWO_FACTORS if policy.requires_two(server.now()) else ONE_FACTOR
    return level(amr) >= max(required, policy.reachable(signed_in.user, amr))


def _subject(session: Session) -> str:
    return f"account {session.session_id}"
