"""The tables of the server, and what concerns several at once: reading in one call, and transactions."""

import time
from collections.abc import Callable
from typing import Any

from chalicelib.dynamodb import TRIES, DynamoDB, possible_key
from chalicelib.errors import TemporarilyUnavailable
from chalicelib.models import (
    Attempts,
    AuthorizationRequest,
    Client,
    Consent,
    Delivery,
    Event,
    Grant,
    Identifier,
    Scope,
    SealedKeyRing,
    Session,
    User,
)
from chalicelib.settings import Settings
from chalicelib.table import R, Refused, Step, Table

AMENDMENTS = 30


class Store:
    """All tables. `now` gives the time in whole seconds."""

    def __init__(self, settings: Settings, now: Callable[[], int] = lambda: int(time.time())):
        self.settings = settings
        self.now = now
        self.dynamodb = DynamoDB(settings)
        self.clients = self._table("clients", Client, "client_id")
        self.users = self._table("users", User, "sub")
        self.identifiers = self._table("identifiers", Identifier, "identifier")
        self.consents = self._table("consents", Consent, "sub", "client_id")
        self.grants = self._table("grants", Grant, "grant_id")
        self.requests = self._table("requests", AuthorizationRequest, "request_id")
        self.sessions = self._table("sessions", Session, "session_id")
        self.scopes = self._table("scopes", Scope, "scope")
        self.attempts = self._table("attempts", Attempts, "attempts_id")
        self.events = self._table("events", Event, "sub", "event_id")
        self.deliveries = self._table("deliveries", Delivery, "delivery_id")
        self.keys = self._table("keys", SealedKeyRing, "ring")
        self.tables = tuple(table for table in vars(self).values() if isinstance(table, Table))

    def _table(self, kind: str, record: type[R], *key: str) -> Table[R]:
        return Table(self.dynamodb, self.now, f"signet-{self.settings.stage}-{kind}", record, *key)

    def read(self, *wanted: tuple[Table[Any], tuple[str, ...]]) -> tuple[Any, ...]:
        """Several records in one consistent call, in the order asked for; None for one that is absent or expired."""
        possible = [(table, key) for table, key in wanted if possible_key(key)]
        found: dict[tuple[str, tuple[str, ...]], Any] = {}
        if len(possible) == 1:
            table, key = possible[0]
            found[table.name, key] = table.get(*key)
        elif possible:
            pending: dict[str, Any] = {}
            for table, key in dict.fromkeys(possible):
                pending.setdefault(table.name, {"Keys": [], "ConsistentRead": True})["Keys"].append(table.pack_key(key))
            tables = {table.name: table for table, _ in possible}
            for _ in range(TRIES):
                answer = self.dynamodb.call("batch_get_item", RequestItems=pending)
                for name, items in answer["Responses"].items():
                    for item in items:
                        key = tuple(item[part]["S"] for part in tables[name].key)
                        found[name, key] = tables[name].live(item)
                pending = answer.get("UnprocessedKeys") or {}
                if not pending:
                    break
            else:
                raise TemporarilyUnavailable(detail="dynamodb batch_get_item: keys left unprocessed")
        return tuple(found.get((table.name, key)) for table, key in wanted)

    def amend(
        self,
        table: Table[R],
        record: R,
        change: Callable[[R], R],
        also: Callable[[R, R], list[Step[Any]]] = lambda _before, _after: [],
    ) -> R | Refused[Any]:
        """Change a record by a function of it, in one write, tried again when somebody else has changed it meanwhile.

        Nothing that others do at the same time is lost. `also` gives further steps of the same transaction for the
        record before and after. Returns the new record; Refused when it is gone, or the first of these steps that was
        refused.
        """
        for _ in range(AMENDMENTS):
            wanted = change(record)
            if wanted == record:
                return record
            refused = self.transact(table.rewriting(record, wanted), *also(record, wanted))
            if refused is None:
                return wanted
            mine = refused[0]
            if mine is None or mine.record is None:
                return next(one for one in refused if one)
            record = mine.record
        raise TemporarilyUnavailable(detail=f"{table.name}: changed by others each time")

    def transact(self, *steps: Step[Any]) -> tuple[Refused[Any] | None, ...] | None:
        """All steps or none, in one call.

        None when they are done; else, per step, the Refused that stopped it, or None for a step that was fine.
        """
        items = [
            {
                step.verb: {
                    "TableName": step.table.name,
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    **step.parameters,
                }
            }
            for step in steps
        ]
        try:
            self.dynamodb.call("transact_write_items", TransactItems=items)
        except self.dynamodb.client.exceptions.TransactionCanceledException as cancelled:
            reasons = cancelled.response["CancellationReasons"]
            refusals: list[Refused[Any] | None] = []
            for step, reason in zip(steps, reasons, strict=True):
                if reason.get("Code") != "ConditionalCheckFailed":
                    refusals.append(None)
                    continue
                refusal = step.table.refusal(step, reason.get("Item"))
                if not isinstance(refusal, Refused):
                    return None  # the whole transaction is ours already: its first answer was lost
                refusals.append(refusal)
            if not any(refusals):
                raise
            return tuple(refusals)
        return None
