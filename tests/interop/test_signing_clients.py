"""openid-client and oauth4webapi (Node.js) with signed requests, responses and introspection (JAR, JARM, RFC 9701)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.interop.programs import Program, open_url, parameters
from tests.support.assertions import key_client, key_pair
from tests.support.browser import Browser
from tests.support.resource_servers import API, register_resource
from tests.support.site import Site

pytestmark = [
    *(pytest.mark.slow, pytest.mark.programs),
    pytest.mark.spec("RFC 9101 §6", "RFC 9126 §3", "JARM §2", "RFC 9701 §5", "RFC 9449 §10.1 b"),
]
CALLBACK = "https://client.example.com/cb"


@pytest.fixture
def start(start_with_node: Callable[[str, dict[str, Any]], Program]) -> Callable[[dict[str, Any]], Program]:
    """A function that starts a client with a task."""
    return partial(start_with_node, "jar.mjs")


@pytest.mark.parametrize("push", [False, True], ids=["by value", "pushed"])
@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA", "RS256"])
@pytest.mark.parametrize("library", ["openid-client", "oauth4webapi"])
def test_client_signs_its_requests_and_verifies_signed_responses(
    site: Site,
    browser: Browser,
    start: Callable[[dict[str, Any]], Program],
    library: str,
    alg: str,
    push: bool,
) -> None:
    user, pair = site.user("alice"), key_pair(alg)
    register_resource(site, API, scope="photos.read")
    client = key_client(
        site,
        pair,
        redirect_uris=[CALLBACK],
        scope="openid photos.read",
        require_signed_request_object=True,
        request_object_signing_alg=alg,
        require_pushed_authorization_requests=push,
        authorization_signed_response_alg=alg,
        introspection_signed_response_alg=alg,
        dpop_bound_access_tokens=True,
    )
    task = {
        "library": library,
        "push": push,
        "issuer": site.settings.issuer,
        "client_id": client.id,
        "redirect_uri": CALLBACK,
        "scope": "openid photos.read",
        "resource": API,
        "private_key": pair.private_jwk,
        "private_key_alg": alg,
        "introspection_alg": alg,
    }
    party = start(task)
    url = party.receive()["open"]
    assert ("request_uri" if push else "request") in parameters(url)
    assert not {"scope", "redirect_uri", "state"} & set(parameters(url))
    if push:
        site.secrets.add(parameters(url)["request_uri"].rpartition(":")[2])
    location = open_url(site, browser, url).location
    assert set(parameters(location)) == {"response"}
    site.secrets.add(parameters(location)["response"])
    party.send({"url": location})
    result = party.receive()
    assert (result["sub"], result["type"].lower()) == (user.sub, "dpop")
    assert (result["introspection"]["active"], result["introspection"]["aud"]) == (True, API)
    (grant,) = [grant for grant in site.server.store.grants.scan() if grant.redeemed_at]
    assert (grant.dpop_jkt is not None) is push
