"""Claims about a person, by scope (OpenID Connect Core sections 5.1 and 5.4)."""

from typing import Any

from chalicelib.models import User

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


def describe(scope: str) -> str:
    """A scope in plain words; a scope of the operator's own stands for itself."""
    return SCOPES[scope][0] if scope in SCOPES else scope


def of_user(user: User, scope: frozenset[str]) -> dict[str, Any]:
    """The claims about a person that these scopes release, `sub` always; what is not known is left out."""
    known = {**user.claims, "preferred_username": user.claims.get("preferred_username", user.username)}
    released = [name for token in SCOPES if token in scope for name in SCOPES[token][1]]
    return {"sub": user.sub} | {name: known[name] for name in released if name in known}
