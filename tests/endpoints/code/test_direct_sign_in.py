"""GET /oauth2/code: direct sign-in, an authorization request with the user's credentials in HTTP Basic."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.users.password_change import change_password
from tests.endpoints.code.conftest import WRONG_CREDENTIALS, count_sessions_and_grants, is_error_page
from tests.support.browser import Answer, Browser, basic
from tests.support.site import PASSWORD, Registered, Site

PATH = "/oauth2/code"
REDIRECT_URI = "https://client.example.com/cb"
ALICE = basic("alice", PASSWORD)


@pytest.fixture
def client(site: Site) -> Registered:
    """A trusted client registered for direct sign-in; alice has an account."""
    site.user()
    return site.client(direct_sign_in=True, trusted=True, require_pkce=False)


def asks_to_sign_in(answer: Answer, status: int) -> bool:
    return answer.status == status and "password" in answer.form.fields and answer.header("location") is None


@pytest.mark.spec("RFC 7617 §2")
@pytest.mark.parametrize("scheme", ["Basic", "BASIC", "basic", "bAsIc", "Basic "])
def test_credentials_in_http_basic_return_a_code(browser: Browser, client: Registered, scheme: str) -> None:
    answer = browser.authorize(client, PATH, headers=basic("alice", PASSWORD, scheme))
    assert answer.status == 302
    assert answer.location.startswith(REDIRECT_URI + "?code=")
    assert set(answer.answer) == {"code", "state", "iss"}
    assert answer.header("set-cookie") is None, "a link must not sign a browser in"
    assert browser.redeem(client, answer.code).status == 200
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"


@pytest.mark.spec("RFC 9110 §11.6.1")
@pytest.mark.parametrize(
    ("case", "authorization", "message"),
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
        ("no password", basic("alice", "")["Authorization"], WRONG_CREDENTIALS),
        ("a wrong password", basic("alice", "wrong")["Authorization"], WRONG_CREDENTIALS),
        ("an unknown username", basic("bob", PASSWORD)["Authorization"], WRONG_CREDENTIALS),
        ("form encoding", basic("alice", PASSWORD.replace(" ", "+"))["Authorization"], WRONG_CREDENTIALS),
        ("NUL", basic("alice\0", "\0")["Authorization"], WRONG_CREDENTIALS),
        ("a very long username", basic("a" * 5000, PASSWORD)["Authorization"], WRONG_CREDENTIALS),
        ("two colons", basic("alice", ":" + PASSWORD)["Authorization"], WRONG_CREDENTIALS),
    ],
)
def test_missing_or_wrong_credentials_return_401_and_a_sign_in_page(
    browser: Browser, client: Registered, case: str, authorization: str | None, message: str
) -> None:
    headers = {"Authorization": authorization} if authorization else None
    answer = browser.authorize(client, PATH, headers=headers)
    assert asks_to_sign_in(answer, 401)
    assert answer.header("www-authenticate") == 'Basic realm="sign-in", charset="UTF-8"'
    assert answer.header("cache-control") == "no-store"
    assert (WRONG_CREDENTIALS in answer.body) == bool(message)
    assert count_sessions_and_grants() == (0, 0)
    if case in ("no header", "a wrong password"):
        assert browser.sign_in(answer).code


def test_password_may_contain_a_colon_and_any_character(site: Site, browser: Browser, client: Registered) -> None:
    site.user("bob", "p:a:s:s w:o:r:d \u00fc\U0001f511")
    assert browser.authorize(client, PATH, headers=basic("BOB", "p:a:s:s w:o:r:d \u00fc\U0001f511")).code


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
def test_client_that_is_not_registered_for_direct_sign_in_is_unauthorized(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True)
    for headers in (ALICE, None):
        answer = browser.authorize(client, PATH, headers=headers)
        assert answer.status == 302
        parameters = answer.answer
        assert parameters.pop("error_description")
        assert parameters == {"error": "unauthorized_client", "state": "af0ifjsldkj", "iss": site.settings.issuer}
    assert count_sessions_and_grants() == (0, 0)
    site.server.store.clients.put(replace(client.record, direct_sign_in=True))
    assert browser.authorize(client, PATH, headers=ALICE).code, (
        "the client is read again before it is rejected because of a cached record"
    )


def test_client_that_is_not_trusted_needs_remembered_consent(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(direct_sign_in=True)
    consent_page = browser.authorize(client, PATH, headers=ALICE)
    assert consent_page.status == 200
    assert ("decision", "deny") in consent_page.form.buttons
    assert count_sessions_and_grants() == (1, 0)
    assert browser.submit(consent_page, decision="allow_always").code
    assert browser.authorize(client, PATH, headers=ALICE).code


@pytest.mark.parametrize("decision", ["allow_once", "deny"])
def test_consent_page_of_a_direct_sign_in_can_be_answered_once(site: Site, browser: Browser, decision: str) -> None:
    site.user()
    consent_page = browser.authorize(site.client(direct_sign_in=True), PATH, headers=ALICE)
    answer = browser.submit(consent_page, decision=decision)
    assert answer.answer.get("error", "code") == ("code" if decision == "allow_once" else "access_denied")
    site.clock.advance(60)
    assert is_error_page(browser.submit(consent_page, decision="allow_once"), "has been answered already")


@pytest.mark.spec("RFC 6749 §3.1.2.3")
@pytest.mark.parametrize(
    "members", [{}, {"redirect_uris": [REDIRECT_URI + "/2", REDIRECT_URI], "default_redirect_uri": REDIRECT_URI}]
)
def test_omitted_redirect_uri_of_a_direct_sign_in_is_the_only_or_the_default_one(
    site: Site, browser: Browser, members: dict[str, Any]
) -> None:
    site.user()
    client = site.client(direct_sign_in=True, trusted=True, require_pkce=False, scope="orders", **members)
    answer = browser.get(PATH, ALICE, response_type="code", client_id=client.id)
    assert answer.location.startswith(REDIRECT_URI + "?code=")
    assert set(answer.answer) == {"code", "iss"}
    assert browser.redeem(client, answer.code, redirect_uri=None, code_verifier=None).status == 200


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize(
    "parameters", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}, {"max_age": "600"}], ids=str
)
def test_repeated_credentials_do_not_count_as_a_new_sign_in(
    browser: Browser, client: Registered, parameters: dict[str, Any]
) -> None:
    page = browser.authorize(client, PATH, headers=ALICE, **parameters)
    assert asks_to_sign_in(page, 200)
    assert page.header("www-authenticate") is None
    assert count_sessions_and_grants() == (0, 0)
    assert browser.sign_in(page).code


@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
@pytest.mark.parametrize(
    ("case", "headers", "parameters", "outcome"),
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
    case: str,
    headers: dict[str, str] | None,
    parameters: dict[str, Any],
    outcome: str,
) -> None:
    answer = browser.authorize(client, PATH, headers=headers, prompt="none", **parameters)
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
def test_embedded_or_scripted_request_with_credentials_is_rejected(
    browser: Browser, client: Registered, headers: dict[str, str]
) -> None:
    answer = browser.authorize(client, PATH, headers=ALICE | headers)
    assert (answer.status, answer.header("location")) == (400, None)
    assert answer.header("www-authenticate") is None
    assert count_sessions_and_grants() == (0, 0)


def test_top_level_navigation_returns_a_code(browser: Browser, client: Registered) -> None:
    navigation = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
    assert browser.authorize(client, PATH, headers=ALICE | navigation).code


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    ("case", "changes", "status"),
    [
        ("client_id unknown", {"client_id": "unknown"}, 400),
        ("client_id missing", {"client_id": None}, 400),
        ("redirect_uri not registered", {"redirect_uri": "https://evil.example/cb"}, 400),
        ("redirect_uri missing with openid", {"redirect_uri": None}, 400),
        ("response_type missing", {"response_type": None}, 302),
        ("response_type token", {"response_type": "token"}, 302),
        ("scope unregistered", {"scope": "phone"}, 302),
        ("code_challenge_method plain", {"code_challenge_method": "plain"}, 302),
        ("request", {"request": "x"}, 302),
        ("request_uri", {"request_uri": "https://client.example.com/r"}, 302),
        ("state too long", {"state": "s" * 4097}, 302),
    ],
)
def test_invalid_request_is_answered_as_at_the_authorization_endpoint(
    browser: Browser, client: Registered, case: str, changes: dict[str, Any], status: int
) -> None:
    answer = browser.authorize(client, PATH, headers=ALICE, **changes)
    expected = browser.authorize(client, **changes)
    assert answer.status == expected.status == status
    assert answer.header("location") == expected.header("location")
    assert count_sessions_and_grants() == (0, 0)


def test_disabled_account_gets_no_code(site: Site, browser: Browser, client: Registered) -> None:
    (user,) = site.server.store.users.scan()
    site.server.store.users.put(replace(user, disabled_at=1))
    answer = browser.authorize(client, PATH, headers=ALICE)
    assert asks_to_sign_in(answer, 401)
    assert WRONG_CREDENTIALS in answer.body


# ---- sessions


def test_direct_sign_in_stores_a_grant_but_no_session(site: Site, browser: Browser, client: Registered) -> None:
    tokens = browser.redeem(client, browser.authorize(client, PATH, headers=ALICE).code).json
    assert count_sessions_and_grants() == (0, 1)
    assert browser.userinfo(tokens["access_token"]).status == 200
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    (user,) = site.server.store.users.scan()
    site.secrets.add("another pass phrase")
    change_password(site.server.store, user, "another pass phrase")
    assert browser.refresh(client, refreshed["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(refreshed["access_token"]).status == 401


def test_user_who_is_signed_in_gets_the_code_in_the_existing_session(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client)
    cookies = dict(browser.cookies)
    answer = browser.authorize(client, PATH, headers=ALICE)
    assert answer.code
    assert answer.header("set-cookie") is None
    assert browser.cookies == cookies
    (session,) = site.server.store.sessions.scan()
    grants = list(site.server.store.grants.scan())
    assert [(grant.session_id, grant.session_stored) for grant in grants] == [(session.session_id, True)] * 2
    assert browser.authorize(client, prompt="none").code


def test_code_for_one_user_does_not_change_the_session_of_another(
    site: Site, browser: Browser, client: Registered
) -> None:
    bob = site.user("bob")
    assert browser.sign_in(browser.authorize(client), "bob").code
    answer = browser.authorize(client, PATH, headers=ALICE)
    assert answer.header("set-cookie") is None
    (session,) = site.server.store.sessions.scan()
    assert (session.sub, session.ended_at) == (bob.sub, None)
    assert [grant.sub for grant in site.server.store.grants.scan() if grant.session_stored] == [bob.sub]
    assert browser.authorize(client, prompt="none").code, "bob is still signed in"
    other_users = {grant.sub for grant in site.server.store.grants.scan()} - {bob.sub}
    assert len(other_users) == 1


@pytest.mark.parametrize("from_site", ["cross-site", "same-site", "none"])
def test_link_with_credentials_does_not_sign_in(site: Site, browser: Browser, from_site: str) -> None:
    """The origin is "none" for a link in a mail program, and for a redirect of an address that was typed in."""
    site.user()
    page = browser.authorize(site.client(direct_sign_in=True), PATH, headers={**ALICE, "Sec-Fetch-Site": from_site})
    assert asks_to_sign_in(page, 200)
    assert page.form.fields["username"] == "alice"
    assert [*site.server.store.sessions.scan()] == []
    assert ("decision", "deny") in browser.sign_in(page).form.buttons


def test_credentials_of_another_user_do_not_change_the_session(site: Site, browser: Browser) -> None:
    site.user()
    bob = site.user("bob")
    client = site.client(direct_sign_in=True)
    browser.sign_in(browser.authorize(client), "bob")
    cookies = dict(browser.cookies)
    page = browser.authorize(client, PATH, headers=ALICE)
    assert asks_to_sign_in(page, 200)
    assert browser.cookies == cookies
    (session,) = site.server.store.sessions.scan()
    assert (session.sub, session.ended_at) == (bob.sub, None)
    consent_page = browser.sign_in(page)  # alice signs in on the page
    sessions = site.server.store.sessions.scan()
    ended = {session.sub == bob.sub: session.ended_at is not None for session in sessions}
    assert ended == {True: True, False: False}
    assert browser.submit(consent_page, decision="allow_once").code
