"""What mutual TLS costs: no call, and no unit of DynamoDB more than a client secret and a bearer token."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.browser import Answer, Browser, authorization_parameters
from tests.support.client_certificates import CertificateBrowser, pki_client
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.grants import create_code
from tests.support.site import Registered, Site

Cost = tuple[int, float]


@pytest.fixture
def cost(mtls_site: Site, caplog: pytest.LogCaptureFixture) -> Callable[[Callable[[], Answer]], Cost]:
    """Return a function that sends a request, and returns its calls and the units that they have consumed."""

    def measure(send: Callable[[], Answer]) -> Cost:
        caplog.clear()
        answer = send()
        assert answer.status in (200, 201), answer.body
        (line,) = [each for each in map(_members, caplog.messages) if "dynamodb_calls" in each]
        return line["dynamodb_calls"], line["consumed_capacity"]

    return measure


def _members(message: str) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(message) if message.startswith("{") else {}
    return members


def costs(
    site: Site, cost: Callable[[Callable[[], Answer]], Cost], browser: Browser, client: Registered
) -> dict[str, Cost]:
    """Return the costs of the requests of a client, whose record is cached."""
    site.server.client(client.id)
    secret = {"client_id": client.id} | ({"client_secret": client.secret} if client.secret else {})
    code = create_code(site, client)
    answers: list[Answer] = []

    def redeem() -> Answer:
        answers.append(browser.redeem(client, code))
        return answers[-1]

    measured = {"code": cost(redeem)}
    tokens = answers[0].json
    measured["refresh"] = cost(lambda: browser.refresh(client, tokens["refresh_token"]))
    measured["userinfo"] = cost(lambda: browser.userinfo(tokens["access_token"]))
    form = secret | {"token": tokens["access_token"]}
    measured["introspect"] = cost(lambda: browser.post("/oauth2/introspect", form))
    measured["par"] = cost(lambda: browser.post("/oauth2/par", authorization_parameters(client) | secret))
    measured["revoke"] = cost(lambda: browser.post("/oauth2/revoke", form))
    return measured


def test_requests_with_a_certificate_cost_as_much_as_with_a_secret(
    mtls_site: Site, cost: Callable[[Callable[[], Answer]], Cost]
) -> None:
    plain = costs(mtls_site, cost, GatewayBrowser(mtls_site, HTTP_2), mtls_site.client())
    client = pki_client(mtls_site, tls_client_certificate_bound_access_tokens=True)
    assert costs(mtls_site, cost, CertificateBrowser(mtls_site), client) == plain
    assert plain["code"][0] == 2


def test_public_client_whose_refresh_token_is_bound_costs_as_much(
    mtls_site: Site, cost: Callable[[Callable[[], Answer]], Cost]
) -> None:
    def both(browser: Browser, client: Registered) -> list[Cost]:
        mtls_site.server.client(client.id)
        code, answers = create_code(mtls_site, client), []

        def redeem() -> Answer:
            answers.append(browser.redeem(client, code))
            return answers[-1]

        first = cost(redeem)
        return [first, cost(lambda: browser.refresh(client, answers[0].json["refresh_token"]))]

    plain = both(GatewayBrowser(mtls_site, HTTP_2), mtls_site.client(public=True))
    bound = mtls_site.client(public=True, tls_client_certificate_bound_access_tokens=True)
    assert both(CertificateBrowser(mtls_site), bound) == plain
