"""The tables of the server, reads of several records in one call, and transactions."""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from chalicelib.aws.client import Account, AwsError
from chalicelib.aws.messages import NotConfigured
from chalicelib.protocol.authorization_type import AuthorizationType, is_type_key
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import (
    BLOCKED_HOSTS,
    BlockedHosts,
    ClientDocument,
    is_allowed,
    is_document_url,
    is_on_host,
)
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.resource_uris import normalize, spellings
from chalicelib.settings import Settings, aws_environment
from chalicelib.storage.dynamodb import TRIES, DynamoDB, is_possible_key
from chalicelib.storage.table import Lookup, R, Refusals, Refused, Table, Write
from chalicelib.storage.tables import Tables

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_AMEND_TRIES = 30
MAX_BATCH = 100  # records in one BatchGetItem
_REFUSED = "ConditionalCheckFailed"
A = TypeVar("A", bound="DataclassInstance")
B = TypeVar("B", bound="DataclassInstance")


class Store(Tables):
    """All tables, and reads and transactions over several of them.

    `now` returns seconds since 1970. `account`: by default, that of the environment.
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], int] = lambda: int(time.time()),
        account: Account | None = None,
    ):
        self.settings = settings
        self.account = account or Account(settings.region, aws_environment)
        super().__init__(DynamoDB(settings, self.account), now, settings.stage)

    def registered_names(self) -> "RegisteredNames | None":
        """Return what the table of resources has, by one scan; None when it cannot be read, for whatever reason."""
        try:
            records = list(self.resources.scan())
        except (TemporarilyUnavailable, AwsError, NotConfigured):
            return None
        uris = sorted(record.uri for record in records if not is_type_key(record.resource_id))
        types = sorted(record.name for record in records if is_type_key(record.resource_id))
        return RegisteredNames(uris, types)

    def all_resources(self) -> list[Resource]:
        """Return all resources, in the order of their URIs."""
        records = (record for record in self.resources.scan() if not is_type_key(record.resource_id))
        return sorted(records, key=lambda resource: resource.uri)

    def all_authorization_types(self) -> list[AuthorizationType]:
        """Return all types of authorization details, in the order of their names."""
        records = (record for record in self.authorization_types.scan() if is_type_key(record.resource_id))
        return sorted(records, key=lambda type_: type_.name)

    def may_have_document(self, client_id: str) -> bool:
        """Return whether a client_id is the URL of a document that the operator's settings allow."""
        settings = self.settings
        return is_document_url(client_id) and is_allowed(
            client_id, settings.client_documents, settings.client_document_hosts
        )

    @property
    def lookup_of_blocked_hosts(self) -> Lookup[BlockedHosts]:
        """The hosts whose documents are blocked: one record."""
        return self.blocked_hosts.lookup(BLOCKED_HOSTS)

    def lookups_of_client(self, client_id: str) -> list[Lookup[Any]]:
        """Return the records that say who a client is: its own, and its document with the hosts that are blocked."""
        lookups: list[Lookup[Any]] = [self.clients.lookup(client_id)]
        if self.may_have_document(client_id):
            lookups += [self.documents.lookup(client_id), self.lookup_of_blocked_hosts]
        return lookups

    def lookups_of_resource(self, uri: str) -> list[Lookup[Any]]:
        """Return the records that say what is registered with a URI: its own, and the clients whose id it is."""
        return [self.resources.lookup(normalize(uri)), *(self.clients.lookup(each) for each in spellings(uri))]

    def resource_in(self, records: "Records", uri: str) -> Resource | None:
        """Return the resource of a URI that was looked up; None without one. A client with such an id is one too."""
        of_resource, *of_clients = self.lookups_of_resource(uri)
        clients = (client for lookup in of_clients if (client := records.get(lookup)))
        enabled = next((client for client in clients if client.disabled_at is None), None)
        return records.get(of_resource) or (Resource.of_client(enabled) if enabled else None)

    def document_in(self, records: "Records", client_id: str) -> ClientDocument | None:
        """Return the document of a client that was looked up; None without one, or when it is blocked."""
        if not self.may_have_document(client_id) or self.is_blocked(records, client_id):
            return None
        document = records.get(self.documents.lookup(client_id))
        return document if document and document.redirect_uris else None

    def is_blocked(self, records: "Records", client_id: str) -> bool:
        """Return whether the operator has blocked the URL of a document that was looked up, or its host."""
        document, blocked = records.get(self.documents.lookup(client_id)), records.get(self.lookup_of_blocked_hosts)
        of_url = document is not None and document.blocked_at is not None
        return of_url or (blocked is not None and is_on_host(client_id, blocked.hosts))

    def client_in(self, records: "Records", client_id: str) -> Client | None:
        """Return a client that was looked up, also a disabled one. A registered client wins over a document."""
        client = records.get(self.clients.lookup(client_id))
        document = None if client else self.document_in(records, client_id)
        if document is None:
            return client
        return Client.of_document(document, self.settings.open_client_policy)

    @overload
    def read(self, first: Lookup[A], second: Lookup[B], /) -> tuple[A | None, B | None]: ...

    @overload
    def read(self, *lookups: Lookup[R]) -> tuple[R | None, ...]: ...

    def read(self, *lookups: Lookup[Any]) -> tuple[Any, ...]:
        """Read several records consistently, in one call; None for each that is absent or expired.

        Raises TemporarilyUnavailable.
        """
        records = self.read_all(lookups)
        return tuple(records.get(lookup) for lookup in lookups)

    def read_all(self, lookups: Iterable[Lookup[Any]]) -> "Records":
        """Read records of any tables, consistently, in one call for each MAX_BATCH. Raises TemporarilyUnavailable."""
        possible = [lookup for lookup in dict.fromkeys(lookups) if is_possible_key(lookup.key)]
        if len(possible) == 1:
            (lookup,) = possible
            return Records({lookup: lookup.table.get(*lookup.key)})
        records: dict[Lookup[Any], Any] = {}
        for start in range(0, len(possible), MAX_BATCH):
            records |= self._read_batch(possible[start : start + MAX_BATCH])
        return Records(records)

    def _read_batch(self, lookups: list[Lookup[Any]]) -> dict[Lookup[Any], Any]:
        pending: dict[str, Any] = {}
        for table, key in lookups:
            pending.setdefault(table.name, {"Keys": [], "ConsistentRead": True})["Keys"].append(table.pack_key(key))
        # A table may have several kinds of records.
        kinds = {(lookup.table.name, lookup.key): lookup for lookup in lookups}
        parts = {table.name: table.key for table, _ in lookups}
        records: dict[Lookup[Any], Any] = {}
        for _ in range(TRIES):
            answer = self.dynamodb.call("BatchGetItem", RequestItems=pending)
            for name, items in answer["Responses"].items():
                for item in items:
                    lookup = kinds[name, tuple(item[part]["S"] for part in parts[name])]
                    records[lookup] = lookup.table.live(item)
            pending = answer.get("UnprocessedKeys") or {}
            if not pending:
                return records
        raise TemporarilyUnavailable(detail="dynamodb BatchGetItem: keys left unprocessed")

    def amend(
        self,
        table: Table[R],
        record: R,
        change: Callable[[R], R],
        also: Callable[[R, R], list[Write[Any]]] = lambda _before, _after: [],
    ) -> R | Refused[Any]:
        """Change a record by a function of it, in one write; return the new record.

        When another request has changed the record since it was read, the function is called again with the current
        one, so no change is lost. `also` returns further writes of the transaction, for the record before and after.
        Returns Refused when the record no longer exists, or the first of these writes that was refused.
        """
        for _ in range(MAX_AMEND_TRIES):
            changed = change(record)
            if changed == record:
                return record
            rewriting = table.rewriting(record, changed)
            refused = self.transact(rewriting, *also(record, changed))
            if refused is None:
                return changed
            current = refused.of(rewriting)
            if current is None or current.record is None:
                return refused.first
            record = current.record
        raise TemporarilyUnavailable(detail=f"{table.name}: changed by other requests each time")

    def transact(self, *writes: Write[Any]) -> Refusals | None:
        """Make all writes or none, in one call; return None when they are made, else their refusals.

        A transaction succeeds also when its first answer was lost and its retry is refused. A single write needs no
        transaction, which would cost twice as much. Raises TemporarilyUnavailable.
        """
        if len(writes) == 1 and writes[0].verb in ("Put", "Update"):
            outcome = writes[0].table.write(writes[0])
            return Refusals.of_writes(writes, [outcome]) if isinstance(outcome, Refused) else None
        items = [
            {
                write.verb: {
                    "TableName": write.table.name,
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    **write.parameters,
                }
            }
            for write in writes
        ]
        try:
            # The token lets DynamoDB recognize a transaction that is sent again.
            self.dynamodb.call("TransactWriteItems", TransactItems=items, ClientRequestToken=secrets.token_hex(16))
        except AwsError.named("TransactionCanceledException") as cancelled:
            refused = [
                write.table.refusal(write, reason.get("Item")) if reason.get("Code") == _REFUSED else None
                for write, reason in zip(writes, cancelled.answer["CancellationReasons"], strict=True)
            ]
            if not any(refused):
                raise
            # Otherwise a record has its write's own attempt: the transaction was made, and its first answer was lost.
            if all(outcome is None or isinstance(outcome, Refused) for outcome in refused):
                return Refusals.of_writes(writes, refused)
        for write in writes:
            write.succeed()
        return None


class RegisteredNames(NamedTuple):
    """The URIs of all resources, and the names of all types of authorization details, both sorted."""

    uris: list[str]
    types: list[str]


class Records:
    """The records that were read in one call, by their lookups."""

    def __init__(self, records: Mapping[Lookup[Any], Any]):
        self._records = records

    def get(self, lookup: Lookup[R]) -> R | None:
        """Return a record that was looked up; None when it is absent or expired."""
        record: R | None = self._records.get(lookup)
        return record

    def with_record(self, lookup: Lookup[R], record: R | None) -> "Records":
        """Return these records with another one, which was read before."""
        return Records({**self._records, lookup: record})
