"""The pages for users: Jinja2 templates, one style sheet, one script. Owns Jinja2.

The texts of a page are in its template, or a `Text` of the code: `languages` translates both. Templates escape all
values, and put values from outside in `bdi`. Every page works without the script, and loads nothing from other hosts
except the operator's logo.

    page             values besides the settings
    sign_in          client, username, form, offers_to_keep, keep, email_code, problem, problem_code, and the
                     addresses recover and sign_up, or ""
    email_sign_in    client, typed, form, problem
    email_sign_in_link  action, fields, address, client (None in another browser than the one that asked), problem
    second_factor    client, user, waiting (whether there is no session), form, problem, problem_code, may_decline
    enrol_second_factor  client, user, setup, form, problem, required_from (when it is required, or None)
    offer_passkey    client, user, form, problem
    recover          action, fields, username, sign_in (an address), problem
    email_code, reset_password, confirm_address, undo_address, restore_account (and …_done)
                     action, fields, and values from endpoints/mail_link.py
    change_password  user, form, problem
    consent          client, user, new_permissions, allowed_before, resources, several, remembered, access_end,
                     redirect_uri, on_device, client_host, own_scheme, details, form, problem
    sign_out         action, fields, client (that asked for it, or None), username (or ""), unregistered, request_id
    sign_out_again   action, fields
    signed_out       client, unregistered, request_id
    still_signed_in  client, signed_in
    let_in           action, fields, username, problem
    let_in_done      username
    form_post        action, fields, client (None if it has no name)
    error            explanation, error, request_id, start_again (an address, or ""), client (or None), account,
                     has_session, sign_out (which links it has)
    errors           explanations, parts, part, path_of_part, elsewhere (the codes of the other parts)
    home             issuer, addresses, playground
    account_…        user, tag, done, problem, current_page, and values from endpoints/account….py
    account_restore  user (None if there is nothing to restore), restored, action, tag, sign_in, grace_days
    mailbox          mails, issuer, shown (how many)
    playground       step, and values from endpoints/playground.py

`fields` are the hidden fields of a form, as pairs of name and value. `unregistered`: whether the application named a
post_logout_redirect_uri that is not registered. `done`: what an action did, with which the title begins. A page is
`narrow` (a card) or `wide`.
"""

import hashlib
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from chalicelib.http.messages import NO_STORE, Request, Response
from chalicelib.pages import languages
from chalicelib.pages.explanations import explanation_path
from chalicelib.pages.languages import answer_menu as answer_menu
from chalicelib.pages.languages import date_text as date_text
from chalicelib.pages.languages import day_text as day_text
from chalicelib.pages.languages import language_of as language_of
from chalicelib.pages.languages import prefer_languages as prefer_languages
from chalicelib.pages.languages import translate as translate
from chalicelib.pages.stylesheet import brand_colors, style_sheet
from chalicelib.protocol.languages import ENGLISH, LANGUAGES, Language
from chalicelib.protocol.redirect_uris import origin_of
from chalicelib.protocol.values import dataclass
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from jinja2 import Environment

    from chalicelib.protocol.client import Client

_FOLDER = Path(__file__).parent
SCRIPT = (_FOLDER / "signet.js").read_text("utf-8")
# What no page uses, so that injected content cannot use it either.
_UNUSED = """accelerometer autoplay camera clipboard-read clipboard-write display-capture encrypted-media fullscreen
    geolocation gyroscope hid idle-detection magnetometer microphone midi payment picture-in-picture
    screen-wake-lock serial usb xr-spatial-tracking"""
