"""What the buttons of the account pages end, also when a form is sent twice, is stale or is forged."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import unescape
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.records import Session, User
from chalicelib.sessions.active_grants import ROUNDS
from chalicelib.storage.store import MAX_BATCH
from tests.endpoints.account.conftest import (
    CHANGE,
    NEW_PASSWORD,
    listed_names,
    read_events,
    remember_consent,
    visible_text,
)
from tests.endpoints.authorize.conftest import asks_for_consent
from tests.support.account import read_form, sign_in_to_account, submit_action, submit_form
from tests.support.browser import Answer, Browser, basic
from tests.support.faults import Wire
from tests.support.grants import insert_grant, update_client
from tests.support.site import PASSWORD, Registered, Site

Browsers = Callable[..., Browser]
# action -> the page with its button, the event that records it, and what the next page says
ACTIONS = {
    "revoke": ("/account", events.ACCESS_REVOKED, "The application no longer has access."),
    "revoke_all": ("/account", events.ACCESS_REVOKED, "No application has access now."),
    "sign_out_others": ("/account/browsers", events.SIGNED_OUT, "All other browsers are signed out."),
}
CHANGED = "The page had changed in between. This is how it is now."


@pytest.fixture
def other(site: Site, browsers: Browsers, alice: Browser) -> Browser:
    """Return another browser in which alice is signed in."""
    browser = browsers()
    sign_in_to_account(browser)
    return browser


def read_report(browser: Browser, answer: Answer) -> str:
    """Return what the page that follows a form says about what was done."""
    page = browser.follow(answer)
    assert page.status == 200
    return unescape(re.findall(r'<p class="done" role="status"[^>]*>(.*?)</p>', page.body)[0])


def read_generations(site: Site) -> list[int]:
    """Return all numbers that an ending of alice's access increments."""
    user = site.read_user()
    consents = sorted((consent.client_id, consent.generation) for consent in site.server.store.consents.scan())
    return [
        user.sessions_generation,
        user.grants_generation,
        user.consents_generation,
        *(generation for _, generation in consents),
    ]


def read_button(page: Answer, action: str, client: Registered) -> dict[str, str]:
    """Return what the button of an action sends; if each application has one, that of the client."""
    fields = {"client_id": client.id} if action == "revoke" else {}
    return read_form(page, action, **fields)


# ---- a form that is sent twice


@pytest.fixture
def clients(site: Site, alice: Browser, other: Browser) -> list[Registered]:
    """Return two clients, to which alice has allowed access in another browser."""
    clients = [site.client(client_name=name) for name in ("First", "Second")]
    for client in clients:
        other.tokens(client, decision="allow_always")
    return clients


@pytest.mark.parametrize("action", ACTIONS)
def test_form_sent_again_ends_nothing_more(
    site: Site, alice: Browser, other: Browser, clients: list[Registered], action: str
) -> None:
    path, name, report = ACTIONS[action]
    client, generations = clients[0], read_generations(site)
    form = read_button(alice.get(path), action, client)
    assert read_report(alice, submit_form(alice, form)) == report
    ended = read_generations(site)
    assert sum(ended) - sum(generations) == (2 if action == "revoke_all" else 1)
    site.clock.advance(60)
    if action == "sign_out_others":
        sign_in_to_account(other)
    tokens = other.tokens(client, scope="openid offline_access")
    assert read_report(alice, submit_form(alice, form)) == CHANGED
    assert read_generations(site) == ended
    assert len(read_events(site, name)) == 1
    assert other.userinfo(tokens["access_token"]).status == 200
    assert [browser.get("/account").status for browser in (alice, other)] == [200, 200]


@pytest.mark.parametrize("action", ACTIONS)
def test_form_sent_twice_at_once_ends_access_once(
    site: Site, alice: Browser, browsers: Browsers, clients: list[Registered], wire: Wire, action: str
) -> None:
    path, name, report = ACTIONS[action]
    form = read_button(alice.get(path), action, clients[0])
    generations, tab = read_generations(site), browsers(tab_of=alice)
    answers: list[Answer] = []
    with wire.before("TransactWriteItems", lambda: answers.append(submit_form(tab, form))):
        answers.append(submit_form(alice, form))
    assert [read_report(alice, answer) for answer in answers] == [report, CHANGED]
    assert sum(read_generations(site)) - sum(generations) == (2 if action == "revoke_all" else 1)
    assert len(read_events(site, name)) == 1
    assert alice.get("/account").status == 200


