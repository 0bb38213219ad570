"""Pages and redirects of the authorization endpoint: third-party content, frames and credentials."""

import re
from html import unescape
from urllib.parse import urlsplit

import pytest

from tests.support.browser import Answer, Browser, basic
from tests.support.site import PASSWORD, Site

LINK = re.compile(r'(?:href|src|action|srcset|poster|data)="([^"]*)"')


@pytest.fixture
def pages(site: Site, browser: Browser) -> list[Answer]:
    """Each page of the authorization endpoint: sign-in, with an error, unknown client, code endpoint, consent."""
    site.user("alice")
    new_user = site.user("root", password=None)
    assert new_user.password_change_required
    client = site.client(direct_sign_in=True)
    sign_in = browser.authorize(client)
    pages = [sign_in, browser.sign_in(sign_in, "alice", "wrong"), browser.authorize(client, client_id="unknown")]
    pages += [browser.authorize(client, "/oauth2/code"), browser.sign_in(sign_in)]
    assert [page.status for page in pages] == [200, 400, 400, 401, 200]
    return pages


@pytest.mark.spec("RFC 9700 §4.2.4 a")
def test_pages_have_no_third_party_content_or_links(site: Site, pages: list[Answer]) -> None:
    for page in pages:
        links = [unescape(link) for link in LINK.findall(page.body)]
        assert links
        for link in links:
            internal = link.startswith(site.settings.issuer + "/") or (
                link.startswith("/") and not link.startswith("//")
            )
            assert internal or link.startswith(("data:", "#")), link
        policy = page.header("content-security-policy") or ""
        assert policy.startswith("default-src 'none';")
        assert page.header("referrer-policy") in ("same-origin", "origin")


@pytest.mark.spec("RFC 9700 §4.16 a", "RFC 9700 §4.16 b", "RFC 9700 §4.16 d", "OpenID Connect Core §3.1.2.3 e")
def test_pages_cannot_be_framed(pages: list[Answer]) -> None:
    for page in pages:
        policy = (page.header("content-security-policy") or "").split("; ")
        assert "frame-ancestors 'none'" in policy
        assert page.header("x-frame-options") == "DENY"


def test_pages_may_use_no_device_and_no_sensor(site: Site, pages: list[Answer], browser: Browser) -> None:
    account = browser.get("/account")
    assert account.status == 200
    for page in [*pages, account, browser.get("/nothing")]:
        policy = (page.header("permissions-policy") or "").split(", ")
        assert {"camera=()", "microphone=()", "geolocation=()", "usb=()", "clipboard-read=()"} <= set(policy)
        of_this_origin = {"publickey-credentials-create=(self)", "publickey-credentials-get=(self)"}
        assert {feature for feature in policy if not feature.endswith("=()")} == of_this_origin


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 j")
@pytest.mark.spec("RFC 9700 §2.1 c", "RFC 9700 §4.12 a", "RFC 9700 §4.12 b", "OpenID Connect Core §16.22")
def test_redirect_after_credentials_does_not_forward_them(site: Site, browser: Browser) -> None:
    site.user("alice")
    client, trusted = site.client(), site.client(trusted=True, direct_sign_in=True)
    signed_in = browser.send(browser.authorize(client), username="alice", password=PASSWORD)
    assert (signed_in.status, urlsplit(signed_in.location).netloc) == (303, "")
    browser.cookies.clear()
    answered = browser.send(browser.authorize(trusted), username="alice", password=PASSWORD)
    assert answered.status == 303
    assert answered.code
    # After a GET the browser has no body to repeat, and it sends Basic credentials to this origin only.
    direct = browser.authorize(trusted, "/oauth2/code", headers=basic("alice", PASSWORD))
    assert direct.status == 302
    for answer in (signed_in, answered, direct):
        assert PASSWORD not in answer.location
        assert "alice" not in answer.location
