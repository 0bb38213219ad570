"""POST /oauth2/code: sign in with right and with wrong credentials."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.endpoints.code.conftest import CREDENTIALS, WRONG_CREDENTIALS
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Site


@pytest.mark.parametrize("username", ["alice", "ALICE", "Alice", "\uff21lice"])
@pytest.mark.parametrize("prefix", ["", "j_"])
def test_user_signs_in_with_either_name_of_the_form_fields(
    browser: Browser, sign_in_page: Answer, prefix: str, username: str
) -> None:
    fields = {name: value for name, value in sign_in_page.form.fields.items() if name in ("request_uri", "tag")}
    fields |= {f"{prefix}username": username, f"{prefix}password": PASSWORD}
    answer = browser.post("/oauth2/code", fields, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 303
    consent = browser.get(answer.location)
    assert consent.status == 200
    assert ("decision", "allow_once") in consent.form.buttons


LONG = "x" * 10_000


@pytest.mark.parametrize(
    ("problem", "fields"),
    [
        ("the password is wrong", {"password": "wrong"}),
        ("the password is in upper case", {"password": PASSWORD.upper()}),
        ("the password has a space after it", {"password": PASSWORD + " "}),
        ("the password is cut", {"password": PASSWORD[:-1]}),
        ("the password is empty", {"password": ""}),
        ("the password is missing", {"password": None}),
        ("the password is very long", {"password": LONG}),
        ("the password has a suffix after NUL", {"password": PASSWORD + "\0x"}),
        ("the password is NUL", {"password": "\0"}),
        ("the password is an emoji", {"password": "\U0001f511"}),
        ("the username is unknown", {"username": "bob"}),
        ("the username is empty", {"username": ""}),
        ("the username is missing", {"username": None}),
        ("the username is a space", {"username": " "}),
        ("the username is very long", {"username": LONG}),
        ("the username becomes longer when it is normalised", {"username": "\ufdfa" * 2000}),
        ("the username is NUL", {"username": "\0"}),
        ("the username ends with NUL", {"username": "alice\0"}),
        ("the username is an emoji", {"username": "\U0001f511"}),
        ("the username is a key of the table", {"username": "username:alice"}),
        ("both are missing", {"username": None, "password": None}),
    ],
)
def test_wrong_credentials_return_the_page_with_an_error(
    site: Site, browser: Browser, sign_in_page: Answer, problem: str, fields: dict[str, Any]
) -> None:
    form = sign_in_page.form.fields | CREDENTIALS | fields
    present = {name: value for name, value in form.items() if value is not None}
    answer = browser.post("/oauth2/code", present, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 400
    assert WRONG_CREDENTIALS in answer.body
    assert answer.form.fields["password"] == ""
    assert len(answer.form.fields["username"]) <= 320
    assert answer.header("set-cookie") is None
    assert not [*site.server.store.sessions.scan()]
    assert browser.sign_in(answer).status == 200, "the page can be submitted again"


def test_failed_sign_in_does_not_disclose_whether_the_account_exists(
    site: Site, browser: Browser, sign_in_page: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    disabled = site.user("carol")
    site.server.store.users.put(replace(disabled, disabled_at=1))
    caplog.clear()
    attempts = [("alice", "wrong"), ("bobby", PASSWORD), ("carol", PASSWORD)]
    answers = [browser.sign_in(sign_in_page, name, password) for name, password in attempts]
    pages = {answer.body.replace(name, "*") for answer, (name, _) in zip(answers, attempts, strict=True)}
    assert len(pages) == 1
    assert {answer.status for answer in answers} == {400}
    headers = [{name: value for name, value in answer.headers if name != "Date"} for answer in answers]
    assert [{**fields, "Content-Length": ""} for fields in headers] == [{**headers[0], "Content-Length": ""}] * 3
    lines = [json.loads(record.message) for record in caplog.records if record.name.startswith("signet")]
    lines = [line for line in lines if "dynamodb_calls" in line]
    assert len({line["dynamodb_calls"] for line in lines}) == 1
    assert len(lines) == 3


def test_username_is_escaped_in_the_page(browser: Browser, sign_in_page: Answer) -> None:
    username = "\"><script>alert('1')</script>&amp;"
    answer = browser.sign_in(sign_in_page, username, "wrong")
    assert "<script>" not in answer.body
    assert answer.form.fields["username"] == username
