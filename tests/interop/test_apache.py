"""Apache with mod_oauth2 as a resource server: it verifies access tokens by the JWKs or by introspection, and DPoP."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from chalicelib.protocol.dpop import access_token_hash
from chalicelib.protocol.handles import new_id
from infra.local.state import CHECKOUT
from tests.interop.apache import ACCEPTED, DPOP, Apache, require_apache, use_real_time
from tests.support.assertions import KeyPair, key_pair, sign, signed
from tests.support.browser import VERIFIER, Browser
from tests.support.fapi import fapi_client
from tests.support.grants import create_code
from tests.support.proofs import TOKEN, header_of_proof, with_proof
from tests.support.resource_servers import register_resource_server
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.spec("RFC 9449 §6 a", "RFC 9449 §6.1")]

API = "https://api.example.com"
KEY, OTHER = key_pair("ES256", "of the client"), key_pair("ES256", "of a thief")
LOCATIONS = ("keys", "introspection")


@pytest.fixture
def api(site: Site) -> Registered:
    """The resource server, which may introspect the access tokens that are for it."""
    require_apache()
    use_real_time(site)
    return register_resource_server(site, API)


@pytest.fixture
def apache(site: Site, api: Registered, tmp_path: Path) -> Iterator[Apache]:
    """Apache, with one location for each way to verify an access token, and one that knows nothing of DPoP."""
    issuer = site.settings.issuer
    keys = f"OAuth2TokenVerify jwks_uri {issuer}/oauth2/jwks jwks_uri.ssl_verify=false"
    options = f"introspect.ssl_verify=false&introspect.auth=client_secret_basic&client_id={quote(api.id, safe='')}"
    introspection = f"OAuth2TokenVerify introspect {issuer}/oauth2/introspect {options}&client_secret={api.secret}"
    audience = f"Require oauth2_claim aud:{API}"
    apache = Apache(
        tmp_path,
        {
            "keys": f"{keys}&{DPOP}\n{audience}",
            "introspection": f"{introspection}&{DPOP}\n{audience}",
            "bearer": f"{keys}\n{audience}",
        },
    )
    yield apache
    apache.close()


@pytest.fixture
def tokens(site: Site, browser: Browser, api: Registered) -> Callable[..., str]:
    """A function that returns an access token of a client with the profile fapi2, for a resource."""
    client = fapi_client(site)

    def issue(resource: str = API, headers: dict[str, str] | None = None) -> str:
        code = create_code(site, client, resource=frozenset({resource}))
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "resource": resource}
        form |= {"redirect_uri": client.record.redirect_uris[0]} | signed(site, client)
        answer = browser.post(TOKEN, form, with_proof(site, pair=KEY) if headers is None else headers)
        assert answer.status == 200, answer.body
        site.secrets.add(answer.json["access_token"])
        return str(answer.json["access_token"])

    return issue


def call(
    site: Site,
    apache: Apache,
    location: str,
    token: str,
    scheme: str = "DPoP",
    pair: KeyPair | None = KEY,
    **changes: Any,
) -> int:
    """Request the document of a location with a proof, or without one; return the status."""
    url = f"{apache.url}/{location}/"
    headers = {"Authorization": f"{scheme} {token}"}
    if pair:
        ath = access_token_hash(token)
        claims = {"jti": new_id(), "htm": "GET", "htu": url, "iat": site.clock.time, "ath": ath} | changes
        headers["DPoP"] = sign(pair, header_of_proof(pair), claims)
    answer = requests.get(url, headers=headers, timeout=30)
    assert answer.status_code != 200 or answer.text == f"The document of {location}."
    return answer.status_code


# What is changed in a request: the arguments of `call`.
REFUSED: dict[str, dict[str, Any]] = {
    "no proof": {"pair": None},
    "a proof by another key": {"pair": OTHER},
    "a proof for another method": {"htm": "POST"},
    "a proof for another address": {"htu": "https://www.other.example/"},
    "an old proof": {"iat": 1_700_000_000},
    "a bearer token": {"scheme": "Bearer", "pair": None},
}


@pytest.mark.parametrize("location", LOCATIONS)
def test_bound_token_is_accepted_with_a_proof_by_its_key_only(
    site: Site, apache: Apache, tokens: Callable[..., str], location: str
) -> None:
    token = tokens()
    assert call(site, apache, location, token) == 200, apache.log.read_text("utf-8")
    for case, changes in REFUSED.items():
        assert call(site, apache, location, token, **changes) == 401, case
    assert call(site, apache, location, token[:-8] + "AAAAAAAA") == 401


@pytest.mark.parametrize("location", LOCATIONS)
def test_token_for_another_resource_is_refused(
    site: Site, apache: Apache, tokens: Callable[..., str], location: str
) -> None:
    register_resource_server(site, "https://other.example.com")
    assert call(site, apache, location, tokens("https://other.example.com")) == 401


def test_introspection_refuses_a_token_whose_grant_was_revoked(
    site: Site, apache: Apache, tokens: Callable[..., str]
) -> None:
    token = tokens()
    (grant,) = site.server.store.grants.scan()
    site.server.store.grants.transition((grant.grant_id,), None, {"revoked_at": site.clock.time})
    assert call(site, apache, "introspection", token) == 401
    assert call(site, apache, "keys", token) == 200, "the token alone does not tell"


def test_api_that_knows_nothing_of_dpop_accepts_a_bound_token_as_a_bearer_token(
    site: Site, apache: Apache, tokens: Callable[..., str]
) -> None:
    """As docs/dpop.md warns."""
    assert call(site, apache, "bearer", tokens(), scheme="Bearer", pair=None) == 200


def test_documented_configuration_is_the_one_that_is_tested() -> None:
    text = (CHECKOUT / "docs" / "dpop.md").read_text("utf-8")
    assert DPOP in text
    assert ACCEPTED in text
