"""grant_type=client_credentials: access tokens for the client itself (RFC 6749 section 4.4)."""

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest

from chalicelib.clients.resources import create_resource
from chalicelib.protocol.errors import InvalidClientMetadata
from infra.operator.transfer.insertion import insert_record
from tests.endpoints.token.conftest import claims_of
from tests.support.browser import Answer, Browser, basic
from tests.support.grants import update_client
from tests.support.resource_servers import API, introspect, register_resource_server
from tests.support.site import Registered, Site, dump_tables

pytestmark = pytest.mark.spec("RFC 6749 §4.4")


def service_client(site: Site, **members: Any) -> Registered:
    """Register a client that has this grant type only."""
    given: dict[str, Any] = {
        "client_name": "Nightly report",
        "redirect_uris": (),
        "grant_types": ("client_credentials",),
        "response_types": (),
        "scope": "photos.read photos.write",
    }
    return site.client(**(given | members))


def request_token(browser: Browser, client: Registered, **parameters: Any) -> Answer:
    return browser.token(client, grant_type="client_credentials", **parameters)


# ---- the response


@pytest.mark.spec("RFC 6749 §4.4.2", "RFC 6749 §4.4.3", "RFC 9068 §2.2 c", "RFC 9700 §4.15.1 b")
def test_response_has_an_access_token_for_the_client_itself_only(site: Site, browser: Browser) -> None:
    client = service_client(site)
    answer = request_token(browser, client)
    assert answer.status == 200
    assert (answer.header("cache-control"), answer.header("pragma")) == ("no-store", "no-cache")
    members = answer.json
    token = members.pop("access_token")
    assert members == {"token_type": "Bearer", "expires_in": 600, "scope": "photos.read photos.write"}
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    claims, now, issuer = claims_of(token), site.clock.time, site.settings.issuer
    assert {claims.pop(name) != "" for name in ("jti", "grant_id")} == {True}
    # No auth_time, because no user has signed in: an API can tell.
    assert claims == {
        "iss": issuer,
        "sub": client.id,
        "aud": issuer,
        "exp": now + 600,
        "iat": now,
        "client_id": client.id,
        "scope": "photos.read photos.write",
    }


@pytest.mark.spec("RFC 6749 §3.3")
@pytest.mark.parametrize(
    ("registered", "default", "requested", "granted"),
    [
        ("a b", None, None, "a b"),
        ("a b", "a", None, "a"),
        ("a b", "", "b", "b"),
        ("a b", None, "b a", "a b"),
        ("a b", None, " b  a ", "a b"),
        ("openid profile a offline_access", None, None, "a"),
        ("openid email a", "openid a", None, "a"),
    ],
)
def test_scope_is_the_requested_or_default_one_without_user_scopes(
    site: Site, browser: Browser, registered: str, default: str | None, requested: str | None, granted: str
) -> None:
    client = service_client(site, scope=registered, default_scope=default)
    assert request_token(browser, client, scope=requested).json["scope"] == granted


@pytest.mark.spec("RFC 9068 §3 a", "RFC 9068 §5", "RFC 9700 §2.3 b", "RFC 9700 §4.9.3 b", "RFC 9700 §4.10 b")
@pytest.mark.spec("OpenID Connect Core §16.8")
@pytest.mark.spec("RFC 9068 §3")
def test_requested_resource_is_the_audience(site: Site, browser: Browser) -> None:
    client = service_client(site)
    photos, contacts = (
        register_resource_server(site),
        register_resource_server(site, "https://api.example.com/contacts"),
    )
    token = request_token(browser, client, resource=API).json["access_token"]
    assert claims_of(token)["aud"] == API
    assert introspect(browser, photos, token).json["sub"] == client.id
    assert introspect(browser, contacts, token).json == {"active": False}
    both = browser.post(
        "/oauth2/token",
        [("grant_type", "client_credentials"), ("resource", API), ("resource", contacts.id)],
        basic(client.id, client.secret or ""),
    )
    assert (both.status, both.json["error"]) == (400, "invalid_target"), "an access token is for one resource"


@pytest.mark.spec("RFC 9068 §3")
def test_token_for_a_resource_has_its_scopes_lifetime_and_algorithm(site: Site, browser: Browser) -> None:
    client = service_client(site)
    alg = {"access_token_signed_response_alg": "ES256"}
    create_resource(site.server.store, API, "Photos", scope="photos.read orders", access_token_lifetime=900, **alg)
    assert_rejected(site, request_token(browser, client, resource=API, scope="photos.write"), 400, "invalid_scope")
    other = service_client(site, scope="photos.write")
    assert_rejected(site, request_token(browser, other, resource=API), 400, "invalid_target")
    strict = service_client(site, strict_scope=True)
    assert_rejected(site, request_token(browser, strict, resource=API), 400, "invalid_scope")
    answer = request_token(browser, client, resource=API)
    assert (answer.json["scope"], answer.json["expires_in"]) == ("photos.read", 900)
    claims = claims_of(answer.json["access_token"])
    assert (claims["aud"], claims["scope"]) == (API, "photos.read")
    assert jwt.get_unverified_header(answer.json["access_token"])["alg"] == "ES256"
    assert request_token(browser, strict, resource=API, scope="photos.read").status == 200


