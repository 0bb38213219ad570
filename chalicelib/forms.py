"""Where requests that do something may come from: forms from our own pages, links from the address bar alone."""

from chalicelib.errors import InvalidRequest, RequestEnded
from chalicelib.messages import Request, origin_of
from chalicelib.server import AuthorizationServer

# What browsers send with a top-level navigation (Fetch Metadata); those that send nothing are taken at their word.
TOP_LEVEL = {"sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}


def refuse_embedding(http: Request) -> None:
    """Raises InvalidRequest for what is no top-level navigation: a picture, a frame or a script of any page."""
    if any(http.header(name) not in (None, expected) for name, expected in TOP_LEVEL.items()):
        raise InvalidRequest("This address is for top-level navigation only.", code="navigation_only")


def is_from_elsewhere(server: AuthorizationServer, http: Request) -> bool:
    """Whether a page of another site has sent it: Sec-Fetch-Site decides where the browser sends it, else Origin."""
    site, origin = http.header("sec-fetch-site"), http.header("origin")
    return origin not in (None, origin_of(server.issuer)) if site is None else site != "same-origin"


def refuse_other_sites(server: AuthorizationServer, http: Request) -> None:
    """Raises RequestEnded for a form that a page of another site has sent.

    Where the browser says nothing of it, the form's tag and the cookie decide.
    """
    if is_from_elsewhere(server, http):
        raise RequestEnded("This form was sent from another site.", code="wrong_site")
