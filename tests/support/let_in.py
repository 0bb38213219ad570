"""Sign-ins while failed ones keep unknown browsers out, for the tests of what lets a user in again."""

from collections.abc import Callable

from tests.support.browser import Browser
from tests.support.site import PASSWORD, Registered

WRONG = "not this one"
TRIES = 5


def sign_in_status(browser: Browser, client: Registered, password: str = PASSWORD) -> int:
    """Sign in as alice, also if there is a session, and return the status of the answer."""
    return browser.sign_in(browser.authorize(client, prompt="login"), password=password).status


def lock_out(browsers: Callable[..., Browser], client: Registered) -> None:
    """Let another browser at the same address use up the tries of all unknown browsers."""
    unknown = browsers()
    for _ in range(TRIES):
        assert sign_in_status(unknown, client, WRONG) == 400
    assert sign_in_status(unknown, client) == 429
