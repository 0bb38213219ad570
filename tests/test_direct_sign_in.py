"""GET /oauth2/code: an authorization request with the person's credentials in HTTP Basic (seed 000)."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.sessions import change_password
from tests.browser import Answer, Browser, basic
from tests.site import PASSWORD, STAGE, Registered, Site, tables

PATH = "/oauth2/code"
HOME = "https://client.example.com/cb"
WRONG = "The username or the password is not right."
ALICE = basic("alice", PASSWORD)


@pytest.fixture
def client(site: Site) -> Registered:
    """An application registered for direct sign-in, and trusted; alice has an account."""
    site.user()
    return site.client(direct_sign_in=True, trusted=True, require_pkce=False)


def counts() -> tuple[int, int]:
    """How many sessions and grants there are."""
    sessions, grants = (len(tables()[f"signet-{STAGE}-{kind}"].items) for kind in ("sessions", "grants"))
    return sessions, grants


def is_sign_in(answer: Answer, status: int) -> bool:
    return answer.status == status and "password" in answer.form.fields and answer.header("location") is None


@pytest.mark.spec("RFC 7617 §2")
@pytest.mark.parametrize("scheme", ["Basic", "BASIC", "basic", "bAsIc", "Basic "])
def test_seed_000_credentials_in_http_basic_get_a_code(browser: Browser, client: Registered, scheme: str) -> None:
    answer = browser.authorize(client, PATH, headers=basic("alice", PASSWORD, scheme))
    assert answer.status == 302
    assert answer.location.startswith(HOME + "?code=")
    assert set(answer.answer) == {"code", "state", "iss"}
    assert answer.header("set-cookie") is None, "a link must not sign a browser in for good"
    assert browser.redeem(client, answer.code).status == 200
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"


@pytest.mark.spec("RFC 9110 §11.6.1")
@pytest.mark.parametrize(
    ("what", "authorization", "problem"),
    [
        ("no header", None, ""),
        ("another scheme", "Bearer abc", ""),
        ("the scheme alone", "Basic", ""),
        ("not base64", "Basic alice:secret", ""),
        ("base64url", "Basic " + base64.urlsafe_b64encode(b"a:\xc3\xbf\xc3\xbf\xc3\xbe").decode(), ""),
        ("base64 without its end", ALICE["Authorization"][:-3], ""),
        ("not UTF-8", "Basic " + base64.b64encode(b"alice:\xff").decode(), ""),
        ("no colon", "Basic " + base64.b64encode(b"alice").decode(), ""),
        ("no username", "Basic " + base64.b64encode(b":" + PASSWORD.encode()).decode(), ""),
        ("no password", basic("alice", "")["Authorization"], WRONG),
        ("a wrong password", basic("alice", "wrong")["Authorization"], WRONG),
        ("an unknown username", basic("bob", PASSWORD)["Authorization"], WRONG),
        ("form encoding", basic("alice", PASSWORD.replace(" ", "+"))["Authorization"], WRONG),
        ("NUL", basic("alice\0", "\0")["Authorization"], WRONG),
        ("a very long username", basic("a" * 5000, PASSWORD)["Authorization"], WRONG),
        ("two colons", basic("alice", ":" + PASSWORD)["Authorization"], WRONG),
    ],
)
def test_seed_000_without_right_credentials_the_answer_is_a_401_and_a_sign_in_page_that_works(
    browser: Browser, client: Registered, what: str, authorization: str | None, problem: str
) -> None:
    headers = {"Authorization": authorization} if authorization else None
    answer = browser.authorize(client, PATH, headers=headers)
    assert is_sign_in(answer, 401)
    assert answer.header("www-authenticate") == 'Basic realm="sign-in", charset="UTF-8"'
    assert answer.header("cache-control") == "no-store"
    assert (WRONG in answer.body) == bool(problem)
    assert counts() == (0, 0)
    if what in ("no header", "a wrong password"):
        assert browser.sign_in(answer).code


def test_a_password_may_hold_a_colon_and_any_character(site: Site, browser: Browser, client: Registered) -> None:
    site.user("bob", "p:a:s:s \u00fc\U0001f511")
    assert browser.authorize(client, PATH, headers=basic("BOB", "p:a:s:s \u00fc\U0001f511")).code


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
def test_a_client_that_is_not_registered_for_it_gets_no_direct_sign_in(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True)
    for headers in (ALICE, None):
        answer = browser.authorize(client, PATH, headers=headers)
        assert answer.status == 302
        given = answer.answer
        assert given.pop("error_description")
        assert given == {"error": "unauthorized_client", "state": "af0ifjsldkj", "iss": site.settings.issuer}
    assert counts() == (0, 0)
    site.server.store.clients.put(replace(client.record, direct_sign_in=True))
    assert browser.authorize(client, PATH, headers=ALICE).code, "nobody is refused because of a cached record"


def test_seed_000_a_client_that_is_not_trusted_asks_until_it_is_remembered(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(direct_sign_in=True)
    consent = browser.authorize(client, PATH, headers=ALICE)
    assert consent.status == 200
    assert ("decision", "deny") in consent.form.buttons
    assert counts() == (1, 0)
    assert browser.submit(consent, decision="allow_always").code
    assert browser.authorize(client, PATH, headers=ALICE).code


@pytest.mark.parametrize("decision", ["allow_once", "deny"])
def test_the_consent_page_of_a_direct_sign_in_works(site: Site, browser: Browser, decision: str) -> None:
    site.user()
    consent = browser.authorize(site.client(direct_sign_in=True), PATH, headers=ALICE)
    answer = browser.submit(consent, decision=decision)
    assert answer.answer.get("error", "code") == ("code" if decision == "allow_once" else "access_denied")
    assert browser.submit(consent, decision="allow_once").status == 400


@pytest.mark.spec("RFC 6749 §3.1.2.3")
@pytest.mark.parametrize("members", [{}, {"redirect_uris": [HOME + "/2", HOME], "default_redirect_uri": HOME}])
def test_seed_000_without_redirect_uri_the_only_or_the_default_one_is_answered(
    site: Site, browser: Browser, members: dict[str, Any]
) -> None:
    site.user()
    client = site.client(direct_sign_in=True, trusted=True, require_pkce=False, scope="orders", **members)
    answer = browser.get(PATH, ALICE, response_type="code", client_id=client.id)
    assert answer.location.startswith(HOME + "?code=")
    assert set(answer.answer) == {"code", "iss"}
    assert browser.redeem(client, answer.code, redirect_uri=None, code_verifier=None).status == 200


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize(
    "asked", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}, {"max_age": "600"}], ids=str
)
def test_seed_000_credentials_that_a_browser_repeats_are_no_new_sign_in(
    browser: Browser, client: Registered, asked: dict[str, Any]
) -> None:
    page = browser.authorize(client, PATH, headers=ALICE, **asked)
    assert is_sign_in(page, 200)
    assert page.header("www-authenticate") is None
    assert counts() == (0, 0)
    assert browser.sign_in(page).code


@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
@pytest.mark.parametrize(
    ("what", "headers", "asked", "outcome"),
    [
        ("right", ALICE, {}, "code"),
        ("none", None, {}, "login_required"),
        ("wrong", basic("alice", "wrong"), {}, "login_required"),
        ("with max_age", ALICE, {"max_age": "600"}, "login_required"),
    ],
)
def test_prompt_none_shows_no_page(
    browser: Browser,
    client: Registered,
    what: str,
    headers: dict[str, str] | None,
    asked: dict[str, Any],
    outcome: str,
) -> None:
    answer = browser.authorize(client, PATH, headers=headers, prompt="none", **asked)
    assert answer.status == 302
    assert answer.answer.get("error", "code") == outcome
    assert answer.header("set-cookie") is None


def test_prompt_none_and_prompt_consent_with_right_credentials(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(direct_sign_in=True)
    assert browser.authorize(client, PATH, headers=ALICE, prompt="none").answer["error"] == "consent_required"
    browser.submit(browser.authorize(client, PATH, headers=ALICE), decision="allow_always")
    assert browser.authorize(client, PATH, headers=ALICE, prompt="none").code
    assert browser.authorize(client, PATH, headers=ALICE, prompt="consent").status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Dest": value} for value in ("iframe", "image", "empty", "script", "frame", "embed", "object", "")]
    + [{"Sec-Fetch-Mode": value} for value in ("no-cors", "cors", "same-origin", "websocket", "")],
    ids=str,
)
def test_no_page_of_another_site_can_use_credentials_that_the_browser_sends_along(
    browser: Browser, client: Registered, headers: dict[str, str]
) -> None:
    answer = browser.authorize(client, PATH, headers=ALICE | headers)
    assert (answer.status, answer.header("location")) == (400, None)
    assert answer.header("www-authenticate") is None
    assert counts() == (0, 0)


def test_a_top_level_navigation_is_answered(browser: Browser, client: Registered) -> None:
    navigation = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
    assert browser.authorize(client, PATH, headers=ALICE | navigation).code


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    ("what", "changes", "status"),
    [
        ("client_id unknown", {"client_id": "nobody"}, 400),
        ("client_id missing", {"client_id": None}, 400),
        ("redirect_uri foreign", {"redirect_uri": "https://evil.example/cb"}, 400),
        ("redirect_uri missing with openid", {"redirect_uri": None}, 400),
        ("response_type missing", {"response_type": None}, 302),
        ("response_type token", {"response_type": "token"}, 302),
        ("scope unregistered", {"scope": "openid phone"}, 302),
        ("code_challenge_method plain", {"code_challenge_method": "plain"}, 302),
        ("request", {"request": "x"}, 302),
        ("request_uri", {"request_uri": "https://client.example.com/r"}, 302),
        ("state too long", {"state": "s" * 2049}, 302),
    ],
)
def test_errors_in_the_request_are_those_of_the_authorization_endpoint(
    browser: Browser, client: Registered, what: str, changes: dict[str, Any], status: int
) -> None:
    answer = browser.authorize(client, PATH, headers=ALICE, **changes)
    same = browser.authorize(client, **changes)
    assert answer.status == same.status == status
    assert answer.header("location") == same.header("location")
    assert counts() == (0, 0)


def test_a_disabled_account_gets_no_code(site: Site, browser: Browser, client: Registered) -> None:
    (user,) = site.server.store.users.scan()
    site.server.store.users.put(replace(user, disabled_at=1))
    answer = browser.authorize(client, PATH, headers=ALICE)
    assert is_sign_in(answer, 401)
    assert WRONG in answer.body


# ---- sessions


def test_a_code_without_a_page_leaves_no_session_that_no_cookie_names(
    site: Site, browser: Browser, client: Registered
) -> None:
    tokens = browser.redeem(client, browser.authorize(client, PATH, headers=ALICE).code).json
    assert counts() == (0, 1)
    assert browser.userinfo(tokens["access_token"]).status == 200
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    (user,) = site.server.store.users.scan()
    site.secrets.add("another pass phrase")
    change_password(site.server.store, user, "another pass phrase")
    assert browser.refresh(client, refreshed["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(refreshed["access_token"]).status == 401


def test_who_is_signed_in_already_gets_the_code_in_that_session(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client)
    before = dict(browser.cookies)
    answer = browser.authorize(client, PATH, headers=ALICE)
    assert answer.code
    assert answer.header("set-cookie") is None
    assert browser.cookies == before
    (session,) = site.server.store.sessions.scan()
    assert len(session.grants) == 2
    assert browser.authorize(client, prompt="none").code


def test_a_code_for_one_person_leaves_the_session_of_another_alone(
    site: Site, browser: Browser, client: Registered
) -> None:
    bob = site.user("bob")
    assert browser.sign_in(browser.authorize(client), "bob").code
    answer = browser.authorize(client, PATH, headers=ALICE)
    assert answer.header("set-cookie") is None
    (session,) = site.server.store.sessions.scan()
    assert (session.sub, session.ended_at, len(session.grants)) == (bob.sub, None, 1)
    assert browser.authorize(client, prompt="none").code, "bob is still there"
    alice = {grant.sub for grant in site.server.store.grants.scan()} - {bob.sub}
    assert len(alice) == 1


@pytest.mark.parametrize("from_site", ["cross-site", "same-site"])
def test_a_link_on_another_site_with_somebodys_credentials_signs_nobody_in(
    site: Site, browser: Browser, from_site: str
) -> None:
    site.user()
    page = browser.authorize(site.client(direct_sign_in=True), PATH, headers={**ALICE, "Sec-Fetch-Site": from_site})
    assert is_sign_in(page, 200)
    assert page.form.fields["username"] == "alice"
    assert [*site.server.store.sessions.scan()] == []
    assert ("decision", "deny") in browser.sign_in(page).form.buttons


def test_credentials_of_another_person_neither_sign_a_browser_in_nor_out(site: Site, browser: Browser) -> None:
    site.user()
    bob = site.user("bob")
    client = site.client(direct_sign_in=True)
    browser.sign_in(browser.authorize(client), "bob")
    before = dict(browser.cookies)
    page = browser.authorize(client, PATH, headers=ALICE)
    assert is_sign_in(page, 200)
    assert browser.cookies == before
    (session,) = site.server.store.sessions.scan()
    assert (session.sub, session.ended_at) == (bob.sub, None)
    consent = browser.sign_in(page)  # alice herself, by our own form
    ended = {one.sub == bob.sub: one.ended_at is not None for one in site.server.store.sessions.scan()}
    assert ended == {True: True, False: False}
    assert browser.submit(consent, decision="allow_once").code
