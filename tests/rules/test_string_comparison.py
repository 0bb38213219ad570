"""Strings are compared by code points, without Unicode normalization."""

import json

import pytest

from tests.support.browser import Browser, basic
from tests.support.site import Site

REDIRECT_URI = "https://client.example.com/cb"
LOOKALIKES = {
    "wide letters": ("openid", "\uff4f\uff50\uff45\uff4e\uff49\uff44"),
    "a ligature": ("profile", "pro\ufb01le"),
    "a soft hyphen": ("email", "e\u00admail"),
    "a letter of another alphabet": ("email", "\u0435mail"),
}


@pytest.mark.spec("RFC 8414 §4", "OpenID Connect Core §14 a", "OpenID Connect Discovery §5")
@pytest.mark.parametrize("kind", LOOKALIKES)
def test_lookalike_values_are_different(site: Site, browser: Browser, kind: str) -> None:
    value, lookalike = LOOKALIKES[kind]
    client = site.client(redirect_uris=[REDIRECT_URI + "/" + value], scope=value)
    assert browser.authorize(client, scope=value, response_type="code").status == 200
    assert browser.authorize(client, scope=lookalike).answer["error"] == "invalid_scope"
    assert browser.authorize(client, scope=value, redirect_uri=REDIRECT_URI + "/" + lookalike).status == 400
    named = site.client(client_id=value)
    assert browser.authorize(named, client_id=lookalike).status == 400
    bodies = f'{{"grant_type": "{json.dumps(value)[1:-1]}"}}', f'{{"grant_type": "{json.dumps(lookalike)[1:-1]}"}}'
    for body in bodies:
        headers = {"Content-Type": "application/json", **basic(named.id, named.secret or "")}
        answer = browser.request("POST", "/oauth2/token", body, headers)
        assert answer.json["error"] == "unsupported_grant_type"


@pytest.mark.spec("RFC 8414 §4", "OpenID Connect Core §14 a", "OpenID Connect Discovery §5")
def test_json_escapes_are_decoded_and_nothing_is_normalized(site: Site, browser: Browser) -> None:
    client = site.client()
    headers = {"Content-Type": "application/json", **basic(client.id, client.secret or "")}
    escaped = '"gr\\u0061nt_type": "\\u0061uthorization_code"'
    answer = browser.request("POST", "/oauth2/token", f'{{{escaped}, "code": "x"}}', headers)
    assert answer.json["error"] == "invalid_grant"  # the escaped name and value were decoded
    composed, decomposed = "z\u00eb", "ze\u0308"
    for state in (composed, decomposed):
        assert browser.authorize(client, state=state, response_type="x").answer["state"] == state
