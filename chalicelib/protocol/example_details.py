"""An example of authorization details (RFC 9396): a value to start from, for pages that show how to ask for them."""

from typing import Any

from chalicelib.protocol.authorization_type import AuthorizationType

LOCATIONS = "locations"
_VALUES: dict[str, Any] = {"actions": ["read"], "datatypes": ["photos"], "privileges": ["user"]}


def needs_location(type_: AuthorizationType) -> bool:
    """Return whether an object of a type must name a resource, which the type does not say."""
    return not type_.uri and LOCATIONS in type_.required


def example_of(type_: AuthorizationType, resource: str = "") -> dict[str, Any]:
    """Return an object of a type with a value for each member that it may have.

    Its location is the resource of the type; else `resource`, if it must name one.
    """
    uri = type_.uri or (resource if needs_location(type_) else "")
    detail: dict[str, Any] = {"type": type_.name}
    for name in type_.labels:
        if name != LOCATIONS:
            detail[name] = _VALUES.get(name, "example")
        elif uri:
            detail[name] = [uri]
    return detail
