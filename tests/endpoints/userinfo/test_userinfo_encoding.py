"""The encoding of UserInfo responses."""

import json

import pytest

from tests.support.browser import Browser
from tests.support.grants import create_code
from tests.support.site import Site


@pytest.mark.spec("OpenID Connect Core §5.3.2 a", "OpenID Connect Core §5.3.2 e", "OpenID Connect Core §5.3.2 f")
@pytest.mark.spec("OpenID Connect Core §5.3.2 g", "OpenID Connect Core §5.6")
def test_claims_in_any_script_are_returned_as_utf_8_json(site: Site, browser: Browser) -> None:
    claims = {"name": "\u5199\u771f \U0001f5a8 Zo\u00eb", "birthdate": "0000-03-22", "address": {"country": "\u00d6"}}
    bob = site.user("bob", claims=claims)
    client = site.client(scope="openid profile address")
    code = create_code(site, client, bob, scope=frozenset({"openid", "profile", "address"}))
    answer = browser.userinfo(browser.redeem(client, code).json["access_token"])
    assert answer.header("content-type") == "application/json"
    body = answer.body.encode("utf-8")
    assert json.loads(body.decode("utf-8")) == {"sub": bob.sub, "preferred_username": "bob", **claims}
