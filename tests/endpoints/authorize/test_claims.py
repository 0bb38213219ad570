"""Claims requested by name (OpenID Connect Core section 5.5): which are released, where, and with which consent."""

import json
from typing import Any

import pytest

from chalicelib.protocol import claims, scopes
from tests.endpoints.authorize.conftest import read_claims
from tests.support.browser import Browser
from tests.support.grants import create_code, insert_grant, update_client
from tests.support.site import Registered, Site

pytestmark = pytest.mark.spec("OpenID Connect Core §5.5")
USER_CLAIMS: dict[str, Any] = {
    "name": "Alice Liddell",
    "given_name": "Alice",
    "name#de": "Alice auf Deutsch",
    "email": "alice@example.com",
    "email_verified": False,
    "phone_number": "",
    "birthdate": None,
    "address": {"locality": "Oxford", "region": None, "country": "", "formatted": []},
    "acr": "not a claim of the user",
    "shoe_size": "37",
}
ALL_SCOPES = "openid profile email address phone offline_access"


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(scope=ALL_SCOPES)


def claims_parameter(**members: Any) -> str:
    """Return a claims parameter."""
    return json.dumps(members)


def read_user_claims(token: str) -> dict[str, Any]:
    """Return the claims of an ID token that describe the user."""
    token_claims = {*claims.TOKEN_CLAIMS, "sub", "at_hash", "c_hash"}
    return {name: value for name, value in read_claims(token).items() if name not in token_claims}


# ---- which claims are released, and where


@pytest.mark.spec("OpenID Connect Core §5.5 b", "OpenID Connect Core §5.5.1 a", "OpenID Connect Core §5.5.1 c")
def test_claim_is_released_where_it_was_requested(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=USER_CLAIMS)
    parameter = claims_parameter(
        userinfo={"name": None, "email": {"essential": True}, "name#de": None, "shoe_size": None, "phone_number": None},
        id_token={"given_name": {"value": "Bob"}, "email_verified": {"values": [True], "unknown": 1}},
        elsewhere={"gender": None},
    )
    tokens = browser.tokens(client, scope="openid", claims=parameter)
    userinfo = browser.userinfo(tokens["access_token"]).json
    # The value that is stored is returned, whatever value was requested.
    assert userinfo == {"sub": userinfo["sub"], "name": "Alice Liddell", "email": "alice@example.com"}
    assert read_user_claims(tokens["id_token"]) == {"given_name": "Alice", "email_verified": False}
    answer = browser.redeem(client, browser.code(client, scope="openid"))  # a request without the claims parameter
    assert read_user_claims(answer.json["id_token"]) == {}


@pytest.mark.spec("OpenID Connect Core §5.5 b", "OpenID Connect Core §5.5.1 a", "OpenID Connect Core §5.5.1 c")
@pytest.mark.parametrize(
    ("requested", "userinfo", "id_token"),
    [
        ({"userinfo": {"name": {"essential": True}}}, {"name"}, set()),
        ({"userinfo": {"name": None, "email": None}}, {"name", "email"}, set()),
        ({"userinfo": {"email": {"value": "another@example.com"}}}, {"email"}, set()),
        ({"userinfo": {"email": {"values": ["a", 1, None], "essential": False, "purpose": "ads"}}}, {"email"}, set()),
        ({"id_token": {"email": None}}, set(), {"email"}),
        ({"id_token": {"name": None}, "userinfo": {"email": None}}, {"email"}, {"name"}),
        ({"id_token": {"auth_time": {"essential": True}}}, set(), set()),
        ({"id_token": {"nickname": {"essential": True}}}, set(), set()),  # alice has none
        ({"userinfo": {"phone_number": {"essential": True}}}, set(), set()),  # the client is not registered for it
        ({"userinfo": {"password_hash": None, "sub": None, "": None, "name#fr": None}}, set(), set()),
        ({"userinfo": {}, "id_token": {}, "banana": {"x": [1]}}, set(), set()),
        ({"banana": 7}, set(), set()),
        ({}, set(), set()),
    ],
    ids=lambda value: repr(sorted(value) if isinstance(value, set) else value),
)
def test_released_claims_are_those_requested_that_the_client_and_the_user_have(
    site: Site, browser: Browser, hybrid_client: Registered, requested: Any, userinfo: set[str], id_token: set[str]
) -> None:
    tokens = browser.tokens(hybrid_client, claims=json.dumps(requested), nonce="n")
    assert set(browser.userinfo(tokens["access_token"]).json) == {"sub"} | userinfo
    protocol = {"iss", "sub", "aud", "exp", "iat", "auth_time", "amr", "acr", "sid", "nonce", "at_hash"}
    assert set(read_claims(tokens["id_token"])) == protocol | id_token


