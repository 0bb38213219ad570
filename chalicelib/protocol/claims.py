"""Claims about a user, requested by scope and by name (OpenID Connect Core sections 5.1, 5.4 and 5.5)."""

from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.protocol.custom_claims import is_custom_claim
from chalicelib.protocol.records import User
from chalicelib.protocol.scopes import SCOPES

# The claims of tokens that are not about the user (OpenID Connect Core section 2)
TOKEN_CLAIMS = ("iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid")
# claim -> its description on the consent page, when a client requests it by name
_DESCRIPTIONS = {
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
    "email": "your email address",
    "email_verified": "whether your email address is verified",
    "address": "your postal address",
    "phone_number": "your phone number",
    "phone_number_verified": "whether your phone number is verified",
    "groups": "the groups that you belong to",
}
# The claims that the operator may let users change, in the order of their page. Not among them: `preferred_username`,
# by which applications may look a user up, and what must be verified (email, phone number) or is computed.
PROFILE_CLAIMS = (
    *("name", "given_name", "middle_name", "family_name", "nickname", "gender", "birthdate"),
    *("picture", "profile", "website", "locale", "zoneinfo"),
)
DEFAULT_PROFILE_CLAIMS = (
    *("name", "given_name", "family_name", "nickname", "birthdate", "website", "locale", "zoneinfo"),
)
# claim -> what the account page calls it; the scopes are those of these claims
LABELS = {
    "name": "Full name",
    "given_name": "First name",
    "middle_name": "Middle name",
    "family_name": "Last name",
    "nickname": "Nickname",
    "gender": "Gender",
    "birthdate": "Date of birth",
    "picture": "Address of your picture",
    "profile": "Address of your profile page",
    "website": "Address of your website",
    "locale": "Language",
    "zoneinfo": "Time zone",
    "email": "Email address",
    "phone_number": "Phone number",
}
SHOWN_SCOPE = ("profile", "email", "phone")
_SCOPE_OF = {claim: name for name, scope in SCOPES.items() for claim in scope.claims}


def describe_claim(name: str) -> str:
    """Return what the consent page says of a claim that is requested by name."""
    return f"See {_DESCRIPTIONS[name]}" if name in _DESCRIPTIONS else f"See “{name}” of your account"


def requested_claims(parameter: Mapping[str, Mapping[str, Any]], member: str) -> frozenset[str]:
    """Return the claims about the user that a `claims` parameter requests in `member`: `userinfo` or `id_token`."""
    names = parameter.get(member, ())
    return frozenset(name for name in names if name in _DESCRIPTIONS or is_custom_claim(name))


def requested_outside_scope(parameter: Mapping[str, Mapping[str, Any]], scope: frozenset[str]) -> frozenset[str]:
    """Return the claims that a `claims` parameter requests beyond the scope: each needs the user's consent."""
    return outside_scope(requested_claims(parameter, "userinfo") | requested_claims(parameter, "id_token"), scope)


def outside_scope(names: Iterable[str], scope: frozenset[str]) -> frozenset[str]:
    """Return the claims among `names` that no standard scope in `scope` releases, such as all custom claims."""
    return frozenset(name for name in names if _SCOPE_OF.get(name) not in scope)


def user_claims(user: User, scope: Iterable[str], names: Iterable[str] = ()) -> dict[str, Any]:
    """Return the claims about the user that the standard scopes in `scope`, and `names`, release, without `sub`.

    Members that are null or empty are left out (OpenID Connect Core section 5.3.2). But a user without groups has an
    empty list of them, so that an application can tell this from a missing scope.
    """
    stored = {**user.claims, "preferred_username": user.claims.get("preferred_username", user.username)}
    stored["groups"] = sorted(user.groups)
    released = [name for token in SCOPES if token in scope for name in SCOPES[token].claims]
    # No claim with a meaning for the protocol, whatever a scope names.
    names = sorted(name for name in names if name in _DESCRIPTIONS or is_custom_claim(name))
    claims = {name: _without_empty(stored[name]) for name in [*released, *names] if name in stored}
    return {
        name: value for name, value in claims.items() if name == "groups" or not (name == "sub" or _is_empty(value))
    }


def _without_empty(value: Any) -> Any:
    """Return a claim without its null or empty members, which an address may have (section 5.1.1)."""
    if isinstance(value, Mapping):
        members = {name: _without_empty(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if not _is_empty(member)}
    return value


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", (), [], {})
