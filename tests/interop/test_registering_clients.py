"""oauth4webapi and idpyoidc, which register themselves, push their requests and authenticate by private_key_jwt."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.programs import Program
from tests.interop.test_pushing_clients import CALLBACK, CLIENTS, finish, make_task, start
from tests.support.assertions import key_pair
from tests.support.browser import Browser
from tests.support.site import Site

__all__ = ["start"]  # a fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.programs,
    pytest.mark.spec("RFC 7591 §3"),
]


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
@pytest.mark.parametrize("name", CLIENTS)
def test_client_registers_pushes_and_authenticates_by_a_private_key(
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    start: Callable[[str, dict[str, Any]], Program],
    name: str,
    alg: str,
) -> None:
    site = site_with(client_registration="open")
    user = site.user("alice", claims={"name": "Alice Liddell"})
    members = {
        "client_name": "Photo Print",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": alg,
        "jwks": key_pair(alg).jwks,
        "scope": "openid",  # idpyoidc rejects a response with several; it may request others nevertheless
    }
    result = finish(site, browsers(site), start(name, make_task(site, alg, "issuer") | {"register": members}))
    client = site.server.store.clients.get(result["client_id"])
    assert client is not None
    assert client.token_endpoint_auth_method == "private_key_jwt"
    assert result["claims"]["sub"] == result["userinfo"]["sub"] == user.sub
    # idpyoidc registers the grant types that belong to its response types, so it gets no refresh token.
    assert result["refreshed"] is (None if name == "idpyoidc" else True)