@pytest.mark.spec("OpenID Connect Core §12.2")
def test_refresh_releases_the_same_claims(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=USER_CLAIMS)
    parameter = claims_parameter(userinfo={"email": None}, id_token={"name": None})
    tokens = browser.tokens(client, scope="openid", claims=parameter)
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    assert read_user_claims(refreshed["id_token"]) == read_user_claims(tokens["id_token"]) == {"name": "Alice Liddell"}
    assert browser.userinfo(refreshed["access_token"]).json == browser.userinfo(tokens["access_token"]).json


@pytest.mark.spec("OpenID Connect Core §5.4")
def test_scopes_add_no_claims_to_the_id_token(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=USER_CLAIMS)
    assert read_user_claims(browser.tokens(client, scope=ALL_SCOPES)["id_token"]) == {}


@pytest.mark.spec("OpenID Connect Core §5.3.2")
def test_empty_values_are_omitted_at_any_depth(site: Site, browser: Browser, client: Registered) -> None:
    alice = site.user(claims=USER_CLAIMS)
    parameter: dict[str, Any] = {"id_token": {name: {} for name in ("address", "phone_number", "birthdate")}}
    grant = insert_grant(site, client, alice, scope=frozenset(ALL_SCOPES.split()), claims=parameter)
    tokens = browser.redeem(client, site.server.keys.make_handle("code", grant.grant_id)).json
    assert read_user_claims(tokens["id_token"]) == {"address": {"locality": "Oxford"}}
    userinfo = browser.userinfo(tokens["access_token"]).json
    assert userinfo["address"] == {"locality": "Oxford"}
    assert not {"phone_number", "birthdate"} & set(userinfo)
    assert userinfo["email_verified"] is False  # false is a value


def test_empty_address_is_omitted(site: Site, browser: Browser, client: Registered) -> None:
    bob = site.user("bob", claims={"address": {"country": None, "locality": ""}})
    token = browser.redeem(client, create_code(site, client, bob, scope=frozenset({"openid", "address"}))).json
    assert browser.userinfo(token["access_token"]).json == {"sub": bob.sub}


def test_stored_claims_never_replace_protocol_claims(site: Site, browser: Browser, client: Registered) -> None:
    """The protocol claims of a token never come from the user's record."""
    alice = site.user(claims=dict.fromkeys((*claims.TOKEN_CLAIMS, "sub"), "forged"))
    requested: dict[str, Any] = {name: {} for name in (*claims.TOKEN_CLAIMS, "sub")}
    parameter = {"id_token": requested, "userinfo": requested}
    tokens = browser.redeem(client, create_code(site, client, alice, claims=parameter)).json
    assert "forged" not in read_claims(tokens["id_token"]).values()
    assert "forged" not in browser.userinfo(tokens["access_token"]).json.values()


def test_deleted_user_has_no_claims(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client, claims={"id_token": {"name": {}}})
    assert read_user_claims(browser.redeem(client, code).json["id_token"]) == {}


# ---- consent to each claim


@pytest.mark.spec("OpenID Connect Core §3.1.2.4")
def test_consent_page_lists_each_claim_that_no_scope_covers(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=USER_CLAIMS)
    parameter = claims_parameter(
        userinfo={"birthdate": None, "phone_number": None}, id_token={"email": None, "acr": None}
    )
    page = browser.sign_in(browser.authorize(client, scope="openid email", claims=parameter))
    assert page.status == 200
    for description in ("See your date of birth", "See your phone number", "See your email address"):
        assert page.body.count(description) == 1, description  # the email address: by its scope
    assert "when your profile" not in page.body


@pytest.mark.spec("OpenID Connect Core §3.1.2.4")
def test_each_claim_that_no_remembered_scope_covers_needs_consent(
    site: Site, browser: Browser, client: Registered
) -> None:
    site.user(claims=USER_CLAIMS)
    email = json.dumps({"userinfo": {"email": None}})
    page = browser.sign_in(browser.authorize(client, claims=email))
    assert "See your email address" in page.body
    browser.submit(page, decision="allow_always")
    assert browser.authorize(client, claims=email, prompt="none").code, "the claim is remembered"
    assert browser.authorize(client, prompt="none").code
    more = json.dumps({"userinfo": {"email": None}, "id_token": {"name": None}})
    assert browser.authorize(client, claims=more, prompt="none").answer["error"] == "consent_required"
    page = browser.authorize(client, claims=more)
    assert "See your name" in page.body
    # Consent to one claim of a scope is not consent to the scope.
    assert browser.authorize(client, scope="openid email", prompt="none").answer["error"] == "consent_required"
    browser.answer(client, "allow_always", scope="openid profile")
    assert browser.authorize(client, claims=more, prompt="none").code, "the remembered scope covers the claim"


