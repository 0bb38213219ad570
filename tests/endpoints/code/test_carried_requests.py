"""POST /oauth2/code: a form whose action carries the request is proved by its tag, and answered once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from chalicelib.authentication import passwords
from chalicelib.authorization.stored_request import MAX_QUERY
from tests.endpoints.authorize.conftest import read_grant
from tests.endpoints.code.conftest import CREDENTIALS, FORM, NEW_PASSWORD, count_grants, follow_back, retry_address
from tests.support.browser import CHALLENGE, Answer, Browser
from tests.support.faults import Wire
from tests.support.grants import update_client
from tests.support.site import Registered, Site, dump_tables
from tests.support.threads import run_concurrently

REDIRECT_URI = "https://client.example.com/cb"
OTHER_URI = "https://client.example.com/other"


@pytest.fixture
def no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a password is verified."""

    def verify(*_: Any) -> bool:
        raise AssertionError("a password was verified")

    monkeypatch.setattr(passwords, "verify", verify)


@pytest.fixture
def client(site: Site) -> Registered:
    """A client with two redirect URIs and several scopes; alice has an account."""
    site.user()
    return site.client(redirect_uris=[REDIRECT_URI, OTHER_URI])


def with_query(page: Answer, **changes: str | None) -> str:
    """Return the action of a form with some parameters of its query changed."""
    action = urlsplit(page.form.action or "")
    query = dict(parse_qsl(action.query)) | changes
    return f"{action.path}?{urlencode({name: value for name, value in query.items() if value is not None})}"


QUERIES: dict[str, dict[str, str | None]] = {
    "a wider scope": {"scope": "openid email"},
    "another redirect_uri": {"redirect_uri": OTHER_URI},
    "another state": {"state": "x"},
    "another code_challenge": {"code_challenge": CHALLENGE[:-1] + "A"},
    "another parameter": {"prompt": "consent"},
    "an unknown parameter": {"unknown": "1"},
    "without state": {"state": None},
}


@pytest.mark.usefixtures("no_passwords")
@pytest.mark.parametrize("changes", QUERIES.values(), ids=QUERIES)
def test_form_with_another_query_leads_to_that_request_before_the_password_is_looked_at(
    browser: Browser, sign_in_page: Answer, changes: dict[str, str | None]
) -> None:
    before, action = dump_tables(), with_query(sign_in_page, **changes)
    sent = browser.post(action, sign_in_page.form.fields | CREDENTIALS, {"Sec-Fetch-Site": "same-origin"})
    assert sent.status == 303
    assert dict(parse_qsl(urlsplit(sent.location).query)) == dict(parse_qsl(urlsplit(action).query))
    page = browser.get(sent.location)
    assert "out of date" in page.body
    assert "password" in page.form.fields
    assert dump_tables() == before


@pytest.mark.parametrize("changes", QUERIES.values(), ids=QUERIES)
def test_decision_about_another_query_is_not_taken(
    browser: Browser, client: Registered, consent_page: Answer, changes: dict[str, str | None]
) -> None:
    page = browser.authorize(client)  # carries its request, because alice is signed in
    action = with_query(page, **changes)
    sent = browser.post(action, page.form.fields | {"decision": "allow_always"}, {"Sec-Fetch-Site": "same-origin"})
    assert sent.status == 303
    assert ("decision", "allow") in browser.get(sent.location).form.buttons
    assert count_grants() == 0
    assert browser.submit(page, decision="allow_once").code, "the form itself still works"


@pytest.mark.usefixtures("no_passwords")
@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "another"},
        {"request_id": ""},
        {"request_id": "x" * 65},
        {"request_id": "\0"},
        {"shown_at": "0"},
        {"shown_at": "+1"},
        {"shown_at": "9" * 13},
        {"shown_at": "LATER"},
        {"terms": "A" * 22},
        {"terms": ""},
        {"terms": "x" * 65},
        {"tag": "A" * 22},
        {"tag": ""},
        {"tag": "\ud800"},
    ],
    ids=str,
)
def test_form_with_another_field_leads_back_before_the_password_is_looked_at(
    browser: Browser, sign_in_page: Answer, fields: dict[str, str]
) -> None:
    before, genuine = dump_tables(), sign_in_page.form.fields
    if fields.get("shown_at") == "LATER":
        fields = {"shown_at": str(int(genuine["shown_at"]) + 1)}
    body = urlencode(genuine | CREDENTIALS | fields, errors="surrogatepass")
    sent = browser.request("POST", sign_in_page.form.action or "", body, FORM)
    assert sent.status == 303
    assert "out of date" in browser.get(sent.location).body
    assert dump_tables() == before


