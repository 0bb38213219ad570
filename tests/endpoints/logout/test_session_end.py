"""What the end of a session ends: its grants, with the logout tokens that follow; also in races and after failures."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Session, User
from chalicelib.sessions import revocation
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


def test_grant_revoked_earlier_keeps_its_time(site: Site, browser: Browser, client: Registered, alice: User) -> None:
    tokens = browser.tokens(client)
    browser.tokens(client)
    site.server.store.grants.put(replace(grants_of(site)[0], revoked_at=7))
    log_out(browser, id_token_hint=tokens["id_token"])
    assert sorted(grant.revoked_at or 0 for grant in grants_of(site)) == [7, site.clock.time]


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
    tabs = [browsers() for _ in range(10)]
    for tab in tabs:
        tab.cookies.update(browser.cookies)
    answers = run_concurrently(partial(log_out, tab, id_token_hint=hint) for tab in tabs)
    assert [answer.status for answer in answers] == [200] * 10
    assert len(outbox_of(site)) == 1
    recorded = [event.name for event in site.server.store.events.find("sub", alice.sub)]
    assert recorded.count(events.SIGNED_OUT) == 1


@pytest.mark.parametrize("grants", [0, 1, 3])
def test_grant_created_during_logout_is_revoked(
    site: Site, browser: Browser, browsers: Browsers, alice: User, wire: Wire, grants: int
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI, post_logout_redirect_uris=(TARGET,))
    hint = browser.tokens(client)["id_token"]
    (session,) = sessions_of(site)
    empty = replace(session, grants=frozenset(), backchannel_clients=frozenset())
    site.server.store.sessions.put(session if grants else empty)
    for _ in range(grants - 1):
        browser.code(client)
    tab = browsers()
    tab.cookies.update(browser.cookies)
    codes: list[str] = []
    with wire.before("TransactWriteItems", lambda: codes.append(tab.code(client))):
        assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET).location == TARGET
    (session,) = sessions_of(site)
    assert len(session.grants) == grants + 1
    assert session.ended_at
    assert browser.redeem(client, codes[0]).json["error"] == "invalid_grant"
    (delivery,) = outbox_of(site)
    assert delivery.clients == {client.id}


def test_session_ended_during_logout_is_not_ended_twice(
    site: Site, browser: Browser, browsers: Browsers, alice: User, wire: Wire
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI)
    hint = browser.tokens(client)["id_token"]
    tab = browsers()
    tab.cookies.update(browser.cookies)

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
    hint = browser.tokens(client)["id_token"]
    (session,) = sessions_of(site)
    with wire.before("TransactWriteItems", lambda: site.server.store.sessions.delete(session.session_id)):
        assert log_out(browser, id_token_hint=hint).status == 200
    assert sessions_of(site) == []
    (grant,) = grants_of(site)
    assert grant.revoked_at == site.clock.time


def test_revocation_wins_over_concurrent_refreshes_and_codes(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    for _ in range(3):
        tokens, code = browser.tokens(client), browser.code(client)
        apps = [browsers() for _ in range(10)]
        tab = browsers()
        tab.cookies.update(browser.cookies)
        requests: list[Callable[[], Answer]] = [partial(a.refresh, client, tokens["refresh_token"]) for a in apps[:5]]
        requests += [partial(a.redeem, client, code) for a in apps[5:6]]
        requests.insert(3, partial(log_out, browser, id_token_hint=tokens["id_token"]))
        requests.insert(5, partial(tab.authorize, client, prompt="none"))
        answers = run_concurrently(requests)
        for answer in answers:
            if answer.status == 200 and "access_token" in answer.body:
                assert browser.userinfo(answer.json["access_token"]).status == 401
                assert browser.refresh(client, answer.json["refresh_token"]).json["error"] == "invalid_grant"
        assert not [grant for grant in grants_of(site) if grant.revoked_at is None]


def add_grants(site: Site, number: int) -> Session:
    """Add this many grants to the only session and return it; one grant in ten has `offline_access`."""
    store = site.server.store
    (session,), (grant,) = sessions_of(site), grants_of(site)
    offline = grant.scope | {"offline_access"}
    added = [replace(grant, grant_id=new_id(), scope=grant.scope if each % 10 else offline) for each in range(number)]
    for each in added:
        store.grants.put(each)
    session = replace(session, grants=session.grants | {each.grant_id for each in added} | {"deleted"})
    store.sessions.put(session)
    return session


def test_session_with_more_grants_than_fit_into_one_transaction(
    site: Site, browser: Browser, client: Registered, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "MAX_WRITES", 10)
    hint = browser.tokens(client)["id_token"]
    add_grants(site, 25)
    assert log_out(browser, id_token_hint=hint).status == 200
    active = [grant for grant in grants_of(site) if grant.revoked_at is None]
    assert len(active) == 3
    assert all("offline_access" in grant.scope for grant in active)


def test_interrupted_logout_is_completed_by_the_next_one(
    site: Site, browser: Browser, alice: User, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=BACKCHANNEL_URI, post_logout_redirect_uris=(TARGET,))
    monkeypatch.setattr(revocation, "MAX_WRITES", 10)
    hint = browser.tokens(client)["id_token"]
    add_grants(site, 25)

    def until_the_session_has_ended(request: Any, proceed: faults.Proceed) -> Any:
        (session,) = sessions_of(site)
        return proceed() if session.ended_at is None else faults.unreachable(request, proceed)

    with wire.every("TransactWriteItems", until_the_session_has_ended):
        assert log_out(browser, id_token_hint=hint).status == 503
    (session,) = sessions_of(site)
    assert session.ended_at is not None
    bound = [grant for grant in grants_of(site) if "offline_access" not in grant.scope]
    assert [grant for grant in bound if grant.revoked_at is None]
    # The error response leaves the session cookie in place.
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET).location == TARGET
    bound = [grant for grant in grants_of(site) if "offline_access" not in grant.scope]
    assert not [grant for grant in bound if grant.revoked_at is None]
    assert len(outbox_of(site)) == 1


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


def test_password_change_ends_every_other_session_and_notifies_its_clients(
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
    assert browser.submit(page, new_password=new, new_password_again=new).code
    ended = [session for session in sessions_of(site) if session.ended_at]
    assert [delivery.session_id for delivery in outbox_of(site)] == [ended[0].session_id]
    assert len(ended) == 1
    assert has_session(browser, client)
    assert not has_session(other, client)
    for tokens in (offline, bound):
        assert browser.userinfo(tokens["access_token"]).status == 401
