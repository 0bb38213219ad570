"""The language of a page or mail: its choice, the translations, and dates.

English texts are in the code and the templates, and are the keys of the catalogues in translations/: an English page
loads none of these. `.po` files are written by translators, and `.mo` files made of them by `tests.tools.messages`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from chalicelib.http.messages import Params, Request, Response, cookie, redirect
from chalicelib.pages.date_names import DATE_NAMES
from chalicelib.protocol.durations import YEAR
from chalicelib.protocol.languages import ENGLISH, LANGUAGES, Language, accepted, first_match, first_tags, match
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from jinja2 import Environment

DOMAIN = "signet"
FOLDER = Path(__file__).parent / "translations"
COOKIE = "language"
PARAMETER = "set_language"  # of the language menu
MAX_QUERY = 4000  # bytes; addresses of pages are not longer
# A path of this server: two slashes would begin the address of another host.
_OWN_PATH = re.compile(r"/(?![/\\])")


class Catalogue(Protocol):
    """The translations of one language, as `gettext.GNUTranslations` has them."""

    def gettext(self, message: str, /) -> str:
        """Return the translation of a message, or the message."""

    def ngettext(self, singular: str, plural: str, n: int, /) -> str:
        """Return the translation of a message in the form for a number."""


@dataclass(frozen=True)
class Menu:
    """The language menu of a page: the address that its form is sent to, and the parameters in it."""

    action: str
    fields: list[tuple[str, str]]


def language_of(settings: Settings, http: Request | None) -> Language:
    """Return the language for the reader of this HTTP request; English for pages that only developers read.

    By what the authorization request asks for (`ui_locales`), the language menu, the browser, and the setting. The
    address is first: the menu puts its choice into an address that carries an authorization request.
    """
    if http is None:
        return ENGLISH
    return (
        first_match((*first_tags(http.query.raw("ui_locales")), *http.ui_locales))
        or match(http.cookie(settings.cookie_name(COOKIE)))
        or accepted(http.header("accept-language") or "")
        or LANGUAGES[settings.language]
    )


def menu(settings: Settings, http: Request | None, page_address: str = "") -> Menu | None:
    """Return the language menu of a page; None where there is no address that shows it again.

    `page_address`: the address of the page, by default that of the request. The answer to a form is not shown again,
    but the page with the form is.
    """
    if http is None or not _OWN_PATH.match(http.path):
        return None
    parts = urlsplit(page_address) if page_address else None
    path = parts.path if parts else urlsplit(settings.issuer).path + _quoted(http.path)
    query = parts.query if parts else http.query.encoded()
    if len(query) > MAX_QUERY:
        return None
    fields = parse_qsl(query, keep_blank_values=True)
    return Menu(path, [(name, value) for name, value in fields if name != PARAMETER])


def prefer_languages(http: Request, params: Params) -> None:
    """Show the pages of this request in the languages that its parameters ask for by `ui_locales`."""
    http.ui_locales = first_tags(params.raw("ui_locales"))


def answer_menu(settings: Settings, http: Request) -> Response | None:
    """Return the answer to the language menu: the redirect to the same address, with a cookie; None without a choice.

    It is sent by GET, so it changes nothing but the cookie. An authorization request in the address that asks for
    languages, or could, gets the chosen one: the cookie alone is not preferred to these.
    """
    chosen = http.query.raw(PARAMETER) if http.method == "GET" else None
    if chosen is None or not _OWN_PATH.match(http.path):
        return None
    query = http.query.replaced(PARAMETER, None)
    if chosen in LANGUAGES and any(name in query for name in ("client_id", "request_uri", "ui_locales")):
        query = query.replaced("ui_locales", chosen)
    address = urlsplit(settings.issuer).path + _quoted(http.path)
    response = redirect(http, f"{address}?{query.encoded()}".removesuffix("?"))
    if chosen not in LANGUAGES:
        return response
    return response.add(cookie(settings.cookie_name(COOKIE), chosen, secure=settings.secure, max_age=YEAR))


def _quoted(path: str) -> str:
    """Return a path in ASCII. Only some gateways have decoded it, so percent signs stay."""
    return quote(path, safe="/%")


# ---- translations


def translate(text: Any, code: str) -> Any:
    """Return a text in a language. Only a `Text` is translated: other values are names, numbers or the operator's."""
    if not isinstance(text, Text):
        return text
    values = {name: translate(value, code) for name, value in text.values.items()}
    plural = text.many and ngettext(code, text.message, text.many, text.values["n"])
    message = plural or gettext(code, text.message)
    return message % values if values else message


def gettext(code: str, message: str) -> str:
    """Return the translation of a message, which is English where there is none."""
    return message if code == ENGLISH.code else catalogue(code).gettext(message)


def ngettext(code: str, singular: str, plural: str, n: int) -> str:
    """Return the translation of a message in the form for a number."""
    if code == ENGLISH.code:
        return singular if n == 1 else plural
    return catalogue(code).ngettext(singular, plural, n)


@cache
def catalogue(code: str) -> Catalogue:
    """Return the catalogue of a language, which is read once."""
    from gettext import GNUTranslations

    with (FOLDER / code / "LC_MESSAGES" / f"{DOMAIN}.mo").open("rb") as file:
        return GNUTranslations(file)


def preload() -> None:
    """Read all catalogues, before a snapshot."""
    for code in LANGUAGES.keys() - {ENGLISH.code}:
        catalogue(code)


def install(environment: "Environment") -> None:
    """Let the templates of an environment translate: `{% trans %}`, `_("…")`, and each `Text` that they show.

    The language is a value of the page, `language`, so that all languages share the parsed templates.
    """
    from jinja2 import pass_context
    from jinja2.runtime import Context
    from markupsafe import Markup

    def code_of(context: Context) -> str:
        code: str = context["language"]
        return code

    def filled(context: Context, message: str, values: Mapping[str, Any]) -> str:
        kind = Markup if context.eval_ctx.autoescape else str  # which escapes the values
        if not values:
            return kind(message % {})
        code = code_of(context)
        return kind(message) % {name: translate(value, code) for name, value in values.items()}

    @pass_context
    def _gettext(context: Context, message: str, /, **values: Any) -> str:
        return filled(context, gettext(code_of(context), message), values)

    @pass_context
    def _ngettext(context: Context, singular: str, plural: str, number: int, /, **values: Any) -> str:
        message = ngettext(code_of(context), singular, plural, number)
        return filled(context, message, {"num": number, **values})

    @pass_context
    def _finalize(context: Context, value: Any) -> Any:
        return translate(value, code_of(context)) if isinstance(value, Text) else value

    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    environment.globals.update(gettext=_gettext, ngettext=_ngettext)
    environment.finalize = _finalize


# ---- dates


def date_text(seconds: int, code: str = ENGLISH.code) -> str:
    """Return a time as text for users, in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    time = f"{moment:%H:%M} UTC"
    return DATE_NAMES[code].with_time % {"date": day_text(seconds, code), "time": time}


def day_text(seconds: int, code: str = ENGLISH.code) -> str:
    """Return the day of a time as text for users, in UTC."""
    moment, names = datetime.fromtimestamp(seconds, UTC), DATE_NAMES[code]
    return names.day % {"day": moment.day, "month": names.months[moment.month - 1], "year": moment.year}
