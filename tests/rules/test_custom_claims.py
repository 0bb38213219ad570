"""Which groups and custom claims a user can have, and that tokens with all of them fit into header fields."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.protocol import claims, custom_claims
from chalicelib.protocol.client import Client
from chalicelib.protocol.custom_claims import check_custom_claims, check_groups, is_custom_claim
from chalicelib.protocol.own_scope import DESTINATIONS, Scope, released_claims
from chalicelib.protocol.records import User
from chalicelib.protocol.scopes import CLAIMS, SCOPES
from chalicelib.storage.attribute_values import pack, unpack

GOOD_NAMES = ["department", "level", "a", "Cost.Center-2_b", "roles", "n" * 64]
GOOD_NAMES += ["https://example.com", "https://example.com/roles", "https://id.example.com:8443/a/b_c~d.e-f"]
PROTOCOL_NAMES = [*claims.TOKEN_CLAIMS, "sub", "jti", "nbf", "azp", "at_hash", "scope", "client_id", "grant_id", "cnf"]
OBJECT_NAMES = ["__proto__", "constructor", "prototype", "hasOwnProperty", "toString", "valueOf", "toJSON"]
OTHER_NAMES = [
    "",
    " ",
    "a b",
    "a,b",
    "1st",
    "_a",
    "name#de",
    "n" * 65,
    "abteilung-ä",
    "a\n",
    "a\u202e",
    "a\ud800",
    "a\0",
]
OTHER_NAMES += ["http://example.com/a", "https://", "https://a b/", "https://a/?x=1", "https://a/#x", "https://a@b/"]
OTHER_NAMES += ["https://example.com/" + "x" * 181, "urn:example:roles", "javascript:alert"]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_word_or_https_uri_is_the_name_of_a_custom_claim(name: str) -> None:
    assert is_custom_claim(name)
    check_custom_claims({name: "x"})


@pytest.mark.parametrize("name", [*PROTOCOL_NAMES, *OBJECT_NAMES, *OTHER_NAMES, "ISS", "Groups", "groups", "username"])
def test_other_names_are_rejected(name: str) -> None:
    assert not is_custom_claim(name)
    with pytest.raises(ValueError, match=r"name|group"):
        check_custom_claims({name: "x"})


@pytest.mark.parametrize("name", CLAIMS)
def test_standard_claim_is_no_custom_one(name: str) -> None:
    assert not is_custom_claim(name)
    assert not is_custom_claim(name.upper())


NESTED: Any = [[[["too deep"]]]]
VALUES: list[tuple[Any, str]] = [
    (None, "can have strings"),
    (1.5, "can have strings"),
    (float("nan"), "can have strings"),
    (float("inf"), "can have strings"),
    (b"x", "can have strings"),
    ({"a": None}, "can have strings"),
    (2**53, "a number beyond"),
    ([-(2**53)], "a number beyond"),
    ("a\x1b[2J", "printable"),
    ("a\ud800", "printable"),
    (["\u202e"], "printable"),
    ({"__proto__": 1}, "a member whose name"),
    ({"a": {"Constructor": 1}}, "a member whose name"),
    ({"": 1}, "a member whose name"),
    ({"a\n": 1}, "a member whose name"),
    ({1: 1}, "a member whose name"),
    (NESTED, "more than 4 levels"),
    ("x" * 2048, "2048 bytes"),
    ("é" * 400, "2048 bytes"),  # six bytes each in a token
    (["x"] * 1000, "2048 bytes"),
]


@pytest.mark.parametrize(("value", "message"), VALUES, ids=[repr(value)[:30] for value, _ in VALUES])
def test_value_is_rejected(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_custom_claims({"department": value})


def test_size_is_that_of_all_custom_claims_together() -> None:
    half = "x" * 1000
    check_custom_claims({"a": half, "b": half, "name": "n" * 2000})
    with pytest.raises(ValueError, match="2048 bytes"):
        check_custom_claims({"a": half, "b": half, "c": half})


texts = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.dictionaries(texts | st.sampled_from([*GOOD_NAMES, *PROTOCOL_NAMES, *OBJECT_NAMES]), json_values, max_size=4))
def test_accepted_claims_are_stored_and_read_unchanged_and_are_plain_json(given_claims: dict[str, Any]) -> None:
    try:
        check_custom_claims(given_claims)
    except ValueError:
        return
    frozen = {name: custom_claims.freeze(value) for name, value in given_claims.items()}
    assert unpack(pack(frozen)) == frozen
    text = json.dumps(given_claims, allow_nan=False)
    assert json.loads(text) == given_claims
    assert not {name.casefold() for name in given_claims} & {name.casefold() for name in PROTOCOL_NAMES}


# ---- groups


@pytest.mark.parametrize("group", ["a", "engineering", "on call", "/team/a", "Überflieger", "g" * 100, "cn=admins"])
def test_group_is_accepted(group: str) -> None:
    check_groups([group])


BAD_GROUPS = ["", " ", " a", "a ", "a,b", "a\n", "a\u202e", "a\ud800", "g" * 101, "\u00a0a"]


@pytest.mark.parametrize("group", BAD_GROUPS)
def test_group_is_rejected(group: str) -> None:
    with pytest.raises(ValueError, match="A group must have 1 to 100 printable characters"):
        check_groups(["engineering", group])


@pytest.mark.parametrize("groups", [[f"g{n}" for n in range(101)], [f"{n:02}" + "g" * 60 for n in range(99)]])
def test_more_groups_than_fit_into_a_token_are_rejected(groups: list[str]) -> None:
    check_groups(groups[:60])
    with pytest.raises(ValueError, match=r"100 groups, of 4096 bytes"):
        check_groups(groups)


# ---- what a scope releases


own_scopes = st.builds(
    Scope,
    st.sampled_from(["staff", "payroll", "inventory"]),
    st.just("A scope"),
    st.frozensets(st.sampled_from(["department", "level", "email", "groups"])),
    st.frozensets(st.sampled_from(DESTINATIONS)),
)
USER = User(
    "u-1",
    "alice",
    "hash",
    {"department": "Sales", "level": 5, "email": "alice@example.com", "unlisted": "never", "iss": "https://evil"},
    groups=frozenset({"b", "a"}),
)


@given(
    st.lists(own_scopes, max_size=4),
    st.frozensets(st.sampled_from(["openid", "email", "groups", "staff", "payroll", "inventory"])),
    st.sampled_from(DESTINATIONS),
    st.booleans(),
)
def test_no_claim_is_released_without_a_granted_scope_that_names_it_for_this_place(
    own: list[Scope], granted: frozenset[str], destination: str, in_id_token: bool
) -> None:
    client = Client("c", "C", (), id_token_claims_from_scope=in_id_token)
    released = claims.user_claims(USER, (), released_claims(own, granted, destination, client))
    default = {"userinfo"} | ({"id_token"} if in_id_token else set())
    expected = {
        name
        for scope in own
        if scope.scope in granted and destination in (scope.claims_in or default)
        for name in scope.claims
    }
    assert set(released) == expected
    assert "iss" not in released
    standard = claims.user_claims(USER, granted)
    assert ("groups" in standard) == ("groups" in granted)
    assert ("email" in standard) == ("email" in granted)
    assert not {"department", "level", "unlisted"} & set(standard)


def test_groups_are_a_sorted_list_and_an_empty_one_for_a_user_without_groups() -> None:
    assert claims.user_claims(USER, {"groups"}) == {"groups": ["a", "b"]}
    assert claims.user_claims(User("u", "bob", "", {}), {"groups"}) == {"groups": []}
    assert "groups" not in claims.user_claims(USER, SCOPES.keys() - {"groups"})