def test_client_has_its_own_lifetime_and_algorithm(site: Site, browser: Browser) -> None:
    client = service_client(site, access_token_lifetime=60, access_token_signed_response_alg="ES256")
    members = request_token(browser, client).json
    assert members["expires_in"] == 60
    assert jwt.get_unverified_header(members["access_token"])["alg"] == "ES256"


# ---- the token


@pytest.mark.spec("RFC 7662 §2.2")
def test_token_can_be_introspected_and_revoked(site: Site, browser: Browser) -> None:
    client = service_client(site)
    token = request_token(browser, client).json["access_token"]
    assert introspect(browser, client, token).json == {
        "active": True,
        "token_type": "Bearer",
        **{name: claims_of(token)[name] for name in ("scope", "client_id", "sub", "aud", "iss", "exp", "iat", "jti")},
    }
    assert browser.post("/oauth2/revoke", {"token": token}, basic(client.id, client.secret or "")).status == 200
    assert introspect(browser, client, token).json == {"active": False}


def test_revocation_leaves_other_tokens_of_the_client(site: Site, browser: Browser) -> None:
    client = service_client(site)
    first, second = (request_token(browser, client).json["access_token"] for _ in range(2))
    browser.post("/oauth2/revoke", {"token": first}, basic(client.id, client.secret or ""))
    assert introspect(browser, client, second).json["active"] is True


def test_token_and_grant_record_expire_to_the_second(site: Site, browser: Browser) -> None:
    client = service_client(site)
    token = request_token(browser, client).json["access_token"]
    grant_id = claims_of(token)["grant_id"]
    site.clock.advance(599)
    assert introspect(browser, client, token).json["active"] is True
    site.clock.advance(1)
    assert introspect(browser, client, token).json == {"active": False}
    assert site.server.store.grants.get(grant_id) is None


@pytest.mark.spec("RFC 6750 §3.1")
def test_token_is_rejected_by_userinfo(site: Site, browser: Browser) -> None:
    token = request_token(browser, service_client(site)).json["access_token"]
    answer = browser.userinfo(token)
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")
    register_resource_server(site)
    token_for_an_api = request_token(browser, service_client(site), resource=API).json["access_token"]
    answer = browser.userinfo(token_for_an_api)
    assert (answer.status, answer.json["error"]) == (401, "invalid_token")


def test_handles_of_the_grant_are_rejected_as_code_and_refresh_token(site: Site, browser: Browser) -> None:
    client = service_client(
        site, grant_types=("authorization_code", "refresh_token", "client_credentials"), **WITH_AUTHORIZATION_CODE
    )
    grant_id = claims_of(request_token(browser, client).json["access_token"])["grant_id"]
    keys = site.server.keys
    # These handles are never issued; the grant's record rejects them anyway.
    code, refresh_token = keys.make_handle("code", grant_id), keys.make_handle("rt", grant_id, 1)
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.refresh(client, refresh_token).json["error"] == "invalid_grant"


WITH_AUTHORIZATION_CODE: dict[str, Any] = {
    "redirect_uris": ["https://client.example.com/cb"],
    "response_types": ("code",),
    "scope": "openid photos",
}


def test_issued_token_is_logged(site: Site, browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    client = service_client(site)
    request_token(browser, client)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]
    [event] = [line for line in lines if line.get("event") == "token_issued"]
    assert (event["client_id"], event["sub"]) == (client.id, client.id)


@pytest.mark.spec("RFC 6749 §3.3 a")
def test_scope_that_the_client_may_not_have_is_left_out(site: Site, browser: Browser) -> None:
    client = service_client(site, scope="openid photos.read")
    answer = request_token(browser, client, scope="photos.write openid photos.read offline_access")
    assert answer.json["scope"] == claims_of(answer.json["access_token"])["scope"] == "photos.read"
    (grant,) = site.server.store.grants.scan()
    assert grant.scope == {"photos.read"}


def test_scope_added_a_moment_ago_is_granted_to_client_credentials(site: Site, browser: Browser) -> None:
    client = service_client(site, scope="photos.read")
    assert request_token(browser, client).status == 200  # the client is cached
    site.server.store.clients.put(replace(client.record, scope="photos.read photos.write"))
    assert request_token(browser, client, scope="photos.read photos.write").json["scope"] == "photos.read photos.write"


# ---- rejected requests

INVALID_PARAMETERS: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
    ("a scope that is not registered", "invalid_scope", {}, {"scope": "photos.delete"}),
    (
        "a registered and another scope, strictly",
        "invalid_scope",
        {"strict_scope": True},
        {"scope": "photos.read other"},
    ),
    ("openid, strictly", "invalid_scope", {"strict_scope": True, "scope": "openid a"}, {"scope": "openid a"}),
    ("openid", "invalid_scope", {"scope": "openid a"}, {"scope": "openid"}),
    ("offline_access", "invalid_scope", {"scope": "offline_access a"}, {"scope": "offline_access"}),
    ("profile", "invalid_scope", {"scope": "profile a"}, {"scope": "profile"}),
    ("a malformed scope", "invalid_scope", {}, {"scope": 'photos.read "x"'}),
    ("no scope and no default", "invalid_scope", {"default_scope": ""}, {}),
    ("a resource that is not registered", "invalid_target", {}, {"resource": API}),
    ("a resource that is no URI", "invalid_target", {}, {"resource": "photos"}),
    ("a resource with a fragment", "invalid_target", {}, {"resource": API + "#x"}),
    ("the client's own id as resource", "invalid_target", {"client_id": "report"}, {"resource": "report"}),
]


