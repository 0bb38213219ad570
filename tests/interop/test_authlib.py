"""Authlib as a client of the running server, used as in its web framework integrations.

Authlib sends real HTTP requests and verifies metadata, ID tokens and access tokens itself. tests.support.browser is the
user's browser.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
import requests
from authlib.integrations.base_client import BaseApp, FrameworkIntegration, OAuth2Mixin, OAuthError, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2 import rfc9207
from authlib.oauth2.rfc6749 import MismatchingStateException
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc7591.claims import ClientMetadataClaims
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidClaimError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from chalicelib.clients import credentials as client_auth
from tests.support.assertions import KeyPair, key_client, key_pair
from tests.support.browser import VERIFIER, Answer, Browser
from tests.support.site import Registered, Site

REDIRECT_URI = "https://client.example.com/cb"
SCOPE = "openid profile email offline_access"
KEY_TYPES: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
METHODS = ["client_secret_basic", "client_secret_post", "none"]

# The classes that Authlib's registry builds for Flask or Django, without the framework.
RelyingParty: Any = type("RelyingParty", (OAuth2Mixin, OpenIDMixin, BaseApp), {"client_cls": OAuth2Session})
Framework: Any = type("Framework", (FrameworkIntegration,), {"update_token": lambda *_, **__: None})
ResourceServer: Any = type(
    "ResourceServer",
    (JWTBearerTokenValidator,),
    {"get_jwks": lambda self: KeySet.import_key_set(requests.get(f"{self.issuer}/oauth2/jwks", timeout=30).json())},
)


@pytest.fixture(autouse=True)
def _allow_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Authlib requires https without this variable."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
def relying_party(site: Site) -> Callable[..., Any]:
    """Create Authlib's client for a registered client. `sent` has the requests that it sends."""

    def make(client: Registered, method: str = "client_secret_basic", scope: str = SCOPE) -> Any:
        sent: list[requests.PreparedRequest] = []

        def record_requests(session: Any) -> None:
            session.hooks["response"].append(lambda response, **_: sent.append(response.request))

        party = RelyingParty(
            Framework("signet"),
            client_id=client.id,
            client_secret=client.secret,
            server_metadata_url=get_well_known_url(site.settings.issuer, external=True),
            compliance_fix=record_requests,
            client_kwargs={
                "scope": scope,
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": method,
                "revocation_endpoint_auth_method": method,
            },
        )
        party.sent = sent
        return party

    return make


def record_secrets(site: Site, token: dict[str, Any]) -> dict[str, Any]:
    """Return the token response, after recording its secrets for the test that searches the log."""
    site.secrets.update(token[name] for name in ("access_token", "refresh_token", "id_token") if name in token)
    return token


def complete_authorization(site: Site, browser: Browser, url: str) -> str:
    """Sign in and allow access at the authorization URL; return the redirect."""
    answer: Answer = browser.get(url)
    if "password" in answer.form.fields:
        answer = browser.sign_in(answer)
    if answer.status == 200:
        answer = browser.submit(answer, decision="allow_once")
    site.secrets.add(answer.code)
    return answer.location


