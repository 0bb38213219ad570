"""Groups and custom claims: which scopes release them in the ID token, at UserInfo and in the access token."""

import json
from typing import Any

import jwt
import pytest

from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from tests.support import faults
from tests.support.browser import Browser, basic
from tests.support.faults import Wire
from tests.support.grants import create_code, update_client
from tests.support.resource_servers import API, register_resource
from tests.support.site import Registered, Site

CUSTOM = {"department": "Sales", "level": 5, "https://example.com/roles": ("buyer",)}
SCOPE = "openid email groups staff offline_access"


@pytest.fixture
def alice(site: Site) -> User:
    claims = CUSTOM | {"email": "alice@example.com", "secret_note": "not released"}
    return site.user("alice", claims=claims, groups=frozenset({"engineering", "admins"}))


@pytest.fixture
def client(site: Site, alice: User) -> Registered:
    return site.client(scope=SCOPE, trusted=True)


def define_scope(site: Site, *claims: str, claims_in: tuple[str, ...] = (), name: str = "staff") -> None:
    site.server.store.scopes.put(Scope(name, "See your department", frozenset(claims), frozenset(claims_in)))
    site.server.forget_cached_records()


def payload(token: str) -> dict[str, Any]:
    members: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return members


def released(browser: Browser, tokens: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the claims about the user by the place where they are."""
    names = {*CUSTOM, "groups", "email", "secret_note"}
    places = {
        "userinfo": browser.userinfo(tokens["access_token"]).json,
        "id_token": payload(tokens["id_token"]),
        "access_token": payload(tokens["access_token"]),
    }
    return {place: {name: members[name] for name in names & set(members)} for place, members in places.items()}


# ---- groups


def test_groups_are_at_userinfo_and_in_the_id_tokens_of_clients_that_have_claims_there(
    site: Site, browser: Browser, client: Registered
) -> None:
    groups = {"groups": ["admins", "engineering"]}
    tokens = browser.tokens(client, scope="openid groups")
    assert released(browser, tokens) == {"userinfo": groups, "id_token": {}, "access_token": {}}
    update_client(site, client, id_token_claims_from_scope=True)
    tokens = browser.tokens(client, scope="openid groups")
    assert released(browser, tokens) == {"userinfo": groups, "id_token": groups, "access_token": {}}


def test_groups_are_released_to_no_client_without_the_scope(site: Site, browser: Browser, client: Registered) -> None:
    other = site.client(scope="openid email staff", trusted=True, id_token_claims_from_scope=True)
    for each, scope in ((client, "openid email"), (other, "openid email groups")):
        by_name = json.dumps({"userinfo": {"groups": None}, "id_token": {"groups": None}}) if each is other else None
        tokens = browser.tokens(each, scope=scope, claims=by_name)
        assert all("groups" not in claims for claims in released(browser, tokens).values())


def test_changed_groups_are_at_userinfo_at_once_and_in_the_id_token_of_the_next_refresh(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    update_client(site, client, id_token_claims_from_scope=True)
    tokens = browser.tokens(client, scope="openid groups")
    store = site.server.store

    def remove(user: User) -> User:
        return User(**(vars(user) | {"groups": frozenset({"engineering"})}))

    accounts.update(store, alice, remove)
    assert browser.userinfo(tokens["access_token"]).json["groups"] == ["engineering"]
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    assert payload(refreshed["id_token"])["groups"] == ["engineering"]


def test_consent_page_says_that_groups_are_asked_for(site: Site, browser: Browser, alice: User) -> None:
    client = site.client(scope="openid groups")
    page = browser.sign_in(browser.authorize(client, scope="openid groups"))
    assert "See the groups that you belong to" in page.body
    assert browser.submit(page, decision="allow").code


def test_metadata_lists_the_scope_and_the_claim(browser: Browser, site: Site) -> None:
    metadata = browser.get("/.well-known/openid-configuration").json
    assert "groups" in metadata["scopes_supported"]
    assert "groups" in metadata["claims_supported"]


def test_client_that_is_not_registered_cannot_get_groups_by_default(site: Site) -> None:
    assert "groups" not in site.settings.open_client_scope.split()
    assert "email" in site.settings.open_client_scope.split()


# ---- scopes of the operator

PLACES: list[tuple[tuple[str, ...], bool, set[str]]] = [
    ((), False, {"userinfo"}),
    ((), True, {"userinfo", "id_token"}),
    (("userinfo",), True, {"userinfo"}),
    (("id_token",), False, {"id_token"}),
    (("access_token",), True, {"access_token"}),
    (("access_token", "id_token", "userinfo"), False, {"access_token", "id_token", "userinfo"}),
]


@pytest.mark.parametrize(("claims_in", "in_id_token", "places"), PLACES)
def test_claims_of_a_scope_are_where_its_record_says(
    site: Site, browser: Browser, client: Registered, claims_in: tuple[str, ...], in_id_token: bool, places: set[str]
) -> None:
    define_scope(site, *CUSTOM, "groups", claims_in=claims_in)
    update_client(site, client, id_token_claims_from_scope=in_id_token)
    tokens = browser.tokens(client, scope="openid staff offline_access")
    everything = CUSTOM | {"https://example.com/roles": ["buyer"], "groups": ["admins", "engineering"]}
    expected = {place: everything if place in places else {} for place in ("userinfo", "id_token", "access_token")}
    assert released(browser, tokens) == expected
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    assert released(browser, refreshed) == expected


def test_scope_that_was_not_granted_releases_nothing(site: Site, browser: Browser, client: Registered) -> None:
    define_scope(site, *CUSTOM, claims_in=("access_token", "id_token", "userinfo"))
    tokens = browser.tokens(client, scope="openid email offline_access")
    assert [sorted(claims) for claims in released(browser, tokens).values()] == [["email"], [], []]
    narrowed = browser.tokens(client, scope=SCOPE)
    refreshed = browser.refresh(client, narrowed["refresh_token"], scope="openid").json
    assert released(browser, refreshed) == {"userinfo": {}, "id_token": {}, "access_token": {}}
    update_client(site, client, scope="openid offline_access")
    refreshed = browser.refresh(client, refreshed["refresh_token"]).json
    assert released(browser, refreshed) == {"userinfo": {}, "id_token": {}, "access_token": {}}


def test_access_token_for_a_resource_has_the_claims_of_the_scopes_that_it_carries(
    site: Site, browser: Browser, client: Registered
) -> None:
    define_scope(site, "level", claims_in=("access_token",), name="inventory")
    define_scope(site, "department", claims_in=("access_token",))
    update_client(site, client, scope=SCOPE + " inventory")
    register_resource(site, API, "inventory")
    answer = browser.redeem(client, browser.code(client, scope="openid inventory", resource=API), resource=API)
    token = payload(answer.json["access_token"])
    assert (token["aud"], token["scope"], token["level"]) == (API, "inventory", 5)
    assert "department" not in token


def test_protocol_claims_of_a_user_never_replace_those_of_a_token(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    """No command stores such claims; a record that was changed by hand must not forge a token."""
    hostile = dict.fromkeys(("iss", "sub", "aud", "scope", "client_id", "exp", "nonce", "acr", "auth_time"), "evil")
    site.server.store.users.put(User(**(vars(site.read_user()) | {"claims": hostile})))
    site.server.store.scopes.put(Scope("staff", "x", frozenset(hostile), frozenset({"id_token", "access_token"})))
    tokens = browser.tokens(client, scope="openid staff", nonce="n-1")
    for token in (tokens["id_token"], tokens["access_token"]):
        assert "evil" not in payload(token).values()
    assert payload(tokens["id_token"])["nonce"] == "n-1"


def test_changed_scope_takes_effect_within_a_minute(site: Site, browser: Browser, client: Registered) -> None:
    define_scope(site, "department")
    tokens = browser.tokens(client, scope="openid staff")
    site.server.store.scopes.put(Scope("staff", "x", frozenset({"level"})))
    assert browser.userinfo(tokens["access_token"]).json["department"] == "Sales", "cached"
    site.clock.advance(60)
    userinfo = browser.userinfo(tokens["access_token"]).json
    assert (userinfo.get("department"), userinfo["level"]) == (None, 5)
    site.server.store.scopes.delete("staff")
    site.clock.advance(60)
    assert "level" not in browser.userinfo(tokens["access_token"]).json


def test_code_can_be_redeemed_again_after_the_scopes_could_not_be_read(
    site: Site, browser: Browser, client: Registered, wire: Wire
) -> None:
    define_scope(site, "department", claims_in=("id_token",))
    code = browser.code(client, scope="openid staff")
    site.server.forget_cached_records()
    site.server.client(client.id)
    with wire.fault_in("BatchGetItem", faults.throttled):
        assert browser.redeem(client, code).status == 503
    tokens = browser.redeem(client, code).json
    assert payload(tokens["id_token"])["department"] == "Sales"


def test_introspection_returns_no_claims_of_scopes(site: Site, browser: Browser, client: Registered) -> None:
    define_scope(site, "department", claims_in=("access_token",))
    tokens = browser.tokens(client, scope="openid staff")
    assert payload(tokens["access_token"])["department"] == "Sales"
    form = {"token": tokens["access_token"]}
    members = browser.post("/oauth2/introspect", form, basic(client.id, client.secret or "")).json
    assert members["active"]
    assert "department" not in members


def test_access_token_with_everything_that_a_user_can_have_fits_into_the_header_fields_of_api_gateway(
    site: Site, browser: Browser
) -> None:
    groups = frozenset(f"{number:02}-" + "g" * 34 for number in range(100))
    bob = site.user("bob", groups=groups, claims={"note": "x" * 2030})
    define_scope(site, "note", "groups", claims_in=("access_token",))
    client = site.client(scope="openid staff")
    tokens = browser.redeem(client, create_code(site, client, bob, scope=frozenset({"openid", "staff"}))).json
    token = tokens["access_token"]
    assert payload(token)["groups"] == sorted(groups)
    assert payload(token)["note"] == "x" * 2030
    size = len("GET /oauth2/userinfo HTTP/1.1\r\nAuthorization: Bearer " + token)
    assert 8800 < size < 10_240 - 500, size
    answer = browser.userinfo(token)
    assert answer.status == 200


# ---- claims that are requested by name


def by_name(**members: Any) -> str:
    return json.dumps(members)


def test_custom_claim_requested_by_name_needs_consent_of_its_own(site: Site, browser: Browser, alice: User) -> None:
    define_scope(site, "department", "level")
    client = site.client(scope="openid staff")
    browser.code(client, "allow_always", scope="openid staff")
    parameter = by_name(userinfo={"department": None}, id_token={"level": {"essential": True}})
    page = browser.authorize(client, scope="openid", claims=parameter)
    assert "See “department” of your account" in page.body
    assert "See “level” of your account" in page.body
    tokens = browser.redeem(client, browser.submit(page, decision="allow", remember="on").code).json
    assert released(browser, tokens) == {
        "userinfo": {"department": "Sales"},
        "id_token": {"level": 5},
        "access_token": {},
    }
    assert browser.authorize(client, scope="openid", claims=parameter).code, "remembered"
    assert "See “department” of your account" in browser.get("/account").body


@pytest.mark.parametrize(
    ("scope", "claims_in", "parameter"),
    [
        ("openid", (), by_name(userinfo={"department": None}, id_token={"department": None})),
        ("openid staff", ("access_token",), by_name(userinfo={"department": None}, id_token={"department": None})),
        ("openid staff", ("userinfo",), by_name(id_token={"department": None})),
        ("openid staff", (), by_name(userinfo={"secret_note": None, "__proto__": None, "iss": None, "groups": None})),
    ],
    ids=["no scope of the client", "access token only", "UserInfo only", "no scope names it"],
)
def test_claim_requested_by_name_is_ignored(
    site: Site, browser: Browser, alice: User, scope: str, claims_in: tuple[str, ...], parameter: str
) -> None:
    define_scope(site, "department", claims_in=claims_in)
    client = site.client(scope=scope, trusted=True)
    tokens = browser.tokens(client, scope="openid", claims=parameter)
    assert released(browser, tokens) == {"userinfo": {}, "id_token": {}, "access_token": {}}
