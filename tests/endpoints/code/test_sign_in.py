"""POST /oauth2/code: sign in with right and with wrong credentials."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.endpoints.code.conftest import CREDENTIALS, HIDDEN_FIELDS, WRONG_CREDENTIALS, follow_back
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire, unreachable
from tests.support.site import PASSWORD, Site


@pytest.mark.parametrize(
    "username",
    [
        *("alice", "ALICE", "Alice", "\uff21lice"),
        *("alice ", "\talice\n", "\u00a0alice\u3000", "\u200balice\ufeff", "\u202aalice\u202c \u2060"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "j_"])
def test_user_signs_in_with_either_name_of_the_form_fields(
    browser: Browser, sign_in_page: Answer, prefix: str, username: str
) -> None:
    fields = {name: sign_in_page.form.fields[name] for name in HIDDEN_FIELDS}
    fields |= {f"{prefix}username": username, f"{prefix}password": PASSWORD}
    answer = browser.post(sign_in_page.form.action or "", fields, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 303
    consent = browser.get(answer.location)
    assert consent.status == 200
    assert ("decision", "allow") in consent.form.buttons


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
def test_wrong_credentials_lead_back_to_the_page_with_an_error(
    site: Site, browser: Browser, sign_in_page: Answer, problem: str, fields: dict[str, Any]
) -> None:
    form = sign_in_page.form.fields | CREDENTIALS | fields
    present = {name: value for name, value in form.items() if value is not None}
    rejected = browser.post(sign_in_page.form.action or "", present, {"Sec-Fetch-Site": "same-origin"})
    answer = follow_back(browser, sign_in_page, rejected, WRONG_CREDENTIALS)
    assert answer.form.fields["password"] == ""
    assert len(answer.form.fields["username"]) <= 320
    cookies = [value.split("; ") for name, value in answer.headers if name.lower() == "set-cookie"]
    assert [(first, "Max-Age=0" in rest) for first, *rest in cookies] == [("signet-problem=", True)]
    assert not [*site.server.store.sessions.scan()]
    assert ("decision", "allow") in browser.sign_in(answer).form.buttons, "the page can be submitted again"


def without_form_fields(page: Answer) -> str:
    """Return the page without the hidden fields of its form, which are different each time."""
    body = page.body
    for name in HIDDEN_FIELDS:
        body = body.replace(page.form.fields[name], "")
    return body


def test_failed_sign_in_does_not_disclose_whether_the_account_exists(
    site: Site, browser: Browser, sign_in_page: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    disabled = site.user("carol")
    site.server.store.users.put(replace(disabled, disabled_at=1))
    caplog.clear()
    attempts = [("alice", "wrong"), ("bobby", PASSWORD), ("carol", PASSWORD)]
    redirects: list[Answer] = []
    pages: list[Answer] = []
    for name, password in attempts:
        redirects.append(browser.send(sign_in_page, username=name, password=password))
        pages.append(follow_back(browser, sign_in_page, redirects[-1], WRONG_CREDENTIALS))
    assert len({answer.body for answer in redirects}) == 1
    bodies = {without_form_fields(page).replace(name, "*") for page, (name, _) in zip(pages, attempts, strict=True)}
    assert len(bodies) == 1
    for answers in (redirects, pages):
        assert len({answer.status for answer in answers}) == 1
        headers = [{name: value for name, value in answer.headers if name != "Date"} for answer in answers]
        for fields in headers:  # the content of the cookie is encrypted
            name, _, value = fields["Set-Cookie"].partition("=")
            fields["Set-Cookie"] = f"{name} {len(value)}"
        assert headers == [headers[0]] * 3
    lines = [json.loads(record.message) for record in caplog.records if record.name.startswith("signet")]
    lines = [line for line in lines if "dynamodb_calls" in line]
    calls = [line["dynamodb_calls"] for line in lines if line["endpoint"] == "/oauth2/code"]
    assert len(calls) == 3
    assert len(set(calls)) == 1


@pytest.mark.parametrize("signed_in_before", [True, False])
def test_session_cookie_is_sent_though_what_follows_the_sign_in_fails(
    site: Site, browser: Browser, wire: Wire, signed_in_before: bool
) -> None:
    """A session that continues has a new cookie, and its old one is invalid."""
    site.user()
    client = site.client(trusted=True)
    if signed_in_before:
        browser.code(client)
    page = browser.authorize(client, prompt="login")
    with wire.fault_in("TransactWriteItems", unreachable, skip=2):  # after the attempt and the session: the grant
        answer = browser.send(page, **CREDENTIALS)
    assert answer.answer["error"] == "temporarily_unavailable"
    assert browser.authorize(client, prompt="none").code, "the user is signed in"
    assert [value for name, value in answer.headers if "signet-browser=" in value and "Max-Age=31536000" in value]


def test_sign_in_keeps_the_browser_known_for_another_year(browser: Browser, sign_in_page: Answer) -> None:
    before = browser.cookies["signet-browser"]
    answer = browser.send(sign_in_page, **CREDENTIALS)
    (renewed,) = (value for name, value in answer.headers if value.startswith("signet-browser="))
    assert "Max-Age=31536000" in renewed.split("; ")
    assert browser.cookies["signet-browser"] == before, "its id stays"


def test_username_is_escaped_in_the_page(browser: Browser, sign_in_page: Answer) -> None:
    username = "\"><script>alert('1')</script>&amp;"
    answer = browser.sign_in(sign_in_page, username, "wrong")
    assert "<script>" not in answer.body
    assert answer.form.fields["username"] == username