def fetch_tokens(site: Site, browser: Browser, party: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the code flow; return what Authlib remembers of the request, and the token response."""
    request_data: dict[str, Any] = party.create_authorization_url(REDIRECT_URI)
    site.secrets.add(request_data["code_verifier"])
    token = party.fetch_access_token(
        REDIRECT_URI,
        authorization_response=complete_authorization(site, browser, request_data["url"]),
        state=request_data["state"],
        code_verifier=request_data["code_verifier"],
    )
    return request_data, record_secrets(site, token)


def id_token_rules(site: Site, client: Registered) -> dict[str, Any]:
    """Return the claims that Authlib must require in an ID token (OpenID Connect Core section 3.1.3.7)."""
    return {
        "iss": {"essential": True, "value": site.settings.issuer},
        "aud": {"essential": True, "value": client.id},
        "exp": {"essential": True},
        "nonce": {"essential": True},
        "at_hash": {"essential": True},
    }


@pytest.mark.spec("OpenID Connect Core §3.1")
@pytest.mark.spec("RFC 7636 §4")
@pytest.mark.spec("RFC 7009 §2")
@pytest.mark.parametrize("method", METHODS)
def test_authlib_runs_the_flow_from_discovery_to_revocation(
    site: Site, browser: Browser, relying_party: Callable[..., Any], method: str
) -> None:
    user = site.user("alice", claims={"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True})
    client = site.client(public=method == "none", scope=SCOPE)
    party = relying_party(client, method)
    issuer = site.settings.issuer

    # Authlib gets all endpoints from discovery, and creates PKCE and nonce itself.
    request_data, token = fetch_tokens(site, browser, party)
    assert party.load_server_metadata()["issuer"] == issuer
    assert request_data["url"].startswith(f"{issuer}/oauth2/authorize?")
    assert "code_challenge_method=S256" in request_data["url"]
    assert set(token["scope"].split()) == set(SCOPE.split())

    # The client used its registered authentication method, and no other.
    (request,) = party.sent
    header, body = str(request.headers.get("Authorization", "")), str(request.body)
    assert header.startswith("Basic ") == (method == "client_secret_basic")
    assert ("client_secret=" in body) == (method == "client_secret_post")
    assert ("client_id=" in body) == (method != "client_secret_basic")

    # Authlib verifies the ID token: signature with the JWKS, iss, aud, exp, nonce, at_hash.
    claims = party.parse_id_token(token, request_data["nonce"], id_token_rules(site, client), leeway=0)
    assert claims["sub"] == user.sub
    assert claims["nonce"] == request_data["nonce"]
    assert claims["auth_time"] == site.clock.time

    # The UserInfo response is about the same user (OpenID Connect Core section 5.3.2).
    userinfo = party.userinfo(token=token)
    assert userinfo.sub == claims["sub"]
    assert (userinfo.name, userinfo.email, userinfo.email_verified) == ("Alice Liddell", "alice@example.com", True)

    # Authlib's resource server verifies the access token (RFC 9068).
    resource_server = ResourceServer(issuer=issuer, resource_server=issuer)
    access = resource_server.authenticate_token(token["access_token"])
    resource_server.validate_token(access, ["email"], None)
    assert access["client_id"] == client.id

    # Refresh.
    with party._get_oauth_client(**party.load_server_metadata()) as session:
        refreshed = record_secrets(site, dict(session.refresh_token(refresh_token=token["refresh_token"])))
    assert refreshed["refresh_token"] != token["refresh_token"]
    assert refreshed["access_token"] != token["access_token"]
    again = party.parse_id_token(refreshed, None, {"iss": {"value": issuer}, "aud": {"value": client.id}})
    assert (again["sub"], again["auth_time"]) == (claims["sub"], claims["auth_time"])
    assert party.userinfo(token=refreshed).sub == user.sub

    # Revoke.
    with party._get_oauth_client(**party.load_server_metadata()) as session:
        answer = session.revoke_token(
            party.server_metadata["revocation_endpoint"], refreshed["refresh_token"], "refresh_token"
        )
        assert answer.status_code == 200
        with pytest.raises(OAuthError) as raised:
            session.refresh_token(refresh_token=refreshed["refresh_token"])
    assert raised.value.error == "invalid_grant"
    for revoked in (token, refreshed):
        with pytest.raises(requests.HTTPError, match="401"):
            party.userinfo(token=revoked)


@pytest.mark.spec("RFC 8414 §2")
@pytest.mark.spec("OpenID Connect Discovery §3")
def test_authlib_accepts_the_metadata(site: Site, browser: Browser) -> None:
    openid = browser.get("/.well-known/openid-configuration").json
    OpenIDProviderMetadata(openid).validate()
    oauth = AuthorizationServerMetadata(browser.get("/.well-known/oauth-authorization-server").json)
    oauth.validate(metadata_classes=[rfc9207.AuthorizationServerMetadata])
    assert oauth["token_endpoint_auth_methods_supported"] == list(client_auth.METHODS)
    assert set(METHODS) < set(client_auth.METHODS)
    assert oauth["authorization_response_iss_parameter_supported"] is True


@pytest.mark.spec("OpenID Connect Core §3.1.3.7")
def test_authlib_rejects_wrong_id_tokens(site: Site, browser: Browser, relying_party: Callable[..., Any]) -> None:
    """The verification in the tests above works: it fails for each wrong claim."""
    site.user("alice")
    client = site.client(scope=SCOPE)
    party = relying_party(client)
    request_data, token = fetch_tokens(site, browser, party)
    rules, nonce = id_token_rules(site, client), request_data["nonce"]
    party.parse_id_token(token, nonce, rules)
    with pytest.raises(InvalidClaimError, match="nonce"):
        party.parse_id_token(token, "another", rules)
    with pytest.raises(InvalidClaimError, match="at_hash"):
        party.parse_id_token(token | {"access_token": token["access_token"] + "x"}, nonce, rules)
    with pytest.raises(InvalidClaimError, match="aud"):
        party.parse_id_token(token, nonce, rules | {"aud": {"value": "another"}})
    with pytest.raises(InvalidClaimError, match="iss"):
        party.parse_id_token(token, nonce, rules | {"iss": {"value": "https://op.example.com"}})
    with pytest.raises(ExpiredTokenError):
        party.parse_id_token(token, nonce, rules, leeway=-601)
    head, _, signature = token["id_token"].rpartition(".")
    broken = f"{head}.{'B' if signature.startswith('A') else 'A'}{signature[1:]}"
    with pytest.raises(BadSignatureError):
        party.parse_id_token(token | {"id_token": broken}, nonce, rules)
    # An ID token is not accepted as an access token (RFC 9068 section 5).
    resource_server = ResourceServer(issuer=site.settings.issuer, resource_server=client.id)
    with pytest.raises(InvalidTokenError):
        resource_server.validate_token(resource_server.authenticate_token(token["id_token"]), [], None)


@pytest.mark.spec("RFC 6749 §10.12")
def test_authlib_rejects_a_response_with_another_state(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    request_data = party.create_authorization_url(REDIRECT_URI)
    answer = complete_authorization(site, browser, request_data["url"])
    with pytest.raises(MismatchingStateException):
        party.fetch_access_token(REDIRECT_URI, authorization_response=answer, state="another", code_verifier="x" * 43)


@pytest.mark.spec("RFC 7636 §4.6")
def test_authlib_without_the_code_verifier_gets_invalid_grant(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    request_data = party.create_authorization_url(REDIRECT_URI)
    answer = complete_authorization(site, browser, request_data["url"])
    with pytest.raises(OAuthError) as raised:
        party.fetch_access_token(REDIRECT_URI, authorization_response=answer, state=request_data["state"])
    assert raised.value.error == "invalid_grant"
    assert raised.value.description


@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.parametrize("method", METHODS)
def test_authlib_refreshes_an_expired_token_automatically(
    site: Site, browser: Browser, relying_party: Callable[..., Any], method: str
) -> None:
    user = site.user("alice")
    client = site.client(public=method == "none", scope=SCOPE)
    party = relying_party(client, method, scope="openid")
    _, token = fetch_tokens(site, browser, party)
    updates: list[tuple[str, str]] = []

    def update_token(new: dict[str, Any], refresh_token: str) -> None:
        updates.append((refresh_token, record_secrets(site, dict(new))["refresh_token"]))

    site.clock.advance(601)
    assert browser.userinfo(token["access_token"]).status == 401
    metadata = party.load_server_metadata()
    session = OAuth2Session(
        client.id,
        client.secret,
        scope="openid",
        token=token | {"expires_at": 1},
        token_endpoint=metadata["token_endpoint"],
        token_endpoint_auth_method=method,
        update_token=update_token,
    )
    with session:
        answer = session.get(metadata["userinfo_endpoint"])
    assert answer.status_code == 200
    assert answer.json()["sub"] == user.sub
    ((old, new),) = updates
    assert old == token["refresh_token"]
    assert new != old


@pytest.mark.spec("RFC 6750 §2.2")
def test_authlib_may_send_the_access_token_in_the_body(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    user = site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    _, token = fetch_tokens(site, browser, party)
    with OAuth2Session(token=token, token_placement="body") as session:
        answer = session.post(
            party.server_metadata["userinfo_endpoint"], headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
    assert answer.status_code == 200
    assert answer.json()["sub"] == user.sub


@pytest.mark.spec("RFC 6750 §2.3 a")
@pytest.mark.spec("RFC 6750 §2.3")
def test_access_token_in_the_url_is_rejected(site: Site, browser: Browser, relying_party: Callable[..., Any]) -> None:
    site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    _, token = fetch_tokens(site, browser, party)
    with OAuth2Session(token=token, token_placement="uri") as session:
        answer = session.get(party.server_metadata["userinfo_endpoint"])
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


# ---- by a private key, and pushed


def key_session(site: Site, client_id: str, pair: KeyPair, **options: Any) -> OAuth2Session:
    """Return Authlib's session of a client that authenticates by private_key_jwt."""
    session = OAuth2Session(
        client_id,
        KEY_TYPES[pair.private_jwk["kty"]].import_key(pair.private_jwk),
        redirect_uri=REDIRECT_URI,
        scope="openid profile",
        token_endpoint_auth_method=PrivateKeyJWT.name,
        revocation_endpoint_auth_method=PrivateKeyJWT.name,
        code_challenge_method="S256",
    )
    session.register_client_auth_method(PrivateKeyJWT(headers={"kid": pair.kid}, **options))
    session.hooks["response"].append(lambda response, **_: record_assertion(site, response.request))
    return session


def record_assertion(site: Site, request: requests.PreparedRequest) -> None:
    site.secrets.update(parse_qs(str(request.body)).get("client_assertion", []))


@pytest.mark.spec("RFC 7523 §2.2", "RFC 9126 §2")
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "Ed25519"])
@pytest.mark.parametrize("audience", ["issuer", "token_endpoint"])
def test_authlib_pushes_and_authenticates_by_a_private_key(
    site: Site, browser: Browser, alg: str, audience: str
) -> None:
    site.user("alice")
    pair, issuer = key_pair("EdDSA" if alg == "Ed25519" else alg), site.settings.issuer
    client = key_client(site, pair, assertion_audience=audience, require_pushed_authorization_requests=True)
    named = issuer if audience == "issuer" else f"{issuer}/oauth2/token"
    push_and_sign_in(site, browser, key_session(site, client.id, pair, alg=alg, token_endpoint=named))


