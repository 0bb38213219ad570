"""A server at http://localhost, an authenticator for its pages, and a user who has a passkey."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chalicelib.protocol.records import User
from tests.support.authenticator import Authenticator, passkey_site, user_with_passkey
from tests.support.browser import Browser
from tests.support.mail_flows import VERIFIED
from tests.support.mailbox import SENDER, Mailbox
from tests.support.site import Registered, Site


@pytest.fixture
def local(site: Site, site_with: Callable[..., Site]) -> Site:
    return passkey_site(site_with)


@pytest.fixture
def browser(local: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(local)


@pytest.fixture
def authenticator(local: Site) -> Authenticator:
    return Authenticator(local.settings.issuer)


@pytest.fixture
def alice(local: Site, browser: Browser, authenticator: Authenticator) -> User:
    """A user with a passkey, who is not signed in."""
    user = local.user("alice")
    user_with_passkey(browser, authenticator)
    return user


@pytest.fixture
def client(local: Site) -> Registered:
    return local.client(scope="openid profile email offline_access", trusted=True)


@pytest.fixture
def sender(local: Site) -> None:
    """Let the server send mails."""
    object.__setattr__(local.server, "settings", replace(local.server.settings, email_from=SENDER))


@pytest.fixture
def alice_with_address(
    local: Site, sender: None, browser: Browser, authenticator: Authenticator, mailbox: Mailbox
) -> User:
    """A user with a passkey and a verified address, whose mails have been delivered; not signed in."""
    user = local.user("alice", claims=VERIFIED)
    user_with_passkey(browser, authenticator)
    mailbox.deliver(local)
    return user
