"""Token requests whose tokens cannot be signed: the code or the refresh token can be used again, but only once."""

from collections.abc import Callable

import pytest

from chalicelib.aws.messages import NoAnswer, Request, Response
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.grant import Grant
from tests.support import faults
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.grants import create_code
from tests.support.site import Site

Browsers = Callable[..., Browser]
FailSigning = Callable[[Callable[[], object]], None]


@pytest.fixture
def fail_signing(site: Site, monkeypatch: pytest.MonkeyPatch) -> FailSigning:
    """Return a function that lets the next signature fail, after an action."""
    sign = site.server.keys.sign

    def fail_after(action: Callable[[], object]) -> None:
        def fail(*_: object) -> str:
            monkeypatch.setattr(site.server.keys, "sign", sign)
            action()
            raise TemporarilyUnavailable(detail="kms Sign")

        monkeypatch.setattr(site.server.keys, "sign", fail)

    return fail_after


def read_grant(site: Site) -> Grant:
    (grant,) = site.server.store.grants.scan()
    return grant


def test_code_that_was_replayed_is_not_restored(
    site: Site, browser: Browser, browsers: Browsers, fail_signing: FailSigning
) -> None:
    client, attacker = site.client(), browsers()
    code = create_code(site, client, site.user("alice"))
    revoked: list[Grant] = []

    def replay() -> None:
        assert attacker.redeem(client, code).status == 400
        revoked.append(read_grant(site))

    fail_signing(replay)
    assert browser.redeem(client, code).status == 503
    assert revoked[0].revoked_at is not None
    assert read_grant(site) == revoked[0], "a revoked grant is not changed"
    assert browser.redeem(client, code).json["error"] == "invalid_grant"


def test_code_is_not_restored_again_by_a_resent_write(
    site: Site, browser: Browser, browsers: Browsers, wire: Wire, fail_signing: FailSigning
) -> None:
    """The response to the write is lost; before it is sent again, the client redeems the code and refreshes."""
    client, other_browser = site.client(), browsers()
    code = create_code(site, client, site.user("alice"))
    tokens: list[Answer] = []

    def redeem_and_refresh() -> None:
        first = other_browser.redeem(client, code)
        tokens.extend([first, other_browser.refresh(client, first.json["refresh_token"])])

    fail_signing(lambda: None)
    with wire.every("UpdateItem", _lose_second_response(redeem_and_refresh)):
        assert browser.redeem(client, code).status == 503
    assert [answer.status for answer in tokens] == [200, 200]
    assert read_grant(site).generation == 2
    assert browser.refresh(client, tokens[1].json["refresh_token"]).status == 200


def _lose_second_response(action: Callable[[], None]) -> faults.Fault:
    """Return a fault that runs the action after the second call, and loses the response to that call."""
    calls: list[Request] = []

    def fault(request: Request, proceed: faults.Proceed) -> Response:
        calls.append(request)
        answer = proceed()
        if len(calls) == 2:
            action()
            raise NoAnswer(f"{request.url} does not answer in time")
        return answer

    return fault


def test_retry_window_is_not_extended_after_further_rotations(
    site: Site, browser: Browser, browsers: Browsers, fail_signing: FailSigning
) -> None:
    client, other_browser = site.client(), browsers()
    first = browser.redeem(client, create_code(site, client, site.user("alice"))).json["refresh_token"]

    def refresh_twice() -> None:
        second = other_browser.refresh(client, first).json["refresh_token"]
        assert other_browser.refresh(client, second).status == 200

    fail_signing(refresh_twice)
    assert browser.refresh(client, first).status == 503
    site.clock.advance(site.settings.refresh_token_retry_window)
    assert browser.refresh(client, first).json["error"] == "invalid_grant"
    assert read_grant(site).revoked_at is not None, "the token was replayed"


def test_grant_that_was_revoked_is_not_changed(
    site: Site, browser: Browser, browsers: Browsers, fail_signing: FailSigning
) -> None:
    client, other_browser = site.client(), browsers()
    token = browser.redeem(client, create_code(site, client, site.user("alice"))).json["refresh_token"]
    form = {"token": token, "client_id": client.id, "client_secret": client.secret}
    revoked: list[Grant] = []

    def revoke() -> None:
        assert other_browser.post("/oauth2/revoke", form).status == 200
        revoked.append(read_grant(site))

    fail_signing(revoke)
    assert browser.refresh(client, token).status == 503
    assert revoked[0].revoked_at is not None
    assert read_grant(site) == revoked[0]
