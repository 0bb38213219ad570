"""The account pages: review and revoke the access of applications, sign out browsers, change the password."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from passlib.hash import pbkdf2_sha256

from chalicelib import events
from chalicelib.authentication import passwords
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.records import Event
from tests.endpoints.account.conftest import (
    CHANGE,
    NEW_PASSWORD,
    listed_names,
    read_events,
    remember_consent,
    visible_text,
)
from tests.endpoints.authorize.conftest import asks_for_consent
from tests.support.account import account_form, open_sign_in, sign_in_to_account, submit_action, submit_form
from tests.support.browser import Answer, Browser
from tests.support.faults import ALWAYS, Fault, Wire, answer_lost, throttled, unreachable
from tests.support.site import PASSWORD, Registered, Site

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


# ---- signing in


def test_error_during_sign_in_is_shown_without_a_redirect_loop(site: Site, browser: Browser, wire: Wire) -> None:
    site.user("alice")
    start = browser.get("/account").location
    assert browser.get(f"{start}&prompt=none").status == 400
    with wire.fault_in("TransactWriteItems", throttled):
        assert browser.send(browser.get(start), username="alice", password=PASSWORD).status == 503
    sign_in_to_account(browser)
    with wire.fault_in("BatchGetItem", throttled):
        page = browser.get(start)
    assert (page.status, page.header("location")) == (503, None)
    assert "Please try again" in page.body


def test_unauthenticated_user_signs_in_and_returns_to_the_account_page(site: Site, browser: Browser) -> None:
    site.user("alice")
    page = sign_in_to_account(browser)
    assert page.status == 200
    assert "Signed in as alice ." in visible_text(page)
    assert [*site.server.store.grants.scan()] == []  # the account page needs no grant
    assert browser.get("/account").status == 200


def test_existing_session_opens_the_account_page_without_a_sign_in(site: Site, browser: Browser) -> None:
    site.user("alice")
    browser.code(site.client())
    assert "Photo Print" not in visible_text(browser.get("/account"))  # the code has not been redeemed
    assert browser.get("/account/browsers").status == 200


def test_required_password_change_comes_before_the_account_page(site: Site, browser: Browser) -> None:
    user = site.user("alice")
    site.server.store.users.put(replace(user, password_change_required=True))
    page = open_sign_in(browser)
    page = browser.submit(page, username="alice", password=PASSWORD)
    assert "new_password" in page.form.fields
    assert browser.get("/account").status == 302
    site.secrets.add(NEW_PASSWORD)
    answer = browser.send(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert browser.request("GET", answer.location).status == 200


def test_account_client_id_is_rejected_at_the_token_endpoint(site: Site, browser: Browser) -> None:
    client = Registered(replace(site.client().record, client_id="account"), "secret")
    assert browser.redeem(client, "code_x").status == 401
    assert browser.redeem(Registered(client.record, None), "code_x").status == 401


@pytest.mark.parametrize("path", ["/account", "/account/browsers", "/account/activity", "/account/password"])
def test_ended_session_is_redirected_to_sign_in(site: Site, alice: Browser, path: str) -> None:
    assert alice.get(path).status == 200
    [session] = site.server.store.sessions.scan()
    site.server.store.sessions.put(replace(session, ended_at=site.clock()))
    answer = alice.get(path)
    assert answer.status == 302
    assert "client_id=account" in answer.location


# ---- applications


def test_account_without_applications_says_so(alice: Browser) -> None:
    assert "No application has access to your account." in visible_text(alice.get("/account"))


def test_application_is_listed_with_its_scopes_and_dates(site: Site, alice: Browser) -> None:
    client = site.client(client_name="Fotodruck Zürich")
    site.clock.time = 1_800_000_000
    sign_in_to_account(alice)
    tokens = alice.tokens(client, scope="openid email offline_access")
    site.clock.advance(3 * DAY)
    alice.refresh(client, tokens["refresh_token"])
    sign_in_to_account(alice)
    page = visible_text(alice.get("/account"))
    assert "Fotodruck Zürich" in page
    assert "client.example.com" in page
    assert "See your email address" in page
    assert "since 15 January 2027, 08:00 UTC" in page
    assert "last used 18 January 2027, 08:00 UTC" in page
    assert "Your choice is remembered" not in page


def test_claims_requested_by_name_are_listed(site: Site, alice: Browser) -> None:
    client = site.client()
    alice.tokens(client, scope="openid", claims='{"userinfo": {"email": null}}')
    page = visible_text(alice.get("/account"))
    assert "See your email address" in page
    assert "See your name" not in page


def test_application_with_a_remembered_consent_is_listed(site: Site, alice: Browser) -> None:
    client = site.client()
    alice.code(client, decision="allow_always")
    page = visible_text(alice.get("/account"))
    assert "Photo Print" in page
    assert "Your choice is remembered" in page


def test_application_is_listed_with_the_browser_that_allowed_it(site: Site, alice: Browser) -> None:
    client = site.client()
    page = alice.authorize(client)
    answer = alice.send(page, FIREFOX, decision="allow_once")
    alice.redeem(client, answer.code)
    assert "Allowed in Firefox on Linux" in visible_text(alice.get("/account"))


@pytest.mark.spec("OpenID Connect Core §16.18 c")
def test_revoking_access_ends_every_grant_and_forgets_the_consent(site: Site, alice: Browser) -> None:
    client, other = site.client(), site.client(client_name="Other")
    old = alice.tokens(client, decision="allow_always")
    offline = alice.tokens(client, scope="openid offline_access")
    other_tokens = alice.tokens(other)
    code = alice.code(client)
    answer = submit_action(alice, "revoke", client_id=client.id)
    assert answer.status == 303
    page = alice.request("GET", answer.location)
    assert "The application no longer has access." in visible_text(page)
    assert "Photo Print" not in visible_text(page)
    assert "Other" in visible_text(page)
    for tokens in (old, offline):
        assert alice.userinfo(tokens["access_token"]).status == 401
        assert alice.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert alice.redeem(client, code).json["error"] == "invalid_grant"
    assert alice.userinfo(other_tokens["access_token"]).status == 200
    assert alice.authorize(client).status == 200  # the consent page is shown again


def test_revoking_access_of_all_applications(site: Site, alice: Browser) -> None:
    clients = [site.client(client_name=f"Application {number}") for number in range(3)]
    tokens = [alice.tokens(client, decision="allow_always") for client in clients]
    page = alice.request("GET", submit_action(alice, "revoke_all").location)
    assert "No application has access to your account." in visible_text(page)
    assert [alice.userinfo(each["access_token"]).status for each in tokens] == [401] * 3


@pytest.mark.parametrize("action", ["revoke", "revoke_all"])
def test_removal_that_is_not_stored_changes_nothing_and_can_be_repeated(
    site: Site, alice: Browser, wire: Wire, action: str
) -> None:
    client = site.client()
    tokens = alice.tokens(client, decision="allow_always")
    with wire.fault_in("TransactWriteItems", unreachable):
        assert submit_action(alice, action, client_id=client.id).status == 503
    assert alice.userinfo(tokens["access_token"]).status == 200
    assert alice.authorize(client).code
    assert read_events(site, events.ACCESS_REVOKED) == []
    assert submit_action(alice, action, client_id=client.id).status == 303
    assert alice.userinfo(tokens["access_token"]).status == 401
    assert asks_for_consent(alice.authorize(client))
    (event,) = read_events(site, events.ACCESS_REVOKED)
    expected = (client.id, None) if action == "revoke" else (None, "all applications")
    assert (event.client_id, event.detail) == expected


@pytest.mark.parametrize("action", ["revoke", "revoke_all"])
def test_removal_is_one_write_whatever_the_number_of_grants(
    site: Site, alice: Browser, wire: Wire, action: str
) -> None:
    client, grants = site.client(), site.server.store.grants
    form = account_form(alice, action, client_id=client.id)
    calls_by_number = []
    for number in (1, 150):
        tokens = [alice.tokens(client, scope=scope) for scope in ("openid", "openid offline_access")]
        (grant, *_) = [grant for grant in grants.scan() if "offline_access" in grant.scope]
        for each in range(number):
            grants.put(replace(grant, grant_id=f"g-{number}-{each}"))
        before = {grant.grant_id: grant for grant in grants.scan()}
        with wire.counted() as calls:
            assert submit_form(alice, form).status == 303
        calls_by_number.append(list(calls))
        assert {grant.grant_id: grant for grant in grants.scan()} == before, "no grant is written"
        assert [alice.refresh(client, each["refresh_token"]).status for each in tokens] == [400] * 2
    assert calls_by_number[0] == calls_by_number[1]
    assert calls_by_number[0].count("TransactWriteItems") == 1


def test_expired_grant_is_not_listed(site: Site, alice: Browser) -> None:
    client = site.client()
    alice.tokens(client)
    (grant,) = site.server.store.grants.scan()
    site.server.store.grants.put(replace(grant, ends_at=site.clock.time + 60, expires_at=site.clock.time + 1000))
    assert "Photo Print" in alice.get("/account").body
    site.clock.advance(60)
    assert "Photo Print" not in alice.get("/account").body, "the grant has reached its absolute lifetime (ends_at)"


def test_revoking_access_leaves_grants_of_other_users(
    site: Site, alice: Browser, browsers: Callable[..., Browser]
) -> None:
    client = site.client()
    site.user("bob")
    bob = browsers()
    consent_page = bob.submit(bob.authorize(client), username="bob", password=PASSWORD)
    tokens = bob.redeem(client, bob.submit(consent_page, decision="allow_always").code).json
    submit_action(alice, "revoke", client_id=client.id)
    submit_action(alice, "revoke_all")
    assert bob.userinfo(tokens["access_token"]).status == 200
    assert bob.authorize(client).status == 302


def test_deleted_client_is_not_listed_and_has_no_access(site: Site, alice: Browser) -> None:
    client, other = site.client(client_name="Deleted"), site.client(client_name="Other")
    tokens = alice.tokens(client, decision="allow_always", scope="openid offline_access")
    alice.tokens(other)
    site.server.store.clients.delete(client.id)
    assert listed_names(alice) == ["Other"]
    site.clock.advance(60)  # as long as a client is cached
    assert alice.userinfo(tokens["access_token"]).status == 401
    assert submit_action(alice, "revoke", client_id=client.id).status == 303
    assert read_events(site, events.ACCESS_REVOKED) == []
    site.client(client_id=client.id, client_name="Registered again")
    assert listed_names(alice) == ["Other"]


def test_long_list_of_applications_is_paginated(site: Site, alice: Browser) -> None:
    for number in range(45):
        remember_consent(site, site.client(client_name=f"Application {number:02}"), updated_at=site.clock() - number)
    pages = [alice.get("/account", page=number) for number in (1, 2, 3)]
    names_by_page = [re.findall(r"Application \d\d", visible_text(page)) for page in pages]
    assert [len(set(names)) for names in names_by_page] == [20, 20, 5]
    assert "Page 2 of 3" in visible_text(pages[1])
    assert all(len(page.body.encode()) < 30_000 for page in pages)
    for invalid in ("0", "4", "-1", "x", "1" * 50, "²"):
        assert alice.get("/account", page=invalid).status == 404


# ---- browsers


def test_current_browser_is_listed_first(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    other = browsers()
    page = other.request("GET", other.get("/account").location, headers=FIREFOX)
    other.send(page, FIREFOX, username="alice", password=PASSWORD)
    text = visible_text(alice.get("/account/browsers"))
    assert text.index("this browser") < text.index("Firefox on Linux")
    assert "Sign out all other browsers" in text
    assert "You are not signed in anywhere else." not in text


def test_single_browser_has_no_button_to_sign_out_others(alice: Browser) -> None:
    text = visible_text(alice.get("/account/browsers"))
    assert "You are not signed in anywhere else." in text
    assert "Sign out all other browsers" not in text


def test_signing_out_another_browser(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    other, client = browsers(), site.client()
    sign_in_to_account(other)
    tokens = other.tokens(client)
    page = alice.get("/account/browsers")
    [session] = re.findall(r'name="session" value="([^"]+)"', page.body)
    answer = submit_action(alice, "sign_out", session=session)
    assert "That browser is signed out." in visible_text(alice.request("GET", answer.location))
    assert other.get("/account").status == 302
    assert other.userinfo(tokens["access_token"]).status == 401
    assert alice.get("/account").status == 200


def test_signing_out_all_other_browsers(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    other_browsers = [browsers() for _ in range(3)]
    for other in other_browsers:
        sign_in_to_account(other)
    submit_action(alice, "sign_out_others")
    assert [other.get("/account").status for other in other_browsers] == [302] * 3
    assert alice.get("/account").status == 200


def test_session_of_another_user_cannot_be_signed_out(
    site: Site, alice: Browser, browsers: Callable[..., Browser]
) -> None:
    site.user("bob")
    bob = browsers()
    sign_in_to_account(bob, "bob")
    bobs = next(session for session in site.server.store.sessions.scan() if session.sub != site.read_user().sub)
    assert submit_action(alice, "sign_out", session=bobs.session_id).status == 303
    assert bob.get("/account").status == 200


# ---- the password


def test_password_change_ends_other_sessions_and_grants(
    site: Site, alice: Browser, browsers: Callable[..., Browser]
) -> None:
    other, client = browsers(), site.client()
    sign_in_to_account(other)
    tokens = other.tokens(client, scope="openid offline_access")
    answer = submit_action(alice, "change_password", **CHANGE)
    assert answer.status == 303, visible_text(answer)
    assert "Your password is changed." in visible_text(alice.request("GET", answer.location))
    assert other.get("/account").status == 302
    assert other.userinfo(tokens["access_token"]).status == 401
    assert alice.get("/account").status == 200
    new_browser = browsers()
    start = open_sign_in(new_browser)
    rejected = new_browser.submit(start, username="alice", password=PASSWORD)
    assert "The username or the password is not right." in rejected.body
    accepted = new_browser.send(start, username="alice", password=NEW_PASSWORD)
    assert accepted.location == f"{site.settings.issuer}/account"


@pytest.mark.parametrize(
    ("fault", "tries", "status", "recorded"),
    [
        (unreachable, ALWAYS, 503, [events.SIGN_IN_FAILED]),
        (answer_lost, 1, 303, [events.PASSWORD_CHANGED]),
    ],
    ids=["not stored", "answer lost"],
)
def test_password_change_is_stored_as_a_whole_or_not_at_all(
    site: Site,
    alice: Browser,
    browsers: Callable[..., Browser],
    wire: Wire,
    fault: Fault,
    tries: int,
    status: int,
    recorded: list[str],
) -> None:
    """The attempt is counted as a wrong password until the change is stored."""
    other, client = browsers(), site.client(trusted=True, backchannel_logout_uri="https://client.example.com/bye")
    tokens = other.tokens(client, scope="openid offline_access")
    page = alice.get("/account/password")
    with wire.fault_in("TransactWriteItems", fault, tries, skip=1):  # the first one counts the attempt
        assert alice.send(page, None, action="change_password", **CHANGE).status == status
    names = [event.name for event in site.server.store.events.find("sub", site.read_user().sub)]
    assert sorted(names) == sorted([*recorded, *[events.SIGN_IN] * 2])
    changed = status == 303
    assert [delivery.sessions_below for delivery in site.server.store.deliveries.scan()] == (
        [site.read_user().sessions_generation] if changed else []
    )
    assert (other.userinfo(tokens["access_token"]).status == 401) is changed
    assert alice.get("/account").status == 200
    alice.cookies.clear()
    sign_in_to_account(alice, password=NEW_PASSWORD if changed else PASSWORD)


def test_password_with_an_outdated_hash_can_be_changed(site: Site, alice: Browser) -> None:
    user = next(iter(site.server.store.users.scan()))
    outdated_hash = pbkdf2_sha256.using(rounds=10).hash(PASSWORD)
    assert passwords.needs_rehash(outdated_hash)
    site.server.store.users.put(replace(user, password_hash=outdated_hash))
    assert submit_action(alice, "change_password", **CHANGE).status == 303


@pytest.mark.parametrize(
    ("present", "new", "again", "message"),
    [
        ("wrong password", NEW_PASSWORD, NEW_PASSWORD, "This is not your current password."),
        ("", NEW_PASSWORD, NEW_PASSWORD, "This is not your current password."),
        (PASSWORD, "short", "short", "Use at least 12 characters."),
        (PASSWORD, "", "", "Use at least 12 characters."),
        (PASSWORD, NEW_PASSWORD, NEW_PASSWORD + "x", "The two entries differ."),
        (PASSWORD, "Dragon123456", "Dragon123456", "one of the most common ones"),
        (PASSWORD, "Alice-1234567", "Alice-1234567", "must not be your username"),
        (PASSWORD, "x" * 2000, "x" * 2000, "Use at most 1024 characters."),
    ],
)
def test_rejected_password_change_leaves_the_password(
    site: Site, alice: Browser, present: str, new: str, again: str, message: str
) -> None:
    answer = submit_action(alice, "change_password", password=present, new_password=new, new_password_again=again)
    assert answer.status == 400
    assert message in visible_text(answer)
    assert 'aria-invalid="true"' in answer.body
    for secret in filter(None, (present, new, again)):
        assert f'value="{secret}"' not in answer.body
    new_browser = Browser(site)
    page = open_sign_in(new_browser)
    assert new_browser.send(page, username="alice", password=PASSWORD).location == f"{site.settings.issuer}/account"
    new_browser.close()


def test_guessing_the_present_password_is_throttled(site: Site, alice: Browser) -> None:
    statuses = [
        submit_action(
            alice, "change_password", password=f"guess {n}", new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD
        ).status
        for n in range(20)
    ]
    assert statuses[0] == 400
    assert statuses[-1] == 429


def test_cross_site_link_cannot_show_a_success_message(alice: Browser) -> None:
    link = "/account/password?done=password_changed"
    assert "Your password is changed." in visible_text(
        alice.request("GET", link, headers={"Sec-Fetch-Site": "same-origin"})
    )
    assert "is changed" not in visible_text(alice.request("GET", link, headers={"Sec-Fetch-Site": "cross-site"}))


# ---- activity


def test_activity_lists_events_with_their_ip_address(site: Site, alice: Browser) -> None:
    client = site.client(client_name="Fotodruck")
    alice.tokens(client)
    alice.submit(alice.authorize(client), decision="deny")
    submit_action(alice, "revoke", client_id=client.id)
    text = visible_text(alice.get("/account/activity"))
    for entry in ("Signed in", "Access allowed Fotodruck", "Access denied Fotodruck", "Access removed Fotodruck"):
        assert entry in text
    assert "127.0.0.1" in text


def test_activity_lists_failed_sign_ins(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    new_browser = browsers()
    page = open_sign_in(new_browser)
    new_browser.send(page, username="alice", password="a wrong password")
    assert "Sign-in failed" in visible_text(alice.get("/account/activity"))


def add_events(site: Site, *names: str, **members: Any) -> None:
    """Store events of alice, one each second from now on; a client has the number of its event."""
    sub, now = site.read_user().sub, site.clock()
    for number, name in enumerate(names):
        event = Event(sub, f"{now + number}.x", name, now + number, now + DAY, client_name=f"Application {number:03}")
        site.server.store.events.put(replace(event, **members))


def older_page(browser: Browser, page: Answer) -> Answer:
    """Follow the link to older activity."""
    (path,) = re.findall(r'href="(/account/activity\?until=[^"]+)" rel="next"', page.body)
    return browser.request("GET", path)


def test_activity_has_pages_that_list_every_event_once(site: Site, alice: Browser, wire: Wire) -> None:
    add_events(site, *[events.SIGN_IN] * 100)
    page, listed = alice.get("/account/activity"), []
    for lines in (40, 40, 20):
        names = re.findall(r"Application \d\d\d", visible_text(page))
        assert len(names) == lines
        assert len(page.body.encode()) < 30_000
        listed += names
        if len(listed) < 100:
            with wire.counted() as calls:
                page = older_page(alice, page)
            assert calls == ["BatchGetItem", "Query"]
    assert listed == [f"Application {number:03}" for number in range(99, -1, -1)]
    assert "There is no older activity." in visible_text(page)
    assert 'rel="next"' not in page.body
    assert "Application 099" in visible_text(alice.request("GET", "/account/activity"))


def test_forty_events_are_one_page(site: Site, alice: Browser) -> None:
    for event in list(site.server.store.events.scan()):
        site.server.store.events.delete(event.sub, event.event_id)
    add_events(site, *[events.SIGN_IN] * 40)
    page = alice.get("/account/activity")
    assert "These are all events of the last 90 days." in visible_text(page)
    assert "until=" not in page.body


def test_many_failures_do_not_hide_a_sign_in(site: Site, alice: Browser, wire: Wire) -> None:
    failures = [events.SIGN_IN_FAILED, events.SIGN_IN_THROTTLED] * 200
    add_events(site, events.CONSENT_GIVEN, *failures, events.SIGNED_OUT, *failures[:30])
    with wire.counted() as calls:
        text = visible_text(alice.get("/account/activity"))
    assert calls == ["BatchGetItem", "Query"]
    labels = r"Sign-in failed \d+ times|Signed out|Access allowed|Signed in(?! as)|Sign-in rejected"
    assert re.findall(labels, text) == [
        "Sign-in failed 30 times",
        "Signed out",
        "Sign-in failed 400 times",
        "Access allowed",
        "Signed in",
    ]


def test_folded_failures_say_when_they_began_and_ended_and_from_how_many_addresses(site: Site, alice: Browser) -> None:
    add_events(site, events.SIGN_IN_FAILED, source_ip="192.0.2.1", device="Firefox on Linux", client_name="Shop")
    site.clock.advance(3600)
    add_events(site, events.SIGN_IN_FAILED, source_ip="192.0.2.2", device="Firefox on Linux", client_name="Shop")
    first, last = (f"{datetime.fromtimestamp(site.clock() - ago, UTC):%H:%M} UTC" for ago in (3600, 0))
    text = visible_text(alice.get("/account/activity"))
    times = rf"\d+ [^,]+, {first} to \d+ [^,]+, {last}"
    assert re.search(rf"Sign-in failed 2 times Shop {times} Firefox on Linux 2 IP addr", text)


def test_failures_of_more_than_one_page_continue_on_the_next(site: Site, alice: Browser, wire: Wire) -> None:
    add_events(site, events.CONSENT_GIVEN, *[events.SIGN_IN_FAILED] * 700)
    page = alice.get("/account/activity")
    assert "Sign-in failed 500 times" in visible_text(page)
    assert "Access allowed" not in visible_text(page)
    with wire.counted() as calls:
        page = older_page(alice, page)
    assert calls == ["BatchGetItem", "Query"]
    assert "Sign-in failed 200 times" in visible_text(page)
    assert "Access allowed" in visible_text(page)


def test_link_to_older_activity_shows_no_event_of_another_user(site: Site, alice: Browser) -> None:
    other = site.user("bob")
    event = Event(other.sub, f"{site.clock()}.x", events.SIGN_IN, site.clock(), site.clock() + DAY)
    site.server.store.events.put(replace(event, client_name="of bob"))
    assert "of bob" not in alice.get("/account/activity", until=f"{site.clock() + 1}.x").body


@pytest.mark.parametrize(
    "until", ["x", "1.", ".1", "1", "1.x y", "1.X", "-1.x", "1" * 2000 + ".x", "1.\u00b2", "\u0661.x"]
)
def test_impossible_page_of_the_activity_is_not_found(alice: Browser, until: str) -> None:
    assert alice.get("/account/activity", until=until).status == 404


def test_empty_activity_says_so(site: Site, alice: Browser) -> None:
    for event in list(site.server.store.events.scan()):
        site.server.store.events.delete(event.sub, event.event_id)
    assert "There was no activity in the last 90 days." in visible_text(alice.get("/account/activity"))


# ---- rejected forms


@pytest.mark.parametrize(
    ("changed", "headers"),
    [
        ({"tag": "nonsense"}, {}),
        ({"tag": ""}, {}),
        ({"action": "nonsense"}, {}),
        ({"action": ""}, {}),
        ({"client_id": ""}, {}),
        ({"client_id": "x" * 200}, {}),
        ({"action": "sign_out"}, {}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
        ({}, {"Origin": "https://evil.example.com", "Sec-Fetch-Site": ""}),
    ],
)
def test_form_with_an_invalid_tag_action_or_origin_is_rejected(
    site: Site, alice: Browser, changed: dict[str, str], headers: dict[str, str]
) -> None:
    client = site.client()
    tokens = alice.tokens(client)
    valid = account_form(alice, "revoke", client_id=client.id)
    answer = alice.post("/account", valid | changed, {"Sec-Fetch-Site": "same-origin"} | headers)
    assert answer.status == 400
    assert "<h1>" in answer.body
    assert alice.userinfo(tokens["access_token"]).status == 200


def test_tag_of_another_users_page_is_rejected(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    site.user("bob")
    bob = browsers()
    sign_in_to_account(bob, "bob")
    assert submit_form(alice, account_form(bob, "revoke_all")).status == 400


def test_form_without_a_session_is_redirected_to_sign_in(site: Site, alice: Browser) -> None:
    form = account_form(alice, "revoke_all")
    alice.cookies.pop("signet-session")
    answer = submit_form(alice, form)
    assert answer.status == 303
    assert "client_id=account" in answer.location


def test_client_name_is_escaped(site: Site, alice: Browser) -> None:
    client = site.client(client_name="<script>alert(1)</script> {{1337*7331}} ${1337*7331} \N{PILE OF POO}" + "W" * 100)
    alice.tokens(client)
    page = alice.get("/account")
    assert "<script>alert" not in page.body
    assert "{{1337*7331}} ${1337*7331} \N{PILE OF POO}" in visible_text(page)
    assert str(1337 * 7331) not in page.body
