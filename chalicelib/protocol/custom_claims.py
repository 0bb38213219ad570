"""Groups and custom claims of users: which names and values are accepted.

Both are released in tokens, which travel in header fields and cookies, so a user has at most what fits there.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from chalicelib.protocol.compact_json import to_json
from chalicelib.protocol.records import User
from chalicelib.protocol.scopes import CLAIMS
from chalicelib.protocol.texts import UNPRINTABLE, is_printable

MAX_GROUPS = 100
MAX_GROUP_LENGTH = 100
MAX_GROUPS_BYTES = 4096  # of all groups, as JSON in a token
MAX_CLAIMS_BYTES = 2048  # of all custom claims, as JSON in a token
MAX_LEVELS = 4
MAX_INTEGER = 2**53 - 1  # RFC 8259 section 6: what every JSON parser reads exactly
MAX_NAME_LENGTH = 200
_STANDARD = frozenset(CLAIMS) - {"sub", "groups"}  # these two are not in the claims of a user's record
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_URI = re.compile(r"https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
# Claims and members with a meaning for the protocol: in JWTs (IANA "JSON Web Token Claims"), at UserInfo, in
# introspection responses (RFC 7662 section 2.2) and in JOSE headers.
_PROTOCOL = frozenset(
    {
        *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "acr", "amr", "auth_time", "nonce", "sid", "cnf"),
        *(
            "at_hash",
            "c_hash",
            "s_hash",
            "rt_hash",
            "ds_hash",
            "sub_jwk",
            "sub_id",
            "act",
            "may_act",
            "scope",
            "events",
        ),
        *("toe", "txn", "client_id", "grant_id", "authorization_details", "active", "token_type", "username", "vot"),
        *("vtm", "htm", "htu", "ath", "_claim_names", "_claim_sources", "alg", "kid", "typ", "cty", "crit", "jwk"),
        *("jku", "x5u", "x5c", "x5t", "b64", "error", "error_description", "error_uri", "password", "verified_claims"),
    }
)
# Names that JavaScript objects have, or treat in a special way.
_OF_OBJECTS = frozenset(
    {
        *("__proto__", "constructor", "prototype", "hasownproperty", "isprototypeof", "propertyisenumerable"),
        *("tolocalestring", "tostring", "valueof", "tojson", "then"),
    }
)
_RESERVED = frozenset({*_PROTOCOL, *_OF_OBJECTS, *CLAIMS, *(field.name for field in fields(User))})


def is_custom_claim(name: str) -> bool:
    """Return whether a claim can have this name: a word, or an https URI; not that of a standard or protocol claim."""
    if name.casefold() in _RESERVED:
        return False
    return bool(_NAME.fullmatch(name)) or (len(name) <= MAX_NAME_LENGTH and bool(_URI.fullmatch(name)))


def check_claim_name(name: str) -> None:
    """Check the name of a custom claim. Raises ValueError with a sentence for the operator."""
    if name == "groups":
        raise ValueError("The claim groups is set with --group.")
    if name.casefold() in _RESERVED:
        raise ValueError(f"The name {name} has a meaning of its own, and cannot be that of a custom claim.")
    if not is_custom_claim(name):
        raise ValueError(
            f"{name} cannot be the name of a custom claim, which starts with a letter and has at most 64 letters, "
            "digits, dots, hyphens and underscores, or is an https URI."
        )


def check_custom_claims(claims: Mapping[str, Any]) -> None:
    """Check the custom claims of a user, among others. Raises ValueError with a sentence for the operator."""
    custom = {name: value for name, value in claims.items() if name not in _STANDARD}
    for name, value in custom.items():
        check_claim_name(name)
        _check_value(name, value)
    if _size(custom) > MAX_CLAIMS_BYTES:
        raise ValueError(f"The custom claims of a user can have {MAX_CLAIMS_BYTES} bytes as JSON, so that tokens fit.")


def check_groups(groups: Collection[str]) -> None:
    """Check the groups of a user. Raises ValueError with a sentence for the operator."""
    for group in groups:
        # Proxies send groups as one header field, separated by commas.
        if not is_printable(group) or len(group) > MAX_GROUP_LENGTH or "," in group or group != group.strip():
            raise ValueError(
                f"A group must have 1 to {MAX_GROUP_LENGTH} printable characters, no comma and no spaces around it."
            )
    if len(groups) > MAX_GROUPS or _size(sorted(groups)) > MAX_GROUPS_BYTES:
        raise ValueError(
            f"A user can have {MAX_GROUPS} groups, of {MAX_GROUPS_BYTES} bytes as JSON in all, so that tokens fit."
        )


def freeze(value: Any) -> Any:
    """Return the value with tuples instead of lists, at all levels, as the store returns it."""
    if isinstance(value, list | tuple):
        return tuple(freeze(member) for member in value)
    return {key: freeze(member) for key, member in value.items()} if isinstance(value, dict) else value


def _check_value(name: str, value: Any, level: int = 1) -> None:
    if level > MAX_LEVELS:
        raise ValueError(f"The claim {name} is nested in more than {MAX_LEVELS} levels.")
    match value:
        case bool():
            pass
        case int() if abs(value) > MAX_INTEGER:
            raise ValueError(f"The claim {name} has a number beyond {MAX_INTEGER}.")
        case int():
            pass
        case str() if UNPRINTABLE.search(value):
            raise ValueError(f"The claim {name} must have printable characters only.")
        case str():
            pass
        case list() | tuple():
            for member in value:
                _check_value(name, member, level + 1)
        case Mapping():
            for key, member in value.items():
                if not isinstance(key, str) or not is_printable(key) or key.casefold() in _OF_OBJECTS:
                    raise ValueError(f"The claim {name} has a member whose name is not accepted.")
                _check_value(name, member, level + 1)
        case _:  # None, and fractions, which change when they are stored
            raise ValueError(f"The claim {name} can have strings, whole numbers, true, false, lists and objects.")


def _size(value: Any) -> int:
    return len(to_json(value))
