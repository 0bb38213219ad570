"""Everything travels over TLS: what is deployed has no other front, and whoever came by https goes on by https."""

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
import yaml

import app
from chalicelib import web
from chalicelib.server import AuthorizationServer
from infra.package import API
from tests.browser import Answer
from tests.gateways import FRONTS, FrontBrowser, Handler
from tests.shortcut import code_of
from tests.site import PASSWORD, Site

HTTP_2 = next(front for front in FRONTS if front.name == "HTTP 2.0")
ISSUER = "https://id.example.com"
# AWS's resources that let somebody from outside reach a function
FRONT_DOORS = ("AWS::ApiGateway::", "AWS::ApiGatewayV2::", "AWS::Lambda::Url", "AWS::ElasticLoadBalancing")


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    """What infra/api.yaml adds to the server's stack."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(API.read_text("utf-8"))["Resources"]
    return found


@pytest.mark.spec("RFC 6749 §2.3.1 d", "RFC 6749 §3.1 d", "RFC 6749 §3.2 c", "RFC 6749 §10.3 b", "RFC 6749 §10.4 c")
@pytest.mark.spec("RFC 6749 §10.5 a", "RFC 6749 §10.8 a", "RFC 6749 §10.8 b", "RFC 6749 §10.9", "RFC 6749 §10.11")
@pytest.mark.spec("RFC 6750 §5.2 d", "RFC 6750 §5.2 e", "RFC 7009 §2 e", "RFC 8414 §6.1 a", "RFC 8414 §6.1 b")
@pytest.mark.spec("RFC 9700 §2.6 d", "OpenID Connect Core §3.1.2", "OpenID Connect Core §3.1.3")
@pytest.mark.spec("OpenID Connect Core §5.3 a", "OpenID Connect Core §16.17 a", "OpenID Connect Core §16.17 b")
@pytest.mark.spec("OpenID Connect Core §16.17 c", "OpenID Connect Discovery §7.1 a", "OpenID Connect Discovery §7.1 b")
@pytest.mark.spec("OpenID Connect Discovery §7.1 c", "RFC 7662 §2 a", "RFC 7662 §4 i")
def test_a_deployed_server_has_one_front_which_speaks_tls_only(resources: dict[str, dict[str, Any]]) -> None:
    """API Gateway has no plain http, and takes TLS 1.2 and newer."""
    doors = {
        resource["Type"].removeprefix("AWS::"): resource["Properties"]
        for resource in resources.values()
        if resource["Type"].startswith(FRONT_DOORS)
    }
    kinds = ("Api", "Integration", "Route", "Stage", "DomainName", "ApiMapping")
    assert set(doors) == {f"ApiGatewayV2::{kind}" for kind in kinds}
    assert doors["ApiGatewayV2::Api"]["ProtocolType"] == "HTTP"  # the product; its addresses are https
    (domain,) = doors["ApiGatewayV2::DomainName"]["DomainNameConfigurations"]
    assert domain["SecurityPolicy"] == "TLS_1_2"
    assert domain["CertificateArn"]


@pytest.mark.spec("OpenID Connect Core §16.15 b")
def test_a_server_with_a_domain_answers_nowhere_else(resources: dict[str, dict[str, Any]]) -> None:
    assert resources["HttpApi"]["Properties"]["DisableExecuteApiEndpoint"] == {"Fn::If": ["HasDomain", True, False]}


@pytest.mark.spec("RFC 6749 §2.3.1 e", "RFC 7009 §5 a")
def test_the_gateway_throttles_every_address(resources: dict[str, dict[str, Any]]) -> None:
    settings = resources["HttpStage"]["Properties"]["DefaultRouteSettings"]
    assert settings["ThrottlingRateLimit"] == {"Ref": "ThrottlingRateLimit"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "ThrottlingBurstLimit"}
    parameters = yaml.safe_load(API.read_text("utf-8"))["Parameters"]
    for name in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
        assert 0 < int(parameters[name]["Default"]) <= 1000


@pytest.fixture
def handler(site: Site) -> Handler:
    """The same server, deployed under an https address."""
    settings = replace(site.settings, issuer=ISSUER)
    server = AuthorizationServer(settings, site.server.store, site.server.keys)
    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)
    return handler


@pytest.fixture
def deployed(site: Site, handler: Handler) -> FrontBrowser:
    return FrontBrowser(site, HTTP_2, handler)


@pytest.mark.spec("RFC 7009 §2 d", "RFC 7009 §2 g", "RFC 8414 §2 d", "RFC 8414 §3 b", "RFC 6749 §10.9")
@pytest.mark.spec("OpenID Connect Discovery §3 g", "RFC 6749 §3.1 c", "RFC 6749 §3.2 b", "RFC 7009 §2 c")
def test_every_address_in_the_metadata_is_https_without_query_and_fragment(deployed: FrontBrowser) -> None:
    metadata = deployed.get("/.well-known/openid-configuration").json
    addresses = {name: value for name, value in metadata.items() if name.endswith(("_endpoint", "_uri"))}
    assert set(addresses) >= {"authorization_endpoint", "token_endpoint", "revocation_endpoint", "jwks_uri"}
    for name, address in addresses.items():
        assert address.startswith(f"{ISSUER}/"), name
        assert "?" not in address, name
        assert "#" not in address, name


@pytest.mark.spec("OpenID Connect Core §2 a", "RFC 9207 §2 b", "RFC 8414 §2 a", "OpenID Connect Discovery §3 a")
@pytest.mark.spec("RFC 8414 §3.3", "OpenID Connect Core §16.15 a", "OpenID Connect Discovery §4.3 b")
def test_the_issuer_of_metadata_answer_and_tokens_is_the_https_address(site: Site, deployed: FrontBrowser) -> None:
    alice, client = site.user(), site.client(trusted=True)
    answer = deployed.sign_in(deployed.authorize(client))
    assert answer.answer["iss"] == ISSUER
    tokens = deployed.redeem(client, code_of(site, client, alice)).json
    said = [deployed.get(f"/.well-known/{name}").json["issuer"] for name in DOCUMENTS]
    said += [claims_of(tokens[name])["iss"] for name in ("id_token", "access_token")]
    assert said == [ISSUER] * 4


DOCUMENTS = ("openid-configuration", "oauth-authorization-server")


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@pytest.mark.spec("RFC 6749 §10.11", "RFC 6749 §10.8 a", "RFC 9700 §2.6 d", "OpenID Connect Core §16.17 c")
def test_a_browser_that_came_by_https_is_told_to_stay_with_it(site: Site, deployed: FrontBrowser) -> None:
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
def test_no_token_is_in_a_cookie(site: Site, deployed: FrontBrowser) -> None:
    site.user()
    client = site.client()
    consent = deployed.sign_in(deployed.authorize(client, scope="openid offline_access"))
    answer = deployed.submit(consent, decision="allow_once")
    tokens = deployed.redeem(client, answer.code).json
    deployed.refresh(client, tokens["refresh_token"])
    deployed.userinfo(tokens["access_token"])
    assert {name.rpartition("-")[2] for name in deployed.cookies} == {"session", "browser"}
    for value in deployed.cookies.values():
        assert value.startswith(("sid_", "br_"))  # a handle of ours, which no token endpoint and no resource takes
        assert deployed.userinfo(value).status == 401
        assert deployed.refresh(client, value).json["error"] == "invalid_grant"
    assert not any(tokens[name] in json.dumps(deployed.cookies) for name in ("access_token", "refresh_token"))
