"""What the operator allows applications that register themselves: the kinds of redirect URIs, and the grant types."""

from collections.abc import Callable

import pytest

from chalicelib.protocol.open_clients import GRANT_TYPES, REDIRECTS, kind_of
from tests.endpoints.register.conftest import (
    URI,
    as_client,
    bearer,
    initial_token,
    manage,
    record,
    register,
    registered,
    replacement,
)
from tests.support.browser import Browser
from tests.support.site import Site

pytestmark = pytest.mark.spec("RFC 7591 §5 d")
Browsers = Callable[..., Browser]
KINDS = {
    "https://app.example.com/callback": "https",
    "https://app.example.com:8443/callback": "https",
    "https://localhost.example.com/callback": "https",
    "https://10.0.0.1/callback": "https",
    "http://127.0.0.1/callback": "loopback",
    "http://localhost:8787/callback": "loopback",
    "http://[::1]/callback": "loopback",
    "https://localhost/callback": "loopback",
    "https://app.localhost/callback": "loopback",
    "https://127.0.0.2/callback": "loopback",
    "com.example.app:/callback": "private-use",
    "cursor://anysphere.cursor-mcp/oauth/callback": "private-use",
    "cursor://localhost/callback": "private-use",
}


@pytest.mark.parametrize("uri", KINDS)
def test_redirect_uri_has_one_kind(uri: str) -> None:
    assert kind_of(uri) == KINDS[uri]


@pytest.mark.parametrize("allowed", REDIRECTS)
@pytest.mark.parametrize("uri", KINDS)
def test_only_redirect_uris_of_the_allowed_kinds_are_registered(
    site_with: Callable[..., Site], browsers: Browsers, uri: str, allowed: str
) -> None:
    site = site_with(client_registration="open", open_client_redirects=(allowed,))
    answer = register(browsers(site), redirect_uris=[uri])
    if KINDS[uri] == allowed:
        assert (answer.status, answer.json["redirect_uris"]) == (201, [uri])
        return
    assert (answer.status, answer.json["error"]) == (400, "invalid_redirect_uri")
    assert answer.json["error_description"].endswith(f"of these kinds here: {allowed}")
    assert not list(site.server.store.clients.scan())


def test_one_redirect_uri_of_another_kind_is_enough_to_reject_a_registration(
    site_with: Callable[..., Site], browsers: Browsers
) -> None:
    browser = browsers(site_with(client_registration="open", open_client_redirects=("https", "loopback")))
    assert registered(browser, redirect_uris=[URI, "http://127.0.0.1/cb"])
    answer = register(browser, redirect_uris=[URI, "http://127.0.0.1/cb", "com.example.app:/cb"])
    assert answer.json["error"] == "invalid_redirect_uri"


def test_initial_access_token_gives_no_other_kinds_and_is_not_used_up(
    site_with: Callable[..., Site], browsers: Browsers
) -> None:
    site = site_with(client_registration="token", open_client_redirects=("https",))
    _, token = initial_token(site, max_uses=1)
    browser = browsers(site)
    refused = register(browser, bearer(token), redirect_uris=["com.example.app:/cb"])
    assert refused.json["error"] == "invalid_redirect_uri"
    assert register(browser, bearer(token)).status == 201


def test_update_cannot_add_a_kind_and_leaves_the_client_as_it_was(
    site_with: Callable[..., Site], browsers: Browsers
) -> None:
    site = site_with(client_registration="open", open_client_redirects=("https",))
    browser = browsers(site)
    members = registered(browser)
    before = record(site, members)
    answer = manage(browser, "PUT", members, replacement(members, redirect_uris=[URI, "http://localhost/cb"]))
    assert (answer.status, answer.json["error"]) == (400, "invalid_redirect_uri")
    assert record(site, members) == before


def test_setting_does_not_change_clients_that_are_registered_already(
    site_with: Callable[..., Site], browsers: Browsers
) -> None:
    site = site_with(client_registration="open")
    site.user()
    members = registered(browsers(site), redirect_uris=["com.example.app:/cb"])
    strict = site_with(client_registration="open", open_client_redirects=("https",))
    client = as_client(site, members)
    assert browsers(strict).authorize(client, redirect_uri="com.example.app:/cb").status == 200
    answer = manage(
        browsers(strict), "PUT", members | {"registration_client_uri": _path(members)}, replacement(members)
    )
    assert answer.json["error"] == "invalid_redirect_uri"


def test_operator_registers_every_kind(site_with: Callable[..., Site]) -> None:
    site = site_with(client_registration="open", open_client_redirects=("https",))
    assert site.client(redirect_uris=("http://127.0.0.1/cb", "com.example.app:/cb"))


def test_application_gets_no_refresh_token_where_the_grant_type_is_not_allowed(
    site_with: Callable[..., Site], browsers: Browsers
) -> None:
    site = site_with(client_registration="open", open_client_grant_types=GRANT_TYPES[:1])
    site.user()
    browser = browsers(site)
    members = registered(browser)
    assert members["grant_types"] == ["authorization_code"]
    assert "refresh_token" not in browser.tokens(as_client(site, members), scope="openid offline_access")
    changed = manage(browser, "PUT", members, replacement(members, grant_types=list(GRANT_TYPES))).json
    assert changed["grant_types"] == ["authorization_code"]
    answer = register(browser, grant_types=["refresh_token"])
    assert (answer.status, answer.json["error"]) == (400, "invalid_client_metadata")


def _path(members: dict[str, str]) -> str:
    """Return the address of a registration without the server, for another one on the same tables."""
    return "/oauth2/register" + members["registration_client_uri"].partition("/oauth2/register")[2]
