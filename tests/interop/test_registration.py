"""Applications of other projects register themselves: openid-client (Node.js), and the rules of Authlib."""

from collections.abc import Callable
from typing import Any

import pytest
from authlib.oauth2.rfc7591.claims import ClientMetadataClaims
from authlib.oidc.registration.claims import ClientMetadataClaims as OpenIDClaims

from tests.endpoints.register.conftest import initial_token, registered
from tests.interop.programs import NODE_FOLDER, Program, node_with, parameters
from tests.support.assertions import key_pair
from tests.support.browser import SECRET_MEMBERS, Browser
from tests.support.site import Site

CALLBACK = "https://client.example.com/cb"


@pytest.mark.slow
@pytest.mark.programs
@pytest.mark.parametrize("mode", ["open", "token"])
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none", "private_key_jwt"])
def test_openid_client_registers_itself_and_signs_in(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], mode: str, method: str
) -> None:
    node = node_with("openid-client")
    site = site_with(client_registration=mode)
    user = site.user()
    browser = browsers(site)
    task: dict[str, Any] = {
        "issuer": site.settings.issuer,
        "metadata": {
            "client_name": "Notes",
            "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": method,
        },
    }
    if method == "private_key_jwt":
        pair = key_pair("ES256")
        task |= {"private_key": pair.private_jwk, "private_key_alg": "ES256", "push": True}
        task["metadata"]["jwks"] = pair.jwks
    if mode == "token":
        _, task["initial_access_token"] = initial_token(site)
    party = Program([node, "register.mjs"], NODE_FOLDER, task)
    try:
        begun = party.receive()
        site.secrets.update(begun["registered"][name] for name in SECRET_MEMBERS if name in begun["registered"])
        if "push" in task:
            assert set(parameters(begun["open"])) == {"client_id", "request_uri"}
            site.secrets.add(parameters(begun["open"])["request_uri"].rpartition(":")[2])
        page = browser.sign_in(browser.request("GET", begun["open"]))
        answer = browser.submit(page, decision="allow")
        site.secrets.add(answer.code)
        party.send({"url": answer.location})
        result = party.receive()
    finally:
        party.close()
    assert result["claims"]["sub"] == result["refreshed"]["sub"] == user.sub
    client = site.server.store.clients.get(begun["registered"]["client_id"])
    assert client
    assert client.token_endpoint_auth_method == method


@pytest.mark.parametrize("method", ["client_secret_basic", "none"])
def test_response_keeps_the_rules_of_authlib(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], method: str
) -> None:
    app = browsers(site_with(client_registration="open"))
    metadata = app.get("/.well-known/openid-configuration").json
    members = registered(app, token_endpoint_auth_method=method, client_uri="https://app.example.com/")
    for rules in (ClientMetadataClaims, OpenIDClaims):
        rules(members, {}, rules.get_claims_options(metadata), metadata).validate()