_PASSKEYS = "publickey-credentials-create=(self), publickey-credentials-get=(self)"
PERMISSIONS_POLICY = ", ".join([*(f"{feature}=()" for feature in _UNUSED.split()), _PASSKEYS])
_SEND_THEMSELVES = {"form_post", "sign_out_again"}  # pages without a language menu
SCRIPT_VERSION = hashlib.sha256(SCRIPT.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Page:
    """A page: its HTML, and when set, the origin of its logo and the URL of the operator's login application.

    `language`: its code.
    """

    html: str
    logo_origin: str | None = None
    login_url: str | None = None
    language: str = ENGLISH.code

    @property
    def has_script(self) -> bool:
        """Whether the page loads the script. Values are escaped, so they cannot contain this tag."""
        return "<script src=" in self.html


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=select_autoescape(disabled_extensions=("txt",), default=True),  # texts of mails
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    languages.install(environment)
    return environment


def preload() -> None:
    """Parse all templates and read all translations, before a snapshot."""
    languages.preload()
    for name in _environment().list_templates(extensions=["html", "txt"]):
        _environment().get_template(name)


def page(name: str, settings: Settings, http: Request | None, page_address: str = "", **values: Any) -> Page:
    """Render the template `name` with the values that it needs (see the module's docstring), in the reader's language.

    `http`: None for a page that only developers read, which is in English, as the terms in the documentation.
    `page_address`: that the language menu leads back to, by default that of the request.
    """
    language = languages.language_of(settings, http)
    menu = None if name in _SEND_THEMSELVES else languages.menu(settings, http, page_address)
    common = {
        "server": settings.name,
        "base": base(settings),
        "logo": settings.logo_url,
        "support": settings.support_url,
        "icon_color": quote(brand_colors(settings)[0]),
        "style_version": style_sheet(settings)[1],
        "script_version": SCRIPT_VERSION,
        **_about(language),
        "menu": menu,
        "languages": LANGUAGES.values(),
        "iso_time": iso_time,
        "host_of": host_of,
        "home_of": home_of,
        "web_address": web_address,
        "explanation_path": explanation_path,
        "problem": "",
        "done": "",
        "min_length": settings.password_min_length,
        "mfa": settings.mfa != "off",
    }
    html = _environment().get_template(f"{name}.html").render(common | values)
    return Page(html, origin_of(settings.logo_url) if settings.logo_url else None, settings.login_url, language.code)


def _about(language: Language) -> dict[str, Any]:
    """Return the values that depend on the language: its code is what the templates translate by."""
    date, day = partial(date_text, code=language.code), partial(day_text, code=language.code)
    return {"language": language.code, "direction": language.direction, "date": date, "day": day}


def qr_code(text: str) -> str:
    """Return a QR code as SVG, black on white with a quiet zone, without a style attribute (CSP)."""
    import segno

    svg: str = segno.make(text, error="m", micro=False).svg_inline(
        border=4, light="#fff", dark="#000", omitsize=True, svgclass=None, lineclass=None
    )
    return svg


def mail_text(name: str, settings: Settings, language: Language, **values: str) -> str:
    """Return the text of a mail: its subject in the first line, then its paragraphs. `values` are not escaped."""
    common = {
        **_about(language),
        "server": settings.name,
        "support": (settings.support_url or "").removeprefix("mailto:"),
    }
    return _environment().get_template(f"mail/{name}.txt").render(common | values)


def mail_html(settings: Settings, language: Language, **values: Any) -> str:
    """Return the HTML of a mail: `subject`, and `parts` as pairs of a kind ("text", "code", "link") and a text."""
    common = {**_about(language), "server": settings.name, "link_color": brand_colors(settings)[0]}
    return _environment().get_template("mail/layout.html").render(common | values)


def response(page: Page, status: int = 200, redirect_uri: str | None = None) -> Response:
    """Return a page as a response, with a strict Content-Security-Policy, and with PERMISSIONS_POLICY.

    `redirect_uri`: where a form on the page may redirect in the end. Browsers apply `form-action` to every redirect
    after a form, including later ones by the application, so the whole scheme is allowed. The scheme of the operator's
    login application is allowed too, because any form may redirect there when the session has ended.
    """
    schemes = sorted({f" {urlsplit(uri).scheme}:" for uri in (redirect_uri, page.login_url) if uri})
    sources = {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'" if page.has_script else "",
        "img-src": " ".join(filter(None, ("data:", page.logo_origin))),
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "form-action": "'self'" + "".join(schemes),
    }
    policy = "; ".join(f"{directive} {source}" for directive, source in sources.items() if source)
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "X-Frame-Options": "DENY"}
    headers |= {"Permissions-Policy": PERMISSIONS_POLICY, "Content-Language": page.language}
    return Response(status, body=page.html).add({**headers, **NO_STORE, "X-Robots-Tag": "noindex"})


def base(settings: Settings) -> str:
    """Return the path of the issuer, the prefix of all paths of this server; often empty."""
    return urlsplit(settings.issuer).path


def iso_time(seconds: int) -> str:
    """Return a time for programs: the script shows it in the time zone of the reader."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def host_of(uri: str) -> str:
    """Return what users recognize of a redirect URI: its host with port, or a private-use scheme with the colon."""
    parts = urlsplit(uri)
    return parts.netloc if origin_of(uri) else f"{parts.scheme}:"


def home_of(client: "Client | None") -> str | None:
    """Return a page of the application, by which a user can go back to it; None if the operator registered none."""
    registered = (client.client_uri, *client.post_logout_redirect_uris) if client else ()
    return next((uri for uri in registered if web_address(uri)), None)


def web_address(uri: str | None) -> str | None:
    """Return the URI when it is an http or https address that a page can link to, or None."""
    try:
        return uri if uri and origin_of(uri) else None
    except ValueError:  # not a URI
        return None
