"""What a client with the profile fapi2 gets and must do, beyond what its registration says of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest

from chalicelib.protocol.fapi import CODE_LIFETIME
from chalicelib.protocol.grant import Grant
from tests.support.assertions import KeyPair, key_pair, signed
from tests.support.browser import VERIFIER, Answer, Browser, authorization_parameters
from tests.support.fapi import fapi_client
from tests.support.faults import Wire
from tests.support.grants import create_code, update_client
from tests.support.proofs import PAR, TOKEN, userinfo, with_proof
from tests.support.resource_servers import register_resource
from tests.support.site import PASSWORD, Registered, Site

RSA = key_pair("RS256", "an RSA key")
OTHER = key_pair("ES256", "another proof key")


@pytest.fixture
def client(site: Site) -> Registered:
    site.user()
    return fapi_client(site)


def push(browser: Browser, client: Registered, headers: dict[str, str] | None = None, **changes: Any) -> Answer:
    parameters = authorization_parameters(client, **changes) | signed(browser.site, client)
    answer = browser.post(PAR, parameters, headers)
    if answer.status == 201:
        browser.site.secrets.add(answer.json["request_uri"].rpartition(":")[2])
    return answer


def token(browser: Browser, client: Registered, pair: KeyPair | None = None, **parameters: Any) -> Answer:
    """Send a token request with a client assertion and a proof."""
    return browser.post(TOKEN, parameters | signed(browser.site, client), with_proof(browser.site, pair=pair))


def redeem(browser: Browser, client: Registered, code: str, pair: KeyPair | None = None, **more: Any) -> Answer:
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
    return token(browser, client, pair, **form, redirect_uri=client.record.redirect_uris[0], **more)


def refresh(browser: Browser, client: Registered, refresh_token: str, pair: KeyPair | None = None) -> Answer:
    return token(browser, client, pair, grant_type="refresh_token", refresh_token=refresh_token)


def response(browser: Browser, client: Registered, **changes: Any) -> Answer:
    """Push a request and answer it."""
    uri = push(browser, client, **changes).json["request_uri"]
    page = browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri)
    page = browser.sign_in(page) if "password" in page.form.fields else page
    return browser.send(page, decision="allow_once") if page.form.action else page


def grant_of(site: Site, code: str) -> Grant:
    handle = site.server.keys.read_handle("code", code)
    assert handle
    grant = site.server.store.grants.get(handle.id)
    assert grant
    return grant


# ---- authorization


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 k", "FAPI 2.0 Security Profile §5.3.2.2 g")
def test_every_redirect_of_the_response_has_the_status_303(site: Site, browser: Browser, client: Registered) -> None:
    answer = response(browser, client)
    assert (answer.status, answer.answer["iss"]) == (303, site.settings.issuer)
    again = response(browser, client, prompt="none")  # by GET alone
    assert (again.status, again.answer["error"]) == (303, "consent_required")
    assert browser.answer(site.client(trusted=True), prompt="none").status == 302, "of other clients"


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 k")
@pytest.mark.parametrize(("setting", "own", "seconds"), [(300, None, 60), (300, 30, 30), (20, None, 20)])
def test_code_is_valid_for_a_minute_at_most(
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    setting: int,
    own: int | None,
    seconds: int,
) -> None:
    site = site_with(authorization_code_lifetime=setting)
    site.user()
    client = fapi_client(site, authorization_code_lifetime=own)
    grant = grant_of(site, response(browsers(site), client).code)
    assert grant.code_expires_at - grant.created_at == seconds <= CODE_LIFETIME
    other = site.client()
    grant = grant_of(site, browsers(site).code(other))
    assert grant.code_expires_at - grant.created_at == setting


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 f")
@pytest.mark.parametrize("scope", ["openid", "email"])
def test_pushed_request_must_name_its_redirect_uri(browser: Browser, client: Registered, scope: str) -> None:
    answer = push(browser, client, scope=scope, redirect_uri=None)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert "redirect_uri" in answer.json["error_description"]


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 c")
def test_request_that_was_not_pushed_is_rejected(browser: Browser, client: Registered) -> None:
    answer = browser.authorize(client)
    assert (answer.answer["error"], "code" in answer.answer) == ("invalid_request", False)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 n")
def test_nonce_of_64_characters_is_returned(browser: Browser, client: Registered) -> None:
    tokens = redeem(browser, client, response(browser, client, nonce="n" * 64).code).json
    assert jwt.decode(tokens["id_token"], options={"verify_signature": False})["nonce"] == "n" * 64


# ---- client authentication and algorithms


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 h")
def test_audience_of_an_assertion_is_the_issuer_as_a_string(site: Site, browser: Browser, client: Registered) -> None:
    issuer = site.settings.issuer
    for aud in ([issuer], [issuer, "https://other.example.com"], issuer + TOKEN, issuer + PAR):
        answer = browser.post(PAR, authorization_parameters(client) | signed(site, client, aud=aud))
        assert (answer.status, answer.json["error"]) == (401, "invalid_client"), aud
    assert browser.post(PAR, authorization_parameters(client) | signed(site, client, aud=issuer)).status == 201
    update_client(site, client, profile=None)
    assert browser.post(PAR, authorization_parameters(client) | signed(site, client, aud=[issuer])).status == 201


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.1 b")
def test_assertion_with_rs256_is_rejected_though_the_key_would_fit(site: Site, browser: Browser) -> None:
    client = fapi_client(site, RSA)
    pairs = {alg: replace(RSA, alg=alg) for alg in ("RS256", "PS256")}

    def status(alg: str) -> int:
        return browser.post(PAR, authorization_parameters(client) | signed(site, client, pair=pairs[alg])).status

    assert [status(alg) for alg in pairs] == [401, 201]
    update_client(site, client, profile=None)
    assert [status(alg) for alg in pairs] == [201, 201]


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.1 b")
def test_proof_with_rs256_is_rejected_at_every_endpoint(site: Site, browser: Browser, client: Registered) -> None:
    rs256, ps256 = RSA, replace(RSA, alg="PS256")
    answer = push(browser, client, with_proof(site, PAR, pair=rs256))
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    assert "PS256, ES256, EdDSA" in answer.json["error_description"]
    code = response(browser, client).code
    answer = redeem(browser, client, code, rs256)
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    access_token = redeem(browser, client, code, ps256).json["access_token"]
    answer = userinfo(browser, access_token, pair=rs256)
    assert (answer.status, answer.json["error"]) == (401, "invalid_dpop_proof")
    assert userinfo(browser, access_token, pair=ps256).status == 200


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.1 b", "FAPI 2.0 Security Profile §5.3.2.1 d")
def test_tokens_are_bound_and_signed_with_an_algorithm_of_the_profile(
    site: Site, browser: Browser, client: Registered
) -> None:
    uri = "https://api.example.com"
    register_resource(site, uri, access_token_signed_response_alg="RS256")
    plain = redeem(browser, client, response(browser, client).code).json
    code = response(browser, client, resource=uri).code
    named = redeem(browser, client, code, resource=uri).json
    for tokens in (plain, named):
        headers = [jwt.get_unverified_header(tokens[name]) for name in ("access_token", "id_token")]
        assert [header["alg"] for header in headers] == ["ES256", "ES256"], "even if the resource has another algorithm"
        claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
        assert (tokens["token_type"], "jkt" in claims["cnf"]) == ("DPoP", True)


# ---- refresh tokens


@pytest.fixture
def tokens(site: Site, browser: Browser, client: Registered) -> dict[str, Any]:
    return dict(redeem(browser, client, create_code(site, client)).json)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 i")
def test_refresh_token_is_not_rotated(site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    refresh_token = tokens["refresh_token"]
    for _ in range(6):
        site.clock.advance(3600)
        answer = refresh(browser, client, refresh_token)
        assert (answer.status, answer.json["refresh_token"]) == (200, refresh_token)
        assert userinfo(browser, answer.json["access_token"]).status == 200
    (grant,) = site.server.store.grants.scan()
    assert (grant.generation, grant.refreshed_at, grant.rotated_at) == (1, site.clock.time, {})
    assert grant.last_used(site.clock.time) == site.clock.time
    assert grant.expires_at > site.clock.time + 3600, "each use extends it"


def test_refresh_token_needs_a_new_proof_each_time(
    browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    proof = with_proof(browser.site)
    assert browser.post(TOKEN, form | signed(browser.site, client), proof).status == 200
    answer = browser.post(TOKEN, form | signed(browser.site, client), proof)
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    answer = browser.post(TOKEN, form | signed(browser.site, client))
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    assert refresh(browser, client, tokens["refresh_token"]).status == 200, "nothing was revoked"


def test_refresh_token_stays_valid_while_tokens_cannot_be_signed(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(site.server.keys, "sign", fail)
        assert refresh(browser, client, tokens["refresh_token"]).status >= 500
    (grant,) = site.server.store.grants.scan()
    assert grant.rotated_at == {}
    site.clock.advance(3600)
    assert refresh(browser, client, tokens["refresh_token"]).json["refresh_token"] == tokens["refresh_token"]


def test_refresh_tokens_from_before_the_profile_end_with_the_last_one(site: Site, browser: Browser) -> None:
    site.user()
    client = fapi_client(site)
    update_client(site, client, profile=None)
    seen = [redeem(browser, client, create_code(site, client)).json["refresh_token"]]
    for _ in range(4):
        seen.append(refresh(browser, client, seen[-1]).json["refresh_token"])
    assert len(set(seen)) == 5
    update_client(site, client)
    site.clock.advance(60)
    assert refresh(browser, client, seen[-1]).json["refresh_token"] == seen[-1]
    # Used again a moment ago; that is no retry of the token that was replaced four times.
    assert refresh(browser, client, seen[0]).json["error"] == "invalid_grant"
    assert refresh(browser, client, seen[-1]).json["error"] == "invalid_grant", "a replay revokes the grant"


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 i")
def test_second_use_of_a_code_revokes_the_grant(browser: Browser, client: Registered) -> None:
    code = create_code(browser.site, client)
    refresh_token = redeem(browser, client, code).json["refresh_token"]
    assert redeem(browser, client, code).json["error"] == "invalid_grant"
    assert refresh(browser, client, refresh_token).json["error"] == "invalid_grant"


def test_refresh_makes_the_same_calls_as_a_rotation(
    site: Site, browser: Browser, wire: Wire, client: Registered, tokens: dict[str, Any]
) -> None:
    refresh(browser, client, tokens["refresh_token"])
    with wire.counted() as counted:
        assert refresh(browser, client, tokens["refresh_token"]).status == 200
    kept = list(counted)
    update_client(site, client, profile=None)
    refresh_token = refresh(browser, client, tokens["refresh_token"]).json["refresh_token"]
    with wire.counted() as counted:
        assert refresh(browser, client, refresh_token).status == 200
    assert kept == list(counted)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 b")
def test_password_of_a_user_is_no_grant(browser: Browser, client: Registered) -> None:
    answer = token(browser, client, grant_type="password", username="alice", password=PASSWORD)
    assert (answer.status, answer.json["error"]) == (400, "unsupported_grant_type")
    assert "password" not in browser.get("/.well-known/openid-configuration").json["grant_types_supported"]
