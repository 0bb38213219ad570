"""The checks of authorization details (RFC 9396), one at a time: each says what is wrong."""

import json
import re
from typing import Any

import pytest

from chalicelib.clients.authorization_types import (
    MAX_MEMBER,
    MAX_MEMBERS,
    MAX_TYPES,
    check_type,
    check_types_of_client,
    self_registered_types,
)
from chalicelib.http.messages import Params
from chalicelib.protocol.authorization_details import (
    MAX_DEPTH,
    MAX_DETAILS,
    MAX_INTEGER,
    MAX_LENGTH,
    MAX_VALUES,
    check_array,
    check_members,
    describe,
    is_part,
    to_text,
    types_in,
)
from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidAuthorizationDetails, InvalidClientMetadata, InvalidRequest
from chalicelib.tokens.authorization_details import (
    MAX_PARAMETER,
    parse_details,
    target_uris,
)
from chalicelib.tokens.target import Target
from tests.support.grants import insert_grant
from tests.support.site import Site

TYPE = AuthorizationType(
    type_key("x"), "x", "Do it", members=("locations", "actions", "identifier", "amount=Sum"), required=frozenset()
)


def nested(depth: int) -> dict[str, Any]:
    """Return an object with so many levels."""
    value: Any = 1
    for _ in range(depth - 2):
        value = [value]
    return {"type": "x", "amount": value}