@pytest.mark.usefixtures("no_passwords")
@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"username=\xff", FORM["Content-Type"]),
        (b"x" * 70_000, FORM["Content-Type"]),
        (b"{}", "application/json"),
        (b"", "multipart/form-data; boundary=x"),
        (b"", FORM["Content-Type"]),
    ],
)
def test_unreadable_form_leads_back_to_its_request(
    browser: Browser, sign_in_page: Answer, body: bytes, media_type: str
) -> None:
    sent = browser.request("POST", sign_in_page.form.action or "", body, {"Content-Type": media_type})
    assert sent.status == 303
    assert "password" in browser.get(sent.location).form.fields


@pytest.mark.usefixtures("no_passwords")
@pytest.mark.parametrize("body", ["", "%ff", "FORM"], ids=["empty", "unreadable", "with the fields of a form"])
@pytest.mark.parametrize("name", ["x", "state", "request_uri"])
@pytest.mark.parametrize("times", [1, 3])
def test_form_with_a_longer_query_than_any_page_has_is_rejected(
    browser: Browser, sign_in_page: Answer, name: str, times: int, body: str
) -> None:
    """A redirect would repeat it, percent-encoded, in a header field that gateways limit."""
    before = dump_tables()
    filler = f"&{name}={'!' * (6000 // times)}" * times
    sent = body.replace("FORM", urlencode(sign_in_page.form.fields | CREDENTIALS))
    for cookies in (dict(browser.cookies), {}):
        browser.cookies = cookies
        answer = browser.request("POST", (sign_in_page.form.action or "") + filler, sent, FORM)
        assert answer.status == 400
        assert "form_not_ours" in answer.body or "invalid_request" in answer.body
        assert "!!!" not in answer.body
        assert "%21%21" not in answer.body
    assert dump_tables() == before


@pytest.mark.parametrize("has_cookie", [True, False], ids=["with our cookie", "without our cookie"])
def test_address_that_a_form_leads_back_to_is_at_most_4000_bytes_longer_than_that_of_the_endpoint(
    browser: Browser, client: Registered, has_cookie: bool
) -> None:
    browser.authorize(client)
    handle = "req_" + "A" * 60
    lengths = []
    for length in range(MAX_QUERY - 200, MAX_QUERY + 200, 7):
        browser.cookies = browser.cookies if has_cookie else {}
        base = f"client_id={client.id}&request_uri={handle}&x="
        query = base + "x" * (length - len(base))
        answer = browser.request("POST", f"/oauth2/code?{query}", "%ff", FORM)
        if answer.status == 303 or "cookies_blocked" in answer.body:
            address = answer.location if answer.status == 303 else retry_address(answer)
            assert address == f"/oauth2/authorize?{query}"
            lengths.append(length)
    assert MAX_QUERY <= max(lengths) <= MAX_QUERY + len(f"request_uri={handle}&") + 7


def test_empty_parameters_of_a_request_do_no_harm(browser: Browser, client: Registered) -> None:
    page = browser.authorize(client, request_uri="", request="", claims="", tag="", decision="", username="")
    assert ("decision", "allow") in browser.sign_in(page).form.buttons


@pytest.mark.usefixtures("no_passwords")
def test_expired_form_leads_to_a_new_one(site: Site, browser: Browser, sign_in_page: Answer) -> None:
    site.clock.advance(site.settings.request_lifetime)
    page = browser.sign_in(sign_in_page)
    assert page.status == 400
    assert "out of date" in page.body
    assert int(page.form.fields["shown_at"]) == site.clock.time


