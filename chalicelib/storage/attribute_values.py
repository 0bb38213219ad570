"""Values in DynamoDB's typed form.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
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
    return {name: _unpacked(value) for name, value in item.items()}


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
    if isinstance(value, Mapping):
        return {"M": {name: _packed(member) for name, member in value.items()}}
    if isinstance(value, bytes):
        return {"B": b64encode(value).decode()}
    if isinstance(value, frozenset | set):
        members = [_packed(member) for member in value]
        types = {name for member in members for name in member}
        if len(types) == 1 and types < _IN_SETS:
            (name,) = types
            return {f"{name}S": [member[name] for member in members]}
    raise TypeError(f"DynamoDB cannot store a {type(value).__name__}")


def _unpacked(value: Mapping[str, Any]) -> Any:
    ((name, content),) = value.items()
    match name:
        case "S" | "BOOL":
            return content
        case "N":
            return _number(content)
        case "L":
            return tuple(_unpacked(member) for member in content)
        case "M":
            return {key: _unpacked(member) for key, member in content.items()}
        case "SS":
            return frozenset(content)
        case "B":
            return b64decode(content)
        case "NULL":
            return None
        case "NS":
            return frozenset(_number(text) for text in content)
        case "BS":
            return frozenset(b64decode(text) for text in content)
    raise TypeError(f"DynamoDB has no type {name}")


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else int(Decimal(text))
