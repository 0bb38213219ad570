"""A client that we did not write: Authlib, as its integrations for web frameworks use it, against the live server.

Its session speaks over a socket, its checks of metadata, ID token and access token are its own. The person's part is
played by the small browser.
"""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from authlib.integrations.base_client import BaseApp, FrameworkIntegration, OAuth2Mixin, OAuthError, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2 import rfc9207
from authlib.oauth2.rfc6749 import MismatchingStateException
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidClaimError
from joserfc.jwk import KeySet

from chalicelib import client_auth
from tests.browser import Answer, Browser
from tests.site import Registered, Site

GOAL = "https://client.example.com/cb"
SCOPE = "openid profile email offline_access"
METHODS = ["client_secret_basic", "client_secret_post", "none"]

# What Authlib's registry makes of its parts for Flask or Django, without the framework.
RelyingParty: Any = type("RelyingParty", (OAuth2Mixin, OpenIDMixin, BaseApp), {"client_cls": OAuth2Session})
Framework: Any = type("Framework", (FrameworkIntegration,), {"update_token": lambda *_, **__: None})
ResourceServer: Any = type(
    "ResourceServer",
    (JWTBearerTokenValidator,),
    {"get_jwks": lambda self: KeySet.import_key_set(requests.get(f"{self.issuer}/oauth2/jwks", timeout=30).json())},
)


