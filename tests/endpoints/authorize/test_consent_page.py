"""What the consent page says before access is granted."""

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from chalicelib.protocol.durations import DAY
from chalicelib.protocol.own_scope import Scope
from tests.support.browser import Browser
from tests.support.site import Site


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 m")
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


WITHOUT_REFRESH_TOKENS = {"grant_types": ("authorization_code",)}


@pytest.mark.spec("RFC 6749 §10.2 e")
@pytest.mark.parametrize(
    ("scope", "members", "text"),
    [
        (
            "openid profile",
            {},
            "ends when you sign out, when it is not used for 12 hours, and 30 days after you last signed in.",
        ),
        (
            "openid profile",
            {"refresh_token_lifetime": 3600},
            "ends when you sign out, when it is not used for 60 minutes, and 30 days after you last signed in.",
        ),
        ("openid profile", WITHOUT_REFRESH_TOKENS, "ends when you sign out, and after 10 minutes at the latest."),
        (
            "openid offline_access",
            {},
            "continues when you sign out. It ends when it is not used for 30 days, and after 180 days at the latest.",
        ),
        (
            "print",
            {"refresh_token_lifetime": 250_000},  # 2.9 days
            "continues when you sign out. It ends when it is not used for 3 days, and after 180 days at the latest.",
        ),
        (
            "print",
            {"refresh_token_lifetime": 172_799},  # a second less than 2 days
            "continues when you sign out. It ends when it is not used for 48 hours, and after 180 days at the latest.",
        ),
        ("print", WITHOUT_REFRESH_TOKENS, "ends after 10 minutes at the latest."),
    ],
)
def test_consent_page_states_when_access_ends(
    site: Site, browser: Browser, scope: str, members: dict[str, Any], text: str
) -> None:
    site.user("alice")
    client = site.client(scope="openid profile offline_access print", **members)
    page = browser.sign_in(browser.authorize(client, scope=scope))
    assert f"Access {text}" in page.body


def test_consent_page_states_when_access_ends_if_sessions_may_last_longer_than_grants(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site = site_with(session_absolute_lifetime=90 * DAY, refresh_token_absolute_lifetime=60 * DAY)
    site.user("alice")
    browser = browsers(site)
    page = browser.sign_in(browser.authorize(site.client()))
    assert "when it is not used for 12 hours, and after 60 days at the latest." in page.body


def test_scope_whose_record_has_no_description_is_named(site: Site, browser: Browser) -> None:
    site.user("alice")
    site.server.store.scopes.put(Scope("photos.read", ""))
    client = site.client(scope="openid photos.read")
    consent = browser.sign_in(browser.authorize(client, scope="openid photos.read"))
    assert "<bdi>photos.read</bdi>" in consent.body