@dataclass
class Stale:
    """A page that is out of date: the form of one of its buttons, and the tokens of a grant that it does not show."""

    form: dict[str, str]
    client: Registered
    tokens: dict[str, Any]


def end_and_start_again(site: Site, alice: Browser, other: Browser, clients: list[Registered], action: str) -> Stale:
    """Read a form; then end access in another way, and let the application have access and alice be signed in again."""
    path, client = ACTIONS[action][0], clients[0]
    form = read_button(alice.get(path), action, client)
    if action == "revoke":
        assert submit_action(alice, "revoke", client_id=client.id).status == 303
    else:
        assert submit_action(alice, "change_password", **CHANGE).status == 303
        sign_in_to_account(other, password=NEW_PASSWORD)
    return Stale(form, client, other.tokens(client, decision="allow_always"))


@pytest.mark.parametrize("action", ACTIONS)
def test_page_from_before_another_ending_ends_nothing_and_claims_nothing(
    site: Site, alice: Browser, other: Browser, clients: list[Registered], action: str
) -> None:
    stale = end_and_start_again(site, alice, other, clients, action)
    before, name = read_generations(site), ACTIONS[action][1]
    recorded = len(read_events(site, name))
    assert read_report(alice, submit_form(alice, stale.form)) == CHANGED
    assert read_generations(site) == before
    assert len(read_events(site, name)) == recorded
    assert other.authorize(stale.client, prompt="none").code
    assert other.refresh(stale.client, stale.tokens["refresh_token"]).status == 200


@pytest.mark.parametrize("action", ACTIONS)
def test_page_that_follows_one_that_was_out_of_date_ends_everything(
    site: Site, alice: Browser, other: Browser, clients: list[Registered], action: str
) -> None:
    stale, (path, _, report) = end_and_start_again(site, alice, other, clients, action), ACTIONS[action]
    page = alice.follow(submit_form(alice, stale.form))
    assert page.url.startswith(path + "?")
    assert read_report(alice, submit_form(alice, read_button(page, action, stale.client))) == report
    answer = other.authorize(stale.client, prompt="none").answer
    assert answer["error"] == ("login_required" if action == "sign_out_others" else "consent_required")
    assert other.refresh(stale.client, stale.tokens["refresh_token"]).json["error"] == "invalid_grant"


def test_users_record_changed_during_an_ending_keeps_that_change(
    site: Site, alice: Browser, clients: list[Registered], wire: Wire
) -> None:
    form = read_form(alice.get("/account"), "revoke_all")
    user = site.read_user()
    renamed = replace(user, claims={"name": "Alice"})
    with wire.before("TransactWriteItems", lambda: site.server.store.users.put(renamed)):
        assert submit_form(alice, form).status == 303
    assert site.read_user() == replace(
        renamed, grants_generation=user.grants_generation + 1, consents_generation=user.consents_generation + 1
    )
    assert listed_names(alice) == []


# ---- forms that no page has shown


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("generation", [None, ""])
def test_form_without_a_generation_ends_what_there_is(
    site: Site, alice: Browser, other: Browser, clients: list[Registered], action: str, generation: str | None
) -> None:
    _, name, report = ACTIONS[action]
    before = read_generations(site)
    fields = {"client_id": clients[0].id} | ({} if generation is None else {"generation": generation})
    assert read_report(alice, submit_action(alice, action, **fields)) == report
    assert read_generations(site) != before
    assert len(read_events(site, name)) == 1


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "generation",
    ["x", "-1", "²", "٣", "1e3", "1.0", ".", "0.0.0", "7", "9" * 20, "9" * 39, "9" * 2048],
    ids=lambda generation: ascii(generation) if len(generation) < 10 else f"{len(generation)} digits",
)
def test_form_with_a_generation_that_no_page_has_shown_ends_nothing(
    site: Site, alice: Browser, other: Browser, clients: list[Registered], action: str, generation: str
) -> None:
    before = read_generations(site)
    answer = submit_action(alice, action, client_id=clients[0].id, generation=generation)
    assert read_report(alice, answer) == CHANGED
    assert read_generations(site) == before
    assert read_events(site, ACTIONS[action][1]) == []
    assert other.get("/account").status == 200


