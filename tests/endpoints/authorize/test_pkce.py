"""PKCE at the authorization endpoint (RFC 7636)."""

import base64
import json

import pytest

from tests.endpoints.authorize.conftest import authorize_stored
from tests.support.browser import CHALLENGE, Browser
from tests.support.site import Site


@pytest.mark.spec("RFC 7636 §4.4 b")
def test_code_challenge_is_in_no_response_to_the_client(site: Site, browser: Browser) -> None:
    """Only our own forms have it, which lead to the request that the browser has sent."""
    site.user()
    client = site.client()
    consent = browser.sign_in(browser.authorize(client))
    denied = browser.submit(consent, decision="deny")
    error = browser.authorize(client, scope="unknown")
    page, stored = browser.authorize(client), authorize_stored(browser, client)
    for own in (page, consent):
        main, menu = own.body.partition("<footer")[::2]
        assert menu.count(CHALLENGE) == 1
        assert main.count(CHALLENGE) == (own.form.action or "").count(CHALLENGE) == 1
    answer = browser.submit(page, decision="allow_once")
    raw = base64.urlsafe_b64decode(answer.code.removeprefix("code_") + "==")
    assert base64.urlsafe_b64decode(CHALLENGE + "=") not in raw
    locations = [denied.location, error.location, answer.location]
    for text in (stored.body, *locations, raw.decode("latin-1"), json.dumps(browser.cookies)):
        assert CHALLENGE not in text


@pytest.mark.spec("RFC 7636 §4.4.1 d", "RFC 7636 §4.4.1 c")
@pytest.mark.parametrize("method", ["plain", None])
def test_error_for_another_challenge_method_names_s256(site: Site, browser: Browser, method: str | None) -> None:
    answer = browser.authorize(site.client(), code_challenge_method=method).answer
    assert answer["error"] == "invalid_request"
    assert "S256" in answer["error_description"]
