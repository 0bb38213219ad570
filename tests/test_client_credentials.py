"""grant_type=client_credentials: a client asks for itself (RFC 6749 section 4.4)."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest

from chalicelib.errors import InvalidClientMetadata
from infra.transfer.newcomers import add
from tests.browser import Answer, Browser, basic
from tests.shortcut import change
from tests.site import Registered, Site, dump
from tests.test_introspection import API, api, introspect

pytestmark = pytest.mark.spec("RFC 6749 §4.4")


def machine(site: Site, **members: Any) -> Registered:
    """A client that only ever asks for itself."""
    given: dict[str, Any] = {
        "client_name": "Nightly report",
        "redirect_uris": (),
        "grant_types": ("client_credentials",),
        "response_types": (),
        "scope": "photos.read photos.write",
    }
    return site.client(**(given | members))


def ask(browser: Browser, client: Registered, **parameters: Any) -> Answer:
    return browser.token(client, grant_type="client_credentials", **parameters)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


# ---- what it gets


@pytest.mark.spec("RFC 6749 §4.4.2", "RFC 6749 §4.4.3", "RFC 9068 §2.2 c", "RFC 9700 §4.15.1 b")
def test_it_gets_an_access_token_in_its_own_name_and_nothing_else(site: Site, browser: Browser) -> None:
    client = machine(site)
    answer = ask(browser, client)
    assert answer.status == 200
    assert (answer.header("cache-control"), answer.header("pragma")) == ("no-store", "no-cache")
    members = answer.json
    token = members.pop("access_token")
    assert members == {"token_type": "Bearer", "expires_in": 600, "scope": "photos.read photos.write"}
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    claims, now, issuer = claims_of(token), site.clock.time, site.settings.issuer
    assert {claims.pop(name) != "" for name in ("jti", "grant_id")} == {True}
    # No auth_time: nobody has signed in, and an API can tell.
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
    ("registered", "default", "asked", "given"),
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
def test_its_scope_is_what_it_asks_for_or_its_default_without_what_is_about_people(
    site: Site, browser: Browser, registered: str, default: str | None, asked: str | None, given: str
) -> None:
    client = machine(site, scope=registered, default_scope=default)
    assert ask(browser, client, scope=asked).json["scope"] == given


@pytest.mark.spec("RFC 9068 §3 a", "RFC 9068 §5", "RFC 9700 §2.3 b", "RFC 9700 §4.9.3 b", "RFC 9700 §4.10 b")
@pytest.mark.spec("OpenID Connect Core §16.8")
@pytest.mark.spec("RFC 9068 §3")
def test_its_token_is_for_the_resource_that_it_names(site: Site, browser: Browser) -> None:
    client = machine(site)
    photos, contacts = api(site), api(site, "https://api.example.com/contacts")
    token = ask(browser, client, resource=API).json["access_token"]
    assert claims_of(token)["aud"] == API
    assert introspect(browser, photos, token).json["sub"] == client.id
    assert introspect(browser, contacts, token).json == {"active": False}
    both = browser.post(
        "/oauth2/token",
        [("grant_type", "client_credentials"), ("resource", API), ("resource", contacts.id)],
        basic(client.id, client.secret or ""),
    )
    assert claims_of(both.json["access_token"])["aud"] == sorted([API, contacts.id])


def test_its_lifetime_and_its_algorithm_are_those_of_the_client(site: Site, browser: Browser) -> None:
    client = machine(site, access_token_lifetime=60, access_token_signed_response_alg="ES256")
    members = ask(browser, client).json
    assert members["expires_in"] == 60
    assert jwt.get_unverified_header(members["access_token"])["alg"] == "ES256"


# ---- what its token is worth


@pytest.mark.spec("RFC 7662 §2.2")
def test_it_can_be_introspected_and_revoked_and_is_then_worth_nothing(site: Site, browser: Browser) -> None:
    client = machine(site)
    token = ask(browser, client).json["access_token"]
    assert introspect(browser, client, token).json == {
        "active": True,
        "token_type": "Bearer",
        **{name: claims_of(token)[name] for name in ("scope", "client_id", "sub", "aud", "iss", "exp", "iat", "jti")},
    }
    assert browser.post("/oauth2/revoke", {"token": token}, basic(client.id, client.secret or "")).status == 200
    assert introspect(browser, client, token).json == {"active": False}


def test_one_token_is_revoked_and_no_other(site: Site, browser: Browser) -> None:
    client = machine(site)
    first, second = (ask(browser, client).json["access_token"] for _ in range(2))
    browser.post("/oauth2/revoke", {"token": first}, basic(client.id, client.secret or ""))
    assert introspect(browser, client, second).json["active"] is True


def test_it_ends_to_the_second_and_so_does_its_record(site: Site, browser: Browser) -> None:
    client = machine(site)
    token = ask(browser, client).json["access_token"]
    grant_id = claims_of(token)["grant_id"]
    site.clock.advance(599)
    assert introspect(browser, client, token).json["active"] is True
    site.clock.advance(1)
    assert introspect(browser, client, token).json == {"active": False}
    assert site.server.store.grants.get(grant_id) is None


@pytest.mark.spec("RFC 6750 §3.1")
def test_it_opens_nobodys_claims(site: Site, browser: Browser) -> None:
    token = ask(browser, machine(site)).json["access_token"]
    answer = browser.userinfo(token)
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")
    api(site)
    meant_for_another = ask(browser, machine(site), resource=API).json["access_token"]
    answer = browser.userinfo(meant_for_another)
    assert (answer.status, answer.json["error"]) == (401, "invalid_token")


def test_neither_code_nor_refresh_token_can_be_made_of_it(site: Site, browser: Browser) -> None:
    client = machine(site, grant_types=("authorization_code", "refresh_token", "client_credentials"), **WITH_PEOPLE)
    grant_id = claims_of(ask(browser, client).json["access_token"])["grant_id"]
    keys = site.server.keys
    # Nobody is ever given these; were they, the record would not let them pass.
    code, refresh_token = keys.make_handle("code", grant_id), keys.make_handle("rt", grant_id, 1)
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.refresh(client, refresh_token).json["error"] == "invalid_grant"


WITH_PEOPLE: dict[str, Any] = {
    "redirect_uris": ["https://client.example.com/cb"],
    "response_types": ("code",),
    "scope": "openid photos",
}


def test_it_is_noted(site: Site, browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    client = machine(site)
    ask(browser, client)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]
    [noted] = [line for line in lines if line.get("event") == "token_issued"]
    assert (noted["client_id"], noted["sub"]) == (client.id, client.id)


# ---- what is refused, and leaves nothing behind

REFUSED: list[tuple[str, int, str, Callable[[Site, Browser], Answer]]] = [
    ("a scope of others", 400, "invalid_scope", lambda s, b: ask(b, machine(s), scope="photos.delete")),
    ("a scope more than its own", 400, "invalid_scope", lambda s, b: ask(b, machine(s), scope="photos.read other")),
    ("openid", 400, "invalid_scope", lambda s, b: ask(b, machine(s, scope="openid a"), scope="openid a")),
    (
        "offline_access",
        400,
        "invalid_scope",
        lambda s, b: ask(b, machine(s, scope="offline_access a"), scope="offline_access"),
    ),
    ("a person's profile", 400, "invalid_scope", lambda s, b: ask(b, machine(s, scope="profile a"), scope="profile")),
    ("a malformed scope", 400, "invalid_scope", lambda s, b: ask(b, machine(s), scope='photos.read "x"')),
    ("no scope, and no default", 400, "invalid_scope", lambda s, b: ask(b, machine(s, default_scope=""))),
    ("a resource that nobody registered", 400, "invalid_target", lambda s, b: ask(b, machine(s), resource=API)),
    ("a resource that is no URI", 400, "invalid_target", lambda s, b: ask(b, machine(s), resource="photos")),
    ("a resource with a fragment", 400, "invalid_target", lambda s, b: ask(b, machine(s), resource=API + "#x")),
    ("another client's id as resource", 400, "invalid_target", lambda s, b: ask(b, c := machine(s), resource=c.id)),
    ("a client not registered for it", 400, "unauthorized_client", lambda s, b: ask(b, s.client())),
    ("a wrong secret", 401, "invalid_client", lambda s, b: ask(b, Registered(machine(s).record, "wrong"))),
    ("no secret", 401, "invalid_client", lambda s, b: ask(b, Registered(machine(s).record, None))),
]


@pytest.mark.spec("RFC 6749 §4.4", "RFC 6749 §4.4.2", "RFC 6749 §5.2")
@pytest.mark.parametrize(("what", "status", "error", "send"), REFUSED, ids=[row[0] for row in REFUSED])
def test_it_is_refused(
    site: Site, browser: Browser, what: str, status: int, error: str, send: Callable[[Site, Browser], Answer]
) -> None:
    answer = send(site, browser)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert "access_token" not in answer.json
    assert list(site.server.store.grants.scan()) == []


def test_too_many_resources_are_refused(site: Site, browser: Browser) -> None:
    client = machine(site)
    wanted = [("resource", f"{API}/{number}") for number in range(11)]
    answer = browser.post(
        "/oauth2/token", [("grant_type", "client_credentials"), *wanted], basic(client.id, client.secret or "")
    )
    assert (answer.status, answer.json["error"]) == (400, "invalid_target")


@pytest.mark.spec("RFC 6749 §4.4 a")
@pytest.mark.spec("RFC 6749 §4.4")
def test_a_public_client_never_gets_one_however_it_came_to_be_registered(site: Site, browser: Browser) -> None:
    public = site.client(public=True, scope="openid photos")
    change(site, public, grant_types=("authorization_code", "client_credentials"))
    assert ask(browser, public).json["error"] == "unauthorized_client"


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
def test_it_cannot_be_registered(site: Site, members: dict[str, Any]) -> None:
    before = dump()
    with pytest.raises(InvalidClientMetadata):
        machine(site, **members)
    assert dump() == before


@pytest.mark.spec("RFC 9700 §2.6 b", "RFC 9700 §4.15.1 a")
def test_no_client_can_be_registered_under_a_persons_sub(site: Site) -> None:
    alice = site.user()
    with pytest.raises(InvalidClientMetadata, match="the sub of a person"):
        machine(site, client_id=alice.sub)


@pytest.mark.spec("RFC 9700 §2.6 b", "RFC 9700 §4.15.1 a")
def test_nor_can_a_person_come_from_elsewhere_under_a_clients_id(site: Site) -> None:
    client, alice = machine(site), site.user()
    site.server.store.users.delete(alice.sub)
    outcome = add(site.server.store, replace(alice, username="mallory", sub=client.id))
    assert outcome.problem == "its sub is the client_id of a client"
    site.server.store.users.put(alice)
    outcome = add(site.server.store, replace(client.record, client_id=alice.sub))
    assert outcome.problem == "its client_id is the sub of a person"