@pytest.mark.parametrize("client_id", ["unknown", "x" * 128, "account", "a b", "²"])
def test_removing_the_access_of_an_application_without_access_ends_nothing(
    site: Site, alice: Browser, client_id: str
) -> None:
    token = alice.tokens(site.client())["access_token"]
    assert submit_action(alice, "revoke", client_id=client_id).status == 303
    assert alice.userinfo(token).status == 200
    assert [consent for consent in site.server.store.consents.scan() if consent.client_id != client_id] == []


@pytest.mark.parametrize(
    ("case", "status"),
    [("bob's", 303), ("unknown", 303), ("only the sub", 303), ("empty", 400), ("too long", 400), ("NUL", 400)],
)
def test_session_that_is_not_the_users_is_not_signed_out(
    site: Site, alice: Browser, browsers: Browsers, case: str, status: int
) -> None:
    bob = browsers()
    site.user("bob")
    sign_in_to_account(bob, "bob")
    alices, bobs = (read_session(site, site.read_user(name)).session_id for name in ("alice", "bob"))
    values = {
        "bob's": bobs,
        "unknown": alices + "x",
        "only the sub": site.read_user().sub,
        "empty": "",
        "too long": alices + "x" * 512,
        "NUL": alices + "\0",
    }
    assert submit_action(alice, "sign_out", session=values[case]).status == status
    assert [session for session in site.server.store.sessions.scan() if session.ended_at is not None] == []
    assert read_events(site, events.SIGNED_OUT) == []
    assert [browser.get("/account").status for browser in (alice, bob)] == [200, 200]


def read_session(site: Site, user: User) -> Session:
    """Return the only session of a user."""
    (session,) = [session for session in site.server.store.sessions.scan() if session.sub == user.sub]
    return session


def test_session_signed_out_twice_ends_once(site: Site, alice: Browser, other: Browser) -> None:
    form = read_form(alice.get("/account/browsers"), "sign_out")
    assert submit_form(alice, form).status == 303
    (ended_at,) = [session.ended_at for session in site.server.store.sessions.scan() if session.ended_at]
    site.clock.advance(60)
    assert submit_form(alice, form).status == 303
    assert [session.ended_at for session in site.server.store.sessions.scan() if session.ended_at] == [ended_at]
    assert len(read_events(site, events.SIGNED_OUT)) == 1
    assert other.get("/account").status == 302


# ---- signing out all other browsers


def test_other_browsers_are_not_reported_as_signed_out_when_this_session_ends_in_between(
    site: Site, alice: Browser, other: Browser, browsers: Browsers, wire: Wire
) -> None:
    """That the session stays is proved in the same write."""
    form, tab = read_form(alice.get("/account/browsers"), "sign_out_others"), browsers(tab_of=alice)

    def sign_out() -> None:
        assert tab.send(tab.get("/oauth2/logout"), decision="sign_out").status == 200

    with wire.before("TransactWriteItems", sign_out):
        assert submit_form(alice, form).status == 400
    assert other.get("/account").status == 200
    (event,) = read_events(site, events.SIGNED_OUT)
    assert event.detail is None


def test_signing_in_again_while_all_others_are_signed_out_keeps_the_session(
    site: Site, alice: Browser, other: Browser, browsers: Browsers, wire: Wire
) -> None:
    form, tab = read_form(alice.get("/account/browsers"), "sign_out_others"), browsers(tab_of=alice)
    page = tab.authorize(site.client(trusted=True), prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.sign_in(page)):
        assert submit_form(alice, form).status == 303
    assert [browser.get("/account").status for browser in (tab, other)] == [200, 302]


def test_signing_out_all_others_keeps_the_grants_of_this_browser(site: Site, alice: Browser, other: Browser) -> None:
    client = site.client()
    own, ended, offline = alice.tokens(client), other.tokens(client), other.tokens(client, scope="offline_access")
    assert submit_form(alice, read_form(alice.get("/account/browsers"), "sign_out_others")).status == 303
    statuses = [alice.refresh(client, tokens["refresh_token"]).status for tokens in (own, ended, offline)]
    assert statuses == [200, 400, 200]
    assert "You are not signed in anywhere else." in visible_text(alice.get("/account/browsers"))


# ---- the password


