"""UserInfo with access tokens that are bound to a key (RFC 9449 section 7)."""

import pytest

from tests.support.assertions import key_pair
from tests.support.browser import Browser
from tests.support.grants import update_client
from tests.support.proofs import USERINFO, bound_tokens, userinfo, with_proof, with_token
from tests.support.site import Registered, Site

OTHER = key_pair("ES256", "another key")


@pytest.fixture
def client(site: Site) -> Registered:
    site.user()
    return site.client()


@pytest.fixture
def token(browser: Browser, client: Registered) -> str:
    return str(bound_tokens(browser, client)["access_token"])


@pytest.mark.spec("RFC 9449 §7.1")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "DPOP"])
def test_bound_token_is_accepted_with_a_proof(
    site: Site, browser: Browser, token: str, method: str, scheme: str
) -> None:
    headers = with_token(site, token, method) | {"Authorization": f"{scheme} {token}"}
    answer = browser.request(method, USERINFO, headers=headers)
    assert (answer.status, "sub" in answer.json) == (200, True)


@pytest.mark.spec("RFC 9449 §7.2 a")
def test_bound_token_is_refused_as_a_bearer_token(site: Site, browser: Browser, token: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answers = [
        browser.userinfo(token),
        browser.get(USERINFO, {"Authorization": f"Bearer {token}"} | with_proof(site, USERINFO, "GET")),
        browser.request("POST", USERINFO, f"access_token={token}", form),
        browser.request("POST", USERINFO, f"access_token={token}", form | with_proof(site, USERINFO)),
    ]
    for answer in answers:
        assert (answer.status, answer.json["error"]) == (401, "invalid_token")
        assert (answer.header("www-authenticate") or "").startswith('DPoP algs="ES256 ')
        assert 'error="invalid_token"' in (answer.header("www-authenticate") or "")


@pytest.mark.spec(
    "RFC 9449 §4.3 c",
    "RFC 9449 §6 b",
    "RFC 9449 §7",
    "RFC 9449 §7.1 a",
    "RFC 9449 §7.1 b",
    "RFC 9449 §7.1 c",
    "RFC 9449 §7.1 d",
    "RFC 9449 §7.2 c",
)
def test_bound_token_is_refused_with_another_proof(site: Site, browser: Browser, token: str) -> None:
    cases = {
        "no proof": ({"Authorization": f"DPoP {token}"}, "invalid_dpop_proof"),
        "another key": (with_token(site, token, pair=OTHER), "invalid_token"),
        "no ath": (with_token(site, token, ath=None), "invalid_dpop_proof"),
        "another ath": (with_token(site, token, ath="x" * 43), "invalid_dpop_proof"),
        "another method": (with_token(site, token, "POST"), "invalid_dpop_proof"),
        "token endpoint": (with_token(site, token) | with_proof(site), "invalid_dpop_proof"),
    }
    for name, (headers, error) in cases.items():
        answer = browser.get(USERINFO, headers)
        assert (name, answer.status, answer.json["error"]) == (name, 401, error)
        assert f'error="{error}"' in (answer.header("www-authenticate") or "")
        assert (answer.header("www-authenticate") or "").startswith('DPoP algs="ES256 ')


def test_bearer_token_is_refused_with_a_proof(site: Site, browser: Browser, client: Registered) -> None:
    answer = userinfo(browser, browser.tokens(client)["access_token"])
    assert (answer.status, answer.json["error"]) == (401, "invalid_token")


def test_token_in_two_places_is_refused(site: Site, browser: Browser, token: str) -> None:
    headers = with_token(site, token, "POST") | {"Content-Type": "application/x-www-form-urlencoded"}
    answer = browser.request("POST", USERINFO, f"access_token={token}", headers)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


@pytest.mark.spec("RFC 9449 §7.1 e")
def test_token_for_a_proxy_is_not_read(site: Site, browser: Browser, token: str) -> None:
    headers = with_token(site, token)
    answer = browser.get(USERINFO, {"DPoP": headers["DPoP"], "Proxy-Authorization": headers["Authorization"]})
    assert (answer.status, answer.header("proxy-authenticate")) == (401, None)
    assert browser.get(USERINFO, headers).status == 200, "the token and the proof are valid"


@pytest.mark.spec("RFC 9449 §7.2 b")
def test_challenge_without_a_token_names_both_schemes(browser: Browser) -> None:
    answer = browser.get(USERINFO)
    challenge = 'Bearer realm="userinfo", DPoP algs="ES256 EdDSA Ed25519 PS256 RS256"'
    assert (answer.status, answer.header("www-authenticate")) == (401, challenge)


@pytest.mark.spec("RFC 9449 §9")
def test_nonce_is_demanded_where_the_client_is_registered_for_it(
    site: Site, browser: Browser, client: Registered, token: str
) -> None:
    update_client(site, client, dpop_nonce_required=True)
    answer = userinfo(browser, token)
    assert (answer.status, answer.json["error"]) == (401, "use_dpop_nonce")
    challenge = answer.header("www-authenticate") or ""
    assert challenge.startswith("DPoP ")
    assert 'error="use_dpop_nonce"' in challenge
    assert userinfo(browser, token, nonce=answer.header("dpop-nonce")).status == 200


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.4 d")
def test_scope_that_is_not_sufficient_is_told_with_the_scheme(site: Site, browser: Browser, client: Registered) -> None:
    tokens = bound_tokens(browser, client, scope="profile")
    answer = userinfo(browser, tokens["access_token"])
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")
    assert (answer.header("www-authenticate") or "").startswith("DPoP ")


def test_head_needs_a_proof_for_head(site: Site, browser: Browser, token: str) -> None:
    assert browser.request("HEAD", USERINFO, headers=with_token(site, token, "HEAD")).status == 200
    assert browser.request("HEAD", USERINFO, headers=with_token(site, token, "GET")).status == 401
