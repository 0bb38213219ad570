"""TLS only: the deployed server has one gateway, which requires https, and every address and cookie is for https."""

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
import yaml

import app
from chalicelib import web
from chalicelib.server import AuthorizationServer
from infra.aws.package import API
from tests.support.browser import Answer
from tests.support.gateways import HTTP_2, GatewayBrowser, Handler
from tests.support.grants import create_code
from tests.support.site import PASSWORD, Site

ISSUER = "https://id.example.com"


# The AWS resources that make a function reachable from the internet
PUBLIC_RESOURCES = ("AWS::ApiGateway::", "AWS::ApiGatewayV2::", "AWS::Lambda::Url", "AWS::ElasticLoadBalancing")


DOCUMENTS = ("openid-configuration", "oauth-authorization-server")


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    """The resources that infra/aws/api.yaml adds to the server's stack."""
    added: dict[str, dict[str, Any]] = yaml.safe_load(API.read_text("utf-8"))["Resources"]
    return added


@pytest.mark.spec("FAPI 2.0 Security Profile §5.2.1 b")
@pytest.mark.spec("RFC 7591 §3 b", "RFC 7591 §5 a", "RFC 7591 §5 b", "RFC 7592 §2 a", "RFC 7592 §5 d")
@pytest.mark.spec("RFC 6749 §2.3.1 d", "RFC 6749 §3.1 d", "RFC 6749 §3.2 c", "RFC 6749 §10.3 b", "RFC 6749 §10.4 c")
@pytest.mark.spec("RFC 6749 §10.5 a", "RFC 6749 §10.8 a", "RFC 6749 §10.8 b", "RFC 6749 §10.9", "RFC 6749 §10.11")
@pytest.mark.spec("RFC 6750 §5.2 d", "RFC 6750 §5.2 e", "RFC 7009 §2 e", "RFC 8414 §6.1 a", "RFC 8414 §6.1 b")
@pytest.mark.spec("RFC 9700 §2.6 d", "OpenID Connect Core §3.1.2", "OpenID Connect Core §3.1.3")
@pytest.mark.spec("OpenID Connect Core §5.3 a", "OpenID Connect Core §16.17 a", "OpenID Connect Core §16.17 b")
@pytest.mark.spec("OpenID Connect Core §16.17 c", "OpenID Connect Discovery §7.1 a", "OpenID Connect Discovery §7.1 b")
@pytest.mark.spec("OpenID Connect Discovery §7.1 c", "RFC 7662 §2 a", "RFC 7662 §4 i")
def test_deployed_server_has_one_gateway_which_requires_tls(resources: dict[str, dict[str, Any]]) -> None:
    """API Gateway does not support http, and requires TLS 1.2 or newer."""
    public = {
        resource["Type"].removeprefix("AWS::"): resource["Properties"]
        for resource in resources.values()
        if resource["Type"].startswith(PUBLIC_RESOURCES)
    }
    kinds = ("Api", "Integration", "Route", "Stage", "DomainName", "ApiMapping")
    assert set(public) == {f"ApiGatewayV2::{kind}" for kind in kinds}
    assert public["ApiGatewayV2::Api"]["ProtocolType"] == "HTTP"  # the type of API, not its scheme
    (domain,) = public["ApiGatewayV2::DomainName"]["DomainNameConfigurations"]
    assert domain["SecurityPolicy"] == "TLS_1_2"
    assert domain["CertificateArn"]


@pytest.mark.spec("OpenID Connect Core §16.15 b")
def test_server_with_a_domain_is_not_reachable_by_another_address(resources: dict[str, dict[str, Any]]) -> None:
    assert resources["HttpApi"]["Properties"]["DisableExecuteApiEndpoint"] == {"Fn::If": ["HasDomain", True, False]}


@pytest.mark.spec("RFC 6749 §2.3.1 e", "RFC 7009 §5 a")
def test_gateway_throttles_every_route(resources: dict[str, dict[str, Any]]) -> None:
    settings = resources["HttpStage"]["Properties"]["DefaultRouteSettings"]
    assert settings["ThrottlingRateLimit"] == {"Ref": "ThrottlingRateLimit"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "ThrottlingBurstLimit"}
    parameters = yaml.safe_load(API.read_text("utf-8"))["Parameters"]
    for name in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
        assert 0 < int(parameters[name]["Default"]) <= 1000


