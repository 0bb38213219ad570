"""Authorization details (RFC 9396): their form, what is part of what, and how users read them.

The stored form of an object is its JSON, ASCII only, with sorted members. Texts are compared as they are, without
normalization (section 12).
"""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any
from unicodedata import category

from chalicelib.protocol.authorization_type import ARRAYS, IDENTIFIER, AuthorizationType
from chalicelib.protocol.errors import InvalidAuthorizationDetails
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass

PARAMETER = "authorization_details"
MAX_LENGTH = 8192
MAX_DETAILS = 10
MAX_DEPTH = 8
MAX_VALUES = 100  # that a user reads on one page
MAX_INTEGER = 2**53 - 1  # what every reader of JSON has exactly (RFC 8259 section 6)
_JOINERS = "\u200c\u200d"  # of scripts and emoji


@dataclass(frozen=True)
class Value:
    """A value in authorization details, and where it is in its member: names, and numbers in arrays."""

    path: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Description:
    """An object of authorization details in words for the user: a text, and the values of each labelled member."""

    type: AuthorizationType
    members: tuple[tuple[str, tuple[Value, ...]], ...]


def check_array(value: object) -> tuple[str, ...]:
    """Return the stored form of an array of authorization details.

    Whether their types are registered, and have such members, is for `check_members`. Raises
    InvalidAuthorizationDetails.
    """
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        raise InvalidAuthorizationDetails("The authorization_details must be a JSON array of objects, at least one.")
    if len(value) > MAX_DETAILS:
        raise InvalidAuthorizationDetails(f"The authorization_details have more than {MAX_DETAILS} objects.")
    if not all(isinstance(each.get("type"), str) for each in value):
        raise InvalidAuthorizationDetails("Each object of the authorization_details must have a type, a string.")
    for each in value:
        _check_values(each, 1)
    texts = tuple(to_text(each) for each in value)
    if len(set(texts)) < len(texts):
        raise InvalidAuthorizationDetails("Two objects of the authorization_details are the same.")
    if sum(map(len, texts)) > MAX_LENGTH:
        raise InvalidAuthorizationDetails(f"The authorization_details are longer than {MAX_LENGTH} characters.")
    if sum(1 for each in value for _ in _values(each)) > MAX_VALUES:
        raise InvalidAuthorizationDetails(f"The authorization_details have more than {MAX_VALUES} values.")
    return texts


def _check_values(value: object, depth: int) -> None:
    """Raise InvalidAuthorizationDetails for values that are nested too deeply, or that no reader has exactly."""
    if depth > MAX_DEPTH:
        raise InvalidAuthorizationDetails(f"The authorization_details are nested in more than {MAX_DEPTH} levels.")
    match value:
        case dict():
            for name, member in value.items():
                _check_text(name)
                _check_values(member, depth + 1)
        case list():
            for member in value:
                _check_values(member, depth + 1)
        case str():
            _check_text(value)
        case bool():
            pass
        case int() | float():
            if not math.isfinite(value) or abs(value) > MAX_INTEGER:
                raise InvalidAuthorizationDetails("A number in the authorization_details is too large.")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidAuthorizationDetails("A text in the authorization_details is not valid Unicode.") from error


def check_members(type_: AuthorizationType, text: str) -> None:
    """Check the members of an object against its type (section 5). Raises InvalidAuthorizationDetails."""
    members = {name: value for name, value in from_text(text).items() if name != "type"}
    if unknown := sorted(members.keys() - type_.labels.keys()):
        raise InvalidAuthorizationDetails(f"The type {type_.name} has no member {unknown[0][:100]}.")
    if missing := sorted(type_.required - members.keys()):
        raise InvalidAuthorizationDetails(f"The type {type_.name} requires the member {missing[0]}.")
    for name in sorted(ARRAYS & members.keys()):
        value = members[name]
        if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
            raise InvalidAuthorizationDetails(f"The member {name} must be an array of strings, at least one.")
    if not isinstance(members.get(IDENTIFIER, ""), str):
        raise InvalidAuthorizationDetails(f"The member {IDENTIFIER} must be a string.")


def to_text(detail: dict[str, Any]) -> str:
    """Return the stored form of an object."""
    return json.dumps(detail, sort_keys=True, separators=(",", ":"))


def from_text(text: str) -> dict[str, Any]:
    """Return an object by its stored form."""
    detail: dict[str, Any] = json.loads(text)
    return detail


def type_of(text: str) -> str:
    """Return the type of an object by its stored form."""
    return str(from_text(text)["type"])


def types_in(texts: Iterable[str] | None) -> frozenset[str]:
    """Return the types of objects by their stored forms."""
    return frozenset(map(type_of, texts or ()))


def is_part(requested: str, granted: str) -> bool:
    """Return whether an object allows nothing that another one does not allow (section 6.1).

    Both have the same members with the same values; the arrays of section 2.2 may have fewer of their strings. What an
    object allows is the product of these arrays, so it gets less with each string that is left out.
    """
    less, more = from_text(requested), from_text(granted)
    if less.keys() != more.keys():
        return False
    return all(
        _is_subset(less[name], more[name]) if name in ARRAYS else to_text({"": less[name]}) == to_text({"": more[name]})
        for name in less
    )


def _is_subset(requested: object, granted: object) -> bool:
    if not isinstance(requested, list) or not isinstance(granted, list) or not requested:
        return False
    return all(isinstance(each, str) and each in granted for each in requested)


def are_part(requested: Iterable[str], granted: Iterable[str]) -> bool:
    """Return whether each of these objects is part of one that was granted."""
    granted = tuple(granted)
    return all(any(is_part(each, other) for other in granted) for each in requested)


def describe(type_: AuthorizationType, text: str) -> Description:
    """Return an object in words for the user, with all its values, in the order of the members of its type."""
    detail = from_text(text)
    names = [name for name in type_.labels if name in detail]
    names += sorted(detail.keys() - {*names, "type"})  # the type may have fewer members since
    members = []
    for name in names:
        values = tuple(Value(path, shown) for path, shown in _values(detail[name]))
        members.append((type_.labels.get(name) or visible(name), values))
    return Description(type_, tuple(members))


def _values(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each text, number or constant in a value, with its place; something empty as such."""
    match value:
        case dict() if value:
            for name, member in value.items():
                yield from _values(member, (*path, visible(name)))
        case list() if value:
            several = any(isinstance(member, dict | list) for member in value)
            for number, member in enumerate(value, 1):
                yield from _values(member, (*path, str(number)) if several else path)
        case bool():
            yield path, Text("yes") if value else Text("no")
        case str() if value:
            yield path, visible(value)
        case int() | float():
            yield path, json.dumps(value)
        case _:
            yield path, "–"


def visible(text: str) -> str:
    """Return a text with its invisible characters as escapes, so that a user reads what an API reads."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if category(character) == "Zs" else f"\\u{ord(character):04x}"
