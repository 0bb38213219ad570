"""Authorization details at the token endpoint: which token carries what, and how a request narrows them (RFC 9396)."""

from typing import Any

import jwt
import pytest

from chalicelib.protocol.authorization_details import to_text
from tests.guarantees.test_round_trips import calls_in_last_line
from tests.support.authorization_details import (
    ALBUM,
    ALBUMS,
    ANYWHERE,
    PAYMENT,
    PAYMENTS,
    as_json,
    register_asking_client,
    register_type,
)
from tests.support.browser import Answer, Browser, basic
from tests.support.grants import create_code, insert_grant, update_client
from tests.support.resource_servers import introspect, register_resource_server
from tests.support.site import Registered, Site

pytestmark = pytest.mark.spec("RFC 9396 §6")
INVALID = "invalid_authorization_details"
READ_ALBUM = ALBUM | {"actions": ["read"]}


@pytest.fixture
def client(site: Site) -> Registered:
    """A client that may ask for every type."""
    return register_asking_client(site, grant_types=("authorization_code", "refresh_token", "client_credentials"))


def code_for(site: Site, client: Registered, *details: dict[str, Any], **members: Any) -> str:
    """Return the code of a grant for these details, and for the resources of their types."""
    uris = {"payment": PAYMENTS, "album": ALBUMS}
    given: dict[str, Any] = {
        "scope": frozenset({"openid", "other"}),
        "resource": frozenset(uris[each["type"]] for each in details if each["type"] in uris),
        "authorization_details": tuple(map(to_text, details)),
    }
    return create_code(site, client, None, **given | members)


def details_in(answer: Answer) -> list[dict[str, Any]]:
    """Return the details of a token response, which are those of its access token."""
    assert answer.status == 200, answer.body
    claims = jwt.decode(answer.json["access_token"], options={"verify_signature": False})
    assert claims.get("authorization_details") == answer.json.get("authorization_details")
    details: list[dict[str, Any]] = answer.json.get("authorization_details", [])
    return details


