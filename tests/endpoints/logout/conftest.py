"""What the tests of signing out share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.http import outbound
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import Delivery, Session, User
from tests.support.browser import Answer, Browser
from tests.support.receivers import Behaviour, Receiver
from tests.support.site import Registered, Site

TARGET = "https://client.example.com/bye?lang=en"
BACKCHANNEL_URI = "https://client.example.com/backchannel"
Browsers = Callable[..., Browser]
Receivers = Callable[..., Receiver]


@pytest.fixture
def alice(site: Site) -> User:
    return site.user("alice")


@pytest.fixture
def client(site: Site) -> Registered:
    """Register a trusted client: without a consent page, `prompt=none` shows whether a session exists."""
    return site.client(trusted=True, post_logout_redirect_uris=(TARGET, "com.example.app:/bye"))


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receivers]:
    """Return a function that starts servers of applications; requests to them time out after half a second."""
    monkeypatch.setattr(outbound, "SECONDS", 0.5)
    started: list[Receiver] = []

    def start(behave: Behaviour | None = None, **options: Any) -> Receiver:
        started.append(Receiver(behave, **options))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


@pytest.fixture
def op(site_with: Callable[..., Site]) -> Site:
    """Return a server that may send to 127.0.0.1, with the user alice."""
    provider = site_with(backchannel_networks=("127.0.0.0/8",))
    provider.user("alice")
    return provider


def register_client(op: Site, receiver: Receiver, **members: Any) -> Registered:
    """Register a trusted client whose logout tokens go to this receiver."""
    return op.client(**({"trusted": True, "backchannel_logout_uri": receiver.url} | members))


def log_out(browser: Browser, headers: Any = None, **parameters: str | None) -> Answer:
    """Send a logout request; None omits a parameter."""
    present = {name: value for name, value in parameters.items() if value is not None}
    return browser.get("/oauth2/logout", headers, **present)


def has_session(browser: Browser, client: Registered) -> bool:
    answer = browser.authorize(client, prompt="none").answer
    assert "code" in answer or answer["error"] == "login_required"
    return "code" in answer


def sessions_of(site: Site) -> list[Session]:
    return list(site.server.store.sessions.scan())


def grants_of(site: Site) -> list[Grant]:
    return list(site.server.store.grants.scan())


def outbox_of(site: Site) -> list[Delivery]:
    return list(site.server.store.deliveries.scan())
