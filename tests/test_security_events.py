"""Security events: each is a record of its own in the log, with documented fields, and nothing secret in it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalicelib import audit
from tests.browser import Answer, Browser, basic
from tests.leaks import all_secrets, leaks
from tests.site import PASSWORD, Registered, Site

DOCUMENT = (Path(__file__).parent.parent / "docs" / "operate.md").read_text("utf-8")
NEW_PASSWORD = "quite another password"
# What the operator's command does is kept in the table `events`: it has no log.
BY_COMMAND = {audit.CLIENT_CHANGED, audit.USER_CHANGED}
Records = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Records:
    """The records of events since it was last asked."""

    def since() -> list[dict[str, Any]]:
        found = [json.loads(record.getMessage()) for record in caplog.records if record.name == audit.log.name]
        caplog.clear()
        return [record for record in found if "event" in record]

    caplog.set_level("INFO", audit.log.name)
    return since


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    site.secrets.add(NEW_PASSWORD)
    grant_types = ("authorization_code", "refresh_token", "client_credentials")
    return site.client(grant_types=grant_types, scope="openid offline_access photos")


def account(browser: Browser, action: str, **fields: str) -> Answer:
    page = browser.get("/account/password")
    form = {"tag": page.form.fields["tag"], "action": action, **fields}
    return browser.post("/account", form, {"Sec-Fetch-Site": "same-origin"})


# ---- what is done, when alice is signed in and the client has tokens of hers


def a_wrong_password(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.sign_in(browser.authorize(client, prompt="login"), password="wrong password")


def too_many(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    page = browser.authorize(client, prompt="login")
    for number in range(20):
        browser.send(page, username="alice", password=f"wrong {number}")


def a_sign_in(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.sign_in(browser.authorize(client, prompt="login"))


def consent(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.submit(browser.authorize(client), decision="allow_once")


def denial(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.submit(browser.authorize(client), decision="deny")


def an_exchange(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.tokens(client)


def a_refresh(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.refresh(client, tokens["refresh_token"])


def a_replay(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    code = browser.code(client)
    browser.redeem(client, code)
    browser.redeem(client, code)


def its_own_token(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    assert browser.token(client, grant_type="client_credentials").status == 200


def revocation(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.post("/oauth2/revoke", {"token": tokens["refresh_token"]}, basic(client.id, client.secret or ""))


def access_taken_away(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    account(browser, "revoke", client_id=client.id)


def a_new_password(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    form = {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    assert account(browser, "change_password", **form).status == 303


def a_sign_out(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    site.secrets.add(tokens["id_token"])
    browser.get("/oauth2/logout", id_token_hint=tokens["id_token"])


DEEDS = {
    audit.SIGN_IN: a_sign_in,
    audit.SIGN_IN_FAILED: a_wrong_password,
    audit.SIGN_IN_THROTTLED: too_many,
    audit.PASSWORD_CHANGED: a_new_password,
    audit.CONSENT_GIVEN: consent,
    audit.CONSENT_DENIED: denial,
    audit.CODE_ISSUED: consent,
    audit.CODE_REDEEMED: an_exchange,
    audit.TOKEN_REFRESHED: a_refresh,
    audit.TOKEN_ISSUED: its_own_token,
    audit.REUSE_DETECTED: a_replay,
    audit.TOKEN_REVOKED: revocation,
    audit.ACCESS_REVOKED: access_taken_away,
    audit.SIGNED_OUT: a_sign_out,
}
# Shown where they happen: tests/test_deliveries.py, tests/test_schedules.py
ELSEWHERE = {audit.LOGOUT_DELIVERED, audit.LOGOUT_UNDELIVERED, audit.KEYS_ROTATED, audit.KEYS_RETIRED}


@pytest.mark.parametrize("name", DEEDS)
def test_what_is_done_is_a_record_with_its_documented_fields(
    site: Site, browser: Browser, client: Registered, records: Records, name: str
) -> None:
    tokens = browser.tokens(client, scope="openid")
    records()
    DEEDS[name](site, browser, client, tokens)
    found = [record for record in records() if record["event"] == name]
    assert found, name
    fields = documented_fields()
    [alice] = site.server.store.users.scan()
    for record in found:
        assert record.keys() <= fields, record
        assert record["level"] == "INFO"
        assert record["request_id"]
        assert record["source_ip"] == "127.0.0.1"
        assert record["sub"] == (client.id if name == audit.TOKEN_ISSUED else alice.sub)
        assert not leaks(json.dumps(record), all_secrets(site.secrets))


def test_an_unknown_name_has_no_sub(site: Site, browser: Browser, client: Registered, records: Records) -> None:
    browser.sign_in(browser.authorize(client), username="nobody here")
    [record] = records()
    assert record["event"] == audit.SIGN_IN_FAILED
    assert "sub" not in record
    assert "nobody here" not in json.dumps(record)


def test_every_event_is_shown_here_or_where_it_happens() -> None:
    assert DEEDS.keys() | ELSEWHERE | BY_COMMAND == audit.EVENTS.keys()


def test_the_document_lists_every_event_and_what_it_means() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+?) \|$", DOCUMENT, re.MULTILINE))
    assert {name: rows.get(name) for name in audit.EVENTS} == audit.EVENTS


def documented_fields() -> set[str]:
    sentence = re.search(r"A record of an event has (.+?)\.\s", DOCUMENT, re.DOTALL)
    assert sentence
    return set(re.findall(r"`([a-z_]+)`", sentence[1]))
