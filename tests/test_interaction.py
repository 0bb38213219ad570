"""What the person has to do, lived through: prompt, max_age, consent that is remembered, and what never is."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.models import Scope
from tests.browser import Answer, Browser
from tests.site import Registered, Site

NATIVE = ["http://127.0.0.1/cb", "http://[::1]/cb", "http://localhost:3000/cb", "com.example.app:/cb"]


@pytest.fixture
def house(site: Site) -> Registered:
    """The operator's own application, for signing in with no question asked."""
    site.user()
    return site.client(client_name="House", trusted=True)


def is_sign_in(answer: Answer) -> bool:
    return answer.status == 200 and "password" in answer.form.fields


def is_consent(answer: Answer) -> bool:
    return answer.status == 200 and ("decision", "deny") in answer.form.buttons


def new_scopes(page: Answer) -> list[str]:
    """What the consent page marks as new."""
    return [line.split("<bdi>")[1].split("</bdi>")[0] for line in page.body.splitlines() if 'class="badge new"' in line]


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 g", "OpenID Connect Core §3.1.2.1 r", "OpenID Connect Core §3.1.2.3 c")
@pytest.mark.spec("OpenID Connect Core §3.1.2.3 d")
@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
@pytest.mark.spec("RFC 9207 §2")
@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("nobody", "login_required"),
        ("the session idled out", "login_required"),
        ("the session was ended", "login_required"),
        ("the account was disabled", "login_required"),
        ("the sign-in is too old", "login_required"),
        ("the password must be changed", "interaction_required"),
        ("not yet asked", "consent_required"),
        ("allowed once", "consent_required"),
        ("allowed another client", "consent_required"),
        ("allowed less", "consent_required"),
        ("native, allowed", "consent_required"),
        ("allowed always", "code"),
        ("trusted", "code"),
    ],
)
def test_prompt_none_shows_no_page_in_any_state(
    site: Site, browser: Browser, house: Registered, state: str, outcome: str
) -> None:
    store = site.server.store
    client = house if state == "trusted" else site.client(redirect_uris=NATIVE, public=True)
    client = client if state.startswith(("native", "trusted")) else site.client()
    if state != "nobody":
        browser.code(house)
    session = next(store.sessions.scan(), None)
    asked: dict[str, str] = {"scope": "openid email"}
    if session and state == "the session idled out":
        site.clock.advance(site.settings.session_idle_lifetime)
    elif session and state == "the session was ended":
        store.sessions.put(replace(session, ended_at=site.clock.time))
    elif session and state.startswith("the "):
        (user,) = store.users.scan()
        changed = {"disabled_at": 1} if "disabled" in state else {"password_change_required": "password" in state}
        store.users.put(replace(user, **changed))
        site.clock.advance(11)
        asked["max_age"] = "10" if "old" in state else "100"
    elif "allowed" in state:
        decision = "allow_once" if "once" in state or "native" in state else "allow_always"
        first = site.client() if "another" in state else client
        browser.code(first, decision, scope="openid" if "less" in state else "openid email")
    cookies, grants = dict(browser.cookies), len([*store.grants.scan()])

    answer = browser.authorize(client, prompt="none", **asked)

    assert answer.status == 302
    assert answer.answer["state"] == "af0ifjsldkj"
    assert answer.answer["iss"] == site.settings.issuer
    assert answer.answer.get("error", "code") == outcome
    assert ("code" in answer.answer) == (outcome == "code")
    assert browser.cookies == cookies
    assert len([*store.grants.scan()]) == grants + (outcome == "code")


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 h", "OpenID Connect Core §3.1.2.1 l", "OpenID Connect Core §3.1.2.3 b")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("asked", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}])
def test_a_new_sign_in_is_asked_for_each_request_that_wants_one(
    site: Site, browser: Browser, house: Registered, asked: dict[str, Any]
) -> None:
    browser.code(house)
    site.clock.advance(100)
    page = browser.authorize(house, **asked)
    assert is_sign_in(page)
    answer = browser.sign_in(page)
    grant = site.server.store.grants.get(read_id(site, answer.code))
    assert grant
    assert grant.auth_time == site.clock.time
    assert is_sign_in(browser.authorize(house, **asked)), "each time anew"


