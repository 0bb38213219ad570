"""The pages that people see: Jinja2 templates, one style sheet, one script. Owns Jinja2.

Values are escaped by the templates, and stand in `bdi` where they come from elsewhere. Every page works without the
script, and nothing on it comes from another host but the operator's logo. All words of a page are in its template.

    page             what it needs beside the settings
    sign_in          client, username, handle, tag, problem, problem_code
    change_password  person, handle, tag, problem
    consent          client, person, asked, allowed, remembered, offline, days, redirect_uri,
                     on_device, own_scheme, handle, tag
    sign_out         action, fields, client (who asks for it, or None), username (who is signed in, or "")
    sign_out_again   action, fields
    signed_out       client, back (a link to it, or None)
    still_signed_in  client, back
    form_post        action, fields, client (None if it has no name)
    error            explanation, error, request_id
    errors           explanations
    home             issuer, addresses, playground
    account_…        person, tag, done, problem, here, date, and what endpoints/account.py shows on each
    playground       step, and what endpoints/playground.py shows at each

`fields` are the hidden fields of a form, pairs of name and value. A page is `narrow`, a card in the middle, or `wide`.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from chalicelib.messages import NO_STORE, Response, origin_of
from chalicelib.pages.stylesheet import brands, style_sheet
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
SCRIPT = (_FOLDER / "signet.js").read_text("utf-8")
SCRIPT_VERSION = hashlib.sha256(SCRIPT.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Page:
    """A page: its HTML, the one origin of its images, and the operator's own login application, each None without."""

    html: str
    images: str | None = None
    login_url: str | None = None

    @property
    def scripted(self) -> bool:
        """Whether it loads the script. No value can look like that: values are escaped."""
        return "<script src=" in self.html


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


def page(name: str, settings: Settings, **values: Any) -> Page:
    """A page: `name` is its template's, `values` are what that shows."""
    common = {
        "server": settings.name,
        "base": base(settings),
        "logo": settings.logo_url,
        "support": settings.support_url,
        "icon_color": quote(brands(settings)[0]),
        "style_version": style_sheet(settings)[1],
        "script_version": SCRIPT_VERSION,
        "host_of": host_of,
        "web_address": web_address,
        "problem": "",
    }
    html = _environment().get_template(f"{name}.html").render(common | values)
    return Page(html, origin_of(settings.logo_url) if settings.logo_url else None, settings.login_url)


def response(page: Page, status: int = 200, redirect_uri: str | None = None) -> Response:
    """A page as a response, with a strict Content-Security-Policy.

    `redirect_uri`: where a form on the page may lead in the end. Browsers apply `form-action` to every redirect that
    follows a form, those of the application's own callback too, which may lead anywhere: so its scheme is named. So is
    that of the operator's own login application: any form may find that somebody has to sign in first.
    """
    schemes = sorted({f" {urlsplit(uri).scheme}:" for uri in (redirect_uri, page.login_url) if uri})
    sources = {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'" if page.scripted else "",
        "img-src": " ".join(filter(None, ("data:", page.images))),
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "form-action": "'self'" + "".join(schemes),
    }
    policy = "; ".join(f"{directive} {allowed}" for directive, allowed in sources.items() if allowed)
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "X-Frame-Options": "DENY"}
    return Response(status, body=page.html).add({**headers, **NO_STORE, "X-Robots-Tag": "noindex"})


def base(settings: Settings) -> str:
    """The path that the issuer is served under, before every path of ours; often empty."""
    return urlsplit(settings.issuer).path


def host_of(uri: str) -> str:
    """Where an answer goes, in a form that people know: the host, or the scheme of an application."""
    parts = urlsplit(uri)
    return parts.netloc if origin_of(uri) else f"{parts.scheme}:"


def web_address(uri: str | None) -> str | None:
    """What a link may lead to: an http or https address; None for anything else."""
    try:
        return uri if uri and origin_of(uri) else None
    except ValueError:  # not a URI at all
        return None
