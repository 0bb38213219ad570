"""The operator's changes to a user's account: claims and username, disable, enable, sign out, delete.

A change that ends sessions or grants is one write on the user, whatever number of them there is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chalicelib.protocol import scopes
from chalicelib.protocol.custom_claims import check_custom_claims, check_groups, freeze
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import UNPRINTABLE
from chalicelib.sessions.active_grants import INDEX
from chalicelib.sessions.revocation import tell_clients, without_consents, without_grants, without_sessions
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused, Write
from chalicelib.users import identifiers, passkeys
from chalicelib.users.registration import check_username

# The standard claims (OpenID Connect Core section 5.1) except `sub`, which cannot be set. Groups have their own field.
CLAIMS = tuple(name for scope in scopes.SCOPES.values() for name in scope.claims if name not in ("sub", "groups"))
_TYPES: dict[str, type] = {"email_verified": bool, "phone_number_verified": bool, "updated_at": int, "address": dict}
_TYPE_NAMES = {str: "a string", bool: "true or false", int: "a whole number", dict: "a JSON object"}
# OpenID Connect Core section 5.1.1
_ADDRESS = ("formatted", "street_address", "locality", "region", "postal_code", "country")
# claim -> the claim that says it is verified
_VERIFIED = {"email": "email_verified", "phone_number": "phone_number_verified"}
MAX_TEXT = 2000
MAX_NUMBER = 10**12


def type_of(claim: str) -> type:
    """Return the type of a standard claim's value (OpenID Connect Core section 5.1)."""
    return _TYPES.get(claim, str)


def check_claims(claims: Mapping[str, Any]) -> None:
    """Check that these are standard claims of the right type, or custom ones.

    Raises ValueError with a sentence for the operator.
    """
    check_custom_claims(claims)
    for name, value in claims.items():
        expected = type_of(name)
        if name not in CLAIMS:
            continue
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise ValueError(f"The claim {name} must be {_TYPE_NAMES[expected]}.")
        if isinstance(value, int) and abs(value) >= MAX_NUMBER:  # DynamoDB stores 38 digits
            raise ValueError(f"The claim {name} must be in seconds since 1970.")
        if isinstance(value, str) and not _is_text(value):
            raise ValueError(f"The claim {name} must have 1 to {MAX_TEXT} printable characters.")
    for name, value in claims.get("address", {}).items():
        if name not in _ADDRESS or not isinstance(value, str) or not _is_text(value.replace("\n", " ")):
            raise ValueError(f"The claim address can only have the strings {', '.join(_ADDRESS)}.")
    if "email" in claims and not re.fullmatch(r"[^@\s]+@[^@\s]+", claims["email"]):
        raise ValueError("The email address must be like alice@example.com.")


def _is_text(value: str) -> bool:
    return bool(value.strip()) and len(value) <= MAX_TEXT and not UNPRINTABLE.search(value)


def with_claims(user: User, changes: Mapping[str, Any], now: int) -> User:
    """Return a user with changed claims; a claim that is None is removed.

    A new email address or phone number is no longer verified, unless `changes` say so. Mails are deliverable again to
    an address that `changes` name.
    """
    claims = user.claims | {name: freeze(value) for name, value in changes.items()}
    for name, verified in _VERIFIED.items():
        if claims.get(name) != user.claims.get(name) and verified not in changes:
            claims.pop(verified, None)
    claims = {name: value for name, value in claims.items() if value is not None}
    if claims != user.claims and "updated_at" not in changes:
        claims["updated_at"] = now
    undeliverable = None if "email" in changes else user.email_undeliverable
    return replace(user, claims=claims, email_undeliverable=undeliverable)


