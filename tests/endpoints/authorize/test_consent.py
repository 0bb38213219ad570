"""/oauth2/authorize: the consent page, remembered consent, and the events that record a decision."""

import json
import re
from collections.abc import Callable

import pytest

from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.records import Event
from tests.endpoints.authorize.conftest import (
    NATIVE_URIS,
    asks_for_consent,
    asks_to_sign_in,
    list_new_scopes,
    read_grant,
)
from tests.support.browser import Browser
from tests.support.site import Registered, Site


def test_allow_always_is_remembered_for_the_user_the_client_and_the_scopes(
    site: Site, browsers: Callable[..., Browser], trusted_client: Registered
) -> None:
    site.user("bob")
    alice, bob = browsers(), browsers()
    alice.code(trusted_client)
    bob.sign_in(bob.authorize(trusted_client), "bob")
    client, other = site.client(), site.client()
    alice.code(client, "allow_always", scope="openid email")

    assert alice.authorize(client, scope="openid email").code
    assert alice.authorize(client, scope="email").code, "fewer scopes than were allowed"
    assert asks_for_consent(bob.authorize(client, scope="openid"))
    assert asks_for_consent(alice.authorize(other, scope="openid"))
    elsewhere = browsers()
    assert elsewhere.sign_in(elsewhere.authorize(client)).code, "also in another browser"


