"""The steps of a sign-in by email, on a server that offers it."""

from collections.abc import Callable
from typing import Any

from tests.support.browser import Answer, Browser
from tests.support.mailbox import SENDER
from tests.support.site import Site


def email_site(site_with: Callable[..., Site], **settings: Any) -> Site:
    """Return a server whose sign-in page offers a code by email."""
    return site_with(email_from=SENDER, email_code_sign_in=True, **settings)


def ask(browser: Browser, page: Answer, username: str = "alice") -> Answer:
    """Press "Email me a code" on the sign-in page; return the page that follows."""
    return browser.submit(page, username=username, email_me="yes")


def enter(browser: Browser, page: Answer, code: str) -> Answer:
    """Enter the code of an email; return what follows."""
    return browser.submit(page, email_code=code)


def is_code_form(page: Answer) -> bool:
    """Return whether a page asks for the code of an email."""
    return "email_code" in page.form.fields


def is_password_form(page: Answer) -> bool:
    """Return whether this is the sign-in page with the password."""
    return "password" in page.form.fields
