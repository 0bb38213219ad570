"""The names that a user signs in with, as records: the username, and the email address once it is verified.

An address that is not verified has no record, so that no user can occupy another one's.
"""

from typing import Any

from chalicelib.mail.notices import verified_address
from chalicelib.protocol.identifiers import email_identifier, username_identifier
from chalicelib.protocol.records import Identifier, User
from chalicelib.protocol.texts import Text
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused, Write

TAKEN = Text("The email address belongs to another user.")


def address_identifier(user: User) -> str | None:
    """Return the storage key of a user's verified address; None without one, or if no email can be sent to it."""
    address = verified_address(user)
    return email_identifier(address) if address else None


def inserting(store: Store, user: User) -> list[Write[Any]]:
    """Return the writes that insert the identifiers of a new user, of which the first is that of the username."""
    username = Identifier(username_identifier(user.username), user.sub)
    return [store.identifiers.inserting(username), *_claiming(store, user)]


def replacing(store: Store, before: User, after: User) -> list[Write[Any]]:
    """Return the writes that replace the identifiers of a user by those that the changed user has.

    A write is refused when another user has the identifier.
    """
    writes: list[Write[Any]] = []
    of_user = attr("sub").eq(after.sub)
    old, new = username_identifier(before.username), username_identifier(after.username)
    if old != new:
        writes += [store.identifiers.inserting(Identifier(new, after.sub))]
        writes += [store.identifiers.deleting((old,), of_user)]
    old_address = address_identifier(before)
    if old_address != address_identifier(after):
        writes += _claiming(store, after)
        current = store.identifiers.get(old_address) if old_address else None
        if old_address and current and current.sub == after.sub:  # users of earlier versions have none
            writes.append(store.identifiers.deleting((old_address,), of_user))
    return writes


def deleting(store: Store, user: User) -> list[Write[Any]]:
    """Return the writes that delete the identifiers of a user which are still theirs."""
    keys = [username_identifier(user.username), address_identifier(user)]
    lookups = [store.identifiers.lookup(key) for key in keys if key]
    records = store.read_all(lookups)
    current = [record for lookup in lookups if (record := records.get(lookup)) and record.sub == user.sub]
    return [store.identifiers.deleting((record.identifier,)) for record in current]


def is_used_by_another(store: Store, address: str, sub: str | None) -> bool:
    """Return whether another user has this address, verified or as a username. Raises ValueError when it is none."""
    lookups = [store.identifiers.lookup(key) for key in (username_identifier(address), email_identifier(address))]
    records = store.read_all(lookups)
    return any(record.sub != sub for lookup in lookups if (record := records.get(lookup)))


def problem_of(refused: Refused[Any]) -> str:
    """Return the sentence for a refusal by another user's identifier."""
    record = refused.record
    is_address = isinstance(record, Identifier) and record.identifier.startswith("email:")
    return TAKEN if is_address else Text("The username is taken.")


def _claiming(store: Store, user: User) -> list[Write[Any]]:
    """Return the write that makes a verified address the user's, also if it is already."""
    key = address_identifier(user)
    if key is None:
        return []
    of_user = attr("sub").eq(user.sub)
    return [store.identifiers.changing((key,), of_user, {"sub": user.sub}, create=True)]
