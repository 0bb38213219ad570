"""/account/delete and /account/restore: users delete their account, and can restore it for some days."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.records import User
from chalicelib.sessions.browser_sessions import start_session
from chalicelib.users import accounts, deletion, restoration
from tests.endpoints.account.conftest import read_events, visible_text
from tests.endpoints.authorize.conftest import asks_for_consent
from tests.support.account import is_signed_in, open_sign_in, sign_in_to_account
from tests.support.browser import Answer, Browser, basic
from tests.support.faults import Wire, unreachable
from tests.support.operator import RunCommand, output_json
from tests.support.site import PASSWORD, Site

GRACE = 14 * DAY


def delete(browser: Browser, page: Answer | None = None, password: str = PASSWORD) -> Answer:
    return browser.send(page or browser.get("/account/delete"), action="delete", password=password)


def sign_in(browser: Browser, password: str = PASSWORD) -> Answer:
    return browser.submit(open_sign_in(browser), username="alice", password=password)


def records_about(site: Site, sub: str) -> list[str]:
    store = site.server.store
    names = [table.name for table in store.tables for record in table.scan() if sub in str(record)]
    return sorted(name.rpartition("-")[2] for name in names)


@pytest.fixture
def deleted(site: Site, alice: Browser) -> User:
    """Return alice, who has deleted her account, and is no longer signed in."""
    assert delete(alice).status == 303
    alice.cookies.clear()
    return site.read_user()


# ---- the story


def test_deleted_account_is_restored_by_signing_in_and_goes_on_with_the_request(
    site: Site, alice: Browser, browsers: Callable[..., Browser]
) -> None:
    client, other = site.client(), browsers()
    tokens = alice.tokens(client, scope="openid offline_access", decision="allow_always")
    sign_in_to_account(other)
    page = alice.get("/account/delete")
    assert "Your account is deleted" in visible_text(alice.follow(delete(alice, page)))
    # Access has ended everywhere at once.
    assert alice.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert alice.userinfo(tokens["access_token"]).status == 401
    assert not is_signed_in(alice)
    assert not is_signed_in(other)
    # Another browser, days later: signing in leads to one page only.
    site.clock.advance(13 * DAY)
    page = other.submit(other.authorize(client), username="alice", password=PASSWORD)
    assert page.status == 200
    assert "Your account is deleted" in visible_text(page)
    assert not is_signed_in(other)
    # Opening the page changes nothing.
    assert site.read_user().deleted_at
    answer = other.send(page)
    assert answer.status == 303
    restored = other.follow(answer)
    assert "Your account is restored" in visible_text(restored)
    assert site.read_user().deleted_at is None
    (sign_in_again,) = re.findall(r'class="button" href="([^"]+)"', restored.body)
    page = other.get(sign_in_again.replace("&amp;", "&"))
    assert other.submit(page, username="alice", password=PASSWORD).code, "the consent is still remembered"
    assert other.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    names = [event.name for event in sorted(read_all_events(site), key=lambda event: event.event_id)]
    assert [name for name in names if name.startswith("account")] == ["account_deleted", "account_restored"]


def read_all_events(site: Site) -> list[Any]:
    return list(site.server.store.events.find("sub", site.read_user().sub))


def test_account_is_restored_at_once_in_the_browser_that_has_deleted_it(site: Site, alice: Browser) -> None:
    page = alice.follow(delete(alice))
    assert "Your account is restored" in visible_text(alice.submit(page))
    assert sign_in_to_account(alice).status == 200


def test_deletion_is_one_write_on_the_user_and_the_clients_are_told(site: Site, alice: Browser, wire: Wire) -> None:
    before, page = site.read_user(), alice.get("/account/delete")
    with wire.counted() as calls:
        delete(alice, page)
    assert calls.count("TransactWriteItems") == 2, "the attempt is counted, then everything is one transaction"
    user, now = site.read_user(), site.clock()
    assert user == replace(
        before,
        deleted_at=now,
        deletion_due_at=now + GRACE,
        sessions_generation=before.sessions_generation + 1,
        grants_generation=before.grants_generation + 1,
    )
    ended = [delivery for delivery in site.server.store.deliveries.scan() if delivery.outbox == "outbox"]
    assert [delivery.sessions_below for delivery in ended] == [user.sessions_generation]
    assert [(each.sub, each.not_before) for each in deletions(site)] == [(user.sub, now + GRACE)]


def deletions(site: Site) -> list[Any]:
    return list(site.server.store.deletions.find("outbox", "deletions", index="due"))


# ---- the confirmation


@pytest.mark.parametrize("password", ["", "wrong password"])
def test_wrong_password_deletes_nothing_and_counts_as_a_failure(site: Site, alice: Browser, password: str) -> None:
    page = delete(alice, password=password)
    assert page.status == 400
    assert "This is not your password." in visible_text(page)
    assert site.read_user().deleted_at is None
    assert len(read_events(site, events.SIGN_IN_FAILED)) == 1
    assert is_signed_in(alice)


def test_too_many_wrong_passwords_are_throttled(site: Site, alice: Browser) -> None:
    page = alice.get("/account/delete")
    statuses = {delete(alice, page, "wrong password").status for _ in range(12)}
    assert statuses == {400, 429}
    assert delete(alice, page).status == 429
    assert site.read_user().deleted_at is None


def test_form_that_no_page_has_shown_deletes_nothing(site: Site, alice: Browser) -> None:
    tag = alice.get("/account/delete").form.fields["tag"]
    good: dict[str, Any] = {"tag": tag, "action": "delete", "password": PASSWORD}
    for form, site_header in (
        ({**good, "tag": "x"}, "same-origin"),
        ({**good, "action": "else"}, "same-origin"),
        (good, "cross-site"),
    ):
        assert alice.post("/account/delete", form, {"Sec-Fetch-Site": site_header}).status == 400
    assert alice.get("/account/delete", **good).status == 200
    assert site.read_user().deleted_at is None


def test_button_that_is_pressed_twice_gets_the_same_page(site: Site, alice: Browser) -> None:
    page, cookies = alice.get("/account/delete"), dict(alice.cookies)
    first = delete(alice, page)
    alice.cookies = cookies
    again = delete(alice, page)
    assert (again.status, again.location) == (first.status, first.location)
    assert len(read_events(site, events.ACCOUNT_DELETED)) == 1
    assert "signet-restore" not in alice.cookies, "the second copy has proved nothing"
    assert len(deletions(site)) == 1


def test_copy_of_the_form_that_comes_in_between_deletes_once(
    site: Site, alice: Browser, browsers: Callable[..., Browser], wire: Wire
) -> None:
    page, tab = alice.get("/account/delete"), browsers(tab_of=alice)
    with wire.before("TransactWriteItems", partial(delete, tab, page), skip=1):
        answer = delete(alice, page)
    assert answer.location == "/account/restore"
    assert len(deletions(site)) == 1
    assert [event.name for event in read_all_events(site)].count(events.ACCOUNT_DELETED) == 1
    assert read_events(site, events.SIGN_IN_FAILED) == []


# ---- while the account is deleted


def test_wrong_password_tells_nothing_about_a_deleted_account(site: Site, deleted: User, browser: Browser) -> None:
    page = sign_in(browser, "wrong password")
    assert "The username or the password is not right." in visible_text(page)
    assert "delete" not in visible_text(page)


def test_username_stays_reserved(site: Site, deleted: User) -> None:
    with pytest.raises(ValueError, match="is taken"):
        site.user("alice")


def test_prompt_none_and_http_basic_give_no_code(site: Site, deleted: User, browser: Browser) -> None:
    client = site.client(direct_sign_in=True, trusted=True)
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    refused = browser.authorize(client, "/oauth2/code", prompt="none", headers=basic("alice", PASSWORD))
    assert refused.answer["error"] == "login_required"
    page = browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))
    assert page.status == 200
    page = browser.submit(page, password=PASSWORD)
    assert "Restore my account" in page.body
    assert list(site.server.store.grants.scan()) == []


def test_no_session_starts_for_a_deleted_user(site: Site, deleted: User) -> None:
    request: Any = type("Http", (), {"answer_headers": [], "source_ip": "", "header": lambda *_: None})()
    with pytest.raises(AccessDenied):
        start_session(site.server, request, deleted, "r")
    assert list(site.server.store.sessions.scan()) != []


def test_offer_is_valid_for_ten_minutes_and_for_one_deletion(site: Site, deleted: User, browser: Browser) -> None:
    page, first = sign_in(browser), dict(browser.cookies)
    site.clock.advance(restoration.LIFETIME)
    browser.submit(page)
    assert site.read_user().deleted_at, "the offer has expired"
    page = sign_in(browser)
    assert browser.submit(page).status == 200
    assert site.read_user().deleted_at is None
    sign_in(browser)
    delete(browser)
    browser.cookies = first
    browser.send(page)
    assert site.read_user().deleted_at, "it is another deletion"


def test_form_without_the_offer_or_of_another_one_restores_nothing(
    site: Site, deleted: User, browser: Browser, browsers: Callable[..., Browser]
) -> None:
    page, other = sign_in(browser), browsers()
    tag = page.form.fields["tag"]
    other_page = sign_in(other)
    assert other.post("/account/restore", {"tag": tag}, {"Sec-Fetch-Site": "same-origin"}).status == 303
    assert other.post("/account/restore", {}, {"Sec-Fetch-Site": "same-origin"}).status == 303
    browser.cookies["signet-restore"] = other.cookies["signet-restore"][:-2] + "AA"
    browser.post("/account/restore", {"tag": other_page.form.fields["tag"]}, {"Sec-Fetch-Site": "same-origin"})
    forged = other.post("/account/restore", other_page.form.fields, {"Sec-Fetch-Site": "cross-site"})
    assert forged.status == 400
    assert site.read_user().deleted_at


def test_page_of_another_site_cannot_make_it_say_that_something_was_restored(site: Site, browser: Browser) -> None:
    text = "Your account is restored"
    assert text not in browser.get("/account/restore", done="restored", headers={"Sec-Fetch-Site": "cross-site"}).body
    assert text in browser.get("/account/restore", done="restored", headers={"Sec-Fetch-Site": "same-origin"}).body


def test_restoring_twice_is_restoring_once(site: Site, deleted: User, browser: Browser) -> None:
    page, cookies = sign_in(browser), dict(browser.cookies)
    browser.send(page)
    browser.cookies = cookies
    assert "Your account is restored" in browser.follow(browser.send(page)).body
    assert len(read_events(site, events.ACCOUNT_RESTORED)) == 1


# ---- the end


def test_schedule_removes_the_account_with_all_records_when_it_is_due(
    site: Site, alice: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    alice.tokens(site.client(), decision="allow_always")
    delete(alice)
    user = site.read_user()
    site.clock.advance(GRACE - 1)
    site.run("remove_accounts")
    assert site.read_user() == user
    site.clock.advance(1)
    with caplog.at_level("INFO", "signet"):
        site.run("remove_accounts")
    about = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    assert [line["sub"] for line in about if line.get("event") == events.ACCOUNT_REMOVED] == [user.sub]
    assert [name for name in records_about(site, user.sub) if name != "deliveries"] == []
    assert deletions(site) == []
    assert site.user("alice").sub != user.sub, "the username is free"


def test_password_is_not_accepted_once_the_account_is_due(site: Site, deleted: User, browser: Browser) -> None:
    page = sign_in(browser)
    site.clock.advance(GRACE)
    assert "The username or the password is not right." in visible_text(sign_in(browser))
    browser.send(page)
    with pytest.raises(AccessDenied):
        deletion.restore(site.server.store, deleted.sub)
    assert site.read_user() == deleted


def test_schedule_keeps_what_was_restored_or_deleted_again(site: Site, deleted: User) -> None:
    store = site.server.store
    deletion.restore(store, deleted.sub)
    site.clock.advance(GRACE - HOUR)
    again = replace(site.read_user(), deleted_at=site.clock(), deletion_due_at=site.clock() + GRACE)
    store.users.put(again)
    store.transact(deletion.schedule(store, again))
    site.clock.advance(HOUR)
    site.run("remove_accounts")
    assert site.read_user() == again
    assert [each.created_at for each in deletions(site)] == [again.deleted_at]


def test_interrupted_removal_is_completed_by_the_next_run(site: Site, alice: Browser, wire: Wire) -> None:
    alice.tokens(site.client(), decision="allow_always")
    delete(alice)
    user, number = site.read_user(), 0
    site.clock.advance(GRACE + MINUTE)
    with wire.counted() as calls:
        site.run("remove_accounts")
    total = len(calls)
    assert total > 5
    # Again, interrupted at each call; the world is the same except that the user is another one.
    for number in range(total):
        site.reset()
        site.user("alice")
        alice.cookies.clear()
        sign_in_to_account(alice)
        alice.tokens(site.client(), decision="allow_always")
        delete(alice)
        user = site.read_user()
        site.clock.advance(GRACE + MINUTE)
        site.server.keys.jwks()
        with wire.fault(number, unreachable):
            site.run("remove_accounts")
        site.run("remove_accounts")
        assert [name for name in records_about(site, user.sub) if name != "deliveries"] == [], number
        assert deletions(site) == []


def test_without_days_of_grace_the_account_is_removed_at_once(site_with: Callable[..., Site]) -> None:
    site = site_with(deletion_grace_days=0)
    user = site.user("alice")
    browser = Browser(site)
    sign_in_to_account(browser)
    assert "This cannot be undone." in visible_text(browser.get("/account/delete"))
    page = browser.follow(delete(browser))
    assert "Restore" not in page.body
    assert list(site.server.store.users.scan()) == []
    assert list(site.server.store.identifiers.scan()) == []
    site.run("remove_accounts")
    assert [name for name in records_about(site, user.sub) if name != "deliveries"] == []
    assert site.user("alice")
    browser.close()


# ---- the operator


def test_operator_sees_and_restores_a_deleted_account(site: Site, deleted: User, run_command: RunCommand) -> None:
    shown = output_json(run_command("user", "show", "alice", "--json"))
    assert (shown["deleted_at"], shown["deletion_due_at"]) == (deleted.deleted_at, deleted.deletion_due_at)
    assert "deleted by the user" in run_command("user", "list").out
    assert "deleted_at" not in output_json(run_command("user", "restore", "alice", "--json"))
    assert site.read_user() == replace(deleted, deleted_at=None, deletion_due_at=None)
    assert output_json(run_command("user", "restore", "alice", "--json"))["username"] == "alice"
    assert [event.detail for event in read_events(site, events.USER_CHANGED)] == ["restored"]


def test_operator_cannot_restore_what_is_due(site: Site, deleted: User, run_command: RunCommand) -> None:
    site.server.store.users.put(replace(deleted, deletion_due_at=1))
    printed = run_command("user", "restore", "alice")
    assert (printed.code, printed.out) == (2, "")
    assert "alice cannot be restored: This account no longer exists." in printed.err


def test_operator_deletes_a_deleted_account_at_once(site: Site, deleted: User) -> None:
    accounts.delete(site.server.store, deleted)
    site.clock.advance(GRACE)
    site.run("remove_accounts")
    assert deletions(site) == []
    assert list(site.server.store.users.scan()) == []


def test_export_and_import_keep_the_deletion_and_its_time(
    site: Site, deleted: User, run_command: RunCommand, tmp_path: Any
) -> None:
    file = tmp_path / "export.jsonl"
    run_command("export", "--with-password-hashes", "--out", file)
    site.reset()
    assert run_command("import", file).code == 0
    imported = site.read_user()
    assert (imported.deleted_at, imported.deletion_due_at) == (deleted.deleted_at, deleted.deletion_due_at)
    assert run_command("import", file).code == 0, "existing records are skipped"
    site.clock.advance(GRACE + MINUTE)
    site.run("remove_accounts")
    assert list(site.server.store.users.scan()) == []


def test_restoring_a_disabled_user_does_not_enable_it(site: Site, deleted: User, browser: Browser) -> None:
    accounts.disable(site.server.store, deleted)
    assert "The username or the password is not right." in visible_text(sign_in(browser))
    deletion.restore(site.server.store, deleted.sub)
    assert site.read_user().disabled_at
    assert not asks_for_consent(sign_in(browser))
