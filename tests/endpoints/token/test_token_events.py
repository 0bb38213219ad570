"""Events that POST /oauth2/token records."""

import json
from collections.abc import Callable

import pytest

from chalicelib.protocol.durations import DAY
from tests.support.browser import Browser
from tests.support.grants import create_code
from tests.support.site import Site

ReadEvents = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def logged_events(caplog: pytest.LogCaptureFixture) -> ReadEvents:
    """Return a function that reads the events logged so far: name and sub."""

    def read() -> list[tuple[str, str]]:
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]
        return [(line["event"], line["sub"]) for line in lines if "event" in line]

    return read


def test_code_exchange_and_refresh_are_logged(site: Site, browser: Browser, logged_events: ReadEvents) -> None:
    client, alice = site.client(), site.user()
    token = browser.redeem(client, create_code(site, client, alice)).json["refresh_token"]
    browser.refresh(client, token)
    browser.refresh(client, token)  # a retry after a lost response
    assert logged_events() == [("code_redeemed", alice.sub), *[("token_refreshed", alice.sub)] * 2]


@pytest.mark.spec("RFC 9700 §4.14.2 c")
@pytest.mark.parametrize("what", ["code", "refresh token"])
def test_replay_is_logged_and_recorded_for_the_user_once(
    site: Site, browser: Browser, logged_events: ReadEvents, what: str
) -> None:
    client, alice = site.client(), site.user()
    code = create_code(site, client, alice)
    token = browser.redeem(client, code).json["refresh_token"]
    if what == "code":
        answers = [browser.redeem(client, code) for _ in range(3)]
    else:
        browser.refresh(client, token)
        site.clock.advance(3600)
        answers = [browser.refresh(client, token) for _ in range(3)]
    assert {(answer.status, answer.json["error"]) for answer in answers} == {(400, "invalid_grant")}
    assert [event for event in logged_events() if event[0] == "reuse_detected"] == [("reuse_detected", alice.sub)]
    [event] = site.server.store.events.find("sub", alice.sub)
    assert (event.name, event.client_id, event.client_name) == ("reuse_detected", client.id, client.record.client_name)
    assert event.expires_at == site.clock.time + 90 * DAY
