"""Notices: mails that tell a user what happened to the account."""

from typing import Any

from chalicelib import pages
from chalicelib.http.messages import Request
from chalicelib.mail.outbox import UNKNOWN_LANGUAGE, Mail, sending, storing
from chalicelib.protocol.email_addresses import sendable
from chalicelib.protocol.languages import match
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write


def tell(
    server: AuthorizationServer,
    http: Request | None,
    user: User,
    template: str,
    values: dict[str, str] | None = None,
) -> tuple[Write[Any], ...]:
    """Return the writes that tell a user by mail what has happened, for the transaction in which it happens.

    `http`: by which it happened. `values` are translated. Empty without a sender, or when the user has no verified
    address.
    """
    mail = _mail(user, template, locale_for(server, http, user), values) if server.settings.can_send_mail else None
    return (sending(server, mail),) if mail else ()


def tell_later(store: Store, user: User, template: str) -> tuple[Write[Any], ...]:
    """Return the same for a command of the operator, which has only the storage: the server's schedule sends the mail.

    Whether the server has a sender is not known here. Without one, the mail expires in the outbox.
    """
    mail = _mail(user, template, _locale_of(user) or UNKNOWN_LANGUAGE)
    return (storing(store, mail),) if mail else ()


def _mail(user: User, template: str, locale: str, values: dict[str, str] | None = None) -> Mail | None:
    to = verified_address(user)
    if to is None:
        return None
    shown = {name: pages.translate(value, locale) for name, value in (values or {}).items()}
    return Mail(template, to, user.sub, {"username": user.username, **shown}, locale=locale)


def verified_address(user: User) -> str | None:
    """Return the verified email address of a user, or None."""
    address = user.claims.get("email")
    if user.claims.get("email_verified") is not True or not isinstance(address, str):
        return None
    try:
        return sendable(address)
    except ValueError:  # it was imported
        return None


def locale_for(server: AuthorizationServer, http: Request | None, user: User) -> str:
    """Return the language of a mail to a user; `http`: by which something happened to the account."""
    return _locale_of(user) or locale_of_reader(server, http)


def locale_of_reader(server: AuthorizationServer, http: Request | None) -> str:
    """Return the language of the pages that answer an HTTP request; that of the setting without one."""
    return pages.language_of(server.settings, http).code if http else server.settings.language


def _locale_of(user: User) -> str:
    """Return the language of a user's claim `locale` (OpenID Connect Core section 5.1), "" for none that there is."""
    language = match(user.claims.get("locale"))
    return language.code if language else ""
