"""Scopes: their grammar (RFC 6749 section 3.3), and the standard ones (OpenID Connect Core section 5.4)."""

import re
from collections.abc import Collection
from typing import NamedTuple

from chalicelib.protocol.errors import InvalidScope
from chalicelib.protocol.texts import Text

MAX_SCOPE_TOKENS = 100
# RFC 6749 section 3.3; the maximum length is Signet's own.
SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")


class StandardScope(NamedTuple):
    """A scope that every server has: its description on the consent page, and the claims that it releases."""

    description: Text
    claims: tuple[str, ...] = ()


SCOPES = {
    "openid": StandardScope(Text("Recognize you (your user ID here)"), ("sub",)),
    "profile": StandardScope(
        Text("See your name and profile"),
        (
            "name",
            "family_name",
            "given_name",
            "middle_name",
            "nickname",
            "preferred_username",
            "profile",
            "picture",
            "website",
            "gender",
            "birthdate",
            "zoneinfo",
            "locale",
            "updated_at",
        ),
    ),
    "email": StandardScope(Text("See your email address"), ("email", "email_verified")),
    "address": StandardScope(Text("See your postal address"), ("address",)),
    "phone": StandardScope(Text("See your phone number"), ("phone_number", "phone_number_verified")),
    "groups": StandardScope(Text("See the groups that you belong to"), ("groups",)),
    "offline_access": StandardScope(Text("Keep access while you are away")),
}
# What clients that the operator has not registered can ask for by default: not what the organization says of the user.
OPEN_SCOPES = tuple(name for name in SCOPES if name != "groups")
CLAIMS = tuple(claim for scope in SCOPES.values() for claim in scope.claims)


def parse_scope(text: str) -> frozenset[str]:
    """Return the tokens of a scope. Extra spaces are ignored: some clients join lists with empty members.

    Raises InvalidScope when the scope is malformed, or has more tokens than a client can register.
    """
    tokens = [token for token in text.split(" ") if token]
    if not 1 <= len(tokens) <= MAX_SCOPE_TOKENS or not all(map(SCOPE_TOKEN.fullmatch, tokens)):
        raise InvalidScope(f"The scope must be 1 to {MAX_SCOPE_TOKENS} tokens separated by spaces (RFC 6749 3.3).")
    return frozenset(tokens)


def describe_scope(scope: str) -> str:
    """Return the description of a standard scope; any other scope as it is."""
    return SCOPES[scope].description if scope in SCOPES else scope


def sort_scopes(scopes: Collection[str]) -> list[str]:
    """Return scopes in the order of the consent page: standard ones, the operator's, and `offline_access` last."""
    last = "offline_access"
    standard = [name for name in SCOPES if name in scopes and name != last]
    return [*standard, *sorted({*scopes} - SCOPES.keys()), *([last] if last in scopes else [])]
