"""grant_type=authorization_code: redeeming authorization codes (RFC 6749 section 4.1, RFC 7636)."""

from typing import Any

import pytest

from chalicelib.protocol import pkce
from tests.endpoints.token.conftest import Setup, claims_of, post_as, post_form
from tests.support.browser import VERIFIER, Browser
from tests.support.grants import create_code, update_client
from tests.support.site import Site, dump_tables

# ---- proofs

WRONG_PROOFS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a wrong verifier", {}, {"code_verifier": "x" * 43}),
    ("a verifier of 42 characters", {}, {"code_verifier": VERIFIER[:42]}),
    ("a verifier of 129 characters", {}, {"code_verifier": "x" * 129}),
    ("a verifier with a character that it must not have", {}, {"code_verifier": VERIFIER[:-1] + "+"}),
    ("a verifier with a line break", {}, {"code_verifier": VERIFIER[:-1] + "é"}),
    ("the challenge as the verifier", {}, {"code_verifier": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}),
    ("no verifier", {}, {"code_verifier": None}),
    ("an empty verifier", {}, {"code_verifier": ""}),
    ("a verifier without a challenge", {"code_challenge": None}, {}),
    ("an invalid verifier without a challenge", {"code_challenge": None}, {"code_verifier": "x"}),
    ("no redirect_uri", {}, {"redirect_uri": None}),
    ("an empty redirect_uri", {}, {"redirect_uri": ""}),
    ("another redirect_uri", {}, {"redirect_uri": "https://client.example.com/other"}),
    ("a redirect_uri in another case", {}, {"redirect_uri": "https://client.example.com/CB"}),
    ("a redirect_uri with a trailing slash", {}, {"redirect_uri": "https://client.example.com/cb/"}),
    ("a redirect_uri with its port", {}, {"redirect_uri": "https://client.example.com:443/cb"}),
    ("another redirect_uri where none was sent", {"redirect_uri_sent": False}, {"redirect_uri": "https://a.example/"}),
]


@pytest.mark.spec("RFC 6749 §4.1.3 e", "RFC 6749 §10.6 a", "RFC 7636 §4.4 a", "RFC 7636 §4.6 a", "RFC 7636 §4.6 c")
@pytest.mark.spec("RFC 9700 §2.1.1 b", "RFC 9700 §2.1.1 c", "RFC 9700 §4.8.2 b", "OpenID Connect Core §3.1.3.2 e")
@pytest.mark.spec("RFC 7636 §4.6")
@pytest.mark.spec("RFC 6749 §4.1.3")
@pytest.mark.spec("RFC 9700 §2.1.1")
@pytest.mark.parametrize(("what", "requested", "presented"), WRONG_PROOFS, ids=[row[0] for row in WRONG_PROOFS])
def test_wrong_proof_is_rejected_and_invalidates_the_code(
    setup: Setup, what: str, requested: dict[str, Any], presented: dict[str, Any]
) -> None:
    setup.code = create_code(setup.site, setup.client, **requested)
    answer = post_form(**presented)(setup)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    valid = {"code_verifier": None} if "code_challenge" in requested else {}
    assert post_form(**valid)(setup).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 6749 §4.1.3")
@pytest.mark.parametrize("redirect_uri", [None, "https://client.example.com/cb"])
def test_redirect_uri_is_optional_when_the_authorization_request_had_none(
    setup: Setup, redirect_uri: str | None
) -> None:
    setup.code = create_code(setup.site, setup.client, redirect_uri_sent=False)
    assert post_form(redirect_uri=redirect_uri)(setup).status == 200


@pytest.mark.spec("RFC 7636 §4.5")
def test_code_without_a_challenge_is_redeemed_without_a_verifier(setup: Setup) -> None:
    setup.code = create_code(setup.site, setup.client, code_challenge=None)
    assert post_form(code_verifier=None)(setup).status == 200


@pytest.mark.spec("RFC 7636 §4.6 b")
@pytest.mark.spec("RFC 7636 §4.1")
@pytest.mark.parametrize("length", [43, 128])
def test_verifier_of_minimum_and_maximum_length_is_accepted(setup: Setup, length: int) -> None:
    verifier = ("-._~" + "aZ09" * 32)[:length]
    setup.code = create_code(setup.site, setup.client, code_challenge=pkce.challenge(verifier))
    assert post_form(code_verifier=verifier)(setup).status == 200


# ---- expiry and replay


@pytest.mark.spec("RFC 6749 §4.1.2 b", "RFC 6749 §10.5 b", "OpenID Connect Core §16.9")
@pytest.mark.spec("RFC 6749 §4.1.2")
def test_code_expires_after_sixty_seconds_though_its_record_is_kept_longer(setup: Setup) -> None:
    second = create_code(setup.site, setup.client)
    setup.site.clock.advance(59)
    assert post_form(code=second)(setup).status == 200
    setup.site.clock.advance(2)
    before = dump_tables()
    assert post_form()(setup).json["error"] == "invalid_grant"
    assert dump_tables() == before


def test_code_expires_though_the_record_of_its_grant_expires_later(setup: Setup) -> None:
    code = create_code(setup.site, setup.client, expires_at=setup.site.clock.time + 1000)
    setup.site.clock.advance(setup.site.settings.authorization_code_lifetime)
    assert post_form(code=code)(setup).json["error"] == "invalid_grant"
    assert [grant.redeemed_at for grant in setup.site.server.store.grants.scan()] == [None]


