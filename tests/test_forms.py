"""POST /oauth2/code: forms that were not shown by us, to this person, in this browser, or were answered before."""

import html
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from chalicelib import passwords
from tests.browser import Answer, Browser
from tests.site import PASSWORD, STAGE, Registered, Site, tables

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


@pytest.mark.spec("RFC 6749 §10.12 a")
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


@pytest.mark.spec("RFC 6749 §10.12 a")
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
    assert answer.status == 303  # RFC 9700 section 4.12
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
def test_a_form_ends_with_its_request(site: Site, browser: Browser, consent: Answer, fields: Any) -> None:
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


# ---- each form, with the cookies of another time or of nobody

NEW = "a better pass phrase"
FORMS: dict[str, dict[str, Any]] = {
    "sign_in": CREDENTIALS,
    "change_password": {"new_password": NEW, "new_password_again": NEW},
    "consent": {"decision": "allow_always"},
}


@pytest.fixture(params=FORMS)
def shown(request: pytest.FixtureRequest, site: Site, browser: Browser, client: Registered) -> tuple[str, Answer]:
    """One of the forms as it is shown in this browser."""
    site.secrets.add(NEW)
    name: str = request.param
    page = browser.authorize(client)
    if name == "change_password":
        (user,) = site.server.store.users.scan()
        site.server.store.users.put(replace(user, password_change_required=True))
    return name, page if name == "sign_in" else browser.sign_in(page)


def untouched(site: Site) -> bool:
    """Whether nobody has a grant, a remembered consent or another password."""
    store = site.server.store
    (user,) = (user for user in store.users.scan() if user.username == "alice")
    return minted() == 0 and not [*store.consents.scan()] and passwords.verify(PASSWORD, user.password_hash)


@pytest.mark.parametrize("cookies", ["none", "forged", "a new browser's", "the session's alone"])
def test_no_form_counts_without_the_cookie_of_its_browser(
    site: Site, browser: Browser, browsers: Callable[..., Browser], shown: tuple[str, Answer], cookies: str
) -> None:
    name, page = shown
    another, kept = browsers(), dict(browser.cookies)
    another.get("/")
    if cookies == "forged":
        another.cookies = {name: value[:-1] for name, value in kept.items()}
    elif cookies == "a new browser's":
        another.authorize(site.client())
    elif cookies == "the session's alone":
        another.cookies = {name: value for name, value in kept.items() if name != "signet-browser"}
    assert is_refused(another.submit(page, **FORMS[name]), "another browser")
    assert untouched(site)
    answer = browser.submit(page, **FORMS[name])
    assert answer.status in (200, 303), "and it is not spent"


@pytest.mark.parametrize("cookie", ["gone", "forged", "of before the last sign-in", "of an ended session"])
def test_a_form_with_a_stale_session_asks_to_sign_in_and_does_nothing(
    site: Site, browser: Browser, client: Registered, shown: tuple[str, Answer], cookie: str
) -> None:
    name, page = shown
    if name == "sign_in":
        browser.sign_in(browser.authorize(client))
    stale = browser.cookies.pop("signet-session")
    if cookie == "forged":
        browser.cookies["signet-session"] = stale[:-1]
    elif cookie == "of before the last sign-in":
        browser.cookies["signet-session"] = stale
        browser.sign_in(browser.authorize(client, prompt="login"))
        browser.cookies["signet-session"] = stale
    elif cookie == "of an ended session":
        browser.cookies["signet-session"] = stale
        for session in site.server.store.sessions.scan():
            site.server.store.sessions.put(replace(session, ended_at=site.clock.time))
    answer = browser.submit(page, **FORMS[name])
    if name == "sign_in":
        assert ("decision", "allow_once") in answer.form.buttons, "which is what this form does"
    else:
        assert answer.status == 400
        assert "signed out" in answer.body
        assert "password" in answer.form.fields
    assert untouched(site)


def test_a_form_of_one_tab_does_nothing_to_the_person_of_another(
    site: Site, browser: Browser, client: Registered, shown: tuple[str, Answer]
) -> None:
    name, page = shown
    bob = site.user("bob")
    other = browser.sign_in(browser.authorize(client, prompt="login"), "bob")
    answer = browser.submit(page, **FORMS[name])
    assert untouched(site)
    assert site.server.store.users.get(bob.sub) == bob
    if name == "sign_in":  # alice is there now, and bob's question is not for her
        assert "alice" in answer.body
        assert is_refused(browser.submit(other, decision="allow_always"), "somebody else")
        alive = [session.sub for session in site.server.store.sessions.scan() if session.ended_at is None]
        assert len(alive) == 1
        assert bob.sub not in alive
    else:
        assert is_refused(answer, "somebody else")
        assert browser.submit(other, decision="allow_once").code, "and bob goes on"
