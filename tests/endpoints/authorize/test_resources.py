"""The `resource` parameter (RFC 8707): it decides which resource servers are the audience of an access token."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from tests.endpoints.authorize.conftest import REDIRECT_URI, read_grant, read_request, read_stored_request
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser, basic
from tests.support.grants import create_code
from tests.support.resource_servers import register_resource_server
from tests.support.site import Registered, Site, dump_tables

pytestmark = pytest.mark.spec("RFC 8707 §2")
API = "https://api.example.com/"
PHOTOS, CONTACTS, OTHER = (f"https://api.example.com/{name}" for name in ("photos", "contacts", "other"))


@pytest.fixture
def client(site: Site) -> Registered:
    for uri in (PHOTOS, CONTACTS, OTHER):
        register_resource_server(site, uri)
    return site.client(scope="openid photos offline_access")


# ---- the authorization request


def authorization_url(client: Registered, resources: list[str]) -> str:
    """Return the path and query of an authorization request."""
    parameters: dict[str, Any] = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": REDIRECT_URI,
        "scope": "openid",
    }
    parameters |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256", "resource": resources}
    return "/oauth2/authorize?" + urlencode(parameters, doseq=True)


@pytest.mark.spec("RFC 8707 §2")
def test_resources_are_stored_with_the_request_and_the_grant(
    site: Site, browser: Browser, hybrid_client: Registered
) -> None:
    register_resource_server(site, API)
    second = register_resource_server(site, "https://second.example.com/v1?x=y")
    for resources in ([API], [API, second.id], [second.id, API, API], [site.settings.issuer, API], [API, ""]):
        page = browser.request("GET", authorization_url(hybrid_client, resources) + "&prompt=consent")
        consent_page = browser.sign_in(page)
        stored = {*resources} - {""}
        assert read_stored_request(site).resource == read_request(site, page).resource == stored
        answer = browser.submit(consent_page, decision="allow_once")
        assert read_grant(site, answer.code).resource == stored
        browser.cookies.clear()
        site.server.store.requests.delete(read_stored_request(site).request_id)
    assert read_request(site, browser.authorize(hybrid_client)).resource == frozenset()


@pytest.mark.spec("RFC 8707 §2")
def test_unregistered_or_disabled_resource_is_an_invalid_target(
    site: Site, browser: Browser, hybrid_client: Registered
) -> None:
    api = register_resource_server(site, API)
    for wrong in (API[:-1], API + "v1", API.upper(), API + "#", API + "#top", "urn:api", hybrid_client.id, "https:"):
        for resources in ([wrong], [API, wrong]):
            assert (
                browser.request("GET", authorization_url(hybrid_client, resources)).answer["error"] == "invalid_target"
            ), wrong
    site.server.store.clients.put(replace(api.record, disabled_at=1))
    site.clock.advance(60)
    assert browser.request("GET", authorization_url(hybrid_client, [API])).answer["error"] == "invalid_target"


def test_record_of_a_resource_server_is_cached(
    site: Site, browser: Browser, hybrid_client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    register_resource_server(site, API)
    site.server.client(hybrid_client.id)
    for expected_calls in (1, 0):
        caplog.clear()
        browser.authorize(hybrid_client, resource=API, prompt="none")
        assert json.loads(caplog.records[-1].getMessage())["dynamodb_calls"] == expected_calls


# ---- the token request


def read_audience(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return jwt.decode(answer.json["access_token"], options={"verify_signature": False})["aud"]


def redeem(browser: Browser, client: Registered, code: str, *resources: str) -> Answer:
    pairs = [("grant_type", "authorization_code"), ("code", code), ("code_verifier", VERIFIER)]
    pairs += [("redirect_uri", client.record.redirect_uris[0]), *(("resource", uri) for uri in resources)]
    return browser.post("/oauth2/token", pairs, basic(client.id, client.secret or ""))


def refresh(browser: Browser, client: Registered, token: str, *resources: str) -> Answer:
    pairs = [("grant_type", "refresh_token"), ("refresh_token", token), *(("resource", uri) for uri in resources)]
    return browser.post("/oauth2/token", pairs, basic(client.id, client.secret or ""))


@pytest.mark.spec("RFC 8707 §2.1", "RFC 9068 §3 a")
def test_requested_resource_is_the_audience(site: Site, browser: Browser, client: Registered) -> None:
    site.user()
    code = browser.code(client, scope="photos", resource=PHOTOS)
    assert read_audience(redeem(browser, client, code)) == PHOTOS


@pytest.mark.spec("RFC 9068 §3 b")
def test_audience_without_a_resource_is_the_issuer(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client, scope=frozenset({"photos"}))
    assert read_audience(redeem(browser, client, code)) == site.settings.issuer


def test_issuer_is_added_to_the_audience_with_scope_openid(site: Site, browser: Browser, client: Registered) -> None:
    both = frozenset({PHOTOS, CONTACTS})
    code = create_code(site, client, site.user(), scope=frozenset({"openid"}), resource=both)
    answer = redeem(browser, client, code)
    assert read_audience(answer) == sorted([PHOTOS, CONTACTS, site.settings.issuer])
    assert browser.userinfo(answer.json["access_token"]).status == 200


def test_issuer_may_be_a_resource(site: Site, browser: Browser, client: Registered) -> None:
    issuer = site.settings.issuer
    alice = site.user()
    code = create_code(site, client, alice, scope=frozenset({"openid"}), resource=frozenset({issuer}))
    assert read_audience(redeem(browser, client, code)) == issuer
    code = create_code(site, client, alice, scope=frozenset({"photos"}), resource=frozenset({issuer, PHOTOS}))
    assert read_audience(redeem(browser, client, code)) == sorted([issuer, PHOTOS])


@pytest.mark.spec("RFC 8707 §2.2")
def test_token_request_may_name_fewer_resources(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client, scope=frozenset({"photos"}), resource=frozenset({PHOTOS, CONTACTS}))
    answer = redeem(browser, client, code, CONTACTS)
    assert read_audience(answer) == CONTACTS
    answer = refresh(browser, client, answer.json["refresh_token"], PHOTOS)
    assert read_audience(answer) == PHOTOS
    answer = refresh(browser, client, answer.json["refresh_token"])
    assert read_audience(answer) == sorted([PHOTOS, CONTACTS])
    answer = refresh(browser, client, answer.json["refresh_token"], PHOTOS, CONTACTS, PHOTOS)
    assert read_audience(answer) == sorted([PHOTOS, CONTACTS])


@pytest.mark.spec("RFC 8707 §2.2")
@pytest.mark.parametrize("resources", [(OTHER,), (PHOTOS, OTHER), ("photos",), (PHOTOS + "/",), (PHOTOS.upper(),)])
def test_resource_that_was_not_granted_is_rejected_without_side_effects(
    site: Site, browser: Browser, client: Registered, resources: tuple[str, ...]
) -> None:
    code = create_code(site, client, scope=frozenset({"photos"}), resource=frozenset({PHOTOS}))
    before = dump_tables()
    answer = redeem(browser, client, code, *resources)
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert dump_tables() == before
    token = redeem(browser, client, code).json["refresh_token"]  # the code has not been redeemed
    before = dump_tables()
    answer = refresh(browser, client, token, *resources)
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert dump_tables() == before
    assert refresh(browser, client, token).status == 200


def test_resource_is_rejected_when_none_was_granted(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client)
    assert redeem(browser, client, code, PHOTOS).json["error"] == "invalid_target"
    assert redeem(browser, client, code, *(f"{PHOTOS}/{n}" for n in range(11))).json["error"] == "invalid_target"
    assert redeem(browser, client, code).status == 200


def test_replayed_or_expired_code_is_an_invalid_grant_for_any_resource(
    site: Site, browser: Browser, client: Registered
) -> None:
    code = create_code(site, client, resource=frozenset({PHOTOS}))
    assert redeem(browser, client, code).status == 200
    # A replay revokes the grant, also when it names a resource that was not granted.
    assert redeem(browser, client, code, OTHER).json["error"] == "invalid_grant"
    [grant] = site.server.store.grants.scan()
    assert grant.revoked_at is not None
    expired = create_code(site, client, resource=frozenset({PHOTOS}))
    site.clock.advance(60)
    assert redeem(browser, client, expired, OTHER).json["error"] == "invalid_grant"


def test_malformed_resource_is_an_invalid_target(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client, resource=frozenset({PHOTOS}))
    assert redeem(browser, client, code, PHOTOS + "\0").json["error"] == "invalid_target"
    assert redeem(browser, client, code, "x" * 2049).json["error"] == "invalid_target"
    assert (
        redeem(browser, client, code, "").status == 200
    )  # an empty parameter is treated as omitted (RFC 6749 section 3.1)
