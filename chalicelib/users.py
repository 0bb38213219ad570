"""A person's account in the operator's hands: changed, disabled, removed, signed out everywhere, its grants ended.

Whatever ends sessions is one write on the user first: from then on no session counts, and none nor any grant is born.
What they leave behind is cleared away after that, in two passes, because an index lags behind its table.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chalicelib import claims
from chalicelib.dynamodb import attr
from chalicelib.ending import PASSES, end_all
from chalicelib.errors import AccessDenied
from chalicelib.models import Identifier, User
from chalicelib.registration import check_username, username_identifier
from chalicelib.settings import UNPRINTABLE
from chalicelib.store import Store
from chalicelib.table import Refused, Step

# The standard claims (OpenID Connect Core section 5.1): `sub` is not for anybody to set.
CLAIMS = tuple(name for _, names in claims.SCOPES.values() for name in names if name != "sub")
_TYPES: dict[str, type] = {"email_verified": bool, "phone_number_verified": bool, "updated_at": int, "address": dict}
_WORDS = {str: "a text", bool: "true or false", int: "a whole number", dict: "a JSON object"}
# OpenID Connect Core section 5.1.1
_ADDRESS = ("formatted", "street_address", "locality", "region", "postal_code", "country")
# What says that a claim was proven to be true, until that claim changes.
_PROOFS = {"email": "email_verified", "phone_number": "phone_number_verified"}
LONGEST = 2000


def type_of(claim: str) -> type:
    """The type of a standard claim's value (OpenID Connect Core section 5.1)."""
    return _TYPES.get(claim, str)


def check_claims(given: Mapping[str, Any]) -> None:
    """Raises ValueError, with a sentence for the operator, unless these are standard claims of the right kind."""
    for name, value in given.items():
        kind = type_of(name)
        if name not in CLAIMS:
            raise ValueError(f"{name} is no standard claim.")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"The claim {name} must be {_WORDS[kind]}.")
        if isinstance(value, int) and abs(value) >= 10**12:  # no calendar reaches so far, nor DynamoDB much farther
            raise ValueError(f"The claim {name} must be in seconds since 1970.")
        if isinstance(value, str) and not _is_text(value):
            raise ValueError(f"The claim {name} must have 1 to {LONGEST} printable characters.")
    for name, value in given.get("address", {}).items():
        if name not in _ADDRESS or not isinstance(value, str) or not _is_text(value.replace("\n", " ")):
            raise ValueError(f"The claim address has texts named {', '.join(_ADDRESS)}.")
    if "email" in given and not re.fullmatch(r"[^@\s]+@[^@\s]+", given["email"]):
        raise ValueError("The e-mail address must be such as alice@example.com.")


def _is_text(value: str) -> bool:
    return bool(value.strip()) and len(value) <= LONGEST and not UNPRINTABLE.search(value)


def with_claims(user: User, given: Mapping[str, Any], now: int) -> User:
    """A person with these claims beside those that they have; one that is None is taken away.

    An address or number that is another than before is not a verified one, unless that is said too.
    """
    known = user.claims | dict(given)
    for name, proof in _PROOFS.items():
        if known.get(name) != user.claims.get(name) and proof not in given:
            known.pop(proof, None)
    known = {name: value for name, value in known.items() if value is not None}
    if known != user.claims and "updated_at" not in given:
        known["updated_at"] = now
    return replace(user, claims=known)


def update(store: Store, user: User, change: Callable[[User], User]) -> User:
    """Change a person by a function of their record, a new username with its identifier; the record as it is then.

    Raises ValueError, with a sentence for the operator, when the result is not acceptable or the username is taken,
    and AccessDenied when the person is gone.
    """

    def checked(known: User) -> User:
        wanted = change(known)
        check_username(wanted.username)
        check_claims({name: value for name, value in wanted.claims.items() if value != known.claims.get(name)})
        return wanted

    def identifiers(before: User, after: User) -> list[Step[Any]]:
        old, new = username_identifier(before.username), username_identifier(after.username)
        if old == new:
            return []
        his = attr("sub").eq(user.sub)
        return [store.identifiers.inserting(Identifier(new, user.sub)), store.identifiers.deleting((old,), his)]

    changed = store.amend(store.users, user, checked, identifiers)
    if isinstance(changed, Refused) and changed.record is not None:
        raise ValueError("The username is taken.")
    return _still_there(changed)


def disable(store: Store, user: User) -> User:
    """Let a person sign in no more, and end all their sessions and grants; the record. Raises AccessDenied."""
    now = store.now()
    changed = _amend(store, user, lambda known: replace(_ended(known), disabled_at=known.disabled_at or now))
    for _ in range(PASSES):
        end_all(store, user.sub, offline_access=True)
    return changed


def enable(store: Store, user: User) -> User:
    """Let a disabled person sign in again; the record. Raises AccessDenied."""
    return _amend(store, user, lambda known: replace(known, disabled_at=None))


def sign_out(store: Store, user: User) -> User:
    """End all sessions of a person, and their grants but for those with `offline_access`; the record.

    Raises AccessDenied.
    """
    changed = _amend(store, user, _ended)
    for _ in range(PASSES):
        end_all(store, user.sub)
    return changed


def delete(store: Store, user: User) -> None:
    """Remove a person, and all that is theirs. One that was cut off is done again: the person goes last."""
    disable(store, user)
    for _ in range(PASSES):
        for session in store.sessions.find("sub", user.sub, index="sub"):
            store.sessions.delete(session.session_id)
        for grant in store.grants.find("sub", user.sub, index="sub"):
            store.grants.delete(grant.grant_id)
    for consent in store.consents.find("sub", user.sub):
        store.consents.delete(user.sub, consent.client_id)
    for event in store.events.find("sub", user.sub):
        store.events.delete(user.sub, event.event_id)
    while known := store.users.get(user.sub):
        steps: list[Step[Any]] = [store.users.deleting((user.sub,), attr("username").eq(known.username))]
        name = store.identifiers.get(username_identifier(known.username))
        if name and name.sub == user.sub:
            steps.append(store.identifiers.deleting((name.identifier,)))
        if store.transact(*steps) is None:
            return


def _ended(user: User) -> User:
    """A person whose sessions count no more."""
    return replace(user, sessions_generation=user.sessions_generation + 1)


def _amend(store: Store, user: User, change: Callable[[User], User]) -> User:
    changed = store.amend(store.users, user, change)
    return _still_there(changed)


def _still_there(changed: User | Refused[Any]) -> User:
    if isinstance(changed, Refused):
        raise AccessDenied("This account is not there any more.")
    return changed
