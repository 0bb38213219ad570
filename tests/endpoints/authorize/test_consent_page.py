"""What the consent page says before access is granted."""

from html import unescape

import pytest

from tests.support.browser import Browser
from tests.support.site import Site


@pytest.mark.spec("RFC 6749 §10.2 d", "RFC 6749 §3.1 a", "OpenID Connect Core §3.1.2.4", "RFC 6749 §10.12 b")
def test_consent_page_names_client_user_and_scope_before_access_is_granted(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client(client_name="Photo Print")
    sign_in = browser.authorize(client, scope="openid email")
    assert "password" in sign_in.form.fields
    consent = browser.sign_in(sign_in)
    for text in ("Photo Print", "alice", "See your email address", "client.example.com"):
        assert text in unescape(consent.body)
    assert ("decision", "deny") in consent.form.buttons
    assert [*site.server.store.grants.scan()] == []
    assert browser.submit(consent, decision="allow_once").code


@pytest.mark.spec("OpenID Connect Core §16.18 b", "OpenID Connect Core §11 a")
def test_consent_page_informs_about_offline_access(site: Site, browser: Browser) -> None:
    site.user("alice")
    text = "Keep access while you are away"
    client = site.client()
    assert text in browser.sign_in(browser.authorize(client, scope="openid offline_access")).body
    assert text not in browser.authorize(client, scope="openid").body


@pytest.mark.spec("RFC 6749 §10.2 e")
@pytest.mark.parametrize(
    ("scope", "text"),
    [
        ("openid profile", "Access ends when you sign out, or after 180 days at the latest."),
        ("openid offline_access", "Access ends after 180 days at the latest."),
    ],
)
def test_consent_page_states_how_long_access_lasts(site: Site, browser: Browser, scope: str, text: str) -> None:
    site.user("alice")
    page = browser.sign_in(browser.authorize(site.client(), scope=scope))
    assert text in page.body