@pytest.fixture(autouse=True)
def _http_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Authlib insists on https, but for this."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
def relying_party(site: Site) -> Callable[..., Any]:
    """Makes Authlib's client for one of ours; the requests it sends are kept in `sent`, its secrets noted."""

    def make(client: Registered, method: str = "client_secret_basic", scope: str = SCOPE) -> Any:
        sent: list[requests.PreparedRequest] = []

        def watch(session: Any) -> None:
            session.hooks["response"].append(lambda response, **_: sent.append(response.request))

        party = RelyingParty(
            Framework("signet"),
            client_id=client.id,
            client_secret=client.secret,
            server_metadata_url=get_well_known_url(site.settings.issuer, external=True),
            compliance_fix=watch,
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


def note(site: Site, token: dict[str, Any]) -> dict[str, Any]:
    """The token, its secrets noted for the test that greps the log."""
    site.secrets.update(token[name] for name in ("access_token", "refresh_token", "id_token") if name in token)
    return token


def redirected(site: Site, browser: Browser, url: str) -> str:
    """What the person does at the authorization URL; where their browser is sent."""
    answer: Answer = browser.get(url)
    if "password" in answer.form.fields:
        answer = browser.sign_in(answer)
    if answer.status == 200:
        answer = browser.submit(answer, decision="allow_once")
    site.secrets.add(answer.code)
    return answer.location


def fetch(site: Site, browser: Browser, party: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Authorization URL, the person, token: what Authlib keeps for the request, and the token."""
    kept: dict[str, Any] = party.create_authorization_url(GOAL)
    site.secrets.add(kept["code_verifier"])
    token = party.fetch_access_token(
        GOAL,
        authorization_response=redirected(site, browser, kept["url"]),
        state=kept["state"],
        code_verifier=kept["code_verifier"],
    )
    return kept, note(site, token)


def id_token_rules(site: Site, client: Registered) -> dict[str, Any]:
    """What an ID token must say, whatever Authlib would let pass (OpenID Connect Core section 3.1.3.7)."""
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
def test_authlib_goes_from_discovery_to_revocation(
    site: Site, browser: Browser, relying_party: Callable[..., Any], method: str
) -> None:
    user = site.user("alice", claims={"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True})
    client = site.client(public=method == "none", scope=SCOPE)
    party = relying_party(client, method)
    issuer = site.settings.issuer

    # Discovery names every address that is used below; PKCE and nonce are Authlib's own.
    kept, token = fetch(site, browser, party)
    assert party.load_server_metadata()["issuer"] == issuer
    assert kept["url"].startswith(f"{issuer}/oauth2/authorize?")
    assert "code_challenge_method=S256" in kept["url"]
    assert set(token["scope"].split()) == set(SCOPE.split())

    # The client authenticated by the method it is meant to, and by no other.
    (request,) = party.sent
    header, body = str(request.headers.get("Authorization", "")), str(request.body)
    assert header.startswith("Basic ") == (method == "client_secret_basic")
    assert ("client_secret=" in body) == (method == "client_secret_post")
    assert ("client_id=" in body) == (method != "client_secret_basic")

    # The ID token, by Authlib's checks: signature by the JWKS, iss, aud, exp, nonce, at_hash.
    claims = party.parse_id_token(token, kept["nonce"], id_token_rules(site, client), leeway=0)
    assert claims["sub"] == user.sub
    assert claims["nonce"] == kept["nonce"]
    assert claims["auth_time"] == site.clock.time

    # UserInfo is about the same person (OpenID Connect Core section 5.3.2).
    userinfo = party.userinfo(token=token)
    assert userinfo.sub == claims["sub"]
    assert (userinfo.name, userinfo.email, userinfo.email_verified) == ("Alice Liddell", "alice@example.com", True)

    # The access token, by Authlib's resource server (RFC 9068).
    resource_server = ResourceServer(issuer=issuer, resource_server=issuer)
    access = resource_server.authenticate_token(token["access_token"])
    resource_server.validate_token(access, ["email"], None)
    assert access["client_id"] == client.id

    # Refresh.
    with party._get_oauth_client(**party.load_server_metadata()) as session:
        refreshed = note(site, dict(session.refresh_token(refresh_token=token["refresh_token"])))
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
        with pytest.raises(OAuthError) as refusal:
            session.refresh_token(refresh_token=refreshed["refresh_token"])
    assert refusal.value.error == "invalid_grant"
    for ended in (token, refreshed):
        with pytest.raises(requests.HTTPError, match="401"):
            party.userinfo(token=ended)


@pytest.mark.spec("RFC 8414 §2")
@pytest.mark.spec("OpenID Connect Discovery §3")
def test_authlib_finds_nothing_wrong_with_the_metadata(site: Site, browser: Browser) -> None:
    openid = browser.get("/.well-known/openid-configuration").json
    OpenIDProviderMetadata(openid).validate()
    oauth = AuthorizationServerMetadata(browser.get("/.well-known/oauth-authorization-server").json)
    oauth.validate(metadata_classes=[rfc9207.AuthorizationServerMetadata])
    assert oauth["token_endpoint_auth_methods_supported"] == METHODS == list(client_auth.METHODS)
    assert oauth["authorization_response_iss_parameter_supported"] is True


@pytest.mark.spec("OpenID Connect Core §3.1.3.7")
def test_authlib_would_have_noticed_a_wrong_id_token(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    """The checks above are checks: each fails when what it is about is not so."""
    site.user("alice")
    client = site.client(scope=SCOPE)
    party = relying_party(client)
    kept, token = fetch(site, browser, party)
    rules, nonce = id_token_rules(site, client), kept["nonce"]
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
    # An ID token is no access token (RFC 9068 section 5).
    resource_server = ResourceServer(issuer=site.settings.issuer, resource_server=client.id)
    with pytest.raises(InvalidTokenError):
        resource_server.validate_token(resource_server.authenticate_token(token["id_token"]), [], None)


@pytest.mark.spec("RFC 6749 §10.12")
def test_authlib_refuses_an_answer_with_another_state(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    kept = party.create_authorization_url(GOAL)
    answer = redirected(site, browser, kept["url"])
    with pytest.raises(MismatchingStateException):
        party.fetch_access_token(GOAL, authorization_response=answer, state="another", code_verifier="x" * 43)


@pytest.mark.spec("RFC 7636 §4.6")
def test_authlib_without_its_verifier_gets_an_error_that_it_understands(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    kept = party.create_authorization_url(GOAL)
    answer = redirected(site, browser, kept["url"])
    with pytest.raises(OAuthError) as refusal:
        party.fetch_access_token(GOAL, authorization_response=answer, state=kept["state"])
    assert refusal.value.error == "invalid_grant"
    assert refusal.value.description


@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.parametrize("method", METHODS)
def test_authlib_refreshes_an_expired_token_by_itself(
    site: Site, browser: Browser, relying_party: Callable[..., Any], method: str
) -> None:
    user = site.user("alice")
    client = site.client(public=method == "none", scope=SCOPE)
    party = relying_party(client, method, scope="openid")
    _, token = fetch(site, browser, party)
    updates: list[tuple[str, str]] = []

    def update_token(new: dict[str, Any], refresh_token: str) -> None:
        updates.append((refresh_token, note(site, dict(new))["refresh_token"]))

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
def test_authlib_may_send_its_access_token_in_the_body(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    user = site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    _, token = fetch(site, browser, party)
    with OAuth2Session(token=token, token_placement="body") as session:
        answer = session.post(
            party.server_metadata["userinfo_endpoint"], headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
    assert answer.status_code == 200
    assert answer.json()["sub"] == user.sub


@pytest.mark.spec("RFC 6750 §2.3 a")
@pytest.mark.spec("RFC 6750 §2.3")
def test_authlib_must_not_send_its_access_token_in_the_url(
    site: Site, browser: Browser, relying_party: Callable[..., Any]
) -> None:
    site.user("alice")
    party = relying_party(site.client(scope=SCOPE))
    _, token = fetch(site, browser, party)
    with OAuth2Session(token=token, token_placement="uri") as session:
        answer = session.get(party.server_metadata["userinfo_endpoint"])
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
