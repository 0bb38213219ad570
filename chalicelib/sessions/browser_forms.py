"""Forms for people without a session: a tag proves that this server has shown the form to this browser."""

from chalicelib.http.messages import Params, Request
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import browser_id_of

NOT_SHOWN = Text("Please press the button again. If this text stays, allow cookies for this server in your browser.")


def browser_tag(server: AuthorizationServer, about: str, browser_id: str) -> str:
    """Return the tag of a form that is shown to this browser. `about`: which form it is, and what it is for."""
    return server.keys.form_tag(f"{about} {browser_id}")


def browser_of_form(server: AuthorizationServer, http: Request, form: Params, about: str) -> str | None:
    """Return the id of this browser, to which the form was shown; None for a form that was not: NOT_SHOWN."""
    browser_id = browser_id_of(server, http)
    if browser_id is None or not server.keys.is_valid_form_tag(f"{about} {browser_id}", form.get("tag") or ""):
        return None
    return browser_id