def test_form_works_until_the_end_of_its_lifetime(site: Site, browser: Browser, sign_in_page: Answer) -> None:
    site.clock.advance(site.settings.request_lifetime - 1)
    assert ("decision", "allow") in browser.sign_in(sign_in_page).form.buttons


@pytest.mark.usefixtures("no_passwords")
def test_form_of_another_browser_leads_to_a_new_one(
    browsers: Callable[..., Browser], client: Registered, sign_in_page: Answer
) -> None:
    other = browsers()
    other.authorize(client)
    page = follow_back(other, sign_in_page, other.send(sign_in_page, **CREDENTIALS))
    assert "password" in page.form.fields


@pytest.mark.usefixtures("no_passwords")
@pytest.mark.parametrize("body", [urlencode(CREDENTIALS), "%ff", "decision=deny", ""])
def test_form_without_a_cookie_gets_a_page_that_says_so_and_leads_to_the_request(
    browser: Browser, wire: Wire, sign_in_page: Answer, body: str
) -> None:
    """A redirect would lead to a page that cannot say why, as its message is in a cookie."""
    before, called = dump_tables(), len(wire.calls)
    browser.cookies.clear()
    answer = browser.request("POST", sign_in_page.form.action or "", body, FORM)
    assert retry_address(answer) == (sign_in_page.form.action or "").replace("/oauth2/code", "/oauth2/authorize")
    assert "Allow cookies for this site" in answer.body
    assert not browser.cookies
    assert (dump_tables(), len(wire.calls)) == (before, called), "nothing is read"


TERMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default scope": ({"default_scope": "profile"}, {"default_scope": "email profile"}),
    "default redirect URI": ({"default_redirect_uri": REDIRECT_URI}, {"default_redirect_uri": OTHER_URI}),
}


@pytest.mark.parametrize("step", ["sign_in", "consent"])
@pytest.mark.parametrize(("before", "after"), TERMS.values(), ids=TERMS)
def test_page_is_shown_again_when_the_operator_has_changed_the_default_that_it_relied_on(
    site: Site, browser: Browser, client: Registered, before: Any, after: Any, step: str
) -> None:
    update_client(site, client, **before)
    if step == "consent":
        browser.code(client)
    named: dict[str, Any] = {"redirect_uri": None, "scope": "profile"}
    if "default_scope" in before:
        named = {"redirect_uri": REDIRECT_URI, "scope": None}
    page = browser.authorize(client, **named)
    answer: dict[str, Any] = {"decision": "allow_always"} if step == "consent" else CREDENTIALS
    assert set(answer) <= {*page.form.fields, *dict(page.form.buttons)}
    update_client(site, client, **after)
    tables_before = dump_tables()
    terms_now = browser.authorize(client, **named).form.fields["terms"]
    assert terms_now != page.form.fields["terms"]
    follow_back(browser, page, browser.send(page, **answer, terms=terms_now))  # the tag is of the terms that were shown
    shown = follow_back(browser, page, browser.send(page, **answer))
    assert dump_tables() == tables_before
    consent = shown if step == "consent" else browser.sign_in(shown)
    assert ("email" in consent.body) is ("default_scope" in after), "the user sees what is asked for now"
    allowed = browser.submit(consent, decision="allow_once")
    assert allowed.location.startswith(after.get("default_redirect_uri", REDIRECT_URI) + "?code=")
    scope = read_grant(site, allowed.code).scope
    assert scope == frozenset(after.get("default_scope", "profile").split())


def test_page_is_answered_when_the_operator_has_changed_a_default_that_it_did_not_rely_on(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client)
    page = browser.authorize(client, scope="openid")
    update_client(site, client, default_scope="email profile", default_redirect_uri=OTHER_URI)
    code = browser.submit(page, decision="allow_once").code
    assert read_grant(site, code).scope == {"openid"}


def test_consent_sent_often_at_once_gets_four_answers_with_a_code_each(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client)
    page, cookies = browser.authorize(client), dict(browser.cookies)
    before = count_grants()

    def allow() -> Answer:
        other = Browser(site)
        other.cookies = dict(cookies)
        try:
            return other.submit(page, decision="allow_once")
        finally:
            other.close()

    answers = run_concurrently([allow] * 6)
    assert sorted(answer.status for answer in answers) == [303, 303, 303, 303, 400, 400]
    assert len({answer.code for answer in answers if answer.status == 303}) == 4
    assert count_grants() == before + 4


