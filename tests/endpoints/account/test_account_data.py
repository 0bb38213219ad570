"""/account/data: a user downloads everything that is stored, except secrets."""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.next_step import RECENT_ELSEWHERE
from chalicelib.protocol.records import Consent, Event, Identifier, Session, User
from chalicelib.users import account_data
from tests.endpoints.account.conftest import read_events, visible_text
from tests.support.account import sign_in_to_account
from tests.support.browser import Answer, Browser
from tests.support.leaks import all_secrets, find_leaks
from tests.support.site import PASSWORD, Site

RECORDS: dict[str, type[Any]] = {
    "user": User,
    "identifier": Identifier,
    "consent": Consent,
    "session": Session,
    "grant": Grant,
    "event": Event,
}


def download(browser: Browser, page: Answer | None = None, **fields_: Any) -> Answer:
    return browser.send(page or browser.get("/account/data"), action="download", **fields_)


@pytest.mark.parametrize("kind", RECORDS)
def test_every_field_is_given_or_left_out_by_a_decision(kind: str) -> None:
    names = {field.name for field in fields(RECORDS[kind])}
    given, left_out = set(account_data.GIVEN[kind]), set(account_data.LEFT_OUT[kind])
    assert names <= given | left_out, "add new fields to GIVEN, or to LEFT_OUT if they are secret"
    assert given <= names
    assert not given & left_out


def test_file_has_everything_that_is_stored_about_the_user(site: Site, alice: Browser) -> None:
    site.user("bob")
    client = site.client(client_name="Photo Print")
    tokens = alice.tokens(client, scope="openid email offline_access", decision="allow_always")
    alice.refresh(client, tokens["refresh_token"])
    answer = download(alice)
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-disposition") == 'attachment; filename="account-data.json"'
    assert answer.header("cache-control") == "no-store"
    data, user = answer.json, site.read_user()
    assert (data["format"], data["version"], data["issuer"]) == ("signet-account-data", 1, site.settings.issuer)
    assert (data["user"]["sub"], data["user"]["username"]) == (user.sub, "alice")
    assert data["identifiers"] == [{"identifier": "username:alice"}]
    (consent,) = data["consents"]
    assert (consent["client_name"], consent["scope"]) == ("Photo Print", ["email", "offline_access", "openid"])
    (session,) = data["sessions"]
    assert (session["network"], session["amr"]) == ("127.0.0.*", ["pwd"])
    (grant,) = data["grants"]
    assert (grant["client_name"], grant["redirect_uri"]) == ("Photo Print", "https://client.example.com/cb")
    assert len(grant["rotated_at"]) == 1
    assert grant["created_at"].endswith("Z")
    assert [event.get("text") for event in data["activity"]] == ["Data downloaded", "Access allowed", "Signed in"]
    assert "bob" not in answer.body
    assert data["truncated"] == []


def test_file_has_no_secret(site: Site, alice: Browser) -> None:
    tokens = alice.tokens(site.client(), scope="openid offline_access")
    answer = download(alice)
    user = site.read_user()
    assert tokens["refresh_token"] not in answer.body
    assert user.password_hash not in answer.body
    assert not find_leaks(answer.body, all_secrets(site.secrets))
    (session,) = site.server.store.sessions.scan()
    assert session.session_id not in answer.body
    for number in (user.sessions_generation, user.grants_generation, user.password_generation):
        assert str(number) not in answer.body


def test_a_recent_sign_in_needs_no_password_and_an_older_one_does(site: Site, alice: Browser) -> None:
    site.clock.advance(RECENT_ELSEWHERE - 1)
    assert "password" not in alice.get("/account/data").form.fields
    assert download(alice).status == 200
    site.clock.advance(1)
    page = alice.get("/account/data")
    assert "password" in page.form.fields
    for password in ("", "wrong password"):
        refused = download(alice, page, password=password)
        assert refused.status == 400
        assert "This is not your password." in visible_text(refused)
        assert "identifiers" not in refused.body
    assert download(alice, page, password=PASSWORD).json["user"]["username"] == "alice"
    assert len(read_events(site, events.DATA_DOWNLOADED)) == 2
    assert len(read_events(site, events.SIGN_IN_FAILED)) == 2


def test_too_many_wrong_passwords_are_throttled(site: Site, alice: Browser) -> None:
    site.clock.advance(RECENT_ELSEWHERE)
    page = alice.get("/account/data")
    statuses = {download(alice, page, password="wrong password").status for _ in range(12)}
    assert statuses == {400, 429}
    answer = download(alice, page, password=PASSWORD)
    assert answer.status == 429
    assert answer.header("retry-after")


def test_long_lists_are_truncated_and_the_file_says_so(
    alice: Browser, browsers: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        sign_in_to_account(browsers())
    monkeypatch.setattr(account_data, "MOST_RECORDS", 2)
    data = download(alice).json
    assert data["truncated"] == ["sessions", "activity"]
    assert [len(data[name]) for name in ("sessions", "activity")] == [2, 2]


def test_get_gives_no_data(site: Site, alice: Browser) -> None:
    assert "application/json" not in (alice.get("/account/data").header("content-type") or "")
    tag = alice.get("/account/data").form.fields["tag"]
    for form in ({}, {"tag": "x", "action": "download"}, {"tag": tag, "action": "else"}):
        answer = alice.post("/account/data", form, {"Sec-Fetch-Site": "same-origin"})
        assert (answer.status, "identifiers" in answer.body) == (400, False)
    signed_out = Browser(site)
    assert signed_out.post("/account/data", {"tag": tag, "action": "download"}).status == 303
    assert "username" not in json.dumps(signed_out.get("/account/data").headers)
    signed_out.close()


def test_names_by_which_the_user_signs_in_include_a_verified_address(site: Site, browsers: Any) -> None:
    site.user("bob", claims={"email": "Bob@Example.com", "email_verified": True})
    site.user("carol", claims={"email": "carol@example.com"})
    for name, keys in (("bob", ["username:bob", "email:bob@example.com"]), ("carol", ["username:carol"])):
        browser = browsers(site)
        sign_in_to_account(browser, name)
        data = download(browser, browser.get("/account/data")).json
        assert [each["identifier"] for each in data["identifiers"]] == keys


def test_address_that_belongs_to_another_user_now_is_not_listed(site: Site, browsers: Any) -> None:
    site.user("bob", claims={"email": "bob@example.com", "email_verified": True})
    site.server.store.identifiers.put(Identifier("email:bob@example.com", "another"))
    browser = browsers(site)
    sign_in_to_account(browser, "bob")
    data = download(browser, browser.get("/account/data")).json
    assert data["identifiers"] == [{"identifier": "username:bob"}]
