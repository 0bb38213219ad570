"""The `resource` parameter (RFC 8707): it decides which resource servers are the audience of an access token."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from tests.endpoints.authorize.conftest import read_grant, read_request, read_stored_request
from tests.support.browser import VERIFIER, Answer, Browser, authorization_parameters, basic
from tests.support.grants import create_code
from tests.support.resource_servers import introspect, register_resource, register_resource_server
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


NEAR = {
    "another path": ("https://api.example.com/photo", True),
    "one more slash": (f"{PHOTOS}/", True),
    "another port": ("https://api.example.com:8443/photos", True),
    "a longer host": ("https://www.api.example.com/photos", True),
    "a shorter host": ("https://example.com/photos", True),
    "another host": ("https://api.example.org/photos", False),
    "a host with the same end": ("https://evilapi.example.com/photos", False),
    "a top-level domain": ("https://com/photos", False),
    "no host": ("urn:photos", False),
}


@pytest.mark.parametrize("case", NEAR)
def test_log_names_registered_resources_that_are_similar_to_an_unknown_one(
    site: Site, browser: Browser, hybrid_client: Registered, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """Only those that this process remembers, and the client never learns of them."""
    uri, near = NEAR[case]
    register_resource(site, PHOTOS)
    assert browser.authorize(hybrid_client, resource=uri).answer["error"] == "invalid_target"
    assert "similar" not in caplog.text
    assert browser.get("/.well-known/openid-configuration").json["protected_resources"] == [PHOTOS]
    answer = browser.authorize(hybrid_client, resource=uri)
    assert answer.answer["error"] == "invalid_target"
    assert (f"{uri} (similar, registered: {PHOTOS})" in caplog.text) is near
    assert "similar" not in str(answer.location)


def test_log_names_at_most_three_similar_resources(
    site: Site, browser: Browser, hybrid_client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        register_resource(site, f"{PHOTOS}/{number}")
    browser.get("/.well-known/openid-configuration")
    browser.authorize(hybrid_client, resource=PHOTOS)
    (line,) = [record.message for record in caplog.records if "similar" in record.message]
    assert line.count(f"{PHOTOS}/") == 3


def authorization_url(client: Registered, resources: list[str]) -> str:
    """Return the path and query of an authorization request."""
    parameters = authorization_parameters(client, state=None, resource=resources)
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
    wrong_uris = (
        API + "v1",
        API + "/",
        "http://api.example.com/",
        "https://api.example.com:8443/",
        "https://api.example.com./",
    )
    for wrong in (
        *wrong_uris,
        API + "#",
        API + "#top",
        API + "?",
        "urn:api",
        hybrid_client.id,
        "https:",
        "https://[::1/",
    ):
        for resources in ([wrong], [API, wrong]):
            assert (
                browser.request("GET", authorization_url(hybrid_client, resources)).answer["error"] == "invalid_target"
            ), wrong
    site.server.store.clients.put(replace(api.record, disabled_at=1))
    site.clock.advance(60)
    assert browser.request("GET", authorization_url(hybrid_client, [API])).answer["error"] == "invalid_target"


SPELLINGS = [
    # registered, requested
    ("https://mcp.example.com", "https://mcp.example.com/"),
    ("https://mcp.example.com/", "https://mcp.example.com"),
    ("https://mcp.example.com", "HTTPS://MCP.Example.COM:443"),
    ("https://mcp.example.com/", "https://MCP.example.com:443"),
    ("https://mcp.example.com:8443/mcp", "https://mcp.EXAMPLE.com:8443/mcp"),
    ("https://mcp.example.com/~a/b-c", "https://mcp.example.com:/%7Ea/b%2dc"),
    ("https://mcp.example.com/a%2Fb?c=d", "https://mcp.example.com/a%2fb?%63=d"),
    ("https://mcp.example.com/?tenant=1", "https://mcp.example.com?tenant=1"),
    ("https://mcp.example.com?tenant=1", "https://mcp.example.com/?tenant=1"),
    ("http://localhost:3000/mcp", "HTTP://LocalHost:3000/mcp"),
    ("http://127.0.0.1", "http://127.0.0.1:80/"),
    ("http://[::1]:3000/", "http://[::1]:3000"),
]


@pytest.mark.spec("RFC 8707 §2")
@pytest.mark.parametrize(("registered", "requested"), SPELLINGS)
def test_resource_in_another_spelling_is_granted_and_the_audience_is_the_registered_one(
    site: Site, browser: Browser, registered: str, requested: str
) -> None:
    api = register_resource_server(site, registered)
    site.user()
    client = site.client(scope="openid photos")
    tokens = redeem(browser, client, browser.code(client, scope="openid photos", resource=requested), requested)
    assert read_audience(tokens) == registered
    refreshed = refresh(browser, client, tokens.json["refresh_token"], requested)
    assert read_audience(refreshed) == registered
    assert introspect(browser, api, refreshed.json["access_token"]).json["aud"] == registered
    assert read_audience(refresh(browser, client, refreshed.json["refresh_token"], registered)) == registered


@pytest.mark.parametrize(
    "other", ["https://mcp.example.com/MCP", "https://mcp.example.com/mcp/", "https://mcp.example.com/m%2563p"]
)
def test_resource_of_another_path_is_an_invalid_target(
    site: Site, browser: Browser, hybrid_client: Registered, other: str
) -> None:
    register_resource_server(site, "https://mcp.example.com/mcp")
    answer = browser.request("GET", authorization_url(hybrid_client, [other]))
    assert answer.answer["error"] == "invalid_target"


def test_issuer_in_another_spelling_is_the_issuer(site: Site, browser: Browser, client: Registered) -> None:
    site.user()
    issuer = site.settings.issuer
    code = browser.code(client, scope="openid", resource=issuer.upper() + "/")
    answer = redeem(browser, client, code, issuer + "/")
    assert read_audience(answer) == issuer
    assert browser.userinfo(answer.json["access_token"]).status == 200


def test_equivalent_uris_of_earlier_versions_stay_two_resource_servers(
    site: Site, browser: Browser, client: Registered
) -> None:
    without_slash = register_resource_server(site, "https://mcp.example.com")
    uris = (without_slash.id, without_slash.id + "/")
    site.server.store.clients.put(replace(without_slash.record, client_id=uris[1]))
    code = create_code(site, client, scope=frozenset({"photos"}), resource=frozenset(uris))
    token = redeem(browser, client, code, uris[0]).json["refresh_token"]
    for uri in uris:
        answer = refresh(browser, client, token, uri)
        assert read_audience(answer) == uri
        token = answer.json["refresh_token"]


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


@pytest.mark.spec("RFC 9700 §2.3 a")
def test_token_for_a_resource_is_rejected_at_userinfo(site: Site, browser: Browser, client: Registered) -> None:
    both = frozenset({PHOTOS, CONTACTS})
    code = create_code(site, client, site.user(), scope=frozenset({"openid"}), resource=both)
    answer = redeem(browser, client, code, PHOTOS)
    assert read_audience(answer) == PHOTOS
    rejected = browser.userinfo(answer.json["access_token"])
    assert (rejected.status, rejected.json["error"]) == (401, "invalid_token")
    answer = refresh(browser, client, answer.json["refresh_token"], CONTACTS)
    assert read_audience(answer) == CONTACTS
    assert browser.userinfo(answer.json["access_token"]).status == 401


def test_client_that_names_the_issuer_too_gets_a_token_for_each_of_them(
    site: Site, browser: Browser, client: Registered
) -> None:
    site.user()
    issuer = site.settings.issuer
    page = browser.sign_in(browser.request("GET", authorization_url(client, [PHOTOS, issuer])))
    answer = redeem(browser, client, browser.submit(page, decision="allow_once").code, issuer)
    assert read_audience(answer) == issuer
    assert browser.userinfo(answer.json["access_token"]).status == 200
    answer = refresh(browser, client, answer.json["refresh_token"], PHOTOS)
    assert read_audience(answer) == PHOTOS
    assert browser.userinfo(answer.json["access_token"]).status == 401


def test_issuer_may_be_a_resource(site: Site, browser: Browser, client: Registered) -> None:
    issuer = site.settings.issuer
    alice = site.user()
    code = create_code(site, client, alice, scope=frozenset({"openid"}), resource=frozenset({issuer}))
    assert read_audience(redeem(browser, client, code)) == issuer
    code = create_code(site, client, alice, scope=frozenset({"photos"}), resource=frozenset({issuer, PHOTOS}))
    answer = redeem(browser, client, code)
    assert read_audience(answer) == issuer, "of several, the issuer is the default"
    answer = refresh(browser, client, answer.json["refresh_token"], PHOTOS)
    assert read_audience(answer) == PHOTOS
    assert read_audience(refresh(browser, client, answer.json["refresh_token"])) == issuer


@pytest.mark.spec("RFC 8707 §2.2")
def test_token_request_names_one_of_several_resources(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client, scope=frozenset({"photos"}), resource=frozenset({PHOTOS, CONTACTS}))
    answer = redeem(browser, client, code, CONTACTS)
    assert read_audience(answer) == CONTACTS
    answer = refresh(browser, client, answer.json["refresh_token"], PHOTOS)
    assert read_audience(answer) == PHOTOS
    answer = refresh(browser, client, answer.json["refresh_token"], CONTACTS, CONTACTS)
    assert read_audience(answer) == CONTACTS


@pytest.mark.spec("RFC 8707 §2.2")
@pytest.mark.parametrize("resources", [(), (PHOTOS, CONTACTS), (PHOTOS, PHOTOS + "/")])
def test_access_token_for_several_resources_is_rejected_without_side_effects(
    site: Site, browser: Browser, client: Registered, resources: tuple[str, ...]
) -> None:
    code = create_code(site, client, scope=frozenset({"photos"}), resource=frozenset({PHOTOS, CONTACTS}))
    before = dump_tables()
    answer = redeem(browser, client, code, *resources)
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert dump_tables() == before
    token = redeem(browser, client, code, PHOTOS).json["refresh_token"]  # the code has not been redeemed
    before = dump_tables()
    answer = refresh(browser, client, token, *resources)
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert dump_tables() == before
    assert read_audience(refresh(browser, client, token, CONTACTS)) == CONTACTS


@pytest.mark.spec("RFC 8707 §2.2")
@pytest.mark.parametrize(
    "resources", [(OTHER,), (PHOTOS, OTHER), ("photos",), (PHOTOS + "/",), (PHOTOS.upper(),), (API,), (API[:-1],)]
)
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
