"""POST /oauth2/code: the forms of our own pages, and whoever imitates them."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.browser import Answer, Browser
from tests.site import PASSWORD, STAGE, Registered, Site, tables

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


@pytest.fixture
def consent(browser: Browser, sign_in: Answer) -> Answer:
    """The consent page, shown to alice."""
    return browser.sign_in(sign_in)


def minted() -> int:
    """How many grants there are."""
    return len(tables()[f"signet-{STAGE}-grants"].items)


def is_refused(answer: Answer, text: str = "") -> bool:
    """Whether a page says that this form goes nowhere, with nothing to fill in and nobody signed in."""
    return (
        answer.status == 400
        and answer.header("location") is None
        and answer.header("set-cookie") is None
        and answer.form.action is None
        and text in html.unescape(answer.body)
    )


# ---- who signs in


@pytest.mark.parametrize("username", ["alice", "ALICE", "Alice", "\uff21lice"])
@pytest.mark.parametrize("prefix", ["", "j_"])
def test_seed_000_a_person_signs_in_under_either_name_of_the_fields(
    browser: Browser, sign_in: Answer, prefix: str, username: str
) -> None:
    fields = {name: value for name, value in sign_in.form.fields.items() if name in ("request_uri", "tag")}
    fields |= {f"{prefix}username": username, f"{prefix}password": PASSWORD}
    consent = browser.post("/oauth2/code", fields, {"Sec-Fetch-Site": "same-origin"})
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
    assert len({line["dynamodb_calls"] for line in lines}) == 1
    assert len(lines) == 3


def test_what_was_typed_is_escaped_in_the_page(browser: Browser, sign_in: Answer) -> None:
    typed = "\"><script>alert('1')</script>&amp;"
    answer = browser.sign_in(sign_in, typed, "wrong")
    assert "<script" not in answer.body
    assert answer.form.fields["username"] == typed


# ---- who sends the form


@pytest.mark.spec("RFC 6749 §10.12")
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "OURS"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:1"},
        {"Origin": "OURS/"},
        {"Origin": "OURS.evil.example"},
    ],
    ids=str,
)
def test_a_form_sent_from_another_site_is_refused(
    site: Site, browser: Browser, consent: Answer, headers: dict[str, str]
) -> None:
    sent = {name: value.replace("OURS", site.settings.issuer) for name, value in headers.items()}
    for fields in ({"decision": "allow_once"}, CREDENTIALS):
        assert is_refused(browser.post("/oauth2/code", consent.form.fields | fields, sent), "another site")
    assert minted() == 0


@pytest.mark.parametrize("headers", [{}, {"Origin": "OURS"}, {"Sec-Fetch-Site": "same-origin"}], ids=str)
def test_a_form_of_ours_counts(site: Site, browser: Browser, consent: Answer, headers: dict[str, str]) -> None:
    sent = {name: value.replace("OURS", site.settings.issuer) for name, value in headers.items()}
    assert browser.post("/oauth2/code", consent.form.fields | {"decision": "allow_once"}, sent).code


@pytest.mark.parametrize(
    "fields",
    [
        {"request_uri": None},
        {"request_uri": ""},
        {"request_uri": "req_AQAAAAAAAAAAAAAAAAAAAAAA"},
        {"request_uri": "https://client.example.com/request"},
        {"request_uri": "TWICE"},
        {"request_uri": "CUT"},
        {"request_uri": "OTHER"},
        {"tag": None},
        {"tag": ""},
        {"tag": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"tag": "\u00e9\U0001f511"},
        {"tag": "TWICE"},
        {"tag": "CUT"},
        {"tag": "OTHER"},
        {"tag": "SIGN_IN"},
    ],
    ids=str,
)
def test_a_form_without_its_own_handle_and_tag_is_refused(
    browser: Browser, client: Registered, sign_in: Answer, consent: Answer, fields: dict[str, str | None]
) -> None:
    ((name, value),) = fields.items()
    other = browser.authorize(client)
    real = consent.form.fields
    values: dict[Any, Any] = {
        "TWICE": [real[name]] * 2,
        "CUT": real[name][:-1],
        "OTHER": other.form.fields[name],
        "SIGN_IN": sign_in.form.fields[name],
    }
    given = real | {name: values.get(value, value)} | {"decision": "allow_once"}
    body = urlencode({key: value for key, value in given.items() if value is not None}, doseq=True)
    assert is_refused(browser.request("POST", "/oauth2/code", body, FORM))
    assert minted() == 0
    assert browser.submit(consent, decision="allow_once").code, "and nothing is lost"


@pytest.mark.parametrize("first", ["allow_once", "allow_always", "deny"])
@pytest.mark.parametrize("second", ["allow_once", "allow_always", "deny"])
def test_a_question_is_answered_once(browser: Browser, consent: Answer, first: str, second: str) -> None:
    answer = browser.submit(consent, decision=first)
    assert answer.status == 302
    assert minted() == (first != "deny")
    assert is_refused(browser.submit(consent, decision=second), "has been answered already")
    assert minted() == (first != "deny")


def test_a_sign_in_that_was_the_whole_answer_counts_once(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.authorize(site.client(trusted=True))
    assert browser.sign_in(page).code
    assert is_refused(browser.sign_in(page), "has been answered already")
    assert minted() == 1


@pytest.mark.parametrize("fields", [{"decision": "allow_once"}, CREDENTIALS], ids=str)
def test_a_form_ends_with_its_request(site: Site, browser: Browser, consent: Answer, fields: dict[str, str]) -> None:
    site.clock.advance(site.settings.request_lifetime)
    assert is_refused(browser.submit(consent, **fields), "has expired")
    assert minted() == 0


@pytest.mark.parametrize("fields", [{"decision": "allow_once"}, CREDENTIALS], ids=str)
def test_a_form_counts_in_its_own_browser_only(
    browsers: Callable[..., Browser], browser: Browser, client: Registered, consent: Answer, fields: Any
) -> None:
    another = browsers()
    assert is_refused(another.submit(consent, **fields), "another browser")
    another.authorize(client)
    assert is_refused(another.submit(consent, **fields), "another browser")
    another.cookies["signet-session"] = browser.cookies["signet-session"]
    assert is_refused(another.submit(consent, **fields), "another browser")
    assert minted() == 0


def test_a_page_shown_to_one_person_is_not_answered_by_another(
    site: Site, browser: Browser, client: Registered, consent: Answer
) -> None:
    site.user("bob")
    browser.sign_in(browser.authorize(client, prompt="login"), "bob")  # in another tab
    assert is_refused(browser.submit(consent, decision="allow_always"), "somebody else")
    assert minted() == 0
    assert not [*site.server.store.consents.scan()]


@pytest.mark.parametrize("how", ["the cookie is gone", "the cookie is broken", "the session ended", "disabled"])
def test_whoever_is_signed_out_meanwhile_signs_in_and_is_asked_again(
    site: Site, browser: Browser, consent: Answer, how: str
) -> None:
    (session,) = site.server.store.sessions.scan()
    (user,) = site.server.store.users.scan()
    if how == "the cookie is gone":
        del browser.cookies["signet-session"]
    elif how == "the cookie is broken":
        browser.cookies["signet-session"] = browser.cookies["signet-session"][:-2]
    elif how == "the session ended":
        site.server.store.sessions.put(replace(session, ended_at=site.clock.time))
    else:
        site.server.store.users.put(replace(user, disabled_at=site.clock.time))
    page = browser.submit(consent, decision="allow_once")
    assert page.status == 400
    assert "signed out" in page.body
    assert minted() == 0
    site.server.store.users.put(user)
    again = browser.sign_in(page)
    assert again.status == 200
    assert browser.submit(again, decision="allow_once").code


@pytest.mark.parametrize("decision", ["", "allow", "ALLOW_ONCE", "allow_once ", "yes", "allow_once\0", "\U0001f44d"])
def test_a_decision_that_is_none_is_refused(browser: Browser, consent: Answer, decision: str) -> None:
    assert is_refused(browser.submit(consent, decision=decision))
    assert minted() == 0
    assert browser.submit(consent, decision="allow_once").code


def test_two_decisions_are_none(browser: Browser, consent: Answer) -> None:
    body = urlencode([*consent.form.fields.items(), ("decision", "deny"), ("decision", "allow_once")])
    assert is_refused(browser.request("POST", "/oauth2/code", body, FORM))
    assert minted() == 0


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
    browser: Browser, consent: Answer, what: str, body: str | bytes, media_type: str
) -> None:
    form = urlencode(consent.form.fields | {"decision": "allow_once"})
    sent = body.replace("FORM", form) if isinstance(body, str) else body
    assert is_refused(browser.request("POST", "/oauth2/code", sent, {"Content-Type": media_type}))
    assert minted() == 0
