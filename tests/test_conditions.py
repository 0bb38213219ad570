"""Clauses of conditions that no other test misses: what each is for, where only a moment between two calls shows it.

`make prove` looks for the clauses; what survives it is either tested here or has to go.
"""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError

from chalicelib import registration
from chalicelib.errors import InvalidClientMetadata, TemporarilyUnavailable
from chalicelib.models import Grant, User
from infra import deploy
from tests import faults
from tests.browser import CHALLENGE, Answer, Browser
from tests.faults import Wire
from tests.shortcut import born, code_of
from tests.site import PASSWORD, Site

Browsers = Callable[..., Browser]


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


def the_grant(site: Site) -> Grant:
    (grant,) = site.server.store.grants.scan()
    return grant


@pytest.fixture
def unsigned(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """The next token is not signed; something happens meanwhile."""
    sign = site.server.keys.sign

    def fail(meanwhile: Callable[[], object]) -> None:
        def no_signature(*_: Any) -> str:
            monkeypatch.setattr(site.server.keys, "sign", sign)
            meanwhile()
            raise TemporarilyUnavailable(detail="kms Sign")

        monkeypatch.setattr(site.server.keys, "sign", no_signature)

    return fail


Unsigned = Callable[[Callable[[], object]], None]


# ---- codes


def test_a_code_ends_in_time_however_long_its_record_is_kept(site: Site, browser: Browser, user: User) -> None:
    client = site.client()
    code = code_of(site, client, user, expires_at=site.clock.time + 1000)
    site.clock.advance(site.settings.authorization_code_lifetime)
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert the_grant(site).redeemed_at is None


def test_a_code_is_not_given_back_when_it_was_replayed_meanwhile(
    site: Site, browser: Browser, browsers: Browsers, user: User, unsigned: Unsigned
) -> None:
    client, thief = site.client(), browsers()
    code = code_of(site, client, user)
    ended: list[Grant] = []

    def replay() -> None:
        assert thief.redeem(client, code).status == 400
        ended.append(the_grant(site))

    unsigned(replay)
    assert browser.redeem(client, code).status == 503
    assert ended[0].revoked_at is not None
    assert the_grant(site) == ended[0], "what has ended is not touched any more"
    assert browser.redeem(client, code).json["error"] == "invalid_grant"


def test_a_code_given_back_once_is_not_given_back_again_by_a_resent_write(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire, unsigned: Unsigned
) -> None:
    """Its answer was lost; before it is sent again, the client has redeemed the code, and refreshed."""
    client, another = site.client(), browsers()
    code = code_of(site, client, user)
    tokens: list[Answer] = []

    def go_on() -> None:
        first = another.redeem(client, code)
        tokens.extend([first, another.refresh(client, first.json["refresh_token"])])

    unsigned(lambda: None)
    with wire.every("UpdateItem", _answer_lost_for_the_second(go_on)):
        assert browser.redeem(client, code).status == 503
    assert [answer.status for answer in tokens] == [200, 200]
    assert the_grant(site).generation == 2
    assert browser.refresh(client, tokens[1].json["refresh_token"]).status == 200


def _answer_lost_for_the_second(meanwhile: Callable[[], None]) -> faults.Fault:
    calls: list[AWSPreparedRequest] = []

    def fault(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
        calls.append(request)
        answer = proceed()
        if len(calls) == 2:
            meanwhile()
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer

    return fault


# ---- refresh tokens


def test_a_refresh_token_is_worth_nothing_before_the_code_is_redeemed(site: Site, browser: Browser, user: User) -> None:
    """Nobody has ever been given one."""
    client = site.client()
    grant = born(site, client, user)
    token = site.server.keys.make_handle("rt", grant.grant_id, grant.generation)
    assert browser.refresh(client, token).json["error"] == "invalid_grant"
    assert the_grant(site) == grant


def test_a_refresh_that_was_not_signed_extends_no_retry_when_others_have_gone_on(
    site: Site, browser: Browser, browsers: Browsers, user: User, unsigned: Unsigned
) -> None:
    client, another = site.client(), browsers()
    first = browser.redeem(client, code_of(site, client, user)).json["refresh_token"]

    def go_on() -> None:
        second = another.refresh(client, first).json["refresh_token"]
        assert another.refresh(client, second).status == 200

    unsigned(go_on)
    assert browser.refresh(client, first).status == 503
    site.clock.advance(site.settings.refresh_token_retry_window)
    assert browser.refresh(client, first).json["error"] == "invalid_grant"
    assert the_grant(site).revoked_at is not None, "it was theft"


def test_a_refresh_that_was_not_signed_touches_no_grant_that_was_revoked_meanwhile(
    site: Site, browser: Browser, browsers: Browsers, user: User, unsigned: Unsigned
) -> None:
    client, revoker = site.client(), browsers()
    token = browser.redeem(client, code_of(site, client, user)).json["refresh_token"]
    form = {"token": token, "client_id": client.id, "client_secret": client.secret}
    ended: list[Grant] = []

    def revoke() -> None:
        assert revoker.post("/oauth2/revoke", form).status == 200
        ended.append(the_grant(site))

    unsigned(revoke)
    assert browser.refresh(client, token).status == 503
    assert ended[0].revoked_at is not None
    assert the_grant(site) == ended[0]


# ---- birth


def test_no_grant_is_born_under_a_cookie_that_has_just_been_replaced(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    """Another tab signs in again: from then on the cookie of before is worth nothing."""
    client, tab = site.client(trusted=True), browsers()
    browser.code(client)
    tab.cookies.update(browser.cookies)
    page = tab.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.sign_in(page)):
        answer = browser.authorize(client)
    assert answer.status == 200
    assert "password" in answer.form.fields


# ---- requests


def test_of_two_browsers_that_bring_one_request_at_once_one_gets_it(
    site: Site, browser: Browser, browsers: Browsers, wire: Wire
) -> None:
    client, second = site.client(), browsers()
    given = {"response_type": "code", "client_id": client.id, "redirect_uri": client.record.redirect_uris[0]}
    given |= {"scope": "openid", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    handle = browser.post("/oauth2/authorize", given).location
    won: list[Answer] = []
    with wire.before("UpdateItem", lambda: won.append(second.get(handle))):
        assert browser.get(handle).status == 400
    assert won[0].status == 200
    assert second.get(handle).status == 200


def test_a_request_that_is_answered_meanwhile_is_not_asked_about_elsewhere(
    site_with: Callable[..., Site], browsers: Browsers, wire: Wire
) -> None:
    """By the operator's own login application, when somebody has signed in there for another request."""
    origin = "https://login.example.com"
    site = site_with(login_url=f"{origin}/sign-in", login_origins=(origin,))
    browser, client, house = browsers(site), site.client(), site.client(trusted=True)
    site.user("alice")
    handle, other = (browser.authorize(each).answer["request_uri"] for each in (client, house))
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Cookie": ""}
    signing_in = {"request_uri": other, "username": "alice", "password": PASSWORD}
    assert browser.follow(browser.post("/oauth2/code", signing_in, headers)).code
    known = site.server.keys.read_handle("req", handle)
    assert known
    with wire.before("UpdateItem", lambda: site.server.store.requests.take((known.id,), site.clock.time)):
        assert browser.get("/oauth2/authorize", request_uri=handle).status == 400


# ---- what the operator does


def test_of_two_new_secrets_made_at_once_none_is_lost(site: Site) -> None:
    store = site.server.store
    client = site.client().record
    changed, secret = registration.rotate_secret(store, client)
    site.secrets.add(secret)
    with pytest.raises(InvalidClientMetadata, match="changed meanwhile"):
        registration.rotate_secret(store, client)
    assert store.clients.get(client.client_id) == changed


def test_a_deployment_makes_no_new_password_for_an_administrator_who_has_just_chosen_one(
    site: Site, wire: Wire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    users = site.server.store.users
    made = registration.register_user(site.server.store, username=deploy.ADMINISTRATOR, admin=True)[0]
    chosen = replace(made, password_hash="chosen", password_change_required=False)
    monkeypatch.setattr(deploy, "_server", lambda _: site.server)
    with wire.before("UpdateItem", lambda: users.put(chosen)):
        deploy.make_first_things(cast(deploy.Deployment, SimpleNamespace()))
    assert users.get(made.sub) == chosen
