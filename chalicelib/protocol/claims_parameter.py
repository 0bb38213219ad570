"""The `claims` parameter of an authorization request (OpenID Connect Core section 5.5).

The stored form has the claims that can be released, by destination, and the subjects that a `sub` names:
`{"userinfo": {"email": {}}, "id_token": {"sub": {"values": ("xyz",)}}}`. A claim is released only to a client that is
registered for its scope, so that requesting it by name is no way around the registration.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, NoReturn

from chalicelib.protocol import scopes
from chalicelib.protocol.client import Client
from chalicelib.protocol.custom_claims import is_custom_claim
from chalicelib.protocol.errors import InvalidRequest, UnmetAuthenticationRequirements
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.records import AuthorizationRequest

MAX_LENGTH = 8192
MAX_SUBJECTS = 5
MEMBERS = ("userinfo", "id_token")
# OpenID Connect Core section 2: a sub has at most 255 ASCII characters.
_SUB = re.compile(r"[\x20-\x7e]{1,255}")


def read(
    text: str, client: Client, acr_values: Collection[str], own_scopes: Callable[[], Iterable[Scope]] = tuple
) -> dict[str, dict[str, Any]]:
    """Return the stored form of a `claims` parameter. Unknown members and claims are ignored.

    `own_scopes` returns the operator's scopes that the client is registered for; it is called for custom claims only.
    `acr_values`: those that a sign-in can have. The stored form has the requested ones in the same form as a `sub`.
    Raises InvalidRequest when the text is not JSON of the specified form, and UnmetAuthenticationRequirements for an
    essential `acr` that no sign-in has.
    """
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The claims parameter is not valid JSON.") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("The claims parameter must be a JSON object.")
    requested: dict[str, dict[str, Any]] = {}
    for member in MEMBERS:
        names = parsed.get(member, {})
        if not isinstance(names, dict):
            raise InvalidRequest(f"The member {member} of the claims parameter must be a JSON object.")
        requested[member] = {name: _check_options(options) for name, options in names.items()}
    acr = _acr(requested["id_token"].get("acr", {}), acr_values)
    released = {name for token, scope in scopes.SCOPES.items() if token in client.scopes for name in scope.claims}
    custom = {name for names in requested.values() for name in names if is_custom_claim(name)}
    own = tuple(own_scopes()) if custom else ()
    result: dict[str, dict[str, Any]] = {}
    for member in MEMBERS:
        releasing = (scope.claims for scope in own if scope.may_release_in(member))
        allowed = released.union(*(names & custom for names in releasing)) - {"sub"}
        result[member] = {name: {} for name in requested[member] if name in allowed}
        if values := _values(requested[member].get("sub", {})):
            result[member]["sub"] = {"values": _check_subjects(values)}
    if acr:
        result["id_token"]["acr"] = acr
    return {member: names for member, names in result.items() if names}


def _refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{constant} is not JSON")


def _check_options(options: Any) -> dict[str, Any]:
    """Return the options of a requested claim (section 5.5.1): null, or an object."""
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise InvalidRequest("Each claim in the claims parameter must be null or a JSON object.")
    if not isinstance(options.get("essential", False), bool) or not isinstance(options.get("values", []), list):
        raise InvalidRequest("In the claims parameter, essential must be true or false, and values must be a list.")
    return options


def _values(options: dict[str, Any]) -> list[Any]:
    values: list[Any] = options.get("values", [options["value"]] if "value" in options else [])
    return values


def _acr(options: dict[str, Any], acr_values: Collection[str]) -> dict[str, Any]:
    """Return what is requested of the `acr`, without unknown values; rejects an essential one that no sign-in has."""
    values = _values(options)
    supported = tuple(value for value in values if value in acr_values)
    if options.get("essential") and values and not supported:  # section 5.5.1.1
        raise UnmetAuthenticationRequirements("This server does not support the essential acr values.")
    if not supported:
        return {}
    return {"values": supported} | ({"essential": True} if options.get("essential") else {})


def _check_subjects(values: list[Any]) -> tuple[str, ...]:
    if len(values) > MAX_SUBJECTS:
        raise InvalidRequest(f"The claims parameter names more than {MAX_SUBJECTS} values of sub.")
    if not all(isinstance(value, str) and _SUB.fullmatch(value) for value in values):
        raise InvalidRequest("The value of sub must be an ASCII string of at most 255 characters.")
    return tuple(values)


def allows_subject(request: AuthorizationRequest, subject: str) -> bool:
    """Return whether the request may be answered for the user whom its client knows as `subject`.

    False when the request names `sub` values, and this is not among them (OpenID Connect Core sections 3.1.2.2 and
    5.5.1).
    """
    required = [names["sub"]["values"] for names in request.claims.values() if "sub" in names]
    return all(subject in values for values in required)