@pytest.mark.parametrize("skipped", [0, 1], ids=["before the attempt", "before the change"])
def test_password_form_sent_twice_at_once_changes_the_password_once(
    site: Site, alice: Browser, other: Browser, browsers: Browsers, wire: Wire, skipped: int
) -> None:
    page, tab, user = alice.get("/account/password"), browsers(tab_of=alice), site.read_user()
    answers: list[Answer] = []

    def send_in_another_tab() -> None:
        answers.append(tab.send(page, None, action="change_password", **CHANGE))

    with wire.before("TransactWriteItems", send_in_another_tab, skip=skipped):
        alice.send(page, None, action="change_password", **CHANGE)
    assert answers[0].status == 303
    changed = site.read_user()
    generations = (user.sessions_generation + 1, user.grants_generation + 1)
    assert (changed.sessions_generation, changed.grants_generation) == generations
    assert [browser.get("/account").status for browser in (tab, other)] == [200, 302]
    other.cookies.clear()
    sign_in_to_account(other, password=NEW_PASSWORD)


def test_second_of_two_password_forms_continues_when_both_passwords_were_verified_before(
    site: Site, alice: Browser, browsers: Browsers, wire: Wire
) -> None:
    page, tab = alice.get("/account/password"), browsers(tab_of=alice)
    answers: list[Answer] = []

    def send_in_another_tab() -> None:
        answers.append(tab.send(page, None, action="change_password", **CHANGE))

    with wire.before("TransactWriteItems", send_in_another_tab, skip=1):
        answers.append(alice.send(page, None, action="change_password", **CHANGE))
    assert [answer.status for answer in answers] == [303, 303]
    assert [browser.get("/account").status for browser in (alice, tab)] == [200, 200]
    assert read_events(site, events.SIGN_IN_FAILED) == []


def test_second_of_two_password_forms_with_different_passwords_is_rejected(
    site: Site, alice: Browser, browsers: Browsers, wire: Wire
) -> None:
    page, tab = alice.get("/account/password"), browsers(tab_of=alice)
    different = CHANGE | {"new_password": "a third password", "new_password_again": "a third password"}
    site.secrets.add("a third password")

    def send_in_another_tab() -> None:
        assert tab.send(page, None, action="change_password", **CHANGE).status == 303

    with wire.before("TransactWriteItems", send_in_another_tab, skip=1):
        assert alice.send(page, None, action="change_password", **different).status == 400
    assert len(read_events(site, events.PASSWORD_CHANGED)) == 1
    alice.cookies.clear()
    sign_in_to_account(alice, password=NEW_PASSWORD)


# ---- the list of applications


def test_application_whose_access_was_removed_is_not_listed(site: Site, alice: Browser) -> None:
    """Its consent stays, without scope and claims."""
    client = site.client(client_name="Removed")
    alice.tokens(client, decision="allow_always", claims='{"userinfo": {"email": null}}')
    assert listed_names(alice) == ["Removed"]
    submit_form(alice, read_form(alice.get("/account"), "revoke"))
    (consent,) = site.server.store.consents.scan()
    assert (consent.generation, consent.scope, consent.claims) == (1, frozenset(), frozenset())
    assert listed_names(alice) == []
    assert "No application has access to your account." in visible_text(alice.get("/account"))


@pytest.mark.parametrize(
    ("members", "of_client"),
    [
        ({"consents_generation": 0}, {}),
        ({"registration_id": "another"}, {}),
        ({"registration_id": None}, {}),
        ({}, {"grants_generation": 1}),
    ],
    ids=["all removed", "registered again", "registered again after version 1", "grants of the client ended"],
)
def test_consent_that_no_longer_counts_is_not_listed(
    site: Site, alice: Browser, members: dict[str, Any], of_client: dict[str, Any]
) -> None:
    client = site.client(client_name="Remembered")
    remember_consent(site, client)
    assert listed_names(alice) == ["Remembered"]
    remember_consent(site, client, **members)
    update_client(site, client, **of_client)
    assert listed_names(alice) == []
    assert asks_for_consent(alice.authorize(client))


