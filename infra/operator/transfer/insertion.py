"""Insert imported records: completely or not at all, and without changing existing records."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.authentication import passwords
from chalicelib.clients.metadata import check_client
from chalicelib.clients.registration import check_scope
from chalicelib.keys import signing
from chalicelib.protocol.errors import OAuthError, TemporarilyUnavailable
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.records import Client, Consent, Identifier, Scope, User
from chalicelib.storage.dynamodb import is_possible_key
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused
from chalicelib.users.registration import check_username
from infra.operator.transfer.json_lines import Record

# OpenID Connect Core section 2: at most 255 characters of ASCII.
_SUB = re.compile(r"[\x21-\x7e]{1,255}")
# DynamoDB allows 400 KB per item, 32 levels, and numbers of 38 digits.
MOST_BYTES = 100_000
MOST_LEVELS = 16
MOST_DIGITS = 38


@dataclass(frozen=True)
class Outcome:
    """The result of an insertion: `added`, an equal `existing` record, or a `problem`."""

    added: bool = False
    existing: Record | None = None
    problem: str = ""


def insert_record(store: Store, record: Record) -> Outcome:
    """Insert a record in one transaction.

    Raises TemporarilyUnavailable, after which it is unknown whether the record was inserted.
    """
    try:
        _check_values(vars(record))
        match record:
            case Client():
                return _insert_client(store, record)
            case User():
                return _insert_user(store, record)
            case Consent():
                return _insert_consent(store, record)
            case Scope():
                return _insert_scope(store, record)
    except TemporarilyUnavailable:
        raise
    except (OAuthError, ValueError, TypeError) as error:
        return Outcome(problem=getattr(error, "description", "") or str(error))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ValidationException":
            raise
        return Outcome(problem=f"DynamoDB cannot store it: {error.response['Error'].get('Message', '')}")


def _check_values(value: Any, level: int = 0) -> None:
    """Raise ValueError for a value that DynamoDB cannot store or would change."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError("it contains text that is not valid Unicode") from error
        case int() if abs(value) >= 10**MOST_DIGITS:
            raise ValueError(f"it contains a number of more than {MOST_DIGITS} digits")
        case Mapping() | tuple() | frozenset():
            if level > MOST_LEVELS:
                raise ValueError(f"it is nested in more than {MOST_LEVELS} levels")
            members: Iterable[Any] = [*value, *value.values()] if isinstance(value, Mapping) else value
            for member in members:
                _check_values(member, level + 1)


def _insert_client(store: Store, client: Client) -> Outcome:
    check_client(client, signing.algorithms(store.settings))
    if store.users.get(client.client_id):
        raise ValueError("its client_id is the sub of a user")  # RFC 9700 section 4.15
    if store.clients.insert(client):
        return Outcome(added=True)
    existing = store.clients.get(client.client_id)
    if existing and replace(existing, secret_hashes=client.secret_hashes) == client:
        return Outcome(existing=existing)
    return Outcome(problem=f"a different client {client.client_id} exists and was not changed")


def _insert_user(store: Store, user: User) -> Outcome:
    check_username(user.username)
    if not _SUB.fullmatch(user.sub):
        raise ValueError("its sub is not 1 to 255 printable ASCII characters")
    if user.password_hash and not passwords.is_supported_hash(user.password_hash):
        raise ValueError("its password_hash has an unknown format")
    if len(json.dumps(user.claims)) > MOST_BYTES:
        raise ValueError("its claims are too large")
    if store.clients.get(user.sub):
        raise ValueError("its sub is the client_id of a client")
    identifier = Identifier(username_identifier(user.username), user.sub)
    refused = store.transact(store.identifiers.inserting(identifier), store.users.inserting(user))
    if not refused:
        return Outcome(added=True)
    conflicting_identifier, existing = (refusal.record if isinstance(refusal, Refused) else None for refusal in refused)
    if conflicting_identifier is not None and conflicting_identifier.sub != user.sub:
        return Outcome(problem=f"the username {user.username} belongs to another user")
    if conflicting_identifier is None or existing is None:
        return Outcome(problem=f"the sub {user.sub} belongs to a user with another username")
    if _comparable(existing) == _comparable(user):
        return Outcome(existing=existing)
    return Outcome(problem=f"the user {user.username} exists with other data and was not changed")


def _comparable(user: User) -> tuple[object, ...]:
    """Return the values that make two records equal. The password is not one: it may have changed since the export."""
    return user.username, user.claims, user.admin, user.disabled_at is None


def _insert_consent(store: Store, consent: Consent) -> Outcome:
    if not is_possible_key((consent.sub, consent.client_id)):
        raise ValueError("its sub or client_id is invalid")
    user, client = store.users.checking((consent.sub,)), store.clients.checking((consent.client_id,))
    inserting = store.consents.inserting(consent)
    refused = store.transact(user, client, inserting)
    if not refused:
        return Outcome(added=True)
    if refused.of(user):
        return Outcome(problem="its user does not exist")
    if refused.of(client):
        return Outcome(problem="its client does not exist")
    refusal = refused.of(inserting)
    existing = refusal.record if refusal else None
    if existing and existing.scope == consent.scope:
        return Outcome(existing=existing)
    return Outcome(problem=f"a different consent of {consent.sub} to {consent.client_id} exists and was not changed")


def _insert_scope(store: Store, scope: Scope) -> Outcome:
    check_scope(scope)
    if store.scopes.insert(scope):
        return Outcome(added=True)
    existing = store.scopes.get(scope.scope)
    if existing == scope:
        return Outcome(existing=existing)
    return Outcome(problem=f"the scope {scope.scope} exists with other data and was not changed")
