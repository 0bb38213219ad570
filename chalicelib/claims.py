"""Claims about a person, by scope and by name (OpenID Connect Core sections 5.1, 5.4 and 5.5)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from chalicelib.models import User

# How people sign in (OpenID Connect Core section 2, `acr`, which should be a URI): by a password over TLS.
ACR_VALUES = ("urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport",)
# What a token says beside claims about the person (OpenID Connect Core section 2)
OF_TOKENS = ("iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid")
# scope -> what the consent page says of it, and the claims that it releases
SCOPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "openid": ("Know who you are here", ("sub",)),
    "profile": (
        "See your name and profile",
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
    "email": ("See your e-mail address", ("email", "email_verified")),
    "address": ("See your postal address", ("address",)),
    "phone": ("See your phone number", ("phone_number", "phone_number_verified")),
    "offline_access": ("Stay connected when you are not here", ()),
}


# claim -> its name for people, as it stands on the consent page when it is asked for by itself
_WORDS = {
    "name": "your name",
    "family_name": "your last name",
    "given_name": "your first name",
    "middle_name": "your middle name",
    "nickname": "your nickname",
    "preferred_username": "your username",
    "profile": "the address of your profile page",
    "picture": "your picture",
    "website": "the address of your website",
    "gender": "your gender",
    "birthdate": "your date of birth",
    "zoneinfo": "your time zone",
    "locale": "your language",
    "updated_at": "when your profile was last changed",
    "email": "your e-mail address",
    "email_verified": "whether your e-mail address was checked",
    "address": "your postal address",
    "phone_number": "your phone number",
    "phone_number_verified": "whether your phone number was checked",
}
_SCOPE_OF = {claim: scope for scope, (_, names) in SCOPES.items() for claim in names}


def describe(scope: str) -> str:
    """A scope in plain words; a scope of the operator's own stands for itself."""
    return SCOPES[scope][0] if scope in SCOPES else scope


def in_order(scopes: Collection[str]) -> list[str]:
    """Scopes as people should read them: who one is, what is seen, the operator's own, and `offline_access` last."""
    last = "offline_access"
    standard = [name for name in SCOPES if name in scopes and name != last]
    return [*standard, *sorted({*scopes} - SCOPES.keys()), *([last] if last in scopes else [])]


def describe_claim(name: str) -> str:
    """A claim that is asked for by its name, in plain words."""
    return f"See {_WORDS[name]}"


def named(requested: Mapping[str, Mapping[str, Any]], member: str) -> frozenset[str]:
    """The claims about the person that one member of a `claims` parameter asks for, `userinfo` or `id_token`."""
    return frozenset(name for name in requested.get(member, ()) if name in _WORDS)


def asked(requested: Mapping[str, Mapping[str, Any]], scope: frozenset[str]) -> frozenset[str]:
    """Of what a `claims` parameter asks for, the claims that no scope covers: the person has to agree to each."""
    return uncovered(named(requested, "userinfo") | named(requested, "id_token"), scope)


def uncovered(names: Iterable[str], scope: frozenset[str]) -> frozenset[str]:
    """Of these claims, those that none of these scopes releases."""
    return frozenset(name for name in names if _SCOPE_OF[name] not in scope)


def of_user(user: User, scope: Iterable[str], names: Iterable[str] = ()) -> dict[str, Any]:
    """The claims about a person that these scopes and names release, `sub` not among them.

    What is not known is left out: no member is null or empty (OpenID Connect Core section 5.3.2).
    """
    known = {**user.claims, "preferred_username": user.claims.get("preferred_username", user.username)}
    released = [name for token in SCOPES if token in scope for name in SCOPES[token][1]]
    found = {name: _present(known[name]) for name in [*released, *sorted(names)] if name in known and name != "sub"}
    return {name: value for name, value in found.items() if _says_something(value)}


def _present(value: Any) -> Any:
    """A claim without members that are null or empty: an address has members of its own (section 5.1.1)."""
    if isinstance(value, Mapping):
        inner = {name: _present(member) for name, member in value.items()}
        return {name: member for name, member in inner.items() if _says_something(member)}
    return value


def _says_something(value: Any) -> bool:
    return value is not None and value not in ("", (), [], {})
