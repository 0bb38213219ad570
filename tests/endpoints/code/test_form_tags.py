"""POST /oauth2/code: forms from another site, without a valid tag, for another user or browser, or answered before."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from chalicelib.authentication import passwords
from tests.endpoints.code.conftest import CREDENTIALS, FORM, NEW_PASSWORD, count_grants, is_error_page
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Registered, Site


@pytest.mark.spec("RFC 6749 §10.12 a")
@pytest.mark.spec("RFC 6749 §10.12")
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "ISSUER"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:1"},
        {"Origin": "ISSUER/"},
        {"Origin": "ISSUER.evil.example"},
    ],
    ids=str,
)
def test_form_from_another_site_is_rejected(
    site: Site, browser: Browser, consent_page: Answer, headers: dict[str, str]
) -> None:
    sent = {name: value.replace("ISSUER", site.settings.issuer) for name, value in headers.items()}
    for fields in ({"decision": "allow_once"}, CREDENTIALS):
        assert is_error_page(browser.post("/oauth2/code", consent_page.form.fields | fields, sent), "another site")
    assert count_grants() == 0


@pytest.mark.parametrize("headers", [{}, {"Origin": "ISSUER"}, {"Sec-Fetch-Site": "same-origin"}], ids=str)
def test_form_from_this_site_is_accepted(
    site: Site, browser: Browser, consent_page: Answer, headers: dict[str, str]
) -> None:
    sent = {name: value.replace("ISSUER", site.settings.issuer) for name, value in headers.items()}
    assert browser.post("/oauth2/code", consent_page.form.fields | {"decision": "allow_once"}, sent).code


@pytest.mark.parametrize(
    ("kind", "body", "media_type"),
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
def test_body_that_is_not_a_form_is_rejected(
    site: Site, browser: Browser, sign_in_page: Answer, kind: str, body: str | bytes, media_type: str
) -> None:
    form = urlencode(sign_in_page.form.fields | CREDENTIALS)
    sent = body.replace("FORM", form) if isinstance(body, str) else body
    answer = browser.request("POST", "/oauth2/code", sent, {"Content-Type": media_type})
    assert (answer.status, answer.header("location"), answer.header("set-cookie")) == (400, None, None)
    assert ("form_not_ours" if kind == "nothing" else "invalid_request") in answer.body
    assert not [*site.server.store.sessions.scan()]


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
def test_form_without_its_own_handle_and_tag_is_rejected(
    browser: Browser, client: Registered, sign_in_page: Answer, consent_page: Answer, fields: dict[str, str | None]
) -> None:
    ((name, value),) = fields.items()
    other_page = browser.authorize(client)
    genuine = consent_page.form.fields
    values: dict[Any, Any] = {
        "TWICE": [genuine[name]] * 2,
        "CUT": genuine[name][:-1],
        "OTHER": other_page.form.fields[name],
        "SIGN_IN": sign_in_page.form.fields[name],
    }
    form = genuine | {name: values.get(value, value)} | {"decision": "allow_once"}
    body = urlencode({key: value for key, value in form.items() if value is not None}, doseq=True)
    assert is_error_page(browser.request("POST", "/oauth2/code", body, FORM))
    assert count_grants() == 0
    assert browser.submit(consent_page, decision="allow_once").code, "the genuine form still works"


@pytest.mark.parametrize("first", ["allow_once", "allow_always", "deny"])
@pytest.mark.parametrize("second", ["allow_once", "allow_always", "deny"])
def test_consent_page_is_answered_once(browser: Browser, consent_page: Answer, first: str, second: str) -> None:
    answer = browser.submit(consent_page, decision=first)
    assert answer.status == 303  # RFC 9700 section 4.12
    assert count_grants() == (first != "deny")
    assert is_error_page(browser.submit(consent_page, decision=second), "has been answered already")
    assert count_grants() == (first != "deny")


def test_sign_in_page_that_leads_to_a_code_is_answered_once(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.authorize(site.client(trusted=True))
    assert browser.sign_in(page).code
    assert is_error_page(browser.sign_in(page), "has been answered already")
    assert count_grants() == 1


@pytest.mark.parametrize("fields", [{"decision": "allow_once"}, CREDENTIALS], ids=str)
def test_form_expires_with_its_request(site: Site, browser: Browser, consent_page: Answer, fields: Any) -> None:
    site.clock.advance(site.settings.request_lifetime)
    assert is_error_page(browser.submit(consent_page, **fields), "has expired")
    assert count_grants() == 0


@pytest.mark.parametrize("fields", [{"decision": "allow_once"}, CREDENTIALS], ids=str)
def test_form_is_bound_to_its_browser(
    browsers: Callable[..., Browser], browser: Browser, client: Registered, consent_page: Answer, fields: Any
) -> None:
    other = browsers()
    assert is_error_page(other.submit(consent_page, **fields), "another browser")
    other.authorize(client)
    assert is_error_page(other.submit(consent_page, **fields), "another browser")
    other.cookies["signet-session"] = browser.cookies["signet-session"]
    assert is_error_page(other.submit(consent_page, **fields), "another browser")
    assert count_grants() == 0


def test_consent_page_is_bound_to_its_user(
    site: Site, browser: Browser, client: Registered, consent_page: Answer
) -> None:
    site.user("bob")
    browser.sign_in(browser.authorize(client, prompt="login"), "bob")  # in another tab
    assert is_error_page(browser.submit(consent_page, decision="allow_always"), "another user")
    assert count_grants() == 0
    assert not [*site.server.store.consents.scan()]


@pytest.mark.parametrize(
    "cause", ["the cookie is missing", "the cookie is broken", "the session ended", "the account is disabled"]
)
def test_user_who_was_signed_out_signs_in_and_gives_consent_again(
    site: Site, browser: Browser, consent_page: Answer, cause: str
) -> None:
    (session,) = site.server.store.sessions.scan()
    (user,) = site.server.store.users.scan()
    if cause == "the cookie is missing":
        del browser.cookies["signet-session"]
    elif cause == "the cookie is broken":
        browser.cookies["signet-session"] = browser.cookies["signet-session"][:-2]
    elif cause == "the session ended":
        site.server.store.sessions.put(replace(session, ended_at=site.clock.time))
    else:
        site.server.store.users.put(replace(user, disabled_at=site.clock.time))
    page = browser.submit(consent_page, decision="allow_once")
    assert page.status == 400
    assert "signed out" in page.body
    assert count_grants() == 0
    site.server.store.users.put(user)
    page = browser.sign_in(page)
    assert page.status == 200
    assert browser.submit(page, decision="allow_once").code


@pytest.mark.parametrize("decision", ["", "allow", "ALLOW_ONCE", "allow_once ", "yes", "allow_once\0", "\U0001f44d"])
def test_unknown_decision_is_rejected(browser: Browser, consent_page: Answer, decision: str) -> None:
    assert is_error_page(browser.submit(consent_page, decision=decision))
    assert count_grants() == 0
    assert browser.submit(consent_page, decision="allow_once").code


def test_two_decisions_are_rejected(browser: Browser, consent_page: Answer) -> None:
    body = urlencode([*consent_page.form.fields.items(), ("decision", "deny"), ("decision", "allow_once")])
    assert is_error_page(browser.request("POST", "/oauth2/code", body, FORM))
    assert count_grants() == 0


# ---- each form, with stale or missing cookies

FORMS: dict[str, dict[str, Any]] = {
    "sign_in": CREDENTIALS,
    "change_password": {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD},
    "consent": {"decision": "allow_always"},
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, site: Site, browser: Browser, client: Registered) -> tuple[str, Answer]:
    """The name of a form, and its page in this browser."""
    site.secrets.add(NEW_PASSWORD)
    name: str = request.param
    page = browser.authorize(client)
    if name == "change_password":
        (user,) = site.server.store.users.scan()
        site.server.store.users.put(replace(user, password_change_required=True))
    return name, page if name == "sign_in" else browser.sign_in(page)


def is_unchanged(site: Site) -> bool:
    """Return whether there is no grant and no consent, and the password of alice is the old one."""
    store = site.server.store
    (user,) = (user for user in store.users.scan() if user.username == "alice")
    return count_grants() == 0 and not [*store.consents.scan()] and passwords.verify(PASSWORD, user.password_hash)


@pytest.mark.parametrize("case", ["none", "forged", "of a new browser", "session only"])
def test_form_without_the_cookie_of_its_browser_is_rejected(
    site: Site, browser: Browser, browsers: Callable[..., Browser], form: tuple[str, Answer], case: str
) -> None:
    name, page = form
    other, cookies = browsers(), dict(browser.cookies)
    other.get("/")
    if case == "forged":
        other.cookies = {name: value[:-1] for name, value in cookies.items()}
    elif case == "of a new browser":
        other.authorize(site.client())
    elif case == "session only":
        other.cookies = {name: value for name, value in cookies.items() if name != "signet-browser"}
    assert is_error_page(other.submit(page, **FORMS[name]), "another browser")
    assert is_unchanged(site)
    answer = browser.submit(page, **FORMS[name])
    assert answer.status in (200, 303), "the form still works"


@pytest.mark.parametrize("cookie", ["missing", "forged", "of an earlier session", "of an ended session"])
def test_form_with_a_stale_session_asks_to_sign_in_and_changes_nothing(
    site: Site, browser: Browser, client: Registered, form: tuple[str, Answer], cookie: str
) -> None:
    name, page = form
    if name == "sign_in":
        browser.sign_in(browser.authorize(client))
    stale = browser.cookies.pop("signet-session")
    if cookie == "forged":
        browser.cookies["signet-session"] = stale[:-1]
    elif cookie == "of an earlier session":
        browser.cookies["signet-session"] = stale
        browser.sign_in(browser.authorize(client, prompt="login"))
        browser.cookies["signet-session"] = stale
    elif cookie == "of an ended session":
        browser.cookies["signet-session"] = stale
        for session in site.server.store.sessions.scan():
            site.server.store.sessions.put(replace(session, ended_at=site.clock.time))
    answer = browser.submit(page, **FORMS[name])
    if name == "sign_in":
        assert ("decision", "allow_once") in answer.form.buttons, "the sign-in form works without a session"
    else:
        assert answer.status == 400
        assert "signed out" in answer.body
        assert "password" in answer.form.fields
    assert is_unchanged(site)


def test_form_for_one_user_has_no_effect_on_the_user_of_another_tab(
    site: Site, browser: Browser, client: Registered, form: tuple[str, Answer]
) -> None:
    name, page = form
    bob = site.user("bob")
    consent_page = browser.sign_in(browser.authorize(client, prompt="login"), "bob")
    answer = browser.submit(page, **FORMS[name])
    assert is_unchanged(site)
    assert site.server.store.users.get(bob.sub) == bob
    if name == "sign_in":  # alice is signed in now, and the consent page was shown to bob
        assert "alice" in answer.body
        assert is_error_page(browser.submit(consent_page, decision="allow_always"), "another user")
        active = [session.sub for session in site.server.store.sessions.scan() if session.ended_at is None]
        assert len(active) == 1
        assert bob.sub not in active
    else:
        assert is_error_page(answer, "another user")
        assert browser.submit(consent_page, decision="allow_once").code, "bob continues"
