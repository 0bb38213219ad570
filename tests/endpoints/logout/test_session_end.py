"""What the end of a session ends: its grants, and the logout tokens that follow; also in races and after failures."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jwt
import pytest

from chalicelib import events
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from tests.endpoints.logout.conftest import (
    BACKCHANNEL_URI,
    TARGET,
    Browsers,
    grants_of,
    has_session,
    log_out,
    outbox_of,
    sessions_of,
)
from tests.support import faults
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.resource_servers import introspect
from tests.support.site import Registered, Site
from tests.support.threads import run_concurrently

# ---- what ends


@pytest.mark.spec("OpenID Connect Back-Channel Logout §2.7 a", "OpenID Connect Back-Channel Logout §2.7 b")
def test_tokens_end_with_the_session_except_with_offline_access(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    other = site.client(trusted=True)
    bound = [browser.tokens(client), browser.tokens(other)]
    offline = browser.tokens(client, scope="openid offline_access")
    code = browser.code(other)
    log_out(browser, id_token_hint=bound[0]["id_token"])
    for tokens, owner in zip(bound, (client, other), strict=True):
        assert browser.userinfo(tokens["access_token"]).status == 401
        assert browser.refresh(owner, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.redeem(other, code).json["error"] == "invalid_grant"
    assert browser.userinfo(offline["access_token"]).status == 200
    assert browser.refresh(client, offline["refresh_token"]).status == 200


def test_sessions_of_other_browsers_continue(
    browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    other = browsers()
    tokens = other.tokens(client)
    log_out(browser, id_token_hint=browser.tokens(client)["id_token"])
    assert has_session(other, client)
    assert other.userinfo(tokens["access_token"]).status == 200


def test_sign_out_is_one_write_whatever_the_number_of_grants(
    site: Site, browser: Browser, client: Registered, alice: User, wire: Wire
) -> None:
    grants, calls_by_number = site.server.store.grants, []
    for number in (1, 150):
        tokens = browser.tokens(client)
        (grant, *_) = grants_of(site)
        for each in range(number):
            grants.put(replace(grant, grant_id=f"g-{number}-{each}"))
        before = sorted(grants.scan(), key=lambda each: each.grant_id)
        with wire.counted() as calls:
            assert log_out(browser, id_token_hint=tokens["id_token"]).status == 200
        calls_by_number.append(list(calls))
        assert sorted(grants.scan(), key=lambda each: each.grant_id) == before, "no grant is written"
        assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert calls_by_number[0] == calls_by_number[1]
    assert calls_by_number[0].count("TransactWriteItems") == 1


def test_sign_out_is_logged_and_recorded_once(
    site: Site, browser: Browser, client: Registered, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    hint = browser.tokens(client)["id_token"]
    cookies = dict(browser.cookies)
    with caplog.at_level(logging.INFO, "signet"):
        log_out(browser, id_token_hint=hint)
        browser.cookies.update(cookies)
        log_out(browser, id_token_hint=hint)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    (event,) = [line for line in lines if line.get("event") == events.SIGNED_OUT]
    assert (event["sub"], event["client_id"]) == (alice.sub, client.id)
    assert not [record for record in caplog.records if hint in record.getMessage()]
    recorded = [event.name for event in site.server.store.events.find("sub", alice.sub)]
    assert recorded.count(events.SIGNED_OUT) == 1


def test_delivery_is_stored_with_the_end_of_the_session_or_not_at_all(
    site: Site, browser: Browser, client: Registered, alice: User, wire: Wire
) -> None:
    notified = [site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI) for _ in range(2)]
    for each in (client, *notified, notified[0]):
        hint = browser.tokens(each)["id_token"]
    with wire.fault_in("TransactWriteItems", faults.failing):
        assert log_out(browser, id_token_hint=hint).status == 503
    assert outbox_of(site) == []
    assert has_session(browser, client)
    log_out(browser, id_token_hint=hint)
    (delivery,) = outbox_of(site)
    (session,) = sessions_of(site)
    assert (delivery.sub, delivery.session_id) == (alice.sub, session.session_id)
    assert delivery.clients == {each.id for each in notified}


def test_no_delivery_is_stored_without_a_backchannel_client(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    log_out(browser, id_token_hint=browser.tokens(client)["id_token"])
    assert outbox_of(site) == []


# ---- concurrency and failures


def test_concurrent_logouts_record_one_event_and_one_delivery(
    site: Site, browser: Browser, browsers: Browsers, alice: User
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI)
    hint = browser.tokens(client)["id_token"]
    tabs = [browsers(tab_of=browser) for _ in range(10)]
    answers = run_concurrently(partial(log_out, tab, id_token_hint=hint) for tab in tabs)
    assert [answer.status for answer in answers] == [200] * 10
    assert len(outbox_of(site)) == 1
    recorded = [event.name for event in site.server.store.events.find("sub", alice.sub)]
    assert recorded.count(events.SIGNED_OUT) == 1


@pytest.mark.parametrize("new", [True, False])
def test_client_that_is_used_during_logout_is_told_and_gets_no_tokens(
    site: Site, browser: Browser, browsers: Browsers, alice: User, wire: Wire, new: bool
) -> None:
    """The session was read before the client was added to it."""
    first, second = (
        site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI, post_logout_redirect_uris=(TARGET,))
        for _ in range(2)
    )
    hint = browser.tokens(first)["id_token"]
    if not new:
        browser.code(second)
    tab = browsers(tab_of=browser)
    codes: list[str] = []
    with wire.before("TransactWriteItems", lambda: codes.append(tab.code(second))):
        assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET).location == TARGET
    (session,) = sessions_of(site)
    assert session.ended_at
    assert browser.redeem(second, codes[0]).json["error"] == "invalid_grant"
    (delivery,) = outbox_of(site)
    assert delivery.clients == {first.id, second.id}


def test_client_is_not_added_to_a_session_that_has_just_ended(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User, wire: Wire
) -> None:
    """It would not be told; its grant is not created."""
    hint = browser.tokens(client)["id_token"]
    new = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI)
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: log_out(tab, id_token_hint=hint)):
        page = browser.authorize(new)
    assert "password" in page.form.fields
    assert [grant.client_id for grant in grants_of(site)] == [client.id]
    assert outbox_of(site) == []


def test_session_ended_during_logout_is_not_ended_twice(
    site: Site, browser: Browser, browsers: Browsers, alice: User, wire: Wire
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI)
    hint = browser.tokens(client)["id_token"]
    tab = browsers(tab_of=browser)

    def log_out_in_another_tab() -> None:
        log_out(tab, id_token_hint=hint)
        site.clock.advance(1)

    with wire.before("TransactWriteItems", log_out_in_another_tab):
        assert log_out(browser, id_token_hint=hint).status == 200
    (session,) = sessions_of(site)
    assert session.ended_at == site.clock.time - 1
    assert len(outbox_of(site)) == 1


def test_session_deleted_during_logout_is_no_error(
    site: Site, browser: Browser, client: Registered, alice: User, wire: Wire
) -> None:
    tokens = browser.tokens(client)
    (session,) = sessions_of(site)
    with wire.before("TransactWriteItems", lambda: site.server.store.sessions.delete(session.session_id)):
        assert log_out(browser, id_token_hint=tokens["id_token"]).status == 200
    assert sessions_of(site) == []
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


def test_sign_out_wins_over_concurrent_refreshes_and_codes(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    for _ in range(3):
        tokens, code = browser.tokens(client), browser.code(client)
        apps = [browsers() for _ in range(10)]
        tab = browsers(tab_of=browser)
        requests: list[Callable[[], Answer]] = [partial(a.refresh, client, tokens["refresh_token"]) for a in apps[:5]]
        requests += [partial(a.redeem, client, code) for a in apps[5:6]]
        requests.insert(3, partial(log_out, browser, id_token_hint=tokens["id_token"]))
        requests.insert(5, partial(tab.authorize, client, prompt="none"))
        answers = run_concurrently(requests)
        for answer in answers:
            if answer.status == 200 and "access_token" in answer.body:
                assert browser.userinfo(answer.json["access_token"]).status == 401
                assert browser.refresh(client, answer.json["refresh_token"]).json["error"] == "invalid_grant"
            elif answer.status == 302 and "code" in answer.answer:
                assert browser.redeem(client, answer.code).json["error"] == "invalid_grant"


# ---- other ends of a session


def test_sign_in_of_another_user_ends_the_session(site: Site, browser: Browser, alice: User) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI)
    site.user("bob")
    tokens = browser.tokens(client)
    browser.sign_in(browser.authorize(client, prompt="login"), "bob")
    assert browser.userinfo(tokens["access_token"]).status == 401
    (delivery,) = outbox_of(site)
    assert delivery.sub == alice.sub
    recorded = [event.name for event in site.server.store.events.find("sub", alice.sub)]
    assert events.SIGNED_OUT in recorded


def test_forced_password_change_ends_every_other_session_and_all_grants(
    site: Site, browser: Browser, browsers: Browsers, alice: User
) -> None:
    new = "another new password"
    site.secrets.add(new)
    client = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI)
    other = browsers()
    offline = other.tokens(client, scope="openid offline_access")
    bound = browser.tokens(client)
    user = site.server.store.users.get(alice.sub)
    assert user
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(client, prompt="login"))
    code = browser.submit(page, new_password=new, new_password_again=new).code
    assert browser.redeem(client, code).status == 200, "the grant that the change was made for"
    (delivery,) = outbox_of(site)
    assert (delivery.sub, delivery.sessions_below) == (alice.sub, user.sessions_generation + 1)
    assert has_session(browser, client)
    assert not has_session(other, client)
    for tokens in (offline, bound):
        assert browser.userinfo(tokens["access_token"]).status == 401


# ---- records of version 1: a grant does not say whether its session is stored, as it is not after HTTP Basic sign-in


@dataclass
class OldGrant:
    """Alice's grant in this browser, to a client with direct sign-in, as a record of version 1, as is its session."""

    site: Site
    browser: Browser
    other: Browser
    client: Registered
    tokens: dict[str, Any]

    def works(self) -> bool:
        """Whether its refresh token is active, and its access token too while that has not expired."""
        answers = [introspect(self.browser, self.client, self.tokens["refresh_token"])]
        if jwt.decode(self.tokens["access_token"], options={"verify_signature": False})["exp"] > self.site.clock():
            answers.append(introspect(self.browser, self.client, self.tokens["access_token"]))
        (works,) = {bool(answer.json["active"]) for answer in answers}
        return works


