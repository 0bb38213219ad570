"""Clauses about our pages and redirects that no other test is about."""

import re
from html import unescape
from urllib.parse import urlsplit

import pytest

from tests.browser import Answer, Browser, basic
from tests.site import PASSWORD, Site

LINK = re.compile(r'(?:href|src|action|srcset|poster|data)="([^"]*)"')


@pytest.fixture
def pages(site: Site, browser: Browser) -> list[Answer]:
    """Each page of the authorization endpoint: sign-in, again after a mistake, consent, error, a new password."""
    site.user("alice")
    made = site.user("root", password=None)
    assert made.password_change_required
    client = site.client(direct_sign_in=True)
    sign_in = browser.authorize(client)
    pages = [sign_in, browser.sign_in(sign_in, "alice", "wrong"), browser.authorize(client, client_id="nobody")]
    pages += [browser.authorize(client, "/oauth2/code"), browser.sign_in(sign_in)]
    assert [page.status for page in pages] == [200, 400, 400, 401, 200]
    return pages


@pytest.mark.spec("RFC 9700 §4.2.4 a")
def test_no_page_has_anything_of_another_site_nor_a_link_to_one(site: Site, pages: list[Answer]) -> None:
    for page in pages:
        links = [unescape(link) for link in LINK.findall(page.body)]
        assert links
        for link in links:
            at_home = link.startswith(site.settings.issuer + "/") or (
                link.startswith("/") and not link.startswith("//")
            )
            assert at_home or link.startswith(("data:", "#")), link
        policy = page.header("content-security-policy") or ""
        assert policy.startswith("default-src 'none';")
        assert page.header("referrer-policy") == "same-origin"


@pytest.mark.spec("RFC 9700 §4.16 a", "RFC 9700 §4.16 b", "RFC 9700 §4.16 d", "OpenID Connect Core §3.1.2.3 e")
def test_no_page_shows_in_a_frame(pages: list[Answer]) -> None:
    for page in pages:
        policy = (page.header("content-security-policy") or "").split("; ")
        assert "frame-ancestors 'none'" in policy
        assert page.header("x-frame-options") == "DENY"


@pytest.mark.spec("RFC 9700 §2.1 c", "RFC 9700 §4.12 a", "RFC 9700 §4.12 b", "OpenID Connect Core §16.22")
def test_a_redirect_after_credentials_makes_the_browser_forget_them(site: Site, browser: Browser) -> None:
    site.user("alice")
    client, trusted = site.client(), site.client(trusted=True, direct_sign_in=True)
    signed_in = browser.send(browser.authorize(client), username="alice", password=PASSWORD)
    assert (signed_in.status, urlsplit(signed_in.location).netloc) == (303, ""), "to our own next page"
    browser.cookies.clear()
    answered = browser.send(browser.authorize(trusted), username="alice", password=PASSWORD)
    assert answered.status == 303
    assert answered.code
    # After a GET the browser has no body to repeat, and HTTP Basic stays with our own address.
    direct = browser.authorize(trusted, "/oauth2/code", headers=basic("alice", PASSWORD))
    assert direct.status == 302
    for answer in (signed_in, answered, direct):
        assert PASSWORD not in answer.location
        assert "alice" not in answer.location


@pytest.mark.spec("RFC 6749 §10.2 d", "RFC 6749 §3.1 a", "OpenID Connect Core §3.1.2.4", "RFC 6749 §10.12 b")
def test_a_person_signs_in_and_is_told_who_asks_for_what_before_anything_is_given(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client(client_name="Photo Print")
    sign_in = browser.authorize(client, scope="openid email")
    assert "password" in sign_in.form.fields
    consent = browser.sign_in(sign_in)
    for told in ("Photo Print", "alice", "See your e-mail address", "client.example.com"):
        assert told in unescape(consent.body)
    assert ("decision", "deny") in consent.form.buttons
    assert [*site.server.store.grants.scan()] == []
    assert browser.submit(consent, decision="allow_once").code


@pytest.mark.spec("OpenID Connect Core §16.18 b", "OpenID Connect Core §11 a")
def test_the_person_is_told_of_access_that_lasts(site: Site, browser: Browser) -> None:
    site.user("alice")
    told = "Stay connected when you are not here"
    client = site.client()
    assert told in browser.sign_in(browser.authorize(client, scope="openid offline_access")).body
    assert told not in browser.authorize(client, scope="openid").body


@pytest.mark.spec("RFC 6749 §10.2 e")
@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("openid profile", "Access ends when you sign out, and after 180 days at most."),
        ("openid offline_access", "Access lasts 180 days at most."),
    ],
)
def test_the_person_is_told_until_when_access_lasts(site: Site, browser: Browser, scope: str, said: str) -> None:
    site.user("alice")
    page = browser.sign_in(browser.authorize(site.client(), scope=scope))
    assert said in page.body
