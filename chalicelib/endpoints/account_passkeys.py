"""/account/passkeys: a user's passkeys: add one, rename and remove them."""

from chalicelib import events
from chalicelib.authentication import passkey_options
from chalicelib.authentication.passkey_sign_in import FIELD
from chalicelib.authentication.passkeys import PasskeyError
from chalicelib.http.messages import Params, Request, Response
from chalicelib.mail.notices import tell
from chalicelib.protocol.compact_json import to_json
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.passkey import MAX_ANSWER, MAX_NAME, Passkey, user_handle
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.users import passkeys
from chalicelib.users.account_visit import Action, Visit, answer_form, show_page, sign_in_address

PATH = "/account/passkeys"
SIGN_IN_FIRST = Text("Sign in again before you add a passkey.")
SIGN_IN_TO_REMOVE = Text("Sign in again before you remove a passkey.")


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the passkeys of the user, and the button that adds one."""
    return show_page(server, http, _show)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Perform the action of a button on the page, as `account_visit.answer_form`."""
    return answer_form(server, http, _ACTIONS)


def _show(visit: Visit, problem: str = "", confirm: str = "", status: int = 200) -> Response:
    """Return the page. `confirm`: the passkey that is removed only after a confirmation."""
    server, user, session = visit.server, visit.signed_in.user, visit.signed_in.session
    listed = passkeys.list_passkeys(server.store, user.sub)
    purpose = passkey_options.for_creation(session.session_id, user.sub)
    options = passkey_options.creation_options(server, purpose, user, listed)
    return visit.page(
        "passkeys",
        status,
        problem=problem,
        passkeys=listed,
        domain=server.settings.passkey_domain,
        options=options,
        accepted=_accepted(server, user.sub, listed) if options else "",
        recent=visit.is_recent,
        sign_in=sign_in_address(server, prompt="login", redirect_uri=server.issuer + PATH),
        confirm=confirm,
        max_name=MAX_NAME,
    )


def _accepted(server: AuthorizationServer, sub: str, listed: list[Passkey]) -> str:
    """Return what the browser may tell the user's password manager: which passkeys are left (section 5.1.10.3)."""
    rp_id = server.settings.passkey_domain
    ids = [passkey.credential_id for passkey in listed if passkey.rp_id == rp_id]
    members = {"rpId": rp_id, "userId": base64url(user_handle(sub) or b""), "allAcceptedCredentialIds": ids}
    return to_json(members)


# ---- what the buttons do


def _add(visit: Visit, form: Params) -> Response:
    if not visit.is_recent:
        return _show(visit, SIGN_IN_FIRST, status=400)
    answer, name = form.get(FIELD, at_most=MAX_ANSWER) or "", form.get("name", at_most=200) or ""
    try:
        passkeys.add(visit.server, visit.http, visit.signed_in, answer, name)
    except PasskeyError as failure:
        return _show(visit, failure.text, status=400)
    except ValueError as error:
        return _show(visit, str(error), status=400)
    return visit.back(PATH, "passkey_added")


def _rename(visit: Visit, form: Params) -> Response:
    passkey_id, name = form.require("passkey_id", at_most=128), form.get("name", at_most=200) or ""
    try:
        renamed = passkeys.rename(visit.server, visit.http, visit.signed_in.user, passkey_id, name)
    except ValueError as error:
        return _show(visit, str(error), status=400)
    return visit.back(PATH, "passkey_renamed" if renamed else "changed")


def _remove(visit: Visit, form: Params) -> Response:
    """Remove a passkey; the last way to sign in only after a confirmation.

    Like adding one, only soon after a sign-in: the account may be less protected without it.
    """
    if not visit.is_recent:
        return _show(visit, SIGN_IN_TO_REMOVE, status=400)
    server, store, user = visit.server, visit.server.store, visit.signed_in.user
    passkey_id = form.require("passkey_id", at_most=128)
    listed = passkeys.list_passkeys(store, user.sub)
    passkey = next((each for each in listed if each.passkey_id == passkey_id), None)
    if passkey and passkeys.is_last_way_in(user, listed) and form.get("confirmed") != "yes":
        return _show(visit, confirm=passkey_id)
    if passkey:
        event = events.record(store, visit.http, events.PASSKEY_REMOVED, user.sub, detail=passkey.name)
        passkeys.remove(store, passkey, event, *tell(server, visit.http, user, "passkey_removed"))
    return visit.back(PATH, "passkey_removed")


_ACTIONS: dict[str, Action] = {"add": _add, "rename": _rename, "remove": _remove}