REJECTED: dict[str, tuple[Any, str]] = {
    "an object": ({"type": "x"}, "a JSON array of objects"),
    "null": (None, "a JSON array of objects"),
    "empty": ([], "a JSON array of objects"),
    "a text in it": ([{"type": "x"}, "x"], "a JSON array of objects"),
    "too many": ([{"type": "x", "amount": each} for each in range(MAX_DETAILS + 1)], "more than 10 objects"),
    "no type": ([{"amount": 1}], "must have a type"),
    "a type that is no text": ([{"type": ["x"]}], "must have a type"),
    "the same twice": ([{"type": "x", "amount": 1}, {"amount": 1, "type": "x"}], "are the same"),
    "nested too deeply": ([nested(MAX_DEPTH + 1)], "more than 8 levels"),
    "a number that is too large": ([{"type": "x", "amount": MAX_INTEGER + 1}], "too large"),
    "a negative number that is too large": ([{"type": "x", "amount": [-MAX_INTEGER - 1]}], "too large"),
    "a large float": ([{"type": "x", "amount": 1e17}], "too large"),
    "infinity": ([{"type": "x", "amount": float("inf")}], "too large"),
    "not a number": ([{"type": "x", "amount": float("nan")}], "too large"),
    "a lone surrogate": ([{"type": "x", "amount": {"a": ["\ud800"]}}], "not valid Unicode"),
    "a name that is a lone surrogate": ([{"type": "x", "\ud800": 1}], "not valid Unicode"),
    "a long text": ([{"type": "x", "amount": "a" * MAX_LENGTH}], "longer than 8192"),
    "long together": ([{"type": "x", "amount": each * 4096} for each in "ab"], "longer than 8192"),
    "many values": ([{"type": "x", "amount": [0] * MAX_VALUES}], "more than 100 values"),
    "many values together": ([{"type": t, "amount": [0] * (MAX_VALUES // 2)} for t in "xy"], "more than 100 values"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_error_says_what_is_wrong_with_an_array(case: str) -> None:
    value, problem = REJECTED[case]
    with pytest.raises(InvalidAuthorizationDetails, match=re.escape(problem)):
        check_array(value)


@pytest.mark.parametrize(
    "value",
    [
        [{"type": "x", "amount": each} for each in range(MAX_DETAILS)],
        [nested(MAX_DEPTH)],
        [{"type": "x", "amount": [MAX_INTEGER, -MAX_INTEGER, 1.5, True, None, ""]}],
        [{"type": "x", "amount": [0] * (MAX_VALUES - 1)}],
        [{"type": "x"}, {"type": "y"}, {"type": "x", "amount": {}}],
    ],
)
def test_limits_of_an_array_are_accepted(value: list[dict[str, Any]]) -> None:
    assert check_array(value) == tuple(map(to_text, value))


def test_parameter_is_limited_before_it_is_parsed() -> None:
    def parse(text: str) -> tuple[str, ...] | None:
        return parse_details(Params([("authorization_details", text)]))

    longest = '[{"type":"x","amount":"' + "a" * (MAX_LENGTH - 26) + '"}]'
    assert len(longest) == MAX_LENGTH
    assert parse(longest)
    with pytest.raises(InvalidAuthorizationDetails, match="longer than 8192"):
        parse("[" * (MAX_LENGTH + 1))
    with pytest.raises(InvalidRequest, match="longer than 65536"):
        parse("[" * (MAX_PARAMETER + 1))
    for text in ("[", '[{"type":"x","type":"y"}]', '[{"type":"x","amount":NaN}]'):
        with pytest.raises(InvalidAuthorizationDetails, match="not JSON, or repeat a member"):
            parse(text)
    assert parse("") is None


# ---- members of a type


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"other": 1}, "has no member other"),
        ({"actions": "read"}, "actions must be an array"),
        ({"actions": []}, "actions must be an array"),
        ({"actions": ["read", 1]}, "actions must be an array"),
        ({"actions": ["read", ""]}, "actions must be an array"),
        ({"locations": {"a": 1}}, "locations must be an array"),
        ({"identifier": 7}, "identifier must be a string"),
        ({"identifier": None}, "identifier must be a string"),
    ],
)
def test_error_says_what_is_wrong_with_a_member(members: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidAuthorizationDetails, match=problem):
        check_members(TYPE, to_text({"type": "x", **members}))


def test_required_member_must_be_there() -> None:
    type_ = AuthorizationType(type_key("x"), "x", "Do it", members=("amount",), required=frozenset({"amount"}))
    with pytest.raises(InvalidAuthorizationDetails, match="requires the member amount"):
        check_members(type_, to_text({"type": "x"}))
    check_members(type_, to_text({"type": "x", "amount": None}))


@pytest.mark.parametrize(
    ("less", "more", "part"),
    [
        ({"actions": ["a"]}, {"actions": ["a", "b"]}, True),
        ({"actions": ["a", "c"]}, {"actions": ["a", "b"]}, False),
        ({"actions": []}, {"actions": ["a"]}, False),
        ({"actions": "a"}, {"actions": ["a"]}, False),
        ({"actions": ["a"]}, {"actions": "ab"}, False),
        ({"actions": [1]}, {"actions": [1]}, False),
        ({"amount": [1]}, {"amount": [1, 2]}, False),
        ({"amount": True}, {"amount": 1}, False),
        ({"amount": {"a": 1, "b": 2}}, {"amount": {"b": 2, "a": 1}}, True),
        ({}, {"amount": 1}, False),
        ({"amount": 1}, {}, False),
        ({"type": "y"}, {"type": "x"}, False),
    ],
)
def test_part_has_fewer_strings_in_its_arrays_and_no_other_change(
    less: dict[str, Any], more: dict[str, Any], *, part: bool
) -> None:
    assert is_part(to_text({"type": "x"} | less), to_text({"type": "x"} | more)) is part


# ---- how users read them


def test_values_are_shown_with_their_places() -> None:
    detail = {"type": "x", "identifier": "", "actions": ["a", "b"], "old": False}
    detail["amount"] = {"sum": 1.5, "parts": [[True], "c\u200b"], "none": None, "empty": [], "nothing": {}}
    shown = {
        label: [(value.path, str(value.text)) for value in values]
        for label, values in describe(TYPE, to_text(detail)).members
    }
    assert shown == {
        "Actions": [((), "a"), ((), "b")],
        "Identifier": [((), "–")],
        "Sum": [
            (("empty",), "–"),
            (("none",), "–"),
            (("nothing",), "–"),
            (("parts", "1"), "yes"),
            (("parts", "2"), "c\\u200b"),
            (("sum",), "1.5"),
        ],
        "old": [((), "no")],
    }
    assert list(shown) == ["Actions", "Identifier", "Sum", "old"], "the last one is no member of the type any longer"


# ---- types


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "a b", "resource_id": type_key("a b")}, "A type must have 1 to 128"),
        ({"resource_id": "x"}, "resource_id of the type"),
        ({"text": ""}, "The text must have"),
        ({"text": "a\nb"}, "The text must have"),
        ({"members": ("a", "a=Other")}, "at most 30 different members"),
        ({"members": tuple(f"m{each}" for each in range(MAX_MEMBERS + 1))}, "at most 30 different members"),
        ({"members": ("type",)}, "'type' cannot be a member"),
        ({"members": ("a b",)}, "'a b' cannot be a member"),
        ({"members": ("m" * (MAX_MEMBER + 1),)}, "cannot be a member"),
        ({"members": ("a=b\n",)}, "The label of a must have"),
        ({"members": ("a",), "required": frozenset({"b"})}, "b is required, but no member"),
    ],
)
def test_error_says_what_is_wrong_with_a_type(changes: dict[str, Any], problem: str) -> None:
    given: dict[str, Any] = {"resource_id": type_key("x"), "name": "x", "text": "Do it"}
    with pytest.raises(InvalidClientMetadata, match=re.escape(problem)):
        check_type(AuthorizationType(**(given | changes)))


