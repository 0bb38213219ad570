"""What the operator allows clients with a document: the kinds of redirect URIs, and the grant types."""

from collections.abc import Callable

import pytest

from chalicelib.protocol.durations import DAY
from tests.endpoints.client_documents.conftest import CALLBACK, Host
from tests.endpoints.client_documents.test_hostile_documents import is_refused
from tests.support.browser import Browser, authorization_parameters
from tests.support.site import Site

LOOPBACK = "http://127.0.0.1:33418/"
StartSite = Callable[..., Site]
Browsers = Callable[..., Browser]


def is_mismatch(browser: Browser, host: Host, redirect_uri: str) -> bool:
    page = browser.authorize(host.client, redirect_uri=redirect_uri)
    return (page.status, page.header("location"), "redirect_uri_mismatch" in page.body) == (400, None, True)


def test_redirect_uris_of_other_kinds_are_ignored(start_site: StartSite, browsers: Browsers, host: Host) -> None:
    host.serve(redirect_uris=[CALLBACK, LOOPBACK, "com.example.app:/cb"])
    browser = browsers(start_site(open_client_redirects=("https",)))
    assert browser.authorize(host.client).status == 200
    assert is_mismatch(browser, host, LOOPBACK)
    assert is_mismatch(browser, host, "com.example.app:/cb")
    browser = browsers(start_site(open_client_redirects=("loopback",)))
    assert browser.authorize(host.client, redirect_uri=LOOPBACK).status == 200
    assert is_mismatch(browser, host, CALLBACK)


def test_document_without_a_redirect_uri_that_is_allowed_is_as_any_other_that_cannot_be_used(
    start_site: StartSite, browsers: Browsers, host: Host
) -> None:
    host.serve(redirect_uris=[LOOPBACK])
    site = start_site(open_client_redirects=("https", "private-use"))
    is_refused(site, browsers(site), host, host.url)


def test_document_with_an_invalid_redirect_uri_is_refused_whatever_is_allowed(
    start_site: StartSite, browsers: Browsers, host: Host
) -> None:
    host.serve(redirect_uris=[CALLBACK, "http://app.example.com/callback"])
    site = start_site(open_client_redirects=("https",))
    is_refused(site, browsers(site), host, host.url)


def test_setting_holds_at_once_for_documents_that_were_fetched_and_grants_stay(
    site: Site, start_site: StartSite, browsers: Browsers, browser: Browser, host: Host
) -> None:
    host.serve(redirect_uris=[CALLBACK, LOOPBACK])
    code = browser.code(host.client, redirect_uri=LOOPBACK)
    tokens = browser.redeem(host.client, code, redirect_uri=LOOPBACK).json
    strict = browsers(start_site(open_client_redirects=("https",), issuer=site.settings.issuer))
    assert is_mismatch(strict, host, LOOPBACK)
    assert strict.authorize(host.client).status == 200
    assert strict.refresh(host.client, tokens["refresh_token"]).status == 200
    strict = browsers(start_site(open_client_redirects=("private-use",), issuer=site.settings.issuer))
    assert is_mismatch(strict, host, CALLBACK)
    site.clock.advance(DAY)
    assert browser.authorize(host.client, redirect_uri=LOOPBACK).status == 200, "the record has all of them"


def test_client_gets_no_refresh_token_where_the_grant_type_is_not_allowed(
    site: Site, start_site: StartSite, browsers: Browsers, browser: Browser, host: Host
) -> None:
    earlier = browser.tokens(host.client)["refresh_token"]
    strict = browsers(start_site(open_client_grant_types=("authorization_code",), issuer=site.settings.issuer))
    assert "refresh_token" not in strict.tokens(host.client)
    assert strict.refresh(host.client, earlier).json["error"] == "unauthorized_client"
    assert browser.refresh(host.client, earlier).status == 200


@pytest.mark.spec("RFC 9126 §6")
def test_document_can_demand_pushed_requests(site: Site, browser: Browser, host: Host) -> None:
    host.serve(require_pushed_authorization_requests=True)
    assert browser.authorize(host.client).answer["error"] == "invalid_request"
    pushed = browser.post("/oauth2/par", authorization_parameters(host.client)).json["request_uri"]
    site.secrets.add(pushed)
    page = browser.get("/oauth2/authorize", client_id=host.url, request_uri=pushed)
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    assert browser.redeem(host.client, answer.code).status == 200