@pytest.mark.parametrize("trusted", [True, False])
def test_sign_in_sent_twice_at_once_creates_one_request(site: Site, browser: Browser, trusted: bool) -> None:
    site.user()
    page = browser.authorize(site.client(trusted=trusted))
    cookies = dict(browser.cookies)

    def sign_in() -> Answer:
        other = Browser(site)
        other.cookies = dict(cookies)
        try:
            return other.sign_in(page)
        finally:
            other.close()

    answers = run_concurrently([sign_in] * 3)
    (stored,) = site.server.store.requests.scan()
    assert stored.request_id == page.form.fields["request_id"]
    assert len([*site.server.store.sessions.scan()]) == 1
    assert count_grants() == (3 if trusted else 0)
    assert [answer.status for answer in answers] == [303 if trusted else 200] * 3


def test_form_that_was_answered_stays_answered_while_it_is_valid(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client)
    page = browser.authorize(client)
    assert browser.submit(page, decision="deny").answer["error"] == "access_denied"
    before = count_grants()
    for _ in range(2):
        site.clock.advance(site.settings.request_lifetime // 2 - 1)
        assert "answered already" in browser.submit(page, decision="allow_once").body
    site.clock.advance(2)
    assert "out of date" in browser.submit(page, decision="allow_once").body
    assert count_grants() == before


def test_prompt_login_is_satisfied_by_the_sign_in_of_its_own_form_only(browser: Browser, client: Registered) -> None:
    browser.code(client)
    first, second = browser.authorize(client, prompt="login"), browser.authorize(client, prompt="login")
    assert ("decision", "allow") in browser.sign_in(first).form.buttons
    assert "password" in browser.request("GET", second.url).form.fields, "the address asks again"
    assert ("decision", "allow") in browser.sign_in(second).form.buttons


def test_another_account_can_answer_instead(site: Site, browser: Browser, client: Registered) -> None:
    site.user("bob")
    browser.code(client)
    page = browser.authorize(client, login_hint="alice")
    sign_in = browser.submit(page, decision="switch")
    assert sign_in.status == 200
    assert "password" in sign_in.form.fields
    assert sign_in.form.fields["username"] == ""
    assert "password" in browser.request("GET", sign_in.url).form.fields, "reload asks again"
    consent = browser.sign_in(sign_in, "bob")
    assert "bob" in consent.body
    code = browser.submit(consent, decision="allow_once").code
    (bob,) = (user for user in site.server.store.users.scan() if user.username == "bob")
    handle = site.server.keys.read_handle("code", code)
    grant = site.server.store.grants.get(handle.id) if handle else None
    assert grant
    assert grant.sub == bob.sub


@pytest.mark.usefixtures("no_passwords")
def test_request_that_the_client_may_no_longer_make_is_refused_before_the_password_is_looked_at(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = browser.authorize(client, scope="openid email")
    update_client(site, client, scope="phone")
    assert browser.sign_in(page).answer["error"] == "invalid_scope"
    update_client(site, client, redirect_uris=(OTHER_URI,))
    answer = browser.sign_in(page)
    assert (answer.status, answer.header("location")) == (400, None)
    assert "redirect_uri" in answer.body


def test_rejected_new_password_leads_back_with_its_message(site: Site, browser: Browser, client: Registered) -> None:
    site.server.store.users.put(replace(site.user("carol"), password_change_required=True))
    site.secrets.add(NEW_PASSWORD)
    page = browser.sign_in(browser.authorize(client), "carol")
    rejected = browser.submit(page, new_password=NEW_PASSWORD, new_password_again="something else")
    assert rejected.status == 400
    assert "The two entries differ." in rejected.body
    assert "The two entries differ." not in browser.request("GET", rejected.url).body
    consent = browser.submit(rejected, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert ("decision", "allow") in consent.form.buttons
