"""POST /oauth2/code: forms from another site, without a valid tag, for another user or browser, or answered before.

The consent pages here follow a sign-in, so their request is stored: their form's action has the request and its handle.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from chalicelib.authentication import passwords
from tests.endpoints.authorize.conftest import authorize_stored
from tests.endpoints.code.conftest import (
    CREDENTIALS,
    FORM,
    HIDDEN_FIELDS,
    NEW_PASSWORD,
    count_grants,
    follow_back,
    follow_to_new_page,
    is_error_page,
    retry_address,
)
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Registered, Site, dump_tables


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
        form = consent_page.form.fields | fields
        assert is_error_page(browser.post(consent_page.form.action or "", form, sent), "another site")
    assert count_grants() == 0


@pytest.mark.parametrize("headers", [{}, {"Origin": "ISSUER"}, {"Sec-Fetch-Site": "same-origin"}], ids=str)
def test_form_from_this_site_is_accepted(
    site: Site, browser: Browser, consent_page: Answer, headers: dict[str, str]
) -> None:
    sent = {name: value.replace("ISSUER", site.settings.issuer) for name, value in headers.items()}
    form = consent_page.form.fields | {"decision": "allow_once"}
    assert browser.post(consent_page.form.action or "", form, sent).code


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
def test_body_that_is_not_a_form_leads_back_to_its_request_and_is_rejected_without_one(
    browser: Browser, sign_in_page: Answer, kind: str, body: str | bytes, media_type: str
) -> None:
    before = dump_tables()
    form = urlencode(sign_in_page.form.fields | CREDENTIALS)
    sent = body.replace("FORM", form) if isinstance(body, str) else body
    answer = browser.request("POST", "/oauth2/code", sent, {"Content-Type": media_type})
    assert (answer.status, answer.header("location"), answer.header("set-cookie")) == (400, None, None)
    assert ("form_not_ours" if kind == "nothing" else "invalid_request") in answer.body
    answer = browser.request("POST", sign_in_page.form.action or "", sent, {"Content-Type": media_type})
    page = follow_back(browser, sign_in_page, answer)
    assert dump_tables() == before, "no session, and no attempt is counted"
    assert ("decision", "allow") in browser.sign_in(page).form.buttons


@pytest.mark.spec("RFC 6749 §10.12 a")
@pytest.mark.parametrize(
    "query",
    [
        "",
        "request_uri=",
        "request_uri=req_AQAAAAAAAAAAAAAAAAAAAAAA",
        "request_uri=https://client.example.com/request",
        "GENUINE&GENUINE",
        "HANDLE CUT",
        "HANDLE UNKNOWN",
        "HANDLE OF ANOTHER KIND",
        "WITHOUT HANDLE",
        "ANOTHER STATE",
        "OTHER",
        "CARRIED",
    ],
)
def test_form_without_the_handle_of_its_request_is_rejected(
    site: Site, browser: Browser, client: Registered, consent_page: Answer, query: str
) -> None:
    genuine = urlsplit(consent_page.url).query
    handle = dict(parse_qsl(genuine))["request_uri"]
    make_handle = site.server.keys.make_handle
    queries = {
        "HANDLE CUT": genuine.replace(handle, handle[:-1]),
        "HANDLE UNKNOWN": genuine.replace(handle, make_handle("req", "unknown")),
        "HANDLE OF ANOTHER KIND": genuine.replace(handle, make_handle("ans", consent_page.form.fields["request_id"])),
        "WITHOUT HANDLE": genuine.replace(f"request_uri={handle}&", ""),
        "ANOTHER STATE": genuine + "x",
        "OTHER": urlsplit(authorize_stored(browser, client).url).query,
        "CARRIED": urlsplit(browser.authorize(client).form.action or "").query,
    }
    before = dump_tables()
    sent = queries.get(query, query.replace("GENUINE", genuine))
    for fields in ({"decision": "allow_once"}, CREDENTIALS):
        answer = browser.post(f"/oauth2/code?{sent}", consent_page.form.fields | fields)
        if query in ("HANDLE CUT", "HANDLE UNKNOWN", "WITHOUT HANDLE"):
            follow_to_new_page(browser, consent_page, answer)
        elif query in ("ANOTHER STATE", "OTHER", "CARRIED"):
            assert "out of date" in browser.follow(answer).body, "the page of that request"
        elif query == "HANDLE OF ANOTHER KIND":
            assert browser.follow(browser.get(answer.location)).answer["error"] == "request_uri_not_supported"
        else:
            assert is_error_page(browser.follow(answer))
        assert dump_tables() == before
    assert browser.submit(consent_page, decision="allow_once").code, "the genuine form still works"


@pytest.mark.spec("RFC 6749 §10.12 a")
@pytest.mark.parametrize("name", HIDDEN_FIELDS)
@pytest.mark.parametrize("value", [None, "", "A" * 22, "\u00e9\U0001f511", "CUT", "OTHER", "SIGN_IN", "TWICE"], ids=str)
def test_form_without_its_own_fields_and_tag_is_rejected(
    site: Site,
    browser: Browser,
    client: Registered,
    sign_in_page: Answer,
    consent_page: Answer,
    name: str,
    value: str | None,
) -> None:
    site.clock.advance(1)
    other_page = browser.authorize(client, scope="openid email")
    genuine = consent_page.form.fields
    values: dict[str, Any] = {
        "CUT": genuine[name][:-1],
        "OTHER": other_page.form.fields[name],
        "SIGN_IN": sign_in_page.form.fields["tag"],
        "TWICE": [genuine[name]] * 2,
    }
    form = genuine | {name: values.get(str(value), value)} | {"decision": "allow_once"}
    before = dump_tables()
    body = urlencode({key: text for key, text in form.items() if text is not None}, doseq=True)
    sent = browser.request("POST", consent_page.form.action or "", body, FORM)
    page = follow_back(browser, consent_page, sent)
    assert dump_tables() == before
    assert browser.submit(page, decision="allow_once").code


@pytest.mark.parametrize("first", ["allow_once", "allow_always", "deny"])
@pytest.mark.parametrize("second", ["allow_once", "allow_always", "deny"])
def test_consent_page_is_answered_once(
    site: Site, browser: Browser, consent_page: Answer, first: str, second: str
) -> None:
    answer = browser.submit(consent_page, decision=first)
    assert answer.status == 303  # RFC 9700 section 4.12
    assert count_grants() == (first != "deny")
    site.clock.advance(60)  # before, it is the same press: test_pressed_twice
    assert is_error_page(browser.submit(consent_page, decision=second), "has been answered already")
    assert count_grants() == (first != "deny")


def test_sign_in_page_that_leads_to_a_code_is_answered_once(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.authorize(site.client(trusted=True))
    assert browser.sign_in(page).code
    site.clock.advance(60)
    assert is_error_page(browser.sign_in(page), "has been answered already")
    assert count_grants() == 1


@pytest.mark.parametrize("reloaded_after", [0, 300])
@pytest.mark.parametrize("fields", [{"decision": "allow_once"}, CREDENTIALS], ids=str)
def test_expired_form_after_a_sign_in_leads_to_a_new_page_that_works(
    site: Site, browser: Browser, consent_page: Answer, fields: Any, reloaded_after: int
) -> None:
    """A form that was reloaded is still valid itself when the record of its request expires."""
    site.clock.advance(reloaded_after)
    page = browser.get(consent_page.url) if reloaded_after else consent_page
    before = dump_tables()
    site.clock.advance(site.settings.request_lifetime - reloaded_after)
    new_page = follow_to_new_page(browser, page, browser.send(page, **fields))
    assert dump_tables() == before
    assert count_grants() == 0
    assert browser.submit(new_page, decision="allow_once").code
    assert count_grants() == 1


@pytest.mark.parametrize("fields", [{"decision": "allow_once"}, CREDENTIALS], ids=str)
def test_form_of_a_request_that_is_only_stored_expires_with_it(
    site: Site, browser: Browser, client: Registered, fields: Any
) -> None:
    page = browser.sign_in(authorize_stored(browser, client))
    before = dump_tables()
    site.clock.advance(site.settings.request_lifetime)
    assert is_error_page(browser.submit(page, **fields), "request_expired")
    assert dump_tables() == before
    assert count_grants() == 0


@pytest.mark.parametrize("fields", [{"decision": "allow_once"}, CREDENTIALS], ids=str)
def test_form_of_a_stored_request_is_bound_to_its_browser(
    browsers: Callable[..., Browser], browser: Browser, client: Registered, consent_page: Answer, fields: Any
) -> None:
    other, before = browsers(), dump_tables()
    retry_address(other.submit(consent_page, **fields))
    other.authorize(client)
    sent = other.send(consent_page, **fields)
    new_page = follow_to_new_page(other, consent_page, sent, "signed out" if "decision" in fields else "out of date")
    own_cookies, other.cookies["signet-session"] = dict(other.cookies), browser.cookies["signet-session"]
    if "decision" in fields:  # the form is of this session
        assert is_error_page(other.submit(consent_page, **fields), "another browser")
    else:
        follow_to_new_page(other, consent_page, other.send(consent_page, **fields))
    assert dump_tables() == before
    other.cookies = own_cookies
    assert other.submit(other.sign_in(new_page), decision="allow_once").code, "the new page works"
    assert browser.submit(consent_page, decision="allow_once").code, "the form still works in its browser"


def test_form_of_a_request_that_is_only_stored_is_rejected_in_another_browser(
    browsers: Callable[..., Browser], browser: Browser, client: Registered
) -> None:
    page, other = browser.sign_in(authorize_stored(browser, client)), browsers()
    other.authorize(client)
    before = dump_tables()
    answers: list[dict[str, Any]] = [{"decision": "allow_once"}, CREDENTIALS]
    for fields in answers:
        assert is_error_page(other.submit(page, **fields), "another browser")
    assert dump_tables() == before


@pytest.mark.parametrize("decision", ["allow_once", "deny"])
@pytest.mark.parametrize("stored", [True, False])
def test_answered_form_stays_answered_and_never_starts_its_request_anew(
    site: Site, browser: Browser, client: Registered, stored: bool, decision: str
) -> None:
    page = browser.sign_in(browser.authorize(client))
    page = page if stored else browser.authorize(client)
    assert ("request_uri" in (page.form.action or "")) is stored
    browser.submit(page, decision=decision)
    before = dump_tables()
    for seconds in (60, 1, site.settings.request_lifetime - 62):
        site.clock.advance(seconds)
        for again in ("allow_once", "deny"):
            assert is_error_page(browser.submit(page, decision=again), "request_answered")
    if stored:
        assert is_error_page(browser.get(page.url), "request_answered"), "nor does its address"
    assert dump_tables() == before


@pytest.mark.parametrize("stored", [True, False])
def test_consent_page_is_bound_to_its_user(site: Site, browser: Browser, client: Registered, stored: bool) -> None:
    bob = site.user("bob")
    page = browser.sign_in(browser.authorize(client))
    page = page if stored else browser.authorize(client)
    assert ("request_uri" in (page.form.action or "")) is stored
    browser.sign_in(browser.authorize(client, prompt="login"), "bob")  # in another tab
    before = dump_tables()
    page_for_bob = follow_back(browser, page, browser.send(page, decision="allow_always"))
    assert dump_tables() == before
    assert "bob" in page_for_bob.body
    assert "alice" not in page_for_bob.body
    assert browser.submit(page_for_bob, decision="allow_once").code
    (grant,) = site.server.store.grants.scan()
    assert grant.sub == bob.sub


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


@pytest.mark.parametrize("decision", ["", "always", "ALLOW_ONCE", "allow_once ", "yes", "allow_once\0", "\U0001f44d"])
def test_unknown_decision_is_rejected(browser: Browser, consent_page: Answer, decision: str) -> None:
    assert is_error_page(browser.submit(consent_page, decision=decision))
    assert count_grants() == 0
    assert browser.submit(consent_page, decision="allow_once").code


def test_two_decisions_are_rejected(browser: Browser, consent_page: Answer) -> None:
    body = urlencode([*consent_page.form.fields.items(), ("decision", "deny"), ("decision", "allow_once")])
    assert is_error_page(browser.request("POST", consent_page.form.action or "", body, FORM))
    assert count_grants() == 0
    assert browser.submit(consent_page, decision="allow_once").code


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
    if case == "forged":
        other.cookies = {name: value[:-1] for name, value in cookies.items()}
    elif case == "of a new browser":
        other.authorize(site.client())
    elif case == "session only":
        other.cookies = {name: value for name, value in cookies.items() if name != "signet-browser"}
    before, sent = dump_tables(), other.send(page, **FORMS[name])
    if case != "of a new browser":
        address = retry_address(sent)
        assert address == (page.form.action or "").replace("/oauth2/code?", "/oauth2/authorize?")
        shown = other.get(address)
        assert shown.status == 200
        assert other.cookies["signet-browser"] != cookies["signet-browser"]
    elif name == "sign_in":
        shown = follow_back(other, page, sent)
    else:
        shown = follow_to_new_page(other, page, sent, "signed out")
    signed_in = case == "session only" and name != "sign_in"
    assert ("password" in shown.form.fields) is not signed_in
    assert dump_tables() == before
    if name != "change_password":
        consent_page = shown if signed_in else other.sign_in(shown)
        assert other.submit(consent_page, decision="allow_once").code, "the new page works"
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
        assert ("decision", "allow") in answer.form.buttons, "the sign-in form works without a session"
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
    if name == "sign_in":  # alice is signed in now, and the consent page was shown to bob
        assert "alice" in browser.submit(page, **FORMS[name]).body
        answer = follow_back(browser, consent_page, browser.send(consent_page, decision="allow_always"))
        assert "password" in answer.form.fields, "alice has not signed in for this request, which has prompt=login"
        active = [session.sub for session in site.server.store.sessions.scan() if session.ended_at is None]
        assert len(active) == 1
        assert bob.sub not in active
    else:
        answer = follow_back(browser, page, browser.send(page, **FORMS[name]))
        assert "bob" in answer.body
        assert ("decision", "allow") in answer.form.buttons, "bob needs no new password"
    assert is_unchanged(site)
    assert site.server.store.users.get(bob.sub) == bob
    if name != "sign_in":
        assert browser.submit(consent_page, decision="allow_once").code, "bob continues"