def update(store: Store, user: User, change: Callable[[User], User]) -> User:
    """Change a user by a function of their record, and return the new record. A new username replaces the identifier.

    Raises ValueError, with a sentence for the operator, when the result is not acceptable or the username is taken,
    and AccessDenied when the user no longer exists.
    """

    def change_and_check(current: User) -> User:
        changed = change(current)
        check_username(changed.username)
        claims = {name: value for name, value in changed.claims.items() if value != current.claims.get(name)}
        check_claims(claims)
        if claims.keys() - set(CLAIMS):  # with those that it has already
            check_custom_claims(changed.claims)
        check_groups(changed.groups)
        return changed

    def replace_identifiers(before: User, after: User) -> list[Write[Any]]:
        return identifiers.replacing(store, before, after)

    changed = store.amend(store.users, user, change_and_check, replace_identifiers)
    if isinstance(changed, Refused) and changed.record is not None:
        raise ValueError(identifiers.problem_of(changed))
    return _require_existing(changed)


def disable(store: Store, user: User) -> User:
    """Disable a user and end all their sessions and grants; return the new record. Raises AccessDenied."""
    now = store.now()

    def change(current: User) -> User:
        return replace(without_grants(without_sessions(current)), disabled_at=current.disabled_at or now)

    return _end_sessions(store, user, change)


def enable(store: Store, user: User) -> User:
    """Let a disabled user sign in again; return the new record. Raises AccessDenied."""
    changed = store.amend(store.users, user, lambda current: replace(current, disabled_at=None))
    return _require_existing(changed)


def sign_out(store: Store, user: User) -> User:
    """End all sessions of a user, with the grants that depend on them; return the new record. Raises AccessDenied."""
    return _end_sessions(store, user, without_sessions)


def reset_second_factor(store: Store, user: User, *also: Write[Any]) -> User:
    """Remove the second factor of a user, and end all their sessions; return the new record. Raises AccessDenied.

    `also`: further writes of the transaction.
    """

    def change(current: User) -> User:
        return replace(
            without_sessions(current),
            totp_secret=None,
            totp_confirmed_at=None,
            totp_generation=current.totp_generation + 1,
            recovery_codes=frozenset[str](),
            recovery_batch=None,
        )

    return _end_sessions(store, user, change, *also)


def end_all_grants(store: Store, user: User) -> User:
    """End all grants of a user and forget their consents; return the new record. Raises AccessDenied."""
    changed = store.amend(store.users, user, lambda current: without_consents(without_grants(current)))
    return _require_existing(changed)


def delete(store: Store, user: User) -> None:
    """Delete a user with all their records. Disabling ends everything; an interrupted deletion can be repeated."""
    disable(store, user)
    delete_records(store, user.sub)
    while current := store.users.get(user.sub):
        if store.transact(*deleting(store, current)) is None:
            return


def deleting(store: Store, user: User, if_: Condition | None = None) -> list[Write[Any]]:
    """Return the writes that delete a user's record and identifiers. They are refused unless it fulfils `if_`."""
    same = store.users.unchanged(user, "username", "claims")
    deleting_user = store.users.deleting((user.sub,), same if if_ is None else same & if_)
    return [deleting_user, *identifiers.deleting(store, user)]


def delete_records(store: Store, sub: str) -> None:
    """Delete the sessions, grants, consents and events of a `sub` that has no active user.

    Sessions whose clients must still be told stay until they expire.
    """
    for session in store.sessions.find("sub", sub, index="sub"):
        store.transact(store.sessions.deleting((session.session_id,), attr("backchannel_clients").not_exists()))
    for grant in store.grant_entries.find("sub", sub, index=INDEX):
        store.grants.delete(grant.grant_id)
    delete_history(store, sub)


def delete_history(store: Store, sub: str) -> None:
    """Delete the passkeys, consents and events under a `sub` that has no active user."""
    passkeys.remove_all(store, sub)
    for consent in store.consents.find("sub", sub):
        store.consents.delete(sub, consent.client_id)
    for event in store.events.find("sub", sub):
        store.events.delete(sub, event.event_id)


def _end_sessions(store: Store, user: User, change: Callable[[User], User], *also: Write[Any]) -> User:
    """Change a user in a way that ends their sessions, and tell the clients of these."""
    changed = store.amend(store.users, user, change, lambda _before, after: [tell_clients(store, after), *also])
    return _require_existing(changed)


def _require_existing(changed: User | Refused[Any]) -> User:
    if isinstance(changed, Refused):
        raise AccessDenied("This account no longer exists.")
    return changed
