"""Authorization details (RFC 9396) in the playground: an example to ask for, and what was granted."""

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.protocol.authorization_details import PARAMETER, Description, describe, to_text
from chalicelib.protocol.authorization_type import AuthorizationType
from chalicelib.protocol.example_details import example_of, needs_location
from chalicelib.server import AuthorizationServer
from chalicelib.tokens.authorization_details import find_types
from chalicelib.tokens.resources import list_registered


def playground_types(server: AuthorizationServer) -> list[AuthorizationType]:
    """Return the types that the playground may ask for, in the order of their names. They are cached for 60 s."""
    types = find_types(server, server.playground_types())
    return [types[name] for name in sorted(types)]


def example_text(server: AuthorizationServer, types: list[AuthorizationType]) -> str:
    """Return authorization details to ask for, of the first of these types, as JSON; "" without a type."""
    if not types:
        return ""
    uris = list_registered(server).uris if needs_location(types[0]) else []
    return json.dumps([example_of(types[0], next(iter(uris), ""))], indent=2, ensure_ascii=False)


def granted_details(server: AuthorizationServer, response: Mapping[str, Any]) -> list[Description]:
    """Return the authorization details in a token response or an introspection response, in words."""
    details = response.get(PARAMETER, [])
    types = find_types(server, {each["type"] for each in details})
    return [describe(types[each["type"]], to_text(each)) for each in details if each["type"] in types]
