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
from passlib.hash import argon2

from chalicelib import registration, sessions
from chalicelib.errors import AccessDenied, InvalidClientMetadata, TemporarilyUnavailable
from chalicelib.models import Grant, User
from chalicelib.table import Refused
from chalicelib.throttle import Throttle, TooManyAttempts
from infra import deploy
from tests import faults
from tests.browser import CHALLENGE, Answer, Browser
from tests.faults import Wire
from tests.shortcut import born, code_of
from tests.site import PASSWORD, Site

Browsers = Callable[..., Browser]
ELSEWHERE = "https://login.example.com"
CREDENTIALS = {"username": "alice", "password": PASSWORD}


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


# ---- the operator's own login application


@pytest.fixture
def elsewhere(site_with: Callable[..., Site]) -> Site:
    """A server that has one."""
    made = site_with(login_url=f"{ELSEWHERE}/sign-in", login_origins=(ELSEWHERE,))
    made.user("alice")
    return made


def post_from_there(browser: Browser, handle: str, **fields: str) -> Answer:
    """From another site, so no cookie comes along."""
    headers = {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Cookie": ""}
    return browser.post("/oauth2/code", {"request_uri": handle, **fields}, headers)


def answer_meanwhile(site: Site, handle: str) -> None:
    known = site.server.keys.read_handle("req", handle)
    assert known
    assert not isinstance(site.server.store.requests.take((known.id,), site.clock.time), Refused)


def test_a_request_that_is_answered_meanwhile_is_not_asked_about_there(
    elsewhere: Site, browsers: Browsers, wire: Wire
) -> None:
    """Somebody has signed in there for another request, and is to be asked for consent now."""
    browser, client, house = browsers(elsewhere), elsewhere.client(), elsewhere.client(trusted=True)
    handle, other = (browser.authorize(each).answer["request_uri"] for each in (client, house))
    assert browser.follow(post_from_there(browser, other, **CREDENTIALS)).code
    with wire.before("UpdateItem", lambda: answer_meanwhile(elsewhere, handle)):
        assert browser.get("/oauth2/authorize", request_uri=handle).status == 400


def test_a_request_that_is_answered_meanwhile_takes_no_decision_from_there(
    elsewhere: Site, browsers: Browsers, wire: Wire
) -> None:
    browser = browsers(elsewhere)
    handle = browser.authorize(elsewhere.client()).answer["request_uri"]
    browser.follow(post_from_there(browser, handle, **CREDENTIALS))
    with wire.before("TransactWriteItems", lambda: answer_meanwhile(elsewhere, handle)):
        assert post_from_there(browser, handle, decision="allow_once").status == 400


def test_what_was_proven_there_signs_in_once(elsewhere: Site, browsers: Browsers, wire: Wire) -> None:
    """In two tabs at once."""
    browser, tab = browsers(elsewhere), browsers(elsewhere)
    handle = browser.authorize(elsewhere.client(trusted=True)).answer["request_uri"]
    proven = post_from_there(browser, handle, **CREDENTIALS)
    tab.cookies.update(browser.cookies)
    won: list[Answer] = []
    with wire.before("TransactWriteItems", lambda: won.append(tab.follow(proven))):
        assert browser.follow(proven).status == 400
    assert won[0].code
    assert len(list(elsewhere.server.store.sessions.scan())) == 1


# ---- sessions


def test_who_signs_in_again_while_their_session_ends_has_another(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client, tab = site.client(trusted=True), browsers()
    browser.code(client)
    tab.cookies.update(browser.cookies)
    question, page = tab.get("/oauth2/logout"), browser.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.send(question, decision="sign_out")):
        assert browser.sign_in(page).code
    assert browser.authorize(client, prompt="none").code


def test_who_signs_in_again_in_two_tabs_has_a_session_in_each(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client, tab = site.client(trusted=True), browsers()
    browser.code(client)
    tab.cookies.update(browser.cookies)
    page, other = browser.authorize(client, prompt="login"), tab.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.sign_in(other)):
        assert browser.sign_in(page).code
    assert browser.cookies["signet-session"] != tab.cookies["signet-session"]
    for either in (browser, tab):
        assert either.authorize(client, prompt="none").code


# what happens meanwhile, and since when the account was disabled before
CHANGES: dict[str, tuple[dict[str, Any], int | None]] = {
    "the password is hashed anew": ({"password_hash": "other"}, None),
    "all sessions are ended": ({"sessions_generation": 1}, None),
    "the account is disabled": ({"disabled_at": 1}, None),
    "the account is enabled, and disabled again": ({"disabled_at": 2}, 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_password_is_not_changed_when_meanwhile(site: Site, user: User, wire: Wire, change: str) -> None:
    changed, disabled_at = CHANGES[change]
    users = site.server.store.users
    known = replace(user, disabled_at=disabled_at)
    users.put(known)
    with wire.before("TransactWriteItems", lambda: users.put(replace(known, **changed))), pytest.raises(AccessDenied):
        sessions.change_password(site.server.store, known, "another pass phrase")
    assert users.get(user.sub) == replace(known, **changed)


def test_a_changed_password_ends_no_grant_that_has_ended_meanwhile(site: Site, user: User, wire: Wire) -> None:
    grants, earlier = site.server.store.grants, site.clock.time - 5
    grant = born(site, site.client(), user)
    with wire.before("UpdateItem", lambda: grants.transition((grant.grant_id,), None, {"revoked_at": earlier})):
        sessions.change_password(site.server.store, user, "another pass phrase")
    assert the_grant(site).revoked_at == earlier


def test_a_password_that_is_changed_while_somebody_signs_in_is_not_hashed_anew(
    site: Site, browser: Browser, user: User, wire: Wire
) -> None:
    """Or the old one would count again."""
    users = site.server.store.users
    weak = replace(
        user, password_hash=argon2.using(type="ID", memory_cost=16, time_cost=1, parallelism=1).hash(PASSWORD)
    )
    users.put(weak)
    page = browser.authorize(site.client(trusted=True))
    with wire.before("UpdateItem", lambda: users.put(replace(weak, password_hash="changed"))):
        browser.sign_in(page)
    assert users.get(user.sub) == replace(weak, password_hash="changed")


# ---- the count of wrong passwords


def trying(site: Site, account: str) -> tuple[Throttle, tuple[Any, ...]]:
    """Somebody at one address, and what they find."""
    throttle = Throttle(site.server.store, account, "192.0.2.1", None)
    return throttle, site.server.store.read(*throttle.wanted)


def test_a_count_that_has_begun_anew_meanwhile_makes_nobody_wait(site: Site) -> None:
    """Somebody signs in rightly just before the try that would have been one too many is counted."""
    for _ in range(site.settings.sign_in_attempts - 1):
        throttle, found = trying(site, "alice")
        throttle.count(found)
    owner, known = trying(site, "alice")
    assert site.server.store.transact(*owner.count(known).taking_back()) is None
    late, stale = throttle, known
    late.count(stale)
    _, (count, *_) = trying(site, "alice")
    assert (count.failures, count.blocked_until) == (1, 0)


def test_who_has_to_wait_is_not_let_in_when_one_of_the_others_turns_out_to_be_right(
    site_with: Callable[..., Site],
) -> None:
    """The count is then what it was when it was read; but since then another was wrong."""
    site = site_with(sign_in_attempts_per_address=3)
    right, found = trying(site, "alice")
    success = right.count(found)
    for name in ("bob", "carol"):
        late, stale = trying(site, "dora")
        wrong, found = trying(site, name)
        wrong.count(found)
    assert site.server.store.transact(*success.taking_back()) is None
    with pytest.raises(TooManyAttempts):
        late.count(stale)


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
