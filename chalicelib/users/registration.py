"""Registering a user: the rules for usernames and passwords, and the new record."""

import secrets
from dataclasses import replace
from typing import Any

from chalicelib.authentication import password_rules, passwords
from chalicelib.protocol.custom_claims import check_groups
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.identifiers import trim, username_identifier
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import Text, is_printable
from chalicelib.settings import Settings
from chalicelib.storage.dynamodb import is_possible_key
from chalicelib.storage.store import Store
from chalicelib.users import identifiers

GENERATION_BITS = 48


def check_username(username: str) -> None:
    """Check that a user may have this username. Raises ValueError with a sentence for the operator."""
    if not is_printable(username) or username != trim(username):
        raise ValueError(Text("The username must have 1 to 200 printable characters, and no spaces around it."))
    if not is_possible_key((username_identifier(username),)):  # normalisation makes up to 18 characters of one
        raise ValueError(Text("The username is too long."))


def check_password(settings: Settings, user: User, password: str) -> None:
    """Check that a user may have this new password. Raises ValueError with a sentence for the operator."""
    if problem := password_rules.find_problem(settings, user, password):
        raise ValueError(f"The password is not acceptable. {problem}")


def with_new_generations(user: User) -> User:
    """Return a new user with random generations, so that no record of an earlier user with the same `sub` is valid."""
    sessions, grants, consents, password = (secrets.randbits(GENERATION_BITS) for _ in range(4))
    return replace(
        user,
        sessions_generation=sessions,
        grants_generation=grants,
        consents_generation=consents,
        password_generation=password,
    )


def new_user(store: Store, username: str, password: str) -> User:
    """Return the record of a new user, which is not stored."""
    password_hash = passwords.hash_password(password)
    return with_new_generations(User(new_id(), username, password_hash, claims={}, created_at=store.now()))


def register_user(
    store: Store,
    *,
    username: str,
    password: str | None = None,
    claims: dict[str, Any] | None = None,
    admin: bool = False,
    groups: frozenset[str] = frozenset(),
) -> tuple[User, str | None]:
    """Store a new user; return the record and, when no password was given, the random one.

    A random password must be replaced at the first sign-in. Raises ValueError, with a sentence for the operator, when
    the username, the password or a group is not acceptable, or the username is taken.
    """
    check_username(username)
    check_groups(groups)
    if password is not None:
        check_password(store.settings, User("", username, "", claims or {}), password)
    random_password = passwords.generate_password() if password is None else None
    user = replace(
        new_user(store, username, random_password or password or ""),
        claims=claims or {},
        admin=admin,
        groups=groups,
        password_change_required=random_password is not None,
    )
    of_names = identifiers.inserting(store, user)
    refused = store.transact(*of_names, store.users.inserting(user))
    if refused and refused.of(of_names[0]) is None:
        raise ValueError(identifiers.TAKEN)
    if refused:
        raise ValueError(f"The username {username} is taken.")
    return user, random_password