@pytest.fixture
def old_grant(site: Site, browser: Browser, browsers: Browsers, alice: User) -> OldGrant:
    store, client, other = site.server.store, site.client(trusted=True, direct_sign_in=True), browsers()
    tokens = browser.tokens(client)
    (session,), (grant,) = sessions_of(site), grants_of(site)
    store.sessions.put(replace(session, version=1, active_until=None))
    store.grants.put(replace(grant, session_stored=None, sessions_generation=None, expires_at=grant.ends_at))
    other.sign_in(other.authorize(client))
    return OldGrant(site, browser, other, client, tokens)


def sign_out(grant: OldGrant) -> None:
    assert grant.browser.send(log_out(grant.browser), decision="sign_out").status == 200


def sign_out_in_another_browser(grant: OldGrant) -> None:
    assert grant.other.send(grant.other.get("/account/browsers"), None, action="sign_out").status == 303


def sign_out_others(grant: OldGrant) -> None:
    page = grant.other.get("/account/browsers")
    assert grant.other.send(page, None, action="sign_out_others").status == 303


def sign_out_by_the_operator(grant: OldGrant) -> None:
    store = grant.site.server.store
    accounts.sign_out(store, next(iter(store.users.scan())))


@pytest.mark.parametrize("signed_in_again", [False, True])
@pytest.mark.parametrize("end", [sign_out, sign_out_in_another_browser, sign_out_others, sign_out_by_the_operator])
def test_grant_of_version_1_that_has_ended_with_its_session_stays_ended(
    old_grant: OldGrant, end: Callable[[OldGrant], None], signed_in_again: bool
) -> None:
    """Also when the record of the session would have expired."""
    site = old_grant.site
    if signed_in_again:
        page = old_grant.browser.authorize(old_grant.client, prompt="login")
        assert old_grant.browser.sign_in(page).code
    assert old_grant.works()
    end(old_grant)
    assert not old_grant.works()
    site.run("deliver")
    assert not old_grant.works()
    site.clock.advance(13 * HOUR)
    assert not old_grant.works()
    site.clock.advance(site.settings.refresh_token_absolute_lifetime - 13 * HOUR - 1)
    assert not old_grant.works()
    assert old_grant.browser.refresh(old_grant.client, old_grant.tokens["refresh_token"]).status == 400


def test_ended_session_is_kept_no_longer_than_it_would_have_lasted(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    (before,) = sessions_of(site)
    assert log_out(browser, id_token_hint=hint).status == 200
    assert sessions_of(site) == [replace(before, ended_at=site.clock())]