@pytest.mark.spec("RFC 6749 §4.1.2 d", "RFC 6749 §4.1.2 e", "RFC 6749 §10.5 b", "RFC 6749 §10.5 c", "RFC 9700 §4.2.4 b")
@pytest.mark.spec("RFC 9700 §4.2.4 c", "OpenID Connect Core §3.1.3.2 d")
@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.spec("RFC 9700 §2.1.1")
@pytest.mark.parametrize("seconds", [0, 30, 3600])
def test_second_redemption_of_a_code_revokes_the_grant(site: Site, browser: Browser, seconds: int) -> None:
    site.user()
    client = site.client(access_token_lifetime=7200)
    code = browser.code(client)
    tokens = browser.redeem(client, code).json
    site.clock.advance(seconds)
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.parametrize(
    "presented",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": None},
        {"redirect_uri": None},
        {"redirect_uri": "https://client.example.com/other"},
    ],
)
def test_replay_with_a_wrong_proof_revokes_nothing(setup: Setup, presented: dict[str, Any]) -> None:
    tokens = post_form()(setup).json
    before = dump_tables()
    assert post_form(**presented)(setup).json["error"] == "invalid_grant"
    assert dump_tables() == before
    assert setup.browser.refresh(setup.client, tokens["refresh_token"]).status == 200


def test_replay_by_another_client_revokes_nothing(setup: Setup) -> None:
    tokens = post_form()(setup).json
    assert post_as("public")(setup).json["error"] == "invalid_grant"
    assert setup.browser.refresh(setup.client, tokens["refresh_token"]).status == 200


# ---- the response


@pytest.mark.spec("RFC 6749 §3.3 a", "RFC 6749 §5.1 a", "RFC 6749 §5.1 b", "RFC 6749 §5.1 c", "RFC 6749 §5.1 e")
@pytest.mark.spec(
    "RFC 6749 §5.1 f", "RFC 6750 §5.2 i", "RFC 6750 §5.3 b", "RFC 9449 §11.2", "OpenID Connect Core §3.1.3.3 a"
)
@pytest.mark.spec("OpenID Connect Core §3.1.3.3 c", "OpenID Connect Core §16.18 a")
def test_response_has_the_granted_scope_and_tokens(setup: Setup) -> None:
    tokens = post_form()(setup).json
    assert tokens["token_type"] == "Bearer"
    assert tokens["scope"] == "email openid profile"
    assert tokens["expires_in"] == 600
    assert tokens["refresh_token"].startswith("rt_")
    claims = claims_of(tokens["access_token"])
    assert claims["exp"] - claims["iat"] == 600
    assert claims["aud"] == claims["iss"] == setup.site.settings.issuer
    assert set(claims) >= {"iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"}


@pytest.mark.spec("OpenID Connect Core §3.1.2.2 b", "OpenID Connect Core §3.1.3.2 f")
@pytest.mark.spec("OpenID Connect Core §3.1.3.3")
def test_scope_without_openid_gives_no_id_token(setup: Setup) -> None:
    setup.code = create_code(setup.site, setup.client, scope=frozenset({"email"}))
    assert "id_token" not in post_form()(setup).json


@pytest.mark.spec("RFC 9700 §4.14.2 a")
@pytest.mark.spec("RFC 6749 §1.5")
def test_client_without_the_refresh_grant_gets_no_refresh_token(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(grant_types=("authorization_code",))
    tokens = browser.tokens(client)
    assert "refresh_token" not in tokens
    assert tokens["expires_in"] == 600
    assert browser.userinfo(tokens["access_token"]).status == 200


def test_client_that_gained_the_refresh_grant_after_the_code_gets_no_refresh_token(
    site: Site, browser: Browser
) -> None:
    site.user()
    client = site.client(grant_types=("authorization_code",))
    code = browser.code(client)
    update_client(site, client, grant_types=("authorization_code", "refresh_token"))
    site.clock.advance(5)
    tokens = browser.redeem(client, code).json
    assert tokens["expires_in"] == 600
    assert "refresh_token" not in tokens, "the grant was created without an end of refreshing"
    assert browser.userinfo(tokens["access_token"]).status == 200


@pytest.mark.parametrize(
    ("members", "expires_in"),
    [
        ({"access_token_lifetime": 120}, 120),
        ({"access_token_lifetime": 86400}, 86400),
        # No token outlives its grant.
        ({"access_token_lifetime": 600, "refresh_token_lifetime": 60}, 60),
    ],
)
def test_client_has_its_own_access_token_lifetime(site: Site, browser: Browser, members: Any, expires_in: int) -> None:
    client = site.client(**members)
    tokens = browser.redeem(client, create_code(site, client)).json
    assert tokens["expires_in"] == expires_in
    assert browser.refresh(client, tokens["refresh_token"]).json["expires_in"] == expires_in


def test_client_has_its_own_code_lifetime(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(authorization_code_lifetime=300)
    code = browser.code(client)
    second_code = browser.code(client)
    site.clock.advance(299)
    assert browser.redeem(client, code).status == 200
    site.clock.advance(1)
    assert browser.redeem(client, second_code).json["error"] == "invalid_grant"


def test_client_has_its_own_refresh_token_lifetime(site: Site, browser: Browser) -> None:
    client = site.client(refresh_token_lifetime=60)
    tokens = browser.redeem(client, create_code(site, client)).json
    for _ in range(3):
        site.clock.advance(59)
        tokens = browser.refresh(client, tokens["refresh_token"]).json
    site.clock.advance(60)
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
