"""Claims asked for by their names (OpenID Connect Core section 5.5): who gets them, where, and who has agreed."""

import json
from typing import Any

import jwt
import pytest

from chalicelib import claims
from tests.browser import Browser
from tests.shortcut import born, change, code_of
from tests.site import Registered, Site

pytestmark = pytest.mark.spec("OpenID Connect Core §5.5")
PERSON: dict[str, Any] = {
    "name": "Alice Liddell",
    "given_name": "Alice",
    "name#de": "Alice auf Deutsch",
    "email": "alice@example.com",
    "email_verified": False,
    "phone_number": "",
    "birthdate": None,
    "address": {"locality": "Oxford", "region": None, "country": "", "formatted": []},
    "acr": "not about her",
    "shoe_size": "37",
}
ALL = "openid profile email address phone offline_access"


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(scope=ALL)


def asking(**members: Any) -> str:
    """The parameter, as a client writes it."""
    return json.dumps(members)


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def about(token: str) -> dict[str, Any]:
    """What an ID token says of the person."""
    own = {*claims.OF_TOKENS, "sub", "at_hash", "c_hash"}
    return {name: value for name, value in claims_of(token).items() if name not in own}


# ---- what is released, and where


@pytest.mark.spec("OpenID Connect Core §5.5 b", "OpenID Connect Core §5.5.1 a", "OpenID Connect Core §5.5.1 c")
def test_a_claim_comes_where_it_was_asked_to_come(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=PERSON)
    wanted = asking(
        userinfo={"name": None, "email": {"essential": True}, "name#de": None, "shoe_size": None, "phone_number": None},
        id_token={"given_name": {"value": "Bob"}, "email_verified": {"values": [True], "unknown": 1}},
        elsewhere={"gender": None},
    )
    tokens = browser.tokens(client, scope="openid", claims=wanted)
    userinfo = browser.userinfo(tokens["access_token"]).json
    # A value is a wish: what is true is told.
    assert userinfo == {"sub": userinfo["sub"], "name": "Alice Liddell", "email": "alice@example.com"}
    assert about(tokens["id_token"]) == {"given_name": "Alice", "email_verified": False}
    refreshed = browser.redeem(client, browser.code(client, scope="openid"))  # another request asks for nothing
    assert about(refreshed.json["id_token"]) == {}


@pytest.mark.spec("OpenID Connect Core §12.2")
def test_a_refresh_gives_the_same_claims(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=PERSON)
    wanted = asking(userinfo={"email": None}, id_token={"name": None})
    tokens = browser.tokens(client, scope="openid", claims=wanted)
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    assert about(refreshed["id_token"]) == about(tokens["id_token"]) == {"name": "Alice Liddell"}
    assert browser.userinfo(refreshed["access_token"]).json == browser.userinfo(tokens["access_token"]).json


@pytest.mark.spec("OpenID Connect Core §5.4")
def test_scopes_put_no_claims_into_an_id_token_for_there_is_an_access_token(
    site: Site, browser: Browser, client: Registered
) -> None:
    site.user(claims=PERSON)
    assert about(browser.tokens(client, scope=ALL)["id_token"]) == {}


@pytest.mark.spec("OpenID Connect Core §5.3.2")
def test_no_member_is_null_or_empty_however_deep(site: Site, browser: Browser, client: Registered) -> None:
    alice = site.user(claims=PERSON)
    wanted: dict[str, Any] = {"id_token": {name: {} for name in ("address", "phone_number", "birthdate")}}
    grant = born(site, client, alice, scope=frozenset(ALL.split()), claims=wanted)
    tokens = browser.redeem(client, site.server.keys.make_handle("code", grant.grant_id)).json
    assert about(tokens["id_token"]) == {"address": {"locality": "Oxford"}}
    userinfo = browser.userinfo(tokens["access_token"]).json
    assert userinfo["address"] == {"locality": "Oxford"}
    assert not {"phone_number", "birthdate"} & set(userinfo)
    assert userinfo["email_verified"] is False  # false says something


def test_an_address_of_nothing_is_left_out(site: Site, browser: Browser, client: Registered) -> None:
    bob = site.user("bob", claims={"address": {"country": None, "locality": ""}})
    token = browser.redeem(client, code_of(site, client, bob, scope=frozenset({"openid", "address"}))).json
    assert browser.userinfo(token["access_token"]).json == {"sub": bob.sub}