@pytest.mark.spec("RFC 7591 §3")
@pytest.mark.parametrize("alg", ["RS256", "ES256"])
def test_application_with_authlib_registers_pushes_and_authenticates_by_a_private_key(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], alg: str
) -> None:
    """Authlib has no function that registers a client; its rules check the response."""
    site, pair = site_with(client_registration="open"), key_pair(alg)
    site.user("alice")
    issuer = site.settings.issuer
    metadata = {
        "client_name": "Photo Print",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": pair.jwks,
    }
    answer = requests.post(f"{issuer}/oauth2/register", json=metadata, timeout=30)
    assert answer.status_code == 201, answer.text
    members = answer.json()
    site.secrets.add(members["registration_access_token"])
    ClientMetadataClaims(members, {}, ClientMetadataClaims.get_claims_options({}), {}).validate()
    session = key_session(site, members["client_id"], pair, alg=alg, token_endpoint=issuer)
    push_and_sign_in(site, browsers(site), session)


def push_and_sign_in(site: Site, browser: Browser, session: Any) -> None:
    """Push a request, sign in, and use, refresh, introspect and revoke the tokens."""
    issuer = site.settings.issuer
    url, state = session.create_authorization_url(f"{issuer}/oauth2/authorize", code_verifier=VERIFIER)
    # Authlib has no function that pushes: its session authenticates any request.
    parameters = dict(parse_qsl(urlsplit(url).query))
    answer = session.post(f"{issuer}/oauth2/par", data=parameters, auth=session.client_auth(PrivateKeyJWT.name))
    assert answer.status_code == 201, answer.text
    pushed = answer.json()["request_uri"]
    site.secrets.add(pushed.rpartition(":")[2])
    address = f"{issuer}/oauth2/authorize?" + urlencode({"client_id": session.client_id, "request_uri": pushed})
    location = complete_authorization(site, browser, address)
    endpoint = f"{issuer}/oauth2/token"
    token = session.fetch_token(endpoint, authorization_response=location, state=state, code_verifier=VERIFIER)
    record_secrets(site, token)
    refreshed = record_secrets(site, session.refresh_token(endpoint, token["refresh_token"]))
    introspected = session.introspect_token(f"{issuer}/oauth2/introspect", token=refreshed["access_token"])
    assert introspected.json()["active"] is True
    assert session.revoke_token(f"{issuer}/oauth2/revoke", token=refreshed["refresh_token"]).status_code == 200
