"""Claims about a user, requested by scope and by name (OpenID Connect Core sections 5.1, 5.4 and 5.5)."""

from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.protocol.custom_claims import is_custom_claim
from chalicelib.protocol.records import User
from chalicelib.protocol.scopes import SCOPES
from chalicelib.protocol.texts import Text

# The claims of tokens that are not about the user (OpenID Connect Core section 2)
TOKEN_CLAIMS = ("iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid")
# claim -> its description on the consent page, when a client requests it by name
_DESCRIPTIONS = {
    "name": Text("See your name"),
    "family_name": Text("See your last name"),
    "given_name": Text("See your first name"),
    "middle_name": Text("See your middle name"),
    "nickname": Text("See your nickname"),
    "preferred_username": Text("See your username"),
    "profile": Text("See the address of your profile page"),
    "picture": Text("See your picture"),
    "website": Text("See the address of your website"),
    "gender": Text("See your gender"),
    "birthdate": Text("See your date of birth"),
    "zoneinfo": Text("See your time zone"),
    "locale": Text("See your language"),
    "updated_at": Text("See when your profile was last changed"),
    "email": Text("See your email address"),
    "email_verified": Text("See whether your email address is verified"),
    "address": Text("See your postal address"),
    "phone_number": Text("See your phone number"),
    "phone_number_verified": Text("See whether your phone number is verified"),
    "groups": Text("See the groups that you belong to"),
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
    "name": Text("Full name"),
    "given_name": Text("First name"),
    "middle_name": Text("Middle name"),
    "family_name": Text("Last name"),
    "nickname": Text("Nickname"),
    "gender": Text("Gender"),
    "birthdate": Text("Date of birth"),
    "picture": Text("Address of your picture"),
    "profile": Text("Address of your profile page"),
    "website": Text("Address of your website"),
    "locale": Text("Language"),
    "zoneinfo": Text("Time zone"),
    "email": Text("Email address"),
    "phone_number": Text("Phone number"),
}
SHOWN_SCOPE = ("profile", "email", "phone")
_SCOPE_OF = {claim: name for name, scope in SCOPES.items() for claim in scope.claims}


def describe_claim(name: str) -> Text:
    """Return what the consent page says of a claim that is requested by name."""
    return _DESCRIPTIONS.get(name) or Text("See “%(claim)s” of your account", claim=name)


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
