"""Registering a user: the rules for usernames and passwords, and the new record."""

import secrets
from dataclasses import replace
from typing import Any

from chalicelib.authentication import passwords
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.records import Identifier, User
from chalicelib.settings import is_printable
from chalicelib.storage.dynamodb import is_possible_key
from chalicelib.storage.store import Store

GENERATION_BITS = 48


def check_username(username: str) -> None:
    """Check that a user may have this username. Raises ValueError with a sentence for the operator."""
    if not is_printable(username) or username != username.strip():
        raise ValueError("The username must have 1 to 200 printable characters, and no spaces around it.")
    if not is_possible_key((username_identifier(username),)):  # normalisation makes up to 18 characters of one
        raise ValueError("The username is too long.")


def check_password(password: str | None) -> None:
    """Check that a user may have this password, if there is one. Raises ValueError with a sentence for the operator."""
    if password is not None and (problem := passwords.find_problem(password)):
        raise ValueError(f"The password is not acceptable. {problem}")


def with_new_generations(user: User) -> User:
    """Return a new user with random generations, so that no record of an earlier user with the same `sub` is valid."""
    sessions, grants, consents = (secrets.randbits(GENERATION_BITS) for _ in range(3))
    return replace(user, sessions_generation=sessions, grants_generation=grants, consents_generation=consents)


def register_user(
    store: Store,
    *,
    username: str,
    password: str | None = None,
    claims: dict[str, Any] | None = None,
    admin: bool = False,
) -> tuple[User, str | None]:
    """Store a new user; return the record and, when no password was given, the random one.

    A random password must be replaced at the first sign-in. Raises ValueError, with a sentence for the operator, when
    the username or the password is not acceptable, or the username is taken.
    """
    check_username(username)
    check_password(password)
    random_password = passwords.generate_password() if password is None else None
    user = with_new_generations(
        User(
            sub=new_id(),
            username=username,
            password_hash=passwords.hash_password(random_password or password or ""),
            claims=claims or {},
            admin=admin,
            password_change_required=random_password is not None,
            created_at=store.now(),
        )
    )
    refused = store.transact(
        store.identifiers.inserting(Identifier(username_identifier(username), user.sub)),
        store.users.inserting(user),
    )
    if refused:
        raise ValueError(f"The username {username} is taken.")
    return user, random_password
