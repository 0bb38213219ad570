"""Values and conditions in DynamoDB's form: the same as boto3's, and every value comes back."""

from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr, ConditionExpressionBuilder
from boto3.dynamodb.types import Binary, TypeSerializer
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.storage.attribute_values import pack, unpack
from chalicelib.storage.dynamodb import attr
from tests.storage_keys.test_store import EXAMPLES

_NUMBERS = st.integers(-(10**38) + 1, 10**38 - 1)
_SCALARS = st.text() | _NUMBERS | st.booleans() | st.binary()
_SETS: Any = st.one_of(
    st.frozensets(st.text(), min_size=1), st.frozensets(_NUMBERS, min_size=1), st.frozensets(st.binary(), min_size=1)
)
VALUES = st.recursive(
    _SCALARS | _SETS | st.none(),
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def _packed_by_boto3(value: Any) -> Any:
    """Return a value in the form of boto3, with the base64 that botocore adds."""
    return _with_base64(TypeSerializer().serialize(_lists(value)))


def _lists(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_lists(member) for member in value]
    if isinstance(value, dict):
        return {name: _lists(member) for name, member in value.items()}
    return set(value) if isinstance(value, frozenset) else value


def _with_base64(typed: Any) -> Any:
    from base64 import b64encode

    ((kind, content),) = typed.items()
    match kind:
        case "B":
            return {"B": b64encode(bytes(content)).decode()}
        case "BS":
            return {"BS": sorted(b64encode(bytes(member)).decode() for member in content)}
        case "SS" | "NS":
            return {kind: sorted(content)}
        case "L":
            return {"L": [_with_base64(member) for member in content]}
        case "M":
            return {"M": {name: _with_base64(member) for name, member in content.items()}}
    return typed


def _sorted_sets(typed: Any) -> Any:
    ((kind, content),) = typed.items()
    match kind:
        case "SS" | "NS" | "BS":
            return {kind: sorted(content)}
        case "L":
            return {"L": [_sorted_sets(member) for member in content]}
        case "M":
            return {"M": {name: _sorted_sets(member) for name, member in content.items()}}
    return typed


@settings(max_examples=500, deadline=None)
@given(VALUES)
def test_generated_values_are_packed_as_by_boto3_and_come_back(value: Any) -> None:
    if value is None:
        assert pack({"it": value}) == {}
        return
    packed = pack({"it": value})
    assert _sorted_sets(packed["it"]) == _packed_by_boto3(value)
    back = unpack(packed)["it"]
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_record_is_packed_as_by_boto3_and_comes_back(kind: str) -> None:
    record = EXAMPLES[kind][0]
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    stored = {name: value for name, value in values.items() if value not in (None, frozenset())}
    packed = pack(values)
    expected = {name: _packed_by_boto3(value) for name, value in stored.items()}
    assert {name: _sorted_sets(value) for name, value in packed.items()} == expected
    assert unpack(packed) == stored


@pytest.mark.parametrize(
    "value", [1.5, Decimal(1), object(), ({"nested": 1.0},), frozenset({1, "x"}), (frozenset(),), Binary(b"x")]
)
def test_value_that_would_not_come_back_is_not_packed(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot store"):
        pack({"it": value})


def test_number_of_another_program_is_read_as_an_integer() -> None:
    assert unpack({"a": {"N": "12.0"}, "b": {"N": "1E+2"}, "c": {"NS": ["-7", "3.9"]}}) == {
        "a": 12,
        "b": 100,
        "c": frozenset({-7, 3}),
    }


CONDITIONS = [
    (attr("a").eq("x"), Attr("a").eq("x")),
    (attr("a").lt(1) | attr("a").lte(2), Attr("a").lt(1) | Attr("a").lte(2)),
    (attr("a").gt(1) & attr("a").gte(2), Attr("a").gt(1) & Attr("a").gte(2)),
    (~(attr("a").exists() & attr("b").not_exists()), ~(Attr("a").exists() & Attr("b").not_exists())),
    (attr("a").contains("x") & attr("b").between(1, 2), Attr("a").contains("x") & Attr("b").between(1, 2)),
    (attr("map.member").size().eq(3), Attr("map.member").size().eq(3)),
    (attr("a").eq(1) & attr("b").eq(2) | attr("c").eq(3), Attr("a").eq(1) & Attr("b").eq(2) | Attr("c").eq(3)),
]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS, ids=range(len(CONDITIONS)))
def test_condition_is_written_as_by_boto3(condition: Any, expected: Any) -> None:
    built = ConditionExpressionBuilder().build_expression(expected)
    names, values = built.attribute_name_placeholders, built.attribute_value_placeholders
    assert condition.expression() == (built.condition_expression, names, values)