@pytest.mark.spec("RFC 6749 §3.3")
def test_scopes_beyond_the_remembered_ones_ask_again_and_are_marked_as_new(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    browser.code(trusted_client)
    client = site.client(scope="openid email profile offline_access PRODUCTION")
    first = browser.authorize(client, scope="openid email")
    assert not list_new_scopes(first), "in a first request no scope is marked as new"
    browser.submit(first, decision="allow_always")
    page = browser.authorize(client, scope="openid profile PRODUCTION")
    assert list_new_scopes(page) == ["See your name and profile", "PRODUCTION"]
    allowed_before = page.body.partition("You have already allowed it to")[2]
    assert "Recognize you (your user ID here)" in allowed_before
    assert "See your email address" in allowed_before
    assert "See your name and profile" not in allowed_before
    browser.submit(page, decision="allow_once")
    assert asks_for_consent(browser.authorize(client, scope="PRODUCTION")), "allow_once is not remembered"
    browser.submit(browser.authorize(client, scope="PRODUCTION"), decision="allow_always")
    assert browser.authorize(client, scope="openid email PRODUCTION").code, "both are remembered"


@pytest.mark.spec("OpenID Connect Core §11 b", "OpenID Connect Core §11 d")
@pytest.mark.spec("OpenID Connect Core §11")
def test_offline_access_asks_for_consent_when_it_is_new(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    browser.code(trusted_client)
    client = site.client()
    browser.code(client, "allow_always", scope="openid")
    page = browser.authorize(client, scope="openid offline_access")
    assert list_new_scopes(page) == ["Keep access while you are away"]
    browser.submit(page, decision="allow_always")
    assert browser.authorize(client, scope="openid offline_access").code


def test_user_switches_to_another_account_on_the_consent_page(site: Site, browser: Browser) -> None:
    site.user("alice")
    bob = site.user("bob")
    client = site.client()
    consent = browser.sign_in(browser.authorize(client, login_hint="alice"))
    page = browser.submit(consent, decision="switch")
    assert asks_to_sign_in(page)
    assert page.form.fields["username"] == "", "without the login_hint, which named the other user"
    assert browser.authorize(client, prompt="none").answer["error"] == "consent_required", "still signed in"
    page = browser.sign_in(page, "bob")
    assert asks_for_consent(page)
    code = browser.submit(page, decision="allow_once").code
    assert read_grant(site, code).sub == bob.sub
    assert [session.sub for session in site.server.store.sessions.scan() if session.ended_at is None] == [bob.sub]


def test_custom_scope_is_shown_with_its_stored_description(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    browser.code(trusted_client)
    site.server.store.scopes.put(Scope("photos.read", "See your photos & albums"))
    client = site.client(scope="openid offline_access zoo photos.read email")
    page = browser.authorize(client, scope=client.record.scope)
    assert re.findall(r"<li><bdi>(.*?)</bdi>", page.body) == [
        "Recognize you (your user ID here)",
        "See your email address",
        "See your photos &amp; albums",
        "zoo",
        "Keep access while you are away",
    ]


def test_allow_once_is_not_remembered(site: Site, browser: Browser, trusted_client: Registered) -> None:
    browser.code(trusted_client)
    client = site.client()
    assert browser.code(client, "allow_once")
    assert asks_for_consent(browser.authorize(client))
    assert not [*site.server.store.consents.scan()]


@pytest.mark.spec("RFC 6749 §10.1 b", "RFC 6749 §10.2 c", "RFC 6749 §10.2 f", "RFC 8252 §8.6 a", "RFC 8252 §8.6 b")
@pytest.mark.spec("OpenID Connect Core §11 e")
@pytest.mark.spec("RFC 8252 §8.6")
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("uri", NATIVE_URIS)
def test_native_application_needs_consent_for_each_request(
    site: Site, browser: Browser, trusted_client: Registered, uri: str, trusted: bool
) -> None:
    browser.code(trusted_client)
    client = site.client(redirect_uris=[uri, "https://client.example.com/cb"], public=True, trusted=trusted)
    page = browser.authorize(client)
    assert page.form.buttons == [("decision", "allow"), ("decision", "deny"), ("decision", "switch")]
    assert browser.submit(page, decision="allow_always").code  # treated as allow_once
    assert asks_for_consent(browser.authorize(client))
    assert not [*site.server.store.consents.scan()]
    hosted = browser.authorize(client, redirect_uri="https://client.example.com/cb")
    assert asks_for_consent(hosted) != trusted


@pytest.mark.spec("RFC 9207 §2 a", "OpenID Connect Core §3.1.2.1 k")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
def test_deny_returns_state_and_issuer_and_stores_nothing(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    browser.code(trusted_client)
    client, store = site.client(), site.server.store
    grants = {grant.grant_id for grant in store.grants.scan()}
    page = browser.authorize(client, state="a b&c=d")
    answer = browser.submit(page, decision="deny")
    assert answer.location.startswith("https://client.example.com/cb?")
    parameters = answer.answer
    assert parameters.pop("error_description")
    assert parameters == {"error": "access_denied", "state": "a b&c=d", "iss": site.settings.issuer}
    assert {grant.grant_id for grant in store.grants.scan()} == grants
    assert not [*store.consents.scan()]
    answered = browser.submit(page, decision="allow_once")
    assert answered.answer["error"] == "access_denied", "a consent page is answered once"
    assert {grant.grant_id for grant in store.grants.scan()} == grants
    assert asks_for_consent(browser.authorize(client)), "a new request asks again"


# ---- events


def read_logged_events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the events in the log line of the last request, and clear the log."""
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    names: list[str] = lines[-1].get("events", [])
    caplog.clear()
    return names


def read_consent_events(site: Site) -> list[tuple[str, str | None]]:
    """Return the names and clients of the stored consent events, which the user can see."""
    events: list[Event] = [event for event in site.server.store.events.scan() if event.name.startswith("consent")]
    return sorted((event.name, event.client_name) for event in events)


def test_consent_event_is_recorded_for_each_decision_and_code_issued_for_each_code(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    site.user()
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    assert "consent_given" not in read_logged_events(caplog)
    browser.submit(page, decision="allow_always")
    assert read_logged_events(caplog) == ["consent_given", "code_issued"]
    assert read_consent_events(site) == [("consent_given", "Photo Print")]
    browser.authorize(client)
    assert read_logged_events(caplog) == ["code_issued"]
    assert read_consent_events(site) == [("consent_given", "Photo Print")], (
        "a code without a decision records no consent event"
    )
    page = browser.authorize(client, prompt="consent")
    browser.submit(page, decision="deny")
    assert read_logged_events(caplog) == ["consent_denied"]
    assert read_consent_events(site) == [("consent_denied", "Photo Print"), ("consent_given", "Photo Print")]
    assert browser.submit(page, decision="deny").answer["error"] == "access_denied"
    assert read_logged_events(caplog) == []
    assert len(read_consent_events(site)) == 2, "a second answer records nothing"
    assert browser.submit(page, decision="allow_once").answer["error"] == "access_denied"
    assert len(read_consent_events(site)) == 2
