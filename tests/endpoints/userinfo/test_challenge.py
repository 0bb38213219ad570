"""The WWW-Authenticate challenge of the UserInfo endpoint (RFC 6750 section 3)."""

import re

import pytest

from tests.support.browser import Answer, Browser
from tests.support.grants import create_code
from tests.support.site import Site

# RFC 6749 sections 4.1.2.1 and 5.2
PERMITTED = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")


def _challenge(answer: Answer) -> list[tuple[str, str]]:
    """Return the attributes of a Bearer challenge, which must contain nothing else."""
    challenge, _, dpop = (answer.header("www-authenticate") or "").partition(", DPoP ")
    assert not dpop or dpop.startswith('algs="ES256 '), "beside it may be the one of RFC 9449 section 7.1"
    scheme, _, rest = challenge.partition(" ")
    assert scheme == "Bearer"
    pairs = re.findall(r'([a-z_]+)="([^"]*)"', rest)
    assert ", ".join(f'{name}="{value}"' for name, value in pairs) == rest
    return [(name, value) for name, value in pairs]


@pytest.mark.spec("RFC 6750 §3 a", "RFC 6750 §3 b", "RFC 6750 §3 c", "RFC 6750 §3 d", "RFC 6750 §3 e")
@pytest.mark.spec("RFC 6750 §3 f", "RFC 6750 §3 g", "RFC 6750 §3 h", "RFC 6749 §7.2")
def test_challenge_has_each_attribute_once_and_only_permitted_characters(site: Site, browser: Browser) -> None:
    client, alice = site.client(), site.user()
    without_openid = browser.redeem(client, create_code(site, client, alice, scope=frozenset({"email"}))).json[
        "access_token"
    ]
    answers = {
        None: browser.get("/oauth2/userinfo"),
        "invalid_token": browser.userinfo("x"),
        "insufficient_scope": browser.userinfo(without_openid),
        "invalid_request": browser.get("/oauth2/userinfo", access_token=without_openid),
    }
    for error, answer in answers.items():
        challenge = _challenge(answer)
        names = [name for name, _ in challenge]
        assert len(set(names)) == len(names)
        assert names[0] == "realm"
        assert dict(challenge).get("error") == error
        for _, value in challenge:
            assert PERMITTED.fullmatch(value)
    assert dict(_challenge(answers["insufficient_scope"]))["scope"] == "openid"