def test_what_the_person_is_called_in_the_table_never_stands_for_the_token(
    site: Site, browser: Browser, client: Registered
) -> None:
    """Claims of the ID token itself cannot be had from a person's record."""
    alice = site.user(claims=dict.fromkeys((*claims.OF_TOKENS, "sub"), "forged"))
    named: dict[str, Any] = {name: {} for name in (*claims.OF_TOKENS, "sub")}
    wanted = {"id_token": named, "userinfo": named}
    tokens = browser.redeem(client, code_of(site, client, alice, claims=wanted)).json
    assert "forged" not in claims_of(tokens["id_token"]).values()
    assert "forged" not in browser.userinfo(tokens["access_token"]).json.values()


def test_a_person_who_is_gone_has_no_claims(site: Site, browser: Browser, client: Registered) -> None:
    code = code_of(site, client, claims={"id_token": {"name": {}}})
    assert about(browser.redeem(client, code).json["id_token"]) == {}


# ---- the person agrees to each


@pytest.mark.spec("OpenID Connect Core §3.1.2.4")
def test_the_consent_page_names_each_claim_that_no_scope_covers(
    site: Site, browser: Browser, client: Registered
) -> None:
    site.user(claims=PERSON)
    wanted = asking(userinfo={"birthdate": None, "phone_number": None}, id_token={"email": None, "acr": None})
    page = browser.sign_in(browser.authorize(client, scope="openid email", claims=wanted))
    assert page.status == 200
    for words in ("See your date of birth", "See your phone number", "See your e-mail address"):
        assert page.body.count(words) == 1, words  # the e-mail address by its scope
    assert "when your profile" not in page.body


def test_consent_that_is_remembered_is_for_these_claims_and_no_others(
    site: Site, browser: Browser, client: Registered
) -> None:
    alice = site.user(claims=PERSON)
    name, more = asking(userinfo={"name": None}), asking(userinfo={"name": None, "email": None})
    browser.code(client, decision="allow_always", scope="openid", claims=name)
    assert browser.authorize(client, scope="openid", claims=name).code
    assert browser.authorize(client, scope="openid").code
    asked_again = browser.authorize(client, scope="openid", claims=more)
    assert asked_again.status == 200
    assert "See your e-mail address" in asked_again.body
    assert browser.authorize(client, scope="openid", claims=more, prompt="none").answer["error"] == "consent_required"
    # The name of her own accord gives no profile.
    assert browser.authorize(client, scope="openid profile").status == 200
    consent = site.server.store.consents.get(alice.sub, client.id)
    assert consent
    assert (consent.scope, consent.claims) == (frozenset({"openid"}), frozenset({"name"}))


def test_a_claim_hides_no_scope_of_its_name(site: Site, browser: Browser) -> None:
    """Neither one of the operator's own that is asked for with it, nor, later on, one that gives more than it."""
    site.user(claims=PERSON)
    client = site.client(scope="openid profile email website")
    both = asking(userinfo={"email": None, "website": None})
    page = browser.sign_in(browser.authorize(client, scope="openid website", claims=both))
    assert "<bdi>website</bdi>" in page.body
    browser.submit(page, decision="allow_always")
    page = browser.authorize(client, scope="openid email")
    asked, _, already = page.body.partition("You have already allowed it to")
    assert "See your e-mail address" in asked
    assert "website" in already
    assert "See your e-mail address" not in already


def test_a_scope_that_was_allowed_covers_its_claims(site: Site, browser: Browser, client: Registered) -> None:
    site.user(claims=PERSON)
    browser.code(client, decision="allow_always", scope="openid email")
    answer = browser.authorize(client, scope="openid", claims=asking(id_token={"email": None}))
    assert about(browser.redeem(client, answer.code).json["id_token"]) == {"email": "alice@example.com"}


@pytest.mark.spec("RFC 9700 §2.3")
def test_asking_by_name_is_no_way_around_the_scopes_of_a_registration(site: Site, browser: Browser) -> None:
    site.user(claims=PERSON)
    client = site.client(scope="openid email")
    wanted = asking(userinfo={"name": {"essential": True}, "email": None}, id_token={"given_name": None})
    page = browser.sign_in(browser.authorize(client, scope="openid", claims=wanted))
    assert "See your name" not in page.body
    tokens = browser.redeem(client, browser.submit(page, decision="allow_once").code).json
    userinfo = browser.userinfo(tokens["access_token"]).json
    assert set(userinfo) == {"sub", "email"}
    assert about(tokens["id_token"]) == {}
    # Nor does it come when the registration is widened later: she has agreed to an e-mail address.
    change(site, client, scope="openid email profile")
    assert set(browser.userinfo(tokens["access_token"]).json) == {"sub", "email"}


@pytest.mark.parametrize("name", sorted({n for _, names in claims.SCOPES.values() for n in names} - {"sub"}))
def test_every_claim_has_words_for_people(name: str) -> None:
    assert claims.asked({"userinfo": {name: {}}}, frozenset()) == {name}
    assert claims.describe_claim(name).startswith("See ")
