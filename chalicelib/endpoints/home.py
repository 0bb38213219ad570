"""What runs here: the home page, and the style sheet of all pages."""

from chalicelib import pages
from chalicelib.messages import Request, Response
from chalicelib.server import AuthorizationServer


def get(server: AuthorizationServer, _http: Request) -> Response:
    """The home page: what this is, with links."""
    body = pages.page("home", server.settings, issuer=server.issuer, addresses=server.addresses)
    return pages.response(body)


def style(_server: AuthorizationServer, _http: Request) -> Response:
    """The style sheet of all pages; its address changes with its content, so it may be kept for a year."""
    caching = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(body=pages.STYLE).add({"Content-Type": "text/css; charset=utf-8", **caching})