@pytest.mark.parametrize("scope", ["openid", "openid offline_access", "print"])
@pytest.mark.parametrize("ended", [1, MAX_BATCH // 2, MAX_BATCH])
def test_application_is_listed_by_an_active_grant_older_than_ended_ones(
    site: Site, alice: Browser, scope: str, ended: int
) -> None:
    client = site.client(client_name="Older", scope="openid offline_access print")
    tokens = alice.tokens(client, scope=scope)
    site.clock.advance(60)
    add_revoked_grants(site, ended)
    assert listed_names(alice) == ["Older"]
    credentials = basic(client.id, client.secret or "")
    assert alice.post("/oauth2/revoke", {"token": tokens["refresh_token"]}, credentials).status == 200
    assert listed_names(alice) == []


def add_revoked_grants(site: Site, number: int) -> None:
    """Add newer grants, which were revoked, to the only grant."""
    (grant,) = site.server.store.grants.scan()
    for each in range(number):
        revoked = replace(grant, grant_id=f"revoked-{each}", created_at=site.clock(), revoked_at=site.clock())
        site.server.store.grants.put(revoked)


@pytest.mark.parametrize("ended", [1, MAX_BATCH])
def test_direct_sign_in_is_listed_by_an_active_grant_older_than_ended_ones(
    site: Site, alice: Browser, browsers: Browsers, ended: int
) -> None:
    """Its grants have no stored session."""
    client, device = site.client(client_name="Command line", direct_sign_in=True, trusted=True), browsers()
    code = device.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD)).code
    assert device.redeem(client, code).status == 200
    site.clock.advance(60)
    add_revoked_grants(site, ended)
    assert listed_names(alice) == ["Command line"]


def test_access_that_cannot_be_listed_completely_can_be_removed(site: Site, alice: Browser) -> None:
    """With so many ended grants that not all are read, none of which is known to be active."""
    client = site.client(client_name="Unknown", scope="print")
    tokens = alice.tokens(client, scope="print")
    site.clock.advance(60)
    add_revoked_grants(site, ROUNDS * MAX_BATCH // 2)
    assert listed_names(alice) == ["Unknown"]
    submit_form(alice, read_form(alice.get("/account"), "revoke"))
    assert listed_names(alice) == []
    assert alice.refresh(client, tokens["refresh_token"]).status == 400


def test_more_applications_than_a_batch_has_room_for_are_all_listed(site: Site, alice: Browser) -> None:
    user, number = site.read_user(), MAX_BATCH + 10
    for each in range(number):
        client = site.client(client_name=f"Application {each:03}")
        if each % 2:
            remember_consent(site, client)
        else:
            insert_grant(site, client, user, redeemed_at=site.clock(), generation=1)
    pages = [alice.get("/account", page=each) for each in range(1, number // 20 + 2)]
    names = [name for page in pages for name in re.findall(r"<bdi>(Application \d\d\d)</bdi>", page.body)]
    assert sorted(names) == [f"Application {each:03}" for each in range(number)]
    assert f"Remove access for all {number} applications" in visible_text(pages[0])


@pytest.mark.parametrize(
    ("scopes", "text"),
    [
        (["openid"], "Its access ends when you sign out of the browser in which you allowed it."),
        (["print"], "Its access continues when you sign out, until 14 July 2027, 08:00 UTC at the latest."),
        (["openid offline_access", "openid"], "Its access continues when you sign out, until 14 July 2027, 08:00 UTC"),
        ([], "It has no access at the moment."),
    ],
)
def test_application_is_listed_with_the_end_of_its_access(
    site: Site, alice: Browser, scopes: list[str], text: str
) -> None:
    site.clock.time = 1_800_000_000
    sign_in_to_account(alice)
    client = site.client(scope="openid offline_access print")
    remember_consent(site, client)
    for scope in scopes:
        alice.tokens(client, scope=scope)
    assert text in visible_text(alice.get("/account"))


def test_access_by_direct_sign_in_is_listed_as_continuing_after_a_sign_out(
    site: Site, alice: Browser, browsers: Browsers
) -> None:
    """Its session is not stored, so that no browser can end it."""
    site.clock.time = 1_800_000_000
    sign_in_to_account(alice)
    client, device = site.client(direct_sign_in=True, trusted=True), browsers()
    tokens = device.redeem(client, device.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD)).code).json
    text = "Its access continues when you sign out, until 14 July 2027, 08:00 UTC at the latest."
    assert text in visible_text(alice.get("/account"))
    assert alice.send(alice.get("/oauth2/logout"), decision="sign_out").status == 200
    assert device.refresh(client, tokens["refresh_token"]).status == 200
