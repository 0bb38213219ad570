"""openid-client and oauth4webapi (Node.js) with tokens that are bound to a key (DPoP), nonces and signed responses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.interop.programs import Program, open_url, parameters
from tests.support.browser import Browser
from tests.support.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.spec("RFC 9449 §5", "RFC 9449 §8.2", "JARM §2")]

CALLBACK = "https://client.example.com/cb"


@pytest.fixture
def start(start_with_node: Callable[[str, dict[str, Any]], Program]) -> Callable[[dict[str, Any]], Program]:
    """A function that starts a client with a task."""
    return partial(start_with_node, "dpop.mjs")


@pytest.mark.parametrize("nonce", [False, True], ids=["", "nonce"])
@pytest.mark.parametrize("push", [False, True], ids=["dpop_jkt", "pushed"])
@pytest.mark.parametrize("kind", ["public", "confidential"])
@pytest.mark.parametrize("alg", ["ES256", "Ed25519", "PS256", "RS256"])
@pytest.mark.parametrize("library", ["openid-client", "oauth4webapi"])
def test_client_binds_its_tokens_to_a_key(
    site: Site,
    browser: Browser,
    start: Callable[[dict[str, Any]], Program],
    library: str,
    alg: str,
    kind: str,
    push: bool,
    nonce: bool,
) -> None:
    """With a nonce, the authorization response is signed too (JARM)."""
    jarm = nonce
    if alg != "ES256" and (kind, push, nonce) != ("public", True, False):
        pytest.skip("One flow with each algorithm is enough.")
    user = site.user("alice", claims={"name": "Alice Liddell"})
    client = site.client(
        public=kind == "public",
        redirect_uris=[CALLBACK],
        dpop_bound_access_tokens=True,
        dpop_nonce_required=nonce,
        require_pushed_authorization_requests=push,
    )
    task = {
        "library": library,
        "alg": alg,
        "push": push,
        "jarm": jarm,
        "issuer": site.settings.issuer,
        "redirect_uri": CALLBACK,
    }
    task |= {"client_id": client.id, "scope": "openid profile"}
    party = start(task | ({"client_secret": client.secret} if client.secret else {}))
    url = party.receive()["open"]
    if push:
        site.secrets.add(parameters(url)["request_uri"].rpartition(":")[2])
    location = open_url(site, browser, url).location
    site.secrets.update(parameters(location)[name] for name in ("code", "response") if name in parameters(location))
    assert ("response" in parameters(location)) is jarm
    party.send({"url": location})
    result = party.receive()
    assert (result["userinfo"]["sub"], result["userinfo"]["name"]) == (user.sub, "Alice Liddell")
    assert [each.lower() for each in result["types"]] == ["dpop", "dpop"]
    assert result["stolen"] == "refused"
    (grant,) = [grant for grant in site.server.store.grants.scan() if grant.redeemed_at]
    assert (grant.dpop_jkt is not None, grant.refresh_token_jkt is not None) == (True, kind == "public")
    if library == "oauth4webapi":
        assert result["nonces"] == (2 if nonce else 0), "once for each of its keys: every answer has the next nonce"
