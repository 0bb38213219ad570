"""The rules of authorization details, with any JSON (RFC 9396)."""

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chalicelib.http.messages import Params
from chalicelib.protocol.authorization_details import (
    MAX_LENGTH,
    MAX_VALUES,
    are_part,
    check_members,
    describe,
    from_text,
    is_part,
    to_text,
    visible,
)
from chalicelib.protocol.authorization_type import ARRAYS, AuthorizationType, in_words, type_key
from chalicelib.protocol.errors import InvalidAuthorizationDetails, InvalidRequest
from chalicelib.tokens.authorization_details import parse_details

TEXTS = st.text(max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SETS = st.lists(st.sampled_from(["a", "b", "c", "A"]), min_size=1, max_size=3)
DETAILS = st.fixed_dictionaries(
    {"type": st.sampled_from(["x", "y"])},
    optional=dict.fromkeys(sorted(ARRAYS), SETS) | {"identifier": TEXTS, "amount": JSON},
)
TYPE = AuthorizationType(
    type_key("x"), "x", "Do it", members=("locations", "actions", "datatypes", "privileges", "identifier", "amount=Sum")
)


def permissions(detail: dict[str, Any]) -> set[tuple[str, ...]]:
    """Return what an object allows: each combination of the strings of its arrays, with all its other members."""
    rest = json.dumps({name: value for name, value in detail.items() if name not in ARRAYS}, sort_keys=True)
    names = sorted(ARRAYS & detail.keys())
    return {(rest, *names, *each) for each in product(*(detail[name] for name in names))}


@settings(max_examples=500, deadline=None)
@given(st.lists(DETAILS, max_size=3), st.lists(DETAILS, min_size=1, max_size=3))
def test_what_is_part_allows_nothing_that_was_not_granted(granted: list[Any], requested: list[Any]) -> None:
    if are_part(map(to_text, requested), map(to_text, granted)):
        allowed = set[tuple[str, ...]]().union(*map(permissions, granted))
        assert set[tuple[str, ...]]().union(*map(permissions, requested)) <= allowed


@settings(deadline=None)
@given(DETAILS, st.data())
def test_fewer_strings_in_the_arrays_are_part_and_any_other_change_is_not(detail: Any, data: st.DataObject) -> None:
    assert is_part(to_text(detail), to_text(detail))
    arrays = sorted(ARRAYS & detail.keys())
    fewer = {name: data.draw(st.lists(st.sampled_from(detail[name]), min_size=1)) for name in arrays}
    assert is_part(to_text(detail | fewer), to_text(detail))
    name, value = data.draw(st.sampled_from([*detail, "other"])), data.draw(JSON)
    changed = detail | {name: value}
    assume(to_text(changed) != to_text(detail))
    if name not in ARRAYS:
        assert not is_part(to_text(changed), to_text(detail))
    without = {other: value for other, value in detail.items() if other != name}
    if name in detail:
        assert not is_part(to_text(without), to_text(detail))
        assert not is_part(to_text(detail), to_text(without))


@settings(max_examples=300, deadline=None)
@given(JSON | st.lists(DETAILS | JSON, max_size=12) | st.lists(DETAILS, max_size=3))
def test_any_json_is_read_as_it_is_or_refused(value: Any) -> None:
    try:
        texts = parse_details(Params([("authorization_details", json.dumps(value))]))
    except InvalidAuthorizationDetails:
        return
    assert texts is not None
    read = [from_text(text) for text in texts]
    assert json.dumps(read, sort_keys=True) == json.dumps(value, sort_keys=True)
    assert sum(map(len, texts)) <= MAX_LENGTH
    assert all(text.isascii() for text in texts)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda octets: octets.decode("latin-1")))
def test_any_text_is_refused_or_an_array_of_objects(text: str) -> None:
    try:
        texts = parse_details(Params([("authorization_details", text)]))
    except (InvalidAuthorizationDetails, InvalidRequest):
        return
    assert texts is None or all("type" in from_text(each) for each in texts)


@settings(max_examples=300, deadline=None)
@given(DETAILS.map(lambda detail: detail | {"type": "x"}))
def test_every_value_is_described(detail: dict[str, Any]) -> None:
    shown = describe(TYPE, to_text(detail))
    assert [label for label, _ in shown.members] == [label for name, label in TYPE.labels.items() if name in detail]
    texts = [value.text for _, values in shown.members for value in values]
    for name in ARRAYS & detail.keys():
        assert {*detail[name]} <= {*texts}
    assert all(texts)
    assert all(each.isprintable() or each in "\u200c\u200d" for text in texts for each in text)


@settings(deadline=None)
@given(DETAILS)
def test_members_are_those_of_the_type(detail: dict[str, Any]) -> None:
    check_members(TYPE, to_text(detail))
    with pytest.raises(InvalidAuthorizationDetails, match="has no member other"):
        check_members(TYPE, to_text(detail | {"other": 1}))


def test_invisible_characters_are_shown_as_escapes() -> None:
    assert visible("a\u00a0b\u3000c") == "a b c"
    assert visible("\u202eevil\u2066\u200b\n\x7f\ufeff") == r"\u202eevil\u2066\u200b\u000a\u007f\ufeff"
    assert visible("नमस्\u200dते 👩\u200d🔬 مى\u200cخواهم") == "नमस्\u200dते 👩\u200d🔬 مى\u200cخواهم"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("instructedAmount", "Instructed amount"),
        ("creditor_account", "Creditor account"),
        ("tax-payer.id", "Tax payer id"),
        ("IBAN", "I b a n"),
        ("a", "A"),
    ],
)
def test_member_without_a_label_is_shown_as_words(name: str, words: str) -> None:
    assert in_words(name) == words


def test_as_many_values_as_a_page_shows_are_accepted() -> None:
    for count, accepted in ((MAX_VALUES - 1, True), (MAX_VALUES, False)):
        params = Params([("authorization_details", json.dumps([{"type": "x", "amount": [0] * count}]))])
        if accepted:
            assert parse_details(params)
        else:
            with pytest.raises(InvalidAuthorizationDetails):
                parse_details(params)
