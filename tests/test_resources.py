"""The `resource` parameter (RFC 8707): an access token is for the resource servers that were asked for, no others."""

from typing import Any

import jwt
import pytest

from tests.browser import VERIFIER, Answer, Browser, basic
from tests.shortcut import code_of
from tests.site import Registered, Site, dump
from tests.test_introspection import api

pytestmark = pytest.mark.spec("RFC 8707 §2")
PHOTOS, CONTACTS, OTHER = (f"https://api.example.com/{name}" for name in ("photos", "contacts", "other"))


@pytest.fixture
def client(site: Site) -> Registered:
    for uri in (PHOTOS, CONTACTS, OTHER):
        api(site, uri)
    return site.client(scope="openid photos offline_access")


def audience(answer: Answer) -> Any:
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
def test_what_the_authorization_request_names_is_the_audience(site: Site, browser: Browser, client: Registered) -> None:
    site.user()
    code = browser.code(client, scope="photos", resource=PHOTOS)
    assert audience(redeem(browser, client, code)) == PHOTOS


@pytest.mark.spec("RFC 9068 §3 b")
def test_without_a_resource_it_is_ourselves(site: Site, browser: Browser, client: Registered) -> None:
    code = code_of(site, client, scope=frozenset({"photos"}))
    assert audience(redeem(browser, client, code)) == site.settings.issuer


def test_userinfo_is_an_audience_where_the_scope_has_openid(site: Site, browser: Browser, client: Registered) -> None:
    both = frozenset({PHOTOS, CONTACTS})
    code = code_of(site, client, site.user(), scope=frozenset({"openid"}), resource=both)
    answer = redeem(browser, client, code)
    assert audience(answer) == sorted([PHOTOS, CONTACTS, site.settings.issuer])
    assert browser.userinfo(answer.json["access_token"]).status == 200


def test_we_may_be_named_ourselves(site: Site, browser: Browser, client: Registered) -> None:
    issuer = site.settings.issuer
    alice = site.user()
    code = code_of(site, client, alice, scope=frozenset({"openid"}), resource=frozenset({issuer}))
    assert audience(redeem(browser, client, code)) == issuer
    code = code_of(site, client, alice, scope=frozenset({"photos"}), resource=frozenset({issuer, PHOTOS}))
    assert audience(redeem(browser, client, code)) == sorted([issuer, PHOTOS])


@pytest.mark.spec("RFC 8707 §2.2")
def test_each_token_may_be_for_fewer_of_them(site: Site, browser: Browser, client: Registered) -> None:
    code = code_of(site, client, scope=frozenset({"photos"}), resource=frozenset({PHOTOS, CONTACTS}))
    answer = redeem(browser, client, code, CONTACTS)
    assert audience(answer) == CONTACTS
    answer = refresh(browser, client, answer.json["refresh_token"], PHOTOS)
    assert audience(answer) == PHOTOS
    answer = refresh(browser, client, answer.json["refresh_token"])
    assert audience(answer) == sorted([PHOTOS, CONTACTS])
    answer = refresh(browser, client, answer.json["refresh_token"], PHOTOS, CONTACTS, PHOTOS)
    assert audience(answer) == sorted([PHOTOS, CONTACTS])


@pytest.mark.spec("RFC 8707 §2.2")
@pytest.mark.parametrize("resources", [(OTHER,), (PHOTOS, OTHER), ("photos",), (PHOTOS + "/",), (PHOTOS.upper(),)])
def test_what_was_not_granted_is_refused_and_nothing_changes(
    site: Site, browser: Browser, client: Registered, resources: tuple[str, ...]
) -> None:
    code = code_of(site, client, scope=frozenset({"photos"}), resource=frozenset({PHOTOS}))
    before = dump()
    answer = redeem(browser, client, code, *resources)
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert dump() == before
    token = redeem(browser, client, code).json["refresh_token"]  # the code is as good as before
    before = dump()
    answer = refresh(browser, client, token, *resources)
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")
    assert dump() == before
    assert refresh(browser, client, token).status == 200


def test_where_none_was_granted_none_can_be_had(site: Site, browser: Browser, client: Registered) -> None:
    code = code_of(site, client)
    assert redeem(browser, client, code, PHOTOS).json["error"] == "invalid_target"
    assert redeem(browser, client, code, *(f"{PHOTOS}/{n}" for n in range(11))).json["error"] == "invalid_target"
    assert redeem(browser, client, code).status == 200


def test_a_wrong_code_is_wrong_whatever_the_resource(site: Site, browser: Browser, client: Registered) -> None:
    code = code_of(site, client, resource=frozenset({PHOTOS}))
    assert redeem(browser, client, code).status == 200
    # A replay with everything right ends the grant; a resource that was not granted hides no theft.
    assert redeem(browser, client, code, OTHER).json["error"] == "invalid_grant"
    [grant] = site.server.store.grants.scan()
    assert grant.revoked_at is not None
    late = code_of(site, client, resource=frozenset({PHOTOS}))
    site.clock.advance(60)
    assert redeem(browser, client, late, OTHER).json["error"] == "invalid_grant"


def test_a_malformed_resource_is_an_invalid_target(site: Site, browser: Browser, client: Registered) -> None:
    code = code_of(site, client, resource=frozenset({PHOTOS}))
    assert redeem(browser, client, code, PHOTOS + "\0").json["error"] == "invalid_target"
    assert redeem(browser, client, code, "x" * 2049).json["error"] == "invalid_target"
    assert redeem(browser, client, code, "").status == 200  # an empty parameter is none
