"""The home page, the page of all errors, the style sheet and the script."""

from typing import Any

from chalicelib import pages
from chalicelib.http.messages import NO_STORE, Request, Response
from chalicelib.pages.explanations import EXPLANATIONS, PARTS, part_of, path_of_part
from chalicelib.pages.stylesheet import style_sheet
from chalicelib.protocol.durations import YEAR
from chalicelib.protocol.errors import NotFound
from chalicelib.server import AuthorizationServer


def get(server: AuthorizationServer, _http: Request) -> Response:
    """Show the home page, with links to the metadata and the endpoints."""
    values: dict[str, Any] = {
        "issuer": server.issuer,
        "addresses": server.addresses,
        "playground": server.settings.playground,
    }
    return pages.response(pages.page("home", server.settings, None, **values))


def errors(server: AuthorizationServer, http: Request) -> Response:
    """Show the error codes of a part, what they mean and what to do. The first part has links to all others."""
    part = http.query.get("part") or ""
    if part not in PARTS:
        raise NotFound("There is no such page.")
    explanations = {code: error for code, error in EXPLANATIONS.items() if part_of(code) == part}
    elsewhere = [] if part else [code for code in EXPLANATIONS if part_of(code)]
    values: dict[str, Any] = {"parts": PARTS, "part": part, "path_of_part": path_of_part, "elsewhere": elsewhere}
    return pages.response(pages.page("errors", server.settings, None, explanations=explanations, **values))


def style(server: AuthorizationServer, http: Request) -> Response:
    """Return the style sheet of all pages."""
    text, version = style_sheet(server.settings)
    return _file(http, text, version, "text/css")


def script(_server: AuthorizationServer, http: Request) -> Response:
    """Return the script of all pages."""
    return _file(http, pages.SCRIPT, pages.SCRIPT_VERSION, "text/javascript")


def _file(http: Request, text: str, version: str, media_type: str) -> Response:
    """Return a file that browsers cache for a year, because its URL has the version of its content.

    With another version in the URL, as during a deployment, it is not cached: the content is not that version.
    """
    is_current = http.query.raw("v") == version
    caching = {"Cache-Control": f"public, max-age={YEAR}, immutable"} if is_current else NO_STORE
    return Response(body=text).add({"Content-Type": f"{media_type}; charset=utf-8", **caching})
