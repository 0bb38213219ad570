"""openid-client and oauth4webapi (Node.js) with mutual TLS: client authentication and tokens that are bound."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.endpoints.userinfo.conftest import claims_of
from tests.interop.programs import Program, open_url, parameters
from tests.support.browser import Browser
from tests.support.client_certificates import (
    DOMAIN,
    Pair,
    authority,
    of_authority,
    pki_client,
    self_signed,
    self_signed_client,
)
from tests.support.site import Registered, Site
from tests.support.tls_front import tls_front

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.spec("RFC 8705 §3", "RFC 8705 §5")]

CALLBACK = "https://client.example.com/cb"
SCOPE = "openid profile offline_access"


@pytest.fixture
def start(start_with_node: Callable[[str, dict[str, Any]], Program]) -> Callable[[dict[str, Any]], Program]:
    """A function that starts a client with a task."""
    return partial(start_with_node, "mtls.mjs")


def register(site: Site, kind: str) -> tuple[Registered, Pair]:
    """Register a client whose tokens are bound, and return it with its certificate."""
    members: dict[str, Any] = {"redirect_uris": [CALLBACK], "scope": SCOPE}
    members["tls_client_certificate_bound_access_tokens"] = True
    if kind == "tls_client_auth":
        return pki_client(site, **members), of_authority()
    if kind == "public":
        return site.client(public=True, **members), self_signed()
    return self_signed_client(site, **members), self_signed()


def keys(pair: Pair) -> dict[str, str]:
    return {"cert": pair.pem, "key": pair.key_pem}


@pytest.mark.parametrize("push", [False, True], ids=["", "pushed"])
@pytest.mark.parametrize("kind", ["tls_client_auth", "self_signed_tls_client_auth", "public"])
@pytest.mark.parametrize("library", ["openid-client", "oauth4webapi"])
def test_client_uses_its_certificate(
    site_with: Callable[..., Site], start: Callable[[dict[str, Any]], Program], library: str, kind: str, push: bool
) -> None:
    site = site_with(mtls_domain=DOMAIN)
    user = site.user("alice", claims={"name": "Alice Liddell"})
    client, own = register(site, kind)
    other = of_authority("CN=another,O=Example")
    browser = Browser(site)
    with tls_front(site, authority(), self_signed()) as front:
        task = {"library": library, "push": push, "public": kind == "public", "issuer": site.settings.issuer}
        task |= {"client_id": client.id, "scope": SCOPE, "redirect_uri": CALLBACK}
        task |= {"domain": DOMAIN, "port": front.port, "ca": front.authority.pem, "own": keys(own)}
        party = start(task | {"other": keys(other)})
        url = party.receive()["open"]
        if push:
            site.secrets.add(parameters(url)["request_uri"].rpartition(":")[2])
        location = open_url(site, browser, url).location
        site.secrets.add(parameters(location)["code"])
        party.send({"url": location})
        result = party.receive()
    browser.close()
    site.secrets.update(result["tokens"])
    assert (result["userinfo"]["sub"], result["userinfo"]["name"]) == (user.sub, "Alice Liddell")
    assert [claims_of(token)["cnf"] for token in result["tokens"]] == [{"x5t#S256": own.x5t}] * 2
    assert result["stolen"] == "refused"
    assert result["impostor"] == ("invalid_grant" if kind == "public" else 401)
    if kind != "public":
        assert result["introspected"]["cnf"] == {"x5t#S256": own.x5t}
    at_alias = {address.partition("/")[2] for address in result["used"] if address.startswith(DOMAIN)}
    paths = {"oauth2/token", "oauth2/userinfo"} | ({"oauth2/par"} if push else set())
    assert at_alias == paths | ({"oauth2/introspect", "oauth2/revoke"} if kind != "public" else set())
