"""CSRF protection by Fetch Metadata: forms must come from this server's pages, links must be top-level navigations."""

from chalicelib.http.messages import Request
from chalicelib.protocol.errors import InvalidRequest, RequestEnded
from chalicelib.protocol.redirect_uris import origin_of

# The Fetch Metadata of a top-level navigation. Browsers that do not send it are let through.
TOP_LEVEL = {"sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}


def require_top_level_navigation(http: Request) -> None:
    """Raise InvalidRequest unless the request is a top-level navigation: not for an image, frame or script."""
    if any(http.header(name) not in (None, expected) for name, expected in TOP_LEVEL.items()):
        raise InvalidRequest("This address is for top-level navigation only.", code="navigation_only")


def is_cross_origin(issuer: str, http: Request) -> bool:
    """Return whether the request comes from no page of this server: by Sec-Fetch-Site, or else by Origin."""
    site, origin = http.header("sec-fetch-site"), http.header("origin")
    return origin not in (None, origin_of(issuer)) if site is None else site != "same-origin"


def require_same_origin(issuer: str, http: Request) -> None:
    """Raise RequestEnded for a form that no page of this server sent.

    Without these header fields, the form's tag and the cookie decide.
    """
    if is_cross_origin(issuer, http):
        raise RequestEnded("This form was sent from another site.", code="wrong_site")


def require_own_page(issuer: str, http: Request) -> None:
    """Raise RequestEnded for a form that no page of this server sent, where the page sends no referrer.

    Such a page sends `Origin: null` with its form. Browsers without Sec-Fetch-Site send nothing else, so there the
    form's tag and the cookie decide, which is not sent from other sites.
    """
    if http.header("sec-fetch-site") is None and http.header("origin") == "null":
        return
    require_same_origin(issuer, http)


def send_no_referrer(http: Request) -> None:
    """Let no response to this request, also no error, make the browser tell its address to another page."""
    http.answer_headers.append({"Referrer-Policy": "no-referrer"})