def test_limits_of_a_type_are_accepted() -> None:
    members = (*(f"m{each}" for each in range(MAX_MEMBERS - 2)), "a=Label", "m" * MAX_MEMBER)
    check_type(AuthorizationType(type_key("x"), "x", "Do it", members=members, required=frozenset({"a"})))


def test_types_of_a_client_are_few_different_tokens() -> None:
    def check(*types: str) -> None:
        check_types_of_client(Client("c", "C", (), authorization_details_types=types))

    many = tuple(f"t{each}" for each in range(MAX_TYPES + 1))
    check(*many[1:])
    for types, problem in (
        (many, "at most 20"),
        (("a", "a"), "named twice"),
        (("a b",), "1 to 128"),
    ):
        with pytest.raises(InvalidClientMetadata, match=problem):
            check(*types)


def test_types_of_a_client_that_registers_itself_are_few_names(site: Site) -> None:
    def read(names: Any) -> tuple[str, ...] | None:
        return self_registered_types(site.server.store, {"authorization_details_types": names})

    for names in ("a", [1], ["a b"], ["a", ""]):
        with pytest.raises(InvalidClientMetadata, match="an array of names of types"):
            read(names)
    many = [f"t{each}" for each in range(MAX_TYPES + 1)]
    with pytest.raises(InvalidClientMetadata, match="at most 20 different"):
        read(many)
    with pytest.raises(InvalidClientMetadata, match="cannot have the type t0"):
        read(many[:-1])
    assert read([]) is None


def test_only_details_that_are_less_than_what_was_granted_are_written_again(site: Site) -> None:
    more, less = (to_text({"type": "x", "actions": actions}) for actions in (["a", "b"], ["a"]))
    grant = insert_grant(site, site.client(), authorization_details=(more,))
    assert Target(None, (less,)).is_narrower(grant)
    assert not Target(None, (less,)).as_proved().is_narrower(grant)
    assert not Target(None, (more,)).is_narrower(grant), "another condition has refused it"
    assert not Target(None, (to_text({"type": "y"}),)).is_narrower(grant)
    assert not Target(None, None).is_narrower(grant)
    assert not Target(None, (less,)).is_narrower(None)


def test_targets_are_the_resource_of_the_type_or_the_locations() -> None:
    everywhere, of_api = to_text({"type": "x"}), AuthorizationType(type_key("x"), "x", uri="https://api.example.com")
    located = to_text({"type": "x", "locations": ["https://a.example", "https://b.example"]})
    assert target_uris(TYPE, everywhere) is None
    assert target_uris(TYPE, located) == frozenset({"https://a.example", "https://b.example"})
    assert target_uris(of_api, located) == target_uris(of_api, everywhere) == frozenset({of_api.uri})
    assert types_in(None) == frozenset()
    assert types_in(map(json.dumps, [{"type": "x"}, {"type": "y"}])) == {"x", "y"}
