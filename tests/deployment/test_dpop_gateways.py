"""DPoP behind every gateway, at the address of the gateway, and below the base path of a custom domain."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from chalicelib.protocol.dpop import access_token_hash
from tests.deployment.test_base_path import BASE, ISSUER, CustomDomain, DomainBrowser
from tests.support.browser import VERIFIER, basic
from tests.support.gateways import GATEWAYS, Gateway, GatewayBrowser
from tests.support.grants import create_code
from tests.support.proofs import TOKEN, USERINFO, make_proof
from tests.support.site import Registered, Site

FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture(params=GATEWAYS, ids=lambda gateway: gateway.name)
def gateway(request: pytest.FixtureRequest) -> Gateway:
    gateway: Gateway = request.param
    return gateway


def redemption(site: Site, client: Registered) -> bytes:
    """Return the body of a request with a new code."""
    form = {"grant_type": "authorization_code", "code": create_code(site, client), "code_verifier": VERIFIER}
    return urlencode(form | {"redirect_uri": client.record.redirect_uris[0]}).encode()


def test_proof_for_the_address_in_the_metadata_is_accepted(site_with: Callable[..., Site], gateway: Gateway) -> None:
    """Also where no issuer is set, so that it is the address of the gateway, with its stage."""
    site = site_with(issuer="")
    site.user()
    client = site.client(dpop_nonce_required=True)
    browser = GatewayBrowser(site, gateway)
    metadata = browser.get("/.well-known/openid-configuration").json
    endpoint = metadata["token_endpoint"]
    assert endpoint == f"{gateway.url}/oauth2/token"
    answer = browser.redeem(client, create_code(site, client), headers={"DPoP": make_proof(site, htu=endpoint)})
    assert (answer.status, answer.json["error"]) == (400, "use_dpop_nonce")
    nonce = answer.header("dpop-nonce")
    proof = make_proof(site, htu=endpoint, nonce=nonce)
    answer = browser.redeem(client, create_code(site, client, site.read_user()), headers={"DPoP": proof})
    assert answer.json["token_type"] == "DPoP"
    token, address = answer.json["access_token"], metadata["userinfo_endpoint"]
    proof = make_proof(site, USERINFO, "GET", htu=address, ath=access_token_hash(token), nonce=nonce)
    answer = browser.get(USERINFO, {"Authorization": f"DPoP {token}", "DPoP": proof})
    assert answer.status == 200
    answer = browser.get(USERINFO, {"Authorization": f"DPoP {token}", "DPoP": "x"})
    assert (answer.header("www-authenticate") or "").startswith('DPoP algs="ES256 ')


def test_two_header_fields_are_refused(site: Site, gateway: Gateway) -> None:
    """Each gateway joins or lists them in its own way."""
    client = site.client()
    browser = GatewayBrowser(site, gateway)
    headers = [FORM, *basic(client.id, client.secret or "").items()]
    first, second = (("DPoP", make_proof(site)) for _ in range(2))
    for proofs in ([first, second], [first, first], [first, ("dpop", second[1])], [first, ("DPoP", "")]):
        answer = browser.deliver("POST", TOKEN, [*headers, *proofs], redemption(site, client))
        assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    answer = browser.deliver("POST", TOKEN, [*headers, first], redemption(site, client))
    assert answer.json["token_type"] == "DPoP"


def test_address_of_a_proof_has_the_base_path(site_with: Callable[..., Site], gateway: Gateway) -> None:
    site = site_with(issuer=ISSUER)
    client = site.client()
    browser = DomainBrowser(site, Gateway("custom domain", CustomDomain(gateway), "login.example.com"))
    for base, status in ((BASE, 200), ("", 400), (f"/{gateway.stage}{BASE}", 400)):
        proof = make_proof(site, htu=f"https://login.example.com{base}{TOKEN}")
        assert browser.redeem(client, create_code(site, client), headers={"DPoP": proof}).status == status
