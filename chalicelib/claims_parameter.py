"""The `claims` parameter of an authorization request (OpenID Connect Core section 5.5). Pure.

What is kept of it: the claims that can be released, by where they are to go, and whom a `sub` names:
`{"userinfo": {"email": {}}, "id_token": {"sub": {"values": ("xyz",)}}}`. A claim can be released to a client that is
registered for its scope: to ask by name is no way around the registration.
"""

import json
import re
from typing import Any, NoReturn

from chalicelib import claims
from chalicelib.errors import InvalidRequest, UnmetAuthenticationRequirements
from chalicelib.models import AuthorizationRequest, Client

LONGEST = 8192
MEMBERS = ("userinfo", "id_token")
# OpenID Connect Core section 2: a sub is ASCII, of 255 characters at most.
_SUB = re.compile(r"[\x20-\x7e]{1,255}")


def read(text: str, client: Client) -> dict[str, dict[str, Any]]:
    """What is asked for. Unknown members and claims are ignored.

    Raises InvalidRequest when it is no JSON, or not of the form that the specification gives;
    UnmetAuthenticationRequirements for an `acr` that must be, and cannot.
    """
    try:
        parsed = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The claims are not valid JSON.") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("The claims must be a JSON object.")
    wanted: dict[str, dict[str, Any]] = {}
    for member in MEMBERS:
        named = parsed.get(member, {})
        if not isinstance(named, dict):
            raise InvalidRequest(f"The member {member} of the claims must be a JSON object.")
        wanted[member] = {name: _checked(how) for name, how in named.items()}
    _check_acr(wanted["id_token"].get("acr", {}))
    released = {name for scope, (_, names) in claims.SCOPES.items() if scope in client.scopes for name in names}
    kept: dict[str, dict[str, Any]] = {}
    for member in MEMBERS:
        kept[member] = {name: {} for name in wanted[member] if name in released and name != "sub"}
        if values := _values(wanted[member].get("sub", {})):
            kept[member]["sub"] = {"values": _subjects(values)}
    return {member: names for member, names in kept.items() if names}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _checked(how: Any) -> dict[str, Any]:
    """How one claim is asked for (section 5.5.1): null, or an object."""
    how = {} if how is None else how
    if not isinstance(how, dict):
        raise InvalidRequest("Each of the claims must be null or a JSON object.")
    if not isinstance(how.get("essential", False), bool) or not isinstance(how.get("values", []), list):
        raise InvalidRequest("Of a claim, essential must be true or false, and values a list.")
    return how


def _values(how: dict[str, Any]) -> list[Any]:
    values: list[Any] = how.get("values", [how["value"]] if "value" in how else [])
    return values


def _check_acr(how: dict[str, Any]) -> None:
    """Section 5.5.1.1: an essential `acr` that cannot be is a failed sign-in."""
    if how.get("essential") and _values(how) and not any(acr in _values(how) for acr in claims.ACR_VALUES):
        raise UnmetAuthenticationRequirements("Nobody can sign in here with the acr that is essential.")


def _subjects(values: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) and _SUB.fullmatch(value) for value in values):
        raise InvalidRequest("The value of a sub must be a string of ASCII, of 255 characters at most.")
    return tuple(values)


def fits(request: AuthorizationRequest, subject: str) -> bool:
    """Whether the request may be answered for the person whom its client knows as `subject`.

    OpenID Connect Core sections 3.1.2.2 and 5.5.1: not when a `sub` was asked for by value, and this is another.
    """
    named = [how["values"] for names in request.claims.values() for name, how in names.items() if name == "sub"]
    return all(subject in values for values in named)
