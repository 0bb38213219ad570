"""/.well-known/change-password: where password managers send users (W3C, A Well-Known URL for Changing Passwords)."""

from chalicelib import pages
from chalicelib.http.messages import Request, Response, redirect
from chalicelib.server import AuthorizationServer


def get(server: AuthorizationServer, http: Request) -> Response:
    """Return the redirect to the page that changes the password. It is the same for every caller, and reads nothing."""
    return redirect(http, pages.base(server.settings) + "/account/password")
