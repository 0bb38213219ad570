"""Insert imported records: completely or not at all, and without changing existing records."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from chalicelib.authentication import passwords
from chalicelib.aws.client import AwsError
from chalicelib.clients.registration import check_new_id, checked
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import OAuthError, TemporarilyUnavailable
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Consent, User
from chalicelib.storage.dynamodb import is_possible_key
from chalicelib.storage.store import Store
from infra.operator.transfer.json_lines import Record
from infra.operator.transfer.outcome import Outcome
from infra.operator.transfer.shared_records import insert_shared
from infra.operator.transfer.user_records import insert_user

# DynamoDB allows 400 KB per item, 32 levels, and numbers of 38 digits.
MOST_LEVELS = 16
MOST_DIGITS = 38


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
                return insert_user(store, record)
            case Consent():
                return _insert_consent(store, record)
            case _:
                return insert_shared(store, record)
    except TemporarilyUnavailable:
        raise
    except (OAuthError, ValueError, TypeError) as error:
        return Outcome(problem=getattr(error, "description", "") or str(error))
    except AwsError.named("ValidationException") as error:
        return Outcome(problem=f"DynamoDB cannot store it: {error.answer.get('message', '')}")


def without_expensive_hash(user: User) -> User:
    """Return a user who needs a new password, if the hash is more expensive than allowed."""
    text = user.password_hash
    if not passwords.is_supported_hash(text) or passwords.is_affordable_hash(text):
        return user
    return replace(user, password_hash="", password_change_required=True)


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
    client = checked(store, client)
    check_new_id(store, client.client_id)
    client = replace(client, registration_id=new_id())  # grants to an earlier client with this id stay ended
    if store.clients.insert(client):
        return Outcome(added=True)
    existing = store.clients.get(client.client_id)
    if existing and _comparable_client(existing) == _comparable_client(client):
        return Outcome(existing=existing)
    return Outcome(problem=f"a different client {client.client_id} exists and was not changed")


def _comparable_client(client: Client) -> Client:
    """Return a client without the values that may differ: credentials and its expiry may have changed since."""
    return replace(
        client,
        secret_hashes=(),
        registration_id=None,
        grants_generation=0,
        registration_token_hash=None,
        previous_registration_token_hash=None,
        registration_token_replaced_at=None,
        expires_at=None,
    )


def _insert_consent(store: Store, consent: Consent) -> Outcome:
    if not is_possible_key((consent.sub, consent.client_id)):
        raise ValueError("its sub or client_id is invalid")
    of_user = store.users.lookup(consent.sub)
    records = store.read_all([of_user, *store.lookups_of_client(consent.client_id)])
    user, client = records.get(of_user), store.client_in(records, consent.client_id)
    if user is None:
        return Outcome(problem="its user does not exist")
    if client is None:
        return Outcome(problem="its client does not exist")
    consent = replace(
        consent,
        consents_generation=user.consents_generation,
        registration_id=client.registration_id,
        client_generation=client.grants_generation,
    )
    inserting = store.consents.inserting(consent)
    refused = store.transact(
        inserting,
        store.users.checking((user.sub,), store.users.unchanged(user, "consents_generation")),
        store.documents.checking((client.client_id,))
        if client.document
        else store.clients.checking(
            (client.client_id,), store.clients.unchanged(client, "registration_id", "grants_generation")
        ),
    )
    if not refused:
        return Outcome(added=True)
    refusal, name = refused.of(inserting), f"consent of {consent.sub} to {consent.client_id}"
    existing = refusal.record if refusal else None
    if existing is None:
        return Outcome(problem=f"the {name} was not added, because its user or client was changed at the same time")
    if existing.valid_for(user, client).empty:
        return Outcome(problem=f"the {name} was removed since, and was not added again")
    allowed = (consent.scope, consent.claims, consent.resource_scope)
    if (existing.scope, existing.claims, existing.resource_scope) == allowed:
        return Outcome(existing=existing)
    return Outcome(problem=f"a different {name} exists and was not changed")
