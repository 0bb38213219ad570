"""Resources with records: which scopes, clients and access tokens each has (RFC 8707, RFC 9068 section 3)."""

from dataclasses import replace
from typing import Any

import jwt
import pytest

from chalicelib.protocol.resource import Resource
from tests.endpoints.authorize.conftest import read_grant
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.grants import create_code, update_client
from tests.support.resource_servers import introspect, register_resource, register_resource_server
from tests.support.site import Registered, Site, dump_tables

pytestmark = pytest.mark.spec("RFC 8707 §2")
PHOTOS, ORDERS, OPEN = (f"https://api.example.com/{name}" for name in ("photos", "orders", "open"))
SCOPE = "openid email offline_access photos.read photos.write orders.read other"


@pytest.fixture
def client(site: Site) -> Registered:
    """A trusted client that may have scopes of both APIs, and `other`, which is of none. Alice has an account."""
    site.user()
    register_resource(site, PHOTOS, "photos.read photos.write photos.print")
    register_resource(site, ORDERS, "orders.read shared")
    register_resource(site, OPEN)
    return site.client(scope=SCOPE, trusted=True)


def read_token(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    claims: dict[str, Any] = jwt.decode(answer.json["access_token"], options={"verify_signature": False})
    assert claims["scope"] == answer.json["scope"], "the response says what the access token has"
    return claims


def audience_and_scope(answer: Answer) -> tuple[str, str]:
    claims = read_token(answer)
    return claims["aud"], claims["scope"]


@pytest.mark.spec("RFC 9068 §2.2.3 b", "RFC 9068 §3", "RFC 9700 §2.3 d")
def test_access_token_carries_the_scopes_of_its_resource_only(site: Site, browser: Browser, client: Registered) -> None:
    code = browser.code(client, scope=SCOPE, resource=[PHOTOS, ORDERS])
    granted = "openid email offline_access photos.read photos.write orders.read"
    assert read_grant(site, code).scope == set(granted.split()), "what no named resource understands is left out"
    answer = browser.redeem(client, code, resource=PHOTOS)
    assert audience_and_scope(answer) == (PHOTOS, "photos.read photos.write")
    assert answer.json["id_token"], "openid is granted beside the resource"
    assert browser.userinfo(answer.json["access_token"]).status == 401
    answer = browser.refresh(client, answer.json["refresh_token"], resource=ORDERS)
    assert audience_and_scope(answer) == (ORDERS, "orders.read")
    answer = browser.refresh(client, answer.json["refresh_token"], resource=PHOTOS, scope="openid photos.read")
    assert audience_and_scope(answer) == (PHOTOS, "photos.read")


def test_only_resource_of_a_grant_need_not_be_named(site: Site, browser: Browser, client: Registered) -> None:
    answer = browser.redeem(client, browser.code(client, scope="openid photos.read", resource=PHOTOS))
    assert audience_and_scope(answer) == (PHOTOS, "photos.read")
    assert audience_and_scope(browser.refresh(client, answer.json["refresh_token"])) == (PHOTOS, "photos.read")


def test_issuer_beside_a_resource_gets_what_the_resource_does_not_understand(
    site: Site, browser: Browser, client: Registered
) -> None:
    issuer = site.settings.issuer
    code = browser.code(client, scope=SCOPE, resource=[PHOTOS, issuer])
    answer = browser.redeem(client, code)
    assert audience_and_scope(answer) == (issuer, "email offline_access openid orders.read other")
    assert browser.userinfo(answer.json["access_token"]).status == 200
    answer = browser.refresh(client, answer.json["refresh_token"], resource=PHOTOS)
    assert audience_and_scope(answer) == (PHOTOS, "photos.read photos.write")


def test_resource_without_scopes_accepts_every_client_and_scope(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.redeem(client, browser.code(client, scope="openid photos.read other", resource=OPEN))
    assert audience_and_scope(answer) == (OPEN, "openid other photos.read")
    code = browser.code(client, scope="openid photos.read other", resource=[OPEN, PHOTOS])
    answer = browser.redeem(client, code, resource=OPEN)
    assert audience_and_scope(answer) == (OPEN, "openid other"), "not those of the other resource"
    unrelated = site.client(scope="unknown", trusted=True)
    assert audience_and_scope(browser.redeem(unrelated, browser.code(unrelated, scope="unknown", resource=OPEN))) == (
        OPEN,
        "unknown",
    )


def test_client_without_a_scope_of_a_resource_gets_an_invalid_target(
    site: Site, browser: Browser, client: Registered
) -> None:
    other = site.client(scope="openid orders.read", trusted=True)
    browser.code(client, scope="openid")
    for resource in (PHOTOS, [ORDERS, PHOTOS], [OPEN, PHOTOS]):
        answer = browser.authorize(other, scope="openid orders.read", resource=resource).answer
        assert answer["error"] == "invalid_target"
        assert PHOTOS not in str(answer)
    assert browser.authorize(other, scope="orders.read", resource=ORDERS).code


@pytest.mark.parametrize("resource", [PHOTOS, [ORDERS, PHOTOS]])
def test_request_without_a_scope_of_a_named_resource_gets_an_invalid_scope(
    site: Site, browser: Browser, client: Registered, resource: Any
) -> None:
    browser.code(client, scope="openid")
    answer = browser.authorize(client, scope="openid orders.read other", resource=resource).answer
    assert (answer["error"], PHOTOS in answer["error_description"]) == ("invalid_scope", True)


def test_scope_of_no_named_resource_is_an_error_for_a_strict_client(
    site: Site, browser: Browser, client: Registered
) -> None:
    update_client(site, client, strict_scope=True)
    browser.code(client, scope="openid")
    answer = browser.authorize(client, scope="openid photos.read other", resource=PHOTOS).answer
    assert (answer["error"], answer["error_description"]) == ("invalid_scope", "Not of a named resource: other")
    assert browser.authorize(client, scope="openid photos.read", resource=PHOTOS).code


def test_refresh_with_no_scope_of_its_resource_is_rejected_and_can_be_tried_again(
    site: Site, browser: Browser, client: Registered
) -> None:
    code = browser.code(client, scope="openid photos.read orders.read", resource=[PHOTOS, ORDERS])
    token = browser.redeem(client, code, resource=PHOTOS).json["refresh_token"]
    answer = browser.refresh(client, token, resource=PHOTOS, scope="orders.read")
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
    assert audience_and_scope(browser.refresh(client, token, resource=PHOTOS)) == (PHOTOS, "photos.read")


def test_resource_that_was_removed_gets_no_access_token(site: Site, browser: Browser, client: Registered) -> None:
    token = browser.tokens(client, scope="openid photos.read", resource=PHOTOS)["refresh_token"]
    site.server.store.resources.delete(PHOTOS)
    site.clock.advance(59)
    token = browser.refresh(client, token).json["refresh_token"]  # the record is cached
    site.clock.advance(1)
    code = create_code(site, client, scope=frozenset({"photos.read"}), resource=frozenset({PHOTOS}))
    for answer in (browser.redeem(client, code), browser.refresh(client, token)):
        assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert browser.authorize(client, scope="photos.read", resource=PHOTOS).answer["error"] == "invalid_target"
    register_resource(site, PHOTOS, "photos.read")
    for answer in (browser.redeem(client, code), browser.refresh(client, token)):
        assert answer.status == 200, "the rejected requests have not used it up"


def test_scope_that_a_resource_no_longer_names_is_in_no_new_access_token(
    site: Site, browser: Browser, client: Registered
) -> None:
    tokens = browser.tokens(client, scope="openid photos.read photos.write", resource=PHOTOS)
    store = site.server.store
    store.resources.put(Resource(PHOTOS, PHOTOS, "Photos", "photos.read"))
    site.clock.advance(60)
    answer = browser.refresh(client, tokens["refresh_token"])
    assert audience_and_scope(answer) == (PHOTOS, "photos.read")


def test_no_request_is_rejected_because_of_a_cached_resource(site: Site, browser: Browser, client: Registered) -> None:
    browser.code(client, scope="openid photos.read", resource=PHOTOS)
    record = Resource(PHOTOS, PHOTOS, "Photos", "other")
    site.server.store.resources.put(record)
    assert browser.authorize(client, scope="other", resource=PHOTOS).code


@pytest.mark.parametrize(
    ("of_client", "of_resource", "expected"),
    [(None, None, 600), (None, 900, 900), (None, 60, 60), (1200, None, 1200), (1200, 900, 900), (300, 900, 300)],
)
def test_lifetime_is_the_shorter_of_the_client_and_the_resource(
    site: Site, browser: Browser, client: Registered, of_client: int | None, of_resource: int | None, expected: int
) -> None:
    update_client(site, client, access_token_lifetime=of_client)
    record = site.server.store.resources.get(PHOTOS)
    assert record
    site.server.store.resources.put(replace(record, access_token_lifetime=of_resource))
    answer = browser.redeem(client, browser.code(client, scope="photos.read", resource=PHOTOS))
    claims = read_token(answer)
    assert (answer.json["expires_in"], claims["exp"] - claims["iat"]) == (expected, expected)


def test_access_token_without_a_refresh_token_has_the_lifetime_of_its_resource(
    site: Site, browser: Browser, client: Registered
) -> None:
    update_client(site, client, grant_types=("authorization_code",))
    record = site.server.store.resources.get(PHOTOS)
    assert record
    site.server.store.resources.put(replace(record, access_token_lifetime=900))
    code = browser.code(client, scope="photos.read", resource=PHOTOS)
    assert browser.redeem(client, code, resource=PHOTOS).json["expires_in"] == 900


def test_access_token_is_signed_with_the_algorithm_of_its_resource(
    site: Site, browser: Browser, client: Registered
) -> None:
    update_client(site, client, access_token_signed_response_alg="PS256")
    record = site.server.store.resources.get(PHOTOS)
    assert record
    for alg, expected in ((None, "PS256"), ("ES256", "ES256")):
        site.server.store.resources.put(replace(record, access_token_signed_response_alg=alg))
        site.server.forget_cached_records()
        tokens = browser.tokens(client, scope="openid photos.read", resource=PHOTOS)
        assert jwt.get_unverified_header(tokens["access_token"])["alg"] == expected
        assert jwt.get_unverified_header(tokens["id_token"])["alg"] == "RS256"


@pytest.mark.parametrize("spelling", ["HTTPS://API.example.com:443/photos", "https://api.example.com/%70hotos"])
def test_resource_is_found_by_every_spelling_of_its_uri(
    site: Site, browser: Browser, client: Registered, spelling: str
) -> None:
    code = browser.code(client, scope="openid photos.read", resource=spelling)
    assert read_grant(site, code).resource == {PHOTOS}
    assert audience_and_scope(browser.redeem(client, code, resource=spelling)) == (PHOTOS, "photos.read")


def test_record_takes_precedence_over_the_client_that_introspects_for_it(
    site: Site, browser: Browser, client: Registered
) -> None:
    api = register_resource_server(site, PHOTOS)
    answer = browser.redeem(client, browser.code(client, scope=SCOPE, resource=PHOTOS))
    assert audience_and_scope(answer) == (PHOTOS, "photos.read photos.write")
    introspected = introspect(browser, api, answer.json["access_token"]).json
    assert (introspected["aud"], introspected["scope"]) == (PHOTOS, "photos.read photos.write")


def test_records_of_all_resources_are_read_in_one_call_and_cached(
    site: Site, browser: Browser, client: Registered, wire: Wire
) -> None:
    code = create_code(
        site, client, scope=frozenset({"photos.read", "orders.read"}), resource=frozenset({PHOTOS, ORDERS})
    )
    again = create_code(
        site, client, scope=frozenset({"photos.read", "orders.read"}), resource=frozenset({PHOTOS, ORDERS})
    )
    site.server.client(client.id)
    for each, calls in ((code, 3), (again, 2)):  # the transition, the validity; the resources once
        with wire.counted() as counted:
            assert browser.redeem(client, each, resource=PHOTOS).status == 200
        assert len(counted) == calls, counted


def test_rejected_token_requests_change_nothing(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client, scope=frozenset({"photos.read"}), resource=frozenset({PHOTOS}))
    before = dump_tables()
    for resource in (ORDERS, OPEN, site.settings.issuer, "https://unknown.example.com"):
        assert browser.redeem(client, code, resource=resource).json["error"] == "invalid_target"
    assert dump_tables() == before


def test_scope_that_was_granted_for_one_resource_is_in_no_access_token_for_another(
    site: Site, browser: Browser, client: Registered
) -> None:
    """Whatever has happened to the records of the resources since."""
    store, issuer = site.server.store, site.settings.issuer
    code = browser.code(client, scope=SCOPE, resource=[PHOTOS, ORDERS, OPEN, issuer])
    token = browser.redeem(client, code).json["refresh_token"]
    store.resources.put(Resource(ORDERS, ORDERS, "Orders", "orders.read photos.read"))
    store.resources.delete(PHOTOS)
    site.clock.advance(60)
    for uri, scope in (
        (ORDERS, "orders.read"),
        (OPEN, "email offline_access openid other"),
        (issuer, "email offline_access openid other"),
    ):
        answer = browser.refresh(client, token, resource=uri)
        assert audience_and_scope(answer) == (uri, scope)
        token = answer.json["refresh_token"]
    store.resources.put(Resource(ORDERS, ORDERS, "Orders"))  # without scopes
    site.clock.advance(60)
    assert audience_and_scope(browser.refresh(client, token, resource=ORDERS)) == (ORDERS, "orders.read")


def test_grant_from_before_its_resource_named_scopes_gets_these_only(
    site: Site, browser: Browser, client: Registered
) -> None:
    token = browser.tokens(client, scope=SCOPE, resource=OPEN)["refresh_token"]
    site.server.store.resources.put(Resource(OPEN, OPEN, "Photos", "other unknown"))
    site.clock.advance(60)
    assert audience_and_scope(browser.refresh(client, token)) == (OPEN, "other")