def test_remembered_consent_covers_only_its_scopes_and_claims(site: Site, browser: Browser, client: Registered) -> None:
    alice = site.user(claims=USER_CLAIMS)
    name, more = claims_parameter(userinfo={"name": None}), claims_parameter(userinfo={"name": None, "email": None})
    browser.code(client, decision="allow_always", scope="openid", claims=name)
    assert browser.authorize(client, scope="openid", claims=name).code
    assert browser.authorize(client, scope="openid").code
    page = browser.authorize(client, scope="openid", claims=more)
    assert page.status == 200
    assert "See your email address" in page.body
    assert browser.authorize(client, scope="openid", claims=more, prompt="none").answer["error"] == "consent_required"
    # Consent to the claim `name` is not consent to the scope `profile`.
    assert browser.authorize(client, scope="openid profile").status == 200
    consent = site.server.store.consents.get(alice.sub, client.id)
    assert consent
    assert (consent.scope, consent.claims) == (frozenset({"openid"}), frozenset({"name"}))


def test_remembered_claim_does_not_cover_another_claim(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=USER_CLAIMS)
    name = json.dumps({"id_token": {"given_name": None}})
    browser.answer(client, "allow_always", claims=name)
    (consent,) = site.server.store.consents.scan()
    assert consent.scope == {"openid"}
    assert consent.claims == {"given_name"}
    other = json.dumps({"id_token": {"birthdate": None}})
    assert browser.authorize(client, claims=other, prompt="none").answer["error"] == "consent_required"


def test_claim_does_not_hide_a_scope_on_the_consent_page(site: Site, browser: Browser) -> None:
    """Neither a custom scope of the same name, nor a scope that releases more than the remembered claim."""
    site.user(claims=USER_CLAIMS)
    client = site.client(scope="openid profile email website")
    both = claims_parameter(userinfo={"email": None, "website": None})
    page = browser.sign_in(browser.authorize(client, scope="openid website", claims=both))
    assert "<bdi>website</bdi>" in page.body
    browser.submit(page, decision="allow_always")
    page = browser.authorize(client, scope="openid email")
    requested, _, allowed_before = page.body.partition("You have already allowed it to")
    assert "See your email address" in requested
    assert "website" in allowed_before
    assert "See your email address" not in allowed_before


def test_remembered_scope_covers_its_claims(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=USER_CLAIMS)
    browser.code(client, decision="allow_always", scope="openid email")
    answer = browser.authorize(client, scope="openid", claims=claims_parameter(id_token={"email": None}))
    assert read_user_claims(browser.redeem(client, answer.code).json["id_token"]) == {"email": "alice@example.com"}


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 n")
@pytest.mark.spec("RFC 9700 §2.3")
def test_claims_outside_the_registered_scopes_are_not_released(site: Site, browser: Browser) -> None:
    site.user(claims=USER_CLAIMS)
    client = site.client(scope="openid email")
    parameter = claims_parameter(userinfo={"name": {"essential": True}, "email": None}, id_token={"given_name": None})
    page = browser.sign_in(browser.authorize(client, scope="openid", claims=parameter))
    assert "See your name" not in page.body
    tokens = browser.redeem(client, browser.submit(page, decision="allow_once").code).json
    userinfo = browser.userinfo(tokens["access_token"]).json
    assert set(userinfo) == {"sub", "email"}
    assert read_user_claims(tokens["id_token"]) == {}
    # Consent was given for the email address only, so a later registration for `profile` releases nothing more.
    update_client(site, client, scope="openid email profile")
    assert set(browser.userinfo(tokens["access_token"]).json) == {"sub", "email"}


@pytest.mark.parametrize("name", sorted({*scopes.CLAIMS} - {"sub"}))
def test_every_claim_has_a_description(name: str) -> None:
    assert claims.requested_outside_scope({"userinfo": {name: {}}}, frozenset()) == {name}
    assert claims.describe_claim(name).startswith("See ")


def test_claims_may_have_line_breaks_between_their_values(site: Site, browser: Browser, client: Registered) -> None:
    site.user("alice", claims=USER_CLAIMS)
    text = json.dumps({"id_token": {"name": None}}, indent="\t")
    token = browser.tokens(client, scope="openid", claims=text)["id_token"]
    assert read_user_claims(token) == {"name": "Alice Liddell"}
