"""Adds a record that comes from elsewhere: whole, or not at all, and never over one that is there."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from chalicelib import passwords, signing
from chalicelib.client_metadata import check_client
from chalicelib.dynamodb import possible_key
from chalicelib.errors import OAuthError, TemporarilyUnavailable
from chalicelib.models import Client, Consent, Identifier, Scope, User
from chalicelib.registration import check_scope, check_username, username_identifier
from chalicelib.store import Store
from chalicelib.table import Refused
from infra.transfer.lines import Record

# OpenID Connect Core section 2: at most 255 characters of ASCII.
_SUB = re.compile(r"[\x21-\x7e]{1,255}")
# DynamoDB holds 400 KB an item, in 32 levels, and numbers of 38 digits.
MOST_BYTES = 100_000
MOST_LEVELS = 16
MOST_DIGITS = 38


@dataclass(frozen=True)
class Outcome:
    """`added`, or not because `there` is a record like it already; or the `problem` that kept it out."""

    added: bool = False
    there: Record | None = None
    problem: str = ""


def add(store: Store, record: Record) -> Outcome:
    """Add a record in one transaction. Raises TemporarilyUnavailable; then it may or may not have been added."""
    try:
        _check_values(vars(record))
        match record:
            case Client():
                return _add_client(store, record)
            case User():
                return _add_user(store, record)
            case Consent():
                return _add_consent(store, record)
            case Scope():
                return _add_scope(store, record)
    except TemporarilyUnavailable:
        raise
    except (OAuthError, ValueError, TypeError) as error:
        return Outcome(problem=getattr(error, "description", "") or str(error))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ValidationException":
            raise
        return Outcome(problem=f"DynamoDB cannot hold it: {error.response['Error'].get('Message', '')}")


def _check_values(value: Any, level: int = 0) -> None:
    """Raises ValueError for what DynamoDB would not hold, or not give back."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError("a text in it is no Unicode text") from error
        case int() if abs(value) >= 10**MOST_DIGITS:
            raise ValueError(f"a number in it has more than {MOST_DIGITS} digits")
        case Mapping() | tuple() | frozenset():
            if level > MOST_LEVELS:
                raise ValueError(f"it holds something in more than {MOST_LEVELS} levels")
            members: Iterable[Any] = [*value, *value.values()] if isinstance(value, Mapping) else value
            for member in members:
                _check_values(member, level + 1)


def _add_client(store: Store, client: Client) -> Outcome:
    check_client(client, signing.algorithms(store.settings))
    if store.users.get(client.client_id):
        raise ValueError("its client_id is the sub of a person")  # RFC 9700 section 4.15
    if store.clients.insert(client):
        return Outcome(added=True)
    known = store.clients.get(client.client_id)
    if known and replace(known, secret_hashes=client.secret_hashes) == client:
        return Outcome(there=known)
    return Outcome(problem=f"another client {client.client_id} is registered, and was left as it is")


def _add_user(store: Store, user: User) -> Outcome:
    check_username(user.username)
    if not _SUB.fullmatch(user.sub):
        raise ValueError("its sub is not 1 to 255 printable ASCII characters")
    if user.password_hash and not passwords.is_hash(user.password_hash):
        raise ValueError("its password_hash is of no known kind")
    if len(json.dumps(user.claims)) > MOST_BYTES:
        raise ValueError("its claims are too large")
    if store.clients.get(user.sub):
        raise ValueError("its sub is the client_id of a client")
    identifier = Identifier(username_identifier(user.username), user.sub)
    refused = store.transact(store.identifiers.inserting(identifier), store.users.inserting(user))
    if not refused:
        return Outcome(added=True)
    name, person = (refusal.record if isinstance(refusal, Refused) else None for refusal in refused)
    if name is not None and name.sub != user.sub:
        return Outcome(problem=f"the username {user.username} is taken by another person")
    if name is None or person is None:
        return Outcome(problem=f"the sub {user.sub} belongs to a person of another name")
    if _description(person) == _description(user):
        return Outcome(there=person)
    return Outcome(problem=f"{user.username} is there with other data, and was left as they are")


def _description(user: User) -> tuple[object, ...]:
    """What makes a record describe the same person in the same state; a password may have changed since."""
    return user.username, user.claims, user.admin, user.disabled_at is None


def _add_consent(store: Store, consent: Consent) -> Outcome:
    if not possible_key((consent.sub, consent.client_id)):
        raise ValueError("its sub or client_id is not acceptable")
    refused = store.transact(
        store.users.checking((consent.sub,)),
        store.clients.checking((consent.client_id,)),
        store.consents.inserting(consent),
    )
    if not refused:
        return Outcome(added=True)
    if refused[0] is not None or refused[1] is not None:
        return Outcome(problem=f"its {'person' if refused[0] else 'client'} is not there")
    known = refused[2].record if refused[2] else None
    if known and known.scope == consent.scope:
        return Outcome(there=known)
    return Outcome(problem=f"another consent of {consent.sub} to {consent.client_id} is there, and was left as it is")


def _add_scope(store: Store, scope: Scope) -> Outcome:
    check_scope(scope)
    if store.scopes.insert(scope):
        return Outcome(added=True)
    known = store.scopes.get(scope.scope)
    if known == scope:
        return Outcome(there=known)
    return Outcome(problem=f"the scope {scope.scope} is described in other words, and was left as it is")
