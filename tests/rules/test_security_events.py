"""Security events: one log record each, with documented fields and no secrets."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalicelib import events
from chalicelib.events import log as event_log
from tests.support.account import submit_action
from tests.support.browser import Browser, basic
from tests.support.leaks import all_secrets, find_leaks
from tests.support.site import PASSWORD, Registered, Site

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operate.md").read_text("utf-8")
NEW_PASSWORD = "quite another password"
# Events of the operator's command are stored in the table `events` only: the command has no log.
COMMAND_EVENTS = {events.CLIENT_CHANGED, events.USER_CHANGED, events.RESOURCE_CHANGED}
Records = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Records:
    """Return the event records in the log since the last call."""

    def read() -> list[dict[str, Any]]:
        parsed = [json.loads(record.getMessage()) for record in caplog.records if record.name == event_log.log.name]
        caplog.clear()
        return [record for record in parsed if "event" in record]

    caplog.set_level("INFO", event_log.log.name)
    return read


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    site.secrets.add(NEW_PASSWORD)
    grant_types = ("authorization_code", "refresh_token", "client_credentials")
    return site.client(grant_types=grant_types, scope="openid offline_access photos")


# ---- actions, when alice is signed in and the client has tokens for her


def fail_sign_in(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.sign_in(browser.authorize(client, prompt="login"), password="wrong password")


def exceed_attempts(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    page = browser.authorize(client, prompt="login")
    for number in range(20):
        browser.send(page, username="alice", password=f"wrong {number}")


def use_a_let_in_link(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    [alice] = site.server.store.users.scan()
    browser.submit(browser.request("GET", site.let_in_link(alice)))


def sign_in(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.sign_in(browser.authorize(client, prompt="login"))


def allow(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.submit(browser.authorize(client), decision="allow_once")


def deny(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.submit(browser.authorize(client), decision="deny")


def redeem_code(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.tokens(client)


def refresh(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.refresh(client, tokens["refresh_token"])


def replay_code(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    code = browser.code(client)
    browser.redeem(client, code)
    browser.redeem(client, code)


def get_client_token(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    assert browser.token(client, grant_type="client_credentials").status == 200


def revoke_token(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.post("/oauth2/revoke", {"token": tokens["refresh_token"]}, basic(client.id, client.secret or ""))


def revoke_access(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    submit_action(browser, "revoke", client_id=client.id)


def change_password(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    form = {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    assert submit_action(browser, "change_password", **form).status == 303


def sign_out(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    site.secrets.add(tokens["id_token"])
    browser.get("/oauth2/logout", id_token_hint=tokens["id_token"])


ACTIONS = {
    events.SIGN_IN: sign_in,
    events.SIGN_IN_FAILED: fail_sign_in,
    events.SIGN_IN_THROTTLED: exceed_attempts,
    events.BROWSER_LET_IN: use_a_let_in_link,
    events.PASSWORD_CHANGED: change_password,
    events.CONSENT_GIVEN: allow,
    events.CONSENT_DENIED: deny,
    events.CODE_ISSUED: allow,
    events.CODE_REDEEMED: redeem_code,
    events.TOKEN_REFRESHED: refresh,
    events.TOKEN_ISSUED: get_client_token,
    events.REUSE_DETECTED: replay_code,
    events.TOKEN_REVOKED: revoke_token,
    events.ACCESS_REVOKED: revoke_access,
    events.SIGNED_OUT: sign_out,
}
# Tested with what causes them: tests/endpoints/logout/test_backchannel_logout.py, and in tests/rules test_schedules.py,
# test_throttle.py and test_sign_in_addresses.py
TESTED_ELSEWHERE = {events.LOGOUT_DELIVERED, events.LOGOUT_UNDELIVERED, events.KEYS_ROTATED, events.KEYS_RETIRED}
# tests/endpoints/register/test_registration.py
TESTED_ELSEWHERE |= {events.CLIENT_REGISTERED, events.CLIENT_UPDATED, events.CLIENT_DELETED}
# tests/endpoints/client_documents/test_client_documents.py
TESTED_ELSEWHERE |= {events.CLIENT_DOCUMENT_CHANGED}
TESTED_ELSEWHERE |= {events.SIGN_IN_LIMIT_REACHED, events.SIGN_INS_FROM_ONE_ADDRESS}


@pytest.mark.parametrize("name", ACTIONS)
def test_event_is_logged_with_its_documented_fields(
    site: Site, browser: Browser, client: Registered, records: Records, name: str
) -> None:
    tokens = browser.tokens(client, scope="openid")
    records()
    ACTIONS[name](site, browser, client, tokens)
    logged = [record for record in records() if record["event"] == name]
    assert logged, name
    fields = documented_fields()
    [alice] = site.server.store.users.scan()
    for record in logged:
        assert record.keys() <= fields, record
        assert record["level"] == "INFO"
        assert record["request_id"]
        assert record["source_ip"] == "127.0.0.1"
        assert record["sub"] == (client.id if name == events.TOKEN_ISSUED else alice.sub)
        assert not find_leaks(json.dumps(record), all_secrets(site.secrets))


def test_failed_sign_in_with_an_unknown_username_has_no_sub(
    site: Site, browser: Browser, client: Registered, records: Records
) -> None:
    browser.sign_in(browser.authorize(client), username="unknown user")
    [record] = records()
    assert record["event"] == events.SIGN_IN_FAILED
    assert "sub" not in record
    assert "unknown user" not in json.dumps(record)


def test_every_event_is_tested() -> None:
    assert ACTIONS.keys() | TESTED_ELSEWHERE | COMMAND_EVENTS == events.EVENTS.keys()


def test_document_lists_every_event_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+?) \|$", DOCUMENT, re.MULTILINE))
    assert {name: rows.get(name) for name in events.EVENTS} == events.EVENTS


def documented_fields() -> set[str]:
    sentence = re.search(r"A record of an event has (.+?)\.\s", DOCUMENT, re.DOTALL)
    assert sentence
    return set(re.findall(r"`([a-z_]+)`", sentence[1]))
