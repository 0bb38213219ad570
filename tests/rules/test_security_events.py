"""Security events: one log record each, with documented fields and no secrets."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chalicelib import events
from chalicelib.authentication.second_factor import ATTEMPTS
from chalicelib.events import log as event_log
from chalicelib.protocol.durations import MINUTE
from tests.support.account import submit_action
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.leaks import all_secrets, find_leaks
from tests.support.second_factor import REFEDS, Authenticator, add_second_factor
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


def set_up_second_factor(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    page = browser.get("/account/second-factor", set_up="yes")
    match = re.search(r'id="secret">([A-Z2-7 ]+)<', page.body)
    assert match
    form = {**page.form.fields, "one_time_code": Authenticator.of_text(site, match[1]).code()}
    for fields in ({"action": "first_code"}, {"action": "turn_on", "saved": "yes"}):
        browser.post("/account/second-factor", form | fields, {"Sec-Fetch-Site": "same-origin"})


def enter_code(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any], *, step_up: bool) -> None:
    phone = add_second_factor(site)
    parameters = {"acr_values": REFEDS} if step_up else {"prompt": "login"}

    def ask_for_code() -> Answer:
        page = browser.get("/oauth2/authorize", **authorization_parameters(client, **parameters))
        return page if step_up else browser.sign_in(page)

    page = ask_for_code()
    for _ in range(ATTEMPTS + 1):
        page = browser.submit(page, one_time_code="000000")
    site.clock.advance(15 * MINUTE)
    page = ask_for_code()
    if step_up:
        browser.submit(page, one_time_code=phone.code())
    else:
        browser.submit(page, one_time_code="", recovery_code=phone.recovery_codes[0])


def use_second_factor(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any], *, action: str) -> None:
    phone = add_second_factor(site)
    browser.submit(browser.authorize(client, acr_values=REFEDS), one_time_code=phone.code())
    page = browser.get("/account/second-factor")
    form = {"tag": page.form.fields["tag"], "action": action, "one_time_code": phone.code(1)}
    answer = browser.post("/account/second-factor", form, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 303, answer.body
    site.secrets.update(re.findall(r"[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{2}", browser.follow(answer).body))


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


def change_profile(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    assert browser.submit(browser.get("/account/profile"), action="change_profile", name="Alice").status == 200


def download_data(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    assert browser.send(browser.get("/account/data"), action="download").status == 200


def delete_account(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> Answer:
    return browser.submit(browser.get("/account/delete"), action="delete", password=PASSWORD)


def restore_account(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    browser.submit(delete_account(site, browser, client, tokens))


ACTIONS: dict[str, Callable[..., object]] = {
    events.PROFILE_CHANGED: change_profile,
    events.DATA_DOWNLOADED: download_data,
    events.ACCOUNT_DELETED: delete_account,
    events.ACCOUNT_RESTORED: restore_account,
    events.SIGN_IN: sign_in,
    events.SIGN_IN_FAILED: fail_sign_in,
    events.SIGN_IN_THROTTLED: exceed_attempts,
    events.SECOND_FACTOR_ASKED: partial(enter_code, step_up=False),
    events.SECOND_FACTOR_FAILED: partial(enter_code, step_up=False),
    events.SECOND_FACTOR_THROTTLED: partial(enter_code, step_up=False),
    events.RECOVERY_CODE_USED: partial(enter_code, step_up=False),
    events.SECOND_FACTOR_PROVED: partial(enter_code, step_up=True),
    events.SECOND_FACTOR_ADDED: set_up_second_factor,
    events.SECOND_FACTOR_REMOVED: partial(use_second_factor, action="turn_off"),
    events.RECOVERY_CODES_CREATED: partial(use_second_factor, action="new_codes"),
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
# tests/endpoints/account/test_account_deletion.py
TESTED_ELSEWHERE |= {events.ACCOUNT_REMOVED}
# tests/endpoints/passkeys
TESTED_ELSEWHERE |= {events.PASSKEY_ADDED, events.PASSKEY_RENAMED, events.PASSKEY_REMOVED, events.PASSKEY_COUNTER}
# tests/mail
TESTED_ELSEWHERE |= {name for name in events.EVENTS if name.startswith("email_")}
# tests/endpoints/email_sign_in
TESTED_ELSEWHERE |= {events.SIGN_IN_CODE_REQUESTED}
# tests/endpoints/recover, tests/endpoints/account_email, tests/endpoints/sign_up
TESTED_ELSEWHERE |= {events.PASSWORD_RESET_REQUESTED, events.PASSWORD_RESET, events.SIGNED_UP}
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
