"""Values in DynamoDB's typed form.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

_IN_SETS = {"S", "N", "B"}


def pack(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in DynamoDB's typed form. None and empty sets, which it cannot store, are left out.

    Raises TypeError for a value of another type than `unpack` returns.
    """
    return {name: _packed(value) for name, value in values.items() if value is not None and value != frozenset()}


def unpack(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a DynamoDB item with Python's types: int, str, bool, bytes, frozenset, tuple, dict."""
    values = {}
    for name, value in item.items():
        ((kind, content),) = value.items()
        values[name] = content if kind == "S" else _FROM_TYPED[kind](content)
    return values


def _packed(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(int(value))}
    if value is None:
        return {"NULL": True}
    if isinstance(value, tuple | list):
        return {"L": [_packed(member) for member in value]}
    if isinstance(value, bytes):
        return {"B": b64encode(value).decode()}
    if isinstance(value, frozenset | set):
        members = [_packed(member) for member in value]
        types = {name for member in members for name in member}
        if len(types) == 1 and types < _IN_SETS:
            (name,) = types
            return {f"{name}S": [member[name] for member in members]}
    elif isinstance(value, Mapping):
        return {"M": {name: _packed(member) for name, member in value.items()}}
    raise TypeError(f"DynamoDB cannot store a {type(value).__name__}")


def _unpacked(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return _FROM_TYPED[kind](content)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # such as 1E+2
        return int(Decimal(text))


_FROM_TYPED: dict[str, Callable[[Any], Any]] = {
    "S": str,
    "N": _number,
    "BOOL": bool,
    "NULL": lambda _: None,
    "B": b64decode,
    "L": lambda members: tuple(map(_unpacked, members)),
    "M": unpack,
    "SS": frozenset,
    "NS": lambda texts: frozenset(map(_number, texts)),
    "BS": lambda texts: frozenset(map(b64decode, texts)),
}
