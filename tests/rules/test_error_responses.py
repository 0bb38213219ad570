"""Every error response has a specified code and only permitted characters."""

import re

import pytest

from tests.support.browser import Browser, basic
from tests.support.site import Site

# RFC 6749 sections 4.1.2.1 and 5.2
PERMITTED = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")


FORBIDDEN = '"\\\u00e9\u2603\U0001f511<b>%22 \u2028'


def _errors(site: Site, browser: Browser) -> list[dict[str, str]]:
    """Return the errors of requests whose parameters contain characters that are forbidden in errors."""
    client = site.client()
    authorization_responses = [
        browser.authorize(client, **{name: FORBIDDEN})
        for name in ("scope", "response_type", "response_mode", "prompt", "max_age", "code_challenge")
    ]
    body = {
        "grant_type": FORBIDDEN,
        "code": FORBIDDEN,
        "refresh_token": FORBIDDEN,
        "scope": FORBIDDEN,
        "code_verifier": FORBIDDEN,
    }
    header = basic(client.id, client.secret or "")
    responses = [
        browser.post("/oauth2/token", body | {"grant_type": grant_type}, header)
        for grant_type in (FORBIDDEN, "authorization_code", "refresh_token")
    ]
    responses += [
        browser.post("/oauth2/token", body | {"client_id": FORBIDDEN}),
        browser.post("/oauth2/revoke", {}, header),
    ]
    responses += [browser.post("/oauth2/userinfo", {"access_token": FORBIDDEN}), browser.userinfo("x")]
    return [answer.answer for answer in authorization_responses] + [answer.json for answer in responses]


@pytest.mark.spec("RFC 6749 §4.1.2.1 d", "RFC 6749 §5.2 c")
def test_errors_contain_only_permitted_characters(site: Site, browser: Browser) -> None:
    errors = _errors(site, browser)
    assert len(errors) >= 12
    for members in errors:
        for name in ("error", "error_description"):
            assert PERMITTED.fullmatch(members[name]), members


@pytest.mark.spec("RFC 6749 §4.1.2.1 c", "RFC 6749 §5.2 a", "OpenID Connect Core §3.1.2.6 c")
def test_every_error_code_is_specified(site: Site, browser: Browser) -> None:
    oauth = {"invalid_request", "unauthorized_client", "access_denied", "unsupported_response_type", "invalid_scope"}
    oauth |= {"server_error", "temporarily_unavailable", "invalid_client", "invalid_grant", "unsupported_grant_type"}
    assert {members["error"] for members in _errors(site, browser)} <= oauth | {"invalid_token"}