def assert_rejected(site: Site, answer: Answer, status: int, error: str) -> None:
    """Assert an error response, and that no grant was created."""
    assert (answer.status, answer.json["error"]) == (status, error)
    assert "access_token" not in answer.json
    assert list(site.server.store.grants.scan()) == []


@pytest.mark.spec("RFC 6749 §4.4", "RFC 6749 §4.4.2", "RFC 6749 §5.2")
@pytest.mark.parametrize(
    ("what", "error", "members", "parameters"), INVALID_PARAMETERS, ids=[row[0] for row in INVALID_PARAMETERS]
)
def test_invalid_scope_or_resource_is_rejected(
    site: Site, browser: Browser, what: str, error: str, members: dict[str, Any], parameters: dict[str, str]
) -> None:
    answer = request_token(browser, service_client(site, **members), **parameters)
    assert_rejected(site, answer, 400, error)


@pytest.mark.spec("RFC 6749 §4.4", "RFC 6749 §4.4.2", "RFC 6749 §5.2")
def test_client_without_the_grant_type_is_rejected(site: Site, browser: Browser) -> None:
    assert_rejected(site, request_token(browser, site.client()), 400, "unauthorized_client")


@pytest.mark.spec("RFC 6749 §4.4", "RFC 6749 §4.4.2", "RFC 6749 §5.2")
@pytest.mark.parametrize("secret", ["wrong", None])
def test_unauthenticated_client_is_rejected(site: Site, browser: Browser, secret: str | None) -> None:
    client = Registered(service_client(site).record, secret)
    assert_rejected(site, request_token(browser, client), 401, "invalid_client")


def test_too_many_resources_are_rejected(site: Site, browser: Browser) -> None:
    client = service_client(site)
    resources = [("resource", f"{API}/{number}") for number in range(11)]
    answer = browser.post(
        "/oauth2/token", [("grant_type", "client_credentials"), *resources], basic(client.id, client.secret or "")
    )
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")


@pytest.mark.spec("RFC 6749 §4.4 a")
@pytest.mark.spec("RFC 6749 §4.4")
def test_public_client_is_rejected_even_when_registered_for_the_grant_type(site: Site, browser: Browser) -> None:
    public = site.client(public=True, scope="openid photos")
    update_client(site, public, grant_types=("authorization_code", "client_credentials"))
    assert request_token(browser, public).json["error"] == "unauthorized_client"


# ---- registration


@pytest.mark.parametrize(
    "members",
    [
        {"public": True},
        {"scope": "openid profile offline_access"},
        {"response_types": ("code",)},
        {"grant_types": ("client_credentials", "refresh_token")},
    ],
    ids=str,
)
def test_invalid_registration_is_rejected(site: Site, members: dict[str, Any]) -> None:
    before = dump_tables()
    with pytest.raises(InvalidClientMetadata):
        service_client(site, **members)
    assert dump_tables() == before


@pytest.mark.spec("RFC 9700 §2.6 b", "RFC 9700 §4.15.1 a")
def test_client_id_must_not_be_the_sub_of_a_user(site: Site) -> None:
    alice = site.user()
    with pytest.raises(InvalidClientMetadata, match="the sub of a user"):
        service_client(site, client_id=alice.sub)


@pytest.mark.spec("RFC 9700 §2.6 b", "RFC 9700 §4.15.1 a")
def test_import_rejects_a_user_or_client_whose_id_is_taken_by_the_other(site: Site) -> None:
    client, alice = service_client(site), site.user()
    site.server.store.users.delete(alice.sub)
    outcome = insert_record(site.server.store, replace(alice, username="mallory", sub=client.id))
    assert outcome.problem == "its sub is the client_id of a client"
    site.server.store.users.put(alice)
    outcome = insert_record(site.server.store, replace(client.record, client_id=alice.sub))
    assert "is the sub of a user" in outcome.problem


@pytest.mark.parametrize(
    ("registered", "requested", "description"),
    [
        ("photos.read", "photos.delete", "The client is not registered for: photos.delete"),
        ("photos.read", "openid photos.delete", "The client is not registered for: openid photos.delete"),
        ("openid photos.read", "openid", "Not available with client_credentials: openid"),
    ],
)
def test_invalid_scope_says_whether_the_client_lacks_it(
    site: Site, browser: Browser, registered: str, requested: str, description: str
) -> None:
    answer = request_token(browser, service_client(site, scope=registered), scope=requested)
    assert (answer.json["error"], answer.json["error_description"]) == ("invalid_scope", description)
