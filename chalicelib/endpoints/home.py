"""What runs here: the home page and the page of all errors; the style sheet and the script of all pages."""

from chalicelib import pages
from chalicelib.error_codes import EXPLANATIONS
from chalicelib.messages import NO_STORE, Request, Response
from chalicelib.pages.stylesheet import style_sheet
from chalicelib.server import AuthorizationServer


def get(server: AuthorizationServer, _http: Request) -> Response:
    """The home page: what this is, with links."""
    about = {"issuer": server.issuer, "addresses": server.addresses, "playground": server.settings.playground}
    return pages.response(pages.page("home", server.settings, **about))


def errors(server: AuthorizationServer, _http: Request) -> Response:
    """Every error by its code: what it means, and what to do."""
    return pages.response(pages.page("errors", server.settings, explanations=EXPLANATIONS))


def style(server: AuthorizationServer, http: Request) -> Response:
    """The style sheet of all pages."""
    text, version = style_sheet(server.settings)
    return _file(http, text, version, "text/css")


def script(_server: AuthorizationServer, http: Request) -> Response:
    """The script of all pages."""
    return _file(http, pages.SCRIPT, pages.SCRIPT_VERSION, "text/javascript")


def _file(http: Request, text: str, version: str, media_type: str) -> Response:
    """A file whose address changes with its content, so it may be kept for a year.

    Under the address of another version, as during a deployment, it is not kept: it would be the wrong one.
    """
    same = http.query.raw("v") == version
    caching = {"Cache-Control": "public, max-age=31536000, immutable"} if same else NO_STORE
    return Response(body=text).add({"Content-Type": f"{media_type}; charset=utf-8", **caching})
