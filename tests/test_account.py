"""The account pages: a person sees who has access and where they are signed in, and ends it."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

import pytest
from passlib.hash import pbkdf2_sha256

from chalicelib import audit, passwords
from chalicelib.models import Consent
from tests.browser import Answer, Browser
from tests.faults import Wire, throttled, unreachable
from tests.site import PASSWORD, Registered, Site

NEW_PASSWORD = "quite another password"
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
DAY = 24 * 60 * 60


@pytest.fixture
def alice(site: Site, browser: Browser) -> Browser:
    """A browser in which alice is at her account page."""
    site.user("alice")
    site.secrets.add(NEW_PASSWORD)
    to_account(browser)
    return browser


def to_account(browser: Browser, username: str = "alice", password: str = PASSWORD) -> Answer:
    """Signs in on the way to the account page."""
    start = browser.get("/account")
    page = browser.request("GET", start.location)
    answer = browser.send(page, username=username, password=password)
    assert answer.status == 303
    return browser.request("GET", answer.location)


def words(page: Answer) -> str:
    """What a person reads."""
    text = re.sub(r"<[^>]+>", " ", page.body.partition("<main>")[2].partition("</main>")[0])
    return " ".join(unescape(text).split())


def tag_of(page: Answer) -> str:
    found = re.search(r'name="tag" value="([^"]+)"', page.body)
    assert found, page.body
    return found[1]


def press(browser: Browser, action: str, **fields: str) -> Answer:
    """Presses a button of the account pages."""
    page = browser.get("/account/password")
    headers = {"Sec-Fetch-Site": "same-origin"}
    return browser.post("/account", {"tag": tag_of(page), "action": action, **fields}, headers)


# ---- signing in for it


def test_an_error_on_the_way_is_shown_and_sends_nobody_round_in_circles(
    site: Site, browser: Browser, wire: Wire
) -> None:
    site.user("alice")
    start = browser.get("/account").location
    with wire.fault_in("PutItem", throttled):
        page = browser.get(start)
    assert (page.status, page.header("location")) == (503, None)
    assert "Please try again" in page.body
    assert browser.get(f"{start}&prompt=none").status == 400
    with wire.fault_in("TransactWriteItems", throttled):
        assert browser.send(browser.get(start), username="alice", password=PASSWORD).status == 503


def test_who_is_not_signed_in_is_asked_to_and_comes_back(site: Site, browser: Browser) -> None:
    site.user("alice")
    page = to_account(browser)
    assert page.status == 200
    assert "Signed in as alice ." in words(page)
    assert [*site.server.store.grants.scan()] == []  # a person at home needs no grant
    assert browser.get("/account").status == 200


def test_who_is_signed_in_already_is_not_asked_again(site: Site, browser: Browser) -> None:
    site.user("alice")
    browser.code(site.client())
    assert "Photo Print" not in words(browser.get("/account"))  # the code has not been redeemed
    assert browser.get("/account/browsers").status == 200


def test_who_must_change_the_password_does_so_first(site: Site, browser: Browser) -> None:
    user = site.user("alice")
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.request("GET", browser.get("/account").location)
    page = browser.submit(page, username="alice", password=PASSWORD)
    assert "new_password" in page.form.fields
    assert browser.get("/account").status == 302
    site.secrets.add(NEW_PASSWORD)
    answer = browser.send(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert browser.request("GET", answer.location).status == 200


def test_nobody_redeems_anything_as_the_account_page(site: Site, browser: Browser) -> None:
    client = Registered(replace(site.client().record, client_id="account"), "secret")
    assert browser.redeem(client, "code_x").status == 401
    assert browser.redeem(Registered(client.record, None), "code_x").status == 401


@pytest.mark.parametrize("path", ["/account", "/account/browsers", "/account/activity", "/account/password"])
def test_after_a_sign_out_there_is_nothing_to_see(site: Site, alice: Browser, path: str) -> None:
    assert alice.get(path).status == 200
    [session] = site.server.store.sessions.scan()
    site.server.store.sessions.put(replace(session, ended_at=site.clock()))
    answer = alice.get(path)
    assert answer.status == 302
    assert "client_id=account" in answer.location


# ---- applications


def test_with_no_application_it_says_what_will_stand_there(alice: Browser) -> None:
    assert "No application has access to your account." in words(alice.get("/account"))


def test_an_application_stands_there_with_what_it_may_do_and_since_when(site: Site, alice: Browser) -> None:
    client = site.client(client_name="Fotodruck Zürich")
    site.clock.time = 1_800_000_000
    to_account(alice)
    tokens = alice.tokens(client, scope="openid email offline_access")
    site.clock.advance(3 * DAY)
    alice.refresh(client, tokens["refresh_token"])
    to_account(alice)
    page = words(alice.get("/account"))
    assert "Fotodruck Zürich" in page
    assert "client.example.com" in page
    assert "See your e-mail address" in page
    assert "since 15 January 2027, 08:00 UTC" in page
    assert "last used 18 January 2027, 08:00 UTC" in page
    assert "You have allowed it always" not in page


def test_what_it_asked_for_by_name_stands_there_too(site: Site, alice: Browser) -> None:
    client = site.client()
    alice.tokens(client, scope="openid", claims='{"userinfo": {"email": null}}')
    page = words(alice.get("/account"))
    assert "See your e-mail address" in page
    assert "See your name" not in page


def test_a_remembered_consent_is_access_too(site: Site, alice: Browser) -> None:
    client = site.client()
    alice.code(client, decision="allow_always")
    page = words(alice.get("/account"))
    assert "Photo Print" in page
    assert "You have allowed it always" in page


def test_the_device_is_told_where_it_is_known(site: Site, alice: Browser) -> None:
    client = site.client()
    page = alice.authorize(client)
    answer = alice.send(page, FIREFOX, decision="allow_once")
    alice.redeem(client, answer.code)
    assert "Allowed with Firefox on Linux" in words(alice.get("/account"))


@pytest.mark.spec("OpenID Connect Core §16.18 c")
def test_taking_access_away_ends_every_grant_and_the_remembered_consent(site: Site, alice: Browser) -> None:
    client, other = site.client(), site.client(client_name="Other")
    old = alice.tokens(client, decision="allow_always")
    offline = alice.tokens(client, scope="openid offline_access")
    kept = alice.tokens(other)
    code = alice.code(client)
    answer = press(alice, "revoke", client_id=client.id)
    assert answer.status == 303
    page = alice.request("GET", answer.location)
    assert "The application has no access any more." in words(page)
    assert "Photo Print" not in words(page)
    assert "Other" in words(page)
    for tokens in (old, offline):
        assert alice.userinfo(tokens["access_token"]).status == 401
        assert alice.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert alice.redeem(client, code).json["error"] == "invalid_grant"
    assert alice.userinfo(kept["access_token"]).status == 200
    assert alice.authorize(client).status == 200  # it has to ask again


def test_taking_access_away_from_all(site: Site, alice: Browser) -> None:
    clients = [site.client(client_name=f"Application {number}") for number in range(3)]
    tokens = [alice.tokens(client, decision="allow_always") for client in clients]
    page = alice.request("GET", press(alice, "revoke_all").location)
    assert "No application has access to your account." in words(page)
    assert [alice.userinfo(each["access_token"]).status for each in tokens] == [401] * 3


def test_access_that_is_taken_away_is_told_once_of_each_though_it_was_cut_off(
    site: Site, alice: Browser, wire: Wire
) -> None:
    clients = [site.client() for _ in range(3)]
    for client in clients:
        alice.tokens(client, decision="allow_always")
    with wire.fault_in("TransactWriteItems", unreachable, spared=1):
        assert press(alice, "revoke_all").status == 503
    assert press(alice, "revoke_all").status == 303
    assert list(site.server.store.consents.scan()) == []
    assert all(grant.revoked_at is not None for grant in site.server.store.grants.scan())
    told = [event for event in site.server.store.events.scan() if event.name == audit.ACCESS_REVOKED]
    assert sorted(event.client_id or "" for event in told) == sorted(client.id for client in clients)


def test_access_by_more_grants_than_fit_into_one_transaction_is_taken_away(
    site: Site, alice: Browser, wire: Wire
) -> None:
    client, grants = site.client(), site.server.store.grants
    alice.tokens(client, decision="allow_always")
    (one,) = grants.scan()
    for number in range(150):
        grants.put(replace(one, grant_id=f"g-{number:03}"))
    ended = {"revoked_at": site.clock.time - 5}
    with wire.before("TransactWriteItems", lambda: grants.transition(("g-001",), None, ended)):  # by somebody else
        assert press(alice, "revoke", client_id=client.id).status == 303
    assert {grant.revoked_at for grant in grants.scan()} == {site.clock.time, site.clock.time - 5}
    assert list(site.server.store.consents.scan()) == []
    told = [event for event in site.server.store.events.scan() if event.name == audit.ACCESS_REVOKED]
    assert len(told) == 1


def test_access_that_has_come_to_its_end_is_none(site: Site, alice: Browser) -> None:
    client = site.client()
    alice.tokens(client)
    (grant,) = site.server.store.grants.scan()
    site.server.store.grants.put(replace(grant, ends_at=site.clock.time + 60, expires_at=site.clock.time + 1000))
    assert "Photo Print" in alice.get("/account").body
    site.clock.advance(60)
    assert "Photo Print" not in alice.get("/account").body, "it has slid beyond the end of all refreshing"


def test_nobody_elses_grant_is_touched(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    client = site.client()
    site.user("bob")
    bob = browsers()
    his = bob.submit(bob.authorize(client), username="bob", password=PASSWORD)
    theirs = bob.redeem(client, bob.submit(his, decision="allow_always").code).json
    press(alice, "revoke", client_id=client.id)
    press(alice, "revoke_all")
    assert bob.userinfo(theirs["access_token"]).status == 200
    assert bob.authorize(client).status == 302


def test_an_application_that_was_removed_can_still_be_taken_off(site: Site, alice: Browser) -> None:
    client = site.client()
    alice.tokens(client)
    site.server.store.clients.delete(client.id)
    page = words(alice.get("/account"))
    assert client.id in page
    assert "removed by the operator" in page
    press(alice, "revoke", client_id=client.id)
    assert client.id not in alice.get("/account").body


def test_a_long_list_comes_in_pages(site: Site, alice: Browser) -> None:
    [user] = site.server.store.users.scan()
    for number in range(45):
        client = site.client(client_name=f"Application {number:02}")
        site.server.store.consents.put(Consent(user.sub, client.id, frozenset({"openid"}), site.clock() - number))
    pages = [alice.get("/account", page=number) for number in (1, 2, 3)]
    shown = [re.findall(r"Application \d\d", words(page)) for page in pages]
    assert [len(set(names)) for names in shown] == [20, 20, 5]
    assert "Page 2 of 3" in words(pages[1])
    assert all(len(page.body.encode()) < 30_000 for page in pages)
    for wrong in ("0", "4", "-1", "x", "1" * 50, "²"):
        assert alice.get("/account", page=wrong).status == 404


# ---- browsers


def test_the_browsers_stand_there_this_one_first(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    other = browsers()
    page = other.request("GET", other.get("/account").location, headers=FIREFOX)
    other.send(page, FIREFOX, username="alice", password=PASSWORD)
    text = words(alice.get("/account/browsers"))
    assert text.index("this one") < text.index("Firefox on Linux")
    assert "Sign out all other browsers" in text
    assert "You are signed in nowhere else." not in text


def test_alone_there_is_nobody_else_to_sign_out(alice: Browser) -> None:
    text = words(alice.get("/account/browsers"))
    assert "You are signed in nowhere else." in text
    assert "Sign out all other browsers" not in text


def test_signing_out_another_browser(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    other, client = browsers(), site.client()
    to_account(other)
    bound = other.tokens(client)
    page = alice.get("/account/browsers")
    [session] = re.findall(r'name="session" value="([^"]+)"', page.body)
    answer = press(alice, "sign_out", session=session)
    assert "That browser is signed out." in words(alice.request("GET", answer.location))
    assert other.get("/account").status == 302
    assert other.userinfo(bound["access_token"]).status == 401
    assert alice.get("/account").status == 200


def test_signing_out_all_others(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    others = [browsers() for _ in range(3)]
    for other in others:
        to_account(other)
    press(alice, "sign_out_others")
    assert [other.get("/account").status for other in others] == [302] * 3
    assert alice.get("/account").status == 200


def test_another_persons_session_is_not_ended(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    site.user("bob")
    bob = browsers()
    to_account(bob, "bob")
    his = next(each for each in site.server.store.sessions.scan() if each.sub != _sub(site, "alice"))
    assert press(alice, "sign_out", session=his.session_id).status == 303
    assert bob.get("/account").status == 200


def _sub(site: Site, username: str) -> str:
    return next(user.sub for user in site.server.store.users.scan() if user.username == username)


# ---- the password


def test_changing_the_password_ends_all_else(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    other, client = browsers(), site.client()
    to_account(other)
    tokens = other.tokens(client, scope="openid offline_access")
    answer = press(
        alice, "change_password", password=PASSWORD, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD
    )
    assert answer.status == 303, words(answer)
    assert "Your password is changed." in words(alice.request("GET", answer.location))
    assert other.get("/account").status == 302
    assert other.userinfo(tokens["access_token"]).status == 401
    assert alice.get("/account").status == 200
    stranger = browsers()
    start = stranger.request("GET", stranger.get("/account").location)
    assert stranger.send(start, username="alice", password=PASSWORD).status == 400
    assert stranger.send(start, username="alice", password=NEW_PASSWORD).status == 303


def test_a_new_password_is_told_once_though_what_follows_it_fails(
    site: Site, alice: Browser, browsers: Callable[..., Browser], wire: Wire
) -> None:
    there = browsers()
    there.tokens(site.client(trusted=True, backchannel_logout_uri="https://client.example.com/bye"))
    new = {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    page = alice.get("/account/password")
    with wire.fault_in("Query", unreachable, spared=2):  # sessions and grants, before the change and after it
        answer = alice.send(page, None, **new, action="change_password")
    assert answer.status == 503
    assert len(list(site.server.store.deliveries.scan())) == 1, "the applications hear of it"
    alice.cookies.clear()
    to_account(alice, password=NEW_PASSWORD)
    told = [event.name for event in site.server.store.events.find("sub", _sub(site, "alice"))]
    assert sorted(told) == [audit.PASSWORD_CHANGED, *[audit.SIGN_IN] * 3]


def test_a_password_whose_hash_is_out_of_date_can_be_changed(site: Site, alice: Browser) -> None:
    user = next(iter(site.server.store.users.scan()))
    old = pbkdf2_sha256.using(rounds=10).hash(PASSWORD)
    assert passwords.needs_rehash(old)
    site.server.store.users.put(replace(user, password_hash=old))
    new = {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    assert press(alice, "change_password", **new).status == 303


@pytest.mark.parametrize(
    ("present", "new", "again", "said"),
    [
        ("wrong password", NEW_PASSWORD, NEW_PASSWORD, "This is not your present password."),
        ("", NEW_PASSWORD, NEW_PASSWORD, "This is not your present password."),
        (PASSWORD, "short", "short", "Use at least 8 characters."),
        (PASSWORD, "", "", "Use at least 8 characters."),
        (PASSWORD, NEW_PASSWORD, NEW_PASSWORD + "x", "The two entries differ."),
        (PASSWORD, "x" * 2000, "x" * 2000, "Use at most 1024 characters."),
    ],
)
def test_a_password_that_will_not_do_changes_nothing(
    site: Site, alice: Browser, present: str, new: str, again: str, said: str
) -> None:
    answer = press(alice, "change_password", password=present, new_password=new, new_password_again=again)
    assert answer.status == 400
    assert said in words(answer)
    assert 'aria-invalid="true"' in answer.body
    for secret in filter(None, (present, new, again)):
        assert f'value="{secret}"' not in answer.body
    start = Browser(site)
    page = start.request("GET", start.get("/account").location)
    assert start.send(page, username="alice", password=PASSWORD).status == 303
    start.close()


def test_the_present_password_cannot_be_guessed_there_either(site: Site, alice: Browser) -> None:
    statuses = [
        press(
            alice, "change_password", password=f"guess {n}", new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD
        ).status
        for n in range(20)
    ]
    assert statuses[0] == 400
    assert statuses[-1] == 429


def test_a_link_on_another_site_cannot_have_the_page_say_that_something_was_done(alice: Browser) -> None:
    link = "/account/password?done=password_changed"
    assert "Your password is changed." in words(alice.request("GET", link, headers={"Sec-Fetch-Site": "same-origin"}))
    assert "is changed" not in words(alice.request("GET", link, headers={"Sec-Fetch-Site": "cross-site"}))


# ---- what was done


def test_the_activity_tells_what_was_done_and_from_where(site: Site, alice: Browser) -> None:
    client = site.client(client_name="Fotodruck")
    alice.tokens(client)
    alice.submit(alice.authorize(client), decision="deny")
    press(alice, "revoke", client_id=client.id)
    text = words(alice.get("/account/activity"))
    for said in ("Signed in", "Access allowed Fotodruck", "Access denied Fotodruck", "Access taken away Fotodruck"):
        assert said in text
    assert "127.0.0.1" in text


def test_a_failed_sign_in_is_told(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    stranger = browsers()
    page = stranger.request("GET", stranger.get("/account").location)
    stranger.send(page, username="alice", password="a wrong one")
    assert "Sign-in failed" in words(alice.get("/account/activity"))


def test_the_activity_shows_the_newest_and_no_more_than_forty(site: Site, alice: Browser) -> None:
    from chalicelib.models import Event

    sub = _sub(site, "alice")
    for number in range(100):
        event = Event(sub, f"{site.clock() + number}.x", audit.SIGN_IN, site.clock() + number, site.clock() + DAY)
        site.server.store.events.put(replace(event, client_name=f"Application {number:02}"))
    page = alice.get("/account/activity")
    assert re.findall(r"Application \d\d", words(page)) == [f"Application {n:02}" for n in range(99, 59, -1)]
    assert len(page.body.encode()) < 30_000


def test_an_empty_activity_says_so(site: Site, alice: Browser) -> None:
    for event in list(site.server.store.events.scan()):
        site.server.store.events.delete(event.sub, event.event_id)
    assert "Nothing has happened in the last 90 days." in words(alice.get("/account/activity"))


# ---- refusals


@pytest.mark.parametrize(
    ("change", "headers"),
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
def test_a_form_that_is_not_ours_does_nothing(
    site: Site, alice: Browser, change: dict[str, str], headers: dict[str, str]
) -> None:
    client = site.client()
    tokens = alice.tokens(client)
    good = {"tag": tag_of(alice.get("/account")), "action": "revoke", "client_id": client.id}
    answer = alice.post("/account", good | change, {"Sec-Fetch-Site": "same-origin"} | headers)
    assert answer.status == 400
    assert "<h1>" in answer.body
    assert alice.userinfo(tokens["access_token"]).status == 200


def test_the_tag_of_another_persons_page_is_no_good(
    site: Site, alice: Browser, browsers: Callable[..., Browser]
) -> None:
    site.user("bob")
    bob = browsers()
    to_account(bob, "bob")
    form = {"tag": tag_of(bob.get("/account/password")), "action": "revoke_all"}
    assert alice.post("/account", form, {"Sec-Fetch-Site": "same-origin"}).status == 400


def test_a_form_of_a_session_that_has_ended_leads_to_the_sign_in_page(site: Site, alice: Browser) -> None:
    tag = tag_of(alice.get("/account/password"))
    alice.cookies.pop("signet-session")
    answer = alice.post("/account", {"tag": tag, "action": "revoke_all"}, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 303
    assert "client_id=account" in answer.location


def test_hostile_names_are_only_text(site: Site, alice: Browser) -> None:
    client = site.client(client_name="<script>alert(1)</script> {{1337*7331}} ${1337*7331} \N{PILE OF POO}" + "W" * 100)
    alice.tokens(client)
    page = alice.get("/account")
    assert "<script>alert" not in page.body
    assert "{{1337*7331}} ${1337*7331} \N{PILE OF POO}" in words(page)
    assert str(1337 * 7331) not in page.body
