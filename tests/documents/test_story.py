"""The whole authorization code flow over HTTP, from the first request to revocation, as a reader's first example."""

import jwt
import pytest

from chalicelib.keys.signing import half_hash
from tests.support.browser import CHALLENGE, VERIFIER, Browser
from tests.support.site import Site


@pytest.mark.spec("RFC 6749 §3.1 e", "RFC 6749 §4.1.2 a", "RFC 6749 §5.1 a", "RFC 9207 §2 a")
@pytest.mark.spec("OpenID Connect Core §3.1.2.3 a", "OpenID Connect Core §3.1.2.5", "OpenID Connect Core §3.1.3.3 b")
@pytest.mark.spec("RFC 6749 §4.1")
@pytest.mark.spec("OpenID Connect Core §3.1")
def test_user_signs_in_and_consents_and_the_client_gets_uses_refreshes_and_revokes_tokens(
    site: Site, browser: Browser
) -> None:
    site.user("alice", claims={"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True})
    client = site.client()
    issuer = site.settings.issuer

    # The client redirects the user to the server. The user signs in, and is asked for consent.
    sign_in = browser.authorize(client, scope="openid profile email offline_access", nonce="n-0S6_WzA2Mj")
    assert sign_in.status == 200
    assert "Photo Print" in sign_in.body
    consent = browser.sign_in(sign_in)
    assert consent.status == 200
    assert "client.example.com" in consent.body
    assert "See your email address" in consent.body

    # The user allows access. The response to the client has code, state and issuer.
    answer = browser.submit(consent, decision="allow_once")
    assert answer.location.startswith("https://client.example.com/cb?")
    assert set(answer.answer) == {"code", "state", "iss"}
    assert answer.answer["state"] == "af0ifjsldkj"
    assert answer.answer["iss"] == issuer

    # The client redeems the code.
    tokens = browser.redeem(client, answer.code)
    assert tokens.status == 200
    assert tokens.header("cache-control") == "no-store"
    members = tokens.json
    assert members["token_type"] == "Bearer"
    assert members["expires_in"] == 600
    assert members["scope"] == "email offline_access openid profile"

    # The ID token identifies the user. Its signature is verified with the published key.
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json).keys[0]
    id_token = jwt.decode(members["id_token"], key, algorithms=["RS256"], audience=client.id, issuer=issuer)
    assert id_token["nonce"] == "n-0S6_WzA2Mj"
    assert id_token["at_hash"] == half_hash("RS256", members["access_token"])
    assert id_token["auth_time"] == site.clock.time
    assert "azp" not in id_token
    access = jwt.decode(members["access_token"], key, algorithms=["RS256"], audience=issuer, issuer=issuer)
    assert jwt.get_unverified_header(members["access_token"])["typ"] == "at+jwt"
    assert access["client_id"] == client.id
    assert access["sub"] == id_token["sub"]

    # The access token is accepted by the UserInfo endpoint.
    userinfo = browser.userinfo(members["access_token"]).json
    assert userinfo["sub"] == id_token["sub"]
    assert userinfo["email"] == "alice@example.com"
    assert userinfo["preferred_username"] == "alice"

    # The refresh token is rotated.
    site.clock.advance(601)
    assert browser.userinfo(members["access_token"]).status == 401
    refreshed = browser.refresh(client, members["refresh_token"], scope="openid").json
    assert refreshed["scope"] == "openid"
    assert refreshed["refresh_token"] != members["refresh_token"]
    assert "email" not in browser.userinfo(refreshed["access_token"]).json

    # The client revokes the refresh token, which revokes all tokens of the grant.
    revoked = browser.post(
        "/oauth2/revoke",
        {"token": refreshed["refresh_token"], "client_id": client.id, "client_secret": client.secret},
    )
    assert revoked.status == 200
    assert browser.userinfo(refreshed["access_token"]).status == 401
    assert browser.refresh(client, refreshed["refresh_token"]).json["error"] == "invalid_grant"
    assert VERIFIER != CHALLENGE
