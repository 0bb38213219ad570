"""The pages that people see: Jinja2 templates and one style sheet. Owns Jinja2.

Values are escaped by the templates. No page needs a script or anything from another host.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chalicelib.messages import NO_STORE, Response, origin_of
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
STYLE = (_FOLDER / "signet.css").read_text("utf-8")
STYLE_VERSION = hashlib.sha256(STYLE.encode()).hexdigest()[:12]


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(name: str, settings: Settings, **values: Any) -> str:
    """The HTML of a page: `name` is its template's. `base` is the path that the issuer is served under."""
    base = urlsplit(settings.issuer).path
    common = {"server": settings.name, "base": base, "style_version": STYLE_VERSION, "host_of": host_of}
    return _environment().get_template(f"{name}.html").render(common, **values)


def response(body: str, status: int = 200, redirect_uri: str | None = None) -> Response:
    """A page as a response, with a strict Content-Security-Policy.

    `redirect_uri`: where a form on the page may lead in the end. Browsers apply `form-action` to every redirect that
    follows a form, those of the application's own callback too, which may lead anywhere: so its scheme is named.
    """
    form_action = "'self'" + (f" {urlsplit(redirect_uri).scheme}:" if redirect_uri else "")
    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action {form_action}"
    )
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "X-Frame-Options": "DENY"}
    return Response(status, body=body).add({**headers, **NO_STORE, "X-Robots-Tag": "noindex"})


def host_of(uri: str) -> str:
    """Where an answer goes, in a form that people know: the host, or the scheme of an application."""
    parts = urlsplit(uri)
    return parts.netloc if origin_of(uri) else f"{parts.scheme}:"