@pytest.fixture
def handler(site: Site) -> Handler:
    """The handler of the same server, deployed with an https address."""
    settings = replace(site.settings, issuer=ISSUER)
    server = AuthorizationServer(settings, site.server.store, site.server.keys, site.clock)
    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)
    return handler


@pytest.fixture
def deployed(site: Site, handler: Handler) -> GatewayBrowser:
    return GatewayBrowser(site, HTTP_2, handler)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.2.1 a", "FAPI 2.0 Security Profile §5.4.2 a", "RFC 9126 §2 a")
@pytest.mark.spec("RFC 7009 §2 d", "RFC 7009 §2 g", "RFC 8414 §2 d", "RFC 8414 §3 b", "RFC 6749 §10.9")
@pytest.mark.spec("OpenID Connect Discovery §3 g", "RFC 6749 §3.1 c", "RFC 6749 §3.2 b", "RFC 7009 §2 c")
def test_every_address_in_the_metadata_is_https_without_query_and_fragment(deployed: GatewayBrowser) -> None:
    metadata = deployed.get("/.well-known/openid-configuration").json
    addresses = {name: value for name, value in metadata.items() if name.endswith(("_endpoint", "_uri"))}
    assert set(addresses) >= {"authorization_endpoint", "token_endpoint", "revocation_endpoint", "jwks_uri"}
    for name, address in addresses.items():
        assert address.startswith(f"{ISSUER}/"), name
        assert "?" not in address, name
        assert "#" not in address, name


@pytest.mark.spec("OpenID Connect Core §2 a", "RFC 9207 §2 b", "RFC 8414 §2 a", "OpenID Connect Discovery §3 a")
@pytest.mark.spec("RFC 8414 §3.3", "OpenID Connect Core §16.15 a", "OpenID Connect Discovery §4.3 b")
def test_issuer_in_metadata_response_and_tokens_is_the_https_address(site: Site, deployed: GatewayBrowser) -> None:
    alice, client = site.user(), site.client(trusted=True)
    answer = deployed.sign_in(deployed.authorize(client))
    assert answer.answer["iss"] == ISSUER
    tokens = deployed.redeem(client, create_code(site, client, alice)).json
    issuers = [deployed.get(f"/.well-known/{name}").json["issuer"] for name in DOCUMENTS]
    issuers += [claims_of(tokens[name])["iss"] for name in ("id_token", "access_token")]
    assert issuers == [ISSUER] * 4


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@pytest.mark.spec("FAPI 2.0 Security Profile §5.2.3 a")
@pytest.mark.spec("RFC 6749 §10.11", "RFC 6749 §10.8 a", "RFC 9700 §2.6 d", "OpenID Connect Core §16.17 c")
def test_https_responses_have_hsts_and_secure_cookies(site: Site, deployed: GatewayBrowser) -> None:
    site.user()
    page = deployed.authorize(site.client(trusted=True))
    pages = [page, deployed.sign_in(page, "alice", PASSWORD), deployed.get("/"), deployed.get("/oauth2/jwks")]
    for answer in pages:
        assert answer.header("strict-transport-security") == "max-age=31536000"
        assert all("Secure" in cookie.split("; ") for cookie in _cookies(answer))
    assert _cookies(page)


def _cookies(answer: Answer) -> list[str]:
    return [value for name, value in answer.headers if name.lower() == "set-cookie"]


@pytest.mark.spec("RFC 6750 §5.2 g", "RFC 6750 §5.3 a")
def test_no_token_is_in_a_cookie(site: Site, deployed: GatewayBrowser) -> None:
    site.user()
    client = site.client()
    consent = deployed.sign_in(deployed.authorize(client, scope="openid offline_access"))
    answer = deployed.submit(consent, decision="allow_once")
    tokens = deployed.redeem(client, answer.code).json
    deployed.refresh(client, tokens["refresh_token"])
    deployed.userinfo(tokens["access_token"])
    assert {name.rpartition("-")[2] for name in deployed.cookies} == {"session", "browser"}
    for value in deployed.cookies.values():
        assert value.startswith(("sid_", "br_"))  # handles that no endpoint accepts as a token
        assert deployed.userinfo(value).status == 401
        assert deployed.refresh(client, value).json["error"] == "invalid_grant"
    assert not any(tokens[name] in json.dumps(deployed.cookies) for name in ("access_token", "refresh_token"))