def read_id(site: Site, code: str) -> str:
    handle = site.server.keys.read_handle("code", code)
    return handle.id if handle else ""


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("asked", [{"prompt": "login"}, {"max_age": "0"}])
def test_a_sign_in_in_another_tab_is_none_for_this_request(
    site: Site, browser: Browser, house: Registered, asked: dict[str, Any]
) -> None:
    this = browser.authorize(house, **asked)
    browser.code(house, **asked)  # another tab
    again = browser.get("/oauth2/authorize", request_uri=this.form.fields["request_uri"])
    assert is_sign_in(again)
    assert browser.sign_in(this).code


def test_a_sign_in_page_that_waits_in_another_tab_goes_on_without_a_second_sign_in(
    browser: Browser, house: Registered
) -> None:
    this = browser.authorize(house)
    browser.code(house)  # another tab
    assert browser.get("/oauth2/authorize", request_uri=this.form.fields["request_uri"]).code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 n", "OpenID Connect Core §15.1 f")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_max_age_is_counted_from_the_sign_in(site: Site, browser: Browser, house: Registered) -> None:
    browser.code(house)
    site.clock.advance(60)
    assert browser.authorize(house, max_age="60").code
    site.clock.advance(1)
    assert browser.authorize(house, max_age="61").code, "a code is no sign-in"
    page = browser.authorize(house, max_age="60")
    assert is_sign_in(page)
    site.clock.advance(61)
    answer = browser.sign_in(page)
    assert answer.code
    assert browser.authorize(house, max_age="1", prompt="none").code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 j")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_prompt_consent_asks_whatever_was_allowed(site: Site, browser: Browser, house: Registered) -> None:
    browser.code(house)
    client = site.client()
    browser.code(client, "allow_always")
    for one in (client, house):
        page = browser.authorize(one, prompt="consent")
        assert is_consent(page)
        assert not new_scopes(page)
        assert browser.submit(page, decision="allow_once").code
    both = browser.authorize(house, prompt="login consent")
    assert is_sign_in(both)
    assert is_consent(browser.sign_in(both))


def test_always_allow_is_remembered_for_this_person_client_and_scope(
    site: Site, browsers: Callable[..., Browser], house: Registered
) -> None:
    site.user("bob")
    alice, bob = browsers(), browsers()
    alice.code(house)
    bob.sign_in(bob.authorize(house), "bob")
    client, other = site.client(), site.client()
    alice.code(client, "allow_always", scope="openid email")

    assert alice.authorize(client, scope="openid email").code
    assert alice.authorize(client, scope="email").code, "less than was allowed"
    assert is_consent(bob.authorize(client, scope="openid"))
    assert is_consent(alice.authorize(other, scope="openid"))
    second = browsers()
    assert second.sign_in(second.authorize(client)).code, "in another browser of hers"


@pytest.mark.spec("RFC 6749 §3.3")
def test_more_scope_than_remembered_asks_again_naming_what_is_new(
    site: Site, browser: Browser, house: Registered
) -> None:
    browser.code(house)
    client = site.client(scope="openid email profile offline_access PRODUCTION")
    first = browser.authorize(client, scope="openid email")
    assert not new_scopes(first), "nothing is newer than the rest"
    browser.submit(first, decision="allow_always")
    page = browser.authorize(client, scope="openid profile PRODUCTION")
    assert new_scopes(page) == ["See your name and profile", "PRODUCTION"]
    already = page.body.partition("You have already allowed it to")[2]
    assert "Know who you are here" in already
    assert "See your e-mail address" in already
    assert "profile" not in already
    browser.submit(page, decision="allow_once")
    assert is_consent(browser.authorize(client, scope="PRODUCTION")), "once is not remembered"
    browser.submit(page := browser.authorize(client, scope="PRODUCTION"), decision="allow_always")
    assert browser.authorize(client, scope="openid email PRODUCTION").code, "both are remembered"


