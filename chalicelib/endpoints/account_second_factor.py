"""/account/second-factor: set up the second factor, turn it off, and get new recovery codes."""

from collections.abc import Callable
from typing import Any

from chalicelib import pages
from chalicelib.authentication.password import NotSignedIn
from chalicelib.authentication.recovery_codes import FEW
from chalicelib.http.messages import Params, Request, Response, redirect
from chalicelib.protocol.errors import NotFound
from chalicelib.protocol.next_step import RECENT_ELSEWHERE, SignedInUser
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.repeated_form import digest_form
from chalicelib.users import confirmation, second_factor_removal
from chalicelib.users import second_factor_setup as setup
from chalicelib.users.account_visit import Action, Visit, answer_form, show_page, sign_in_address

PATH = "/account/second-factor"


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show whether the second factor is on, with what the user can do; or the next step of its setup."""
    _require_offered(server)
    return show_page(server, http, _page)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Perform the action of a button, as `account_visit.answer_form`. The sign-in must be recent."""
    _require_offered(server)
    return answer_form(server, http, {name: _if_recent(action) for name, action in _ACTIONS.items()})


def _require_offered(server: AuthorizationServer) -> None:
    if server.settings.mfa == "off":
        raise NotFound("There is nothing at this address.")


def _page(
    visit: Visit, problem: str = "", status: int = 200, action: str = "", *, by_passkey: bool = False
) -> Response:
    server, user = visit.server, visit.signed_in.user
    recent, codes = setup.is_recent(server, visit.signed_in), setup.shown_codes(server, visit.signed_in)
    sets_up = recent and not user.has_second_factor and (bool(codes) or "set_up" in visit.http.query or bool(problem))
    values: dict[str, Any] = {
        "recent": recent,
        "setup": setup.setup_of(server, visit.signed_in) if sets_up else None,
        "codes": codes if recent and user.has_second_factor else (),
        "left": len(user.recovery_codes),
        "few": len(user.recovery_codes) <= FEW,
        "required": server.settings.authentication_policy.requires_two(server.now()),
        "sign_in_again": _sign_in_again(server),
        "failed_action": action,
        "by_passkey": by_passkey,
        "passkey": second_factor_removal.passkey_options(server, visit.signed_in) if recent else "",
    }
    return visit.page("second_factor", status, problem=problem, **values)


def _sign_in_again(server: AuthorizationServer) -> str:
    """Return the address at which the user signs in again, and comes back."""
    return sign_in_address(server, redirect_uri=server.issuer + PATH, max_age=str(RECENT_ELSEWHERE))


def _if_recent(action: Action) -> Action:
    """Return the action, for which a user must sign in again whose sign-in is not recent."""

    def act(visit: Visit, form: Params) -> Response:
        if not setup.is_recent(visit.server, visit.signed_in):
            return redirect(visit.http, _sign_in_again(visit.server))
        return action(visit, form)

    return act


def _take_first_code(visit: Visit, form: Params) -> Response:
    if visit.signed_in.user.has_second_factor:
        return visit.back(PATH, "changed")
    try:
        setup.take_first_code(visit.server, visit.signed_in, form)
    except setup.NotSetUp as failure:
        return _page(visit, failure.text, 400)
    return redirect(visit.http, pages.base(visit.server.settings) + PATH)


def _turn_on(visit: Visit, form: Params) -> Response:
    digest = digest_form(visit.server, f"{form.get('tag')} turn_on")
    try:
        setup.turn_on(visit.server, visit.http, visit.signed_in, form, digest)
    except setup.NotSetUp as failure:
        return _page(visit, failure.text, 400)
    return visit.back(PATH, "second_factor_on")


def _with_code(
    name: str, change: Callable[[AuthorizationServer, Request, SignedInUser, Params], None], done: str
) -> Callable[[Visit, Params], Response]:
    """Return the action `name`, which needs a code or a passkey: it calls `change`, and then says what was done."""

    def act(visit: Visit, form: Params) -> Response:
        if not visit.signed_in.user.has_second_factor:
            return visit.back(PATH, "changed")
        try:
            change(visit.server, visit.http, visit.signed_in, form)
        except NotSignedIn as failure:
            return _page(visit, failure.text, failure.status(400), name).add(failure.headers)
        except confirmation.NotConfirmed as failure:
            return _page(visit, failure.text, failure.status, name, by_passkey=True)
        return visit.back(PATH, done)

    return act


def _hide_codes(visit: Visit, _form: Params) -> Response:
    setup.hide_codes(visit.server, visit.signed_in.user)
    return visit.back(PATH, "codes_saved")


_ACTIONS: dict[str, Action] = {
    "first_code": _take_first_code,
    "turn_on": _turn_on,
    "turn_off": _with_code("turn_off", second_factor_removal.turn_off, "second_factor_off"),
    "new_codes": _with_code("new_codes", setup.replace_recovery_codes, "new_codes"),
    "hide_codes": _hide_codes,
}