@pytest.mark.spec("RFC 9396 §7", "RFC 9396 §9.1")
def test_response_and_access_token_have_the_details_that_were_granted(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.redeem(client, code_for(site, client, PAYMENT))
    assert details_in(answer) == [PAYMENT]
    assert jwt.decode(answer.json["access_token"], options={"verify_signature": False})["aud"] == PAYMENTS
    assert "authorization_details" not in jwt.decode(answer.json["id_token"], options={"verify_signature": False})
    assert details_in(browser.refresh(client, answer.json["refresh_token"])) == [PAYMENT]


@pytest.mark.spec("RFC 9396 §9.1", "RFC 9396 §13")
def test_access_token_carries_only_the_details_of_its_resource(
    site: Site, browser: Browser, client: Registered
) -> None:
    code = code_for(site, client, PAYMENT, ALBUM, ANYWHERE)
    assert browser.redeem(client, code).json["error"] == "invalid_target", "one resource must be named"
    answer = browser.redeem(client, code, resource=PAYMENTS)
    assert details_in(answer) == [PAYMENT, ANYWHERE], "a type without a resource is for all"
    answer = browser.refresh(client, answer.json["refresh_token"], resource=ALBUMS)
    assert details_in(answer) == [ALBUM, ANYWHERE]


def test_token_for_the_issuer_has_no_details_of_a_resource(site: Site, browser: Browser, client: Registered) -> None:
    resources = frozenset({PAYMENTS, site.settings.issuer})
    answer = browser.redeem(client, code_for(site, client, PAYMENT, resource=resources))
    assert details_in(answer) == []
    assert browser.userinfo(answer.json["access_token"]).status == 200
    assert details_in(browser.refresh(client, answer.json["refresh_token"], resource=PAYMENTS)) == [PAYMENT]


def test_details_are_enough_for_a_token_without_a_scope_of_its_resource(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.redeem(client, code_for(site, client, PAYMENT))
    assert "scope" not in answer.json, "openid and other are no scopes of the resource"
    without = code_for(site, client, resource=frozenset({PAYMENTS}), authorization_details=None)
    assert browser.redeem(client, without).json["error"] == "invalid_scope"


# ---- narrowing: each row is what was granted, what is asked for, and whether it is part of that

NARROWING: list[tuple[str, list[Any], list[Any], bool]] = [
    ("the same", [PAYMENT], [PAYMENT], True),
    ("the same in another order", [ALBUM], [dict(reversed(ALBUM.items()))], True),
    ("one of two", [ALBUM, ANYWHERE], [ANYWHERE], True),
    ("two in another order", [ALBUM, ANYWHERE], [ANYWHERE, ALBUM], True),
    ("one action of two", [ALBUM], [READ_ALBUM], True),
    ("actions in another order", [ALBUM], [ALBUM | {"actions": ["write", "read"]}], True),
    ("one data type of two", [ANYWHERE], [ANYWHERE | {"datatypes": ["photos"]}], True),
    ("both actions, each alone", [ALBUM], [READ_ALBUM, ALBUM | {"actions": ["write"]}], True),
    ("another action", [ALBUM], [ALBUM | {"actions": ["delete"]}], False),
    ("one action more", [ALBUM], [ALBUM | {"actions": ["read", "write", "delete"]}], False),
    ("an action in capitals", [ALBUM], [ALBUM | {"actions": ["READ"]}], False),
    ("the action that was left out", [READ_ALBUM], [ALBUM], False),
    ("actions of one and data of another", [ANYWHERE, ANYWHERE | {"actions": ["edit"], "datatypes": ["a"]}],
     [ANYWHERE | {"actions": ["edit"]}], False),
    ("without a member", [PAYMENT], [{n: v for n, v in PAYMENT.items() if n != "creditorName"}], False),
    ("with another member", [PAYMENT], [PAYMENT | {"recurring": True}], False),
    ("without the actions", [ALBUM], [{n: v for n, v in ALBUM.items() if n != "actions"}], False),
    ("without the locations", [ALBUM], [{n: v for n, v in ALBUM.items() if n != "locations"}], False),
    ("a smaller amount", [PAYMENT], [PAYMENT | {"instructedAmount": {"currency": "EUR", "amount": "1"}}], False),
    ("a number for a text", [PAYMENT], [PAYMENT | {"instructedAmount": {"currency": "EUR", "amount": 123.5}}], False),
    ("true for 1", [PAYMENT | {"recurring": 1}], [PAYMENT | {"recurring": True}], False),
    ("1.0 for 1", [PAYMENT | {"recurring": 1}], [PAYMENT | {"recurring": 1.0}], False),
    ("another identifier", [ALBUM], [ALBUM | {"identifier": "work"}], False),
    ("a part of the identifier", [ALBUM], [ALBUM | {"identifier": "holiday"}], False),
    ("another type", [PAYMENT], [ALBUM], False),
    ("what was granted and more", [ALBUM], [ALBUM, PAYMENT], False),
    ("something where nothing was granted", [], [ALBUM], False),
]  # fmt: skip


@pytest.mark.spec("RFC 9396 §6.1")
@pytest.mark.parametrize(("case", "granted", "requested", "allowed"), NARROWING, ids=[row[0] for row in NARROWING])
@pytest.mark.parametrize("grant_type", ["authorization_code", "refresh_token"])
def test_token_request_can_ask_for_less_and_never_for_more(
    site: Site,
    browser: Browser,
    client: Registered,
    grant_type: str,
    case: str,
    granted: Any,
    requested: Any,
    allowed: bool,
) -> None:
    code = code_for(site, client, *granted)
    if grant_type == "refresh_token":
        token = browser.redeem(client, code).json["refresh_token"]
    (before,) = site.server.store.grants.scan()
    for _ in range(2):  # what is refused uses up neither the code nor the token
        if grant_type == "refresh_token":
            answer = browser.refresh(client, token, authorization_details=as_json(*requested))
        else:
            answer = browser.redeem(client, code, authorization_details=as_json(*requested))
        if allowed:
            assert details_in(answer) == requested
            break
        assert (answer.status, answer.json["error"]) == (400, INVALID), answer.body
        assert [*site.server.store.grants.scan()] == [before], "nothing is written"
    if grant_type == "refresh_token" and not allowed:
        assert details_in(browser.refresh(client, token)) == granted
    elif not allowed:
        assert details_in(browser.redeem(client, code)) == granted


def test_narrowed_token_can_be_followed_by_one_for_everything(site: Site, browser: Browser, client: Registered) -> None:
    answer = browser.redeem(client, code_for(site, client, ALBUM), authorization_details=as_json(READ_ALBUM))
    assert details_in(answer) == [READ_ALBUM]
    answer = browser.refresh(client, answer.json["refresh_token"], authorization_details=as_json(READ_ALBUM))
    assert details_in(answer) == [READ_ALBUM]
    assert details_in(browser.refresh(client, answer.json["refresh_token"])) == [ALBUM]


MALFORMED = [
    "payment",
    "{}",
    "[]",
    "[1]",
    '[{"actions":[]}]',
    as_json(ALBUM, ALBUM),
    "[" * 8193,
    '[{"type":"a","a":NaN}]',
]


@pytest.mark.spec("RFC 9396 §8")
@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_details_use_up_neither_code_nor_refresh_token(
    site: Site, browser: Browser, client: Registered, text: str
) -> None:
    code = code_for(site, client, ALBUM)
    assert browser.redeem(client, code, authorization_details=text).json["error"] == INVALID
    answer = browser.redeem(client, code)
    token = answer.json["refresh_token"]
    assert browser.refresh(client, token, authorization_details=text).json["error"] == INVALID
    assert browser.refresh(client, token).json["refresh_token"] != token


def test_details_of_another_resource_than_the_tokens_are_refused(
    site: Site, browser: Browser, client: Registered
) -> None:
    code = code_for(site, client, PAYMENT, ALBUM)
    answer = browser.redeem(client, code, resource=ALBUMS, authorization_details=as_json(PAYMENT))
    assert answer.json["error"] == INVALID
    answer = browser.redeem(client, code, resource=PAYMENTS, authorization_details=as_json(PAYMENT))
    assert details_in(answer) == [PAYMENT], "the code can be used again"


def test_replay_with_narrower_details_revokes_the_grant(site: Site, browser: Browser, client: Registered) -> None:
    code = code_for(site, client, ALBUM)
    token = browser.redeem(client, code).json["refresh_token"]
    assert browser.redeem(client, code, authorization_details=as_json(READ_ALBUM)).json["error"] == "invalid_grant"
    assert browser.refresh(client, token).json["error"] == "invalid_grant"
    token = browser.redeem(client, code_for(site, client, ALBUM)).json["refresh_token"]
    following = browser.refresh(client, token).json["refresh_token"]
    site.clock.advance(60)
    answer = browser.refresh(client, token, authorization_details=as_json(READ_ALBUM))
    assert answer.json["error"] == "invalid_grant"
    assert browser.refresh(client, following).json["error"] == "invalid_grant"


def test_wrong_code_verifier_with_narrower_details_revokes_the_code(
    site: Site, browser: Browser, client: Registered
) -> None:
    code = code_for(site, client, ALBUM)
    narrower = as_json(READ_ALBUM)
    answer = browser.redeem(client, code, code_verifier="x" * 43, authorization_details=narrower)
    assert answer.json["error"] == "invalid_grant"
    assert browser.redeem(client, code).json["error"] == "invalid_grant"


def test_lost_response_of_a_narrowed_refresh_can_be_repeated(site: Site, browser: Browser, client: Registered) -> None:
    token = browser.redeem(client, code_for(site, client, ALBUM)).json["refresh_token"]
    narrower = as_json(READ_ALBUM)
    first = browser.refresh(client, token, authorization_details=narrower)
    again = browser.refresh(client, token, authorization_details=narrower)
    assert first.json["refresh_token"] == again.json["refresh_token"]
    assert details_in(again) == [READ_ALBUM]


# ---- what changes after the grant


def test_deleted_type_is_in_no_new_token_and_comes_back_with_the_type(
    site: Site, browser: Browser, client: Registered
) -> None:
    type_ = site.server.store.authorization_types.get("authorization_type anywhere")
    answer = browser.redeem(client, code_for(site, client, ANYWHERE, resource=frozenset()))
    assert type_
    assert details_in(answer) == [ANYWHERE]
    site.server.store.authorization_types.delete(type_.resource_id)
    site.clock.advance(60)
    assert introspect(browser, client, answer.json["access_token"]).json.get("authorization_details") is None
    requested = browser.refresh(client, answer.json["refresh_token"], authorization_details=as_json(ANYWHERE))
    assert requested.json["error"] == INVALID
    answer = browser.refresh(client, answer.json["refresh_token"])
    assert details_in(answer) == []
    site.server.store.authorization_types.put(type_)
    assert details_in(browser.refresh(client, answer.json["refresh_token"])) == [ANYWHERE]


def test_token_has_no_details_of_a_type_that_the_client_has_lost(
    site: Site, browser: Browser, client: Registered
) -> None:
    token = browser.redeem(client, code_for(site, client, ALBUM)).json["refresh_token"]
    update_client(site, client, authorization_details_types=("payment",))
    answer = browser.refresh(client, token)
    assert details_in(answer) == []


def test_type_that_moves_to_a_resource_is_in_its_tokens_alone(site: Site, browser: Browser, client: Registered) -> None:
    grants = frozenset({PAYMENTS, ALBUMS})
    answer = browser.redeem(client, code_for(site, client, ANYWHERE, resource=grants), resource=ALBUMS)
    assert details_in(answer) == [ANYWHERE]
    register_type(site, "anywhere", "Use your data", "actions", "datatypes", uri=PAYMENTS)
    answer = browser.refresh(client, answer.json["refresh_token"], resource=ALBUMS)
    assert details_in(answer) == []
    assert details_in(browser.refresh(client, answer.json["refresh_token"], resource=PAYMENTS)) == [ANYWHERE]


# ---- client_credentials


def client_token(browser: Browser, client: Registered, **parameters: Any) -> Answer:
    form = {"grant_type": "client_credentials", **parameters}
    return browser.post("/oauth2/token", form, basic(client.id, client.secret or ""))


def test_client_gets_a_token_of_its_own_for_details(site: Site, browser: Browser, client: Registered) -> None:
    answer = client_token(browser, client, authorization_details=as_json(PAYMENT))
    assert details_in(answer) == [PAYMENT]
    assert jwt.decode(answer.json["access_token"], options={"verify_signature": False})["aud"] == PAYMENTS
    answer = client_token(browser, client, authorization_details=as_json(ANYWHERE), scope="other")
    assert (details_in(answer), answer.json["scope"]) == ([ANYWHERE], "other")


def test_client_needs_no_scope_for_a_token_with_details(site: Site, browser: Browser, client: Registered) -> None:
    update_client(site, client, scope="openid")
    assert client_token(browser, client).json["error"] == "invalid_scope"
    answer = client_token(browser, client, authorization_details=as_json(ANYWHERE))
    assert (details_in(answer), "scope" in answer.json) == ([ANYWHERE], False)


@pytest.mark.spec("RFC 9396 §8")
@pytest.mark.parametrize(
    "parameters",
    [
        {"authorization_details": "[]"},
        {"authorization_details": as_json({"type": "unknown"})},
        {"authorization_details": as_json(ANYWHERE | {"amount": 1})},
        {"authorization_details": as_json(PAYMENT, ALBUM)},
        {"authorization_details": as_json(PAYMENT), "resource": ALBUMS},
    ],
    ids=["empty", "unknown type", "unknown member", "two resources", "another resource"],
)
def test_client_gets_no_token_for_wrong_details(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str]
) -> None:
    assert client_token(browser, client, **parameters).json["error"] == INVALID
    assert not [*site.server.store.grants.scan()]


# ---- introspection


@pytest.mark.spec("RFC 9396 §9", "RFC 9396 §9.2 a", "RFC 9396 §9.2 b", "RFC 9396 §13")
def test_resource_server_introspects_only_its_own_details(site: Site, browser: Browser, client: Registered) -> None:
    site.server.store.resources.delete(ALBUMS)
    site.server.forget_cached_records()
    albums = register_resource_server(site, ALBUMS)
    answer = browser.redeem(client, code_for(site, client, PAYMENT, ALBUM), resource=ALBUMS)
    assert introspect(browser, albums, answer.json["access_token"]).json["authorization_details"] == [ALBUM]
    assert introspect(browser, client, answer.json["access_token"]).json["authorization_details"] == [ALBUM]
    of_grant = introspect(browser, client, answer.json["refresh_token"]).json["authorization_details"]
    assert of_grant == [PAYMENT, ALBUM]
    plain = browser.redeem(client, create_code(site, client))
    for name in ("access_token", "refresh_token"):
        assert "authorization_details" not in introspect(browser, client, plain.json[name]).json


def test_longest_details_can_be_granted_introspected_and_revoked(
    site: Site, browser: Browser, client: Registered
) -> None:
    longest = ANYWHERE | {"identifier": "é" * 1340}
    assert 8100 < len(to_text(longest)) <= 8192
    code = code_for(site, client, longest, resource=frozenset())
    answer = browser.redeem(client, code, authorization_details=as_json(longest))
    assert details_in(answer) == [longest]
    assert introspect(browser, client, answer.json["access_token"]).json["authorization_details"] == [longest]
    form = {"token": answer.json["access_token"]}
    assert browser.post("/oauth2/revoke", form, basic(client.id, client.secret or "")).status == 200
    assert introspect(browser, client, answer.json["access_token"]).json == {"active": False}


# ---- cost


def test_details_cost_no_further_call(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    calls: dict[str, list[int]] = {}
    for name, details in (("with", (PAYMENT,)), ("without", ())):
        code = code_for(site, client, *details, resource=frozenset({PAYMENTS}), scope=frozenset({"payments.read"}))
        requested = as_json(PAYMENT) if details else None
        site.server.forget_cached_records()
        site.server.client(client.id)
        token = browser.redeem(client, code, authorization_details=requested).json["refresh_token"]
        calls[name] = [calls_in_last_line(caplog)]
        token = browser.refresh(client, token, authorization_details=requested).json["refresh_token"]
        calls[name].append(calls_in_last_line(caplog))
        introspect(browser, client, token)
        calls[name].append(calls_in_last_line(caplog))
    assert calls["with"] == calls["without"] == [3, 2, 2]


def test_narrowing_within_an_object_costs_one_further_write(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    token = browser.redeem(client, code_for(site, client, ALBUM)).json["refresh_token"]
    browser.refresh(client, token, authorization_details=as_json(READ_ALBUM))
    assert calls_in_last_line(caplog) == 3


def test_refused_details_are_not_in_the_log(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    grant = insert_grant(site, client, authorization_details=(to_text(PAYMENT),))
    code = site.server.keys.make_handle("code", grant.grant_id)
    browser.redeem(client, code, authorization_details=as_json(PAYMENT | {"creditorName": "Merchant B"}))
    assert "Merchant" not in caplog.text