@pytest.mark.spec("OpenID Connect Core §11 b", "OpenID Connect Core §11 d")
@pytest.mark.spec("OpenID Connect Core §11")
def test_offline_access_is_asked_for_when_it_is_new(site: Site, browser: Browser, house: Registered) -> None:
    browser.code(house)
    client = site.client()
    browser.code(client, "allow_always", scope="openid")
    page = browser.authorize(client, scope="openid offline_access")
    assert new_scopes(page) == ["Stay connected when you are not here"]
    browser.submit(page, decision="allow_always")
    assert browser.authorize(client, scope="openid offline_access").code


def test_who_is_somebody_else_may_use_another_account(site: Site, browser: Browser) -> None:
    site.user("alice")
    bob = site.user("bob")
    client = site.client()
    consent = browser.sign_in(browser.authorize(client, login_hint="alice"))
    page = browser.submit(consent, decision="switch")
    assert is_sign_in(page)
    assert page.form.fields["username"] == "", "not the hint: that was the wrong one"
    assert browser.authorize(client, prompt="none").answer["error"] == "consent_required", "still signed in"
    again = browser.sign_in(page, "bob")
    assert is_consent(again)
    code = browser.submit(again, decision="allow_once").code
    grant = site.server.store.grants.get(read_id(site, code))
    assert grant
    assert grant.sub == bob.sub
    assert [session.sub for session in site.server.store.sessions.scan() if session.ended_at is None] == [bob.sub]


def test_a_scope_of_the_operators_own_is_described_in_the_operators_words(
    site: Site, browser: Browser, house: Registered
) -> None:
    browser.code(house)
    site.server.store.scopes.put(Scope("photos.read", "See your photos & albums"))
    client = site.client(scope="openid offline_access zoo photos.read email")
    page = browser.authorize(client, scope=client.record.scope)
    words = re.findall(r"<li><bdi>(.*?)</bdi>", page.body)
    assert words == [
        "Know who you are here",
        "See your e-mail address",
        "See your photos &amp; albums",
        "zoo",
        "Stay connected when you are not here",
    ]


def test_allow_once_is_not_remembered(site: Site, browser: Browser, house: Registered) -> None:
    browser.code(house)
    client = site.client()
    assert browser.code(client, "allow_once")
    assert is_consent(browser.authorize(client))
    assert not [*site.server.store.consents.scan()]


@pytest.mark.spec("RFC 6749 §10.1 b", "RFC 6749 §10.2 c", "RFC 6749 §10.2 f", "RFC 8252 §8.6 a", "RFC 8252 §8.6 b")
@pytest.mark.spec("OpenID Connect Core §11 e")
@pytest.mark.spec("RFC 8252 §8.6")
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("uri", NATIVE)
def test_a_native_application_is_asked_about_each_time(
    site: Site, browser: Browser, house: Registered, uri: str, trusted: bool
) -> None:
    browser.code(house)
    client = site.client(redirect_uris=[uri, "https://client.example.com/cb"], public=True, trusted=trusted)
    page = browser.authorize(client)
    assert page.form.buttons == [("decision", "allow_once"), ("decision", "deny"), ("decision", "switch")]
    assert browser.submit(page, decision="allow_always").code  # forged: it is taken for once
    assert is_consent(browser.authorize(client))
    assert not [*site.server.store.consents.scan()]
    hosted = browser.authorize(client, redirect_uri="https://client.example.com/cb")
    assert is_consent(hosted) != trusted


@pytest.mark.spec("RFC 9207 §2 a", "OpenID Connect Core §3.1.2.1 k")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
def test_deny_goes_back_with_state_and_issuer_and_leaves_nothing(
    site: Site, browser: Browser, house: Registered
) -> None:
    browser.code(house)
    client, store = site.client(), site.server.store
    grants = {grant.grant_id for grant in store.grants.scan()}
    page = browser.authorize(client, state="a b&c=d")
    answer = browser.submit(page, decision="deny")
    assert answer.location.startswith("https://client.example.com/cb?")
    given = answer.answer
    assert given.pop("error_description")
    assert given == {"error": "access_denied", "state": "a b&c=d", "iss": site.settings.issuer}
    assert {grant.grant_id for grant in store.grants.scan()} == grants
    assert not [*store.consents.scan()]
    assert browser.submit(page, decision="allow_once").status == 400, "the question has been answered"
    assert is_consent(browser.authorize(client)), "but may be asked again"
