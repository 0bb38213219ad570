"""The types of authorization details of clients that register themselves (RFC 9396 section 10)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.endpoints.register.conftest import JSON, REGISTER, bearer, register, registered
from tests.support.authorization_details import register_type
from tests.support.browser import Browser
from tests.support.site import Site

pytestmark = pytest.mark.spec("RFC 9396 §10")


@pytest.fixture
def app(open_site: Site, browsers: Callable[..., Browser]) -> Browser:
    browser: Browser = browsers(open_site)
    return browser


@pytest.fixture(autouse=True)
def registered_types(open_site: Site) -> None:
    """A type that is open to clients that register themselves, and one that is not."""
    register_type(open_site, "album", "Read an album", "identifier", self_registered=True)
    register_type(open_site, "payment", "Make a payment", "amount")


def test_client_registers_itself_for_an_open_type(open_site: Site, app: Browser) -> None:
    members = registered(app, authorization_details_types=["album", "album"])
    assert members["authorization_details_types"] == ["album"]
    client = open_site.server.store.clients.get(members["client_id"])
    assert client
    assert client.authorization_details_types == ("album",)
    assert "authorization_details_types" not in registered(app)


@pytest.mark.parametrize(
    "types",
    [
        *(["payment"], ["album", "payment"], ["unknown"], ["Album"], [""], ["two words"], [1], [None]),
        *("album", {}, 1, True, [f"t{number}" for number in range(21)], ["x" * 3000]),
    ],
    ids=lambda types: str(types)[:30],
)
def test_client_cannot_register_itself_for_other_types(open_site: Site, app: Browser, types: Any) -> None:
    answer = register(app, authorization_details_types=types)
    assert (answer.status, answer.json["error"]) == (400, "invalid_client_metadata")
    assert not [*open_site.server.store.clients.scan()]


def test_update_sets_the_types_anew_and_takes_away_those_of_the_operator(open_site: Site, app: Browser) -> None:
    members = registered(app, authorization_details_types=["album"])
    clients = open_site.server.store.clients
    clients.transition((members["client_id"],), None, {"authorization_details_types": ("album", "payment")})
    body = {"client_id": members["client_id"], "redirect_uris": ["https://app.example.com/callback"]}
    for types, status, stored in ((["payment"], 400, ("album", "payment")), (["album"], 200, ("album",))):
        sent = json.dumps(body | {"token_endpoint_auth_method": "none", "authorization_details_types": types})
        headers = JSON | bearer(members["registration_access_token"])
        answer = app.request("PUT", f"{REGISTER}?client_id={members['client_id']}", sent, headers)
        assert answer.status == status, answer.body
        client = clients.get(members["client_id"])
        assert client
        assert client.authorization_details_types == stored
