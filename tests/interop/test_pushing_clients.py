"""oauth4webapi (Node.js) and idpyoidc (Python), which push their requests and authenticate by private_key_jwt."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.keys.signing import ALGORITHMS
from tests.interop.programs import FOLDER, NODE_FOLDER, Program, installed, node_with, open_url, parameters
from tests.support.assertions import key_client, key_pair
from tests.support.browser import Browser
from tests.support.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.spec("RFC 7523 §2.2", "RFC 9126 §2")]

CALLBACK = "https://client.example.com/cb"
Commands = dict[str, Callable[[], tuple[list[str], Path]]]
CLIENTS: Commands = {
    "oauth4webapi": lambda: ([node_with("oauth4webapi"), "push.mjs"], NODE_FOLDER),
    "idpyoidc": lambda: ([installed("idpyoidc/bin/python", "idpyoidc"), "client.py"], FOLDER / "idpyoidc_client"),
}


@pytest.fixture
def start() -> Iterator[Callable[[str, dict[str, Any]], Program]]:
    """Return a function that starts a client with a task."""
    started: list[Program] = []

    def start(name: str, task: dict[str, Any]) -> Program:
        arguments, folder = CLIENTS[name]()
        started.append(Program(arguments, folder, task))
        return started[-1]

    yield start
    for party in started:
        party.close()


def make_task(site: Site, alg: str, audience: str) -> dict[str, Any]:
    """Return the task of a client, without how it is registered."""
    pair = key_pair(alg)
    return {
        "issuer": site.settings.issuer,
        "redirect_uri": CALLBACK,
        "scope": "openid profile",
        "private_key": pair.private_jwk,
        "private_key_alg": alg,
        "audience": audience,
    }


def finish(site: Site, browser: Browser, party: Program) -> dict[str, Any]:
    """Sign in and allow access, as the client asks for it; return its result."""
    url = party.receive()["open"]
    assert set(parameters(url)) == {"client_id", "request_uri"}
    site.secrets.add(parameters(url)["request_uri"].rpartition(":")[2])
    location = open_url(site, browser, url).location
    site.secrets.add(parameters(location)["code"])
    party.send({"url": location})
    return party.receive()


# idpyoidc has no EdDSA for client assertions. It names the token endpoint as the audience unless it is told otherwise.
CASES = [
    *(("oauth4webapi", alg, "issuer") for alg in ALGORITHMS),
    *(("idpyoidc", alg, audience) for alg in ("RS256", "PS256", "ES256") for audience in ("issuer", "token_endpoint")),
]


@pytest.mark.parametrize(("name", "alg", "audience"), CASES)
def test_client_pushes_and_authenticates_by_a_private_key(
    site: Site, browser: Browser, start: Callable[[str, dict[str, Any]], Program], name: str, alg: str, audience: str
) -> None:
    user = site.user("alice", claims={"name": "Alice Liddell"})
    client = key_client(
        site,
        key_pair(alg),
        redirect_uris=[CALLBACK],
        assertion_audience=audience,
        require_pushed_authorization_requests=True,
    )
    result = finish(site, browser, start(name, make_task(site, alg, audience) | {"client_id": client.id}))
    assert result["client_id"] == client.id
    assert result["claims"]["sub"] == result["userinfo"]["sub"] == user.sub
    assert result["userinfo"]["name"] == "Alice Liddell"
    assert result["refreshed"] is True
    assert result.get("active", [True, False]) == [True, False]
