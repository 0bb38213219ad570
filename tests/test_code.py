"""POST /oauth2/code: who signs in, who does not, and what is no form."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.browser import Answer, Browser
from tests.site import PASSWORD, Registered, Site

WRONG = "The username or the password is not right."
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CREDENTIALS = {"username": "alice", "password": PASSWORD}


@pytest.fixture
def client(site: Site) -> Registered:
    """An application that alice, who has an account, may be asked about."""
    site.user()
    return site.client()


@pytest.fixture
def sign_in(browser: Browser, client: Registered) -> Answer:
    """The sign-in page."""
    return browser.authorize(client)


# ---- who signs in


@pytest.mark.parametrize("username", ["alice", "ALICE", "Alice", "\uff21lice"])
@pytest.mark.parametrize("prefix", ["", "j_"])
def test_seed_000_a_person_signs_in_under_either_name_of_the_fields(
    browser: Browser, sign_in: Answer, prefix: str, username: str
) -> None:
    fields = {name: value for name, value in sign_in.form.fields.items() if name in ("request_uri", "tag")}
    fields |= {f"{prefix}username": username, f"{prefix}password": PASSWORD}
    answer = browser.post("/oauth2/code", fields, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 303
    consent = browser.get(answer.location)
    assert consent.status == 200
    assert ("decision", "allow_once") in consent.form.buttons


LONG = "x" * 10_000


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("the password is wrong", {"password": "wrong"}),
        ("the password is in another case", {"password": PASSWORD.upper()}),
        ("the password has a space after it", {"password": PASSWORD + " "}),
        ("the password is cut", {"password": PASSWORD[:-1]}),
        ("the password is empty", {"password": ""}),
        ("the password is missing", {"password": None}),
        ("the password is very long", {"password": LONG}),
        ("the password goes on after NUL", {"password": PASSWORD + "\0x"}),
        ("the password is NUL", {"password": "\0"}),
        ("the password is an emoji", {"password": "\U0001f511"}),
        ("the username is unknown", {"username": "bob"}),
        ("the username is empty", {"username": ""}),
        ("the username is missing", {"username": None}),
        ("the username is a space", {"username": " "}),
        ("the username is very long", {"username": LONG}),
        ("the username grows when it is normalised", {"username": "\ufdfa" * 2000}),
        ("the username is NUL", {"username": "\0"}),
        ("the username goes on after NUL", {"username": "alice\0"}),
        ("the username is an emoji", {"username": "\U0001f511"}),
        ("the username is a key of ours", {"username": "username:alice"}),
        ("both are missing", {"username": None, "password": None}),
    ],
)
def test_wrong_credentials_get_the_page_again(
    site: Site, browser: Browser, sign_in: Answer, what: str, fields: dict[str, Any]
) -> None:
    given = {name: value for name, value in (sign_in.form.fields | CREDENTIALS | fields).items() if value is not None}
    answer = browser.post("/oauth2/code", given, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 400
    assert WRONG in answer.body
    assert answer.form.fields["password"] == ""
    assert len(answer.form.fields["username"]) <= 320
    assert answer.header("set-cookie") is None
    assert not [*site.server.store.sessions.scan()]
    assert browser.sign_in(answer).status == 200, "and the page works"


def test_nobody_learns_which_accounts_exist(
    site: Site, browser: Browser, sign_in: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    gone = site.user("gone")
    site.server.store.users.put(replace(gone, disabled_at=1))
    caplog.clear()
    tries = [("alice", "wrong"), ("bobby", PASSWORD), ("gone", PASSWORD)]
    answers = [browser.sign_in(sign_in, name, password) for name, password in tries]
    pages = {answer.body.replace(name, "*") for answer, (name, _) in zip(answers, tries, strict=True)}
    assert len(pages) == 1
    assert {answer.status for answer in answers} == {400}
    headers = [{name: value for name, value in answer.headers if name != "Date"} for answer in answers]
    assert [{**each, "Content-Length": ""} for each in headers] == [{**headers[0], "Content-Length": ""}] * 3
    lines = [json.loads(record.message) for record in caplog.records if record.name.startswith("signet")]
    lines = [line for line in lines if "dynamodb_calls" in line]
    assert len({line["dynamodb_calls"] for line in lines}) == 1
    assert len(lines) == 3


def test_what_was_typed_is_escaped_in_the_page(browser: Browser, sign_in: Answer) -> None:
    typed = "\"><script>alert('1')</script>&amp;"
    answer = browser.sign_in(sign_in, typed, "wrong")
    assert "<script>" not in answer.body
    assert answer.form.fields["username"] == typed


# ---- what is no form


@pytest.mark.parametrize(
    ("what", "body", "media_type"),
    [
        ("JSON", '{"username": "alice"}', "application/json"),
        ("multipart", "--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        ("plain text", "FORM", "text/plain"),
        ("no media type", "FORM", ""),
        ("almost the media type", "FORM", "application/x-www-form-urlencoded2"),
        ("bad UTF-8", "FORM&username=%ff", FORM["Content-Type"]),
        ("bad bytes", b"username=\xff", FORM["Content-Type"]),
        ("a lone surrogate", "FORM&password=%ed%a0%80", FORM["Content-Type"]),
        ("nothing", "", FORM["Content-Type"]),
        ("over 64 KiB", "FORM&x=" + "x" * 65536, FORM["Content-Type"]),
        ("more than a hundred parameters", "FORM" + "&x=" * 100, FORM["Content-Type"]),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    site: Site, browser: Browser, sign_in: Answer, what: str, body: str | bytes, media_type: str
) -> None:
    form = urlencode(sign_in.form.fields | CREDENTIALS)
    sent = body.replace("FORM", form) if isinstance(body, str) else body
    answer = browser.request("POST", "/oauth2/code", sent, {"Content-Type": media_type})
    assert (answer.status, answer.header("location"), answer.header("set-cookie")) == (400, None, None)
    assert ("form_not_ours" if what == "nothing" else "invalid_request") in answer.body
    assert not [*site.server.store.sessions.scan()]
