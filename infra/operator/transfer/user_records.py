"""Insert imported users, each with the names that they sign in with."""

import json
import re

from chalicelib import builtin_clients
from chalicelib.authentication import passwords
from chalicelib.protocol.custom_claims import check_custom_claims, check_groups
from chalicelib.protocol.records import User
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused
from chalicelib.users import deletion, identifiers
from chalicelib.users.accounts import delete_history
from chalicelib.users.registration import check_username, with_new_generations
from infra.operator.transfer.outcome import Outcome

# DynamoDB allows 400 KB per item.
MOST_BYTES = 100_000
# OpenID Connect Core section 2: at most 255 characters of ASCII.
_SUB = re.compile(r"[\x21-\x7e]{1,255}")


def insert_user(store: Store, user: User) -> Outcome:
    """Insert a user. Raises ValueError when the record is not valid."""
    check_username(user.username)
    if not _SUB.fullmatch(user.sub):
        raise ValueError("its sub is not 1 to 255 printable ASCII characters")
    if user.password_hash and not passwords.is_supported_hash(user.password_hash):
        raise ValueError("its password_hash has an unknown format")
    if len(json.dumps(user.claims)) > MOST_BYTES:
        raise ValueError("its claims are too large")
    check_custom_claims(user.claims)
    check_groups(user.groups)
    same_sub, client = store.read(store.users.lookup(user.sub), store.clients.lookup(user.sub))
    if client or user.sub in builtin_clients.RESERVED:
        raise ValueError("its sub is the client_id of a client")
    if same_sub is None:
        delete_history(store, user.sub)  # of an earlier user
    inserting, of_names = store.users.inserting(with_new_generations(user)), identifiers.inserting(store, user)
    # What the user has deleted before the export is removed at the same time here.
    scheduling = [deletion.schedule(store, user)] if user.deleted_at is not None else []
    refused = store.transact(*of_names, inserting, *scheduling)
    if not refused:
        return Outcome(added=True)
    if any(refused.of(of_address) for of_address in of_names[1:]):
        return Outcome(problem=f"the email address of {user.username} is verified for another user")
    conflicting_identifier, existing = (
        refusal.record if isinstance(refusal, Refused) else None
        for refusal in (refused.of(of_names[0]), refused.of(inserting))
    )
    if conflicting_identifier is not None and conflicting_identifier.sub != user.sub:
        return Outcome(problem=f"the username {user.username} belongs to another user")
    if conflicting_identifier is None or existing is None:
        return Outcome(problem=f"the sub {user.sub} belongs to a user with another username")
    if _comparable_user(existing) == _comparable_user(user):
        return Outcome(existing=existing)
    return Outcome(problem=f"the user {user.username} exists with other data and was not changed")


def _comparable_user(user: User) -> tuple[object, ...]:
    """Return the values that make two records equal. The password is not one: it may have changed since the export."""
    return user.username, user.claims, user.admin, user.groups, user.disabled_at is None, user.deleted_at
